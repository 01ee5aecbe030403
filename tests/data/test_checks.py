"""Checks: a sound episode has no finding, and every fault is found, named and measured, one at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.episodes import RATE, SIZES, episode, flange_poses, joint_path, pictures
from vap_sim.data.checks import KINDS, Finding, arm_joints, check_episode, full_joints, pose_errors
from vap_sim.data.footage import ArrayFootage, VideoFootage
from vap_sim.robots.library import load_robot

ROBOT = load_robot("panda_robotiq")
LENGTH = 12


def changed(frames: dict[int, np.ndarray], **more: Any) -> Any:
    """An episode with some poses exchanged, and its logged tool with them."""
    joints = joint_path(LENGTH, 0)
    for frame, pose in frames.items():
        joints[frame] = pose
    return episode(joints=joints, tool=flange_poses(joints), joint_targets=None, **more)


def only(found: tuple[Finding, ...]) -> Finding:
    assert len(found) == 1, found
    assert found[0].kind in KINDS
    return found[0]


def test_a_sound_episode_has_no_finding() -> None:
    for seed in range(3):
        assert check_episode(episode(seed), ROBOT) == ()
        assert check_episode(episode(seed)) == ()
    errors = pose_errors(episode(), ROBOT)
    assert errors is not None and errors.max() < 1e-6


def test_joints_in_the_robots_own_order() -> None:
    """The arm as it is logged, and the gripper's joint from its position; open where none is logged."""
    whole = full_joints(episode(), ROBOT)
    assert arm_joints(ROBOT) == tuple(f"panda_joint{k + 1}" for k in range(7))
    assert np.array_equal(whole[:, :7], joint_path(LENGTH, 0))
    assert ROBOT.gripper is not None
    position = ROBOT.gripper.to_position(torch.from_numpy(whole[:, 7])).numpy()
    assert np.allclose(position, episode().gripper)
    assert np.allclose(full_joints(episode(gripper=None), ROBOT)[:, 7], ROBOT.gripper.open_value)


def test_a_joint_count_that_does_not_fit_names_the_joints() -> None:
    joints = np.concatenate([joint_path(LENGTH, 0), np.zeros((LENGTH, 1))], axis=1)
    finding = only(check_episode(episode(joints=joints, joint_targets=None), ROBOT))
    assert (finding.kind, finding.field, finding.error) == ("joint count", "joints", True)
    assert "8 joints; panda_robotiq has 7: panda_joint1" in finding.message and "'finger_joint'" in finding.message


def test_degrees_are_named() -> None:
    """Each field for itself; the pose is not held against joints that are known to be wrong."""
    found = check_episode(episode(joints=np.degrees(joint_path(LENGTH, 0))), ROBOT)
    finding = only(found)
    assert (finding.kind, finding.field, finding.error) == ("degrees", "joints", True)
    assert "panda_joint4 is -1" in finding.message and "degrees, not radians" in finding.message
    finding = only(check_episode(episode(joint_targets=np.degrees(joint_path(LENGTH, 0))), ROBOT))
    assert (finding.kind, finding.field) == ("degrees", "joint_targets")


def test_joints_beyond_a_limit_are_counted() -> None:
    pose = joint_path(LENGTH, 0)[5].copy()
    pose[3] = 0.05  # the elbow of a Panda does not stretch beyond -0.07
    found = check_episode(changed(dict.fromkeys(range(5, LENGTH), pose)), ROBOT)
    finding = next(finding for finding in found if finding.kind == "limits")
    assert not finding.error and "panda_joint4 is 0.050 in frame 5, its limits are -3.072 to -0.070" in finding.message
    assert "(7 of 12 frames)" in finding.message
    pose[3] = -0.06
    assert not any(f.kind == "limits" for f in check_episode(changed(dict.fromkeys(range(5, LENGTH), pose)), ROBOT))


def test_a_speed_that_the_robot_cannot_reach() -> None:
    joints = joint_path(LENGTH, 0)
    joints[7:, 1] += 0.6  # in a fifth of a second
    found = check_episode(episode(joints=joints, tool=flange_poses(joints), joint_targets=None), ROBOT)
    finding = only(found)
    assert finding.kind == "speed" and "panda_joint2 moves at" in finding.message and "after frame 6" in finding.message
    assert "(1 of 11 steps)" in finding.message and not finding.error
    fast = float(np.abs(np.diff(joints[:, 1])).max() * RATE)
    assert f"{fast:.2f} a second" in finding.message


def test_a_log_that_stands_still() -> None:
    joints = np.tile(joint_path(1, 0), (LENGTH, 1))
    finding = only(check_episode(episode(joints=joints, tool=None, joint_targets=None), ROBOT))
    assert finding.kind == "still log" and not finding.error


@pytest.mark.parametrize(("millimetres", "error"), [(0.5, None), (4.0, False), (40.0, True)])
def test_a_pose_that_the_joints_do_not_give(millimetres: float, error: bool | None) -> None:
    tool = flange_poses(joint_path(LENGTH, 0))
    tool[:, :3, 3] += (
        millimetres / 1000 * np.array([np.cos(np.arange(LENGTH)), np.sin(np.arange(LENGTH)), np.zeros(LENGTH)]).T
    )
    found = check_episode(episode(tool=tool), ROBOT)
    if error is None:
        assert not found
        return
    finding = only(found)
    assert finding.kind == "pose" and finding.error == error
    assert f"logged {millimetres:.1f} mm (median)" in finding.message and "another link" not in finding.message


def test_the_pose_of_another_link_is_recognised() -> None:
    tool = flange_poses(joint_path(LENGTH, 0))
    tool[:, :3, 3] += 0.1034 * tool[:, :3, 2]
    finding = only(check_episode(episode(tool=tool), ROBOT))
    assert "always at (0.0, 0.0, 103.4) mm in its frame: the pose of another link" in finding.message


def test_millimetres_and_links_that_are_not_there() -> None:
    tool = flange_poses(joint_path(LENGTH, 0))
    tool[:, :3, 3] *= 1000
    finding = only(check_episode(episode(tool=tool), ROBOT))
    assert finding.kind == "millimetres" and finding.error
    finding = only(check_episode(episode(tool_link="panda_link9"), ROBOT))
    assert finding.kind == "no such link" and "Did you mean 'panda_link" in finding.message


def seen(frames: np.ndarray, **more: Any) -> Any:
    return episode(views={"wrist": ArrayFootage(frames)}, cameras={}, **more)


def test_a_video_of_another_length_than_its_log() -> None:
    finding = only(check_episode(seen(pictures(10, SIZES["wrist"], 0)), ROBOT))
    assert (finding.kind, finding.field, finding.error) == ("length", "views/wrist", True)
    assert "10 frames of video for 12 rows" in finding.message
    assert check_episode(seen(pictures(10, SIZES["wrist"], 0)), pictures=False) == (finding,)


def test_frozen_frames_count_where_the_robot_moves() -> None:
    shown = pictures(LENGTH, SIZES["wrist"], 0)
    shown[4] = shown[5] = shown[3]
    finding = only(check_episode(seen(shown), ROBOT))
    assert finding.kind == "frozen" and not finding.error
    assert "2 of 12 frames repeat the one before though the robot moves, first 4" in finding.message
    shown[1:] = shown[0]
    assert only(check_episode(seen(shown), ROBOT)).error
    still = np.tile(joint_path(1, 0), (LENGTH, 1))
    found = check_episode(seen(shown, joints=still, tool=None, joint_targets=None), ROBOT)
    assert [finding.kind for finding in found] == ["still log"]
    assert check_episode(seen(shown), ROBOT, pictures=False) == ()
    assert check_episode(seen(shown, joints=None), ROBOT) == ()


def test_frames_of_one_colour() -> None:
    shown = pictures(LENGTH, SIZES["wrist"], 0)
    shown[2] = 17
    finding = only(check_episode(seen(shown), ROBOT))
    assert finding.kind == "blank" and "1 of 12 frames are of one colour, first 2" in finding.message


def test_a_video_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(b"no video")
    finding = only(check_episode(episode(views={"wrist": VideoFootage(path)}, cameras={}), ROBOT))
    assert finding.kind == "unreadable" and finding.error and "cut.mp4" in finding.message


def test_real_recordings_are_sound_and_their_poses_fit() -> None:
    """Episodes of DROID: the joints put the flange to a millimetre where it was logged; degrees are noticed."""
    from dataclasses import replace

    from vap_sim.data.dataset import open_dataset
    from vap_sim.data.joint_log import real_data_folder

    root = real_data_folder()
    if root is None or not (root / "droid").is_dir():
        pytest.skip("the real recordings are not there")
    dataset = open_dataset(root / "droid", "droid_sample")
    measured = 0
    for name in dataset.names[::4]:
        given = dataset.read(name)
        assert not [finding for finding in check_episode(given, ROBOT, pictures=False) if finding.error], name
        if given.joints is None:
            continue
        if (errors := pose_errors(given, ROBOT)) is not None:
            measured += 1
            assert np.median(errors) < 1e-3
        found = check_episode(replace(given, joints=np.degrees(given.joints)), ROBOT, pictures=False)
        assert "degrees" in [finding.kind for finding in found]
    assert measured
