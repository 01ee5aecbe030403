"""`vap-sim calibrate` from a folder of recordings to cameras.json and overlays; damage keeps nothing else back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests.extraction.camera_clips import CAMERA, MODEL, clip, poses
from vap_sim.commands import calibrate
from vap_sim.commands.calibrate import Calibrate, run
from vap_sim.commands.outcome import record_of
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.extraction.cameras import Calibration, CalibrationSettings
from vap_sim.extraction.cameras_file import read_cameras
from vap_sim.extraction.cameras_search import SearchEffort
from vap_sim.viewer.video import write_mp4


def record(folder: Path, frames: np.ndarray, joints: np.ndarray) -> None:
    """A recording in the layout of DROID samples, of which all three views show the same."""
    folder.mkdir(parents=True)
    for view in range(3):
        write_mp4(folder / f"{view}.mp4", frames, 5.0, quality=4)
    flange = MODEL.robot.forward(torch.from_numpy(joints))[:, MODEL.robot.link_index(MODEL.flange_link)].numpy()
    turn = Rotation.from_matrix(flange[:, :3, :3]).as_euler("xyz")
    gripper = (joints[:, 7:] / 0.8).clip(0, 1)
    states = np.concatenate([flange[:, :3, 3], turn, gripper], axis=1)
    rows = np.concatenate([joints[:, :7], gripper], axis=1)
    content = {"texts": [""], "states": states.tolist(), "joints": rows.tolist()}
    (folder / "annotation.json").write_text(json.dumps(content))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    def settings(*_: Any) -> CalibrationSettings:
        return CalibrationSettings(effort=SearchEffort(3000, 4, 10, 14, 5, 14, 2, 6), frames=24)

    monkeypatch.setattr(calibrate, "_settings", settings)


def test_cameras_of_a_folder(tmp_path: Path, hasty: None) -> None:
    data, out = tmp_path / "my data", tmp_path / "out"
    record(data / "good", clip().frames, clip().joints)
    record(data / "cut", clip().frames, clip().joints)
    video = data / "cut" / "0.mp4"
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    record(data / "short", clip().frames[:6], clip().joints[:6])
    text = run(Calibrate(data, out, robot="panda_robotiq", views=("exterior_1",), together=False))
    assert "1 of 2 cameras" in text
    assert record_of(text)["cameras"] == json.loads((out / "cameras.json").read_text())["cameras"]
    assert "left out: " in text
    assert "0.mp4" in text
    cameras = read_cameras(out)
    assert set(cameras) == {("good", "exterior_1")}
    found = cameras["good", "exterior_1"].T_parent_camera
    assert float((found[:3, 3] - CAMERA.T_parent_camera[:3, 3]).norm()) < 0.08
    entries = {entry["episodes"][0]: entry for entry in json.loads((out / "cameras.json").read_text())["cameras"]}
    assert entries["short"]["refused"]["reason"] == "too short"
    assert {file.name for file in (out / "overlays").iterdir()} == {"good_exterior_1.mp4", "good_exterior_1.png"}


def test_clips_of_one_scene_are_one_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        record(tmp_path / "data" / name, clip().frames[:3], clip().joints[:3])
    monkeypatch.setattr("vap_sim.extraction.cameras_stations.group_scenes", lambda scenes: ((0, 1),))
    text = run(Calibrate(tmp_path / "data", tmp_path / "out", views=("exterior_2",)))
    assert "exterior_2 (a, b): refused: fewer than 8 frames with a joint pose: 6" in text


def test_what_was_found_is_not_looked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        record(tmp_path / "data" / name, clip().frames[:3], clip().joints[:3])
    looked: list[str] = []

    def found(_command: Any, _dataset: Any, station: Any, *_: Any) -> Calibration:
        looked.append(station.view)
        if len(looked) == 3:
            raise KeyboardInterrupt
        return Calibration(station.view, station.episodes, None, "still robot", "no key point moves")

    monkeypatch.setattr(calibrate, "_calibrated", found)
    command = Calibrate(tmp_path / "data", tmp_path / "out", together=False)
    with pytest.raises(KeyboardInterrupt):
        run(command)
    assert "0 of 6 cameras" in run(command)
    assert len(looked) == 3 + 4, "two were found before the interruption"
    assert run(command).startswith("0 of 6") and len(looked) == 7
    with pytest.raises(InvalidInput, match="seed 1, expected 0"):
        run(replace(command, seed=1))


def test_wrong_names_and_empty_folders_are_told(tmp_path: Path) -> None:
    record(tmp_path / "data" / "a", clip().frames[:6], poses(6))
    with pytest.raises(UnknownName, match="unknown episode 'b'"):
        run(Calibrate(tmp_path / "data", tmp_path / "out", episodes=("b",)))
    with pytest.raises(BadFile, match="unknown view of episode 'a' 'front'"):
        run(Calibrate(tmp_path / "data", tmp_path / "out", views=("front",)))
    with pytest.raises(UnknownName, match="robot 'panda'"):
        run(Calibrate(tmp_path / "data", tmp_path / "out", robot="panda"))
    assert not (tmp_path / "out").exists()
