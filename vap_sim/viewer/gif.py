"""Writing GIFs: one palette for a whole film, found in its own pictures, and an ordered dither that does not crawl."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput

Picture = NDArray[np.uint8]
_COLORS, _SAMPLES = 255, 20_000
_LEVELS = 5  # bits a channel of the table from colors to the palette
_BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) / 16 - 0.47
_SPREAD = 10.0  # grey levels that the dither moves a color at most


def write_gif(path: Path, frames: Callable[[], Iterable[Picture]], frame_rate: float, width: int | None = None) -> int:
    """Write pictures (H, W, 3) uint8 as a GIF that repeats; returns their number. It appears whole or not at all.

    Args:
        path: where to; its name ends in .gif. frames: called twice, for the palette and for the pictures, which must
            be the same. frame_rate: [Hz], 0.1 to 50, told in hundredths of a second. width: pictures are shrunk to
            it [px].

    Raises:
        InvalidInput: no frames, frames of another type or of different sizes, an impossible rate, name or width.
    """
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise InvalidInput("GIF file", path.name, "a name that ends in .gif")
    if not 0.1 <= frame_rate <= 50:
        raise InvalidInput("frame rate of a GIF", frame_rate, "0.1 to 50 Hz")
    if width is not None and width < 16:
        raise InvalidInput("width of a GIF", width, "16 pixels or more")
    palette, size = _palette(frames(), width)
    table, colors = _table(palette), _argb(palette)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.stem + ".partial" + path.suffix)
    count = 0
    try:
        with av.open(str(partial), "w", format="gif", options={"loop": "0"}) as container:
            stream = container.add_stream("gif", rate=Fraction(frame_rate).limit_denominator(1000))
            stream.width, stream.height, stream.pix_fmt = size[0], size[1], "pal8"
            for picture in frames():
                indexed = _indexed(_shrunk(_checked(picture), width, size), table)
                # Its types do not know that this format takes two arrays.
                frame = av.VideoFrame.from_ndarray((indexed, colors), format="pal8")  # type: ignore[arg-type]
                frame.pts = count
                container.mux(stream.encode(frame))
                count += 1
            container.mux(stream.encode())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def _palette(frames: Iterable[Picture], width: int | None) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Colors (n, 3) that the pictures' own are nearest to, and the size (width, height) of the GIF."""
    samples: list[NDArray[np.uint8]] = []
    size: tuple[int, int] | None = None
    for picture in frames:
        _checked(picture)
        if size is None:
            size = _size(picture, width)
        small = _shrunk(picture, width, size)
        samples.append(small[::7, ::7].reshape(-1, 3))
    if size is None:
        raise InvalidInput("GIF", "no frames", "at least one")
    every = np.concatenate(samples)
    # By lot, but by the same one every time: equal films make equal files.
    chosen = every[np.random.default_rng(0).permutation(len(every))[:_SAMPLES]]
    distinct = np.unique(chosen, axis=0)
    if len(distinct) <= _COLORS:
        return distinct, size
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 12, 1.0)
    _, _, centers = cv2.kmeans(chosen.astype(np.float32), _COLORS, None, stop, 1, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]
    return np.asarray(centers.round().clip(0, 255), np.uint8), size


def _size(picture: Picture, width: int | None) -> tuple[int, int]:
    high, wide = picture.shape[:2]
    if width is None or width >= wide:
        return wide, high
    return width, max(1, round(high * width / wide))


def _shrunk(picture: Picture, width: int | None, size: tuple[int, int]) -> Picture:
    if _size(picture, width) != size:
        raise InvalidInput("frame of a GIF", f"(height, width) {picture.shape[:2]}", "one size for all")
    if picture.shape[1::-1] == size:
        return picture
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _checked(picture: Picture) -> Picture:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InvalidInput("frame of a GIF", f"{picture.dtype} {picture.shape}", "uint8 (H, W, 3)")
    return picture


def _table(palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The nearest palette entry of every color of a coarse grid, (32, 32, 32)."""
    steps = 1 << _LEVELS
    centers = (np.arange(steps) + 0.5) * (256 / steps)
    grid = np.stack(np.meshgrid(centers, centers, centers, indexing="ij"), axis=-1).reshape(-1, 3)
    colors = palette.astype(np.float64)
    nearest = [((part[:, None] - colors[None]) ** 2).sum(-1).argmin(1) for part in np.array_split(grid, 16)]
    return np.concatenate(nearest).astype(np.uint8).reshape(steps, steps, steps)


def _argb(palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The palette as the encoder wants it: (256, 4) of alpha, red, green, blue; entries left over are black."""
    out = np.zeros((256, 4), np.uint8)
    out[:, 0] = 255
    out[: len(palette), 1:] = palette
    return out


def _indexed(picture: Picture, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    high, wide = picture.shape[:2]
    dither = np.tile(_BAYER, (-(-high // 4), -(-wide // 4)))[:high, :wide, None] * _SPREAD
    bins = np.clip(picture + dither, 0, 255).astype(np.uint8) >> (8 - _LEVELS)
    return np.ascontiguousarray(table[bins[..., 0], bins[..., 1], bins[..., 2]])
