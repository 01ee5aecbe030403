"""Videos: what was written can be read back, and a file appears whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from vap_sim.errors import InvalidInput
from vap_sim.viewer.video import write_mp4


def smooth(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Frames of soft colors that drift, as pictures of a scene do."""
    down, across = np.mgrid[:height, :width]
    return [
        np.stack([60 + across + 8 * k, 200 - 2 * down, 0 * across + 90 + 5 * k], axis=-1).astype(np.uint8)
        for k in range(count)
    ]


def read(path: Path) -> tuple[list[np.ndarray], float]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.average_rate is not None
        return frames, float(stream.average_rate)


@pytest.mark.parametrize("rate", [5.0, 15, 29.97])
def test_what_was_written_is_read_back(rate: float, tmp_path: Path) -> None:
    frames = smooth(7)
    assert write_mp4(tmp_path / "deep" / "a.mp4", frames, rate) == 7
    back, read_rate = read(tmp_path / "deep" / "a.mp4")
    assert len(back) == 7 and read_rate == pytest.approx(rate, rel=1e-3)
    for one, other in zip(frames, back, strict=True):
        assert other.shape == (48, 64, 3) and np.abs(one.astype(int) - other).mean() < 3
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.mp4"]


def test_quality_costs_bytes(tmp_path: Path) -> None:
    noise = list(np.random.default_rng(0).integers(0, 256, (5, 48, 64, 3), np.uint8))
    for quality in (10, 40):
        write_mp4(tmp_path / f"{quality}.mp4", noise, 5, quality)
    assert (tmp_path / "10.mp4").stat().st_size > 2 * (tmp_path / "40.mp4").stat().st_size


def test_frames_may_come_one_by_one_and_in_any_layout(tmp_path: Path) -> None:
    frames = smooth(3)
    assert write_mp4(tmp_path / "a.mp4", (frame for frame in frames), 5) == 3
    flipped = [np.ascontiguousarray(frame[:, ::-1])[:, ::-1] for frame in frames]  # not contiguous
    assert write_mp4(tmp_path / "b.mp4", flipped, 5) == 3
    # Not to the byte: how FFmpeg rounds colours depends on where in memory a picture lies.
    for one, other in zip(read(tmp_path / "a.mp4")[0], read(tmp_path / "b.mp4")[0], strict=True):
        assert np.abs(one.astype(int) - other).mean() < 1


def broken() -> Iterator[np.ndarray]:
    yield from smooth(2)
    raise RuntimeError("the camera fell over")


def test_a_failure_on_the_way_leaves_what_was_there(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", smooth(2), 5)
    before = (tmp_path / "a.mp4").read_bytes()
    with pytest.raises(RuntimeError, match="the camera fell over"):
        write_mp4(tmp_path / "a.mp4", broken(), 5)
    with pytest.raises(InvalidInput, match="video frame"):
        write_mp4(tmp_path / "a.mp4", [*smooth(2), *smooth(1, 32, 32)], 5)
    assert (tmp_path / "a.mp4").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([], "video: given no frames, expected at least one"),
        ([np.zeros((48, 63, 3), np.uint8)], r"video frame: given uint8 \(48, 63, 3\), expected uint8 \(H, W, 3\) with"),
        ([np.zeros((47, 64, 3), np.uint8)], "with even H and W"),
        ([np.zeros((48, 64), np.uint8)], "with even H and W"),
        ([np.zeros((48, 64, 4), np.uint8)], "with even H and W"),
        ([np.zeros((48, 64, 3))], r"given float64 \(48, 64, 3\)"),
        ([*smooth(1), np.zeros((48, 64, 3), np.float32)], r"given float32 \(48, 64, 3\)"),
        ([*smooth(1), *smooth(1, 32, 32)], r"given \(height, width\) \(32, 32\), expected \(48, 64\), as the first"),
    ],
)
def test_wrong_frames_are_refused(frames: list[np.ndarray], words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=words):
        write_mp4(tmp_path / "a.mp4", frames, 5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "rate", "quality", "words"),
    [
        ("a.txt", 5.0, 18, r"video file: given a\.txt, expected a name that ends in \.mp4"),
        ("a.mp4", 0.0, 18, r"frame rate of a video: given 0\.0"),
        ("a.mp4", -5.0, 18, "frame rate of a video"),
        ("a.mp4", float("nan"), 18, "frame rate of a video: given nan"),
        ("a.mp4", 5.0, 99, "quality of a video: given 99, expected 0 to 51"),
    ],
)
def test_impossible_settings_are_refused(name: str, rate: float, quality: int, words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=words):
        write_mp4(tmp_path / name, smooth(1), rate, quality)
    assert not list(tmp_path.iterdir())


def test_a_film_begins_with_its_index_and_tells_its_colors(tmp_path: Path) -> None:
    """Browsers show it before all of it has come, in the colors it was given, told as BT.709."""
    bars = np.zeros((48, 64, 3), np.uint8)
    for place, color in enumerate(((220, 30, 30), (30, 200, 40), (30, 40, 220), (235, 235, 235))):
        bars[:, 16 * place : 16 * place + 16] = color
    write_mp4(tmp_path / "a.mp4", [bars] * 9, 5, quality=4, key_every=3, preset="veryfast")
    content = (tmp_path / "a.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
        keys = [packet.is_keyframe for packet in container.demux(stream) if packet.size]
    assert sum(keys) == 3
    (shown, *_), _ = read(tmp_path / "a.mp4")
    middles = shown[24, 8::16].astype(int)
    assert np.abs(middles - bars[24, 8::16]).max() < 12
