"""Mixing data sets: shares are exact, every clip has its turn, and a row's number alone says what it shows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from vap_sim.errors import InvalidInput
from vap_sim.training.mixing import BLOCK, Mixture, quotas, shares


def test_shares_follow_the_cube_root_of_the_sizes() -> None:
    assert shares([8, 1]) == pytest.approx([2 / 3, 1 / 3])
    assert shares([1000, 125, 8]) == pytest.approx(np.array([10, 5, 2]) / 17)
    assert shares([7]) == pytest.approx([1.0])


@pytest.mark.parametrize(("power", "expected"), [(1.0, [0.9, 0.1]), (0.0, [0.5, 0.5])])
def test_the_ends_of_tempering_take_clips_or_sets_alike(power: float, expected: list[float]) -> None:
    assert shares([900, 100], power) == pytest.approx(expected)


@pytest.mark.parametrize("rows", [1, 7, 10, 1000])
def test_quotas_give_away_every_row_and_are_a_row_off_at_most(rows: int) -> None:
    share = shares([1000, 125, 8, 3])
    given = quotas(share, rows)
    assert given.sum() == rows and (np.abs(given - share * rows) < 1).all()


def test_every_block_of_rows_has_the_exact_quota_of_each_set() -> None:
    mixture = Mixture((1000, 125, 8), seed=3)
    assert mixture.quota == tuple(quotas(shares([1000, 125, 8]), BLOCK)) and sum(mixture.quota) == BLOCK
    for block in range(3):
        counts = Counter(mixture.pick(row)[0] for row in range(block * BLOCK, (block + 1) * BLOCK))
        assert tuple(counts[one] for one in range(3)) == mixture.quota


def test_every_clip_comes_once_before_any_comes_again() -> None:
    mixture = Mixture((27, 8), seed=1)
    seen: dict[int, list[int]] = {0: [], 1: []}
    for row in range(2 * BLOCK):
        which, clip = mixture.pick(row)
        seen[which].append(clip)
    for which, size in enumerate(mixture.sizes):
        for start in range(0, len(seen[which]) - size, size):
            assert sorted(seen[which][start : start + size]) == list(range(size))
    assert seen[0][:27] != seen[0][27:54]  # in another order each time


def test_a_row_shows_the_same_in_any_order_of_asking_and_another_by_another_seed() -> None:
    mixture = Mixture((50, 9), seed=4)
    forward = [mixture.pick(row) for row in range(40)]
    assert [Mixture((50, 9), seed=4).pick(row) for row in reversed(range(40))] == forward[::-1]
    assert [Mixture((50, 9), seed=5).pick(row) for row in range(40)] != forward


def test_no_set_is_forgotten() -> None:
    mixture = Mixture((10**5, 1), power=1.0)
    assert mixture.quota == (BLOCK - 1, 1)
    assert 1 in {mixture.pick(row)[0] for row in range(BLOCK)}


@pytest.mark.parametrize(
    ("sizes", "power", "words"),
    [
        ((), 0.5, r"sizes of the data sets: given \[\]"),
        ((3, 0), 0.5, r"sizes of the data sets: given \[3, 0\]"),
        ((3,), 1.5, r"power that tempers the sizes of data sets: given 1\.5"),
        ((1,) * (BLOCK + 1), 0.5, f"data sets to mix: given {BLOCK + 1}, expected at most {BLOCK}"),
    ],
)
def test_impossible_mixtures_are_refused(sizes: tuple[int, ...], power: float, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        Mixture(sizes, power)
