"""How far a set of generated clips is from a set of true ones: FVD with I3D, a video-feature distance with all else."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.metrics.extractors import Extractor, I3d
from vap_sim.metrics.frechet import frechet_distance, jackknife
from vap_sim.metrics.report import Clips, Figure, NetworkCard, known_measure

USUAL_CLIPS, USUAL_FRAMES = 2048, 16
"""How many clips and frames FVD is mostly told of; other numbers are noted in the figure."""
_ALIKE = ("judged", "width", "height", "frame_rate", "preprocessing")


@dataclass(frozen=True, eq=False)
class ClipFeatures:
    """Features (n, D) float64 of n clips, by which network, and whether it is that of FVD."""

    values: Tensor
    clips: Clips
    card: NetworkCard
    fvd: bool


def clip_features(extractor: Extractor, frames: Tensor, *, clips: Clips, at_once: int = 8) -> ClipFeatures:
    """The features of clips uint8 (n, T, H, W, 3), without the first `clips.given` frames, `at_once` clips at a time.

    Large sets: call it for parts and join them by `together`. Raises InvalidInput where frames and `clips` disagree.
    """
    expected = (clips.number, clips.frames, clips.height, clips.width, 3)
    if tuple(frames.shape) != expected:
        raise InvalidInput("frames", tuple(frames.shape), f"{expected}, as the record of clips says")
    judged = frames[:, clips.given :]
    parts = [extractor(judged[i : i + at_once]) for i in range(0, len(judged), at_once)]
    return ClipFeatures(torch.cat(parts), clips, extractor.card, isinstance(extractor, I3d))


def together(*parts: ClipFeatures) -> ClipFeatures:
    """Features of parts of one set as those of the whole. Raises InvalidInput where network or kind of clips differ."""
    if not parts:
        raise InvalidInput("parts", "none", "at least one")
    first = parts[0]
    for part in parts[1:]:
        _check_alike("parts", first, part)
    seeds = tuple(seed for part in parts for seed in part.clips.seeds)
    number = sum(part.clips.number for part in parts)
    if len(seeds) not in (0, number):
        seeds = tuple(dict.fromkeys(seeds))
    record = Clips(
        source=_one_of({part.clips.source for part in parts}),
        camera=_one_of({part.clips.camera for part in parts}),
        number=number,
        frames=first.clips.frames,
        given=first.clips.given,
        width=first.clips.width,
        height=first.clips.height,
        frame_rate=first.clips.frame_rate,
        preprocessing=first.clips.preprocessing,
        seeds=seeds,
    )
    return ClipFeatures(torch.cat([part.values for part in parts]), record, first.card, first.fvd)


def video_distance(*, generated: ClipFeatures, truth: ClipFeatures, few: bool = False) -> Figure:
    """The Frechet distance of two sets of clips: "fvd" if the features are those of `I3d`, else another measure's name.

    few: take fewer clips than the features are long, see `frechet_distance`; the figure says so. The order of clips
    matters to the interval alone. Raises InvalidInput where the sets differ in network, size, frames, rate or
    preprocessing, and for too few clips.
    """
    _check_alike("sets of clips", generated, truth)
    found = frechet_distance(generated=generated.values, truth=truth.values, few=few)
    interval = jackknife(generated=generated.values, truth=truth.values, few=few)
    least = min(found.generated, found.truth)
    notes = []
    if least <= found.dimension:
        notes.append(f"{least} clips for features of length {found.dimension}: biased upwards, not comparable")
    if generated.fvd and least != USUAL_CLIPS:
        notes.append(f"{USUAL_CLIPS} clips are usual; the distance falls as their number grows")
    if generated.fvd and generated.clips.judged != USUAL_FRAMES:
        notes.append(f"{USUAL_FRAMES} frames are usual, these clips have {generated.clips.judged}")
    return Figure(
        measure=known_measure("fvd" if generated.fvd else "video_feature_distance"),
        value=found.value,
        interval=interval,
        clips=generated.clips,
        values=found.generated,
        networks=(generated.card,),
        reference=truth.clips,
        no_interval="" if interval else "too few clips to leave some out",
        notes=tuple(notes),
    )


def _check_alike(what: str, a: ClipFeatures, b: ClipFeatures) -> None:
    if a.card != b.card:
        raise InvalidInput(what, f"features of {a.card} and {b.card}", "one network")
    for name in _ALIKE:
        here, there = getattr(a.clips, name), getattr(b.clips, name)
        if here != there:
            raise InvalidInput(what, f"{name} {here} and {there}", "equal ones")


def _one_of(words: set[str]) -> str:
    return " + ".join(sorted(words))
