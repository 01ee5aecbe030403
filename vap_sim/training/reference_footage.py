"""Footage of labelled actions: a film of one action, what it is called, and where it was taken; in memory or in a file.

A file `NAME.footage.safetensors` holds the frames as one PNG picture of all of them, one below the other, and the
nominal joints, if they are known; its description holds the rest. Nothing is lost and nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from vap_sim.errors import BadFile, InvalidInput, VAPSimError
from vap_sim.models.checkpoint import load_tensors, save_tensors
from vap_sim.robots.camera import Camera

SUFFIX = ".footage.safetensors"
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Footage:
    """One action on film. frames: (T, H, W, 3) uint8; label: the action's class; source: of the scene, equal for
    films that show the same things at the same place, of which none may demonstrate the other; caption: what is seen;
    frame_rate [Hz]; joints: nominal (T, J) float32 [rad], and camera, or None where they are not known.

    Raises InvalidInput.
    """

    frames: Tensor
    label: str
    source: str
    caption: str
    frame_rate: float
    joints: Tensor | None = None
    camera: Camera | None = None

    def __post_init__(self) -> None:
        frames = self.frames
        if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) < 2:
            given = f"{frames.dtype} {tuple(frames.shape)}"
            raise InvalidInput("frames of footage", given, "torch.uint8 (T, H, W, 3), 2 frames or more")
        if not self.label or not self.source:
            raise InvalidInput("label and source of footage", (self.label, self.source), "words")
        if not 0 < self.frame_rate < float("inf"):
            raise InvalidInput("frame rate of footage", self.frame_rate, "a positive number of frames a second")
        if self.joints is not None and (self.joints.ndim != 2 or len(self.joints) != len(frames)):
            raise InvalidInput("joints of footage", tuple(self.joints.shape), f"({len(frames)}, J)")

    def shown(self, frames: int, size: tuple[int, int]) -> Tensor:
        """So many frames, evenly over the film, at (width, height): (frames, H, W, 3) uint8."""
        return resized(self.frames[torch.from_numpy(evenly(len(self.frames), frames))], size)


def evenly(length: int, frames: int) -> np.ndarray:
    """Which of `length` frames show the film evenly, from its first to its last: (frames,) int64, rising or equal.

    Raises InvalidInput for a film of less than two frames, which shows no action.
    """
    if length < 2 or frames < 2:
        raise InvalidInput("frames of a film and of what it is shown in", (length, frames), "2 or more each")
    return np.round(np.linspace(0, length - 1, frames)).astype(np.int64)


def resized(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames (T, H, W, 3) uint8 at (width, height), bilinear, of areas where it shrinks; as they are where it fits."""
    if (frames.shape[2], frames.shape[1]) == tuple(size):
        return frames
    way = cv2.INTER_AREA if size[0] < frames.shape[2] and size[1] < frames.shape[1] else cv2.INTER_LINEAR
    return torch.from_numpy(np.stack([cv2.resize(frame, size, interpolation=way) for frame in frames.numpy()]))


def packed(frames: Tensor) -> Tensor:
    """Frames (T, H, W, 3) uint8 as the bytes of one PNG file."""
    done, content = cv2.imencode(".png", np.ascontiguousarray(frames.numpy().reshape(-1, *frames.shape[2:])))
    if not done:
        raise InvalidInput("frames to pack", tuple(frames.shape), "pictures that fit into one PNG file")
    return torch.from_numpy(content.reshape(-1))


def unpacked(content: Tensor, frames: int) -> Tensor:
    """The inverse of `packed`. Raises ValueError for damaged contents."""
    picture = cv2.imdecode(content.numpy(), cv2.IMREAD_COLOR)
    if picture is None or frames < 1 or len(picture) % frames:
        raise ValueError(f"no picture of {frames} frames")
    return torch.from_numpy(picture.reshape(frames, -1, *picture.shape[1:]))


def save_footage(path: Path, footage: Footage) -> Path:
    """Write a file that is whole or not there. Raises OSError."""
    tensors = {"film": packed(footage.frames)}
    if footage.joints is not None:
        tensors["joints"] = footage.joints.float().contiguous()
    about = {
        "footage": _FORMAT,
        "frames": len(footage.frames),
        "label": footage.label,
        "source": footage.source,
        "caption": footage.caption,
        "frame_rate": footage.frame_rate,
        "camera": None if footage.camera is None else footage.camera.to_dict(),
    }
    save_tensors(Path(path), tensors, about)
    return Path(path)


def load_footage(path: Path) -> Footage:
    """Read a file of `save_footage`. Raises BadFile."""
    tensors, about = load_tensors(Path(path))
    if about.get("footage") != _FORMAT:
        raise BadFile(path, f"is no footage of format {_FORMAT}")
    try:
        return _read(tensors, about)
    except (VAPSimError, KeyError, TypeError, ValueError, cv2.error) as error:
        raise BadFile(path, f"is no whole footage ({error!r})") from error


def footage_files(folder: Path) -> list[Path]:
    """All footage below a folder, in name order. Raises BadFile where there is none."""
    files = sorted(Path(folder).rglob(f"*{SUFFIX}"))
    if not files:
        raise BadFile(folder, f"no footage (*{SUFFIX})")
    return files


def _read(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Footage:
    camera = about["camera"]
    return Footage(
        unpacked(tensors["film"], int(about["frames"])),
        str(about["label"]),
        str(about["source"]),
        str(about["caption"]),
        float(about["frame_rate"]),
        tensors.get("joints"),
        None if camera is None else Camera.from_dict(camera),
    )
