"""What shall happen in an episode, as a video of it or by the name of a learned motion, for worlds that take either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from vap_sim.errors import BadFile, InvalidInput, UnknownName, Unsupported
from vap_sim.models.checkpoint import load_tensors, save_tensors
from vap_sim.models.protocol import WorldModel, WorldModelSpec
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt
from vap_sim.state import WorldState

DemonstrationLike = ReferenceClip | str | Path | ArrayLike | Mapping[str, Any]
FILE = "demonstration.safetensors"
_FIELDS = ("video", "caption")
_FORMAT = 1


def resolve_demonstration(value: DemonstrationLike) -> ReferenceClip:
    """The demonstration, one row, that an argument means.

    value: a video's path; its frames (T, H, W, 3) uint8 RGB; {"video": one of these, "caption": what it shows}; or a
    `ReferenceClip` of one row, which may hold several videos of one action. Raises InvalidInput, UnknownName for a
    field that does not exist, and BadFile for a video that cannot be read.
    """
    if isinstance(value, ReferenceClip):
        if len(value.frames) != 1:
            raise InvalidInput("demonstration", f"a clip of {len(value.frames)} rows", "one row; index(rows) chooses")
        return value
    if not isinstance(value, Mapping):
        return ReferenceClip(_frames(value)[None])
    for name in value:
        if name not in _FIELDS:
            raise UnknownName("field of a demonstration", name, _FIELDS)
    if "video" not in value:
        raise InvalidInput("demonstration", sorted(value), "also 'video', a path or frames (T, H, W, 3)")
    caption = value.get("caption")
    if caption is not None and not isinstance(caption, str):
        raise InvalidInput("caption of a demonstration", caption, "a text, what the video shows")
    return ReferenceClip(_frames(value["video"])[None], None if caption is None else (caption,))


def _frames(video: str | Path | ArrayLike) -> torch.Tensor:
    if isinstance(video, str | Path):
        from vap_sim.data.video_file import read_video

        return read_video(video)
    pixels = np.asarray(video)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3:
        expected = "uint8 (T, H, W, 3) RGB, levels 0..255, or the path of a video"
        raise InvalidInput("demonstration", f"{pixels.dtype} {pixels.shape}", expected)
    return torch.from_numpy(np.array(pixels))


def joined(clips: Sequence[ReferenceClip | None], spec: WorldModelSpec) -> ReferenceClip | None:
    """One demonstration a row as a clip of all rows, None where no row has one.

    Raises Unsupported for a world that cannot be shown any, InvalidInput where rows differ in what they have.
    """
    given = [clip for clip in clips if clip is not None]
    if not given:
        return None
    if not spec.reads_reference:
        raise Unsupported(
            f"world {spec.name!r} cannot be shown a demonstration; a CogVideoX world can, with one of the conditioners "
            "action_prism and video_as_prompt, and a compact one that was loaded with `demonstration`"
        )
    shapes = {tuple(tuple(one.frames.shape[1:]) for one in clip.each) for clip in given}
    told = {tuple(one.text is not None for one in clip.each) for clip in given}
    if len(given) < len(clips) or len(shapes) > 1 or len(told) > 1:
        have = [None if clip is None else [tuple(one.frames.shape[1:]) for one in clip.each] for clip in clips]
        expected = "as many videos a row, of the same length and size (T, H, W, 3), all with captions or none"
        raise InvalidInput("demonstrations of the rows", have, expected)
    each = [_stacked([clip.each[number] for clip in given]) for number in range(len(given[0].each))]
    return replace(each[0], more=tuple(each[1:]))


def _stacked(clips: Sequence[ReferenceClip]) -> ReferenceClip:
    texts = [clip.text[0] for clip in clips if clip.text is not None]
    return ReferenceClip(torch.cat([clip.frames for clip in clips]), tuple(texts) or None)


def motion_names(value: str | Sequence[str]) -> tuple[str, ...]:
    """The names of learned motions that an argument means: one, or several that are told at once.

    Raises InvalidInput for what is no name or is said twice.
    """
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else (None,)
    if len(set(map(repr, names))) < len(names) or not all(isinstance(name, str) and name for name in names):
        raise InvalidInput("motion", value, "the name of a learned motion, or several that differ")
    return tuple(str(name) for name in names)


def begin_dreams(
    world: WorldModel,
    frames: torch.Tensor,
    prompt: VisualPrompt,
    keys: Sequence[int],
    motions: Sequence[tuple[str, ...]],
) -> WorldState:
    """`world.encode` with motions that are told row by row; a prompt names its own for all its rows.

    Raises Unsupported for a world that has learned none, and UnknownName for one that it has not learned.
    """
    for name in dict.fromkeys(name for names in motions for name in names):
        if not world.spec.motions:
            raise Unsupported(
                f"world {world.spec.name!r} has learned no motion that could be told by the name {name!r}; a CogVideoX "
                "world can, with the conditioner flexiact"
            )
        if name not in world.spec.motions:
            raise UnknownName("learned motion", name, world.spec.motions)
    if len(set(motions)) == 1:
        return world.encode(frames, replace(prompt, motion=motions[0]), keys)
    groups = [[row for row, own in enumerate(motions) if own == names] for names in dict.fromkeys(motions)]
    begun = [
        world.encode(frames[rows], replace(prompt.index(rows), motion=motions[rows[0]]), [keys[row] for row in rows])
        for rows in groups
    ]
    order = torch.tensor([row for rows in groups for row in rows]).argsort()
    return WorldState.cat(begun).index(order)


def save_demonstration(folder: Path, clip: ReferenceClip | None) -> None:
    """Keep a demonstration of one row in a folder, bit for bit; with None, an older one goes. Raises OSError."""
    if clip is None:
        (folder / FILE).unlink(missing_ok=True)
        return
    tensors = {f"video_{number}": one.frames[0] for number, one in enumerate(clip.each)}
    captions = [None if one.text is None else one.text[0] for one in clip.each]
    save_tensors(folder / FILE, tensors, {"demonstration": _FORMAT, "captions": captions})


def load_demonstration(folder: Path) -> ReferenceClip | None:
    """What `save_demonstration` kept in the folder, None where it kept nothing. Raises BadFile."""
    path = folder / FILE
    if not path.is_file():
        return None
    tensors, header = load_tensors(path)
    names = [f"video_{number}" for number in range(len(tensors))]
    captions: Any = header.get("captions")
    whole = isinstance(captions, list) and len(captions) == len(names) > 0 and sorted(tensors) == sorted(names)
    if header.get("demonstration") != _FORMAT or not whole:
        raise BadFile(path, f"holds no demonstration of format {_FORMAT}")
    try:
        clips = [
            ReferenceClip(tensors[name][None], None if caption is None else (caption,))
            for name, caption in zip(names, captions, strict=True)
        ]
    except InvalidInput as error:
        raise BadFile(path, str(error)) from error
    return replace(clips[0], more=tuple(clips[1:]))
