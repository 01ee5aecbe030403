"""Episodes of policies: rows act as alone, judges and truth decide as they should, policies fail by themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest

import vap_sim  # noqa: F401 - registers the environments
from vap_sim.envs.start import Start, load_start
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.policies import episodes
from vap_sim.policies.episodes import Job, play
from vap_sim.policies.judge import CallableJudge, Evidence, Verdict

DREAM = {"world": "kinematic"}
STARTS = ("reach_00", "reach_01", "reach_02")


@pytest.fixture(scope="module")
def starts() -> tuple[Start, ...]:
    return tuple(load_start(name) for name in STARTS)


def job(begin: tuple[Start, ...], **changes: Any) -> Job:
    made = {"env_id": "VAPWorld-DROID-v0", "policy": "scripted", "task": "reach", "seeds": (5, 6, 7), "starts": begin}
    return Job(**{**made, "steps": 4, "options": DREAM, **changes})


def plain(played: list[episodes.Played]) -> list[Any]:
    return [replace(one.trial, seconds=0.0) for one in played]


class After:
    """Says yes from the n-th time that a row is asked on; counts by the number of pictures told apart by joints."""

    def __init__(self, says: list[Verdict]) -> None:
        self.says, self.asked = says, 0

    def judge(self, evidence: Evidence) -> tuple[Verdict, ...]:
        self.asked += 1
        return (self.says[min(self.asked, len(self.says)) - 1],) * len(evidence)


YES, NO, SILENT = Verdict(True, 0.9), Verdict(False, 0.1), Verdict(None, None, "too dark")
DOUBT, LESS = Verdict(None, 0.5, "blurred"), Verdict(None, 0.4, "blurred")


def test_rows_of_a_job_act_as_they_do_alone(starts: tuple[Start, ...]) -> None:
    for policy in ("scripted", "scripted+noise=0.05", "random"):
        together = play(job(starts, policy=policy))
        alone = [play(job(starts[row : row + 1], policy=policy, seeds=(5 + row,)))[0] for row in range(3)]
        assert plain(together) == plain(alone)
        for one, other in zip(together, alone, strict=True):
            assert np.array_equal(one.frames, other.frames) and one.frames.shape == (5, 128, 128, 3)


def test_an_episode_begins_at_its_start_and_is_named(starts: tuple[Start, ...]) -> None:
    played = play(job(starts, policy="idle"))
    for one, start, seed in zip(played, starts, (5, 6, 7), strict=True):
        assert np.array_equal(one.frames[0], start.frames[0].numpy())
        trial = one.trial
        assert (trial.policy, trial.task, trial.seed, trial.env_id) == ("idle", "reach", seed, "VAPWorld-DROID-v0")
        assert (trial.steps, trial.end, trial.reward) == (4, "time limit", 0.0)
        assert trial.verdict is None and trial.success is None and trial.agreement_mean is None


@pytest.mark.parametrize(
    ("says", "steps", "end", "verdict"),
    [
        ([YES], 2, "done", "yes"), ([NO], 4, "time limit", "no"), ([SILENT], 4, "time limit", "cannot tell"),
        ([YES, NO, YES, YES], 4, "done", "yes"), ([NO, YES, SILENT, NO], 4, "time limit", "no"),
        ([NO, NO, NO, YES], 4, "time limit", "yes"),
    ],
)  # fmt: skip
def test_yes_twice_in_a_row_ends_an_episode(
    says: list[Verdict], steps: int, end: str, verdict: str, starts: tuple[Start, ...]
) -> None:
    for one in play(job(starts, policy="idle", judge=After(says), consecutive=2)):
        assert (one.trial.steps, one.trial.end, one.trial.verdict) == (steps, end, verdict)
        assert len(one.frames) == steps + 1


def test_the_first_yes_ends_an_episode_unless_more_are_asked_for(starts: tuple[Start, ...]) -> None:
    for one in play(job(starts, policy="idle", judge=After([NO, YES, NO]))):
        assert (one.trial.steps, one.trial.end, one.trial.verdict) == (2, "done", "yes")


@pytest.mark.parametrize(
    ("says", "verdict", "probability"),
    [
        ([NO, DOUBT, NO, NO], "cannot tell", 0.5), ([DOUBT, LESS, NO, NO], "cannot tell", 0.5),
        ([NO, Verdict(False, 0.2), NO, NO], "no", 0.2), ([DOUBT, SILENT, SILENT, NO], "no", 0.1),
    ],
)  # fmt: skip
def test_short_of_a_yes_the_likeliest_moment_counts(
    says: list[Verdict], verdict: str, probability: float, starts: tuple[Start, ...]
) -> None:
    for one in play(job(starts, policy="idle", judge=After(says))):
        assert (one.trial.verdict, one.trial.probability) == (verdict, probability)


def test_a_judge_is_asked_as_often_as_told_and_at_the_end(starts: tuple[Start, ...]) -> None:
    for every, asked in ((1, 4), (2, 2), (3, 2), (9, 1)):
        judge = After([NO])
        play(job(starts, policy="idle", judge=judge, every=every))
        assert judge.asked == asked


def test_what_a_judge_sees_is_what_the_dream_shows(starts: tuple[Start, ...]) -> None:
    seen: list[Evidence] = []

    class Watch(CallableJudge):
        def judge(self, evidence: Evidence) -> tuple[Verdict, ...]:
            seen.append(evidence)
            return (NO,) * len(evidence)

    played = play(job(starts, judge=Watch(lambda *_: None)))
    for step, evidence in enumerate(seen, start=1):
        assert evidence.tasks == ("reach",) * 3 and evidence.instructions == tuple(s.instruction for s in starts)
        for row, one in enumerate(played):
            assert np.array_equal(evidence.first[row], starts[row].frames[0])
            assert np.array_equal(evidence.last[row], one.frames[step - 1 : step + 1])
        assert not np.array_equal(evidence.joints[0], starts[0].joints)


def test_the_trust_meter_is_told_and_stops_what_it_does_not_believe(starts: tuple[Start, ...]) -> None:
    trusted = {"options": {**DREAM, "trust": True}, "policy": "idle"}
    for one in play(job(starts, **trusted)):
        assert one.trial.agreement_mean is not None and one.trial.agreement_min is not None
        assert 0 < one.trial.agreement_min <= one.trial.agreement_mean <= 1
    for one in play(job(starts, **trusted, least_agreement=1.0)):
        assert (one.trial.end, one.trial.steps) == ("untrusted", 1)
        assert "at least 1 is asked" in one.trial.note


def test_a_dream_in_space_is_judged_again_where_things_stood_elsewhere(starts: tuple[Start, ...]) -> None:
    """Here a judge says the same of everything: the dissent is its own chance of being wrong."""
    trusted = {"options": {"trust": True, "views": ("exterior_1",)}, "policy": "idle", "steps": 2}
    for says, chance in ((YES, 0.9), (NO, 0.1), (SILENT, None)):
        for one in play(job(starts, **trusted, judge=After([says]))):
            other = None if chance is None else min(chance, 1 - chance)
            assert one.trial.dissent == (None if other is None else pytest.approx(other))
    (alone, *_) = play(job(starts[:1], **{**trusted, "seeds": (5,)}))
    (kinematic, *_) = play(job(starts, policy="idle", judge=After([YES]), options={**DREAM, "trust": True}))
    assert alone.trial.dissent is None and kinematic.trial.dissent is None


class Fails:
    """Acts, but fails where the episode's seed is 6, from its second step on."""

    def reset(self, num_envs: int, seed: int) -> dict[str, np.ndarray]:
        return {"seed": np.arange(seed, seed + num_envs), "step": np.zeros(num_envs, np.int64)}

    def act(self, obs: Any, carry: Any) -> tuple[np.ndarray, Any]:
        actions = np.zeros((len(carry["step"]), 8), np.float32)
        actions[(carry["seed"] == 6) & (carry["step"] == 1)] = np.nan
        return actions, {**carry, "step": carry["step"] + 1}


def test_a_policy_that_fails_fails_alone(starts: tuple[Start, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes, "load_policy", lambda name, context: Fails())
    first, second, third = play(job(starts, judge=After([NO])))
    assert first.trial.end == third.trial.end == "time limit"
    assert (second.trial.end, second.trial.steps, second.trial.verdict) == ("policy failed", 1, "no")
    assert "nan" in second.trial.note and second.trial.probability is None
    assert len(second.frames) == 2


def test_the_truth_decides_where_it_is_known() -> None:
    """A judge that always says yes does not end an episode of the twin, and one that says no does not keep it open."""
    pytest.importorskip("pybullet")
    env = gymnasium.make("VAPTwin-DROID-v0", task="reach")
    base: Any = env.unwrapped
    env.reset(seed=500_000)
    made = {"env_id": "VAPTwin-DROID-v0", "options": {}, "seeds": (500_000,), "starts": (base.start("here"),)}
    env.close()
    (idle,) = play(job((), **made, policy="idle", judge=After([YES])))
    assert (idle.trial.success, idle.trial.verdict, idle.trial.end, idle.trial.steps) == (False, "yes", "time limit", 4)
    (expert,) = play(job((), **made, judge=After([NO]), steps=15))
    assert (expert.trial.success, expert.trial.verdict, expert.trial.end) == (True, "no", "done")
    assert expert.trial.steps < 15 and expert.trial.reward == 1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": ()}, "0 seeds with 3 starts"),
        ({"seeds": (1, 2)}, "2 seeds with 3 starts"),
        ({"seeds": (1, 2, 4)}, "consecutive"),
        ({"steps": 0}, "steps, every and consecutive"),
        ({"starts": (), "judge": After([YES])}, "a judge must know camera and first picture"),
    ],
)
def test_jobs_that_cannot_be_played_are_refused(changes: dict[str, Any], words: str, starts: tuple[Start, ...]) -> None:
    with pytest.raises(InvalidInput, match=words):
        job(starts, **changes)


def test_unknown_policies_and_environments_are_named(starts: tuple[Start, ...]) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'scripted'"):
        play(job(starts, policy="skripted"))
    with pytest.raises(UnknownName, match="Did you mean 'VAPWorld-DROID-v0'"):
        play(job(starts, env_id="VAPWorlt-DROID-v0"))
