"""Statistics of an episode's features as LeRobot keeps them, and their union over a dataset.

Every feature has min, max, mean, std, count and five quantiles; pictures have them by channel, as shares of white, from
some of the frames (github.com/huggingface/lerobot, `src/lerobot/datasets/compute_stats.py`). Quantiles here are exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES: Mapping[str, float] = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
STATISTICS = ("min", "max", "mean", "std", "count", *QUANTILES)
_FEWEST, _MOST = 100, 10_000
_LARGE, _SMALL = 300, 150

Array = NDArray[np.float64]
Stats = dict[str, Array]


def number_stats(values: NDArray[Any]) -> Stats:
    """Of rows (T, n) of numbers: each (n,), the count (1,)."""
    rows = values.astype(np.float64)
    found = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    found["count"] = np.array([len(rows)])
    return found | dict(zip(QUANTILES, np.quantile(rows, list(QUANTILES.values()), axis=0), strict=True))


def sampled(length: int) -> frozenset[int]:
    """The frames of an episode whose pictures are counted."""
    wanted = max(min(_FEWEST, length), min(int(length**0.75), _MOST))
    return frozenset(np.linspace(0, length - 1, wanted).round().astype(int).tolist())


class PictureStats:
    """Counts how often each of 256 values occurs, so that any number of pictures takes the memory of one."""

    def __init__(self) -> None:
        self._counts = np.zeros((3, 256), np.int64)
        self._pictures = 0

    def add(self, picture: NDArray[np.uint8]) -> None:
        """One picture (H, W, 3); of a large one, some rows and columns."""
        longest = max(picture.shape[:2])
        step = longest // _SMALL if longest >= _LARGE else 1
        for channel in range(3):
            self._counts[channel] += np.bincount(picture[::step, ::step, channel].ravel(), minlength=256)
        self._pictures += 1

    def result(self) -> Stats:
        """Of all pictures so far, by channel: each (3, 1, 1) in [0, 1], the count of pictures (1,)."""
        values, share = np.arange(256) / 255, self._counts / self._counts.sum(1, keepdims=True)
        seen = share > 0
        mean = share @ values
        found = {
            "min": values[seen.argmax(1)],
            "max": values[255 - seen[:, ::-1].argmax(1)],
            "mean": mean,
            "std": np.sqrt(((values - mean[:, None]) ** 2 * share).sum(1)),
        }
        below = share.cumsum(1)
        for name, quantile in QUANTILES.items():
            found[name] = values[(below >= quantile - 1e-12).argmax(1)]
        stats = {name: value.reshape(3, 1, 1) for name, value in found.items()}
        return stats | {"count": np.array([self._pictures])}


def union(parts: Iterable[Stats]) -> Stats:
    """Statistics of everything together. Quantiles are bounds, the lowest of the lower and the highest of the upper,
    for those of parts do not give those of the whole."""
    total: Stats = {}
    for part in parts:
        total = part if not total else _joined(total, part)
    return total


def _joined(a: Stats, b: Stats) -> Stats:
    count = a["count"] + b["count"]
    share = b["count"] / count
    step = b["mean"] - a["mean"]
    mean = a["mean"] + step * share
    variance = a["std"] ** 2 * (1 - share) + b["std"] ** 2 * share + step**2 * share * (1 - share)
    found = {"min": np.minimum(a["min"], b["min"]), "max": np.maximum(a["max"], b["max"]), "mean": mean}
    found |= {"std": np.sqrt(variance), "count": count}
    for name, quantile in QUANTILES.items():
        found[name] = (np.minimum if quantile <= 0.5 else np.maximum)(a[name], b[name])
    return found
