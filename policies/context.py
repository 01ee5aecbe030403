"""Where a policy acts: robot, control, rate, task and spaces, as whoever loads the policy knows them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput
from vap_sim.policies.plan_policy import IdlePolicy
from vap_sim.robots.actions import SPEED_MODES, ActionSpec, action_spec
from vap_sim.robots.library import load_robot


@dataclass(frozen=True, eq=False)
class PolicyContext:
    """What a policy must know of the environment it acts in.

    robot, control, control_hz [Hz]: as the environment was made with them; task: "reach", "push", "pick_place", or None
    where there is none; action_space, observation_space: of one environment. The action's bounds follow from robot and
    control where no space is given. Raises InvalidInput for a space of another length, UnknownName for robot or
    control.
    """

    robot: str = "panda_robotiq"
    control: str = "joint_velocity"
    control_hz: float = 5.0
    task: str | None = None
    action_space: spaces.Box | None = None
    observation_space: spaces.Dict | None = None

    def __post_init__(self) -> None:
        if not 0 < self.control_hz < np.inf:
            raise InvalidInput("control_hz of a policy's context", self.control_hz, "a positive number of Hz")
        if self.action_space is not None and self.action_space.shape != (self.spec.size,):
            expected = f"({self.spec.size},), as robot {self.robot!r} under {self.control!r} has it"
            raise InvalidInput("action space of a policy's context", f"shape {self.action_space.shape}", expected)

    @cached_property
    def spec(self) -> ActionSpec:
        """Names, units and bounds of the action's entries."""
        return action_spec(load_robot(self.robot), self.control)

    @property
    def size(self) -> int:
        """A, the length of an action."""
        return self.spec.size

    @property
    def low(self) -> NDArray[np.float32]:
        """Lower bounds (A,) float32."""
        return self.spec.low if self.action_space is None else self.action_space.low.astype(np.float32)

    @property
    def high(self) -> NDArray[np.float32]:
        """Upper bounds (A,) float32."""
        return self.spec.high if self.action_space is None else self.action_space.high.astype(np.float32)

    @cached_property
    def arm(self) -> NDArray[np.bool_]:
        """(A,) true where an entry moves the arm, false for the gripper's, which is the last where there is one."""
        arm = np.ones(self.size, bool)
        if load_robot(self.robot).gripper is not None:
            arm[-1] = False
        return arm

    @property
    def speeds(self) -> bool:
        """Whether the arm's entries are speeds."""
        return self.control in SPEED_MODES

    @cached_property
    def idle(self) -> IdlePolicy:
        """The policy that rests."""
        return IdlePolicy(self.robot, self.control)
