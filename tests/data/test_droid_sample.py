"""DROID samples: both forms of the log, rates and targets, the real episodes, and the joint log made of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data import reader_samples as samples
from vap_sim.data.dataset import Refused, open_dataset, read_all
from vap_sim.data.episode import Episode
from vap_sim.data.joint_log import read_joint_log, real_data_folder
from vap_sim.errors import BadFile
from vap_sim.robots.library import load_robot


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("droid") / "some samples"
    samples.droid_samples(root)
    return root


def test_rows_of_both_forms_are_those_of_the_frames(root: Path) -> None:
    dataset = open_dataset(root)
    for number, rows, step in ((0, samples.FRAMES, 1), (2, 3 * samples.FRAMES - 1, 3)):
        joints, gripper, flange = samples.arm(number, rows)
        episode = dataset.read(f"episode_{number}")
        assert np.allclose(episode.joints, joints[::step]) and np.allclose(episode.gripper, gripper[::step])
        assert np.allclose(episode.tool[:, :3, 3], flange[::step, :3]) and episode.tool_link == "panda_link8"
        assert (episode.robot, episode.frame_rate, episode.instruction) == ("panda_robotiq", 5.0, f"task {number}")
        assert episode.success is bool(number % 2) and list(episode.views) == ["exterior_1", "exterior_2", "wrist"]
    # The last command before the next frame; after the last frame, the last there is.
    rows = [2, 5, 8, 11, 14, 16]
    assert np.allclose(episode.joint_targets, joints[rows] + 0.01)


def test_a_single_sample_is_a_dataset_too(root: Path) -> None:
    dataset = open_dataset(root / "episode_1")
    assert dataset.names == ("episode_1",) and dataset.read("episode_1").success is True


def test_forward_kinematics_gives_the_tool(root: Path) -> None:
    for result in read_all(open_dataset(root)):
        assert isinstance(result, Episode)
        assert flange_error(result) < 1e-6


def flange_error(episode: Episode) -> float:
    """Metres between the logged flange and that of the logged joints."""
    model = load_robot("panda_robotiq")
    poses = model.robot.forward(torch.from_numpy(np.c_[episode.joints, np.zeros(episode.length)]))
    flange = poses[:, model.robot.link_index(model.flange_link), :3, 3].numpy()
    return float(np.linalg.norm(flange - episode.tool[:, :3, 3], axis=1).max())


def test_the_real_episodes_fit_their_robot() -> None:
    root = real_data_folder()
    if root is None:
        pytest.skip("no real recordings here; see VAP_SIM_REAL_DATA")
    results = list(read_all(open_dataset(root / "droid")))
    assert len(results) == 16
    refused = [result for result in results if isinstance(result, Refused)]
    # One video of this sample has a frame more than its log has rows.
    assert [result.name for result in refused] == ["droid_new_setup_0006"]
    assert "its video has 42 frames, the log 41 rows" in str(refused[0].error)
    for episode in results:
        if isinstance(episode, Episode):
            assert flange_error(episode) < 1e-4
            assert episode.frame_rate == (5.0 if "subset" in episode.name else 4.0)
            assert (episode.joint_targets is not None) == ("subset" in episode.name)


def test_a_joint_log_needs_no_videos(root: Path, tmp_path: Path) -> None:
    (tmp_path / "annotation.json").write_text((root / "episode_2" / "annotation.json").read_text())
    log = read_joint_log(tmp_path)
    joints, gripper, _ = samples.arm(2, 3 * samples.FRAMES - 1)
    assert log.joints.dtype == np.float32 and log.instruction == "task 2" and log.name == tmp_path.name
    assert np.allclose(log.joints, np.c_[joints, gripper][::3], atol=1e-6)
    record = json.loads((tmp_path / "annotation.json").read_text())
    record["joints"] = []
    (tmp_path / "annotation.json").write_text(json.dumps(record))
    with pytest.raises(BadFile, match="joints"):
        read_joint_log(tmp_path)
    with pytest.raises(BadFile, match="no such file"):
        read_joint_log(tmp_path / "none")
