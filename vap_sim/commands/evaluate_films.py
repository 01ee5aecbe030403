"""Videos of trials of an evaluation: the dream beside the reference, from the same start, played once more."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from vap_sim.metrics.trials import TrialTable
    from vap_sim.policies.evaluate import Arena, Evaluation, Starts

_FRAME_RATE = 5.0  # [Hz]
_HEIGHT, _GAP = 256, 8  # [px]: small pictures are enlarged to about this height
_SIDES = ("dream", "reference")


def filmed(
    out: Path,
    evaluation: Evaluation,
    arenas: Mapping[str, Arena],
    tables: Mapping[str, TrialTable],
    starts: Starts,
    chosen: Sequence[tuple[str, str, int]],
) -> dict[str, TrialTable]:
    """The tables of dream and reference with videos of the chosen trials (policy, task, seed), worst first.

    Both sides of a trial name one file, which shows them side by side. A trial that ends otherwise when it is played
    again, as one of a policy on a network may, is told in its note. Raises what `play` raises, and OSError.
    """
    from vap_sim.metrics.trials import TrialKey, TrialTable
    from vap_sim.policies.episodes import play

    found = {side: {one.key: one for one in tables[side]} for side in _SIDES}
    for number, (policy, task, seed) in enumerate(chosen, start=1):
        films, name = [], re.sub(r"[^\w.=+-]", "_", policy)[:60]
        video = f"videos/{number}_{task}_{seed}_{name}.mp4"
        for side in _SIDES:
            (job,) = evaluation.jobs([TrialKey(arenas[side].env_id, policy, task, seed)], starts, arenas[side])
            (played,) = play(job)
            films.append(played.frames)
            before = found[side][played.trial.key]
            again = (played.trial.steps, played.trial.verdict) == (before.steps, before.verdict)
            note = before.note if again else f"{before.note} played again, it ended otherwise".strip()
            found[side][before.key] = replace(before, video=video, note=note)
        _write(out / video, films)
    return {side: TrialTable(tuple(found[side].values()), tables[side].about, out) for side in _SIDES}


def side_by_side(films: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Films (n, H, W, 3) of any sizes as one (N, H', W', 3) with even sides; one that ended earlier stands still."""
    longest, tallest = (max(film.shape[axis] for film in films) for axis in (0, 1))
    scale = max(1, _HEIGHT // tallest)
    tallest += tallest * scale % 2
    parts: list[NDArray[Any]] = []
    for film in films:
        wide = film.shape[2] * scale % 2
        padding = ((0, longest - len(film)), (0, 0), (0, 0), (0, 0))
        still = np.pad(film, padding, mode="edge")
        whole = np.pad(still, ((0, 0), (0, tallest - film.shape[1]), (0, wide), (0, 0)))
        parts += [np.zeros((longest, tallest * scale, _GAP, 3), np.uint8), whole.repeat(scale, 1).repeat(scale, 2)]
    return np.concatenate(parts[1:], axis=2)


def _write(path: Path, films: Sequence[NDArray[np.uint8]]) -> None:
    from vap_sim.viewer.video import write_mp4

    write_mp4(path, side_by_side(films), _FRAME_RATE)
