"""The twin's pictures: they agree with `Camera`, their layers make the whole, and their masks are what is seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from vap_sim.envs.scenes import SHAPES, CameraPose, Scene, SceneObject, sample_scene
from vap_sim.prompts.silhouette import silhouettes
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot

pytest.importorskip("pybullet")
from vap_sim.envs.twin_renderer import (
    Picture,
    Snapshot,
    TwinRenderer,
    mesh_arrays,
    object_mesh,
    projection_matrix,
    scene_camera,
    view_matrix,
)

SCENE = sample_scene(np.random.default_rng(3), 4, goal=True)
SIZE = (96, 64)
CAMERA = scene_camera(SCENE.cameras[0], SIZE)


def pose_of(camera: Camera) -> np.ndarray:
    return np.asarray(camera.T_parent_camera, np.float64)


def joints_of(q: np.ndarray) -> dict[str, float]:
    """All movable joints of the URDF from the eight independent ones, the mimicking ones included."""
    finger = float(q[7])
    arm = {f"panda_joint{index + 1}": float(q[index]) for index in range(7)}
    sides = {f"{side}_inner_finger_joint": -finger for side in ("left", "right")}
    knuckles = {f"{side}_inner_knuckle_joint": finger for side in ("left", "right")}
    return {**arm, "finger_joint": finger, "right_outer_knuckle_joint": finger, **sides, **knuckles}


def standing(scene: Scene) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]:
    return tuple(
        ((item.x, item.y, item.size[2] / 2), (0.0, 0.0, float(np.sin(item.yaw / 2)), float(np.cos(item.yaw / 2))))
        for item in scene.objects
    )


@pytest.fixture(scope="module")
def model() -> RobotModel:
    return load_robot("panda_robotiq")


@pytest.fixture(scope="module")
def low_pose(model: RobotModel) -> np.ndarray:
    """The arm in front of the objects, fingers half closed."""
    pose = model.home.double().numpy().copy()
    pose += [0.3, 0.5, 0.0, 0.3, 0.2, 0.0, 0.4, 0.3]
    return np.asarray(model.robot.clamp(torch.as_tensor(pose)))


@pytest.fixture(scope="module")
def renderer(model: RobotModel) -> Iterator[TwinRenderer]:
    made = TwinRenderer(SCENE, model.folder / "robot.urdf")
    yield made
    made.close()
    made.close()  # harmless


@pytest.fixture(scope="module")
def snapshot(model: RobotModel, low_pose: np.ndarray) -> Snapshot:
    """The first object is held up behind the hand, where the camera sees only a part of it."""
    links = model.robot.forward(torch.as_tensor(low_pose))
    hand = links[model.robot.link_index(model.tool_link), :3, 3].numpy()
    away = hand - pose_of(CAMERA)[:3, 3]
    behind = tuple(float(v) for v in hand + [0, 0, 0.03] + 0.06 * away / np.linalg.norm(away))
    return Snapshot(joints_of(low_pose), ((behind, (0.0, 0.0, 0.0, 1.0)), *standing(SCENE)[1:]))


@pytest.fixture(scope="module")
def layers(renderer: TwinRenderer, snapshot: Snapshot) -> dict[str, Picture]:
    pose = pose_of(CAMERA)
    return {
        "all": renderer.render(snapshot, CAMERA, pose),
        "objects": renderer.render(snapshot, CAMERA, pose, robot=False),
        "robot": renderer.render(snapshot, CAMERA, pose, objects=False),
        "plate": renderer.render(snapshot, CAMERA, pose, robot=False, objects=False),
    }


def test_matrices_agree_with_the_camera_record() -> None:
    """pybullet's two matrices put a point on the pixel on which `Camera.project` puts it, as its renderer samples."""
    points = np.random.default_rng(0).uniform((0.2, -0.4, 0), (0.7, 0.4, 0.5), (50, 3))
    view = np.reshape(view_matrix(pose_of(CAMERA)), (4, 4)).T
    projection = np.reshape(projection_matrix(np.asarray(CAMERA.intrinsics, np.float64), SIZE), (4, 4)).T
    clip = np.concatenate([points, np.ones((50, 1))], axis=1) @ (projection @ view).T
    device = clip[:, :3] / clip[:, 3:]
    pixels = (np.stack([device[:, 0], -device[:, 1]], axis=1) + 1) / 2 * SIZE - [0, 1]
    xy, depth = CAMERA.project(torch.as_tensor(points, dtype=torch.float32))
    assert np.allclose(pixels, xy, atol=2e-3) and np.allclose(clip[:, 3], depth, atol=1e-5)


@pytest.mark.parametrize("corner", [(0.38, -0.22), (0.38, 0.22), (0.6, -0.22), (0.6, 0.22), (0.5, 0.0)])
def test_a_small_sphere_is_drawn_where_the_camera_projects_it(corner: tuple[float, float], model: RobotModel) -> None:
    ball = SceneObject("sphere", "red", (0.03, 0.03, 0.03), *corner, 0.0)
    scene = replace(SCENE, objects=(ball,), goal=None)
    renderer = TwinRenderer(scene, model.folder / "robot.urdf")
    try:
        for pose in SCENE.cameras:
            camera = scene_camera(pose, (128, 128))
            picture = renderer.render(Snapshot({}, standing(scene)), camera, pose_of(camera), robot=False)
            weight = picture.coverage[2].astype(np.float64)
            down, across = np.mgrid[:128, :128]
            centroid = np.array([(weight * across).sum(), (weight * down).sum()]) / weight.sum()
            xy, _ = camera.project(torch.tensor([[*corner, 0.015]]))
            assert np.linalg.norm(centroid - xy[0].numpy()) < 0.2
    finally:
        renderer.close()


def test_the_drawn_robot_fills_its_silhouette(
    layers: dict[str, Picture], model: RobotModel, low_pose: np.ndarray
) -> None:
    outline = silhouettes(model, torch.as_tensor(low_pose)[None, None].float(), [CAMERA])[0, 0, 0].numpy()
    mask = layers["robot"].robot_mask
    assert mask.sum() > 300
    assert (mask & outline).sum() / (mask | outline).sum() > 0.95


def test_the_drawn_robot_lies_on_its_silhouette_to_a_tenth_of_a_pixel(
    layers: dict[str, Picture], model: RobotModel, low_pose: np.ndarray
) -> None:
    """Least squares on the gradients of the exact coverage: by how much the picture would have to be moved."""
    fine = CAMERA.resized((8 * SIZE[0], 8 * SIZE[1]))
    outline = silhouettes(model, torch.as_tensor(low_pose)[None, None].float(), [fine])[0, 0, 0].numpy()
    exact = outline.reshape(SIZE[1], 8, SIZE[0], 8).mean((1, 3))
    drawn = layers["robot"].coverage[1] / 255
    down, across = np.gradient(exact)
    shift, *_ = np.linalg.lstsq(np.stack([across.ravel(), down.ravel()], 1), (exact - drawn).ravel(), rcond=None)
    assert np.abs(shift).max() < 0.1


def test_layers_make_the_whole_where_the_robot_does_not_hide(layers: dict[str, Picture]) -> None:
    objects, plate = layers["objects"].objects.astype(np.float64), layers["plate"].rgb
    together = objects[..., :3] + (1 - objects[..., 3:] / 255) * plate
    free = layers["all"].coverage[1] == 0
    assert 0.5 < free.mean() < 0.95
    assert np.abs(together - layers["all"].rgb)[free].max() < 2
    hidden = layers["all"].coverage[1] == 255
    assert np.abs(together - layers["all"].rgb)[hidden].max() > 30


def test_the_object_layer_is_what_the_camera_sees_of_objects(layers: dict[str, Picture]) -> None:
    whole, alone = layers["all"], layers["objects"]
    assert np.array_equal(alone.objects[..., 3] > 0, (alone.coverage[2:] > 0).any(axis=0))
    free = whole.coverage[1] == 0
    assert np.array_equal(whole.objects[free], alone.objects[free])
    assert whole.objects[..., 3].astype(int).sum() < alone.objects[..., 3].astype(int).sum()  # the arm hides some
    assert (alone.objects[..., :3] <= alone.objects[..., 3:]).all()  # premultiplied
    assert not layers["plate"].objects.any() and not layers["robot"].objects.any()


def test_coverage_is_a_share_of_each_pixel(layers: dict[str, Picture]) -> None:
    for picture in layers.values():
        total = picture.coverage.astype(int).sum(axis=0)
        assert picture.coverage.shape == (6, SIZE[1], SIZE[0])
        assert np.abs(total - 255).max() <= 3  # each share is rounded
        assert set(np.unique(picture.coverage)) <= {0, 64, 128, 191, 255}  # quarters
        assert np.array_equal(picture.robot_mask, picture.coverage[1] >= 128)
        assert picture.object_masks.shape[0] == 4
        full = picture.coverage.max(axis=0) == 255
        assert np.array_equal(picture.coarse_labels[full], picture.labels[::2, ::2][full])
    assert set(np.unique(layers["all"].labels)) == {0, 1, 2, 3, 4, 5}
    assert not layers["plate"].coverage[1:].any() and not layers["objects"].coverage[1].any()
    assert (layers["plate"].labels == 0).all()


def test_depth_is_along_the_optical_axis(layers: dict[str, Picture]) -> None:
    """Rays through fine pixels of the table, stretched to their depth, end in the table top."""
    depth = layers["plate"].depth
    down, across = np.mgrid[: depth.shape[0], : depth.shape[1]]
    xy = np.stack([(across - 0.5) / 2, (down - 0.5) / 2, np.ones_like(across)], axis=-1)
    camera, pose = np.asarray(CAMERA.intrinsics, np.float64), pose_of(CAMERA)
    points = (xy @ np.linalg.inv(camera).T * depth[..., None]) @ pose[:3, :3].T + pose[:3, 3]
    inside = (np.abs(points[..., 0] - 0.45) < 0.5) & (np.abs(points[..., 1]) < 0.7)
    assert inside.mean() > 0.3
    # The renderer samples a fine pixel at its corner, not at its centre: a quarter of a pixel, 5 mm of depth at most.
    assert np.abs(points[inside][:, 2]).max() < 6e-3


def test_pictures_have_no_memory(renderer: TwinRenderer, layers: dict[str, Picture], snapshot: Snapshot) -> None:
    elsewhere = Snapshot(
        {name: angle + 0.2 for name, angle in snapshot.joints.items()},
        tuple(((x + 0.05, y, z + 0.1), turn) for (x, y, z), turn in snapshot.objects),
    )
    assert not np.array_equal(renderer.render(elsewhere, CAMERA, pose_of(CAMERA)).rgb, layers["all"].rgb)
    again = renderer.render(snapshot, CAMERA, pose_of(CAMERA))
    for name in ("rgb", "objects", "coverage", "depth", "labels"):
        assert np.array_equal(getattr(again, name), getattr(layers["all"], name))


def test_the_goal_disc_lies_flat_on_the_table(
    renderer: TwinRenderer, layers: dict[str, Picture], model: RobotModel
) -> None:
    without = TwinRenderer(replace(SCENE, goal=None), model.folder / "robot.urdf")
    try:
        empty = Snapshot({}, standing(SCENE))
        bare = without.render(empty, CAMERA, pose_of(CAMERA), robot=False, objects=False)
    finally:
        without.close()
    assert SCENE.goal is not None
    changed = (bare.rgb != layers["plate"].rgb).any(axis=-1)
    down, across = np.nonzero(changed)
    xy, _ = CAMERA.project(torch.tensor([[*SCENE.goal[:2], 0.0]]))
    # A ring: its middle has the table's color again.
    assert changed.sum() > 10 and not changed[round(float(xy[0, 1])), round(float(xy[0, 0]))]
    assert np.linalg.norm([across.mean() - float(xy[0, 0]), down.mean() - float(xy[0, 1])]) < 1.5


@pytest.mark.parametrize("shape", SHAPES)
def test_object_meshes_fill_their_box(shape: str) -> None:
    mesh = object_mesh(SceneObject(shape, "red", (0.06, 0.05, 0.08), 0.5, 0.0, 0.0))
    assert np.allclose(mesh.extents, (0.06, 0.05, 0.08)) and np.allclose(mesh.bounds.sum(axis=0), 0, atol=1e-9)
    assert mesh.is_watertight and mesh.is_convex
    assert 0.4 < mesh.volume / (0.06 * 0.05 * 0.08) <= 1 + 1e-9


@pytest.mark.parametrize("shape", SHAPES)
def test_mesh_normals_point_outwards(shape: str) -> None:
    arrays = mesh_arrays(SceneObject(shape, "red", (0.06, 0.05, 0.08), 0.5, 0.0, 0.0))
    vertices, normals = np.array(arrays["vertices"]), np.array(arrays["normals"])
    faces = np.reshape(arrays["indices"], (-1, 3))
    assert vertices.shape == normals.shape and faces.max() < len(vertices)
    assert np.allclose(np.linalg.norm(normals, axis=1), 1)
    corners = vertices[faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((flat * corners.mean(axis=1)).sum(axis=1) > 0).all()  # counter-clockwise seen from outside
    assert (np.einsum("fk,fvk->fv", flat, normals[faces]) > 0).all()


def test_cameras_scale_with_the_picture() -> None:
    pose = CameraPose("c", (1.2, 0.3, 0.6), (0.4, 0.0, 0.1), 0.7)
    small, large = scene_camera(pose, (64, 64)), scene_camera(pose, (128, 128))
    assert np.allclose(small.resized((128, 128)).intrinsics, large.intrinsics, atol=1e-4)
    point = torch.tensor([[0.4, 0.0, 0.1]])
    assert np.allclose(large.project(point)[0], 63.5, atol=1e-3)
