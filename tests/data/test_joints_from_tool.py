"""Joints found from a log of the tool put it back where it was, and none are made up where that is not enough."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.episodes import episode
from vap_sim.data.checks import LIMIT_SLACK, full_joints, pose_errors
from vap_sim.data.dataset import open_dataset
from vap_sim.data.episode import Episode
from vap_sim.data.inspection import started
from vap_sim.data.joint_log import real_data_folder
from vap_sim.data.joints_from_tool import with_joints
from vap_sim.errors import BadFile, UnknownName
from vap_sim.robots.library import load_robot

WIDOWX = load_robot("widowx")
LINK = WIDOWX.flange_link


def logged(length: int = 20, seed: int = 0) -> tuple[Episode, np.ndarray]:
    """An episode of a WidowX that logs its tool alone, and the joints (T, 6) that it had."""
    rng = np.random.default_rng(seed)
    home = WIDOWX.home.double().numpy()[:6]
    wave = np.sin(np.linspace(0, 3, length)[:, None] * rng.uniform(0.5, 1.5, 6) + rng.uniform(0, 1, 6))
    joints = home + 0.3 * (wave - wave[0]) + rng.normal(0, 0.1, 6)
    whole = torch.from_numpy(np.concatenate([joints, np.full((length, 1), 0.02)], axis=1))
    tool = WIDOWX.robot.forward(whole)[:, WIDOWX.robot.link_index(LINK)].numpy()
    given = episode(length=length, joints=None, joint_targets=None, robot="widowx", tool=tool, tool_link=LINK)
    return given, joints


@pytest.mark.parametrize("seed", range(5))
def test_the_joints_that_the_arm_had_are_found(seed: int) -> None:
    given, joints = logged(seed=seed)
    found = with_joints(given, WIDOWX)
    assert found.joints is not None
    assert np.abs(found.joints - joints).max() < 0.01
    errors = pose_errors(found, WIDOWX)
    assert errors is not None and errors.max() < 2e-4
    assert "found from the logged poses of ee_gripper_link" in found.notes[-1]
    assert given.joints is None, "the episode given stays as it is"


def test_what_is_logged_is_left_as_it_is() -> None:
    panda = load_robot("panda_robotiq")
    whole = episode()
    assert with_joints(whole, panda) is whole
    # An arm of seven joints may bend its elbow as it likes while its tool stands still.
    seven = episode(joints=None)
    assert with_joints(seven, panda) is seven
    for missing in ({"tool": None}, {"tool_link": None}):
        given = replace(logged()[0], **missing)  # type: ignore[arg-type]
        assert with_joints(given, WIDOWX) is given


def test_poses_out_of_reach_and_jumps_name_their_frame() -> None:
    given, _ = logged()
    assert given.tool is not None
    far = given.tool.copy()
    far[7, 0, 3] += 2.0
    with pytest.raises(BadFile, match=r"frame 7: widowx does not reach the logged pose of ee_gripper_link by .* mm"):
        with_joints(replace(given, tool=far), WIDOWX)
    apart, _ = logged(length=2)
    other = torch.zeros(1, 7, dtype=torch.float64)
    other[0, 0] = 2.5
    there = WIDOWX.robot.forward(other)[:, WIDOWX.robot.link_index(LINK)].numpy()
    assert apart.tool is not None
    with pytest.raises(BadFile, match=r"frame 1: widowx would have to jump by \d"):
        with_joints(replace(apart, tool=np.concatenate([apart.tool[:1], there])), WIDOWX)
    with pytest.raises(UnknownName, match="ee_gripper_link"):
        with_joints(replace(given, tool_link="ee_griper_link"), WIDOWX)


def test_an_inspection_counts_them_as_joints() -> None:
    class Set:
        path, format, names = Path("memory"), "memory", ("take 0",)

    given, _ = logged()
    lacking = []
    for one in (given, replace(given, tool=None)):
        seen = started(Set(), WIDOWX)  # type: ignore[arg-type]
        seen.add(one)
        lacking.append([what for use, what in seen.lacking if use == "calibrate"])
    assert lacking == [[], ["joints"]]


def test_real_bridge_poses_are_reached() -> None:
    """Whether the frame in which Bridge logs its gripper is the one that the reader states: another is out of reach."""
    folder = real_data_folder()
    if folder is None or not (folder / "bridge_rlds").is_dir():
        pytest.skip("no real recordings: VAP_SIM_REAL_DATA names their folder")
    pytest.importorskip("google_crc32c")
    dataset = open_dataset(folder / "bridge_rlds" / "1.0.0")
    for name in dataset.names[::5]:
        found = with_joints(dataset.read(name), WIDOWX)
        errors = pose_errors(found, WIDOWX)
        assert errors is not None and errors.max() < 2e-4, name
        low, high = WIDOWX.robot.lower.numpy(), WIDOWX.robot.upper.numpy()
        whole = full_joints(found, WIDOWX)
        assert (whole > low - LIMIT_SLACK).all() and (whole < high + LIMIT_SLACK).all(), name
