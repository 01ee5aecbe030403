"""A world of a few lines for tests of driving: the arm goes at once where it is asked to; the picture tells where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from vap_sim.errors import InvalidInput
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot
from vap_sim.viewer.teleop_history import Seen
from vap_sim.viewer.teleop_session import DrivingSession
from vap_sim.viewer.teleop_steering import Steering


class ToyWorld:
    """Deterministic, with a memory: `noise` is added up, so that a repeated or a left out action shows."""

    def __init__(self, name: str = "toy", dt: float = 0.2, size: int = 1000) -> None:
        self.name, self.dt, self.size = name, dt, size
        self.model: RobotModel = load_robot("panda_robotiq")
        self.steering = Steering(self.model, dt)
        self.joints, self.memory = self.model.home.double().numpy(), 0.0
        self.steps = self.restored = 0
        self.fails_at: int | None = None

    def begin(self, seed: int, options: Mapping[str, Any]) -> Seen:
        if options.get("start") == "broken":
            raise InvalidInput("start", "broken", "another")
        self.joints, self.memory = self.model.home.double().numpy(), float(seed)
        return self._seen()

    def begun(self) -> Mapping[str, Any]:
        return {"start": "here"}

    def step(self, action: np.ndarray) -> Seen:
        self.steps += 1
        if self.fails_at == self.steps:
            self.memory = -1.0
            raise InvalidInput("step", self.steps, "another")
        self.joints = self.steering.joints(action)
        self.memory = 0.5 * self.memory + float(action.sum())
        return self._seen()

    def state(self) -> tuple[Any, int]:
        return (self.joints.copy(), self.memory), self.size

    def restore(self, state: Any) -> None:
        self.restored += 1
        self.joints, self.memory = state[0].copy(), state[1]

    def resting(self, seen: Seen) -> np.ndarray:
        return self.steering.resting(seen.joints)

    def cameras(self) -> dict[str, Camera]:
        return {"image": Camera.look_at("image", (1.2, 0.6, 0.6), (0.4, 0, 0.1), size=(32, 24), focal_px=30)}

    def instruction(self) -> str:
        return "go about"

    def _seen(self) -> Seen:
        level = np.uint8(abs(int(1e6 * (self.memory + self.joints.sum()))) % 251)
        picture = np.full((24, 32, 3), level, np.uint8)
        tool = self.model.robot.forward(torch.from_numpy(self.joints))[-1, :3, 3]
        return Seen(
            {"image": picture, "prompt": picture}, self.joints.copy(), {"height": float(tool[2]), "success": False}
        )


def toy_session(**options: Any) -> tuple[DrivingSession, dict[str, ToyWorld]]:
    """A session over toys, which are made when asked for; any name but "missing" will do."""
    made: dict[str, ToyWorld] = {}

    def opened(name: str) -> ToyWorld:
        if name == "missing":
            raise InvalidInput("world", name, "another")
        made[name] = ToyWorld(name, dt=0.1 if name == "fast" else 0.2)
        return made[name]

    return DrivingSession(opened, "toy", **options), made


def actions(session: DrivingSession, count: int, seed: int = 0) -> list[np.ndarray]:
    """Actions near where the arm rests."""
    rng = np.random.default_rng(seed)
    rest = session.present.asked
    return [(rest + rng.normal(0, 0.02, rest.shape)).clip(-2.8, 2.8).astype(np.float32) for _ in range(count)]
