"""RLDS datasets: what known ones mean, what is left of unknown ones, and the real Bridge episodes."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from tests.data import rlds_samples as samples
from tests.data.reader_samples import COUNT, FRAMES, arm, pictures
from vap_sim.data import rlds
from vap_sim.data.dataset import open_dataset, read_all
from vap_sim.data.episode import Episode
from vap_sim.data.joint_log import real_data_folder
from vap_sim.errors import BadFile
from vap_sim.robots.library import load_robot

pytest.importorskip("google_crc32c", reason="TFRecords have checksums of that kind")

SEEN = "steps/observation/"
FLAT = {"steps/is_first": np.array([1] + [0] * (FRAMES - 1))}


def bridge_steps() -> dict[str, Any]:
    state = np.zeros((FRAMES, 7))
    state[:, :3], state[:, 5], state[:, 6] = (0.3, 0.1, 0.2), 0.5, 1.002
    films = [samples.still(picture) for picture in pictures(0)]
    flags = {f"episode_metadata/has_image_{k}": np.array([k == 0]).astype(int) for k in range(2)}
    return FLAT | flags | {
        SEEN + "state": state, "steps/action": np.full((FRAMES, 7), 0.5),
        "steps/language_instruction": [b"put"] * FRAMES,
        SEEN + "image_0": films, SEEN + "image_1": [films[0]] * FRAMES,
    }  # fmt: skip


def fractal_steps() -> dict[str, Any]:
    pose = np.tile([0.5, 0.1, 0.7, 0.0, 0.0, 0.0, 1.0], (FRAMES, 1))
    return FLAT | {
        SEEN + "base_pose_tool_reached": pose, SEEN + "gripper_closed": np.linspace(0, 1, FRAMES),
        SEEN + "natural_language_instruction": [b"pick"] * FRAMES,
        SEEN + "image": [samples.still(pictures(0)[0])] * FRAMES,
        "steps/action/world_vector": np.ones((FRAMES, 3)), "steps/action/rotation_delta": np.zeros((FRAMES, 3)),
        "aspects/has_aspects": np.array([1]), "aspects/success": np.array([1]),
    }  # fmt: skip


def read(folder: Path, name: str, steps: dict[str, Any], **given: Any) -> Episode:
    samples.write_rlds(folder / name, name, [steps])
    return rlds.open_dataset(folder / name, **given).read("train_000000")


def test_droid_has_joints_that_agree_with_its_flange(tmp_path: Path) -> None:
    episode = read(tmp_path, "droid_100", samples.droid_steps(1))
    joints, gripper, flange = arm(1)
    assert np.allclose(episode.joints, joints, atol=1e-6) and np.allclose(episode.gripper, gripper, atol=1e-6)
    assert np.allclose(episode.tool[:, :3, 3], flange[:, :3], atol=1e-6) and episode.tool_link == "panda_link8"
    assert np.allclose(episode.joint_targets, joints + 0.01, atol=1e-6)
    assert episode.actions.shape == (FRAMES, 8) == (FRAMES, len(episode.action_names))
    assert (episode.robot, episode.frame_rate, episode.instruction) == ("panda_robotiq", 15.0, "open it")
    assert episode.success is True and set(episode.views) == {"exterior_1", "exterior_2", "wrist"}
    first = next(episode.views["wrist"].frames())
    assert np.abs(first.astype(int) - pictures(1)[0]).mean() < 6


def test_pictures_are_those_of_the_record_in_either_format(tmp_path: Path) -> None:
    steps = samples.droid_steps(0)
    steps[SEEN + "wrist_image_left"] = [samples.still(picture, ".png") for picture in pictures(2)]
    footage = read(tmp_path, "droid", steps).views["wrist"]
    assert np.array_equal(np.stack(list(footage.frames())), pictures(2))
    assert np.array_equal(np.stack(list(footage.frames(2, 4))), pictures(2)[2:4])


def test_bridge_points_down_where_its_angles_are_zero(tmp_path: Path) -> None:
    steps = bridge_steps()
    steps[SEEN + "state"][:, 5] = 0
    episode = read(tmp_path, "bridge_dataset", steps)
    assert np.allclose(episode.tool[0, :3, 0], (0, 0, -1), atol=1e-7) and episode.tool_link == "ee_gripper_link"
    assert np.allclose(episode.tool[0, :3, 3], (0.3, 0.1, 0.2)) and not episode.gripper.any()
    assert episode.frame_rate == 5 and episode.joints is None and episode.action_names[:3] == ("x", "y", "z")
    assert any("moved to it" in note for note in episode.notes)


def test_a_turn_of_bridge_is_a_turn_about_the_upright(tmp_path: Path) -> None:
    tool = read(tmp_path, "bridge_dataset", bridge_steps()).tool[0, :3, :3]
    assert np.allclose(tool[:, 0], (0, 0, -1), atol=1e-7)
    assert np.allclose(tool[:, 1], (-np.sin(0.5), np.cos(0.5), 0), atol=1e-6)


def test_a_view_that_is_a_dummy_and_never_changes_is_left_out(tmp_path: Path) -> None:
    episode = read(tmp_path, "bridge_dataset", bridge_steps())
    assert list(episode.views) == ["image_0"] and any("image_1" in note for note in episode.notes)
    steps = bridge_steps()
    steps["episode_metadata/has_image_0"] = np.array([0])
    episode = read(tmp_path / "more", "bridge_dataset", steps)
    assert list(episode.views) == ["image_0"] and any("image_0 are dummies" in note for note in episode.notes)


def test_rt_1_is_read(tmp_path: Path) -> None:
    episode = read(tmp_path, "fractal20220817_data", fractal_steps())
    assert np.allclose(episode.tool[:, :3, :3], np.eye(3)) and np.allclose(episode.tool[:, :3, 3], (0.5, 0.1, 0.7))
    assert np.allclose(episode.gripper, np.linspace(0, 1, FRAMES), atol=1e-6)
    assert (episode.frame_rate, episode.instruction, episode.success) == (3.0, "pick", True)
    assert episode.action_names == tuple(f"{n}_{k}" for n in ("world_vector", "rotation_delta") for k in range(3))
    steps = fractal_steps()
    steps[SEEN + "base_pose_tool_reached"][2, 6] = 0.5
    with pytest.raises(BadFile, match=r"base_pose_tool_reached'.*quaternion of length 0\.5"):
        read(tmp_path / "bad", "fractal20220817_data", steps)


def test_an_unknown_dataset_needs_its_rate_and_guesses_nothing(tmp_path: Path) -> None:
    steps = bridge_steps()
    samples.write_rlds(tmp_path, "mine", [steps])
    with pytest.raises(BadFile, match=r"episode 'train_000000', field 'frame_rate': RLDS states none; give it"):
        open_dataset(tmp_path).read("train_000000")
    episode = rlds.open_dataset(tmp_path, frame_rate=12).read("train_000000")
    assert episode.frame_rate == 12 and episode.tool is None and episode.gripper is None and episode.joints is None
    assert episode.actions.shape == (FRAMES, 7) and episode.instruction == "put"
    assert any("state" in note and "left out" in note for note in episode.notes)


@pytest.mark.parametrize("encoding", ["bytes", "zlib"])
def test_numbers_that_are_stored_as_bytes_are_read(tmp_path: Path, encoding: str) -> None:
    steps, values = samples.droid_steps(0), arm(0)[0]
    packed = [row.astype("<f8").tobytes() for row in values]
    steps[SEEN + "joint_position"] = packed if encoding == "bytes" else [zlib.compress(row) for row in packed]
    samples.write_rlds(tmp_path, "droid", [steps])
    about = json.loads((tmp_path / "features.json").read_text().replace('"none"', f'"{encoding}"', 1))
    text = json.dumps(about)
    place = text.index('"joint_position"')
    text = text.replace(f'"{encoding}"', '"none"')
    text = text[:place] + text[place:].replace('"none"', f'"{encoding}"', 1)
    (tmp_path / "features.json").write_text(text)
    assert np.array_equal(rlds.open_dataset(tmp_path).read("train_000000").joints, values)
    # A bomb: more than a row unpacks to.
    steps[SEEN + "joint_position"][1] = zlib.compress(bytes(10**7)) if encoding == "zlib" else bytes(10**5)
    (tmp_path / "droid-train.tfrecord-00000-of-00001").write_bytes(samples.tfrecord([samples.example(steps)]))
    with pytest.raises(BadFile, match=r"joint_position': has a value of .* expected 56"):
        rlds.open_dataset(tmp_path).read("train_000000")


def test_versions_and_missing_shards(tmp_path: Path) -> None:
    for version in ("1.0.0", "1.1.0"):
        samples.write_rlds(tmp_path / version, "droid", [samples.droid_steps(k) for k in range(COUNT)], shards=COUNT)
    with pytest.raises(BadFile, match=r"versions: 1\.0\.0, 1\.1\.0"):
        rlds.open_dataset(tmp_path)
    (tmp_path / "1.1.0" / "droid-train.tfrecord-00001-of-00003").unlink()
    dataset = rlds.open_dataset(tmp_path / "1.1.0")
    assert dataset.names == ("train_000000", "train_000002")
    assert dataset.notes == ("1 of 3 shards are not here, such as droid-train.tfrecord-00001-of-00003",)
    assert len(list(read_all(dataset))) == 2


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("dataset_info.json", '"1"', '"1000000000000"', "cannot hold 1000000000000 episodes"),
        ("dataset_info.json", '"1"', '"-1"', "-1 episodes in a shard"),
        ("dataset_info.json", '"1"', '"one"', "'shardLengths' of split 'train': no numbers"),
        ("dataset_info.json", '"tfrecord"', '"array_record"', "field 'fileFormat': 'array_record'"),
        ("dataset_info.json", "{DATASET}", "../{DATASET}", "gives no file name"),
        ("dataset_info.json", '"name": "droid"', '"name": 3', "field 'name': 3"),
        ("dataset_info.json", '"splits"', '"parts"', "field 'splits'"),
        ("features.json", "pythonClassName", "type", "this reader knows TFDS 4.4 and later"),
        ("features.json", '"steps"', '"moments"', "field 'steps' is missing"),
        ("features.json", '"7"', '"seven"', "shape .* is none"),
    ],
)
def test_a_damaged_description_is_named(tmp_path: Path, file: str, old: str, new: str, words: str) -> None:
    samples.write_rlds(tmp_path, "droid", [samples.droid_steps(0)])
    (tmp_path / file).write_text((tmp_path / file).read_text().replace(old, new))
    with pytest.raises(BadFile, match=words) as caught:
        rlds.open_dataset(tmp_path)
    assert file in str(caught.value)


def test_more_records_than_stated_are_noted(tmp_path: Path) -> None:
    samples.write_rlds(tmp_path, "droid", [samples.droid_steps(0)])
    shard = tmp_path / "droid-train.tfrecord-00000-of-00001"
    shard.write_bytes(shard.read_bytes() + samples.tfrecord([b""]))
    notes = rlds.open_dataset(tmp_path).read("train_000000").notes
    assert "droid-train.tfrecord-00000-of-00001 has 2 records, dataset_info.json says 1" in notes


def test_the_real_bridge_episodes_are_read() -> None:
    root = real_data_folder()
    if root is None:
        pytest.skip("no real recordings here; see VAP_SIM_REAL_DATA")
    dataset = open_dataset(root / "bridge_rlds")
    assert dataset.format == "rlds" and len(dataset.names) == 25
    moved = []
    for episode in read_all(dataset):
        assert isinstance(episode, Episode)
        assert set(episode.views) == {"image_0", "image_1", "image_2"} and episode.instruction
        assert sum(1 for _ in episode.views["image_0"].frames()) == episode.length
        # Fingers point down within half a right angle, above the table and before the arm.
        assert (episode.tool[:, 2, 0] < -0.7).all() and (episode.tool[:, 0, 3] > 0.1).all()
        steps = np.diff(episode.tool[:, :3, 3], axis=0)
        moved.append(np.abs(steps - episode.actions[:-1, :3]).max())
    # Actions are the steps that the gripper then makes, to the centimetres by which it lags.
    assert np.median(moved) < 0.01


def test_the_real_arm_of_bridge_can_be_where_its_tool_is() -> None:
    root = real_data_folder()
    if root is None:
        pytest.skip("no real recordings here; see VAP_SIM_REAL_DATA")
    model, dataset = load_robot("widowx"), open_dataset(root / "bridge_rlds")
    link = model.robot.link_index("ee_gripper_link")
    low, high = (limit[:6].double().numpy() for limit in (model.robot.lower, model.robot.upper))

    def off(q: np.ndarray, tool: np.ndarray) -> np.ndarray:
        pose = model.robot.forward(torch.from_numpy(np.append(q, 0.02)))[link].numpy()
        return np.append(pose[:3, 3] - tool[:3, 3], 0.1 * (pose[:3, :3] - tool[:3, :3]).ravel())

    for name in dataset.names[:3]:
        tool = dataset.read(name).tool[-1]
        found = least_squares(off, (0.0, 0.04, 0.22, 0.0, 1.3, 0.0), args=(tool,), bounds=(low, high))
        assert np.abs(found.fun).max() < 1e-3
