"""Video files as frames: what was written is read at any rate, upright, and damage is named."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from vap_sim.data.video_file import read_video, video_frame_rate
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.viewer.video import write_mp4

COUNT, HEIGHT, WIDTH = 10, 48, 64


def soft() -> list[np.ndarray]:
    """Frames of soft colours that become brighter."""
    down, across = np.mgrid[:HEIGHT, :WIDTH]
    return [
        np.stack([60 + across + 8 * k, 200 - 2 * down, 0 * across + 90 + 5 * k], axis=-1).astype(np.uint8)
        for k in range(COUNT)
    ]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_mp4(path, soft(), 10.0)
    return path


def test_what_was_written_is_read(clip: Path) -> None:
    frames = read_video(clip)
    assert frames.dtype == torch.uint8 and frames.shape == (COUNT, HEIGHT, WIDTH, 3)
    assert np.abs(frames.numpy().astype(int) - np.stack(soft())).mean() < 3
    assert video_frame_rate(clip) == pytest.approx(10.0)
    assert torch.equal(read_video(str(clip)), frames)


@pytest.mark.parametrize("rate", [3.0, 7.0, 10.0, 25.0])
def test_a_rate_takes_the_frames_nearest_in_time(clip: Path, rate: float) -> None:
    times = np.arange(COUNT) / 10
    ticks = np.arange(1 + int(times[-1] * rate + 1e-6)) / rate
    nearest = np.abs(times[None] - ticks[:, None]).argmin(axis=1)
    assert torch.equal(read_video(clip, rate), read_video(clip)[torch.from_numpy(nearest)])


def test_pictures_are_turned_as_the_file_says(clip: Path, tmp_path: Path) -> None:
    """The matrix in a track's header that a telephone held upright writes: a quarter turn with the clock."""
    content = bytearray(clip.read_bytes())
    matrix = content.find(b"tkhd") + 4 + 4 + 5 * 4 + 2 * 8
    assert struct.unpack(">9i", content[matrix : matrix + 36]) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(content)
    assert torch.equal(read_video(turned), torch.rot90(read_video(clip), -1, (1, 2)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no video that can be read"),
        (b"no video at all " * 40, "is no video that can be read"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.mp4\n#EXT-X-ENDLIST\n", "is no video that can be read"),
        (b"ffconcat version 1.0\nfile clip.mp4\n", "is no video that can be read"),
    ],
)
def test_what_is_no_video_is_refused(content: bytes, words: str, clip: Path) -> None:
    """Playlists too, which name other files: the clip beside them stays unread."""
    path = clip.with_name("other.mp4")
    path.write_bytes(content)
    for read in (read_video, video_frame_rate):
        with pytest.raises(BadFile, match=words):
            read(path)


def test_damage_is_named(clip: Path, tmp_path: Path) -> None:
    whole = clip.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadFile, match=r"cut\.mp4"):
        read_video(cut)
    broken = bytearray(whole)
    start = whole.find(b"mdat") + 4
    size = struct.unpack(">I", whole[start - 8 : start - 4])[0] - 8
    broken[start : start + size] = b"\xff" * size
    path = tmp_path / "broken.mp4"
    path.write_bytes(broken)
    with pytest.raises(BadFile, match=r"broken\.mp4: is (damaged at frame 0|a video without a single frame)"):
        read_video(path)
    with pytest.raises(BadFile, match="no such video file"):
        read_video(tmp_path / "none.mp4")
    with pytest.raises(BadFile, match="is a folder, expected a video file"):
        read_video(tmp_path)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in (*stream.encode(frame), *stream.encode()):
            container.mux(packet)
    with pytest.raises(BadFile, match="has no pictures in it"):
        read_video(path)


def test_limits_are_named(clip: Path) -> None:
    with pytest.raises(InvalidInput, match=r"frame rate to read a video at: given 0"):
        read_video(clip, 0)
    with pytest.raises(
        InvalidInput, match=r"given 4 frames or more of \(48, 64\) \(1 seconds\), expected at most 0 MiB"
    ):
        read_video(clip, 5.0, most_bytes=3 * HEIGHT * WIDTH * 3)
