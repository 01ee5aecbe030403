"""Judges: three values that cannot be mistaken, evidence that fits, batches equal to singles, a reward in an env."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence

from vap_sim.envs.start import load_start
from vap_sim.envs.vector_env import WorldVectorEnv
from vap_sim.envs.world_env import WorldEnv
from vap_sim.errors import InvalidInput
from vap_sim.policies.judge import CallableJudge, Evidence, GoalImageJudge, Judge, Verdict, single
from vap_sim.policies.judge_reward import JudgeReward

START = load_start("push_00")
PICTURE = START.frames[0].numpy()


def evidence(rows: int = 1, **changes: Any) -> Evidence:
    one = single(PICTURE, PICTURE[None], START.joints, START.cameras[0], "push", START.instruction)
    return replace(one.rows([0] * rows), **changes)


def test_a_verdict_has_three_values_and_no_truth_value() -> None:
    yes, no, doubt = Verdict(True, 0.9), Verdict(False, 0.1), Verdict(None, 0.5, "in doubt")
    assert [(v.yes, v.no, v.cannot_tell, v.word) for v in (yes, no, doubt)] == [
        (True, False, False, "yes"),
        (False, True, False, "no"),
        (False, False, True, "cannot tell"),
    ]
    with pytest.raises(TypeError, match="three values"):
        bool(doubt)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((1, 0.5, ""), "answer of a verdict"),
        ((0.7,), "True, False or None"),
        ((True, 1.5), "from 0 to 1"),
        ((True, float("nan")), "from 0 to 1"),
        ((None,), "no reason"),
    ],
)
def test_a_verdict_refuses(values: tuple[Any, ...], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        Verdict(*values)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"first": PICTURE}, "'first'"),
        ({"first": PICTURE[None].astype(np.float32)}, "uint8"),
        ({"last": PICTURE[None]}, "'last'"),
        ({"last": PICTURE[None, None][:, :0]}, "'last'"),
        ({"last": PICTURE[None, None, :64]}, "as the first"),
        ({"joints": np.full((1, 8), np.nan)}, "finite"),
        ({"joints": np.zeros(8)}, "finite floats"),
        ({"joints": np.zeros((2, 8))}, "rows for a judge"),
        ({"cameras": (START.cameras[0].resized((64, 64)),)}, "camera"),
        ({"cameras": ()}, "rows for a judge"),
        ({"instructions": ("a", "b")}, "rows for a judge"),
    ],
)
def test_evidence_refuses(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        evidence(**changes)


def test_a_function_judges_and_what_is_not_a_verdict_is_refused() -> None:
    judge = CallableJudge(lambda _first, last, _joints, text: None if "disc" not in text else bool(last.mean() > 0))
    texts = ("push the red cube onto the disc", "do something")
    words = [verdict.word for verdict in judge.judge(evidence(2, instructions=texts))]
    assert words == ["yes", "cannot tell"]
    for wrong in (0.0, 1, "yes", np.float32(1)):
        with pytest.raises(InvalidInput, match="judging function"):
            CallableJudge(lambda *_parts, value=wrong: value).judge(evidence())
    assert CallableJudge(lambda *_parts: np.bool_(True)).judge(evidence())[0].yes  # type: ignore[arg-type]


def test_a_goal_picture_is_reached_near_doubted_between_and_missed_far() -> None:
    judge = GoalImageJudge(PICTURE, near=0.02, far=0.05)
    pictures = np.stack([PICTURE, np.clip(PICTURE.astype(int) + 9, 0, 255).astype(np.uint8), 255 - PICTURE])
    verdicts = judge.judge(evidence(3, last=pictures[:, None]))
    assert [verdict.word for verdict in verdicts] == ["yes", "cannot tell", "no"]
    assert judge.distance(pictures)[0] == 0
    with pytest.raises(InvalidInput, match="goal picture"):
        judge.distance(pictures[:, :64])
    with pytest.raises(InvalidInput, match="near <= far"):
        GoalImageJudge(PICTURE, near=0.1, far=0.05)


class Scripted:
    """Answers what it is told, and keeps what it saw."""

    def __init__(self, answers: str) -> None:
        self.answers, self.seen = list(answers), list[Evidence]()

    def judge(self, evidence: Evidence) -> tuple[Verdict, ...]:
        self.seen.append(evidence)
        answer = {"y": True, "n": False, "?": None}[self.answers[len(self.seen) - 1]]
        return (Verdict(answer, None if answer is None else 0.5, "scripted"),)


def world(judge: Judge, **options: Any) -> WorldEnv:
    return WorldEnv(world="kinematic", start=START, judge=JudgeReward(judge, "push", **options))


def rest(env: WorldEnv) -> np.ndarray:
    return np.zeros(env.action_space.shape or (), np.float32)


def test_yes_must_hold_and_doubt_is_told_apart_from_no() -> None:
    judge = Scripted("y?ynyy")
    env = world(judge, consecutive=2)
    env.reset(seed=0)
    steps = [env.step(rest(env)) for _ in range(6)]
    assert [(reward, over) for _, reward, over, _, _ in steps] == [(0.0, False)] * 5 + [(1.0, True)]
    told = [info["verdict"] for *_, info in steps]
    assert told == ["yes", "cannot tell", "yes", "no", "yes", "yes"]
    assert ["success_probability" in info for *_, info in steps] == [True, False, True, True, True, True]
    assert all("start" not in info for *_, info in steps)
    last = judge.seen[-1]
    assert last.instructions == (START.instruction,)
    assert np.array_equal(last.first[0], PICTURE)
    assert np.array_equal(last.last[0], [steps[-2][0]["image"], steps[-1][0]["image"]])
    assert last.joints[0] == pytest.approx(steps[-1][4]["joints"])


def test_it_is_asked_every_few_steps_only() -> None:
    judge = Scripted("nn")
    env = world(judge, every=3)
    env.reset(seed=0)
    told = [env.step(rest(env))[4]["verdict"] for _ in range(6)]
    assert told == ["", "", "no", "", "", "no"]
    assert [evidence.last.shape[1] for evidence in judge.seen] == [2, 2]


def test_a_new_episode_and_a_jump_forget_what_was_agreed() -> None:
    env = world(Scripted("yyyy"), consecutive=2)
    env.reset(seed=0)
    begun = env.get_state()
    assert not env.step(rest(env))[2]
    env.set_state(begun)
    assert not env.step(rest(env))[2]
    env.reset(seed=0)
    assert not env.step(rest(env))[2]
    assert env.step(rest(env))[2]


def test_rows_of_a_vector_environment_are_watched_apart() -> None:
    red_is_done = CallableJudge(lambda _first, _last, _joints, text: text == START.instruction)
    other = load_start("push_01")
    env = WorldVectorEnv(2, world="kinematic", task="push", judge=JudgeReward(red_is_done, "push", consecutive=2))
    env.reset(options={"start": [other, START]})
    actions = np.zeros((2, 8), np.float32)
    assert env.step(actions)[2].tolist() == [False, False]
    _, rewards, over, _, infos = env.step(actions)
    assert (rewards.tolist(), over.tolist()) == ([0.0, 1.0], [False, True])
    assert infos["verdict"].tolist() == ["no", "yes"]
    assert "row" not in infos


class Fussy:
    """Answers by every pixel, joint and word that it is shown; counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = list[int]()

    def judge(self, evidence: Evidence) -> tuple[Verdict, ...]:
        self.asked.append(len(evidence))
        told = []
        for row in range(len(evidence)):
            one = evidence.rows([row])
            parts = (one.first, one.last, one.joints, one.cameras[0].intrinsics.numpy(), str(one.instructions).encode())
            number = crc32(b"".join(bytes(part) for part in parts)) % 300
            told.append(Verdict((True, False, None)[number // 100], (number % 100) / 100, "counted"))
        return tuple(told)


def test_rows_that_are_judged_at_once_are_judged_as_if_alone() -> None:
    """Some in their first step, some after a jump, some not due."""
    rng, judge = np.random.default_rng(0), Fussy()
    starts = [load_start(name) for name in ("push_00", "push_01", "push_02")]
    whole = JudgeReward(judge, "push", every=2, consecutive=2)
    alone = [JudgeReward(Fussy(), "push", every=2, consecutive=2) for _ in starts]
    for steps in ([1, 2, 2], [2, 3, 8], [3, 4, 10], [4, 6, 11], [5, 7, 12], [6, 8, 13]):
        pictures = rng.integers(0, 256, (3, *PICTURE.shape), dtype=np.uint8)
        told = [
            {"steps": step, "joints": rng.normal(size=8), "start": start, "row": row}
            for row, (step, start) in enumerate(zip(steps, starts, strict=True))
        ]
        copies = [dict(info) for info in told]
        found = whole.judge_rows({"image": pictures}, told)
        wanted = [one({"image": pictures[row]}, copies[row]) for row, one in enumerate(alone)]
        assert list(zip(*(part.tolist() for part in found), strict=True)) == wanted
        assert [info["verdict"] for info in told] == [info["verdict"] for info in copies]
        assert [info.get("success_probability") for info in told] == [
            info.get("success_probability") for info in copies
        ]
        assert [whole.verdict(row) for row in range(3)] == [one.verdict(row) for row, one in enumerate(alone)]
    assert judge.asked == [2, 1, 1, 1, 1, 1, 1, 1, 2]  # together where as many pictures are known


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_vector_environment_asks_once_a_step(mode: str) -> None:
    """And tells what it tells when it asks row by row."""
    told, asked = [], []
    for together in (True, False):
        judge = Fussy()
        reward = JudgeReward(judge, "push", consecutive=2)
        given = reward if together else lambda obs, info, reward=reward: reward(obs, info)
        env = WorldVectorEnv(3, world="kinematic", task="push", judge=given, max_episode_steps=4, autoreset_mode=mode)
        env.reset(seed=1)
        rng = np.random.default_rng(2)
        told.append([env.step(rng.uniform(-0.3, 0.3, (3, 8)).astype(np.float32))[1:] for _ in range(9)])
        asked.append(judge.asked)
    assert data_equivalence(*told, exact=True)
    assert set(asked[1]) == {1} and sum(asked[0]) == len(asked[1]) and len(asked[0]) <= 9


def test_a_judge_that_fails_is_never_a_number() -> None:
    def broken(*_parts: Any) -> bool:
        raise RuntimeError("no camera")

    env = world(CallableJudge(broken))
    env.reset(seed=0)
    with pytest.raises(RuntimeError, match="no camera"):
        env.step(rest(env))
    with pytest.raises(InvalidInput, match="none has begun"):
        JudgeReward(CallableJudge(broken), "push")({"image": PICTURE}, {"steps": 1, "joints": START.joints.numpy()})
    with pytest.raises(InvalidInput, match="at least 1"):
        JudgeReward(CallableJudge(broken), "push", every=0)
