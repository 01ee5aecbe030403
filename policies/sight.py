"""Where an object of a known color is: in a picture, and, by the camera, on the table."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.metrics.detector import Detector
from vap_sim.robots.camera import Camera

Floats = NDArray[np.float64]
LEAST_PIXELS = 12
"""With fewer pixels an object counts as not seen, as in `vap_sim.metrics.objects`."""


@lru_cache(maxsize=1)
def _shipped() -> Detector:
    with torch.inference_mode(False):
        return Detector.load()


@dataclass(frozen=True, eq=False)
class Sight:
    """Finds the object of one color.

    color: of the object; colors: those of all objects that the scene is known to hold, itself among them, which keeps
    others from being taken for it; detector: by default the one that ships. Raises InvalidInput.
    """

    color: str
    colors: tuple[str, ...]
    detector: Detector = field(default_factory=_shipped, repr=False)

    def __post_init__(self) -> None:
        if self.color not in self.colors:
            raise InvalidInput("colors of a scene", self.colors, f"{self.color!r} among them")

    def find(self, frames: Tensor) -> tuple[Floats, NDArray[np.bool_]]:
        """The middle of its largest piece in frames (n, H, W, 3) uint8: pixels x, y (n, 2); and whether it is seen.

        Where it is not seen the pixels are not numbers.
        """
        masks = self.detector.objects(frames, self.colors)[:, self.colors.index(self.color)].cpu().numpy()
        middles = np.full((len(masks), 2), np.nan)
        for row, mask in enumerate(masks):
            count, _, stats, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
            if count > 1:
                largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
                if stats[largest, cv2.CC_STAT_AREA] >= LEAST_PIXELS:
                    middles[row] = centres[largest]
        return middles, ~np.isnan(middles[:, 0])


def points_at_height(pixels: Floats, camera: Camera, height: float) -> Floats:
    """Where the lines of sight through pixels (n, 2) reach `height` [m] above the table: (n, 2) x, y [m].

    The camera stands in the base frame, without leading axes, above that height. Raises InvalidInput where a line of
    sight does not come down to it.
    """
    if camera.parent_link is not None or camera.intrinsics.ndim != 2:
        raise InvalidInput(
            f"camera {camera.name!r}", "one on a link or a batch", "a single one fixed in the base frame"
        )
    intrinsics, pose = camera.intrinsics.double().numpy(), camera.T_parent_camera.double().numpy()
    rays = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1)
    rays = rays @ np.linalg.inv(intrinsics).T @ pose[:3, :3].T
    eye = pose[:3, 3]
    if eye[2] <= height or (rays[:, 2] > -1e-6).any():
        raise InvalidInput("pixels on the table", pixels.tolist(), "lines of sight that come down to it")
    return np.asarray(eye[:2] + rays[:, :2] * ((height - eye[2]) / rays[:, 2:]))
