"""What is recorded at each station: how often each behaviour is played, and where the arm begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.envs.scenes import Scene
from vap_sim.envs.stations import Station
from vap_sim.envs.twin_behaviours import BEHAVIOURS, FLAWS, Course, Stage, course_of, possible
from vap_sim.envs.twin_renderer import Snapshot
from vap_sim.errors import Unsupported
from vap_sim.policies import motion_plans
from vap_sim.policies.handling import handling_of
from vap_sim.policies.scripted import joint_targets
from vap_sim.robots.library import RobotModel

_BRIDGE: Mapping[str, float] = MappingProxyType(
    {
        "onto": 0.24, "clumsy_onto": 0.13, "pick_place": 0.13, "clumsy_pick_place": 0.10, "push": 0.12,
        "clumsy_push": 0.07, "sweep": 0.09, "wander": 0.04, "joints": 0.06, "idle": 0.02,
    }
)  # fmt: skip
_RT1: Mapping[str, float] = MappingProxyType(
    {
        "lift": 0.13, "clumsy_lift": 0.07, "pick_place": 0.14, "clumsy_pick_place": 0.08, "push": 0.12,
        "clumsy_push": 0.07, "open_drawer": 0.20, "clumsy_open_drawer": 0.10, "close_drawer": 0.20,
        "clumsy_close_drawer": 0.10, "sweep": 0.08, "wander": 0.04, "joints": 0.06, "idle": 0.02,
    }
)  # fmt: skip
_SHARES: Mapping[str, Mapping[str, float]] = MappingProxyType({"DROID": BEHAVIOURS, "Bridge": _BRIDGE, "RT1": _RT1})
_HANDS: Mapping[str, str] = MappingProxyType({"human_hand": "vap_sim.envs.hand_behaviours"})
"""Robots that have behaviours of their own, and the module with BEHAVIOURS and `hand_course`."""

Joints = NDArray[np.float64]


@dataclass(frozen=True)
class Repertoire:
    """What is played at a station: shares of the behaviours by name, and the course of one of them.

    course: called with behaviour, generator, stage, joints (J,) and the name of a flaw or None; flaws: the names of
    those there are, none for hands.
    """

    station: Station
    shares: Mapping[str, float]
    course: Callable[[str, np.random.Generator, Stage, Joints, str | None], Course]
    flaws: tuple[str, ...] = FLAWS

    @classmethod
    def of(cls, station: Station) -> Repertoire:
        """The repertoire of a station; one of DROID's kind for a station that is not shipped."""
        if station.robot not in _HANDS:
            return cls(station, _SHARES.get(station.name, BEHAVIOURS), course_of)
        module = import_module(_HANDS[station.robot])

        def course(name: str, rng: np.random.Generator, stage: Stage, joints: Joints, flaw: str | None) -> Course:
            found: Course = module.hand_course(name, rng, stage, joints)
            return found

        return cls(station, module.BEHAVIOURS, course, ())

    def odds(self, scene: Scene, snapshot: Snapshot, chosen: tuple[str, ...]) -> tuple[list[str], NDArray[np.float64]]:
        """Names and probabilities of what can be done now, of those `chosen` or, where none are, of all. Raises
        Unsupported where nothing is left."""
        shares = {name: share for name, share in self.shares.items() if name in (chosen or self.shares)}
        if self.station.robot not in _HANDS:
            shares = {name: share for name, share in shares.items() if possible(name, scene, snapshot)}
        if not shares:
            raise Unsupported(f"none of the behaviours {', '.join(chosen)} can be done in every scene; add 'idle'")
        return list(shares), np.array(list(shares.values())) / sum(shares.values())

    def stage(self, model: RobotModel, scene: Scene, snapshot: Callable[[], Snapshot], control_dt: float) -> Stage:
        """Where behaviours are played in a scene."""
        layout = self.station.layout
        return Stage(model, scene, snapshot, control_dt, layout.low, layout.high, piled=self.station.name != "DROID")

    def start(self, rng: np.random.Generator, model: RobotModel, scene: Scene) -> Joints:
        """Joints (J,) to begin with: near the home pose, or anywhere above the table."""
        if self.station.start_joints is not None or model.gripper is None:
            return self.station.draw_joints(rng, model, scene)
        home, handling, gripper = model.home.double().numpy(), handling_of(model), model.gripper
        count, grip = model.robot.num_joints, model.robot.joint_index(gripper.joint)
        joints = home + rng.normal(0, 1, count) * handling.start_spread_of(count)
        if rng.uniform() < 0.4 and not scene.cabinets:
            far = motion_plans.wander(rng, 1, handling)
            joints = joint_targets(model, home, far, 0.2)[-1]
        way = gripper.closed_value - gripper.open_value
        bent = np.sign(way) * rng.uniform(0, abs(way)) if rng.uniform() < 0.3 else 0.0
        joints[grip] = gripper.open_value + bent
        return np.asarray(model.robot.clamp(torch.as_tensor(joints)))
