"""Padding: proportions stay, the rest is black, and grey levels are those of openpi's own client."""

from __future__ import annotations

import numpy as np
import pytest

from vap_sim.errors import InvalidInput
from vap_sim.policies.padding import resize_with_pad, resized


def pictures(height: int, width: int, rows: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(128, 128), (192, 320), (320, 192), (720, 1280), (100, 37), (224, 100), (300, 301)])
def test_equals_pillow_within_one_grey_level(size: tuple[int, int]) -> None:
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    given = pictures(*size, rows=1)
    ratio = max(size[1] / 224, size[0] / 224)
    inner = int(size[0] / ratio), int(size[1] / ratio)
    black = image.new("RGB", (224, 224), 0)
    small = image.fromarray(given[0]).resize((inner[1], inner[0]), resample=image.Resampling.BILINEAR)
    black.paste(small, (int((224 - inner[1]) / 2), int((224 - inner[0]) / 2)))
    ours = resize_with_pad(given, 224, 224)[0].astype(int)
    assert np.abs(ours - np.asarray(black)).max() <= 1


def test_proportions_and_black_bars() -> None:
    out = resize_with_pad(np.full((1, 100, 200, 3), 200, np.uint8), 224, 224)[0]
    rows = np.flatnonzero(out.max(axis=(1, 2)))
    assert (rows[0], rows[-1]) == (56, 167) and (out[56:168] == 200).all()


def test_rows_alone_and_sizes_that_fit() -> None:
    given = pictures(90, 120, 3)
    together = resize_with_pad(given, 64, 64)
    assert all(np.array_equal(resize_with_pad(given[k : k + 1], 64, 64)[0], together[k]) for k in range(3))
    same = resize_with_pad(given, 90, 120)
    assert np.array_equal(same, given) and not np.shares_memory(same, given)
    assert resized(given[:0], 10, 10).shape == (0, 10, 10, 3)


@pytest.mark.parametrize(
    "given", [np.zeros((2, 3, 3), np.uint8), np.zeros((1, 4, 4, 4), np.uint8), np.zeros((1, 4, 4, 3), np.float32)]
)
def test_other_pictures_are_refused(given: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="pictures to pad"):
        resize_with_pad(given, 8, 8)
