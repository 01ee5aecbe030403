"""Homographies of drawn prompts: what moves, by how much, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.prompts import Prompter, profile, render_robot
from vap_sim.prompts.profiles import form_names
from vap_sim.prompts.rendering import render_surface
from vap_sim.prompts.surface import gather_surface
from vap_sim.prompts.warping import check_homographies, warp_pixels
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot

SIZE = (96, 96)
DRAWN = ("vap", "compact", "limbs", "mesh", "depth")


@pytest.fixture(scope="module")
def panda() -> RobotModel:
    return load_robot("panda_robotiq")


def views(model: RobotModel) -> list[Camera]:
    return [model.camera(name).resized(SIZE) for name in ("exterior_1", "wrist")]


def moves(matrix: Tensor | np.ndarray, views: int = 2, frames: int = 1) -> Tensor:
    return torch.as_tensor(np.asarray(matrix), dtype=torch.float32).expand(1, views, frames, 3, 3).contiguous()


TURN = np.array([[1.02, -0.05, 4.0], [0.06, 0.97, -3.0], [4e-4, -6e-4, 1.0]])
"""A homography with something of everything, in pixels of the pictures here."""


@pytest.mark.parametrize("name", ["vap", "compact", "limbs", *form_names()])
def test_the_identity_changes_no_bit(panda: RobotModel, name: str) -> None:
    prompter, q = Prompter(panda, profile(name), SIZE), panda.home[None, None]
    plain = prompter.draw(q, views(panda)).skeleton
    for scale in (1.0, 3.0):
        assert torch.equal(prompter.draw(q, views(panda), moves(scale * np.eye(3))).skeleton, plain)


@pytest.mark.parametrize("name", DRAWN)
def test_an_affine_map_of_pixels_equals_other_intrinsics(panda: RobotModel, name: str) -> None:
    """K' = A K draws what A makes of the drawing of K; a shift leaves the focal length, and with it widths, alone."""
    shift = torch.tensor([[1.0, 0.0, 5.0], [0.0, 1.0, -7.0], [0.0, 0.0, 1.0]])
    prompter, q = Prompter(panda, profile(name), SIZE), panda.home[None, None]
    cameras = views(panda)
    moved = [replace(camera, intrinsics=shift @ camera.intrinsics) for camera in cameras]
    one = prompter.draw(q, cameras, moves(shift)).skeleton.float()
    other, plain = prompter.draw(q, moved).skeleton.float(), prompter.draw(q, cameras).skeleton.float()
    # Rounding decides a pixel here and there.
    assert (one - other).abs().mean() < 0.01 * (plain - other).abs().mean()


@pytest.mark.parametrize("name", DRAWN)
def test_every_frame_moves_by_its_own_homography(panda: RobotModel, name: str) -> None:
    prompter, q = Prompter(panda, profile(name), SIZE), panda.home.expand(1, 3, -1)
    many = moves(np.eye(3), frames=3)
    many[0, 0, 1], many[0, 1, 2] = torch.from_numpy(TURN).float(), torch.from_numpy(2 * TURN).float()
    together = prompter.draw(q, views(panda), many).skeleton
    for frame in range(3):
        alone = prompter.draw(q[:, :1], views(panda), many[:, :, frame : frame + 1]).skeleton
        assert torch.equal(alone[:, :, 0], together[:, :, frame])
    assert not torch.equal(together[0, 0, 0], together[0, 0, 1])
    assert torch.equal(together[0, 0, 0], together[0, 0, 2])


def test_drawn_points_lie_where_the_homography_takes_them(panda: RobotModel) -> None:
    """Something is drawn at the moved projection of every point on a bone."""
    camera = views(panda)[0]
    T_base_link = panda.robot.forward(panda.home[None])
    xy, _ = camera.project(panda.skeleton.positions(panda.robot, T_base_link))
    expected, ahead = warp_pixels(xy.numpy(), TURN[None].astype(np.float32))
    assert ahead.all()
    drawing = Prompter(panda, profile("vap"), SIZE).draw(panda.home[None, None], [camera], moves(TURN, 1))
    lit = drawing.skeleton[0, 0, 0].amax(-1).numpy() > 0
    drawn = {name for bone in panda.skeleton.bones if bone.group != "plumb" for name in (bone.start, bone.end)}
    for point, (x, y) in zip(panda.skeleton.points, expected[0], strict=True):
        if point.name in drawn and 2 < x < 93 and 2 < y < 93:
            assert lit[round(float(y)), round(float(x))], point.name
    homogeneous = np.concatenate([xy[0].numpy(), np.ones((xy.shape[1], 1))], axis=1) @ TURN.T
    assert np.allclose(expected[0], homogeneous[:, :2] / homogeneous[:, 2:], atol=1e-3)


def test_the_depth_of_a_moved_surface_stays_the_cameras(panda: RobotModel) -> None:
    camera, q = views(panda)[0], panda.home[None, None]
    plain = render_robot(panda, q, [camera]).depth[0, 0, 0].numpy()
    warps = check_homographies(moves(TURN, 1), 1, 1, 1, SIZE)
    moved = render_surface(gather_surface(panda), panda, q, [camera], warps=warps).depth[0, 0, 0].numpy()
    y, x = np.nonzero(np.isfinite(moved))
    back = np.linalg.inv(TURN) @ np.stack([x, y, np.ones_like(x)])
    u, v = np.rint(back[:2] / back[2]).astype(int)
    inside = (u >= 0) & (v >= 0) & (u < SIZE[0]) & (v < SIZE[1])
    gap = np.abs(moved[y, x][inside] - plain[v[inside], u[inside]])
    gap = gap[np.isfinite(gap)]
    assert len(gap) > 300 and np.median(gap) < 0.004


def test_what_lies_beyond_the_horizon_is_left_out() -> None:
    bent = np.array([[1, 0, 0], [0, 1, 0], [-0.01, 0, 1]], np.float32)[None]
    xy, ahead = warp_pixels(np.array([[[50.0, 50.0], [200.0, 50.0]]], np.float32), bent)
    assert ahead.tolist() == [[True, False]] and np.isfinite(xy).all()
    assert np.allclose(xy[0, 0], [100, 100])


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (moves(np.eye(3), frames=2), r"given torch.float32 \(1, 2, 2, 3, 3\), expected .* \(1, 2, 1, 3, 3\)"),
        (moves(np.eye(3)).int(), "given torch.int32"),
        (moves(np.diag([1.0, 1.0, np.nan])), "homography of view 0, frame 0"),
        (moves(np.zeros((3, 3))), "homography of view 0, frame 0"),
        (moves(np.diag([-1.0, 1.0, 1.0])), "mirrors nothing"),
        (moves(np.array([[1, 0, 0], [0, 1, 0], [-0.02, 0, 1]])), "before its horizon"),
    ],
)
def test_homographies_that_cannot_be_meant_are_refused(panda: RobotModel, bad: Tensor, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        Prompter(panda, profile("vap"), SIZE).draw(panda.home[None, None], views(panda), bad)
