"""Plan policies: they go where they should, hold what they hold, and say by name what they lack."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vap_sim.envs.start import load_start
from vap_sim.envs.vector_env import WorldVectorEnv
from vap_sim.envs.world_env import WorldEnv
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.policies.plan_policy import IdlePolicy, RandomPolicy, ReplayPolicy, ScriptedPolicy
from vap_sim.policies.policy import as_batch, brief
from vap_sim.robots.library import load_robot

START = load_start("pick_place_00")


def tool(joints: np.ndarray) -> np.ndarray:
    model = load_robot("panda_robotiq")
    return model.robot.forward(torch.as_tensor(joints))[..., model.robot.link_index("tool"), :3, 3].numpy()


@pytest.mark.parametrize(("control", "control_hz"), [("joint_velocity", 5.0), ("joint_position", 15.0)])
def test_expert_closes_at_the_object_and_opens_at_the_goal(control: str, control_hz: float) -> None:
    assert START.scene is not None
    env = WorldEnv(world="kinematic", control=control, control_hz=control_hz, start=START)
    actions = ScriptedPolicy("pick_place", control=control, control_hz=control_hz).plan(START, int(8 * control_hz))
    env.reset(seed=0)
    infos = [env.step(action)[4] for action in actions]
    joints = np.stack([info["joints"] for info in infos])
    closing = np.flatnonzero(np.diff(joints[:, 7]) > 1e-3)
    opening = np.flatnonzero(np.diff(joints[:, 7]) < -1e-3)
    item, goal = START.scene["objects"][0], START.scene["goal"]
    assert tool(joints[closing[0]])[:2] == pytest.approx([item["x"], item["y"]], abs=0.01)
    assert tool(joints[closing[0]])[2] < item["size"][2]
    assert tool(joints[opening[0]])[:2] == pytest.approx(goal[:2], abs=0.01)
    assert tool(joints)[closing[-1] : opening[0], 2].max() > 0.18, "carried over what stands on the table"
    assert np.abs(joints[-1] - joints[-2]).max() < 1e-3, "rests when the plan is over"


def test_expert_in_a_vector_environment_is_told_all_scenes() -> None:
    env = WorldVectorEnv(2, world="kinematic", task="push")
    observations, infos = env.reset(seed=0)
    policy = brief(ScriptedPolicy("push"), infos)
    carry = policy.reset(2, 0)
    actions, _ = policy.act(observations, carry)
    for row in range(2):
        start = env.get_state().starts[row]
        assert np.array_equal(actions[row], ScriptedPolicy("push").plan(start, 1)[0])
    env.step(actions)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, r"scenes of a scripted expert: given 0, expected 2: call briefed\(info\)"),
        ({"scenes": (START.scene,) * 2}, "scenes of a scripted expert"),
        (
            {"scenes": ({**(START.scene or {}), "goal": None},) * 2},
            "given no goal, expected a goal, as task 'push' needs",
        ),
        ({"scenes": ({**(START.scene or {}), "objects": []},) * 2}, "given no objects, expected at least one object"),
    ],
)
def test_expert_names_what_it_lacks(changes: dict[str, Any], words: str) -> None:
    joints = (START.joints.numpy(),) * (2 if "given no" in words else 0)
    with pytest.raises(InvalidInput, match=words):
        replace(ScriptedPolicy("push", joints=joints), **changes).reset(2, 0)


def test_expert_needs_a_known_task_and_a_scene() -> None:
    with pytest.raises(UnknownName, match=r"unknown task with a scripted expert 'pusch'. Did you mean"):
        ScriptedPolicy("pusch")
    with pytest.raises(InvalidInput, match=r"info for a scripted expert: given \['joints'\], expected one with scene"):
        ScriptedPolicy("push").plan(replace(START, scene=None), 3)


def test_expert_that_reaches_needs_no_goal() -> None:
    start = load_start("reach_00")
    assert start.scene is not None
    actions = ScriptedPolicy("reach").plan(start, 12)
    env = WorldEnv(world="kinematic", start=start)
    env.reset()
    for action in actions:
        info = env.step(action)[4]
    item = start.scene["objects"][0]
    assert tool(info["joints"]) == pytest.approx([item["x"], item["y"], item["size"][2] + 0.03], abs=5e-3)


def test_expert_with_an_empty_plan_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vap_sim.policies.experts.PLANNERS", {"push": lambda scene, handling: []})
    actions = ScriptedPolicy("push").plan(START, 2)
    assert np.abs(actions).max() < 1e-5


def test_idle_stays_wherever_it_is() -> None:
    for control in ("joint_velocity", "joint_position", "ee_delta"):
        env, policy = WorldEnv(world="kinematic", control=control, start=START), IdlePolicy(control=control)
        observation, info = env.reset(seed=0)
        before, carry = info["joints"], policy.reset(1, 0)
        for _ in range(4):
            action, carry = policy.act(as_batch(observation), carry)
            observation, _, _, _, info = env.step(action[0])
        assert np.abs(info["joints"] - before).max() < 1e-3


def test_random_actions_fill_the_box_and_hold() -> None:
    low, high = np.array([-1, 0.5], np.float32), np.array([1, 0.75], np.float32)
    policy = RandomPolicy(low, high, hold=3)
    carry, actions = policy.reset(50, 0), []
    for _ in range(6):
        action, carry = policy.act({}, carry)
        actions.append(action)
    drawn = np.stack(actions)
    assert (drawn >= low).all()
    assert (drawn <= high).all()
    assert drawn.reshape(-1, 2).std(0) == pytest.approx((high - low) / np.sqrt(12), rel=0.2)
    assert np.array_equal(drawn[0], drawn[2])
    assert not np.array_equal(drawn[2], drawn[3])


def test_replay_plays_and_rests() -> None:
    tape = np.arange(1, 17, dtype=np.float32).reshape(2, 8) / 16
    for control, rest in (("joint_velocity", [0] * 7 + [tape[1, 7]]), ("joint_position", tape[1])):
        policy = ReplayPolicy(tape, control)
        carry, played = policy.reset(2, 0), []
        for _ in range(3):
            action, carry = policy.act({}, carry)
            played.append(action)
        for row in range(2):
            assert np.array_equal(np.stack(played)[:, row], np.stack([tape[0], tape[1], rest]))
    assert np.array_equal(policy.actions, np.arange(1, 17).reshape(2, 8) / 16)


def test_replay_names_what_does_not_fit() -> None:
    with pytest.raises(UnknownName, match=r"unknown control mode 'velocity'. Did you mean 'joint_velocity'"):
        ReplayPolicy(np.zeros((2, 8), np.float32), "velocity")
    with pytest.raises(InvalidInput, match=r"recorded actions: given shape \(8,\), expected \(T, A\) or \(b, T, A\)"):
        ReplayPolicy(np.zeros(8, np.float32))
    with pytest.raises(InvalidInput, match=r"recorded actions: given shape \(0, 8\)"):
        ReplayPolicy(np.zeros((0, 8), np.float32))
    with pytest.raises(InvalidInput, match="recorded actions: given 3 rows, expected 2, one an environment"):
        ReplayPolicy(np.zeros((3, 2, 8), np.float32)).reset(2, 0)
