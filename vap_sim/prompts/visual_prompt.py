"""What a world model is told about an action: the drawn prompt and its optional companions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput

BONE = 8
"""Numbers of a bone in space: where it begins and ends, x, y, z in the base frame [m], the radius of the limb around it
[m], and 1 for a gripper's, 0 for an arm's."""


@dataclass(frozen=True, eq=False)
class ReferenceClip:
    """A demonstration video and, if known, what it shows.

    frames: (b, T, H, W, 3) uint8, T pixel frames of the demonstration; text: one caption a row, or None; more: other
    demonstrations of the same, each of b rows, for models that watch several. Raises InvalidInput.
    """

    frames: Tensor
    text: tuple[str, ...] | None = None
    more: tuple[ReferenceClip, ...] = ()

    def __post_init__(self) -> None:
        _check_pictures("ReferenceClip.frames", self.frames, "(b, T, H, W, 3)")
        _check_texts("ReferenceClip.text", self.text, self.frames.shape[0])
        for other in self.more:
            if len(other.frames) != len(self.frames) or other.more:
                given = f"{len(other.frames)} rows and {len(other.more)} more of its own"
                raise InvalidInput(
                    "ReferenceClip.more", given, f"clips of {len(self.frames)} rows with none of their own"
                )

    @property
    def each(self) -> tuple[ReferenceClip, ...]:
        """All demonstrations one by one, this one first."""
        return (replace(self, more=()), *self.more)

    def index(self, rows: Tensor | Sequence[int] | slice) -> ReferenceClip:
        """The chosen rows, in the order given."""
        chosen = _row_numbers(rows, self.frames.shape[0])
        more = tuple(other.index(chosen) for other in self.more)
        return ReferenceClip(self.frames[chosen.to(self.frames.device)], _pick(self.text, chosen), more)

    def to(self, device: torch.device | str) -> ReferenceClip:
        """The same clip with its frames on `device`."""
        return replace(self, frames=self.frames.to(device), more=tuple(other.to(device) for other in self.more))


@dataclass(frozen=True, eq=False)
class VisualPrompt:
    """Everything a world model may be told about the action; b rows, V views, F pixel frames to be made.

    skeleton: (b, V, F, H, W, 3) uint8 RGB, the drawn prompt of any form: a skeleton, or a mesh, depth, or black where
    the action is told otherwise; joints: (b, F, J) floats in radians or metres, or None;
    reference: a demonstration of b rows, or None; motion: names of learned motion embeddings, shared by all rows;
    text: one caption a row, or None; projections: (b, V, F, 3, 4) float32, what takes points of the base frame [m] to
    pixels times depth in each view and frame, for worlds that must know where their cameras are
    (`WorldModelSpec.reads_cameras`), or None; tool: (b, F, 4, 4) float32, the pose of the robot's tool in the base
    frame [m], for worlds that must know where it takes what it holds (`WorldModelSpec.reads_tool`), or None; bones: (b,
    F, B, BONE) float32, the drawn skeleton in space, for worlds that must know what it touches
    (`WorldModelSpec.reads_bones`), or None. Raises InvalidInput where the parts disagree.
    """

    skeleton: Tensor
    joints: Tensor | None = None
    reference: ReferenceClip | None = None
    motion: tuple[str, ...] = ()
    text: tuple[str, ...] | None = None
    projections: Tensor | None = None
    tool: Tensor | None = None
    bones: Tensor | None = None

    def __post_init__(self) -> None:
        _check_pictures("VisualPrompt.skeleton", self.skeleton, "(b, V, F, H, W, 3)")
        lead = self.skeleton.shape[:3]
        b, _, pixel_frames = lead
        joints, reference = self.joints, self.reference
        if joints is not None:
            fits = joints.ndim == 3 and joints.shape[:2] == (b, pixel_frames) and joints.is_floating_point()
            if not fits:
                given = f"{joints.dtype} {tuple(joints.shape)}"
                raise InvalidInput("VisualPrompt.joints", given, f"floats of shape ({b}, {pixel_frames}, J)")
        if reference is not None and reference.frames.shape[0] != b:
            raise InvalidInput("VisualPrompt.reference", f"{reference.frames.shape[0]} rows", f"{b} rows")
        _check_texts("VisualPrompt.text", self.text, b)
        seen = self.projections
        if seen is not None and (seen.shape != (*lead, 3, 4) or seen.dtype != torch.float32):
            given = f"{seen.dtype} {tuple(seen.shape)}"
            raise InvalidInput("VisualPrompt.projections", given, f"torch.float32 {(*lead, 3, 4)}")
        tool = self.tool
        if tool is not None and (tool.shape != (b, pixel_frames, 4, 4) or tool.dtype != torch.float32):
            given = f"{tool.dtype} {tuple(tool.shape)}"
            raise InvalidInput("VisualPrompt.tool", given, f"torch.float32 {(b, pixel_frames, 4, 4)}")
        bones = self.bones
        if bones is not None:
            fits = bones.ndim == 4 and bones.shape[:2] == (b, pixel_frames) and bones.shape[3] == BONE
            if not fits or bones.dtype != torch.float32:
                given = f"{bones.dtype} {tuple(bones.shape)}"
                raise InvalidInput("VisualPrompt.bones", given, f"torch.float32 ({b}, {pixel_frames}, B, {BONE})")

    def __len__(self) -> int:
        """The number of rows b."""
        return int(self.skeleton.shape[0])

    @property
    def views(self) -> int:
        """The number of cameras V."""
        return int(self.skeleton.shape[1])

    @property
    def pixel_frames(self) -> int:
        """The number of pixel frames F that the prompt describes."""
        return int(self.skeleton.shape[2])

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return int(self.skeleton.shape[4]), int(self.skeleton.shape[3])

    def index(self, rows: Tensor | Sequence[int] | slice) -> VisualPrompt:
        """The chosen rows, in the order given: numbers, a slice, or a boolean mask of length b."""
        chosen = _row_numbers(rows, len(self))
        return replace(
            self,
            skeleton=self.skeleton[chosen.to(self.skeleton.device)],
            joints=None if self.joints is None else self.joints[chosen.to(self.joints.device)],
            reference=None if self.reference is None else self.reference.index(chosen),
            text=_pick(self.text, chosen),
            projections=None if self.projections is None else self.projections[chosen.to(self.projections.device)],
            tool=None if self.tool is None else self.tool[chosen.to(self.tool.device)],
            bones=None if self.bones is None else self.bones[chosen.to(self.bones.device)],
        )

    def between(self, first: int, last: int) -> VisualPrompt:
        """Pixel frames first..last-1; the demonstration and the texts stay. Raises InvalidInput outside 0..F."""
        if not 0 <= first < last <= self.pixel_frames:
            raise InvalidInput("pixel frames", f"{first}..{last}", f"0 <= first < last <= {self.pixel_frames}")
        joints = None if self.joints is None else self.joints[:, first:last]
        seen = None if self.projections is None else self.projections[:, :, first:last]
        return replace(
            self,
            skeleton=self.skeleton[:, :, first:last],
            joints=joints,
            projections=seen,
            tool=None if self.tool is None else self.tool[:, first:last],
            bones=None if self.bones is None else self.bones[:, first:last],
        )

    def to(self, device: torch.device | str) -> VisualPrompt:
        """The same prompt with its tensors on `device`."""
        return replace(
            self,
            skeleton=self.skeleton.to(device),
            joints=None if self.joints is None else self.joints.to(device),
            reference=None if self.reference is None else self.reference.to(device),
            projections=None if self.projections is None else self.projections.to(device),
            tool=None if self.tool is None else self.tool.to(device),
            bones=None if self.bones is None else self.bones.to(device),
        )

    @staticmethod
    def cat(prompts: Sequence[VisualPrompt]) -> VisualPrompt:
        """The rows of all prompts in one; they must have the same fields filled, the same sizes and motions."""
        if not prompts:
            raise InvalidInput("prompts to join", "none", "at least one")
        first = prompts[0]
        for other in prompts[1:]:
            if _signature(other) != _signature(first):
                raise InvalidInput("prompts to join", _signature(other), f"the same as the first: {_signature(first)}")
        joints = [prompt.joints for prompt in prompts if prompt.joints is not None]
        clips = [prompt.reference for prompt in prompts if prompt.reference is not None]
        seen = [prompt.projections for prompt in prompts if prompt.projections is not None]
        tools = [prompt.tool for prompt in prompts if prompt.tool is not None]
        bones = [prompt.bones for prompt in prompts if prompt.bones is not None]
        return replace(
            first,
            skeleton=torch.cat([prompt.skeleton for prompt in prompts]),
            joints=torch.cat(joints) if joints else None,
            reference=_join_clips(clips),
            text=_join([prompt.text for prompt in prompts]),
            projections=torch.cat(seen) if seen else None,
            tool=torch.cat(tools) if tools else None,
            bones=torch.cat(bones) if bones else None,
        )


def _signature(prompt: VisualPrompt) -> str:
    """What two prompts must share to be joined row by row."""
    joints = "no joints" if prompt.joints is None else f"{prompt.joints.shape[-1]} joints"
    clip = "no reference"
    if prompt.reference is not None:
        clip = " and ".join(
            f"reference {tuple(one.frames.shape[1:])} {'without' if one.text is None else 'with'} text"
            for one in prompt.reference.each
        )
    text = "no text" if prompt.text is None else "text"
    seen = "no projections" if prompt.projections is None else "projections"
    tool = "no tool" if prompt.tool is None else "tool"
    bones = "no bones" if prompt.bones is None else f"{prompt.bones.shape[2]} bones"
    pictures = f"skeleton {tuple(prompt.skeleton.shape[1:])}"
    return f"{pictures}, {joints}, {clip}, motion {prompt.motion}, {seen}, {tool}, {bones}, {text}"


def _row_numbers(rows: Tensor | Sequence[int] | slice, count: int) -> Tensor:
    if isinstance(rows, slice):
        return torch.arange(count)[rows]
    return torch.arange(count)[torch.as_tensor(rows).cpu()].reshape(-1)


def _pick(texts: tuple[str, ...] | None, rows: Tensor) -> tuple[str, ...] | None:
    return None if texts is None else tuple(texts[row] for row in rows.tolist())


def _join(parts: Sequence[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    texts = tuple(text for part in parts if part is not None for text in part)
    return texts or None


def _join_clips(clips: Sequence[ReferenceClip]) -> ReferenceClip | None:
    """The rows of all demonstrations in one; they have equally many more."""
    if not clips:
        return None
    joined = [
        ReferenceClip(torch.cat([one.frames for one in same]), _join([one.text for one in same]))
        for same in zip(*(clip.each for clip in clips), strict=True)
    ]
    return replace(joined[0], more=tuple(joined[1:]))


def _check_pictures(what: str, pictures: Tensor, shape: str) -> None:
    rank = shape.count(",") + 1
    if pictures.dtype != torch.uint8 or pictures.ndim != rank or pictures.shape[-1] != 3:
        raise InvalidInput(what, f"{pictures.dtype} {tuple(pictures.shape)}", f"torch.uint8 {shape}")


def _check_texts(what: str, texts: tuple[str, ...] | None, rows: int) -> None:
    if texts is not None and (isinstance(texts, str) or len(texts) != rows):
        given = repr(texts) if isinstance(texts, str) else f"{len(texts)} texts"
        raise InvalidInput(what, given, f"a tuple of {rows} texts, one a row")
