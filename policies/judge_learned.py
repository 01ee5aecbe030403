"""The learned judge of the tasks reach, push and pick_place: a small network, calibrated, that abstains in doubt."""

from __future__ import annotations

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
from vap_sim.policies.judge_looking import Color, ask, look, named_color
from vap_sim.policies.judge_network import TASKS, JudgeConfig, JudgeNet
from vap_sim.policies.judge_table import TableGrid
from vap_sim.robots.library import load_robot, robot_names

WEIGHTS = Path(__file__).parent / "weights" / "judge.safetensors"


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
        self.model, self.grid = load_robot(robot), TableGrid()

    @classmethod
    def load(cls, path: Path | str | None = None) -> LearnedJudge:
        """The judge of a weights file, by default the one that ships with the package. Raises BadFile."""
        path = WEIGHTS if path is None else Path(path)
        tensors, description = load_tensors(path)
        try:
            config = description["network"]
            widths = tuple(int(width) for width in config["widths"])
            network = JudgeNet(JudgeConfig(widths, int(config["features"]), int(config["hidden"])))
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
            colors = torch.tensor([self.colors[str(named[row])] for row in rest])
            chosen = evidence.rows(rest)
            for row, logit in zip(rest, self.logits(chosen, colors).tolist(), strict=True):
                verdicts[row] = self._verdict(logit, evidence.tasks[row])
        return tuple(verdicts[row] for row in range(len(evidence)))

    @torch.inference_mode()
    def logits(self, evidence: Evidence, colors: Tensor) -> Tensor:
        """Scores (b,) before calibration, row by row, so that a row's score is the same in every batch."""
        seen = look(evidence, self.model, self.grid)
        out = [
            self.network(ask(seen.rows([row]), colors[row : row + 1], [task], self.grid)).logit
            for row, task in enumerate(evidence.tasks)
        ]
        return torch.cat(out)

    def _verdict(self, logit: float, task: str) -> Verdict:
        calibration = self.calibrations[task]
        if not np.isfinite(logit):
            return Verdict(None, None, "the network gave no finite score")
        probability = float(calibration.probability(np.array([logit]))[0])
        answer = calibration.answer(probability)
        band = f"the band of doubt {calibration.low:.2f} to {calibration.high:.2f}"
        reason = f"probability {probability:.2f} lies {'in' if answer is None else 'outside of'} {band}"
        return Verdict(answer, probability, reason)


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
