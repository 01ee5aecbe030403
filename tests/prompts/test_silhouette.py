"""Silhouettes: against rays that meet boxes, against pybullet's own mask, and independence of the batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.prompts.figures import BOXES, boxes
from vap_sim.errors import InvalidInput
from vap_sim.prompts import silhouettes
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot

Z_NEAR = 0.02


def rays_meet_boxes(model: RobotModel, q: Tensor, camera: Camera) -> np.ndarray:
    """Which pixels' rays pass through a box beyond the near plane: slab by slab, in double precision."""
    width, height = camera.size
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(float)
    k = camera.intrinsics.double().numpy()
    ray = np.concatenate([(pixels - k[:2, 2]) / np.diag(k)[:2], np.ones((height, width, 1))], -1)
    pose = camera.T_base_camera().double().numpy()
    hit = np.zeros((height, width), dtype=bool)
    for T_base_link, (half, centre) in zip(model.robot.forward(q.double()).numpy(), BOXES, strict=True):
        T_link_camera = np.linalg.inv(T_base_link) @ pose
        start, step = T_link_camera[:3, 3] - centre, ray @ T_link_camera[:3, :3].T
        step = np.where(step == 0, 1e-300, step)
        ends = np.stack([(-np.array(half) - start) / step, (np.array(half) - start) / step])
        enter, leave = ends.min(0).max(-1), ends.max(0).min(-1)
        hit |= leave > np.maximum(enter, Z_NEAR)
    return hit


def test_a_pixel_is_covered_where_its_ray_meets_a_box(tmp_path: Path) -> None:
    """Cameras far away, close by, and inside the boxes, so that parts are cut at the near plane in many ways."""
    model = boxes(tmp_path)
    source = torch.Generator().manual_seed(0)
    wrong = seen = inside = part = 0
    for trial in range(60):
        spread = (1.2, 0.3, 0.05)[trial % 3]
        eye = (spread * torch.randn(3, generator=source) + torch.tensor([0.05, 0.0, 0.0])).tolist()
        target = (0.1 * torch.randn(3, generator=source) + torch.tensor([0.2, 0.0, 0.1])).tolist()
        camera = Camera.look_at("eye", eye, target, size=(72, 60), focal_px=55.0)
        q = 2 * torch.rand(1, generator=source) - 1
        mask = silhouettes(model, q[None, None], [camera])[0, 0, 0].numpy()
        expected = rays_meet_boxes(model, q, camera)
        wrong += int((mask != expected).sum())
        seen += int(expected.sum())
        inside += int(expected.all())
        part += int(not expected.all() and trial % 3 > 0)
    assert seen > 40000
    assert inside > 5
    assert part > 10
    assert wrong <= 5


@pytest.fixture(scope="module")
def panda() -> RobotModel:
    return load_robot("panda_robotiq")


def poses(model: RobotModel, rows: int, frames: int) -> Tensor:
    noise = torch.randn(rows, frames, len(model.home), generator=torch.Generator().manual_seed(4))
    return model.robot.clamp(model.home + 0.4 * noise)


def test_a_row_alone_equals_the_row_in_a_batch(panda: RobotModel) -> None:
    cameras = [panda.camera("exterior_1"), panda.camera("wrist")]
    q = poses(panda, 14, 5)
    together = silhouettes(panda, q, cameras)
    assert together.shape == (14, 2, 5, 128, 128)
    assert together.dtype == torch.bool
    for row in range(0, 14, 4):
        assert torch.equal(silhouettes(panda, q[row : row + 1, 2:3], cameras)[0, :, 0], together[row, :, 2])
    by_row = Camera.batch([cameras[0]] * 14)
    assert torch.equal(silhouettes(panda, q, [by_row])[:, 0], together[:, 0])


def test_nothing_is_covered_behind_the_camera(panda: RobotModel) -> None:
    away = Camera.look_at("away", (2.0, 0.0, 0.5), (4.0, 0.0, 0.5), size=(64, 48), focal_px=60.0)
    assert not silhouettes(panda, poses(panda, 1, 2), [away]).any()


def test_errors_say_what_is_wrong(panda: RobotModel) -> None:
    q, camera = poses(panda, 1, 1), panda.camera("wrist")
    with pytest.raises(InvalidInput, match="cameras: given none"):
        silhouettes(panda, q, [])
    with pytest.raises(InvalidInput, match=r"q: given torch.float32 \(1, 8\)"):
        silhouettes(panda, q[0], [camera])
    with pytest.raises(InvalidInput, match="size of camera 'wrist'"):
        silhouettes(panda, q, [camera, camera.resized((64, 64))])


# pybullet's software renderer samples a pixel at its left edge in x and, counting rows from below, at its lower edge in
# y; in our pixels that is a principal point moved by (-1/2, +1/2) from the usual pixel centres.
TINY_RENDERER_SHIFT = (0.0, 1.0)


def bullet_mask(model: RobotModel, q: Tensor, camera: Camera) -> np.ndarray:
    pybullet = pytest.importorskip("pybullet")
    client = pybullet.connect(pybullet.DIRECT)
    try:
        body = pybullet.loadURDF(str(model.folder / "robot.urdf"), useFixedBase=True, physicsClientId=client)
        for joint in range(pybullet.getNumJoints(body, physicsClientId=client)):
            name = pybullet.getJointInfo(body, joint, physicsClientId=client)[1].decode()
            if name in model.robot._followed:
                leader, scale, offset = model.robot._followed[name]
                value = float(q[model.robot.joint_index(leader)]) * scale + offset
                pybullet.resetJointState(body, joint, value, physicsClientId=client)
        width, height = camera.size
        k, (dx, dy), near, far = camera.intrinsics.double().numpy(), TINY_RENDERER_SHIFT, Z_NEAR, 10.0
        pose = camera.T_base_camera(model.robot.forward(q.double()).float(), model.robot).double().numpy()
        view = np.diag([1.0, -1.0, -1.0, 1.0]) @ np.linalg.inv(pose)
        lens = np.zeros((4, 4))
        lens[0, 0], lens[0, 2] = 2 * k[0, 0] / width, 1 - 2 * (k[0, 2] + dx) / width
        lens[1, 1], lens[1, 2] = 2 * k[1, 1] / height, 2 * (k[1, 2] + dy) / height - 1
        lens[2, 2:], lens[3, 2] = (-(far + near) / (far - near), -2 * far * near / (far - near)), -1
        matrices = (view.T.reshape(-1).tolist(), lens.T.reshape(-1).tolist())
        renderer = pybullet.ER_TINY_RENDERER
        shot = pybullet.getCameraImage(width, height, *matrices, renderer=renderer, physicsClientId=client)
        return np.asarray(shot[4]).reshape(height, width) >= 0
    finally:
        pybullet.disconnect(client)


def test_the_same_pixels_as_pybullet(panda: RobotModel) -> None:
    q = poses(panda, 1, 4)
    over = Camera.look_at("over", (1.5, 1.2, 1.0), (0.3, 0.0, 0.35), size=(128, 128), focal_px=130.0)
    cameras = [over, panda.camera("exterior_2"), panda.camera("wrist")]
    ours = silhouettes(panda, q, cameras).numpy()
    for view, camera in enumerate(cameras):
        for frame in range(4):
            theirs = bullet_mask(panda, q[0, frame], camera)
            assert theirs.sum() > 100
            union, both = (ours[0, view, frame] | theirs).sum(), (ours[0, view, frame] & theirs).sum()
            assert both / union > 0.995, f"{camera.name}, pose {frame}"


def test_a_smaller_picture_is_the_same_shape(panda: RobotModel) -> None:
    q, camera = poses(panda, 1, 1), panda.camera("exterior_1")
    large = silhouettes(panda, q, [camera.resized((512, 512))])[0, 0, 0].float()
    averaged = torch.nn.functional.avg_pool2d(large[None, None], 4)[0, 0]
    small = silhouettes(panda, q, [camera])[0, 0, 0]
    assert torch.equal(small[averaged == 1], torch.ones_like(small[averaged == 1]))
    assert not small[averaged == 0].any()
    assert abs(float(averaged.sum()) / float(small.sum()) - 1) < 0.02


def test_z_near_is_honoured(tmp_path: Path) -> None:
    model = boxes(tmp_path)
    camera = Camera.look_at("front", (1.2, 0.0, 0.1), (0.0, 0.0, 0.1), size=(64, 64), focal_px=60.0)
    q = torch.zeros(1, 1, 1)
    near_box = silhouettes(model, q, [camera])
    assert near_box.sum() > silhouettes(model, q, [camera], z_near=1.0).sum() > 0
    assert not silhouettes(model, q, [camera], z_near=2.0).any()
    assert torch.equal(near_box, silhouettes(model, q, [replace(camera, name="other")]))
