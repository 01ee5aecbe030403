"""Cameras: pinhole laws, mounting, batching and JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from vap_sim.errors import InvalidInput
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel

SIZE = (64, 48)
FRONT: dict[str, Any] = {"eye": (1.0, 0.5, 0.6), "target": (0.2, 0.0, 0.1), "size": SIZE, "focal_px": 50.0}


def points(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.3


def rotated(matrix: torch.Tensor) -> Camera:
    return Camera("c", torch.eye(3), matrix, None, SIZE)


def test_target_is_in_the_middle_and_up_is_up() -> None:
    camera = Camera.look_at("c", **FRONT)
    target = torch.tensor(FRONT["target"])
    xy, depth = camera.project(torch.stack([target, target + torch.tensor([0.0, 0.0, 0.05])]))
    torch.testing.assert_close(xy[0], torch.tensor([31.5, 23.5]), atol=1e-4, rtol=0)
    torch.testing.assert_close(depth[0], torch.tensor(math.dist(FRONT["eye"], FRONT["target"])))
    assert abs(float(xy[1, 0]) - 31.5) < 1e-4
    assert xy[1, 1] < 23


def test_axes_are_right_down_forward() -> None:
    camera = Camera.look_at("c", eye=(0, 0, 0), target=(1, 0, 0), size=SIZE, focal_px=10.0)
    xy, depth = camera.project(torch.tensor([[2.0, -1.0, 0.0], [2.0, 0.0, -1.0]]))
    torch.testing.assert_close(xy, torch.tensor([[31.5 + 5, 23.5], [31.5, 23.5 + 5]]))
    assert depth.tolist() == [2, 2]


def test_project_is_the_pinhole_equation() -> None:
    camera = Camera.look_at("c", **FRONT).to("cpu", torch.float64)
    skewed = camera.intrinsics.clone()
    skewed[0, 1] = 3.0
    camera = Camera("c", skewed, camera.T_parent_camera, None, SIZE)
    p = points(20)
    rays = torch.linalg.solve(camera.T_parent_camera[:3, :3], (p - camera.T_parent_camera[:3, 3]).T)
    image = skewed @ rays
    xy, depth = camera.project(p)
    # The pose is a float32 rotation, so its transpose is its inverse to that precision.
    torch.testing.assert_close(xy, (image[:2] / image[2]).T, atol=1e-5, rtol=0)
    torch.testing.assert_close(depth, rays[2], atol=1e-6, rtol=0)


def test_gradients_reach_the_pose_more_than_once(model: RobotModel) -> None:
    pose = Camera.look_at("c", **FRONT).T_parent_camera.requires_grad_()
    camera = Camera("c", torch.eye(3), pose, None, SIZE)
    gradients = [torch.autograd.grad(camera.project(points(5).float())[0].sum(), pose)[0] for _ in range(2)]
    assert torch.equal(*gradients)
    assert gradients[0].abs().sum() > 0


def test_vertical_fov_spans_the_height() -> None:
    camera = Camera.look_at("c", eye=(0, 0, 0), target=(1, 0, 0), size=SIZE, vertical_fov=math.pi / 2)
    xy, _ = camera.project(torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, -1.0]]))
    torch.testing.assert_close(xy[:, 1], torch.tensor([-0.5, 47.5]))


def test_points_behind_keep_their_depth_and_stay_finite() -> None:
    camera = Camera.look_at("c", eye=(0, 0, 0), target=(1, 0, 0), size=SIZE, focal_px=10.0)
    xy, depth = camera.project(torch.tensor([[-1.0, 0.2, 0.1], [0.0, 0.2, 0.1], [0.0, 0.0, 0.0]]))
    assert depth.tolist() == [-1, 0, 0]
    assert bool(xy.isfinite().all())


def test_resized_keeps_the_view() -> None:
    camera = Camera.look_at("c", **FRONT)
    xy, _ = camera.project(points(9).float())
    scale = torch.tensor([32 / 64, 96 / 48])
    resized, _ = camera.resized((32, 96)).project(points(9).float())
    torch.testing.assert_close((xy + 0.5) * scale, resized + 0.5)
    torch.testing.assert_close(camera.resized((32, 96)).resized(SIZE).intrinsics, camera.intrinsics)


def test_mounted_camera_moves_with_its_link(model: RobotModel) -> None:
    robot, camera = model.robot, model.camera("wrist")
    q = model.home.repeat(2, 3, 1)
    q[1, :, :7] += 0.3
    poses = robot.forward(q)
    hand = poses[..., robot.link_index("robotiq_base"), :, :]
    seen = torch.tensor([[0.0, 0.02, 0.15], [0.01, 0.0, 0.4]])
    world = (hand[..., None, :3, :3] @ seen[..., None])[..., 0] + hand[..., None, :3, 3]
    xy, depth = camera.project(world, poses, robot)
    expected, expected_depth = rotated(camera.T_parent_camera).project(seen)
    torch.testing.assert_close(depth, expected_depth.expand_as(depth), atol=1e-5, rtol=0)
    k = camera.intrinsics
    torch.testing.assert_close(xy, (expected * k.diagonal()[:2] + k[:2, 2]).expand_as(xy), atol=1e-2, rtol=0)
    fixed = Camera("f", k.expand(2, 3, 3, 3), camera.T_base_camera(poses, robot), None, camera.size)
    torch.testing.assert_close(fixed.project(world)[0], xy)


@pytest.mark.parametrize("name", ["exterior_1", "wrist"])
def test_camera_axes_align_with_the_first_axes(model: RobotModel, name: str) -> None:
    rows = [model.camera(name), model.camera(name).resized((256, 256)).resized((128, 128))]
    shifted = rows[1].T_parent_camera.clone()
    shifted[:3, 3] += 0.1
    zoomed = torch.diag(torch.tensor([1.1, 1.2, 1.0])) @ rows[1].intrinsics
    rows[1] = Camera(name, zoomed, shifted, rows[1].parent_link, rows[1].size)
    both = Camera.batch(rows)
    poses = model.robot.forward(model.home + 0.1 * torch.arange(6.0).reshape(2, 3, 1))
    world = points(2, 3, 5).float() + torch.tensor([0.4, 0.0, 0.1])
    xy, depth = both.project(world, poses, model.robot)
    for i in range(2):
        assert torch.equal(both.row(i).intrinsics, rows[i].intrinsics)
        one = rows[i].project(world[i], poses[i], model.robot)
        torch.testing.assert_close((xy[i], depth[i]), one)
        assert both.row(i).name == name


def test_json_round_trip_and_look_at_form(model: RobotModel) -> None:
    for camera in (*model.cameras.values(), Camera.batch([model.camera("wrist")] * 2)):
        again = Camera.from_dict(json.loads(json.dumps(camera.to_dict())))
        assert torch.equal(again.intrinsics, camera.intrinsics)
        assert torch.equal(again.T_parent_camera, camera.T_parent_camera)
        assert (again.name, again.parent_link, again.size) == (camera.name, camera.parent_link, camera.size)
    short = Camera.from_dict(FRONT, name="n")
    assert torch.equal(short.T_parent_camera, Camera.look_at("n", **FRONT).T_parent_camera)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": FRONT["eye"]}, "camera 'c': given eye"),
        ({"up": (0.8, 0.5, 0.5)}, "expected up not along the view"),
        ({"vertical_fov": 1.0}, "focal_px 50.0, vertical_fov 1.0, expected exactly one"),
        ({"focal_px": None}, "expected exactly one"),
        ({"focal_px": -1.0}, "expected a positive focal length"),
        ({"focal_px": None, "vertical_fov": 4.0}, "expected a positive focal length"),
        ({"size": (0, 4)}, "size of camera 'c'"),
    ],
)
def test_look_at_names_what_is_wrong(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        Camera.look_at("c", **{**FRONT, **change})


def test_wrong_inputs_are_named(model: RobotModel) -> None:
    camera = Camera.look_at("c", **FRONT)
    with pytest.raises(InvalidInput, match=r"camera 'c': given intrinsics \(3, 3\) and pose \(2, 4, 4\)"):
        Camera("c", torch.eye(3), torch.eye(4).repeat(2, 1, 1), None, SIZE)
    with pytest.raises(InvalidInput, match=r"intrinsics of camera 'c': given \[0.0, 0.0, 2.0\], expected a last row"):
        Camera("c", torch.eye(3) * 2, torch.eye(4), None, SIZE)
    with pytest.raises(InvalidInput, match="cameras to batch: given none"):
        Camera.batch([])
    with pytest.raises(InvalidInput, match=r"wrist .* on robotiq_base, expected equal sizes and parents"):
        Camera.batch([model.camera("exterior_1"), model.camera("wrist")])
    with pytest.raises(InvalidInput, match="row of camera 'c': given 0, expected one of 0 rows"):
        camera.row(0)
    with pytest.raises(InvalidInput, match=r"'wrist': given no link poses, .* to follow 'robotiq_base'"):
        model.camera("wrist").project(points(4))
    with pytest.raises(InvalidInput, match=r"points \(4, 3\) for camera axes \(2,\)"):
        Camera.batch([camera, camera]).project(points(4))
    with pytest.raises(InvalidInput, match="camera 'k': given no field 'size'"):
        Camera.from_dict({"name": "k"})
    with pytest.raises(InvalidInput, match="camera 'k': given values that cannot be read"):
        Camera.from_dict({"name": "k", "size": [4]})
    with pytest.raises(InvalidInput, match="exactly one"):
        Camera.from_dict({**FRONT, "vertical_fov": 1.0}, name="k")
