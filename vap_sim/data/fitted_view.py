"""One camera's part of a prepared clip at the size of a world model's pictures, with its prompts drawn.

Pictures are stretched to the size that is asked for, whatever their shape, and cameras and alignments with them: points
in space still fall on what they are, and nothing at the edges is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.data.prepared import PreparedClip
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.prompts.silhouette import silhouettes
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot

ALIGNMENTS = ("each", "first", "none")
"""Which homographies prompts are drawn through: each frame's own; the first kept frame's, which is all that is known
before a dream begins; or none, the camera's word alone."""
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class FittedView:
    """T frames of one camera, W x H pixels.

    frames and skeletons (T, H, W, 3) uint8: what was seen, and the prompts; robot (T, H, W) uint8: share of a pixel
    that the robot covers, by its geometry and the clip's own alignment; expected (T, H, W) bool: the robot's silhouette
    where the prompts have it; kept (T,) bool; joints (T, J) float32 [rad or m]; camera: at this size; moved (T, 3, 3)
    float32: the homographies that prompts were drawn through, pixels to pixels at this size; projections (T, 3, 4)
    float32, tool (T, 4, 4) and bones (T, B, 8) float32: as in `VisualPrompt`, where the prompts' form has them.
    """

    clip: str
    view: str
    frames: Pixels
    skeletons: Pixels
    robot: Pixels
    expected: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    joints: NDArray[np.float32]
    camera: Camera
    moved: NDArray[np.float32]
    frame_rate: float
    projections: NDArray[np.float32] | None = None
    tool: NDArray[np.float32] | None = None
    bones: NDArray[np.float32] | None = None

    @property
    def length(self) -> int:
        """The number of frames T."""
        return len(self.frames)


def fit_view(
    clip: PreparedClip,
    view: int,
    size: tuple[int, int],
    profile_name: str,
    *,
    alignment: str = "each",
    stride: int = 1,
    model: RobotModel | None = None,
) -> FittedView:
    """View number `view` of a clip at `size` (width, height), every `stride`-th frame from the first on.

    model: the clip's robot, for one that is not on the shelf. Raises UnknownName for a profile or alignment that there
    is not, InvalidInput for a view that the clip lacks, a stride below 1, and a clip of which alignment `first` finds
    no kept frame.
    """
    if alignment not in ALIGNMENTS:
        raise UnknownName("alignment of prompts", alignment, ALIGNMENTS)
    if not 0 <= view < len(clip.cameras) or stride < 1:
        given = f"view {view}, stride {stride}"
        raise InvalidInput(f"view of clip {clip.name!r}", given, f"0 to {len(clip.cameras) - 1}, 1 or more")
    camera = clip.cameras[view].resized(size)
    joints = np.ascontiguousarray(clip.joints[::stride], np.float32)
    kept = np.ascontiguousarray(clip.kept[view, ::stride])
    moved = _chosen(clip, _moved(clip, view, size)[::stride], kept, alignment)
    model = load_robot(clip.robot_name) if model is None else model
    q = torch.from_numpy(joints)[None]
    prompt = Prompter(model, profile(profile_name), size).draw(q, [camera], torch.from_numpy(moved)[None, None])
    return FittedView(
        clip=clip.name,
        view=camera.name,
        frames=_stretched(clip.frames[view, ::stride], size),
        skeletons=prompt.skeleton[0, 0].numpy(),
        robot=_stretched(clip.robot[view, ::stride], size),
        expected=_warped(silhouettes(model, q, [camera])[0, 0].numpy(), moved),
        kept=kept,
        joints=joints,
        camera=camera,
        moved=moved,
        frame_rate=clip.frame_rate / stride,
        projections=None if prompt.projections is None else prompt.projections[0, 0].numpy(),
        tool=None if prompt.tool is None else prompt.tool[0].numpy(),
        bones=None if prompt.bones is None else prompt.bones[0].numpy(),
    )


def standing_views(clip: PreparedClip) -> tuple[int, ...]:
    """The views of cameras that stand still in the robot's base frame."""
    return tuple(number for number, camera in enumerate(clip.cameras) if camera.parent_link is None)


def _moved(clip: PreparedClip, view: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """Homographies (T, 3, 3) between pixels of the clip as homographies between pixels of another size."""
    sx, sy = size[0] / clip.size[0], size[1] / clip.size[1]
    # As `Camera.resized`: picture edges stay in place, pixel centres do not.
    scale = np.array([[sx, 0.0, (sx - 1) / 2], [0.0, sy, (sy - 1) / 2], [0.0, 0.0, 1.0]])
    moved: NDArray[np.float64] = scale @ clip.homographies[view].astype(np.float64) @ np.linalg.inv(scale)
    return moved.astype(np.float32)


def _chosen(
    clip: PreparedClip, moved: NDArray[np.float32], kept: NDArray[np.bool_], alignment: str
) -> NDArray[np.float32]:
    if alignment == "each":
        return np.ascontiguousarray(moved)
    if alignment == "none":
        return np.repeat(np.eye(3, dtype=np.float32)[None], len(moved), axis=0)
    if not kept.any():
        raise InvalidInput(f"clip {clip.name!r}", "no kept frame", "at least one, whose alignment is the first")
    return np.repeat(moved[int(kept.argmax())][None], len(moved), axis=0)


def _stretched(pictures: Pixels, size: tuple[int, int]) -> Pixels:
    """Pictures (T, H, W, ...) at another size, by areas where they shrink."""
    if pictures.shape[1:3] == size[::-1]:
        return np.ascontiguousarray(pictures)
    smaller = size[0] <= pictures.shape[2] and size[1] <= pictures.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.stack([cv2.resize(np.ascontiguousarray(one), size, interpolation=how) for one in pictures])


def _warped(masks: NDArray[np.bool_], moved: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Masks (T, H, W) each through its homography."""
    size, still = (masks.shape[2], masks.shape[1]), np.eye(3, dtype=np.float32)
    out = [
        one if np.array_equal(matrix, still) else cv2.warpPerspective(one, matrix, size, flags=cv2.INTER_NEAREST)
        for one, matrix in zip(masks.astype(np.uint8), moved.astype(np.float64), strict=True)
    ]
    return np.stack(out).astype(bool)
