"""`vap-sim prepare`: clips, index, overlays and table; damage goes into the table; resuming equals one go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vap_sim.commands.prepare as command
from vap_sim.cli import main
from vap_sim.commands.outcome import record_of
from vap_sim.commands.prepare import Prepare, run
from vap_sim.data.prepared import INDEX, open_prepared, prompt_of
from vap_sim.data.twin import TwinEpisode, save_episode
from vap_sim.data.video_file import read_video
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.prompts import profile, render_robot
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot

SIZE, LENGTH = 64, 14
VIEWS = ("left", "right")


def record(path: Path, seed: int) -> None:
    """A twin episode that was not played in the twin: the robot before grey, two views."""
    model, rng = load_robot("panda_robotiq"), np.random.default_rng(seed)
    turn = np.linspace(0, 1, LENGTH)[:, None]
    swing = np.array([0.9, 0.5, 0.3, 0.6, 0.4, 0.3, 0.2, 0.0]) * rng.uniform(0.7, 1.2)
    joints = (model.home.numpy() + (turn - 0.5) * swing).astype(np.float32)
    eyes = ((1.3, 0.9, 0.8), (1.3, -0.9, 0.8))
    cameras = [
        Camera.look_at(name, eye, (0.35, 0, 0.4), size=(SIZE, SIZE), focal_px=60)
        for name, eye in zip(VIEWS, eyes, strict=True)
    ]
    drawn = render_robot(model, torch.from_numpy(joints)[None], cameras)
    frames = np.where(drawn.mask[0].numpy()[..., None], drawn.rgb[0].numpy(), rng.integers(70, 80, (SIZE, SIZE, 3)))
    shape = (2, LENGTH, SIZE, SIZE)
    meta: dict[str, Any] = {
        "seed": seed, "behaviours": ["push"], "robot": model.name, "control_mode": "joint_velocity",
        "control_dt": 0.2, "scene": {}, "cameras": [camera.to_dict() for camera in cameras],
    }  # fmt: skip
    episode = TwinEpisode(
        frames=frames.astype(np.uint8), objects=np.zeros((*shape, 4), np.uint8),
        plate=np.zeros((2, SIZE, SIZE, 3), np.uint8), robot=np.zeros(shape, np.uint8), labels=np.zeros(shape, np.uint8),
        flow=np.zeros((2, LENGTH, 2, SIZE // 2, SIZE // 2), np.int16), joints=joints, measured=joints,
        actions=np.zeros((LENGTH - 1, 8), np.float32), object_poses=np.zeros((LENGTH, 0, 7), np.float32), meta=meta,
    )  # fmt: skip
    save_episode(path, episode)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes, the middle one damaged, in a folder with a space in its name."""
    folder = tmp_path_factory.mktemp("my station")
    for seed, name in enumerate("abc"):
        record(folder / f"{name}.vap.npz", seed)
    whole = (folder / "b.vap.npz").read_bytes()
    (folder / "b.vap.npz").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture(scope="module")
def prepared(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("prepared") / "out"
    told = run(Prepare(recordings, out, size=48, shortest=4, overlays=1))
    assert len(record_of(told)["clips"]) == len(list(out.glob("*.clip.npz")))
    return out, told


def content(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_clips_prompts_overlays_and_table(prepared: tuple[Path, str]) -> None:
    out, table = prepared
    index = open_prepared(out)
    assert index.names == ("a_00000", "c_00000") and index.finished == ("a", "b", "c")
    assert "2 clips with 28 frames of 3 episodes" in table
    assert "left out: b: " in table and "b.vap.npz: " in table and "not a whole episode file" in table
    clip = index.read("a_00000")
    assert clip.frames.shape == (2, LENGTH, 48, 48, 3) and [c.name for c in clip.cameras] == list(VIEWS)
    assert clip.kept.mean() > 0.8 and prompt_of(clip, profile("compact")).views == 2
    moved = clip.homographies @ np.array([24, 24, 1], np.float32)
    assert np.abs(moved[..., :2] / moved[..., 2:] - 24).max() < 1, "the cameras are right"
    assert sorted(path.name for path in (out / "overlays").iterdir()) == ["a_00000.mp4", "a_00000.png"]
    assert len(read_video(out / "overlays" / "a_00000.mp4")) == LENGTH
    assert not list(out.rglob("*.partial*"))


def test_a_run_that_was_killed_goes_on_to_the_same_result(
    recordings: Path, prepared: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = Prepare(recordings, tmp_path / "out", size=48, shortest=4, overlays=1)

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "_show", killed)  # after the first clip's file, before the index knows of it
        with pytest.raises(KeyboardInterrupt):
            run(again)
    assert open_prepared(tmp_path / "out").finished == ()
    run(again)
    assert content(tmp_path / "out") == content(prepared[0])
    before = (tmp_path / "out" / INDEX).stat().st_mtime_ns
    assert run(again).replace(str(tmp_path), "") == prepared[1].replace(str(prepared[0].parent), "")
    assert (tmp_path / "out" / INDEX).stat().st_mtime_ns >= before


def test_other_settings_do_not_mix_with_what_is_there(recordings: Path, prepared: tuple[Path, str]) -> None:
    with pytest.raises(InvalidInput, match=r"size 64, expected size 48, with which the clips there were made"):
        run(Prepare(recordings, prepared[0], size=64, shortest=4, overlays=1))


def test_views_cameras_and_robots_that_are_missing_are_named(recordings: Path, tmp_path: Path) -> None:
    table = run(Prepare(recordings, tmp_path / "a", views=("lfet",), align=False, overlays=0))
    assert "0 clips" in table and "Did you mean 'left'" in table
    meta = json.loads((tmp_path / "a" / INDEX).read_text())
    assert meta["settings"]["align"] is False and meta["settings"]["views"] == ["lfet"]
    with pytest.raises(UnknownName, match="unknown robot 'widow'"):
        run(Prepare(recordings, tmp_path / "b", robot="widow", align=False, overlays=0))
    assert not (tmp_path / "b").exists()


def test_one_view_without_alignment(recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    options = ["--views", "right", "--no-align", "--size", "32", "--rate", "2.5", "--shortest", "4", "--overlays", "0"]
    assert main(["prepare", str(recordings), "--out", out, *options]) == 0
    assert "2 clips with 14 frames" in capsys.readouterr().out
    clip = open_prepared(out).read("c_00000")
    assert clip.frame_rate == 2.5 and clip.cameras[0].name == "right" and clip.kept.all()
