"""Readers of Bridge clips, of EgoVid and of the twin's recordings: what is particular to each of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data import reader_samples as samples
from vap_sim.data.dataset import open_dataset, read_all
from vap_sim.data.egovid_poses import head_path
from vap_sim.data.episode import Episode
from vap_sim.data.joint_log import real_data_folder
from vap_sim.data.twin import save_episode
from vap_sim.errors import BadFile


def test_bridge_actions_keep_their_units(tmp_path: Path) -> None:
    samples.bridge_samples(tmp_path / "train")
    dataset = open_dataset(tmp_path)
    assert dataset.names[1] == "train/000000001"
    episode = dataset.read("train/000000001")
    assert np.allclose(episode.actions[:, :7], 0.1) and not episode.actions[:, 7:].any()
    assert episode.frame_rate == 5 and episode.tool is None and episode.gripper is None and episode.joints is None
    assert any("normalised units" in note for note in episode.notes)
    assert any("header states 20 Hz" in note for note in episode.notes)


def test_the_real_bridge_clips_are_read() -> None:
    root = real_data_folder()
    if root is None:
        pytest.skip("no real recordings here; see VAP_SIM_REAL_DATA")
    results = list(read_all(open_dataset(root / "bridge")))
    assert len(results) == 6
    for episode in results:
        assert isinstance(episode, Episode)
        assert np.abs(episode.actions[:, :3]).max() <= 1.75 and set(episode.actions[:, 6]) <= {-1.0, 1.0}
        assert next(episode.views["image"].frames()).shape == (256, 256, 3)


def test_clips_are_found_in_their_own_videos_and_in_longer_ones(tmp_path: Path) -> None:
    samples.egovid(tmp_path)
    dataset = open_dataset(tmp_path)
    assert dataset.names == ("aaaa_0_6", "aaaa_30_36", "bbbb_2_8")
    assert dataset.notes == ("1 clips of the tables have no video here",)
    part = dataset.read("bbbb_2_8")
    whole = samples.pictures(2, 12)[2:8]
    shown = np.stack(list(part.views["head"].frames()))
    assert shown.shape == whole.shape and np.abs(shown.astype(int) - whole).mean() < 6
    assert part.frame_rate == 30 and part.instruction == "open drawer" and part.robot is None


def test_poses_of_the_head_are_for_the_size_that_is_asked_for(tmp_path: Path) -> None:
    samples.egovid(tmp_path)
    path = head_path(tmp_path, "aaaa_0_6", samples.SIZE)
    assert path.length == 5 and path.cost == 0.25
    assert path.camera.intrinsics.shape == (5, 3, 3) and path.camera.size == samples.SIZE
    assert float(path.camera.intrinsics[0, 0, 0]) == pytest.approx(480 * 48 / 540)
    assert any("first 5 frames" in note for note in open_dataset(tmp_path).read("aaaa_0_6").notes)


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        ("fused_pose.npy", np.eye(4), "has shape .4, 4., expected"),
        ("fused_pose.npy", np.tile(2 * np.eye(4), (5, 1, 1)), "frame 0 is no pose"),
        ("fused_pose.npy", np.full((5, 4, 4), np.nan), "expected finite numbers"),
        ("fused_pose.npy", np.array([{}], object), "expected numbers"),
        ("intri.npy", np.zeros((3, 3)), "is no camera's matrix"),
    ],
)
def test_damaged_poses_are_named_and_keep_no_other_clip_back(
    tmp_path: Path, file: str, values: np.ndarray, words: str
) -> None:
    samples.egovid(tmp_path)
    np.save(tmp_path / "poses" / "aaaa_0_6" / file, values)
    dataset = open_dataset(tmp_path)
    with pytest.raises(BadFile, match=rf"episode 'aaaa_0_6', field '{file}'.*{words}"):
        dataset.read("aaaa_0_6")
    assert isinstance(dataset.read("aaaa_30_36"), Episode)


def test_a_recording_of_the_twin_is_read_as_a_robots(tmp_path: Path) -> None:
    recording = samples.twin_episode(1)
    save_episode(tmp_path / "twin_00000001.vap.npz", recording)
    episode = open_dataset(tmp_path).read("twin_00000001")
    assert np.allclose(episode.joints, recording.measured[:, :7])
    assert np.allclose(episode.gripper, np.clip(recording.measured[:, 7] / 0.8, 0, 1), atol=1e-6)
    assert np.allclose(episode.joint_targets[:-1], recording.joints[1:, :7])
    assert np.allclose(episode.joint_targets[-1], recording.joints[-1, :7])
    assert np.allclose(episode.actions[:-1], recording.actions)
    # What holds the last pose: no speed, and the gripper as it was told last.
    assert not episode.actions[-1, :7].any() and episode.actions[-1, 7] == 0.5
    assert episode.frame_rate == 5 and episode.robot == "panda_robotiq"
    for number, view in enumerate(("exterior_1", "exterior_2")):
        assert np.array_equal(np.stack(list(episode.views[view].frames())), recording.frames[number])
        assert episode.cameras[view].size == samples.SIZE


def test_motion_without_pictures_has_no_views(tmp_path: Path) -> None:
    recording = samples.twin_episode(0, views=())
    camera = {"name": "exterior_1", "size": [8, 8], "eye": [1, 0, 1], "target": [0, 0, 0], "focal_px": 9.0}
    save_episode(tmp_path / "motion_00000000.vap.npz", replace(recording, meta=recording.meta | {"cameras": [camera]}))
    episode = open_dataset(tmp_path).read("motion_00000000")
    assert not episode.views and list(episode.cameras) == ["exterior_1"] and episode.length == samples.FRAMES


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("robot", "panda_robotic", "field 'robot'.*Did you mean 'panda_robotiq'"),
        ("control_dt", 0, "field 'control_dt': is 0"),
        ("control_mode", "telepathy", "field 'control_mode'.*telepathy"),
        ("cameras", [], "names 0 cameras for 2 views"),
        ("cameras", [{"name": "exterior_1"}] * 2, "field 'cameras'"),
    ],
)
def test_a_recording_that_cannot_be_is_named(tmp_path: Path, field: str, value: object, words: str) -> None:
    recording = samples.twin_episode(0)
    save_episode(tmp_path / "a.vap.npz", replace(recording, meta=recording.meta | {field: value}))
    with pytest.raises(BadFile, match=rf"a\.vap\.npz: episode 'a'.*{words}"):
        open_dataset(tmp_path).read("a")


def test_fingers_that_the_twin_bent_open_are_read_as_open(tmp_path: Path) -> None:
    """They are pressed onto things beyond their range in one recording of seven; nonsense is refused all the same."""
    recording = samples.twin_episode(1)
    for name, bent in (("bent", -1.1), ("nonsense", -9.0)):
        measured = recording.measured.copy()
        measured[2, 7] = bent
        save_episode(tmp_path / f"{name}.vap.npz", replace(recording, measured=measured))
    dataset = open_dataset(tmp_path)
    episode = dataset.read("bent")
    assert episode.gripper is not None and episode.gripper[2] == 0.0
    assert "gripper positions below 0 or above 1 were moved to it" in episode.notes
    with pytest.raises(BadFile, match=r"episode 'nonsense', field 'measured': has values -11"):
        dataset.read("nonsense")
