"""Several data sets in one training: how often each is looked at, exactly, and which of its clips a row shows.

Rows of a whole run are numbered. What a row shows follows from its number and a seed alone, so a run can be killed,
gone on with, or split over processes without a record of what was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput

TEMPER = 1 / 3
"""By the cube root of their sizes, a set eight times as large is looked at twice as often."""
BLOCK = 1000
"""Rows in which every set has its share to the nearest row."""


def shares(sizes: Sequence[int], power: float = TEMPER) -> NDArray[np.float64]:
    """The share of each data set, (S,), in proportion to size to this power: 1 takes clips alike, 0 sets alike.

    Raises InvalidInput for no sets, an empty one, or a power outside 0 .. 1.
    """
    if not sizes or min(sizes) < 1:
        raise InvalidInput("sizes of the data sets", list(sizes), "at least one set, of 1 clip or more each")
    if not 0 <= power <= 1:
        raise InvalidInput("power that tempers the sizes of data sets", power, "a number from 0 to 1")
    weights = np.asarray(sizes, np.float64) ** power
    return np.asarray(weights / weights.sum(), np.float64)


def quotas(share: NDArray[np.float64], rows: int) -> NDArray[np.int64]:
    """How many of so many rows each set gets, (S,): its share to the nearest row, and all rows together."""
    exact = share * rows
    given = np.floor(exact).astype(np.int64)
    # The rows left go to the largest remainders; among equals to the first.
    given[np.argsort(given - exact, kind="stable")[: rows - int(given.sum())]] += 1
    return given


@dataclass(frozen=True)
class Mixture:
    """Which clip each row of a run shows.

    sizes: clips in each data set; power: as in `shares`; seed: of the order. In each block of `BLOCK` rows every set
    has exactly its quota, in an order of chance; within a set every clip comes once before any comes again. A set too
    small for one row in a block still gets one, so that none is forgotten. Raises InvalidInput.
    """

    sizes: tuple[int, ...]
    power: float = TEMPER
    seed: int = 0
    quota: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        given = quotas(shares(self.sizes, self.power), BLOCK)
        if len(given) > BLOCK:
            raise InvalidInput("data sets to mix", len(given), f"at most {BLOCK}")
        while (given == 0).any():
            given[given.argmax()] -= 1
            given[given.argmin()] += 1
        object.__setattr__(self, "quota", tuple(int(count) for count in given))

    def pick(self, row: int) -> tuple[int, int]:
        """The data set and the clip in it that row `row` = 0, 1, ... shows."""
        block, place = divmod(row, BLOCK)
        which, turn = _block(self, block)
        chosen = int(which[place])
        epoch, index = divmod(block * self.quota[chosen] + int(turn[place]), self.sizes[chosen])
        return chosen, int(_order(self.sizes[chosen], self.seed, chosen, epoch)[index])


@lru_cache(maxsize=8)
def _block(mixture: Mixture, block: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The set of each row of a block, and how many rows of the block that set had before it; (BLOCK,) each."""
    rng = np.random.default_rng([mixture.seed, 1, block])
    which = rng.permutation(np.repeat(np.arange(len(mixture.quota)), mixture.quota))
    turn = np.zeros(BLOCK, np.int64)
    for one, count in enumerate(mixture.quota):
        turn[which == one] = np.arange(count)
    return which, turn


@lru_cache(maxsize=64)
def _order(size: int, seed: int, which: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 2, which, epoch]).permutation(size)
