"""GIFs: what was written can be read back in near enough the same colors, and appears whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from tests.viewer.test_video import smooth
from vap_sim.errors import InvalidInput
from vap_sim.viewer.gif import write_gif


def read(path: Path) -> tuple[list[np.ndarray], float]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return frames, float(stream.average_rate or 0)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    frames = smooth(6)
    assert write_gif(tmp_path / "deep" / "a.gif", lambda: iter(frames), 5) == 6
    back, rate = read(tmp_path / "deep" / "a.gif")
    assert len(back) == 6 and rate == pytest.approx(5, rel=0.02)
    for one, other in zip(frames, back, strict=True):
        assert other.shape == one.shape and np.abs(one.astype(int) - other).mean() < 6
    assert b"NETSCAPE2.0" in (tmp_path / "deep" / "a.gif").read_bytes(), "it repeats"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.gif"]


def test_few_colors_are_kept_as_they_are_and_equal_films_make_equal_files(tmp_path: Path) -> None:
    frames = [np.full((20, 30, 3), color, np.uint8) for color in ((200, 40, 40), (40, 200, 40))]
    for name in ("a.gif", "b.gif"):
        write_gif(tmp_path / name, lambda: frames, 2)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    assert [frame[3, 3].tolist() for frame in read(tmp_path / "a.gif")[0]] == [[200, 40, 40], [40, 200, 40]]


def test_pictures_are_shrunk_and_never_grown(tmp_path: Path) -> None:
    for width, shape in ((32, (24, 32, 3)), (500, (48, 64, 3))):
        write_gif(tmp_path / "a.gif", lambda: smooth(2), 5, width)
        assert read(tmp_path / "a.gif")[0][0].shape == shape


@pytest.mark.parametrize(
    ("name", "frames", "rate", "width", "words"),
    [
        ("a.mp4", smooth(1), 5.0, None, r"a name that ends in \.gif"),
        ("a.gif", [], 5.0, None, "no frames"),
        ("a.gif", smooth(1), 0.0, None, "frame rate of a GIF"),
        ("a.gif", smooth(1), 80.0, None, "frame rate of a GIF"),
        ("a.gif", smooth(1), 5.0, 8, "width of a GIF: given 8"),
        ("a.gif", [np.zeros((4, 4), np.uint8)], 5.0, None, r"frame of a GIF: given uint8 \(4, 4\)"),
        ("a.gif", [*smooth(1), *smooth(1, 32, 32)], 5.0, None, "one size for all"),
    ],
)
def test_what_cannot_be_written_is_named(
    name: str, frames: list[np.ndarray], rate: float, width: int | None, words: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=words):
        write_gif(tmp_path / name, lambda: frames, rate, width)
    assert not list(tmp_path.iterdir())


def test_a_failure_on_the_way_leaves_what_was_there(tmp_path: Path) -> None:
    write_gif(tmp_path / "a.gif", lambda: smooth(2), 5)
    before = (tmp_path / "a.gif").read_bytes()
    calls = []

    def broken() -> Iterator[np.ndarray]:
        calls.append(1)
        yield from smooth(2)
        if len(calls) > 1:
            raise RuntimeError("the camera fell over")

    with pytest.raises(RuntimeError, match="fell over"):
        write_gif(tmp_path / "a.gif", broken, 5)
    assert (tmp_path / "a.gif").read_bytes() == before and len(list(tmp_path.iterdir())) == 1
