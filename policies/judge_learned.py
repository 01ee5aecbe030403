"""The learned judge of the tasks reach, push and pick_place: eyes that measure, calibrated, and silent in doubt."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.checkpoint import fill, load_tensors, save_tensors
from vap_sim.policies.judge import Evidence, Verdict
from vap_sim.policies.judge_calibration import Calibration
from vap_sim.policies.judge_looking import Color, goal_views, named_color, object_views, seen
from vap_sim.policies.judge_margins import TASKS, Moments, margins
from vap_sim.policies.judge_network import JudgeConfig, JudgeNet, Sighting, Views
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot, robot_names

WEIGHTS = Path(__file__).parent / "weights" / "judge.safetensors"
_OPENINGS = 512  # first pictures of which is kept what was seen in them


class LearnedJudge:
    """Judges pictures of any size from a fixed, calibrated camera that sees the table; trained on 128 x 128 ones.

    It cannot tell where the task is none of TASKS, where the instruction does not name exactly one colour that it
    knows, where the camera moves, and where its probability lies in the band of doubt. It is an estimate: docs/judge.md
    says how often it is right, on true pictures and on dreamt ones.
    """

    def __init__(
        self,
        network: JudgeNet,
        calibrations: Mapping[str, Calibration],
        colors: Mapping[str, Color],
        robot: str = "panda_robotiq",
    ) -> None:
        """`network` is used as it is from now on; one calibration a task; colors by name, each RGB in [0, 1]."""
        if set(calibrations) != set(TASKS):
            raise InvalidInput("calibrations of a judge", sorted(calibrations), f"one for each of {TASKS}")
        self.network = network.eval().requires_grad_(False)
        self.calibrations, self.colors = dict(calibrations), dict(colors)
        self.model = load_robot(robot)
        self._openings: OrderedDict[bytes, Sighting] = OrderedDict()

    @classmethod
    def load(cls, path: Path | str | None = None) -> LearnedJudge:
        """The judge of a weights file, by default the one that ships with the package. Raises BadFile."""
        path = WEIGHTS if path is None else Path(path)
        tensors, description = load_tensors(path)
        try:
            config = description["network"]
            widths = tuple(int(width) for width in config["widths"])
            network = JudgeNet(JudgeConfig(widths, int(config["hidden"])))
            calibrations = {name: Calibration.from_dict(item) for name, item in description["calibrations"].items()}
            colors = {str(name): _color(item) for name, item in description["colors"].items()}
            robot = str(description["robot"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise BadFile(path, f"its description is not a judge's ({error!r})") from error
        if description.get("name") != "judge" or set(calibrations) != set(TASKS):
            raise BadFile(path, f"field 'name' or 'calibrations': expected a judge of {TASKS}")
        fill(network, {name: value.float() for name, value in tensors.items()}, path)
        if robot not in robot_names():
            raise BadFile(path, f"field 'robot' is {robot!r}, expected one of {', '.join(robot_names())}")
        return cls(network, calibrations, colors, robot)

    def save(self, path: Path, **facts: Any) -> Path:
        """Write weights and calibration; `facts` go into the description. Undone by `load` (weights are float16)."""
        description = {
            "name": "judge",
            "network": asdict(self.network.config),
            "calibrations": {name: asdict(item) for name, item in self.calibrations.items()},
            "colors": self.colors,
            "robot": self.model.name,
            **facts,
        }
        save_tensors(path, {n: value.half() for n, value in self.network.state_dict().items()}, description)
        return path

    def __reduce__(self) -> tuple[Any, ...]:
        # A robot's tables cannot be pickled, its name can; tensors would be sent as open files, one each.
        weights = {name: value.numpy() for name, value in self.network.state_dict().items()}
        return _rebuilt, (self.network.config, weights, self.calibrations, self.colors, self.model.name)

    def judge(self, evidence: Evidence) -> tuple[Verdict, ...]:
        """One verdict an episode. Raises InvalidInput for joints of another robot."""
        named = [named_color(text, self.colors) for text in evidence.instructions]
        verdicts: dict[int, Verdict] = {}
        for row, (task, color, camera) in enumerate(zip(evidence.tasks, named, evidence.cameras, strict=True)):
            reason = None
            if task not in TASKS:
                reason = f"task {task!r} is none of {', '.join(TASKS)}"
            elif color is None:
                known = ", ".join(self.colors)
                reason = f"the instruction {evidence.instructions[row]!r} does not name one of these colours: {known}"
            elif camera.parent_link is not None:
                reason = f"camera {camera.name!r} moves with {camera.parent_link!r}"
            if reason is not None:
                verdicts[row] = Verdict(None, None, reason)
        rest = [row for row in range(len(evidence)) if row not in verdicts]
        if rest:
            for row, score in zip(rest, self.scores(evidence.rows(rest)).tolist(), strict=True):
                verdicts[row] = self._verdict(score, evidence.tasks[row])
        return tuple(verdicts[row] for row in range(len(evidence)))

    def scores(self, evidence: Evidence) -> np.ndarray:
        """Margins (b,) float64 before calibration. All rows pass the network together.

        Raises InvalidInput where an instruction names no colour or a task is none of TASKS, and as `measure` does."""
        named = [named_color(text, self.colors) for text in evidence.instructions]
        if None in named or not set(evidence.tasks) <= set(TASKS):
            expected = f"tasks of {TASKS}, and one of these colours: {', '.join(self.colors)}"
            raise InvalidInput("evidence to measure", (evidence.tasks, evidence.instructions), expected)
        colors = torch.tensor([self.colors[str(name)] for name in named])
        return np.asarray(margins(self.measure(evidence, colors), evidence.tasks).double().numpy())

    @torch.inference_mode()
    def measure(self, evidence: Evidence, colors: Tensor) -> Moments:
        """What is measured of b moments. With a single last picture, the one before is taken to have looked the same.

        Raises InvalidInput for another robot's joints, Unsupported for cameras that move with the robot."""
        joints = torch.from_numpy(np.ascontiguousarray(evidence.joints)).double()
        robot, gripper = self.model.robot, self.model.gripper
        if gripper is None or joints.shape[1] != robot.num_joints:
            expected = f"(b, {robot.num_joints}) of {self.model.name}"
            raise InvalidInput("joints for a judge", tuple(joints.shape), expected)
        first, goal = self._opening(evidence, colors)
        last = (evidence.last[:, -min(2, evidence.last.shape[1])], evidence.last[:, -1])
        views = Views.cat(object_views(*seen(pictures, evidence.cameras), colors) for pictures in last)
        count, sighted = len(evidence), self.network.object_eye(views)
        return Moments(
            first=first,
            before=sighted.rows(slice(count)),
            now=sighted.rows(slice(count, None)),
            goal=goal,
            tool=robot.forward(joints)[:, robot.link_index(self.model.tool_link), :3, 3].float(),
            gripper=gripper.to_position(joints[:, robot.joint_index(gripper.joint)]).float(),
        )

    def _opening(self, evidence: Evidence, colors: Tensor) -> tuple[Sighting, Sighting]:
        """Object and goal in first pictures, of which an episode shows the same one at every moment."""
        keys = [_key(*row) for row in zip(evidence.first, evidence.cameras, colors.numpy(), strict=True)]
        rows = {key: row for row, key in enumerate(keys)}
        here = {key: self._openings[key] for key in rows if key in self._openings}
        new = [row for key, row in rows.items() if key not in here]
        if new:
            rgb, camera = seen(evidence.first[new], [evidence.cameras[row] for row in new])
            objects = self.network.object_eye(object_views(rgb, camera, colors[new]))
            goals = self.network.goal_eye(goal_views(rgb, camera))
            for index, row in enumerate(new):
                here[keys[row]] = Sighting.cat(
                    [objects.rows(slice(index, index + 1)), goals.rows(slice(index, index + 1))]
                )
        self._openings.update(here)
        while len(self._openings) > _OPENINGS:
            self._openings.popitem(last=False)
        both = [here[key] for key in keys]
        return Sighting.cat(pair.rows(slice(1)) for pair in both), Sighting.cat(pair.rows(slice(1, 2)) for pair in both)

    def _verdict(self, score: float, task: str) -> Verdict:
        calibration = self.calibrations[task]
        if not np.isfinite(score):
            return Verdict(None, None, "the network measured no finite number")
        probability = float(calibration.probability(np.array([score]))[0])
        answer = calibration.answer(probability)
        band = f"the band of doubt {calibration.low:.2f} to {calibration.high:.2f}"
        reason = f"probability {probability:.2f} lies {'in' if answer is None else 'outside of'} {band}"
        return Verdict(answer, probability, reason)


def _key(first: np.ndarray, camera: Camera, color: np.ndarray) -> bytes:
    """The same for the same picture, camera and colour."""
    digest = hashlib.blake2b(first.tobytes(), digest_size=20)
    for part in (camera.intrinsics, camera.T_parent_camera):
        digest.update(part.double().numpy().tobytes())
    digest.update(f"{first.shape} {camera.parent_link}".encode() + color.tobytes())
    return digest.digest()


def _rebuilt(
    config: JudgeConfig,
    weights: Mapping[str, np.ndarray],
    calibrations: Mapping[str, Calibration],
    colors: Mapping[str, Color],
    robot: str,
) -> LearnedJudge:
    network = JudgeNet(config)
    network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
    return LearnedJudge(network, calibrations, colors, robot)


def _color(values: Any) -> Color:
    red, green, blue = (float(value) for value in values)
    if not (min(red, green, blue) >= 0 and 0 < red + green + blue <= 3):
        raise ValueError(f"color {values}")
    return red, green, blue
