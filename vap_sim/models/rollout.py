"""The boundary and the loop that all world models share: checks of what comes in, and many steps as one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.models.protocol import Rollout, WorldModel, WorldModelSpec
from vap_sim.noise import row_keys
from vap_sim.prompts.visual_prompt import BONE, VisualPrompt
from vap_sim.state import WorldState


def check_frames(frames: Tensor, spec: WorldModelSpec) -> None:
    """Raises InvalidInput unless frames are uint8 (b, V, H, W, 3) with the spec's views and size, b >= 1."""
    width, height = spec.size
    expected = (spec.views, height, width, 3)
    if frames.dtype != torch.uint8:
        raise InvalidInput(f"frames for world {spec.name!r}", frames.dtype, f"torch.uint8 {('b', *expected)}")
    if frames.ndim != 5 or frames.shape[1:] != expected or len(frames) == 0:
        given = tuple(frames.shape)
        raise InvalidInput(f"frames for world {spec.name!r}", given, f"(b, V, H, W, 3) = {('b', *expected)}, b >= 1")


def check_prompt(prompt: VisualPrompt, spec: WorldModelSpec, *, rows: int, pixel_frames: int) -> None:
    """Raises InvalidInput unless the prompt has that many rows and pixel frames, the spec's views and size, projections
    where the world must know its cameras, tool and bones where it must know those."""
    width, height = spec.size
    shape = prompt.skeleton.shape
    if shape[0] != rows:
        raise InvalidInput(f"prompt for world {spec.name!r}", f"{shape[0]} rows", f"{rows} rows")
    if shape[1] != spec.views:
        raise InvalidInput(f"prompt for world {spec.name!r}", f"{shape[1]} views", f"{spec.views} views")
    if shape[2] != pixel_frames:
        raise InvalidInput(f"prompt for world {spec.name!r}", f"{shape[2]} pixel frames", f"{pixel_frames}")
    if shape[3] != height or shape[4] != width:
        raise InvalidInput(f"prompt for world {spec.name!r}", f"size {prompt.size}", f"(width, height) = {spec.size}")
    if spec.reads_cameras and prompt.projections is None:
        expected = f"projections {tuple(shape[:3])} + (3, 4): it must know where its {spec.views} cameras are"
        raise InvalidInput(f"prompt for world {spec.name!r}", "no projections", expected)
    if spec.reads_tool and prompt.tool is None:
        expected = f"tool {(shape[0], shape[2])} + (4, 4): it must know where things that are held go"
        raise InvalidInput(f"prompt for world {spec.name!r}", "no tool", expected)
    if spec.reads_bones and prompt.bones is None:
        expected = f"bones {(shape[0], shape[2])} + (B, {BONE}): it must know what the robot touches"
        raise InvalidInput(f"prompt for world {spec.name!r}", "no bones", expected)


def check_state(state: WorldState, spec: WorldModelSpec) -> None:
    """Raises InvalidInput for a state that another model wrote: its context means something else there."""
    if state.model != spec.fingerprint:
        expected = f"one that this model encoded ({spec.fingerprint!r})"
        raise InvalidInput(f"state for world {spec.name!r}", f"a state of model {state.model!r}", expected)


def start_keys(rows: int, seed: Sequence[int] | Tensor, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """The counters a dream begins with: step (rows,) of zeros, and keys (rows,) from one seed a row."""
    return torch.zeros(rows, dtype=torch.int64, device=device), row_keys(seed, rows, device)


def imagine(
    model: WorldModel,
    state: WorldState,
    prompts: VisualPrompt,
    *,
    decode: bool = True,
    advance: Callable[[WorldState, VisualPrompt], WorldState] | None = None,
) -> Rollout:
    """`WorldModel.imagine` by repeated steps; `advance`: the model's step without frames, used where none are wanted.

    Raises InvalidInput for a state of another model, and for prompts that are no whole number of steps.
    """
    spec = model.spec
    check_state(state, spec)
    each = spec.frames_per_step
    total = prompts.pixel_frames
    if total == 0 or total % each:
        expected = f"a multiple of {each} (frames per step), at least one step"
        raise InvalidInput(f"prompts for world {spec.name!r}", f"{total} pixel frames", expected)
    check_prompt(prompts, spec, rows=state.rows, pixel_frames=total)
    if not decode and advance is not None:
        for first in range(0, total, each):
            state = advance(state, prompts.between(first, first + each))
        return Rollout(state, None)
    film = None
    for first in range(0, total, each):
        state, frames = model.step(state, prompts.between(first, first + each))
        if decode:
            film = frames.new_empty((*frames.shape[:2], total, *frames.shape[3:])) if film is None else film
            film[:, :, first : first + each] = frames
    return Rollout(state, film)
