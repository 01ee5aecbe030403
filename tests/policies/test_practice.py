"""Practice keeps what succeeded and nothing else, goes on where it was; what is cloned from it practises in turn."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vap_sim  # noqa: F401 - registers the environments
from vap_sim.cli import main
from vap_sim.envs.start import Start, load_start
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.metrics.trials import Trial
from vap_sim.policies import practice as practice_module
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.demonstrations import joined
from vap_sim.policies.episodes import Job, play
from vap_sim.policies.evaluate import Arena
from vap_sim.policies.improvement import NothingLearned, improve
from vap_sim.policies.judge import Evidence, Verdict
from vap_sim.policies.policy import brief
from vap_sim.policies.practice import Practice, practise, succeeded
from vap_sim.policies.registry import load_policy
from vap_sim.training.loop import LoopSettings

KINEMATIC = Arena("VAPWorld-DROID-v0", {"world": "kinematic"})
NAMES = ("reach_00", "reach_01", "reach_02", "reach_03")
SMALL = {"chunk": 2, "width": 4, "points": 4, "hidden": 16}


class Picky:
    """Says yes to the episodes of the instructions it likes."""

    def __init__(self, *liked: str) -> None:
        self.liked = liked

    def judge(self, evidence: Evidence) -> tuple[Verdict, ...]:
        return tuple(Verdict(text in self.liked) for text in evidence.instructions)


@pytest.fixture(scope="module")
def starts() -> tuple[Start, ...]:
    return tuple(load_start(name) for name in NAMES)


def reaching(begin: tuple[Start, ...], liked: tuple[int, ...] = (1, 3), **changes: Any) -> Practice:
    made: dict[str, Any] = {
        "arena": KINEMATIC,
        "task": "reach",
        "teachers": ("scripted", "random"),
        "seeds": range(4, 8),
        "starts": begin,
        "judge": Picky(*(begin[row].instruction for row in liked)),
        "every": 1,
        "steps": 4,
        "rows": 2,
    }
    return Practice(**{**made, **changes})


def test_played_actions_lead_where_they_led(starts: tuple[Start, ...], tmp_path: Path) -> None:
    job = Job(
        env_id=KINEMATIC.env_id,
        policy="random",
        task="reach",
        seeds=(5, 6),
        starts=starts[:2],
        steps=3,
        options=KINEMATIC.options,
    )
    played = play(job)
    np.save(tmp_path / "tape.npy", np.stack([one.actions for one in played]))
    again = play(replace(job, policy=f"replay@{tmp_path}/tape.npy"))
    for one, other, start in zip(played, again, starts, strict=False):
        assert one.actions.shape == (3, 8) and one.states.shape == (4, 8) and one.instruction == start.instruction
        assert np.array_equal(one.frames, other.frames) and np.array_equal(one.states, other.states)
        assert one.states[0, :7] == pytest.approx(start.joints[:7].numpy(), abs=1e-6)


def test_only_successes_are_kept_with_what_was_done_in_them(starts: tuple[Start, ...], tmp_path: Path) -> None:
    harvest = practise(reaching(starts), tmp_path, progress=False)
    assert [(trial.policy, trial.seed) for trial in harvest.trials] == [
        ("scripted", 4), ("scripted", 5), ("random", 6), ("random", 7)
    ]  # fmt: skip
    kept = harvest.kept
    assert kept is not None and harvest.successes == 2
    assert kept.instructions == (starts[1].instruction, starts[3].instruction)
    # Two times yes end an episode: two steps of each are there to learn from.
    assert kept.episode.tolist() == [0, 0, 1, 1] and kept.image.shape == (4, 64, 64, 3)
    random = load_policy("random")
    carry = random.reset(1, 7)
    for step in (2, 3):
        action, carry = random.act({}, carry)
        assert np.array_equal(kept.actions[step], action[0])
    assert np.array_equal(kept.state[0, :7], starts[1].joints[:7].numpy())


def test_practice_goes_on_where_it_was(
    starts: tuple[Start, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    practice, played = reaching(starts), list[Job]()
    whole = practise(practice, tmp_path, progress=False)
    (tmp_path / "00000006.safetensors").unlink()
    monkeypatch.setattr(practice_module, "play", lambda job: played.append(job) or play(job))
    again = practise(practice, tmp_path, progress=False)
    assert [job.seeds for job in played] == [(6, 7)]
    assert [replace(one, seconds=0.0) for one in again.trials] == [replace(one, seconds=0.0) for one in whole.trials]
    assert whole.kept is not None and again.kept is not None
    for name in ("image", "state", "actions", "episode"):
        assert np.array_equal(getattr(whole.kept, name), getattr(again.kept, name))
    for changes, words in (
        ({"teachers": ("scripted+noise=0.1", "random")}, "teacher"),
        ({"steps": 5}, "steps"),
        ({"about": {"judge": "another"}}, "about"),
        ({"size": 96}, "size"),
        ({"starts": starts[::-1]}, "starts"),
    ):
        with pytest.raises(InvalidInput, match=f"practice in .*'{words}'.*name another folder"):
            practise(replace(practice, **changes), tmp_path, progress=False)
    (tmp_path / "00000006.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadFile, match=r"00000006\.safetensors"):
        practise(practice, tmp_path, progress=False)
    job = (practice, practice.blocks[0], tmp_path / "x")
    assert pickle.loads(pickle.dumps(job))[1] == practice.blocks[0], "blocks go to other processes"


def test_clones_practise_in_their_turn(starts: tuple[Start, ...], tmp_path: Path) -> None:
    """The second round is played by the first one's policy, and learns from both rounds."""
    told, out = list[Any](), tmp_path / "mine+1.safetensors"
    settings = LoopSettings(tmp_path / "run", 3, warmup=1, cooldown=1)
    practice, context = reaching(starts), PolicyContext(task="reach")
    rounds = improve(practice, context, out, settings, rounds=2, explore="noise=0.05", after=told.append, **SMALL)
    assert list(rounds) == told and [one.policy for one in rounds] == [
        tmp_path / "run" / "round_0" / "policy.safetensors", out,
    ]  # fmt: skip
    assert [(one.episodes, one.successes, one.steps) for one in rounds] == [(4, 2, 4), (4, 2, 8)]
    second = practise(
        replace(practice, seeds=range(8, 12), teachers=(f"bc@{rounds[0].policy}+noise=0.05",)),
        tmp_path / "run" / "round_1" / "episodes",
        progress=False,
    )
    assert {trial.seed for trial in second.trials} == {8, 9, 10, 11}
    policy = brief(load_policy(f"bc@{tmp_path}/mine%2B1.safetensors", context), {"instruction": starts[1].instruction})
    assert policy.reset(1, 0)["chunk"].shape == (1, 2, 8)
    # What was shown before is learned from too, and without any success there must be something.
    strict = reaching(starts, liked=())
    shown = second.kept
    assert shown is not None
    (only,) = improve(
        strict, context, out, replace(settings, folder=tmp_path / "shown"), data=joined([shown, shown]), **SMALL
    )
    assert (only.successes, only.steps) == (0, 8)
    with pytest.raises(NothingLearned, match="none of 4 episodes of scripted, random in 'VAPWorld-DROID-v0' succeeded"):
        improve(strict, context, out, replace(settings, folder=tmp_path / "none"), **SMALL)


def test_truth_decides_where_it_is_known() -> None:
    base = {"policy": "idle", "task": "reach", "seed": 0, "env_id": "x", "steps": 3, "reward": 0.0, "seconds": 1.0}
    assert succeeded(Trial(**base, end="time limit", success=True, verdict="no"))
    assert not succeeded(Trial(**base, end="done", success=False, verdict="yes"))
    assert succeeded(Trial(**base, end="done", verdict="yes"))
    # One yes at the very end is not as many in a row as were asked for.
    assert not succeeded(Trial(**base, end="time limit", verdict="yes"))
    with pytest.raises(InvalidInput, match="neither truth nor verdict"):
        succeeded(Trial(**base, end="done"))


def test_misuse_is_named(starts: tuple[Start, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for changes, words in (
        ({"teachers": ()}, "teachers"),
        ({"seeds": range(0)}, "seeds to practise on"),
        ({"seeds": range(0, 4, 2)}, "seeds to practise on"),
        ({"rows": 0}, "rows of a practice"),
        ({"reference": KINEMATIC}, "reference and starts"),
        ({"starts": ()}, "practice with a judge: given neither"),
    ):
        with pytest.raises(InvalidInput, match=words):
            reaching(starts, **changes)
    with pytest.raises(UnknownName, match="scripted"):
        reaching(starts, teachers=("scriptd",))
    with pytest.raises(InvalidInput, match="workers"):
        practise(reaching(starts), tmp_path, workers=0)
    with pytest.raises(InvalidInput, match="rounds of improvement"):
        improve(reaching(starts), PolicyContext(), tmp_path / "p", LoopSettings(tmp_path, 1), rounds=0)
    for arguments, words in (
        (["--episodes", "0"], "--episodes"),
        (["--seed", "999999", "--episodes", "2"], "seeds below 1,000,000"),
        (["--judge", "lerned"], "Did you mean 'learned'?"),
    ):
        assert main(["improve", "--task", "reach", "--out", str(tmp_path / "p"), *arguments]) == 1
        assert words in capsys.readouterr().err


def test_the_command_practises_and_clones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the twin, whose own truth says what succeeded: the expert, and not whoever goes for something else."""
    pytest.importorskip("pybullet", reason="the twin needs pybullet (extra twin)")
    out = tmp_path / "reach.safetensors"
    arguments = ["improve", "--task", "reach", "--out", str(out), "--env", "VAPTwin-DROID-v0", "--reference", "None"]
    arguments += ["--judge", "none", "--teachers", "scripted", "scripted+freeze=1", "--episodes", "2", "--rows", "1"]
    assert main([*arguments, "--steps", "10", "--updates", "2", "--threads", "1"]) == 0
    said = capsys.readouterr().out
    assert "round 1: 1 of 2 episodes succeeded" in said and f"written: {out}" in said
    assert load_policy(f"bc@{out}", PolicyContext(task="reach")) is not None
