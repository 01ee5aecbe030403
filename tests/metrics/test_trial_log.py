"""Trials on disk: what was appended is there after a kill, whatever byte the kill fell on, and nothing foreign is."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from vap_sim.errors import BadFile, InvalidInput
from vap_sim.metrics.trial_log import FORMAT, TrialLog, load_trials
from vap_sim.metrics.trials import Trial, TrialTable

TRIAL = Trial(policy="Ärm", task="push", seed=0, env_id="e", steps=4, reward=0.1, end="done", seconds=1, verdict="yes")
TRIALS = tuple(replace(TRIAL, seed=seed) for seed in range(4))
ABOUT = {"weights": "ab12", "steps": 50}


def write(path, trials=TRIALS, about=ABOUT) -> None:
    with TrialLog(path, about) as log:
        for trial in trials:
            log.append(trial)


def test_what_was_appended_is_read_again_and_continued(tmp_path) -> None:
    path = tmp_path / "new" / "trials.jsonl"
    write(path, TRIALS[:2])
    with TrialLog(path, ABOUT) as log:
        assert len(log) == 2 and TRIALS[1].key in log and TRIALS[2].key not in log
        log.append(TRIALS[2])
        assert log.table == load_trials(path)[0]
    table, torn = load_trials(path)
    assert table == TrialTable(TRIALS[:3], ABOUT, path.parent)
    assert torn == ""


def test_a_kill_amid_a_line_loses_the_last_trial_at_most(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)  # what reaches the disk is written here by hand
    path = tmp_path / "trials.jsonl"
    write(path, TRIALS[:2])
    content = path.read_bytes()
    ends = [size for size in range(len(content)) if size % 7 == 0 or b"\n" in content[size - 1 : size + 2]]
    for size in ends:
        path.write_bytes(content[:size])
        done = max(0, content[:size].count(b"\n") - 1)
        torn = content[content[:size].rfind(b"\n") + 1 : size]
        with TrialLog(path, ABOUT) as log:
            assert log.table.trials == TRIALS[:done]
            assert log.torn == torn.decode("utf-8", "replace")
            for trial in TRIALS[done:2]:
                log.append(trial)
        assert path.read_bytes() == content


def test_reading_alone_leaves_the_file_and_tells_what_is_torn(tmp_path) -> None:
    path = tmp_path / "trials.jsonl"
    write(path)
    content = path.read_bytes()[:-5]
    path.write_bytes(content)
    table, torn = load_trials(path)
    assert table.trials == TRIALS[:3]
    assert torn.startswith('{"policy": "Ärm", "task": "push", "seed": 3')
    assert path.read_bytes() == content


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_killed_process_leaves_its_trials_and_no_lock(tmp_path) -> None:
    path = tmp_path / "trials.jsonl"
    child = os.fork()
    if not child:
        try:
            TrialLog(path, ABOUT).append(TRIAL)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with TrialLog(path, ABOUT) as log:
        assert log.table.trials == (TRIAL,)


def test_a_trial_is_synced_before_append_returns(tmp_path, monkeypatch) -> None:
    path, seen = tmp_path / "trials.jsonl", []
    monkeypatch.setattr(os, "fsync", lambda file: seen.append(path.read_bytes().count(b"\n")))
    write(path, TRIALS[:2])
    assert seen[-3:] == [1, 2, 3]


def test_each_trial_once_by_one_writer_and_of_one_world(tmp_path) -> None:
    path = tmp_path / "trials.jsonl"
    with TrialLog(path, ABOUT) as log:
        log.append(TRIAL)
        with pytest.raises(InvalidInput, match="a second time"):
            log.append(replace(TRIAL, verdict="no"))
        with pytest.raises(InvalidInput, match="which another process writes"):
            TrialLog(path, ABOUT)
    with pytest.raises(InvalidInput, match="a log that is not closed"):
        log.append(TRIALS[1])
    with pytest.raises(InvalidInput, match="given weights 'cd34', expected 'ab12', which made those"):
        TrialLog(path, {**ABOUT, "weights": "cd34"})
    with pytest.raises(InvalidInput, match="JSON values"):
        TrialLog(path, {"weights": object()})
    assert load_trials(path)[0].trials == (TRIAL,)
    write(path, TRIALS[1:])  # the refusals left no lock


def test_a_disk_that_refuses_leaves_whole_lines(tmp_path, monkeypatch) -> None:
    path, whole = tmp_path / "trials.jsonl", os.write
    with TrialLog(path, ABOUT) as log:
        log.append(TRIAL)

        def full(file: int, content: bytes) -> int:
            if len(content) < 20:
                raise OSError(28, "No space left on device")
            return whole(file, content[: len(content) // 2])

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            log.append(TRIALS[1])
        monkeypatch.undo()
        assert TRIALS[1].key not in log
        log.append(TRIALS[1])
    assert load_trials(path)[0].trials == TRIALS[:2]


HEAD = f'{{"format": "{FORMAT}", "about": {{}}}}\n'
LINE = '{"policy": "p", "task": "t", "seed": 0, "env_id": "e", "steps": 1, "reward": 0, "end": "done", "seconds": 1}\n'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "line 1: not the head of a trial log"),
        ("someone's notes\n", "line 1: no JSON"),
        ('{"format": "other", "about": {}}\n', "line 1: not the head"),
        (f'{{"format": "{FORMAT}"}}\n', "line 1: not the head"),
        (HEAD + LINE + LINE, "line 3: .* a second time"),
        (HEAD + "\n" + LINE, "line 2: no JSON"),
        (HEAD + "[]\n", "line 2: list, expected a JSON object"),
        (HEAD + LINE.replace("1}", "NaN}"), "line 2: no JSON .NaN is no JSON"),
        (HEAD + LINE.replace('"seed": 0', '"seed": "0"'), "line 2: seed of a trial: given '0'"),
        (HEAD + LINE.replace("policy", "polizei"), "line 2: unknown field of a trial 'polizei'"),
        (HEAD + "[" * 100_000 + "\n", "line 2: no JSON"),
        (HEAD + "\ud800\n", "line 2: no JSON"),
    ],
)
def test_damaged_and_foreign_files_name_the_line_and_stay(tmp_path, content, words) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(BadFile, match=words):
        load_trials(path)
    if content:
        with pytest.raises(BadFile, match=words):
            TrialLog(path, {})
    assert path.read_bytes() == content.encode("utf-8", "surrogatepass") or not content


def test_a_foreign_file_without_a_line_end_is_not_taken_for_a_torn_log(tmp_path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("do not delete")
    with pytest.raises(BadFile, match="not the head of a trial log"):
        TrialLog(path, {})
    assert path.read_text() == "do not delete"
    with pytest.raises(BadFile, match="no such trial log"):
        load_trials(tmp_path / "none.jsonl")
