"""Rendered robots: against rays that meet boxes, silhouettes, projected points, and independence of the batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.prompts.figures import BOXES, boxes
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.prompts import RobotPictures, raster, render_robot, silhouettes
from vap_sim.robots.camera import Camera
from vap_sim.robots.kinematics import Robot
from vap_sim.robots.library import RobotModel, load_robot

Z_NEAR = 0.02


@pytest.fixture(scope="module")
def panda() -> RobotModel:
    return load_robot("panda_robotiq")


def poses(model: RobotModel, rows: int, frames: int, seed: int = 4) -> Tensor:
    noise = torch.randn(rows, frames, len(model.home), generator=torch.Generator().manual_seed(seed))
    return model.robot.clamp(model.home + 0.4 * noise)


def views(model: RobotModel) -> list[Camera]:
    return [model.camera(name) for name in ("exterior_1", "exterior_2", "wrist")]


def same(a: RobotPictures, b: RobotPictures) -> bool:
    return torch.equal(a.rgb, b.rgb) and torch.equal(a.depth, b.depth) and torch.equal(a.mask, b.mask)


def of(pictures: RobotPictures, key: object) -> RobotPictures:
    return RobotPictures(pictures.rgb[key], pictures.depth[key], pictures.mask[key])  # type: ignore[index]


def depth_of_boxes(model: RobotModel, q: Tensor, camera: Camera) -> np.ndarray:
    """Where each pixel's ray first meets the surface of a box beyond the near plane, slab by slab."""
    width, height = camera.size
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(float)
    k = camera.intrinsics.double().numpy()
    ray = np.concatenate([(pixels - k[:2, 2]) / np.diag(k)[:2], np.ones((height, width, 1))], -1)
    pose = camera.T_base_camera().double().numpy()
    depth = np.full((height, width), np.inf)
    for T_base_link, (half, centre) in zip(model.robot.forward(q.double()).numpy(), BOXES, strict=True):
        T_link_camera = np.linalg.inv(T_base_link) @ pose
        start, step = T_link_camera[:3, 3] - centre, ray @ T_link_camera[:3, :3].T
        step = np.where(step == 0, 1e-300, step)
        ends = np.stack([(-np.array(half) - start) / step, (np.array(half) - start) / step])
        enter, leave = ends.min(0).max(-1), ends.max(0).min(-1)
        first = np.where(enter >= Z_NEAR, enter, leave)
        depth = np.where((leave > enter) & (leave >= Z_NEAR), np.minimum(depth, first), depth)
    return depth


def test_depth_is_where_rays_meet_boxes(tmp_path: Path) -> None:
    """Cameras far away, close by, and inside the boxes, which cross each other and are cut at the near plane."""
    model = boxes(tmp_path)
    source = torch.Generator().manual_seed(0)
    wrong = hit = cut = 0
    for trial in range(30):
        spread = (1.2, 0.3, 0.05)[trial % 3]
        eye = (spread * torch.randn(3, generator=source) + torch.tensor([0.05, 0.0, 0.0])).tolist()
        target = (0.1 * torch.randn(3, generator=source) + torch.tensor([0.2, 0.0, 0.1])).tolist()
        camera = Camera.look_at("eye", eye, target, size=(72, 60), focal_px=55.0)
        q = 2 * torch.rand(1, generator=source) - 1
        drawn = render_robot(model, q[None, None], [camera], samples=1)
        depth, expected = drawn.depth[0, 0, 0].numpy(), depth_of_boxes(model, q, camera)
        assert torch.equal(drawn.mask, drawn.depth.isfinite())
        both = np.isfinite(depth) & np.isfinite(expected)
        wrong += int((np.isfinite(depth) != np.isfinite(expected)).sum())
        wrong += int((np.abs(depth[both] - expected[both]) > 1e-4 * expected[both]).sum())
        hit += int(both.sum())
        cut += int((expected[both] < 0.05).sum())
    assert hit > 20000
    assert cut > 150
    assert wrong <= 6


def shift_between(a: Tensor, b: Tensor) -> np.ndarray:
    """How far picture b (H, W) lies from a, pixels (x, y), to first order."""
    first, second = (torch.nn.functional.avg_pool2d(p.double()[None, None], 3, 1)[0, 0].numpy() for p in (a, b))
    rows, columns = np.gradient(0.5 * (first + second))
    slopes = np.stack([columns.ravel(), rows.ravel()], axis=-1)
    return np.asarray(np.linalg.lstsq(slopes, (first - second).ravel(), rcond=None)[0])


def test_masks_are_silhouettes(panda: RobotModel) -> None:
    q, cameras = poses(panda, 3, 2), views(panda)
    mask, expected = render_robot(panda, q, cameras, samples=1).mask, silhouettes(panda, q, cameras)
    assert expected.flatten(3).sum(-1).min() > 100
    assert (mask != expected).sum() <= 3
    assert np.abs(shift_between(expected[0, 0, 0], mask[0, 0, 0])).max() < 0.01
    assert shift_between(expected[0, 0, 0], expected[0, 0, 0].roll(1, 1))[0] > 0.4, "the measure sees a pixel"


def test_the_twin_sees_the_same_robot_at_the_same_depth(panda: RobotModel) -> None:
    pytest.importorskip("pybullet")
    from vap_sim.envs.scenes import sample_scene
    from vap_sim.envs.twin_renderer import Snapshot, TwinRenderer, scene_camera

    scene = sample_scene(np.random.default_rng(3), 1)
    renderer = TwinRenderer(scene, panda.folder / "robot.urdf")
    q = poses(panda, 1, 3, seed=1)
    try:
        for frame, view in ((0, 0), (1, 1), (2, 0)):
            joints = {
                name: float(q[0, frame, panda.robot.joint_index(leader)]) * scale + offset
                for name, (leader, scale, offset) in panda.robot._followed.items()
            }
            lying = tuple(((item.x, item.y, 0.03), (0.0, 0.0, 0.0, 1.0)) for item in scene.objects)
            camera = scene_camera(scene.cameras[view])
            pose = np.asarray(camera.T_parent_camera, np.float64)
            theirs = renderer.render(Snapshot(joints, lying), camera, pose, objects=False)
            ours = render_robot(panda, q[:, frame : frame + 1], [camera.resized((256, 256))], samples=1)
            mask, depth = ours.mask[0, 0, 0], ours.depth[0, 0, 0]
            seen = torch.from_numpy(theirs.labels == 1)
            assert seen.sum() > 1000
            assert (mask & seen).sum() > 0.98 * (mask | seen).sum()
            assert np.abs(shift_between(seen, mask)).max() < 0.1
            # Away from edges of any part: the depth around a pixel hardly varies.
            around = depth.where(mask, torch.tensor(50.0))[None, None]
            highest = torch.nn.functional.max_pool2d(around, 5, 1, 2)[0, 0]
            lowest = -torch.nn.functional.max_pool2d(-around, 5, 1, 2)[0, 0]
            inner = mask & seen & (highest - lowest < 0.03)
            difference = (torch.from_numpy(theirs.depth) - depth)[inner].abs()
            assert inner.sum() > 0.4 * mask.sum()
            assert difference.max() < 0.003
    finally:
        renderer.close()


def test_depth_is_that_of_projected_points(panda: RobotModel) -> None:
    """A camera aims its middle pixel at the middle of a triangle: nothing else but a nearer part may be seen there."""
    q = poses(panda, 1, 1)
    T_base_link = panda.robot.forward(q[0, 0].double()).numpy()
    source, exact = np.random.default_rng(0), 0
    for _ in range(40):
        visual = panda.robot.visuals[source.integers(len(panda.robot.visuals))]
        corners = visual.triangles[source.integers(len(visual.triangles))].astype(np.float64)
        turn, place = T_base_link[visual.link, :3, :3], T_base_link[visual.link, :3, 3]
        normal = turn @ np.cross(corners[1] - corners[0], corners[2] - corners[0])
        aim = turn @ corners.mean(0) + place
        eye = aim + 0.2 * normal / np.linalg.norm(normal)
        camera = Camera.look_at("aim", eye.tolist(), aim.tolist(), size=(33, 25), focal_px=40.0, up=(0.1, 0.2, 0.97))
        xy, depth = camera.project(torch.as_tensor(aim, dtype=torch.float32)[None])
        assert torch.allclose(xy, torch.tensor([[16.0, 12.0]]), atol=1e-3)
        seen = float(render_robot(panda, q, [camera], samples=1).depth[0, 0, 0, 12, 16])
        assert seen < float(depth) + 1e-5
        exact += abs(seen - float(depth)) < 1e-5
    assert exact > 15


def test_moving_back_adds_to_the_depth(tmp_path: Path) -> None:
    """Two views along one line: the same point in the middle is further by as much as the camera went back."""
    model, q = boxes(tmp_path), torch.zeros(1, 1, 1)
    seen = []
    for away in (1.0, 1.25, 1.75):
        camera = Camera.look_at("back", (0.1, -away, 0.02), (0.1, 0.0, 0.02), size=(33, 33), focal_px=40.0)
        seen.append(render_robot(model, q, [camera]).depth[0, 0, 0, 16, 16])
    assert torch.allclose(torch.stack(seen), torch.tensor([0.9, 1.15, 1.65]), atol=1e-5)


def test_a_row_alone_equals_the_row_in_a_batch(panda: RobotModel) -> None:
    q, cameras = poses(panda, 3, 4), views(panda)
    together = render_robot(panda, q, cameras)
    assert together.rgb.shape == (3, 3, 4, 128, 128, 3) and together.rgb.dtype == torch.uint8
    assert together.depth.shape == together.mask.shape == (3, 3, 4, 128, 128)
    for row, frame in ((0, 0), (1, 2), (2, 3)):
        alone = render_robot(panda, q[row : row + 1, frame : frame + 1], cameras)
        assert same(of(alone, (0, slice(None), 0)), of(together, (row, slice(None), frame)))
    by_row = Camera.batch([cameras[0], cameras[1]])
    pair = render_robot(panda, q[:2, :2], [by_row, Camera.batch([cameras[2]] * 2)])
    assert same(of(pair, (0, slice(None))), of(together, (0, [0, 2], slice(2))))
    assert same(of(pair, (1, slice(None))), of(together, (1, [1, 2], slice(2))))


def test_the_size_of_the_work_at_once_does_not_show(panda: RobotModel, monkeypatch: pytest.MonkeyPatch) -> None:
    q, cameras = poses(panda, 3, 1), views(panda)
    before = render_robot(panda, q, cameras)
    monkeypatch.setattr(raster, "_FRAGMENTS_AT_ONCE", 1000)
    monkeypatch.setattr(raster, "_SAMPLES_AT_ONCE", 1)
    assert same(render_robot(panda, q, cameras), before)


def test_samples_change_neither_depth_nor_mask_and_soften_colours(panda: RobotModel) -> None:
    q, cameras = poses(panda, 1, 1), views(panda)[:1]
    hard, soft = (render_robot(panda, q, cameras, samples=count) for count in (1, 5))
    assert torch.equal(hard.mask, soft.mask)
    assert torch.allclose(hard.depth, soft.depth, atol=1e-6)
    fine = render_robot(panda, q, [cameras[0].resized((640, 640))], samples=1).rgb[0, 0, 0].double()
    averaged = fine.reshape(128, 5, 128, 5, 3).mean((1, 3))
    # Where two parts meet, the last bit of a coordinate may decide which of them a sample shows.
    assert ((soft.rgb[0, 0, 0] - averaged).abs() > 0.5 + 1e-6).double().mean() < 1e-3
    assert (hard.rgb[0, 0, 0] - averaged).abs().max() > 40


def test_the_light_moves_with_the_camera(tmp_path: Path) -> None:
    """Every face that is looked at squarely has the same grey, that of the light's slant to the camera."""
    model, q = boxes(tmp_path), torch.zeros(1, 1, 1)
    for eye in ((0.0, -1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0)):
        camera = Camera.look_at("square", eye, (0.0, 0.0, 0.0), size=(33, 33), focal_px=60.0)
        grey = render_robot(model, q, [camera]).rgb[0, 0, 0, 16, 16]
        slant = 0.62 / np.sqrt(0.45**2 + 0.65**2 + 0.62**2)
        expected = 255 * (0.6 * (0.1 + 0.9 * slant)) ** (1 / 2.2)
        assert (grey.double() - expected).abs().max() <= 0.51


TURNING = """<robot name="turning"><link name="base"/>
  <link name="body"><visual><origin xyz="0.3 0.1 0.2" rpy="0.3 0.2 0.1"/><geometry><box size="0.3 0.2 0.1"/></geometry>
    <material name="red"><color rgba="0.8 0.1 0 1"/></material></visual>
    <visual><origin xyz="0.2 0.1 0.3"/><geometry><sphere radius="0.08"/></geometry>
    <material name="blue"><color rgba="0 0.1 0.9 1"/></material></visual></link>
  <joint name="turn" type="continuous"><parent link="base"/><child link="body"/><axis xyz="0 0 1"/></joint>
</robot>"""


def from_text(folder: Path, text: str) -> RobotModel:
    path = folder / "robot.urdf"
    path.write_text(text, encoding="utf-8")
    robot = Robot.from_urdf(path)
    return replace(boxes(folder), robot=robot, home=torch.zeros(robot.num_joints))


def test_camera_and_robot_moved_together_give_the_same_picture(tmp_path: Path) -> None:
    folder = tmp_path / "turning"
    folder.mkdir()
    (folder / "robot.urdf").write_text(TURNING, encoding="utf-8")
    robot = Robot.from_urdf(folder / "robot.urdf")
    model = replace(boxes(tmp_path), robot=robot, home=torch.zeros(1))
    camera = Camera.look_at("eye", (0.9, -0.5, 0.6), (0.25, 0.1, 0.25), size=(96, 96), focal_px=120.0)
    still = render_robot(model, torch.zeros(1, 1, 1), [camera])
    assert still.mask.sum() > 800
    red, _, blue = (still.rgb[..., channel] for channel in range(3))
    assert (red > 100).any() and (blue > 100).any() and not ((red > 100) & (blue > 100)).any()
    for angle in (0.7, -2.0):
        turn = torch.eye(4, dtype=torch.float64)
        cos, sin = np.cos(angle), np.sin(angle)
        turn[:2, :2] = torch.tensor([[cos, -sin], [sin, cos]])
        moved = replace(camera, T_parent_camera=(turn @ camera.T_parent_camera.double()).float())
        there = render_robot(model, torch.full((1, 1, 1), angle), [moved])
        both = there.mask & still.mask
        assert (there.mask != still.mask).sum() <= 3
        assert (there.depth - still.depth)[both].abs().max() < 1e-3
        assert ((there.rgb.int() - still.rgb.int()).abs() > 2).float().mean() < 1e-3
    mounted = replace(camera, parent_link="body")
    riding = render_robot(model, torch.tensor([[[0.0], [1.1], [2.9]]]), [mounted])
    for frame in range(3):
        assert (riding.mask[:, :, frame] != still.mask[:, :, 0]).sum() <= 3
    assert (render_robot(model, torch.ones(1, 1, 1), [camera]).mask != still.mask).sum() > 100, "it does turn"


BOX = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
FACES = [(1, 2, 4, 3), (5, 7, 8, 6), (1, 5, 6, 2), (3, 4, 8, 7), (1, 3, 7, 5)]  # the top, z = 1, is missing
LID = (2, 6, 8, 4)


def mesh_robot(folder: Path, faces: list[tuple[int, ...]], scale: str = "0.1 0.1 0.1") -> RobotModel:
    lines = [f"v {x} {y} {z}" for x, y, z in BOX] + ["f " + " ".join(map(str, face)) for face in faces]
    (folder / "box.obj").write_text("\n".join(lines), encoding="utf-8")
    shape = f'<geometry><mesh filename="box.obj" scale="{scale}"/></geometry>'
    link = f'<link name="b"><visual>{shape}</visual></link>'
    joint = '<joint name="j" type="continuous"><parent link="a"/><child link="b"/><axis xyz="0 0 1"/></joint>'
    return from_text(folder, f'<robot name="m"><link name="a"/>{link}{joint}</robot>')


def test_an_open_mesh_is_seen_from_within_and_a_closed_one_is_not(tmp_path: Path) -> None:
    camera = Camera.look_at("above", (0.0, 0.0, 1.0), (0.0, 0.0, 0.0), size=(33, 33), focal_px=60.0, up=(0.0, 1.0, 0.0))
    q = torch.zeros(1, 1, 1)
    middle = [
        float(render_robot(mesh_robot(tmp_path, faces), q, [camera]).depth[0, 0, 0, 16, 16])
        for faces in (FACES, [*FACES, LID])
    ]
    assert middle == pytest.approx([1.1, 0.9], abs=1e-5)


def test_winding_and_mirrored_scales_do_not_turn_a_mesh_inside_out(tmp_path: Path) -> None:
    camera = Camera.look_at("side", (0.6, 0.4, 0.5), (0.0, 0.0, 0.0), size=(48, 48), focal_px=60.0)
    q, closed = torch.full((1, 1, 1), 0.3), [*FACES, LID]
    right = render_robot(mesh_robot(tmp_path, closed), q, [camera])
    assert right.mask.sum() > 300
    turned = render_robot(mesh_robot(tmp_path, [face[::-1] for face in closed]), q, [camera])
    mirrored = render_robot(mesh_robot(tmp_path, closed, "-0.1 0.1 0.1"), q, [camera])
    for other in (turned, mirrored):
        assert torch.equal(right.mask, other.mask)
        assert torch.allclose(right.depth, other.depth, atol=1e-6)
        assert (right.rgb.int() - other.rgb.int()).abs().max() <= 1


def test_nothing_is_seen_behind_the_camera_or_beside_the_frame(panda: RobotModel) -> None:
    away = Camera.look_at("away", (2.0, 0.0, 0.5), (4.0, 0.0, 0.5), size=(64, 48), focal_px=60.0)
    beside = Camera.look_at("beside", (2.0, 0.0, 0.5), (2.5, 4.0, 0.5), size=(64, 48), focal_px=60.0)
    drawn = render_robot(panda, poses(panda, 1, 2), [away, beside])
    assert not drawn.mask.any() and not drawn.rgb.any() and drawn.depth.isinf().all()


def test_z_near_is_honoured(tmp_path: Path) -> None:
    camera = Camera.look_at("front", (1.2, 0.0, 0.1), (0.0, 0.0, 0.1), size=(64, 64), focal_px=60.0)
    model, q = boxes(tmp_path), torch.zeros(1, 1, 1)
    near = render_robot(model, q, [camera], z_near=1.0)
    assert near.depth[near.mask].min() >= 0.9999
    assert torch.equal(near.mask, silhouettes(model, q, [camera], z_near=1.0))
    assert not render_robot(model, q, [camera], z_near=2.0).mask.any()


def test_errors_say_what_is_wrong(panda: RobotModel, tmp_path: Path) -> None:
    q, camera = poses(panda, 2, 1), panda.camera("wrist")
    with pytest.raises(InvalidInput, match=r"q: given torch.float32 \(1, 8\)"):
        render_robot(panda, q[0], [camera])
    with pytest.raises(InvalidInput, match="cameras: given none"):
        render_robot(panda, q, [])
    with pytest.raises(InvalidInput, match="size of camera 'wrist'"):
        render_robot(panda, q, [camera, camera.resized((64, 64))])
    with pytest.raises(InvalidInput, match=r"leading axis of camera '.*': given \(3,\), expected none or \(2,\)"):
        render_robot(panda, q, [Camera.batch([camera] * 3)])
    with pytest.raises(UnknownName, match=r"renderer 'softwear'\. Did you mean 'software'"):
        render_robot(panda, q, [camera], backend="softwear")
    for samples in (2, 0, True, 1.0):
        with pytest.raises(InvalidInput, match=r"samples: given .*, expected an odd number"):
            render_robot(panda, q, [camera], samples=samples)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="z_near: given 0"):
        render_robot(panda, q, [camera], z_near=0)
    flat = '<visual><geometry><box size="1 1 0"/></geometry></visual>'
    bare = from_text(tmp_path, f'<robot name="r"><link name="a">{flat}</link></robot>')
    with pytest.raises(InvalidInput, match=r"visuals of robot 'r': given none with a surface"):
        render_robot(bare, torch.zeros(1, 1, 0), [panda.camera("exterior_1")])
