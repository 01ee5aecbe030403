"""Laws of the drawing kernel: order, clipping, width, independence of the batch, and its errors."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.prompts.figures import GREEN, LINES, RED, SOLID, bones, project
from vap_sim.errors import InvalidInput
from vap_sim.prompts import DepthCue, GroupStyle, draw_skeletons, profile
from vap_sim.prompts.profiles import DrawProfile
from vap_sim.robots.skeleton import Bone, KeyPoint, SkeletonSpec

SIZE = (64, 64)


def draw(points: Tensor, skeleton: SkeletonSpec, style: DrawProfile = LINES) -> np.ndarray:
    xy, depth = project(points)
    return draw_skeletons(xy, depth, skeleton, SIZE, style, focal=100.0).numpy()


def random_chains(rows: int, seed: int = 0) -> Tensor:
    """Chains of 8 points around and behind the camera (rows, 8, 3)."""
    noise = torch.randn(rows, 8, 3, generator=torch.Generator().manual_seed(seed))
    return noise * torch.tensor([0.4, 0.4, 0.7]) + torch.tensor([0.0, 0.0, 0.9])


CHAIN = bones(*[(i, i + 1) for i in range(7)], radius=0.1)


@pytest.mark.parametrize("name", ["vap", "compact", "limbs"])
def test_a_batch_draws_what_each_row_draws_alone(name: str) -> None:
    points = random_chains(150)
    together = draw(points, CHAIN, profile(name))
    assert (points[..., 2] < 0).any(dim=-1).float().mean() > 0.3, "rows with and without points behind the camera"
    for row in range(0, 150, 7):
        np.testing.assert_array_equal(together[row], draw(points[row], CHAIN, profile(name)))
    shuffled = torch.randperm(150, generator=torch.Generator().manual_seed(1))
    np.testing.assert_array_equal(together[shuffled.numpy()], draw(points[shuffled], CHAIN, profile(name)))


def test_leading_axes_are_kept() -> None:
    points = random_chains(12).reshape(2, 3, 2, 8, 3)
    pictures = draw(points, CHAIN)
    assert pictures.shape == (2, 3, 2, 64, 64, 3)
    np.testing.assert_array_equal(pictures[1, 2, 0], draw(points[1, 2, 0], CHAIN))


def test_no_rows_give_no_pictures() -> None:
    assert draw(torch.zeros(0, 8, 3), CHAIN).shape == (0, 64, 64, 3)


def test_the_nearer_bone_covers_the_farther_one() -> None:
    cross = bones((0, 1), (2, 3))
    across = torch.tensor([[-0.2, 0.0, 1.0], [0.2, 0.0, 1.0], [0.0, -0.2, 1.0], [0.0, 0.2, 1.0]])
    red_near = across * torch.tensor([[0.8], [0.8], [1.0], [1.0]])
    green_near = across * torch.tensor([[1.0], [1.0], [0.8], [0.8]])
    pictures = draw(torch.stack([red_near, green_near]), cross)
    assert tuple(pictures[0, 31, 31]) == RED
    assert tuple(pictures[1, 31, 31]) == GREEN


@pytest.mark.parametrize(("dx", "dy"), [(5, 0), (0, -4), (-7, 6)])
def test_moving_all_points_by_whole_pixels_moves_the_picture(dx: int, dy: int) -> None:
    xy = 20 + 24 * torch.rand(10, 8, 2, generator=torch.Generator().manual_seed(2))
    # Depths that are powers of two, and steps of 1/64 pixel, so that no rounding differs.
    xy = torch.round(xy * 64) / 64
    depth = torch.full((10, 8), 0.5)
    depth[:, ::2] = 1.0
    here = draw_skeletons(xy, depth, CHAIN, SIZE, LINES)
    there = draw_skeletons(xy + torch.tensor([dx, dy]), depth, CHAIN, SIZE, LINES)
    assert here.any()
    np.testing.assert_array_equal(torch.roll(here, (dy, dx), (1, 2)).numpy(), there.numpy())


def test_drawing_is_smooth_below_a_pixel() -> None:
    """The centre of brightness of a line follows a movement of tenths of a pixel."""
    skeleton, depth = bones((0, 1)), torch.ones(11, 2)
    start, end = torch.tensor([12.0, 20.0]), torch.tensor([50.0, 33.0])
    across = torch.tensor([-13.0, 38.0]) / (13.0**2 + 38.0**2) ** 0.5
    moves = torch.linspace(0, 1, 11)[:, None] * across
    pictures = draw_skeletons(torch.stack([start + moves, end + moves], 1), depth, skeleton, SIZE, LINES)[
        ..., 0
    ].double()
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    centre = torch.stack([(pictures * axis).sum((1, 2)) / pictures.sum((1, 2)) for axis in (x, y)], -1)
    measured = (centre - centre[0]) @ across.double()
    assert (measured - torch.linspace(0, 1, 11)).abs().max() < 0.03


def test_bones_are_cut_at_the_near_plane_and_leave_no_stray_lines() -> None:
    """Against points sampled densely along each bone in space and projected one by one."""
    noise = torch.randn(200, 2, 3, generator=torch.Generator().manual_seed(3))
    points = noise * torch.tensor([0.3, 0.3, 0.5]) + torch.tensor([0.0, 0.0, 0.2])
    crossing = (points[:, 0, 2] < 0.02) != (points[:, 1, 2] < 0.02)
    assert crossing.sum() > 50
    pictures = draw(points, bones((0, 1)))[..., 0]
    share = np.linspace(0, 1, 20001)[:, None]
    drawn, margin = 0, 6
    for bone, picture in zip(points.double().numpy(), pictures, strict=True):
        along = bone[0] + share * (bone[1] - bone[0])
        along = along[along[:, 2] >= LINES.z_near]
        pixels = 100 * along[:, :2] / along[:, 2:] + 31.5
        hit = np.rint(pixels[((pixels > 0.5) & (pixels < 62.5)).all(-1)]).astype(int)
        assert (picture[hit[:, 1], hit[:, 0]] > 100).all(), "every sampled point is lit"
        near = np.rint(pixels[((pixels > -margin) & (pixels < 63 + margin)).all(-1)]).astype(int) + margin
        away = np.full((64 + 2 * margin, 64 + 2 * margin), 255, dtype=np.uint8)
        away[near[:, 1], near[:, 0]] = 0
        distance = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[margin:-margin, margin:-margin]
        assert distance[picture > 60].max(initial=0) < 4.3, "nothing is lit away from the bone"
        drawn += int((picture > 60).any())
    assert drawn > 50


def test_bones_wholly_behind_the_camera_are_not_drawn() -> None:
    points = random_chains(5)
    points[..., 2] = -points[..., 2].abs() - 0.01
    assert not draw(points, CHAIN, profile("compact")).any()


def test_points_at_the_camera_itself_are_harmless() -> None:
    points = torch.zeros(1, 8, 3)
    assert not draw(points, CHAIN, profile("compact")).any()
    points[:, 4:] = torch.tensor([0.0, 0.0, 1.0])
    assert draw(points, CHAIN, profile("compact"))[0, 31, 31].any()


def test_near_bones_are_wider_in_metres_and_equal_in_shares() -> None:
    far = torch.tensor([[-0.1, 0.0, 1.0], [0.1, 0.0, 1.0]])
    near = torch.tensor([[-0.1, 0.0, 0.5], [0.1, 0.0, 0.5]])
    pictures = torch.stack([torch.from_numpy(draw(p, bones((0, 1)), SOLID)) for p in (far, near)]) / 255.0
    widths = pictures[:, :, 31, 0].sum(dim=1)
    assert abs(widths[0] - 3.0) < 0.3
    assert abs(widths[1] - 6.0) < 0.3
    shares = [draw(p, bones((0, 1)), LINES)[:, 31, 0].astype(int).sum() for p in (far, near)]
    assert shares[0] == shares[1]


def test_width_tapers_along_a_bone_that_comes_nearer() -> None:
    picture = draw(torch.tensor([[-0.3, 0.0, 1.2], [0.1, 0.0, 0.4]]), bones((0, 1)), SOLID)[..., 0] / 255.0
    widths = picture[:, 12:52].sum(axis=0)
    assert (np.diff(widths) > -0.15).all()
    assert widths[-1] > 1.6 * widths[0]


def test_the_depth_cue_darkens_far_bones() -> None:
    cue = replace(LINES, depth_cue=DepthCue(0.5, 1.5, 0.4))
    bone = torch.tensor([[-0.2, 0.0, 1.0], [0.2, 0.0, 1.0]])
    levels = [draw(bone * depth, bones((0, 1)), cue)[31, 31, 0] for depth in (0.3, 0.5, 1.0, 1.5, 4.0)]
    assert [int(level) for level in levels] == [255, 255, 178, 102, 102]


def test_colours_do_not_change_with_pose_or_depth() -> None:
    pictures = draw(random_chains(40), CHAIN)
    strong = pictures[(pictures.max(axis=-1) == 255)]
    assert set(map(tuple, strong[strong.min(axis=-1) == 0][:, :2].tolist())) >= {RED[:2], GREEN[:2]}
    assert not pictures[..., 2].any()


def test_discs_mark_key_points_and_are_tinted() -> None:
    style = DrawProfile("discs", (GroupStyle("arm", 2 / 64, 3 / 64),), joint_tint=0.5)
    points = torch.tensor([[-0.15, 0.0, 1.0], [0.15, 0.0, 1.0]])
    picture = draw(points, bones((0, 1)), style)
    assert tuple(picture[32, 31 - 14]) == (255, 128, 128)
    assert abs(picture[:, :, 1].astype(int).sum() / 128 / (2 * np.pi * 9) - 1) < 0.15


def test_tips_are_the_points_where_the_skeleton_ends() -> None:
    style = DrawProfile("tips", (GroupStyle("arm", 2 / 64, 4 / 64, discs_on="tips"),))
    points = torch.tensor([[-0.2, 0.0, 1.0], [0.0, 0.0, 1.0], [0.2, 0.0, 1.0]])
    columns = np.flatnonzero(draw(points, bones((0, 1), (1, 2), colors=(RED,)), style)[..., 1].any(axis=0))
    assert columns.min() > 45
    assert columns.max() < 58


def test_dashes_are_equal_in_space() -> None:
    style = DrawProfile("dashes", (GroupStyle("arm", 0.001, 0.0, dashes=3),), unit="metres", thinnest=2 / 64)
    flat = torch.tensor([[-0.25, 0.0, 1.0], [0.25, 0.0, 1.0]])
    row = draw(flat, bones((0, 1)), style)[31:33, :, 0].max(axis=0) > 127
    edges = np.flatnonzero(np.diff(row.astype(int)))
    assert len(edges) == 6
    assert np.abs(np.diff(edges) - 10).max() <= 2
    leaning = torch.tensor([[-0.3, 0.0, 1.6], [0.1, 0.0, 0.4]])
    row = draw(leaning, bones((0, 1)), style)[31:33, :, 0].max(axis=0) > 127
    lengths = np.diff(np.flatnonzero(np.diff(row.astype(int))))
    assert lengths[-1] > 2 * lengths[0]


def test_groups_without_a_style_are_left_out() -> None:
    points = (KeyPoint("a", "base"), KeyPoint("b", "base"), KeyPoint("c", "base"))
    skeleton = SkeletonSpec(points, (Bone("a", "b", "arm", RED), Bone("b", "c", "plumb", GREEN)))
    where = torch.tensor([[-0.2, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.2, 1.0]])
    assert not draw(where, skeleton, LINES)[..., 1].any()
    plumb = replace(LINES, groups=(GroupStyle("plumb", 4 / 64, 0.0),))
    assert not draw(where, skeleton, plumb)[..., 0].any()
    arm_alone = replace(skeleton, bones=skeleton.bones[:1])
    assert not draw(where, arm_alone, plumb).any()


def test_every_picture_may_have_its_own_focal_length() -> None:
    points = torch.tensor([[-0.1, 0.0, 1.0], [0.1, 0.0, 1.0]]).repeat(3, 1, 1)
    xy, depth = project(points)
    focal = torch.tensor([80.0, 120.0, 180.0])
    pictures = draw_skeletons(xy, depth, bones((0, 1)), SIZE, SOLID, focal=focal)
    widths = pictures[:, :, 31, 0].double().sum(1) / 255
    assert (widths - torch.tensor([2.4, 3.6, 5.4])).abs().max() < 0.5
    alone = draw_skeletons(xy[1], depth[1], bones((0, 1)), SIZE, SOLID, focal=120.0)
    assert torch.equal(pictures[1], alone)


def test_ends_far_outside_the_picture_do_not_overflow() -> None:
    near, far = torch.tensor([-0.1, 0.05, 1.0]), torch.tensor([[10.0, 0.05, 1.0], [1e3, 0.05, 1.0], [1e6, 0.05, 1.0]])
    pictures = draw(torch.stack([near.expand(3, 3), far], dim=1), bones((0, 1)))
    assert pictures[0, 36].any()
    np.testing.assert_array_equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(pictures[0], pictures[2])
    assert not draw(torch.stack([far[1:2], far[2:3]], dim=1), bones((0, 1))).any()


def test_errors_say_what_is_wrong() -> None:
    xy, depth = project(random_chains(2))
    style = LINES
    with pytest.raises(InvalidInput, match=r"xy: given \(2, 8\), expected \(..., 8, 2\), one row a key point"):
        draw_skeletons(xy[..., 0], depth, CHAIN, SIZE, style)
    with pytest.raises(InvalidInput, match=r"xy: given \(2, 7, 2\)"):
        draw_skeletons(xy[:, :7], depth[:, :7], CHAIN, SIZE, style)
    with pytest.raises(InvalidInput, match=r"depth: given \(2, 7\), expected \(2, 8\)"):
        draw_skeletons(xy, depth[:, :7], CHAIN, SIZE, style)
    with pytest.raises(InvalidInput, match="xy and depth: given values that are not finite"):
        draw_skeletons(xy * torch.inf, depth, CHAIN, SIZE, style)
    with pytest.raises(InvalidInput, match=r"focal: given \(3,\), expected one number or \(2,\)"):
        draw_skeletons(xy, depth, CHAIN, SIZE, style, focal=torch.ones(3))
    with pytest.raises(InvalidInput, match=r"focal: given None, .* because profile 'compact' is in metres"):
        draw_skeletons(xy, depth, CHAIN, SIZE, profile("compact"))
    with pytest.raises(InvalidInput, match=r"picture size: given \(0, 64\)"):
        draw_skeletons(xy, depth.abs() + 1, CHAIN, (0, 64), style)
