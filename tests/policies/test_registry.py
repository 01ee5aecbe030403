"""Policies by name: every name loads what it says, and a wrong one is answered with the nearest right one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from vap_sim.data.twin import TwinEpisode, save_episode
from vap_sim.envs.start import load_start
from vap_sim.errors import BadFile, InvalidInput, UnknownName, Unsupported
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.plan_policy import IdlePolicy, RandomPolicy, ReplayPolicy, ScriptedPolicy
from vap_sim.policies.policy import PolicyFault, brief, checked, checked_actions
from vap_sim.policies.registry import GRADED, load_policy, parse_policy, policy_kinds, variant_names, with_variants

START = load_start("push_00")
TOLD = {"scene": START.scene, "joints": START.joints.numpy(), "instruction": "push it"}


def episode(**changes: Any) -> TwinEpisode:
    meta: dict[str, Any] = {
        "seed": 1, "behaviours": [], "robot": "panda_robotiq", "scene": {}, "cameras": [],
        "control_mode": "joint_velocity", "control_dt": 0.2,
    }  # fmt: skip
    actions = changes.pop("actions", np.linspace(0, 1, 3 * 8, dtype=np.float32).reshape(3, 8))
    length, meta = len(actions) + 1, {**meta, **changes}
    return TwinEpisode(
        frames=np.zeros((1, length, 4, 4, 3), np.uint8), objects=np.zeros((1, length, 4, 4, 4), np.uint8),
        plate=np.zeros((1, 4, 4, 3), np.uint8), robot=np.zeros((1, length, 4, 4), np.uint8),
        labels=np.zeros((1, length, 4, 4), np.uint8), flow=np.zeros((1, length, 2, 2, 2), np.int16),
        joints=np.zeros((length, 8), np.float32), measured=np.zeros((length, 8), np.float32), actions=actions,
        object_poses=np.zeros((length, 0, 7), np.float32), meta=meta,
    )  # fmt: skip


def test_twelve_graded_policies_act_for_every_task() -> None:
    assert len(set(GRADED)) >= 12
    for name in GRADED:
        for task in ("reach", "push", "pick_place"):
            load_policy(name, PolicyContext(task=task))
    policies = [brief(load_policy(name, PolicyContext(task="push")), TOLD) for name in GRADED]
    seen = {"joint_position": START.joints[None, :7].numpy(), "gripper_position": np.zeros((1, 1), np.float32)}
    plays = []
    for policy in policies:
        carry, actions = policy.reset(1, 3), []
        for _ in range(30):
            action, carry = policy.act(seen, carry)
            actions.append(action[0])
        plays.append(np.stack(actions))
    for one in range(len(plays)):
        for other in range(one):
            assert not np.array_equal(plays[one], plays[other]), (GRADED[one], GRADED[other])


def test_names_load_what_they_say(tmp_path: Path) -> None:
    where = PolicyContext(control="joint_position", control_hz=10.0, task="reach")
    scripted = load_policy("scripted", where)
    assert isinstance(scripted, ScriptedPolicy)
    assert (scripted.task, scripted.control, scripted.control_hz) == ("reach", "joint_position", 10.0)
    drawn = load_policy("random", where, hold=3)
    assert isinstance(drawn, RandomPolicy) and drawn.hold == 3 and np.array_equal(drawn.low, where.low)
    assert isinstance(load_policy("idle", where), IdlePolicy)
    np.save(tmp_path / "a+b%.npy", np.ones((4, 8)))
    replay = load_policy(f"replay@{tmp_path}/a%2Bb%25.npy")
    assert isinstance(replay, ReplayPolicy) and replay.actions.shape == (4, 8)
    missing = load_policy("scripted+wrong_object+miss=0.03", where)
    assert missing.policy.noise == 0.03  # type: ignore[attr-defined]
    assert load_policy("scripted+miss=0.03", where).noise == 0.03  # type: ignore[attr-defined]


def test_replay_of_a_recorded_episode(tmp_path: Path) -> None:
    recorded = episode()
    save_episode(tmp_path / "e.vap.npz", recorded)
    policy = load_policy(f"replay@{tmp_path}/e.vap.npz")
    carry, played = policy.reset(1, 0), []
    for _ in range(3):
        action, carry = policy.act({}, carry)
        played.append(action[0])
    assert np.array_equal(np.stack(played), recorded.actions)


def _npy(path: Path, values: Any) -> Path:
    np.save(path, values, allow_pickle=True)
    return path


def _short(path: Path) -> Path:
    _npy(path, np.ones((50, 8)))
    path.write_bytes(path.read_bytes()[:-100])
    return path


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("a.npy", lambda p: p, "no such file"),
        ("a.npy", lambda p: _npy(p, np.ones((3, 7))), r"shape \(3, 7\), expected \(T, 8\) or \(b, T, 8\)"),
        ("a.npy", lambda p: _npy(p, np.ones((0, 8))), "shape"),
        ("a.npy", lambda p: _npy(p, np.full((2, 8), np.nan)), "not finite"),
        ("a.npy", lambda p: _npy(p, np.full((2, 8), None)), "not a whole numpy file of numbers"),
        ("a.npy", lambda p: _npy(p, np.full((2, 8), "x")), "holds <U1, expected numbers"),
        ("a.npy", _short, "not a whole numpy file of numbers"),
        ("a.txt", lambda p: p, "is neither a recorded episode"),
        ("a.vap.npz", lambda p: save_episode(p, episode(control_mode="ee_delta")), "recorded under control 'ee_delta'"),
        ("a.vap.npz", lambda p: save_episode(p, episode(control_dt=0.1)), "each 0.1 s, the environment has 5 Hz"),
        ("a.vap.npz", lambda p: save_episode(p, episode(control_dt="x")), "an action each x s"),
    ],
)
def test_bad_recordings_are_named(name: str, write: Any, words: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    with pytest.raises(BadFile, match=words):
        load_policy(f"replay@{tmp_path / name}")


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("scriptd", UnknownName, "unknown policy 'scriptd'. Did you mean 'scripted'"),
        ("", UnknownName, "unknown policy ''"),
        ("scripted+nois=0.1", UnknownName, "unknown variant of policy 'scripted' 'nois'. Did you mean 'noise'"),
        ("scripted@x", InvalidInput, "expected scripted alone, without @"),
        ("scripted@", InvalidInput, "expected scripted alone, without @"),
        ("replay", InvalidInput, "policy 'replay': given replay, expected replay@FILE"),
        ("replay@", InvalidInput, "expected replay@FILE"),
        ("idle+noise", InvalidInput, "variant 'noise': given None, expected a number: noise=NUMBER"),
        ("idle+noise=much", InvalidInput, "variant 'noise': given much, expected a number"),
        ("idle+noise=nan", InvalidInput, "variant 'noise': given nan, expected 0 to 10"),
        ("idle+delay=1.5", InvalidInput, "variant 'delay': given 1.5, expected a whole number"),
        ("idle+delay=-1", InvalidInput, "variant 'delay': given -1, expected a whole number"),
        ("idle+delay=0", InvalidInput, "steps of delay: given 0"),
        ("idle+gripper=shut", InvalidInput, "variant 'gripper': given shut"),
        ("idle+mirror=panda_joint9", UnknownName, "unknown entry of the action to mirror 'panda_joint9'. Did you mean"),
        ("idle+mirror=7", UnknownName, "entry of the action to mirror '7'"),
        ("idle+mirror", UnknownName, "entry of the action to mirror None"),
        ("idle+random_share=2", InvalidInput, "share of random actions: given 2.0"),
        ("random+miss=0.1", Unsupported, "variant 'miss' changes a plan, which only policy 'scripted' makes"),
        ("scripted", InvalidInput, "task of policy 'scripted': given None"),
    ],
)
def test_bad_names_are_answered(name: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        load_policy(name)


def test_unknown_options_and_variants_are_named() -> None:
    with pytest.raises(UnknownName, match=r"unknown option of policy 'random' 'hld'. Did you mean 'hold'"):
        load_policy("random", hld=2)
    with pytest.raises(InvalidInput, match="option 'hold' of policy 'random': given 0"):
        load_policy("random", hold=0)
    with pytest.raises(UnknownName, match="unknown variant 'nose'"):
        with_variants(IdlePolicy(), [("nose", "1")], PolicyContext())


def test_parsed_names() -> None:
    parsed = parse_policy("replay@a/b%2Bc.npy+noise=0.1+gripper=open")
    assert (parsed.kind, parsed.target) == ("replay", "a/b+c.npy")
    assert parsed.variants == (("noise", "0.1"), ("gripper", "open"))
    assert parse_policy("scripted+wrong_object").variants == (("wrong_object", None),)
    assert "scripted" in policy_kinds() and "noise" in variant_names()


def test_context_checks_its_space() -> None:
    with pytest.raises(InvalidInput, match=r"action space of a policy's context: given shape \(7,\), expected \(8,\)"):
        PolicyContext(action_space=spaces.Box(-1, 1, (7,)))
    with pytest.raises(InvalidInput, match="control_hz of a policy's context: given 0"):
        PolicyContext(control_hz=0)
    where = PolicyContext(action_space=spaces.Box(-2, 2, (8,)))
    assert where.low.tolist() == [-2] * 8 and where.high.tolist() == [2] * 8
    assert PolicyContext().high.tolist() == [1] * 8 and PolicyContext().arm.tolist() == [True] * 7 + [False]


# Checked policies --------------------------------------------------------------------------------------------------


class Answers:
    """Gives what it was made with."""

    def __init__(self, actions: Any, carry: Any = None, whole: Any = ...) -> None:
        self.answer = (actions, {} if carry is None else carry) if whole is ... else whole
        self.first = {} if carry is None else carry

    def reset(self, num_envs: int, seed: int) -> Any:
        return self.first

    def act(self, obs: Any, carry: Any) -> Any:
        return self.answer


BOX = spaces.Box(-1, 1, (3,))
SEEN = {"x": np.zeros((2, 1))}


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (Answers(np.full((2, 3), np.nan)), "gave nan as entry 0 of row 0, expected a finite number"),
        (Answers(np.array([[0, 0, 0], [0, np.inf, 0]])), "gave inf as entry 1 of row 1"),
        (Answers(np.zeros((2, 4))), r"gave actions \(2, 4\), expected \(2, 3\)"),
        (Answers(np.zeros(3)), r"gave actions \(3,\)"),
        (Answers(np.zeros((1, 3))), r"gave actions \(1, 3\), expected \(2, 3\)"),
        (Answers(np.zeros((2, 3), object)), "gave an array of object"),
        (Answers([[0, 0, 0]] * 2), "gave list, expected an array of numbers"),
        (Answers(None), "gave NoneType, expected an array"),
        (Answers(0, whole=None), "gave NoneType, expected actions and a carry"),
        (Answers(np.zeros((2, 3)), whole=(np.zeros((2, 3)), 5)), "gave int as carry"),
        (Answers(np.zeros((2, 3)), whole=(np.zeros((2, 3)), {"k": [1]})), "gave list as 'k' of its carry"),
        (Answers(np.zeros((2, 3)), whole=(np.zeros((2, 3)), {"k": np.zeros(3)})), r"gave float64 \(3,\) as 'k'"),
    ],
)
def test_checked_policies_fail_by_name(policy: Any, words: str) -> None:
    with pytest.raises(PolicyFault, match=f"policy 'mine': {words}"):
        checked(policy, BOX, "mine").act(SEEN, {})


def test_checked_policies_pass_what_is_right() -> None:
    given = np.ones((2, 3), np.float64)
    watched = checked(Answers(given, {"k": np.zeros(2)}), BOX, "mine", seconds=60)
    actions, carry = watched.act(SEEN, watched.reset(2, 0))
    assert actions.dtype == np.float32 and np.array_equal(actions, given) and set(carry) == {"k"}
    with pytest.raises(PolicyFault, match="gave float64"):
        watched.reset(3, 0)
    with pytest.raises(PolicyFault, match=r"answered after .* s, expected within -1 s"):
        checked(Answers(given), BOX, "mine", seconds=-1).act(SEEN, {})
    with pytest.raises(InvalidInput, match="action space: given Discrete"):
        checked(Answers(given), spaces.Discrete(3))
    assert checked_actions(np.zeros((4, 2), np.int64), None, 2, "x").dtype == np.float32
    told = brief(checked(load_policy("scripted", PolicyContext(task="push")), spaces.Box(-1, 1, (8,))), TOLD)
    assert len(told.reset(1, 0)["plan"]) == 1
