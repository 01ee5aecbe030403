"""Keyed noise: a function of seed, draw and stream alone, and normal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from vap_sim.errors import InvalidInput
from vap_sim.noise import row_keys, standard_normals


def draw(seeds: list[int], draws: list[int], *shape: int, stream: int = 0) -> torch.Tensor:
    return standard_normals(torch.tensor(seeds), torch.tensor(draws), shape, stream=stream)


@pytest.mark.parametrize("rows", [1, 2, 17, 64])
def test_a_row_alone_equals_the_row_in_any_batch(rows: int) -> None:
    seeds = [(7 * row) % 5 - 2 for row in range(rows)]
    draws = [row // 3 for row in range(rows)]
    together = draw(seeds, draws, 3, 5, 7)
    assert together.shape == (rows, 3, 5, 7) and together.dtype == torch.float32
    for row in range(rows):
        assert torch.equal(draw([seeds[row]], [draws[row]], 3, 5, 7)[0], together[row])


def test_every_key_draw_and_stream_is_another_noise() -> None:
    keys = [(s, d, n) for s in (0, 1, -1, 2**40, -(2**63), 2**63 - 1) for d in (0, 1, 2**40) for n in (0, 1, 2**64 - 1)]
    noise = torch.stack([draw([s], [d], 4000, stream=n)[0] for s, d, n in keys]).double()
    correlation = torch.corrcoef(noise) - torch.eye(len(keys))
    assert float(correlation.abs().max()) < 0.08  # five standard deviations of chance


def test_streams_of_one_draw_do_not_overlap() -> None:
    first, second = (set(draw([1], [1], 4000, stream=stream)[0].tolist()) for stream in (0, 1))
    assert len(first & second) < 100


def test_neighbouring_rows_and_steps_are_independent() -> None:
    field = draw([seed for seed in range(64) for _ in range(64)], list(range(64)) * 64, 16).view(64, 64, 16).double()
    for axis in range(3):
        shifted = field.narrow(axis, 1, field.shape[axis] - 1) * field.narrow(axis, 0, field.shape[axis] - 1)
        assert abs(float(shifted.mean())) < 5 / shifted.numel() ** 0.5


def test_numbers_are_standard_normal() -> None:
    values = draw([3], [4], 400_000)[0].double()
    shares = [float((values < level).double().mean()) for level in (-2.0, -1.0, 0.0, 1.0, 2.0)]
    wanted = torch.special.ndtr(torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])).tolist()
    assert shares == pytest.approx(wanted, abs=0.004)
    moments = [float((values**power).mean()) for power in (1, 2, 3, 4)]
    assert moments == pytest.approx([0, 1, 0, 3], abs=0.05)


def test_saved_dreams_go_on_with_the_noise_they_began_with() -> None:
    began_with = [-0.7869162559509277, -0.5405169129371643, -1.2440627813339233]
    assert draw([11], [2], 3).tolist() == [began_with]


def test_no_global_generator_is_moved() -> None:
    before = torch.get_rng_state()
    draw([5], [5], 100)
    assert torch.equal(torch.get_rng_state(), before)


def test_keys_from_seeds() -> None:
    seeds = [3, -1, 2**62]
    array = np.array(seeds)
    for given in (seeds, tuple(seeds), torch.tensor(seeds), array, list(array)):
        keys = row_keys(given, 3)  # type: ignore[arg-type]
        assert keys.dtype == torch.int64 and keys.tolist() == [3, -1, 2**62]
    assert row_keys(torch.tensor([1, 2], dtype=torch.uint8), 2).dtype == torch.int64
    mine = torch.tensor([1, 2])
    row_keys(mine, 2).add_(1)
    assert mine.tolist() == [1, 2]


KEY = torch.arange(2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: row_keys([1, 2, 3], 2), r"seed: given \[1, 2, 3\], expected 2 integers"),
        (lambda: row_keys(5, 1), "seed: given 5, expected 1 integers"),  # type: ignore[arg-type]
        (lambda: row_keys("12", 2), "seed: given 12"),  # type: ignore[arg-type]
        (lambda: row_keys([1, 2.0], 2), "seed: given 2.0"),  # type: ignore[list-item]
        (lambda: row_keys([1, True], 2), "seed: given True"),
        (lambda: row_keys([2**63, 1], 2), "seed: given 9223372036854775808"),
        (lambda: row_keys(torch.zeros(2), 2), r"seed: given torch.float32 \(2,\)"),
        (lambda: row_keys(torch.zeros(2) > 1, 2), r"seed: given torch.bool \(2,\)"),
        (lambda: row_keys(KEY, 3), r"seed: given torch.int64 \(2,\), expected 3"),
        (lambda: standard_normals(KEY.int(), KEY, (1,)), r"key: given torch.int32 \(2,\)"),
        (lambda: standard_normals(KEY[None], KEY, (1,)), r"key: given torch.int64 \(1, 2\)"),
        (lambda: standard_normals(KEY, KEY[:1], (1,)), r"draw: given torch.int64 \(1,\), expected torch.int64 \(2,\)"),
        (lambda: standard_normals(KEY, KEY.float(), (1,)), "draw: given torch.float32"),
        (lambda: standard_normals(KEY, KEY, (1,), stream=-1), "stream: given -1"),
        (lambda: standard_normals(KEY, KEY, (1,), stream=2**64), "stream: given 18446744073709551616"),
    ],
)
def test_errors(make: Callable[[], object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        make()
