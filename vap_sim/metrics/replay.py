"""The recorded actions, dreamt: from a recording's first picture on, and how true to the recording the dream stays.

Three figures of each step. PSNR of the whole picture; PSNR on the pixels that have changed since the first picture,
beside what repeating that picture would earn; and agreement, whether the robot in the dream stands where the joints
say, beside the same of the recording, which is the most that can be asked for, and of the first picture repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.data.fitted_view import FittedView
from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.metrics.detector import ROBOT, Detector
from vap_sim.metrics.fidelity import copy_first_frame, moving_pixels, psnr
from vap_sim.metrics.masks import Scores, scores
from vap_sim.models.protocol import WorldModel
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.robots.camera import Camera
from vap_sim.state import WorldState

SIGNALS: Mapping[str, str] = {"doubt": "dream_doubt", "drift": "dream_drift", "risk": "dream_risk"}
"""What a meter tells besides agreement, by the figure's name: see `docs/environments.md`."""


class Told(Protocol):
    """What a meter knows of dreams at one moment."""

    def told(self, row: int) -> dict[str, float]:
        """The signals of one dream that exist, by name."""
        ...


class Meter(Protocol):
    """What watches a dream and tells after every step how far to believe it, as the environments' trust meter does."""

    def begin(
        self, world: WorldState, frames: NDArray[np.uint8], joints: NDArray[np.float32], cameras: Sequence[Camera]
    ) -> Any:
        """At the first pictures (1, V, H, W, 3), of poses (1, J): what `step` goes on from, which is `Told`."""
        ...

    def step(
        self,
        old: Any,
        before: WorldState,
        after: WorldState,
        prompt: VisualPrompt,
        frames: NDArray[np.uint8],
        joints: NDArray[np.float32],
        cameras: Sequence[Camera],
    ) -> Any:
        """After the world's step from `before` to `after`, whose last pictures are `frames`."""
        ...


@dataclass(frozen=True, eq=False)
class Replay:
    """A view and its dream. recorded and dreamt (T + 1, H, W, 3) uint8, of which frame 0 is given; skeletons (T + 1, H,
    W, 3) uint8; expected (T + 1, H, W) bool: the robot's silhouette at the prompts; kept (T + 1,) bool: which frames
    can be judged. first: the view's frame that the dream begins with. told: what a meter told of each of the T + 1
    frames, nothing of frames within a step; empty without a meter."""

    view: FittedView
    first: int
    recorded: Tensor
    dreamt: Tensor
    skeletons: Tensor
    expected: Tensor
    kept: Tensor
    told: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True, eq=False)
class ReplayFigures:
    """Scores (T) of steps 1 to T, undefined where the recording's frame was not kept. moving: PSNR on moving pixels;
    copy: that of the first frame repeated; gain: the one less the other [dB]; agreement of the dream, of the recording
    and of the first frame repeated, from 0 to 1, None without a detector; doubt, drift and risk: what a meter told,
    None without one and where it never told it."""

    psnr: Scores
    moving: Scores
    copy: Scores
    gain: Scores
    agreement: Scores | None = None
    agreement_recorded: Scores | None = None
    agreement_copy: Scores | None = None
    doubt: Scores | None = None
    drift: Scores | None = None
    risk: Scores | None = None

    def means(self) -> dict[str, float | None]:
        """The mean of each over the steps at which it is defined; None where it never is or was not asked for."""
        return {
            name: float(found.values[found.defined].mean()) if found is not None and bool(found.defined.any()) else None
            for name, found in vars(self).items()
        }

    def steps(self) -> list[dict[str, float | None]]:
        """Each step's figures, None where undefined."""
        every = {name: found for name, found in vars(self).items() if found is not None}
        return [
            {name: float(found.values[step]) if bool(found.defined[step]) else None for name, found in every.items()}
            for step in range(len(self.psnr.values))
        ]


def replay(
    world: WorldModel, view: FittedView, *, steps: int | None = None, seed: int = 0, meter: Meter | None = None
) -> Replay:
    """Dream a view's joints from its first kept frame on, for `steps` frames or to its end, watched by `meter`.

    The world is told nothing but that frame and the prompts. Raises Unsupported for a world of several views,
    InvalidInput for pictures of another size than the world's, a clip without a kept frame and one without a second.
    """
    spec = world.spec
    if spec.views != 1:
        raise Unsupported(f"a replay dreams one view; world {spec.name!r} has {spec.views}")
    height, width = view.frames.shape[1:3]
    if (width, height) != tuple(spec.size):
        raise InvalidInput(f"pictures of clip {view.clip!r}", (width, height), f"{spec.size}, as the world's")
    if not view.kept.any():
        raise InvalidInput(f"clip {view.clip!r}, view {view.view!r}", "no kept frame", "one to begin with")
    first = int(view.kept.argmax())
    count = view.length - 1 - first if steps is None else min(steps, view.length - 1 - first)
    if count < 1:
        given = f"{view.length - first} frames from the first kept one on, {steps} steps asked for"
        raise InvalidInput(f"clip {view.clip!r}, view {view.view!r}", given, "at least one step")
    part = slice(first, first + count + 1)
    recorded, skeletons = (torch.from_numpy(values[part]) for values in (view.frames, view.skeletons))
    joints = torch.from_numpy(view.joints[part])
    # A last step that makes more frames than are left is told the last pose for the rest.
    rest = -count % spec.frames_per_step
    told, poses = _longer(skeletons, rest), _longer(joints, rest)
    seen, tool, bones = (
        None if values is None else _longer(torch.from_numpy(values[part]), rest)[None]
        for values in (view.projections, view.tool, view.bones)
    )
    seen = None if seen is None else seen[None]
    prompts = VisualPrompt(told[None, None], poses[None], projections=seen, tool=tool, bones=bones)
    state = world.encode(recorded[None, None, 0], prompts.between(0, 1), [seed])
    signs: tuple[Mapping[str, float], ...] = ()
    if meter is None:
        frames = world.imagine(state, prompts.between(1, prompts.pixel_frames)).frames
        assert frames is not None
    else:
        frames, signs = _watched(world, state, prompts, recorded, view.camera, meter)
    dreamt = torch.cat([recorded[:1], frames[0, 0, :count].cpu()])
    expected, kept = (torch.from_numpy(np.ascontiguousarray(values[part])) for values in (view.expected, view.kept))
    return Replay(view, first, recorded, dreamt, skeletons, expected, kept, signs[: count + 1])


def _longer(values: Tensor, rest: int) -> Tensor:
    """Values (T, ...) and the last of them `rest` times more."""
    return torch.cat([values, values[-1:].expand(rest, *values.shape[1:])])


def _watched(
    world: WorldModel, state: WorldState, prompts: VisualPrompt, recorded: Tensor, camera: Camera, meter: Meter
) -> tuple[Tensor, tuple[Mapping[str, float], ...]]:
    """The frames (1, 1, T, H, W, 3) of a dream, step by step, and what the meter told of each and of the first one."""
    cameras, joints = [Camera.batch([camera])], prompts.joints
    assert joints is not None
    poses = joints[0].numpy()
    seen: Any = meter.begin(state, recorded[None, None, 0].numpy(), poses[:1], cameras)
    told: list[Mapping[str, float]] = [seen.told(0)]
    film, each = [], world.spec.frames_per_step
    for first in range(1, prompts.pixel_frames, each):
        prompt = prompts.between(first, first + each)
        after, frames = world.step(state, prompt)
        last = first + each - 1
        seen = meter.step(seen, state, after, prompt, frames[:, :, -1].cpu().numpy(), poses[last : last + 1], cameras)
        told += [{}] * (each - 1) + [seen.told(0)]
        film.append(frames)
        state = after
    return torch.cat(film, dim=2), tuple(told)


def judge(replayed: Replay, detector: Detector | None = None, recorded_robot: Tensor | None = None) -> ReplayFigures:
    """The figures of a replay; `detector` finds the robot in pictures of this station, without it there is no
    agreement. recorded_robot (T + 1, H, W) bool: what it found in the recording, where that is known already."""
    truth, dreamt, kept = replayed.recorded, replayed.dreamt, replayed.kept[1:]
    still = copy_first_frame(truth).contiguous()
    moved = moving_pixels(truth)
    moving, copy = (psnr(generated=frames, truth=truth, where=moved) for frames in (dreamt, still))
    found = ReplayFigures(
        psnr=_where(psnr(generated=dreamt, truth=truth), kept),
        moving=_where(moving, kept),
        copy=_where(copy, kept),
        gain=_where(scores("gain", moving.values - copy.values, moving.defined & copy.defined), kept),
    )
    more: dict[str, Scores] = signals(replayed)
    if detector is not None:
        here = found_robot(detector, dreamt)
        there = found_robot(detector, truth) if recorded_robot is None else recorded_robot
        masks = {"agreement": here, "agreement_recorded": there, "agreement_copy": there[:1].expand_as(there)}
        more |= {name: _where(overlap(mask, replayed.expected), kept) for name, mask in masks.items()}
    return ReplayFigures(found.psnr, found.moving, found.copy, found.gain, **more)


def found_robot(detector: Detector, frames: Tensor) -> Tensor:
    """Where a detector sees the robot in pictures (T + 1, H, W, 3) uint8: (T + 1, H, W) bool."""
    return detector.labels(frames).cpu() == ROBOT


def signals(replayed: Replay) -> dict[str, Scores]:
    """What a meter told of steps 1 to T, by figure, without those that it never told."""
    out = {}
    for figure, signal in SIGNALS.items():
        values = torch.tensor([told.get(signal, np.nan) for told in replayed.told[1:]], dtype=torch.float64)
        if bool(values.isfinite().any()):
            out[figure] = scores(figure, values, values.isfinite())
    return out


def stride_of(frame_rate: float, world_rate: float) -> int:
    """Every how many frames of a recording a world's frame is. Raises InvalidInput for a recording that is too slow."""
    stride = round(frame_rate / world_rate)
    if stride < 1 or abs(frame_rate / stride / world_rate - 1) > 0.25:
        expected = f"about {world_rate:g} Hz, the world's, or a multiple"
        raise InvalidInput("frame rate of a recording", f"{frame_rate:g} Hz", expected)
    return stride


def overlap(found: Tensor, expected: Tensor) -> Scores:
    """Pixels in both over pixels in either, of frames 1 to T of masks (T + 1, H, W); undefined where both are empty."""
    here, there = found[1:], expected[1:]
    shared, united = (here & there).sum((-2, -1)).double(), (here | there).sum((-2, -1)).double()
    return scores("agreement", shared / united.clamp_min(1), united > 0)


def _where(found: Scores, kept: Tensor) -> Scores:
    return scores(found.what, found.values, found.defined & kept)


def pooled(figures: list[ReplayFigures], name: str) -> NDArray[np.float64]:
    """One figure of several replays, each replay's mean over its steps (n,), without those that have none."""
    means = (one.means()[name] for one in figures)
    return np.array([value for value in means if value is not None], np.float64)
