"""A learned matcher: EfficientLoFTR (arXiv 2403.04765) from a local folder, with plain or with MatchAnything's weights.

MatchAnything (arXiv 2501.07556), which the paper's robot pipeline uses, is this network trained on pairs of unlike
pictures, such as a rendering and a photograph. Nothing is downloaded: the folder holds what transformers'
`save_pretrained` writes, `config.json` and `model.safetensors`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.errors import BadFile, MissingDependency
from vap_sim.extraction.alignment_pictures import PictureFit, whole
from vap_sim.extraction.matching import Array, DrawnRobot, Matches, move_points

_KIND = "efficientloftr"
_CELL = 32  # the network's coarsest cells: sides of its pictures are whole numbers of them
_LONGER = 640  # it was trained on pictures of about this length
_SURE = 0.2  # the network's own bound for a match


@dataclass(frozen=True, eq=False)
class LoftrMatcher:
    """Matches the rendered robot with pictures by a network, transformers' EfficientLoFTRForKeypointMatching.

    longer: the pictures' longer side, as the network sees them [px].
    """

    network: Any
    longer: int = _LONGER
    name: str = "loftr"

    @classmethod
    def load(cls, folder: Path | str) -> LoftrMatcher:
        """The matcher with the weights in a folder. Raises BadFile, and MissingDependency without transformers."""
        folder = Path(folder)
        try:
            kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
        except (OSError, ValueError, AttributeError) as error:
            raise BadFile(folder, f"has no config.json that can be read ({error}); nothing is downloaded") from error
        if kind != _KIND:
            raise BadFile(folder / "config.json", f"model_type is {kind!r}, expected {_KIND!r}")
        if not (folder / "model.safetensors").is_file():
            raise BadFile(folder, "has no model.safetensors")
        try:
            from transformers import EfficientLoFTRForKeypointMatching
        except ImportError as error:
            raise MissingDependency("transformers", "cogvideox", "The matcher 'outline' does without.") from error
        try:
            network, told = EfficientLoFTRForKeypointMatching.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        except Exception as error:  # damaged weights raise a different type for every way a file can be damaged
            raise BadFile(folder, f"its weights cannot be loaded ({type(error).__name__}: {error})") from error
        absent = sorted(told["missing_keys"])
        if absent:
            raise BadFile(folder / "model.safetensors", f"lacks {len(absent)} tensors, the first {absent[0]!r}")
        return cls(network.eval())

    def begin(self, pictures: NDArray[np.uint8], robot: DrawnRobot) -> LoftrInClip:
        """See `Matcher`."""
        size = pictures.shape[2], pictures.shape[1]
        scale = self.longer / max(size)
        inner = tuple(max(_CELL, _CELL * round(side * scale / _CELL)) for side in size)
        return LoftrInClip(self.network, pictures, robot, whole(size, (inner[0], inner[1])))


@dataclass(frozen=True, eq=False)
class LoftrInClip:
    """The network, the pictures of a clip and the robot drawn for them."""

    network: Any
    pictures: NDArray[np.uint8]
    robot: DrawnRobot
    inner: PictureFit

    def match(self, frame: int, homography: Array) -> Matches:
        """See `ClipMatcher`. The rendering is moved first, so that the two look as alike as may be."""
        size = self.robot.camera.size
        drawn = cv2.warpPerspective(self.robot.picture(frame), homography, size, flags=cv2.INTER_LINEAR)
        pair = [self._grey(np.asarray(drawn, np.uint8)), self._grey(self.pictures[frame])]
        values = torch.from_numpy(np.stack(pair)[None, :, None].astype(np.float32) / 255)
        with torch.no_grad():
            found = self.network(values)
        known = (found.matches[0] > -1).all(0) & (found.matching_scores[0] > _SURE).all(0)
        sides = np.array(self.inner.size, np.float64)
        places = found.keypoints[0][:, known].double().numpy() * sides
        back, undo = (np.asarray(np.linalg.inv(m), np.float64) for m in (self.inner.matrix, homography))
        first, second = (move_points(points, back) for points in places)
        return Matches(move_points(first, undo), second, found.matching_scores[0, 0][known].double().numpy())

    def _grey(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(cv2.cvtColor(self.inner.picture(picture), cv2.COLOR_RGB2GRAY), np.uint8)
