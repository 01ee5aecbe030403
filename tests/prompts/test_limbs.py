"""Limbs: as thick as the robot, behind every bone, and measured on the robot's own surface."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.prompts.figures import GREEN, RED, bones, project
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.prompts import draw_skeletons, profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.prompts.silhouette import silhouettes
from vap_sim.robots.kinematics import Robot
from vap_sim.robots.library import RobotModel, load_robot
from vap_sim.robots.limbs import main, measured_limbs
from vap_sim.robots.skeleton import Bone, KeyPoint, SkeletonSpec

SIZE, FOCAL = (64, 64), 100.0
LIMBS = replace(profile("limbs"), depth_cue=None)
BARE = replace(LIMBS, limbs=0.0)


def draw(points: torch.Tensor, skeleton: SkeletonSpec, *, limbs: bool = True) -> np.ndarray:
    xy, depth = project(points)
    return draw_skeletons(xy, depth, skeleton, SIZE, LIMBS if limbs else BARE, focal=FOCAL).numpy()


def across(depth: float) -> torch.Tensor:
    """A bone from side to side of the picture [m]."""
    return torch.tensor([[-0.6, 0.0, 1.0], [0.6, 0.0, 1.0]]) * depth


@pytest.mark.parametrize("depth", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("radius", [0.03, 0.08])
def test_a_limb_is_as_wide_as_the_camera_would_see_it(depth: float, radius: float) -> None:
    picture = draw(across(depth), bones((0, 1), radius=radius))
    rows = np.flatnonzero(picture[:, 32].any(-1))
    expected = min(2 * radius * FOCAL / depth, 64)
    assert abs(len(rows) - expected) <= 2, (len(rows), expected)
    assert abs(rows.mean() - 31.5) <= 0.5


def test_a_limb_that_comes_nearer_grows() -> None:
    tilted = torch.tensor([[-0.4, 0.0, 1.6], [0.2, 0.0, 0.8]])
    lit = draw(tilted, bones((0, 1), radius=0.05)).any(-1).sum(axis=0)
    left, right = 31.5 - 25 + 4, 31.5 + 25 - 4
    assert lit[round(right)] > 1.5 * lit[round(left)]


def test_bones_lie_over_limbs_however_near_these_are() -> None:
    """Where a bone covers a pixel wholly, limbs change nothing; nearer limbs hide farther ones."""
    points = torch.tensor([[-0.6, 0.0, 1.2], [0.6, 0.0, 1.2], [0.0, -0.3, 0.6], [0.0, 0.3, 0.6]])
    skeleton = bones((0, 1), (2, 3), radius=0.06)
    bare, thick = draw(points, skeleton, limbs=False), draw(points, skeleton)
    solid = (bare == RED).all(-1) | (bare == GREEN).all(-1)
    assert solid.sum() > 100
    np.testing.assert_array_equal(thick[solid], bare[solid])
    dim = tuple(round(LIMBS.limbs * level) for level in GREEN)
    # Beside the near bone and above the far one: there both have limbs, and the nearer hides the other.
    assert tuple(thick[28, 38]) == dim


def test_bones_without_a_radius_have_no_limb() -> None:
    points, skeleton = across(1.0), bones((0, 1))
    np.testing.assert_array_equal(draw(points, skeleton), draw(points, skeleton, limbs=False))


def test_a_limb_whose_bone_is_out_of_sight_is_seen() -> None:
    beside = across(1.0) + torch.tensor([0.0, 0.36, 0.0])
    assert not draw(beside, bones((0, 1)), limbs=False).any()
    assert draw(beside, bones((0, 1), radius=0.1)).any()


def test_a_limb_from_behind_the_camera_has_the_width_it_has_there() -> None:
    """Where the bone crosses a row, its depth follows from the row; the rest of it is out of the picture, far below."""
    start, end, radius = torch.tensor([0.0, 0.1, -0.5]), torch.tensor([0.0, 0.0, 1.5]), 0.05
    lit = draw(torch.stack([start, end]), bones((0, 1), radius=radius)).any(-1)
    assert not lit[:20].any()
    for row in (45, 55, 63):
        slope = (row - 31.5) / FOCAL
        # start + share * (end - start) lies on the ray of the row: y = slope * z.
        share = (start[1] - slope * start[2]) / (slope * (end - start)[2] - (end - start)[1])
        depth = float((start + share * (end - start))[2])
        assert abs(int(lit[row].sum()) - 2 * radius * FOCAL / depth) <= 3, row


def pipe(folder: Path, radius: float) -> RobotModel:
    """A robot of a foot without a shape and one round rod along z."""
    (folder / "robot.urdf").write_text(
        f"""<robot name="pipe"><link name="base"/>
  <link name="rod"><visual><origin xyz="0 0 0.3"/><geometry><cylinder radius="{radius}" length="0.6"/></geometry>
  </visual></link>
  <joint name="turn" type="continuous"><parent link="base"/><child link="rod"/><axis xyz="1 0 0"/>
    <limit velocity="1" effort="1"/></joint></robot>""",
        encoding="utf-8",
    )
    points = (KeyPoint("root", "rod"), KeyPoint("end", "rod", (0.0, 0.0, 0.6)), KeyPoint("mark", "rod"))
    made = (Bone("root", "end", "arm", RED), Bone("root", "mark", "plumb", GREEN))
    return RobotModel(
        Robot.from_urdf(folder / "robot.urdf"),
        SkeletonSpec(points, made),
        {},
        None,
        "rod",
        "rod",
        torch.zeros(1),
        folder,
    )


@pytest.mark.parametrize("radius", [0.02, 0.05])
def test_a_rod_is_measured_as_thick_as_it_is(tmp_path: Path, radius: float) -> None:
    rod, mark = measured_limbs(pipe(tmp_path, radius)).bones
    assert rod.radius == pytest.approx(radius, rel=0.03)
    assert mark.radius is None, "what only points at the ground has no limb"


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    model = pipe(tmp_path, 0.02)
    with pytest.raises(InvalidInput, match=r"share of the surface within a limb: given 0"):
        measured_limbs(model, share=0)
    (tmp_path / "robot.urdf").write_text('<robot name="none"><link name="base"/></robot>', encoding="utf-8")
    plumb_alone = replace(model, skeleton=SkeletonSpec(model.skeleton.points, model.skeleton.bones[1:]))
    assert measured_limbs(plumb_alone).bones == plumb_alone.skeleton.bones, "only a plumb line"
    bare = replace(
        model,
        robot=Robot.from_urdf(tmp_path / "robot.urdf"),
        skeleton=SkeletonSpec((KeyPoint("a", "base"),), (Bone("a", "a", "arm", RED),)),
    )
    with pytest.raises(InvalidInput, match="visuals of robot"):
        measured_limbs(bare)
    with pytest.raises(BadFile, match=r"robot\.json"):
        main([str(tmp_path)])


@pytest.mark.parametrize("name", ["panda_robotiq", "widowx", "google_robot"])
def test_shipped_skeletons_are_what_the_command_writes(name: str, tmp_path: Path) -> None:
    shipped = load_robot(name).folder
    folder = tmp_path / name
    shutil.copytree(shipped, folder)
    bare = SkeletonSpec.load(folder / "skeleton.json")
    main([str(folder)])
    again = SkeletonSpec.load(folder / "skeleton.json")
    assert (again.points, [replace(bone, radius=None) for bone in again.bones]) == (
        bare.points,
        [replace(bone, radius=None) for bone in bare.bones],
    )
    told, found = ([bone.radius or 0.0 for bone in spec.bones] for spec in (bare, again))
    np.testing.assert_allclose(found, told, atol=2e-4)


@pytest.mark.parametrize("name", ["panda_robotiq", "widowx", "google_robot", "human_hand", "human_hand_left"])
def test_limbs_alone_cover_most_of_the_robot(name: str) -> None:
    """Against the exact silhouette, at random poses, by the robot's own cameras."""
    model = load_robot(name)
    generator = torch.Generator().manual_seed(3)
    span = 0.5 * (model.robot.upper - model.robot.lower).clamp(max=3.0)
    q = model.robot.clamp(model.home + span * (torch.rand(12, model.robot.num_joints, generator=generator) - 0.5))[None]
    cameras = [camera for camera in model.cameras.values() if camera.name.startswith(("exterior", "head"))][:1]
    drawn = Prompter(model, profile("limbs"), cameras[0].size).draw(q, cameras).skeleton.any(-1)
    bare = Prompter(model, profile("compact"), cameras[0].size).draw(q, cameras).skeleton.any(-1)
    true = silhouettes(model, q, cameras)
    thick, thin = (float((some & true).sum() / (some | true).sum()) for some in (drawn, bare))
    assert thick > max(0.5, thin), (thick, thin)
