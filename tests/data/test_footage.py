"""Footage: any part of a video equals that part of a decoding from the start, and damage names its frame."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from vap_sim.data.footage import ArrayFootage, ImageFootage, VideoFootage, stated_size
from vap_sim.data.video_file import read_video
from vap_sim.errors import BadFile, InvalidInput

COUNT = 30
KINDS = {
    "reordered.mp4": ("libx264", {"g": "7", "bf": "3"}),
    "open.mp4": ("libx264", {"x264-params": "open-gop=1:keyint=6:bframes=2:scenecut=0"}),
    "intra.mp4": ("libx264", {"g": "1"}),
    "few keys.mkv": ("libx264", {"g": "12"}),
    "av1.mp4": ("libsvtav1", {"g": "5", "preset": "12"}),
    "vp9.webm": ("libvpx-vp9", {"g": "6", "deadline": "realtime", "cpu-used": "8"}),
    "old.avi": ("mpeg4", {"g": "5"}),
    "stream.ts": ("libx264", {"g": "6", "bf": "2"}),
}


def moving() -> np.ndarray:
    """A square that wanders over a slope: no two frames alike."""
    down, across = np.mgrid[:48, :64]
    frames = np.stack([np.stack([across * 3, down * 4, 0 * down + 8 * k], -1) for k in range(COUNT)]).astype(np.uint8)
    for k, frame in enumerate(frames):
        frame[k : k + 12, 2 * k % 50 : 2 * k % 50 + 12] = 255
    return frames


def write(path: Path, codec: str, options: dict[str, str], container: dict[str, str] | None = None) -> Path:
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.options = 64, 48, "yuv420p", options
        for picture in moving():
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("some footage")
    for name, (codec, options) in KINDS.items():
        write(folder / name, codec, options)
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_any_part_equals_that_part_of_the_whole(folder: Path, name: str) -> None:
    footage = VideoFootage(folder / name)
    whole = read_video(folder / name).numpy()
    assert footage.length == len(whole) == COUNT and footage.size == (64, 48)
    assert np.array_equal(np.stack(list(footage.frames())), whole)
    for first in range(COUNT):
        assert np.array_equal(np.stack(list(footage.frames(first, first + 1))), whole[first : first + 1]), first
    for first, last in ((5, 19), (11, 30), (0, 3), (29, 30)):
        part = VideoFootage(folder / name, first, last)
        assert part.length == last - first
        assert np.array_equal(np.stack(list(part.frames())), whole[first:last])
        assert np.array_equal(np.stack([*part.frames(0, 1), *part.frames(1)]), whole[first:last])
    assert not list(footage.frames(4, 4))


def test_a_part_by_seconds_takes_the_frames_nearest_to_its_ends(folder: Path) -> None:
    path = folder / "reordered.mp4"
    whole = read_video(path).numpy()
    for off in (-0.04, 0.0, 1e-7, 0.04):
        part = VideoFootage(path, seconds=(0.8 + off, 2.1 - off))
        assert part.length == 13 and np.allclose(part.times, np.arange(8, 21) / 10)
        assert np.array_equal(np.stack(list(part.frames(2, 5))), whole[10:13])
    assert VideoFootage(path, seconds=(0, 99)).length == COUNT
    assert VideoFootage(path, seconds=(5, 6)).length == 0


def test_only_what_is_asked_for_is_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the last key frame (numbers 0, 7, 14, 21, 28), and no further than the frame asked for."""
    seen: list[int] = []
    found = VideoFootage._from

    def counted(self, index, key):  # type: ignore[no-untyped-def]
        for number, frame in found(self, index, key):
            seen.append(number)
            yield number, frame

    monkeypatch.setattr(VideoFootage, "_from", counted)
    list(VideoFootage(folder / "reordered.mp4").frames(23, 25))
    assert [number for number in seen if number >= 21] == [21, 22, 23, 24] and len(seen) < 8


def test_a_part_beyond_the_file_is_refused(folder: Path) -> None:
    path = folder / "reordered.mp4"
    for part in (VideoFootage(path, 20, 31), VideoFootage(path, 31)):
        with pytest.raises(BadFile, match="has 30 frames, expected frames"):
            _ = part.length
    with pytest.raises(InvalidInput, match="either frames or seconds"):
        VideoFootage(path, 3, seconds=(0, 1))
    with pytest.raises(InvalidInput, match="the first before the last"):
        VideoFootage(path, 3, 2)
    for first, last in ((-1, 3), (4, 3), (0, 11)):
        with pytest.raises(InvalidInput, match="a range within its 10 frames"):
            VideoFootage(path, 10, 20).frames(first, last)


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    """Whether its header stands at the end, and is lost, or at the start, and promises too much."""
    for name, options in (("late.mp4", {}), ("early.mp4", {"movflags": "faststart"})):
        whole = write(tmp_path / name, "libx264", {"g": "5"}, options)
        whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 5])
        with pytest.raises(BadFile, match=r"is no video that can be read|of the 30 frames that its header promises"):
            _ = VideoFootage(whole).length
    with pytest.raises(BadFile, match="no such video file"):
        _ = VideoFootage(tmp_path / "none.mp4").length
    with pytest.raises(BadFile, match="no such video file"):
        _ = VideoFootage(tmp_path / "none.mp4").size


def test_a_file_that_changed_is_indexed_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", "libx264", {})
    assert VideoFootage(path).length == COUNT
    path.write_bytes(b"")
    with pytest.raises(BadFile, match="is no video that can be read"):
        _ = VideoFootage(path).length


def test_pictures_in_memory() -> None:
    footage = ArrayFootage(moving())
    assert footage.size == (64, 48) and footage.length == COUNT
    assert np.array_equal(np.stack(list(footage.frames(4, 9))), moving()[4:9])
    with pytest.raises(InvalidInput, match="a range within its 30 frames"):
        footage.frames(0, 31)
    for wrong in (moving()[0], moving()[:0], moving().astype(np.float32), moving()[..., :2]):
        with pytest.raises(InvalidInput, match="uint8"):
            ArrayFootage(wrong)


def encoded(picture: np.ndarray, kind: str) -> bytes:
    return cv2.imencode(kind, picture[..., ::-1] if picture.ndim == 3 else picture)[1].tobytes()


def test_stills_are_decoded_one_by_one() -> None:
    pictures = moving()[:4]
    exact = ImageFootage([encoded(picture, ".png") for picture in pictures], Path("log"), "camera")
    assert exact.size == (64, 48) and exact.length == 4
    assert np.array_equal(np.stack(list(exact.frames(1))), pictures[1:])
    soft = ImageFootage([encoded(picture, ".jpg") for picture in pictures], Path("log"), "camera")
    assert soft.size == (64, 48)
    assert np.abs(np.stack(list(soft.frames())).astype(int) - pictures).mean() < 8


def test_stills_that_are_damaged_name_their_frame() -> None:
    good = encoded(moving()[0], ".png")
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 255
    depth = encoded(np.arange(48 * 64, dtype=np.uint16).reshape(48, 64), ".png")
    huge = good[:16] + (2**30).to_bytes(4, "big") * 2 + good[24:]
    for bad, words in (
        (b"", "neither JPEG nor PNG"),
        (b"GIF89a" + bytes(40), "neither JPEG nor PNG"),
        (encoded(moving()[0], ".jpg")[:30], "neither JPEG nor PNG"),
        (bytes(flipped), "is damaged"),
        (good[: len(good) // 2], "is damaged"),
        (depth, "uint16 pixels"),
        (encoded(moving()[0, :40], ".png"), "64x40 pixels, the first has 64x48"),
        (huge, "expected at most"),
    ):
        footage = ImageFootage([good, bad], Path("log.parquet"), "wrist")
        with pytest.raises(BadFile, match=f"log.parquet: wrist: frame 1 .*{words}"):
            list(footage.frames())
    with pytest.raises(BadFile, match="wrist: no picture"):
        _ = ImageFootage([], Path("log.parquet"), "wrist").size


def test_the_stated_size_is_the_decoded_one() -> None:
    for kind in (".png", ".jpg"):
        for height, width in ((1, 7), (40, 300), (513, 2)):
            content = encoded(np.zeros((height, width, 3), np.uint8), kind)
            assert stated_size(content) == (width, height)
    filled = encoded(moving()[0], ".jpg")
    assert stated_size(filled[:2] + b"\xff\xff" + filled[2:]) == (64, 48)
