"""Recorded episodes: everything follows from the seed, and what is recorded agrees with itself."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vap_sim.data.twin import FLOW_SCALE, TwinEpisode, load_episode
from vap_sim.envs.scenes import Scene, SceneObject, sample_scene
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.prompts.silhouette import silhouettes
from vap_sim.robots.camera import Camera
from vap_sim.robots.control import Controller
from vap_sim.robots.library import load_robot

pytest.importorskip("pybullet")
from vap_sim.envs import twin_recorder
from vap_sim.envs.twin_behaviours import BEHAVIOURS
from vap_sim.envs.twin_recorder import (
    HELD_OUT_SEEDS,
    RecorderSettings,
    check_seeds,
    object_flow,
    record_episode,
    record_file,
)
from vap_sim.envs.twin_renderer import Picture, Snapshot, TwinRenderer, scene_camera

PUSH_SEED = 46
"""An episode in which an object moves from the fifth frame on."""
SETTINGS = RecorderSettings(steps=7, size=(64, 64), views=("exterior_1", "exterior_2"))
MEMBERS = tuple(name for name in vars(TwinEpisode)["__dataclass_fields__"] if name != "meta")


@pytest.fixture(scope="module")
def episode() -> TwinEpisode:
    return record_episode(PUSH_SEED, SETTINGS)


def look_up(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear values of image (H, W, C) at pixels (x, y)."""
    height, width = image.shape[:2]
    x, y = x.clip(0, width - 1.001), y.clip(0, height - 1.001)
    left, top = x.astype(int), y.astype(int)
    right, down = (x - left)[..., None], (y - top)[..., None]
    upper = image[top, left] * (1 - right) + image[top, left + 1] * right
    lower = image[top + 1, left] * (1 - right) + image[top + 1, left + 1] * right
    return np.asarray(upper * (1 - down) + lower * down)


def pulled_back(before: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """A layer (H, W, 4) as the flow (2, H/2, W/2) int16 says it has moved on from `before`."""
    fine = np.repeat(np.repeat(flow, 2, axis=1), 2, axis=2) / FLOW_SCALE
    down, across = np.mgrid[: before.shape[0], : before.shape[1]]
    return look_up(before.astype(np.float64), across + fine[0], down + fine[1])


def inner(mask: np.ndarray) -> np.ndarray:
    """Pixels whose neighbours are all in the mask: away from edges, where a picture mixes two things."""
    padded = np.pad(mask, 1)
    rows = padded[:-2] & padded[1:-1] & padded[2:]
    return np.asarray(rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:])


def test_a_seed_decides_every_bit(episode: TwinEpisode) -> None:
    record_episode(PUSH_SEED + 1, RecorderSettings(steps=1, size=(16, 16)))  # what came before does not matter
    again = record_episode(PUSH_SEED, SETTINGS)
    for name in MEMBERS:
        assert np.array_equal(getattr(again, name), getattr(episode, name)), name
    assert again.meta == episode.meta


def test_a_file_holds_the_episode_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = RecorderSettings(steps=1, size=(32, 32))
    path = record_file(3, tmp_path, settings)
    assert path == tmp_path / "twin_00000003.vap.npz"
    saved, expected = load_episode(path), record_episode(3, settings)
    for name in MEMBERS:
        assert np.array_equal(getattr(saved, name), getattr(expected, name)), name
    monkeypatch.setattr(twin_recorder, "record_episode", None)  # must not be called again
    assert record_file(3, tmp_path, settings) == path


def test_shapes_are_those_of_the_format(episode: TwinEpisode) -> None:
    count = len(episode.meta["scene"]["objects"])
    assert episode.frames.shape == (2, 8, 64, 64, 3) and episode.objects.shape == (2, 8, 64, 64, 4)
    assert episode.plate.shape == (2, 64, 64, 3) and episode.flow.shape == (2, 8, 2, 32, 32)
    assert episode.robot.shape == episode.labels.shape == (2, 8, 64, 64)
    assert episode.joints.shape == episode.measured.shape == (8, 8) and episode.actions.shape == (7, 8)
    assert episode.object_poses.shape == (8, count, 7) and episode.length == 8


def test_layers_make_the_whole_where_the_robot_does_not_hide(episode: TwinEpisode) -> None:
    alpha = episode.objects[..., 3:] / 255
    together = episode.objects[..., :3] + (1 - alpha) * episode.plate[:, None]
    free = episode.robot == 0
    assert np.abs(together - episode.frames)[free].max() < 2
    assert 0.3 < free.mean() < 0.98
    seen = (episode.labels >= 2) & free
    assert (episode.objects[..., 3][seen] > 127).all() and seen.any()


def test_objects_are_copied_where_nothing_moved(episode: TwinEpisode) -> None:
    still = ~(episode.flow != 0).any(axis=(0, 2, 3, 4))
    assert still[:4].all() and not still[5:].all()
    for frame in np.nonzero(still[1:])[0] + 1:
        if np.array_equal(episode.object_poses[frame], episode.object_poses[frame - 1]):
            assert np.array_equal(episode.objects[:, frame], episode.objects[:, frame - 1])


def test_recorded_motion_leads_back_to_the_frame_before(episode: TwinEpisode) -> None:
    """Small objects are all edge at this size, so this compares sums; `test_a_moved_layer...` below looks at pixels."""
    for view in range(2):
        followed, ignored = 0.0, 0.0
        for frame in range(1, episode.length):
            flow, before, after = episode.flow[view, frame], *episode.objects[view, frame - 1 : frame + 1]
            moving = np.repeat(np.repeat((np.abs(flow) > FLOW_SCALE / 2).any(axis=0), 2, axis=0), 2, axis=1)
            moving &= after[..., 3] == 255
            followed += float(np.abs(pulled_back(before, flow) - after)[moving].sum())
            ignored += float(np.abs(before.astype(float) - after)[moving].sum())
        assert 0 < followed < 0.5 * ignored


def test_the_robot_is_where_its_measured_joints_put_it(episode: TwinEpisode) -> None:
    model = load_robot(episode.meta["robot"])
    cameras = [Camera.from_dict(item) for item in episode.meta["cameras"]]
    outlines = silhouettes(model, torch.from_numpy(episode.measured)[None], cameras)[0].numpy()
    shown = episode.robot >= 128
    visible = (episode.robot >= 128) | (episode.labels < 2)  # where no object stands in front
    overlap = (shown & outlines).sum() / ((shown | outlines) & visible).sum()
    assert overlap > 0.93 and shown.mean() > 0.02


def test_nominal_joints_are_the_actions_rolled_out_without_the_scene(episode: TwinEpisode) -> None:
    model = load_robot(episode.meta["robot"])
    controller = Controller(model, episode.meta["control_mode"], episode.meta["control_dt"])
    state = controller.initial(episode.joints[:1])
    for action, joints in zip(episode.actions, episode.joints[1:], strict=True):
        state, path = controller.step(state, action[None], 1)
        assert np.allclose(path[0, -1], joints, atol=2e-6)
    assert np.abs(episode.measured - episode.joints)[:, :7].max() < 0.05
    low, high = controller.spec.low, controller.spec.high
    assert (episode.actions >= low).all() and (episode.actions <= high).all()


def test_the_description_says_what_was_recorded(episode: TwinEpisode) -> None:
    meta = episode.meta
    assert meta["seed"] == PUSH_SEED and set(meta["behaviours"]) <= set(BEHAVIOURS) and meta["behaviours"]
    assert [item["name"] for item in meta["cameras"]] == list(SETTINGS.views)
    scene = Scene.from_dict(meta["scene"])
    for item, pose in zip(scene.objects, episode.object_poses[0], strict=True):
        assert np.allclose(pose[:2], (item.x, item.y), atol=5e-3)


@pytest.mark.parametrize(
    ("seed", "held_out", "words"),
    [
        (HELD_OUT_SEEDS[0], False, "seed: given 1000000, expected one zero or more and outside range"),
        (HELD_OUT_SEEDS[-1], False, "outside range"),
        (HELD_OUT_SEEDS[0] - 1, True, "seed: given 999999, expected one inside range"),
        (HELD_OUT_SEEDS[-1] + 1, True, "inside range"),
        (-1, False, "seed: given -1, expected one zero or more"),
    ],
)
def test_seeds_for_evaluation_and_training_are_kept_apart(
    seed: int, held_out: bool, words: str, tmp_path: Path
) -> None:
    settings = RecorderSettings(steps=1, size=(16, 16))
    with pytest.raises(InvalidInput, match=words):
        record_episode(seed, settings, held_out=held_out)
    with pytest.raises(InvalidInput, match=words):
        record_file(seed, tmp_path, settings, held_out=held_out)
    assert not list(tmp_path.iterdir())
    (tmp_path / f"twin_{seed:08d}.vap.npz").touch()
    with pytest.raises(InvalidInput, match=words):  # also where there is one already
        record_file(seed, tmp_path, settings, held_out=held_out)


def test_a_range_of_seeds_is_checked_throughout() -> None:
    check_seeds(range(5, 900), held_out=False)
    check_seeds(range(1_000_000, 1_000_100), held_out=True)
    with pytest.raises(InvalidInput, match="given 1000000"):
        check_seeds(range(999_990, 2_000_010), held_out=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, r"recorder settings: .* expected at least one step"),
        ({"size": (1, 64)}, r"recorder settings: .* expected at least one step"),
        ({"control_dt": 0.21}, r"control_dt of a recording \[s\]: given 0.21, expected a multiple of 0.00833333"),
        ({"control_dt": 1 / 240}, r"control_dt of a recording \[s\]"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        replace(SETTINGS, **change)  # type: ignore[arg-type]


def test_an_unknown_view_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"view of the twin 'exterior1'\. Did you mean 'exterior_1'"):
        record_episode(0, replace(SETTINGS, views=("exterior1",)))


# The motion field alone, of an object moved by hand ---------------------------------------------------------------

TURNS = {
    "slide": ((0.03, -0.02, 0.0), 0.0),
    "lift": ((0.0, 0.0, 0.05), 0.0),
    "turn": ((0.0, 0.0, 0.0), 0.3),
    "all": ((-0.02, 0.03, 0.04), -0.25),
}


@dataclass(frozen=True)
class Moved:
    """A large brick before and after a movement, drawn without a robot, and its recorded motion [px]."""

    before: Snapshot
    after: Snapshot
    camera: Camera
    pictures: tuple[Picture, Picture]
    flow: np.ndarray


def move_brick(kind: str) -> Moved:
    brick = SceneObject("brick", "red", (0.2, 0.15, 0.05), 0.5, 0.0, 0.4)
    scene = replace(sample_scene(np.random.default_rng(0), 1), objects=(brick,), goal=None)
    shift, angle = TURNS[kind]
    after = Snapshot({}, (((0.5, 0.0, 0.025), quaternion(0.4)),))
    before = Snapshot({}, (((0.5 + shift[0], shift[1], 0.025 + shift[2]), quaternion(0.4 + angle)),))
    camera = scene_camera(scene.cameras[0], (128, 128))
    pose = np.asarray(camera.T_parent_camera, np.float64)
    with closing(TwinRenderer(scene, load_robot("panda_robotiq").folder / "robot.urdf")) as renderer:
        then, now = (renderer.render(snapshot, camera, pose, robot=False) for snapshot in (before, after))
    return Moved(before, after, camera, (then, now), object_flow(now, camera, pose, before, after))


@pytest.mark.parametrize("kind", TURNS)
def test_motion_of_points_on_an_object_is_exact(kind: str) -> None:
    """Points of the brick's top face, carried from pose to pose and projected one by one."""
    moved = move_brick(kind)
    assert moved.flow.shape == (2, 64, 64)
    top = np.random.default_rng(1).uniform((-0.08, -0.06, 0.025), (0.08, 0.06, 0.025), (100, 3))
    then, now = (
        moved.camera.project(torch.as_tensor(place(top, item.objects[0])))[0].numpy()
        for item in (moved.before, moved.after)
    )
    cells = (now - 0.5) / 2
    told = look_up(np.moveaxis(moved.flow / FLOW_SCALE, 0, -1), cells[:, 0], cells[:, 1])
    assert np.abs(told - (then - now)).max() < 0.2
    assert np.abs(then - now).max() > 2
    assert not moved.flow[:, inner(moved.pictures[1].coarse_labels[::2, ::2] == 0)].any()


@pytest.mark.parametrize("kind", ["slide", "lift"])
def test_a_moved_layer_is_the_old_one_looked_up_along_its_motion(kind: str) -> None:
    """A brick that does not turn keeps its shades, so that inside its outline every pixel must come back."""
    moved = move_brick(kind)
    then, now = (picture.objects for picture in moved.pictures)
    inside = inner(inner(now[..., 3] == 255))
    back = pulled_back(then, moved.flow)
    inside &= back[..., 3] > 254.5
    error = np.abs(back - now)[inside]
    assert inside.sum() > 500 and (error.max(axis=-1) < 3).mean() > 0.9  # the rest are the brick's inner edges
    assert np.abs(then.astype(float) - now)[inside].mean() > 5 * error.mean()


def quaternion(yaw: float) -> tuple[float, ...]:
    return 0.0, 0.0, float(np.sin(yaw / 2)), float(np.cos(yaw / 2))


def place(points: np.ndarray, pose: tuple[tuple[float, ...], tuple[float, ...]]) -> np.ndarray:
    """Points of an object that is turned about the vertical only, in the base frame."""
    yaw = 2 * np.arctan2(pose[1][2], pose[1][3])
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    return (points @ turn.T + pose[0]).astype(np.float32)


def test_resting_objects_have_no_motion() -> None:
    scene = sample_scene(np.random.default_rng(0), 3)
    rest = Snapshot({}, tuple(((item.x, item.y, 0.03), quaternion(item.yaw)) for item in scene.objects))
    nudged = Snapshot({}, tuple(((x + 6e-4, y, z), turn) for (x, y, z), turn in rest.objects))
    camera = scene_camera(scene.cameras[0], (32, 32))
    pose = np.asarray(camera.T_parent_camera, np.float64)
    with closing(TwinRenderer(scene, load_robot("panda_robotiq").folder / "robot.urdf")) as renderer:
        picture = renderer.render(rest, camera, pose, robot=False)
    assert not object_flow(picture, camera, pose, nudged, rest).any()


def test_motion_is_the_same_without_pictures(tmp_path: Path) -> None:
    whole, blind = (record_episode(PUSH_SEED, replace(SETTINGS, pictures=pictures)) for pictures in (True, False))
    for name in ("joints", "measured", "actions", "object_poses"):
        assert np.array_equal(getattr(whole, name), getattr(blind, name)), name
    assert whole.meta == blind.meta
    for name in ("frames", "objects", "plate", "robot", "labels", "flow"):
        assert getattr(blind, name).shape == (0, *getattr(whole, name).shape[1:]), name
    path = record_file(PUSH_SEED, tmp_path, replace(SETTINGS, pictures=False))
    assert path.name == f"motion_{PUSH_SEED:08d}.vap.npz" and path.stat().st_size < 20_000
    assert np.array_equal(load_episode(path).object_poses, blind.object_poses)
    assert record_file(PUSH_SEED, tmp_path, SETTINGS).name == f"twin_{PUSH_SEED:08d}.vap.npz"  # both may be there


def test_outlines_are_as_large_as_their_objects() -> None:
    episode = record_episode(PUSH_SEED, replace(SETTINGS, pictures=False))
    for outline, item in zip(episode.meta["outlines"], episode.meta["scene"]["objects"], strict=True):
        assert np.ptp(outline, axis=0) == pytest.approx(item["size"], abs=1e-5)
