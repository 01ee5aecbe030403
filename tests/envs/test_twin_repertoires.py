"""Recordings of stations beside DROID: what can be done in a scene, cameras on links, drawers as layers."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vap_sim.data.twin import TwinEpisode, load_episode
from vap_sim.envs.scenes import Scene
from vap_sim.errors import InvalidInput, UnknownName, Unsupported
from vap_sim.prompts.silhouette import silhouettes
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot
from vap_sim.training.tracks import Bodies

pytest.importorskip("pybullet")
from vap_sim.envs.stations import get_station
from vap_sim.envs.twin_behaviours import BEHAVIOURS, FLAWS, course_of, object_target, possible
from vap_sim.envs.twin_episode import build_physics
from vap_sim.envs.twin_recorder import RecorderSettings, record_episode, record_file
from vap_sim.envs.twin_renderer import Snapshot
from vap_sim.envs.twin_repertoires import Repertoire

ARMS = ("DROID", "Bridge", "RT1")
PULL = RecorderSettings(
    station="RT1", steps=14, size=(64, 64), views=("exterior_1", "head"), behaviours=("open_drawer",)
)
CARRIED = RecorderSettings(station="Bridge", steps=5, size=(64, 64), views=("exterior_1", "wrist"))


def still(scene: Scene) -> Snapshot:
    """A scene as it is drawn, before anything has moved."""
    station = get_station("RT1")
    model = load_robot(station.robot)
    with closing(build_physics(station.physics, scene, model, model.home.double().numpy())) as physics:
        return physics.snapshot()


def drawn(task: str, seed: int = 0) -> Scene:
    return get_station("RT1").get_task(task).scene(np.random.default_rng(seed))


def pulling_seed() -> int:
    """The first seed whose scene has a shut drawer."""
    for seed in range(50):
        scene = get_station("RT1").sample_scene(np.random.default_rng([seed, 11]))
        if scene.cabinets and scene.cabinets[0].opening < 0.02:
            return seed
    raise AssertionError("no scene with a shut drawer")


@pytest.fixture(scope="module")
def pulled() -> TwinEpisode:
    return record_episode(pulling_seed(), PULL)


@pytest.fixture(scope="module")
def carried() -> TwinEpisode:
    return record_episode(5, CARRIED)


# Repertoires -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARMS)
def test_what_a_repertoire_names_can_be_played(name: str) -> None:
    station = get_station(name)
    repertoire, model = Repertoire.of(station), load_robot(station.robot)
    rng = np.random.default_rng(2)
    scene = station.sample_scene(rng)
    with closing(build_physics(station.physics, scene, model, model.home.double().numpy())) as physics:
        lying = physics.snapshot()
    stage = repertoire.stage(model, scene, lambda: lying, 1 / station.control_hz)
    low, high = model.robot.lower.double().numpy(), model.robot.upper.double().numpy()
    for seed in range(3):
        joints = repertoire.start(np.random.default_rng(seed), model, scene)
        assert joints.shape == low.shape and (joints >= low - 1e-6).all() and (joints <= high + 1e-6).all()
    names, odds = repertoire.odds(scene, lying, ())
    assert odds.sum() == pytest.approx(1) and (odds > 0).all() and set(names) <= set(repertoire.shares)
    for index, behaviour in enumerate(names):
        flaw = None if index % 2 else FLAWS[(index // 2) % len(FLAWS)]
        course, again = (course_of(behaviour, np.random.default_rng(1), stage, joints, flaw) for _ in range(2))
        assert course.shape[1:] == low.shape and len(course) and np.isfinite(course).all()
        assert (course >= low - 1e-6).all() and (course <= high + 1e-6).all()
        assert np.array_equal(course, again)


def test_droids_repertoire_is_what_it_was() -> None:
    repertoire, scene = Repertoire.of(get_station("DROID")), get_station("DROID").sample_scene(np.random.default_rng(0))
    names, odds = repertoire.odds(scene, Snapshot({}, ()), ())
    assert names == list(BEHAVIOURS) and np.allclose(odds, list(BEHAVIOURS.values()))


def test_a_drawer_can_be_opened_or_closed_but_not_both() -> None:
    shut, out = drawn("open_drawer"), drawn("close_drawer")
    for scene, can, cannot in ((shut, "open_drawer", "close_drawer"), (out, "close_drawer", "open_drawer")):
        snapshot = still(scene)
        assert possible(can, scene, snapshot) and possible(f"clumsy_{can}", scene, snapshot)
        assert not possible(cannot, scene, snapshot) and not possible("sweep", scene, snapshot)
    plain = drawn("pick")
    assert not possible("open_drawer", plain, Snapshot({}, ())) and possible("sweep", plain, Snapshot({}, ()))
    with pytest.raises(Unsupported, match="none of the behaviours open_drawer can be done"):
        Repertoire.of(get_station("RT1")).odds(plain, Snapshot({}, ()), ("open_drawer",))


def test_hands_keep_away_from_what_stands_fast() -> None:
    station, scene = get_station("RT1"), drawn("open_drawer")
    model, cabinet = load_robot(station.robot), replace(scene.cabinets[0], x=0.6, y=0.0, yaw=np.pi, opening=0.0)
    low, high = (0.6 - cabinet.travel - 0.05, -cabinet.size[1] / 2), (0.6 + cabinet.size[0], cabinet.size[1] / 2)

    def gap(points: np.ndarray) -> np.ndarray:
        return np.asarray(np.linalg.norm(np.maximum(np.maximum(low - points, points - high), 0), axis=-1))

    lying = {name: (0.5, high[1] + room) for name, room in (("near", 0.08), ("far", 0.13))}
    for name, (x, y) in lying.items():
        item = replace(scene.objects[0], x=x, y=y)
        placed = replace(scene, objects=(item,), cabinets=(cabinet,))
        snapshot = Snapshot({}, (((x, y, item.size[2] / 2), (0.0, 0.0, 0.0, 1.0)),), (((0.6, 0.0, 0.0), (0, 0, 1, 0)),))
        assert possible("lift", placed, snapshot) == possible("push", placed, snapshot) == (name == "far")
    stage = Repertoire.of(station).stage(model, placed, lambda: snapshot, 1 / 3)
    home = model.home.double().numpy()
    for seed in range(6):
        course = course_of("pick_place", np.random.default_rng(seed), stage, home)
        poses = model.robot.forward(torch.as_tensor(course))[:, model.robot.link_index(model.tool_link), :3, 3].numpy()
        down = poses[poses[:, 2] < 0.12]
        assert len(down) and gap(down[:, :2]).min() > 0.1


def test_a_thing_on_a_thing_is_told_by_its_height() -> None:
    scene = get_station("Bridge").get_task("stack").scene(np.random.default_rng(0))
    size = scene.objects[0].size
    for z, piled, base in (
        (size[2] / 2, True, 0.0),
        (size[2] / 2 + 0.04, True, 0.04),
        (size[2] / 2 + 0.04, False, 0.0),
    ):
        lying = Snapshot({}, (((0.3, 0.0, z), (0.0, 0.0, 0.0, 1.0)),))
        assert object_target(scene, lying, 0, piled=piled).base == pytest.approx(base)


@pytest.mark.parametrize("flaw", ["slack", "drifting", "early"])
def test_flaws_find_the_gripper_wherever_its_joint_is(flaw: str) -> None:
    station = get_station("RT1")
    model, scene = load_robot(station.robot), drawn("pick", 3)
    snapshot, home = still(scene), model.home.double().numpy()
    stage = Repertoire.of(station).stage(model, scene, lambda: snapshot, 1 / 3)
    meant, wrong = (course_of("lift", np.random.default_rng(0), stage, home, name) for name in (None, flaw))
    assert stage.grip == 7 != model.robot.num_joints - 1
    same = np.array_equal(meant[:, stage.grip], wrong[:, stage.grip])
    assert same == (flaw != "early") and np.array_equal(meant, wrong) is False


# Recordings --------------------------------------------------------------------------------------------------------


def test_cameras_on_links_have_a_plate_a_frame(carried: TwinEpisode, tmp_path: Path) -> None:
    assert carried.frames.shape == (2, 6, 64, 64, 3) and carried.joints.shape == (6, 7)
    assert carried.plates.shape == (1, 6, 64, 64, 3) and np.array_equal(carried.plates[0, 0], carried.plate[1])
    assert [item["parent_link"] for item in carried.meta["cameras"]] == [None, "gripper_link"]
    path = record_file(5, tmp_path, CARRIED)
    again = load_episode(path)
    assert np.array_equal(again.plates, carried.plates) and again.meta == json.loads(json.dumps(carried.meta))
    assert again.meta["station"] == "Bridge" and again.meta["robot"] == "widowx"


@pytest.mark.parametrize("which", ["carried", "pulled"])
def test_layers_make_the_whole_for_every_camera(which: str, request: pytest.FixtureRequest) -> None:
    episode: TwinEpisode = request.getfixturevalue(which)
    plates = np.stack([np.repeat(episode.plate[:1], episode.length, axis=0), episode.plates[0]])
    alpha = episode.objects[..., 3]
    together = np.where(alpha[..., None] == 255, episode.objects[..., :3], plates).astype(int)
    free = (episode.robot == 0) & np.isin(alpha, (0, 255))  # where an edge crosses a pixel, its shares are not known
    # A thing that hardly moves is not drawn again in its layer, so that single pixels may differ at its edges.
    assert (np.abs(together - episode.frames)[free] > 1).mean() < 1e-3
    for view in range(2):
        assert episode.robot[view].any() and (free & (alpha == 255))[view].any() and (free & (alpha == 0))[view].any()


@pytest.mark.parametrize("which", ["carried", "pulled"])
def test_the_robot_is_where_its_joints_put_it_for_every_camera(which: str, request: pytest.FixtureRequest) -> None:
    episode: TwinEpisode = request.getfixturevalue(which)
    model = load_robot(episode.meta["robot"])
    cameras = [Camera.from_dict(item) for item in episode.meta["cameras"]]
    outlines = silhouettes(model, torch.from_numpy(episode.measured)[None], cameras)[0].numpy()
    for view in range(2):
        shown, hidden = episode.robot[view] >= 128, episode.labels[view] >= 2
        overlap = (shown & outlines[view]).sum() / ((shown | outlines[view]) & ~hidden).sum()
        assert overlap > 0.9, cameras[view].name


def test_a_drawer_is_a_layer_that_slides(pulled: TwinEpisode) -> None:
    scene = pulled.meta["scene"]
    count, cabinet = len(scene["objects"]), scene["cabinets"][0]
    assert pulled.object_poses.shape[1] == count + 1 == len(pulled.meta["outlines"])
    along = np.array([np.cos(cabinet["yaw"]), np.sin(cabinet["yaw"])])
    opening = (pulled.object_poses[:, -1, :2] - (cabinet["x"], cabinet["y"])) @ along
    assert opening[0] < 0.03 and opening[-1] > 0.05, "the expert pulls it out"
    seen = (pulled.labels == 2 + count).any(axis=(2, 3))
    assert seen[:, 0].all()
    moved = np.abs(np.diff(opening)) > 5e-3
    assert (pulled.flow[0, 1:][moved] != 0).any()


def test_tracks_follow_the_drawer_too(pulled: TwinEpisode) -> None:
    bodies = Bodies.of(pulled)
    assert bodies.boxes.shape == (15, pulled.object_poses.shape[1], 8, 3)
    assert len(bodies.outlines) == pulled.object_poses.shape[1]
    for k, outline in enumerate(bodies.outlines):
        low, high = bodies.boxes[:, k].min(1), bodies.boxes[:, k].max(1)
        assert (outline.min(1) >= low - 2e-3).all() and (outline.max(1) <= high + 2e-3).all()


def test_settings_are_the_stations_own_where_they_are_not_given() -> None:
    settings = RecorderSettings(station="RT1")
    assert (settings.robot, settings.views) == ("google_robot", ("head",))
    assert settings.control_dt == pytest.approx(1 / 3)
    assert RecorderSettings() == RecorderSettings(robot="panda_robotiq", control_dt=0.2, views=("exterior_1",))
    for change, words in (
        ({"station": "Bridg"}, "Did you mean 'Bridge'"),
        ({"behaviours": ("open_drawr",)}, "Did you mean 'open_drawer'"),
        ({"flaws": ("hihg",)}, "Did you mean 'high'"),
    ):
        with pytest.raises(UnknownName, match=words):
            replace(settings, **change)
    with pytest.raises(InvalidInput, match=r"share of flawed behaviours: given 0\.5, expected 0 at EgoVid"):
        RecorderSettings(station="EgoVid", flawed=0.5)
