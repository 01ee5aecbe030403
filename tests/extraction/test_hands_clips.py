"""From hands to prepared clips, and the command that makes them from a video and a file of key points."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.extraction.hand_figures import Blank, hand
from vap_sim.commands.prepare_hands import PrepareHands, run
from vap_sim.data.footage import VideoFootage
from vap_sim.data.prepared import open_prepared, prompt_of
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.extraction.hand_clips import ClipSettings, hand_clips, hand_silhouette, left_out
from vap_sim.extraction.hand_overlay import contact_sheet, draw_overlay, overlay_size, overlays, sheet_frames
from vap_sim.extraction.hands import HandMotion, join_hands
from vap_sim.prompts import profile
from vap_sim.viewer.video import write_mp4

SIZE, LENGTH, RATE = (320, 180), 60, 30.0
HIDDEN = range(25, 40)


def truth() -> np.ndarray:
    """(T, 2, 21, 2): a right hand that moves and hides for a while; no left one."""
    points = np.full((LENGTH, 2, 21, 2), np.nan)
    for t in range(LENGTH):
        if t not in HIDDEN:
            points[t, 1] = hand(100 + 2 * t, 140, size=80.0).points
    return points


def motion() -> HandMotion:
    found = [[hand(100 + 2 * t, 140, size=80.0)] if t not in HIDDEN else [] for t in range(LENGTH)]
    return join_hands(found, Blank(LENGTH, SIZE), RATE)


def video(path: Path) -> Path:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (9, 16, 3), dtype=np.uint8).repeat(20, 0).repeat(20, 1)
    write_mp4(path, (np.roll(base, t, axis=1) for t in range(LENGTH)), RATE)
    return path


def test_clips_are_the_runs_with_a_hand_and_the_rest_is_left_out_with_a_reason() -> None:
    form = ClipSettings((160, 96), longest=15)
    clips = list(hand_clips(Blank(LENGTH, SIZE), motion(), RATE, "v", "v.mp4", form))
    assert [(clip.name, clip.length) for clip in clips] == [("v_00000", 15), ("v_00015", 10), ("v_00040", 15)]
    (gap, end) = left_out(motion(), RATE, "v", form)
    assert (gap.first, gap.last) == (25, 40)
    assert "no hand was found" in gap.reason
    assert (end.first, end.last) == (55, 60)
    assert end.reason == "a run of 5 frames with a hand is shorter than 8"
    assert all(clip.robot_name == "human_hands" and clip.kept.all() and clip.frame_rate == RATE for clip in clips)


def test_a_slower_clock_takes_the_nearest_frames() -> None:
    form = ClipSettings((160, 96), frame_rate=10.0, shortest=2)
    clips = list(hand_clips(Blank(LENGTH, SIZE), motion(), RATE, "v", "v.mp4", form))
    assert [clip.length for clip in clips] == [9, 6]
    np.testing.assert_array_equal(clips[0].joints, motion().joints[:27:3])
    np.testing.assert_array_equal(clips[1].joints, motion().joints[42::3])
    assert clips[1].frame_rate == 10.0
    with pytest.raises(InvalidInput, match="at most the video's own 30"):
        left_out(motion(), RATE, "v", ClipSettings(frame_rate=60.0))


def test_prompts_lie_on_the_hands() -> None:
    clip = next(iter(hand_clips(Blank(LENGTH, SIZE), motion(), RATE, "v", "v.mp4", ClipSettings(SIZE))))
    for name in ("vap", "compact"):
        drawn = prompt_of(clip, profile(name), 7, 8).skeleton[0, 0, 0].numpy()
        for x, y in motion().points()[7, 1]:
            assert drawn[round(y), round(x)].max() > 100, name
        rows, columns = np.nonzero(drawn.max(-1) > 40)
        box = hand(114, 140, size=80.0).box
        assert box.left - 8 < columns.min() and columns.max() < box.right + 8
        assert box.top - 8 < rows.min() and rows.max() < box.bottom + 8
    away = motion().joints[30]
    assert not hand_silhouette(away, clip.cameras[0]).any()


def test_a_silhouette_covers_the_hand_and_scales_with_its_size() -> None:
    clip = next(iter(hand_clips(Blank(LENGTH, SIZE), motion(), RATE, "v", "v.mp4", ClipSettings(SIZE))))
    mask = clip.robot[0, 7]
    for x, y in motion().points()[7, 1]:
        assert mask[round(y), round(x)] > 120
    half = hand_silhouette(clip.joints[7], clip.cameras[0].resized((160, 90)))
    assert mask.astype(float).mean() == pytest.approx(half.astype(float).mean(), rel=0.03)
    assert 0.1 < (mask > 127).sum() / hand(114, 140, size=80.0).box.area < 1.0


def test_the_command_writes_clips_index_overlay_sheet_and_reasons(tmp_path: Path) -> None:
    np.savez(tmp_path / "points.npz", points=truth())
    source = video(tmp_path / "my video.mp4")
    command = PrepareHands(source, tmp_path / "out", str(tmp_path / "points.npz"), size=(160, 96))
    out = run(command)
    index = open_prepared(out)
    assert index.names == ("my video_00000", "my video_00040")
    assert [clip.length for clip in index] == [25, 20]
    assert index.finished == ("my video",)
    assert [(part.first, part.last) for part in index.left_out] == [(25, 40)]
    told = json.loads((out / "my video.hands.json").read_text())
    assert told["video"] == {"file": "my video.mp4", "frames": LENGTH, "frame_rate": RATE, "size": list(SIZE)}
    assert [frame["right"]["state"] for frame in told["frames"]] == [
        "absent" if t in HIDDEN else "kept" for t in range(60)
    ]
    overlay = VideoFootage(out / "my video.overlay.mp4")
    assert (overlay.length, overlay.size) == (LENGTH, overlay_size(SIZE))
    assert (out / "my video.sheet.png").stat().st_size > 1000
    assert not list(out.glob("*.partial*"))

    before = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix != ".mp4"}
    run(command)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.suffix != ".mp4"} == before

    other = video(tmp_path / "b.mp4")
    run(PrepareHands(other, out, command.detector, size=(160, 96)))
    assert open_prepared(out).finished == ("my video", "b")
    with pytest.raises(InvalidInput, match="another folder"):
        run(PrepareHands(other, out, command.detector, size=(320, 192)))


def test_the_command_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = video(tmp_path / "a.mp4")
    count = tmp_path / "count"
    detector = tmp_path / "detector.py"
    detector.write_text(f"""
import numpy as np

def open_detector():
    def detect(picture):
        with open({str(count)!r}, "a") as file:
            file.write("x")
        if picture.shape[0] != 180:
            return []
        points = np.load({str(tmp_path / "hand.npy")!r})
        return [{{"side": "right", "score": 0.9, "points": points}}]
    return detect
""")
    np.save(tmp_path / "hand.npy", hand(160, 140, size=80.0).points)
    command = PrepareHands(source, tmp_path / "out", str(detector), Path(sys.executable), size=(160, 96))

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vap_sim.extraction.hands.join_hands", broken)
        with pytest.raises(KeyboardInterrupt):
            run(command)
    assert count.read_text() == "x" * LENGTH
    assert not (tmp_path / "out" / "prepared.json").exists()
    run(command)
    assert count.read_text() == "x" * LENGTH
    assert open_prepared(tmp_path / "out").names == ("a_00000",)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"detector": "mediapip"}, InvalidInput, "--detector"),
        ({"detector": "a.py"}, InvalidInput, "--python"),
        ({"detector": "nowhere.npz"}, BadFile, "nowhere.npz"),
        ({"mirrored": True}, InvalidInput, "--mirrored"),
        ({"size": (4, 4)}, InvalidInput, "size of clips"),
        ({"shortest": 0}, InvalidInput, "length of clips"),
        ({"video": Path("nowhere.mp4")}, BadFile, "nowhere.mp4"),
    ],
)
def test_wrong_commands_are_named_and_write_nothing(
    tmp_path: Path, change: dict[str, object], error: type[Exception], words: str
) -> None:
    values = {"video": video(tmp_path / "a.mp4"), "out": tmp_path / "out", "detector": "points.npz", **change}
    with pytest.raises(error, match=words):
        run(PrepareHands(**values))  # type: ignore[arg-type]
    assert not list((tmp_path / "out").glob("*"))


def test_a_key_point_file_that_is_too_short_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "points.npz", points=truth()[:50])
    with pytest.raises(BadFile, match="holds 50 frames; the video has a frame 50"):
        run(PrepareHands(video(tmp_path / "a.mp4"), tmp_path / "out", str(tmp_path / "points.npz")))


def test_overlays_show_hands_and_reasons() -> None:
    grey = np.full((180, 320, 3), 128, np.uint8)
    moved = motion()
    shown = draw_overlay(grey, moved.points()[7], [side.fates[7] for side in moved.sides], 7)
    x, y = moved.points()[7, 1, 8]
    assert (shown[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2] > 200).any()
    assert (shown[:20] != 128).any()
    assert len(list(overlays([grey] * LENGTH, moved))) == LENGTH
    with pytest.raises(InvalidInput, match="frames of an overlay"):
        list(overlays([grey] * (LENGTH + 1), moved))
    assert overlay_size((1921, 1081)) == (960, 540)
    assert sheet_frames(3) == [0, 1, 2]
    assert sheet_frames(121, 5) == [0, 30, 60, 90, 120]
    assert contact_sheet([grey] * 5, 4, 160).shape == (180, 640, 3)
