"""The trust meter: does the robot in a picture stand where its prompted joints say that it should?"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.metrics.detector import ROBOT, Detector
from vap_sim.metrics.masks import Scores, scores
from vap_sim.prompts.silhouette import silhouettes
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel


class PromptAgreement:
    """Overlap of the robot found in a picture with its silhouette at the prompted joints, from 0 to 1.

    Needs no truth: joints and camera are known in every dream. True pictures score a little below 1, because the
    detector errs and because objects hide parts of the robot that its silhouette has.
    """

    def __init__(self, model: RobotModel, size: tuple[int, int], detector: Detector | None = None) -> None:
        """size: (width, height) [px] of the pictures and cameras; detector: by default the one shipped for it."""
        self.model, self.size = model, size
        self.detector = Detector.load(robot=model.name) if detector is None else detector

    def __call__(
        self, frame: Tensor | NDArray[np.uint8], joints: Tensor | NDArray[np.floating], camera: Camera
    ) -> float:
        """The agreement of one picture: frame (H, W, 3) uint8, joints (J,) [rad].

        Raises InvalidInput for other shapes, and where there is nothing to compare: no robot found in the picture and
        none to be seen by the camera.
        """
        found = self.all(torch.as_tensor(frame)[None], torch.as_tensor(joints)[None], camera)
        if not bool(found.defined[0]):
            raise InvalidInput("agreement", "a picture without robot of a pose out of sight", "a robot in either")
        return float(found.values[0])

    def all(self, frames: Tensor, joints: Tensor, camera: Camera) -> Scores:
        """The agreement of n pictures (n, H, W, 3) uint8 with n poses (n, J) [rad] -> scores (n).

        camera: one for all, or with a leading axis of length n. Undefined where neither shows a robot.
        """
        width, height = self.size
        if frames.shape[1:] != (height, width, 3) or len(frames) != len(joints):
            given = f"frames {tuple(frames.shape)} with joints {tuple(joints.shape)}"
            raise InvalidInput("pictures and poses", given, f"(n, {height}, {width}, 3) with (n, J)")
        if tuple(camera.size) != tuple(self.size):
            raise InvalidInput(f"size of camera {camera.name!r}", camera.size, self.size)
        return self.of_labels(self.detector.labels(frames).cpu(), joints, camera)

    def of_labels(self, labels: Tensor, joints: Tensor, camera: Camera) -> Scores:
        """As `all`, of pictures that have been read: labels (n, H, W) that number the detector's CLASSES."""
        expected = silhouettes(self.model, joints[:, None], [camera])[:, 0, 0]
        found = labels == ROBOT
        shared, united = (found & expected).sum((-2, -1)).double(), (found | expected).sum((-2, -1)).double()
        return scores("prompt agreement", shared / united.clamp_min(1), united > 0)
