"""Policies that know beforehand what they will do: scripted experts, replayed recordings, random and idle ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.policies.experts import check_expert, expert_targets
from vap_sim.policies.policy import Actions, Carry, Observations, info_rows
from vap_sim.robots.actions import MODES, SPEED_MODES
from vap_sim.robots.control import Controller, ControlState
from vap_sim.robots.library import RobotModel, load_robot


class Situated(Protocol):
    """What a plan can be made for: `Start` is one. joints (J,) [rad]; scene: a scene record, or None."""

    @property
    def joints(self) -> Tensor:
        """(J,) [rad] in the robot's order."""
        ...

    @property
    def scene(self) -> Mapping[str, Any] | None:
        """The scene record of a reset's info, or None where none is known."""
        ...


@dataclass(frozen=True, eq=False)
class ScriptedPolicy:
    """The scripted expert of a task: plans once, from the scene at the start, and then plays the plan without looking.

    task: one of `experts.expert_tasks`, such as "pick_place" or "stack"; robot, control, control_hz: as the environment
    has them; noise: how far a plan misses [m], drawn by the seed; scenes, joints: one scene record and joints (J,)
    [rad] a row, which `briefed` fills in from the info of an environment's `reset`. After its end the plan's last pose
    is held.
    """

    task: str
    robot: str = "panda_robotiq"
    control: str = "joint_velocity"
    control_hz: float = 5.0
    noise: float = 0.0
    scenes: tuple[Mapping[str, Any], ...] = ()
    joints: tuple[NDArray[np.float32], ...] = ()

    def __post_init__(self) -> None:
        check_expert(self.model.name, self.task)

    @cached_property
    def model(self) -> RobotModel:
        """The robot that is moved."""
        return load_robot(self.robot)

    @cached_property
    def controller(self) -> Controller:
        """The environment's own controller, whose nominal motion is followed."""
        return Controller(self.model, self.control, 1 / self.control_hz)

    def briefed(self, info: Mapping[str, Any]) -> ScriptedPolicy:
        """The same expert, told scene and joints by the info of a reset. Raises InvalidInput where they are missing."""
        rows = info_rows(info)
        for row in rows:
            if "scene" not in row or "joints" not in row:
                raise InvalidInput("info for a scripted expert", sorted(row), "one with scene and joints, from a reset")
        return replace(self, scenes=tuple(r["scene"] for r in rows), joints=tuple(r["joints"] for r in rows))

    def reset(self, num_envs: int, seed: int) -> Carry:
        """Plans for `num_envs` episodes. Raises InvalidInput unless the expert was briefed for as many."""
        if len(self.scenes) != num_envs or len(self.joints) != num_envs:
            expected = f"{num_envs}: call briefed(info) with the info of the environment's reset"
            raise InvalidInput("scenes of a scripted expert", len(self.scenes), expected)
        plans = [self._plan(row, seed + row) for row in range(num_envs)]
        longest = max(len(plan) for plan in plans)
        padded = [np.concatenate([plan, np.repeat(plan[-1:], longest - len(plan), axis=0)]) for plan in plans]
        state = self.controller.initial(np.stack(self.joints))
        return {
            "plan": np.stack(padded),
            "step": np.zeros(num_envs, np.int64),
            "target": state.target,
            "joints": state.joints,
        }

    def act(self, obs: Observations, carry: Carry) -> tuple[Actions, Carry]:
        """The action (b, A) that leads to the plan's next pose."""
        plan, step = carry["plan"], carry["step"]
        state = ControlState(carry["target"], carry["joints"])
        goals = plan[np.arange(len(plan)), np.minimum(step, plan.shape[1] - 1)]
        actions = self.controller.actions_for(state, goals)
        state, _ = self.controller.step(state, actions, 0)
        return actions, {"plan": plan, "step": step + 1, "target": state.target, "joints": state.joints}

    def plan(self, start: Situated, steps: int, seed: int = 0) -> Actions:
        """The expert's actions (steps, A) from a start that has a scene, without any environment."""
        info = {"joints": start.joints.numpy()} | ({} if start.scene is None else {"scene": start.scene})
        expert = self.briefed(info)
        carry, actions = expert.reset(1, seed), []
        for _ in range(steps):
            action, carry = expert.act({}, carry)
            actions.append(action[0])
        return np.stack(actions)

    def _plan(self, row: int, seed: int) -> NDArray[np.float64]:
        """Joint targets (T, J) of one episode, T at least 1."""
        joints = np.asarray(self.joints[row], np.float64)
        targets = expert_targets(self.model, self.task, self.scenes[row], joints, 1 / self.control_hz, seed, self.noise)
        return targets if len(targets) else joints[None]


@dataclass(frozen=True, eq=False)
class RandomPolicy:
    """Random actions, even between the bounds `low` and `high` (A,) of an action space, each held for `hold` steps."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    hold: int = 1

    def reset(self, num_envs: int, seed: int) -> Carry:
        """Each row draws from a key of its own."""
        return {"key": np.arange(num_envs, dtype=np.int64) + seed, "step": np.zeros(num_envs, np.int64)}

    def act(self, obs: Observations, carry: Carry) -> tuple[Actions, Carry]:
        """Actions (b, A) that depend on the row's key and step alone."""
        draws = zip(carry["key"].tolist(), (carry["step"] // self.hold).tolist(), strict=True)
        shares = np.stack([np.random.default_rng([key, draw, 31]).random(len(self.low)) for key, draw in draws])
        actions = self.low + shares * (self.high.astype(np.float64) - self.low)
        return actions.astype(np.float32), {"key": carry["key"], "step": carry["step"] + 1}


@dataclass(frozen=True, eq=False)
class IdlePolicy:
    """Stays where it is at each moment, gripper included. `robot` and `control` as the environment has them."""

    robot: str = "panda_robotiq"
    control: str = "joint_velocity"
    _controller: Controller = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_controller", Controller(load_robot(self.robot), self.control))

    def reset(self, num_envs: int, seed: int) -> Carry:
        """Nothing to remember."""
        return {}

    def act(self, obs: Observations, carry: Carry) -> tuple[Actions, Carry]:
        """The action (b, A) whose target is the pose observed."""
        model = self._controller.model
        joints = np.asarray(obs["joint_position"], np.float64)
        if model.gripper is not None:
            finger = model.gripper.open_value + obs["gripper_position"].astype(np.float64) * (
                model.gripper.closed_value - model.gripper.open_value
            )
            place = model.robot.joint_index(model.gripper.joint)
            joints = np.concatenate([joints[:, :place], finger, joints[:, place:]], axis=1)
        return self._controller.actions_for(self._controller.initial(joints), joints), carry


@dataclass(frozen=True, eq=False)
class ReplayPolicy:
    """Plays recorded actions (T, A), the same in all rows, or (b, T, A); then rests with the last gripper position.

    `control` tells what resting means: no speed where actions are speeds, else the last action again.
    """

    actions: NDArray[np.float32]
    control: str = "joint_velocity"

    def __post_init__(self) -> None:
        if self.control not in MODES:
            raise UnknownName("control mode", self.control, MODES)
        given = np.asarray(self.actions)
        if given.ndim not in (2, 3) or given.shape[-2] < 1:
            raise InvalidInput("recorded actions", f"shape {given.shape}", "(T, A) or (b, T, A), T at least 1")

    def reset(self, num_envs: int, seed: int) -> Carry:
        """Every row begins with the first action. Raises InvalidInput for another number of recordings."""
        given = np.asarray(self.actions, np.float32)
        rows = given if given.ndim == 3 else np.repeat(given[None], num_envs, axis=0)
        if len(rows) != num_envs:
            raise InvalidInput("recorded actions", f"{len(rows)} rows", f"{num_envs}, one an environment")
        return {"actions": rows, "step": np.zeros(num_envs, np.int64)}

    def act(self, obs: Observations, carry: Carry) -> tuple[Actions, Carry]:
        """The next recorded actions (b, A)."""
        actions, step = carry["actions"], carry["step"]
        length = actions.shape[1]
        chosen = actions[np.arange(len(actions)), np.minimum(step, length - 1)]
        if self.control in SPEED_MODES:
            body = chosen.shape[1] - 1
            chosen[step >= length, :body] = 0
        return chosen, {"actions": actions, "step": step + 1}
