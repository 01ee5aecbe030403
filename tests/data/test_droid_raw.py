"""DROID as recorded: rows and frames that are paired, cameras that are logged, files that lead elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests.data import reader_samples as samples
from vap_sim.data.dataset import open_dataset
from vap_sim.data.droid_cameras import DOUBT
from vap_sim.data.episode import Episode
from vap_sim.errors import BadFile

NAME = "LAB/success/2023-06-11/Sun_Jun_11_15:52:30_2023"


@pytest.fixture(autouse=True)
def reader() -> None:
    pytest.importorskip("h5py", reason="DROID's log is an HDF5 file")


def write(root: Path, **given: object) -> Path:
    samples.write_raw(root / NAME, 0, **given)  # type: ignore[arg-type]
    return root / NAME


def read(root: Path) -> Episode:
    return open_dataset(root).read(NAME)


def test_rows_and_frames_go_together(tmp_path: Path) -> None:
    write(tmp_path)
    episode = read(tmp_path)
    joints, gripper, flange = samples.arm(0)
    assert np.allclose(episode.joints, joints) and np.allclose(episode.gripper, gripper)
    assert np.allclose(episode.tool[:, :3, 3], flange[:, :3]) and np.allclose(episode.joint_targets, joints + 0.01)
    assert np.allclose(episode.actions[:, :7], 0.1) and np.allclose(episode.actions[:, 7], gripper)
    assert (episode.frame_rate, episode.robot, episode.success) == (15.0, "panda_robotiq", True)
    for view, footage in episode.views.items():
        assert footage.size == samples.SIZE if view != "exterior_2" else (128, 48)
        first = next(footage.frames())
        assert np.abs(first[:, :64].astype(int) - samples.pictures(0)[0]).mean() < 6


def test_one_eye_of_two_is_shown(tmp_path: Path) -> None:
    footage = read(write(tmp_path).parents[3]).views["exterior_2"]
    assert footage.size == (128, 48) and all(picture.shape == (48, 128, 3) for picture in footage.frames())


@pytest.mark.parametrize("frames", [samples.FRAMES - 1, samples.FRAMES + 2])
def test_a_frame_that_was_lost_at_the_end_is_left_out(tmp_path: Path, frames: int) -> None:
    """As the platform's own loader pairs them: frame k with row k, to the end of the shorter."""
    write(tmp_path, frames=frames)
    episode, length = read(tmp_path), min(frames, samples.FRAMES)
    assert episode.length == length and all(footage.length == length for footage in episode.views.values())
    assert np.allclose(episode.joints, samples.arm(0)[0][:length])
    assert any("1 rows at the ends" in note for note in episode.notes) == (frames < samples.FRAMES)


def test_frames_are_found_by_their_times(tmp_path: Path) -> None:
    """The first row has no frame: its video begins a row later."""
    folder = write(tmp_path, frames=samples.FRAMES - 1)
    for serial in samples.SERIALS.values():
        times = [1000 * (k + 2) for k in range(samples.FRAMES - 1)]
        (folder / "recordings" / "MP4" / f"{serial}_timestamps.json").write_text(json.dumps(times))
    episode = read(tmp_path)
    assert episode.length == samples.FRAMES - 1
    assert np.allclose(episode.joints, samples.arm(0)[0][1:])
    first = next(episode.views["wrist"].frames())
    assert np.abs(first.astype(int) - samples.pictures(0)[0]).mean() < 6
    (folder / "recordings" / "MP4" / f"{serial}_timestamps.json").write_text(json.dumps([1000, 3000, 4000, 5000, 6000]))
    with pytest.raises(BadFile, match="field 'times': do not run as field"):
        read(tmp_path)


def test_cameras_are_those_of_the_log(tmp_path: Path) -> None:
    write(tmp_path)
    episode = read(tmp_path)
    assert set(episode.cameras) == set(samples.SERIALS) and DOUBT in episode.notes
    fixed, mounted = episode.cameras["exterior_1"], episode.cameras["wrist"]
    assert fixed.size == samples.SIZE and fixed.parent_link is None and mounted.parent_link == "panda_link8"
    turn = Rotation.from_euler("xyz", [-2.0, 0.1, 1.5]).as_matrix()
    assert np.allclose(fixed.T_parent_camera[:3, 3], (0.4, 0.5, 0.6)) and np.allclose(
        fixed.T_parent_camera[:3, :3], turn, atol=1e-6
    )
    # 1280 x 720 to 64 x 48: focal lengths by their own side.
    assert fixed.intrinsics[0, 0] == pytest.approx(730 * 64 / 1280)
    assert fixed.intrinsics[1, 1] == pytest.approx(730 * 48 / 720)
    # A point in front of the camera is seen in the middle of the picture.
    point = torch.tensor([0.4, 0.5, 0.6]) + torch.from_numpy(turn[:, 2]).float()
    pixel, depth = fixed.project(point[None])
    assert depth[0] == pytest.approx(1, abs=1e-5) and np.allclose(pixel[0], (31.5, 23.5), atol=0.1)


def test_without_focal_lengths_there_are_no_cameras(tmp_path: Path) -> None:
    write(tmp_path, intrinsics=False)
    episode = read(tmp_path)
    assert not episode.cameras and sum("no focal length" in note for note in episode.notes) == 3


def test_a_camera_that_moves_is_left_out(tmp_path: Path) -> None:
    import h5py

    with h5py.File(write(tmp_path) / "trajectory.h5", "r+") as file:
        file[f"observation/camera_extrinsics/{samples.SERIALS['exterior_1']}_left"][3, 0] += 0.01
    episode = read(tmp_path)
    assert set(episode.cameras) == {"exterior_2", "wrist"}
    assert any("exterior_1: its logged pose changes" in note for note in episode.notes)


def test_instructions_are_those_of_the_annotations(tmp_path: Path) -> None:
    folder = write(tmp_path)
    assert read(tmp_path).instruction == "Open or close"
    uuid = json.loads(next(folder.glob("metadata_*.json")).read_text())["uuid"]
    told = {uuid: {"language_instruction1": "", "language_instruction2": "Open the drawer"}}
    (tmp_path / "aggregated-annotations-030724.json").write_text(json.dumps(told))
    assert read(tmp_path).instruction == "Open the drawer"


@pytest.mark.parametrize("kind", ["soft", "external", "virtual", "stored outside"])
def test_a_log_that_leads_elsewhere_is_not_followed(tmp_path: Path, kind: str) -> None:
    import h5py

    path, field = write(tmp_path) / "trajectory.h5", "observation/robot_state/joint_positions"
    other = tmp_path / "other.h5"
    joints = samples.arm(0)[0]
    with h5py.File(other, "w") as file:
        file["joints"] = joints
    (tmp_path / "raw").write_bytes(joints.tobytes())
    with h5py.File(path, "r+") as file:
        del file[field]
        if kind == "soft":
            file[field] = h5py.SoftLink("/action/joint_position")
        elif kind == "external":
            file[field] = h5py.ExternalLink(str(other), "/joints")
        elif kind == "virtual":
            layout = h5py.VirtualLayout(joints.shape, "f8")
            layout[:] = h5py.VirtualSource(str(other), "joints", joints.shape)
            file.create_virtual_dataset(field, layout)
        else:
            file.create_dataset(field, joints.shape, "f8", external=[(str(tmp_path / "raw"), 0, joints.nbytes)])
    with pytest.raises(BadFile, match=rf"{field}': (is a link|keeps its numbers)"):
        read(tmp_path)


def test_cameras_must_be_two_and_one(tmp_path: Path) -> None:
    import h5py

    with h5py.File(write(tmp_path) / "trajectory.h5", "r+") as file:
        file["observation/camera_type/33333333"] = np.ones(samples.FRAMES)
    with pytest.raises(BadFile, match="more than two exterior cameras"):
        read(tmp_path)
