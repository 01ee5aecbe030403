"""What was driven outlives the program: journals that were cut short are read as far as they are whole, and saved."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.viewer.teleop_toy import actions, toy_session
from vap_sim.data.episode import Episode
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.viewer.teleop_journal import (
    LINES,
    PICTURES,
    EpisodeJournal,
    read_journal,
    save_episode,
    unsaved_journals,
)
from vap_sim.viewer.teleop_session import DrivingSession


def read_one(path: Path) -> Episode:
    """The only episode of a dataset."""
    from vap_sim.data.lerobot import open_lerobot

    dataset = open_lerobot(path)
    (name,) = dataset.names
    return dataset.read(name)


def _driven(folder: Path, steps: int = 4) -> tuple[DrivingSession, EpisodeJournal]:
    journal = EpisodeJournal(folder)
    session, _ = toy_session(journal=journal)
    session.begin(7)
    for action in actions(session, steps):
        session.step(action)
    return session, journal


def test_every_moment_is_on_disk_before_anything_else_happens(tmp_path: Path) -> None:
    session, journal = _driven(tmp_path)
    assert journal.path is not None
    logged = read_journal(journal.path)  # the files are still open
    assert len(logged.moments) == 5 and logged.unsaved
    session.rewind(2)
    session.step(session.present.asked)
    session.switch("other")
    logged = read_journal(journal.path)
    assert [one["step"] for one in logged.way_to(5)] == [0, 1, 2, 3] and logged.way_to(5)[2]["number"] == 2
    assert logged.way_to(logged.last)[-1]["world"] == "other" and logged.way_to(logged.last)[0]["parent"] is None
    assert [unsaved.path for unsaved in unsaved_journals(tmp_path)] == [journal.path]
    session.begin(8)
    assert journal.path.name == "episode_0002" and len(unsaved_journals(tmp_path)) == 1, (
        "nobody drove yet in the second"
    )
    journal.close()


def test_an_episode_is_saved_as_a_lerobot_dataset_with_what_was_seen_and_asked(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra data)")

    session, journal = _driven(tmp_path / "journal")
    assert journal.path is not None
    out = save_episode(read_journal(journal.path), session.present.number, session.world.model, tmp_path / "set")
    episode = read_one(out)
    line = session.line
    assert (episode.length, episode.frame_rate, episode.instruction) == (5, 5, "go about")
    assert set(episode.views) == {"image", "prompt"} and episode.robot == "panda_robotiq"
    assert episode.joints == pytest.approx(np.stack([one.seen.joints[:7] for one in line]), abs=1e-5)
    assert episode.actions[:-1] == pytest.approx(np.stack([one.action for one in line[1:]]), abs=1e-5)
    assert episode.actions[-1] == pytest.approx(episode.actions[-2]) and episode.success is False
    frame = np.stack(list(episode.view("image").frames()))[2]
    assert np.abs(frame.astype(int) - line[2].seen.pictures["image"]).mean() < 4
    journal.saved(session.present.number, out)
    assert not unsaved_journals(tmp_path / "journal")
    session.step(session.present.asked)
    assert len(unsaved_journals(tmp_path / "journal")) == 1, "what was driven after saving is not saved"
    with pytest.raises(InvalidInput, match="where nothing is"):
        save_episode(read_journal(journal.path), session.present.number, session.world.model, out)
    with pytest.raises(InvalidInput, match="no step"):
        save_episode(read_journal(journal.path), 0, session.world.model, tmp_path / "none")


def test_a_journal_cut_anywhere_gives_what_was_whole(tmp_path: Path) -> None:
    _, journal = _driven(tmp_path)
    assert journal.path is not None
    journal.close()
    file = journal.path / LINES
    whole = file.read_bytes()
    ends = [place for place, sign in enumerate(whole) if sign == 10]
    for length in (ends[1] + 1, ends[2] + 1, ends[2] + 30, ends[3], len(whole) - 1):
        file.write_bytes(whole[:length])
        assert len(read_journal(journal.path).moments) == whole[:length].count(b"\n") - 1
    for damage in (
        b"",
        whole[: ends[0] - 3],
        whole[: ends[0] + 1],
        b"{}\n{}\n",
        whole.replace(b'"pictures"', b'"pixels"'),
    ):
        file.write_bytes(damage)
        with pytest.raises(BadFile, match=LINES):
            read_journal(journal.path)
    assert unsaved_journals(tmp_path) == ()
    file.write_bytes(whole)
    os.truncate(journal.path / PICTURES, 100)
    with pytest.raises(BadFile, match="ends before the pictures"):
        read_journal(journal.path)
    with pytest.raises(BadFile, match="cannot be read"):
        read_journal(tmp_path / "nowhere")


_KILLED = """
import sys
from pathlib import Path
from tests.viewer.teleop_toy import actions, toy_session
from vap_sim.viewer.teleop_journal import EpisodeJournal
session, _ = toy_session(journal=EpisodeJournal(Path(sys.argv[1]) / "journal"))
session.begin(0)
for number, action in enumerate(actions(session, 1000)):
    session.step(action)
    print(number + 1, flush=True)
"""


def test_a_killed_program_loses_no_step_and_recover_saves_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra data)")
    from vap_sim.cli import main

    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", _KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as driven:
        assert driven.stdout is not None
        told = next(int(line) for line in driven.stdout if int(line) == 12)
        driven.send_signal(signal.SIGKILL)
    (logged,) = unsaved_journals(tmp_path / "journal")
    assert len(logged.moments) - 1 >= told
    assert main(["teleop", "--recover", "--out", str(tmp_path), "--json"]) == 0
    (written,) = json.loads(capsys.readouterr().out)["written"]
    assert read_one(Path(written)).length == len(logged.moments)
    assert main(["teleop", "--recover", "--out", str(tmp_path)]) == 0
    assert "nothing to recover" in capsys.readouterr().out
