"""Arms of other bodies in the twin: drives read from data, paths followed, things gripped, lifted and let go."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vap_sim.envs.scene_parts import SceneObject
from vap_sim.envs.stations import Station, get_station
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.robots.inverse import solve_inverse
from vap_sim.robots.library import RobotModel, load_robot

pybullet = pytest.importorskip("pybullet", reason="pybullet is not installed")
from vap_sim.envs.twin_drive import Drive, drive_of  # noqa: E402
from vap_sim.envs.twin_physics import TwinPhysics  # noqa: E402

DOWN = np.diag([1.0, -1.0, -1.0])
PLACES = {"Bridge": (0.26, 0.02, 0.034), "RT1": (0.52, -0.06, 0.035)}
"""Where a tool can grip a thing: x, y, and height of the tool [m]."""
ARMS = tuple(PLACES)


def as_record(drive: Drive | None) -> dict[str, Any]:
    """The drive as field `drive` of robot.json has it."""
    assert drive is not None
    fingers = [{**vars(item), "grips": list(item.grips), "followers": dict(item.followers)} for item in drive.fingers]
    return {"fingers": fingers, **{name: getattr(drive, name) for name in ("force", "lead", "friction", "gain")}}


def line(model: RobotModel, joints: np.ndarray, to: tuple[float, float, float], gripper: float) -> np.ndarray:
    """Joint values with the tool pointing down at a point and the gripper at a position in [0, 1]."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = DOWN, to
    found = solve_inverse(model.robot, model.tool_link, torch.from_numpy(pose), torch.from_numpy(joints)).q.numpy()
    assert model.gripper is not None
    found[model.robot.joint_index(model.gripper.joint)] = float(model.gripper.to_joint(torch.tensor(gripper)))
    return np.asarray(found)


def go(physics: TwinPhysics, start: np.ndarray, goal: np.ndarray, seconds: float) -> np.ndarray:
    share = np.linspace(0, 1, round(seconds * 24) + 1)[1:, None]
    physics.follow((1 - share) * start + share * goal, seconds)
    return goal


@pytest.mark.parametrize("name", ARMS)
def test_grips_lifts_holds_and_lets_go(name: str) -> None:
    station = get_station(name)
    model, (x, y, low) = load_robot(station.robot), PLACES[name]
    side = sum(station.layout.side) / 2
    cube = SceneObject("cube", "red", (side, side, side), x, y, 0.0)
    scene = replace(station.sample_scene(np.random.default_rng(0)), objects=(cube,), cabinets=())
    open_at = 0.0 if name == "Bridge" else 0.3
    above = line(model, model.home.double().numpy(), (x, y, low + 0.06), open_at)
    at, closed = line(model, above, (x, y, low), open_at), line(model, above, (x, y, low), 1.0)
    with closing(TwinPhysics(scene, model, above)) as physics:
        assert np.allclose(physics.tool_position(), (x, y, low + 0.06), atol=3e-3)
        assert not physics.touched(0)
        now = go(physics, above, at, 0.5)
        now = go(physics, now, closed, 0.5)
        assert physics.held(0) and physics.touched(0)
        measured = physics.joints()
        gripper = model.robot.joint_index(model.gripper.joint)  # type: ignore[union-attr]
        assert abs(measured[gripper] - closed[gripper]) > 0.1 * abs(at[gripper] - closed[gripper]), "stopped by it"
        now = go(physics, now, line(model, closed, (x, y, low + 0.06), 1.0), 0.5)
        lifted = physics.snapshot().objects[0][0]
        assert lifted[2] > side / 2 + 0.05 and physics.held(0) and not physics.world.grounded()[0]
        for _ in range(4):
            go(physics, now, now, 0.5)
        rest = physics.snapshot().objects[0][0]
        assert np.abs(np.subtract(rest, lifted)).max() < 2e-3, "nothing slips"
        go(physics, now, above, 0.5)
        go(physics, above, above, 0.5)
        assert not physics.held(0) and physics.world.grounded()[0]


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_keeps_to_its_path(name: str) -> None:
    station = get_station(name)
    model = load_robot(station.robot)
    scene = replace(station.sample_scene(np.random.default_rng(0)), cabinets=())
    start = model.home.double().numpy()
    with closing(TwinPhysics(scene, model, start)) as physics:
        assert np.allclose(physics.joints(), start, atol=2e-3)
        goal = start.copy()
        arm = [i for i, joint in enumerate(model.robot.joint_names) if joint != model.gripper.joint]  # type: ignore[union-attr]
        goal[arm] += 0.15 * (-1.0) ** np.arange(len(arm))
        go(physics, start, goal, 0.5)
        assert np.abs(physics.joints() - goal).max() < 0.01
        told = physics.snapshot().joints
        assert told.keys() == model.robot.moving(model.home.double()).keys()
        with pytest.raises(InvalidInput, match=rf"joint path: given shape \(4, 3\), expected \(n, {len(start)}\)"):
            physics.follow(np.zeros((4, 3)), 0.5)
    with pytest.raises(InvalidInput, match=rf"joints of the twin: given shape \(2,\), expected \({len(start)},\)"):
        TwinPhysics(scene, model, [0.0, 0.0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(load_robot("widowx").folder, tmp_path / "widowx"))


def rewrite(folder: Path, drive: object) -> RobotModel:
    record = json.loads((folder / "robot.json").read_text())
    record.pop("drive", None)
    if drive is not None:
        record["drive"] = drive
    (folder / "robot.json").write_text(json.dumps(record))
    return load_robot(folder)


def test_without_a_drive_every_joint_of_the_gripper_is_a_finger(folder: Path) -> None:
    drive = drive_of(rewrite(folder, None))
    assert drive is not None
    assert [finger.joint for finger in drive.fingers] == ["left_finger", "right_finger"]
    assert [finger.grips for finger in drive.fingers] == [("left_finger_link",), ("right_finger_link",)]
    assert drive.lead == pytest.approx(0.15 * 0.022)


@pytest.mark.parametrize("robot", ["panda_robotiq", "widowx", "google_robot"])
def test_drives_of_shipped_robots_name_each_joint_once(robot: str) -> None:
    model = load_robot(robot)
    drive = drive_of(model)
    assert drive is not None and len(drive.fingers) == 2
    named = [name for finger in drive.fingers for name in (finger.joint, *finger.followers)]
    assert sorted(named) == sorted(drive.ratios)
    record = json.loads((model.folder / "robot.json").read_text())["drive"]
    told = as_record(drive)
    for finger, read in zip(told["fingers"], record["fingers"], strict=True):
        assert finger == {"followers": {}, **read}
    assert {name: told[name] for name in ("force", "lead", "friction")} == {
        name: record[name] for name in ("force", "lead", "friction")
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"force": "much"}, "field 'drive': expected fingers"),
        ({"fingers": []}, "field 'drive': each joint of the gripper once"),
        ({"friction": 0.0}, "field 'drive': at least one finger, and force"),
        ({"lead": None}, "field 'drive'"),
    ],
)
def test_bad_drives_are_told_with_file_and_field(folder: Path, change: dict[str, object], words: str) -> None:
    drive = as_record(drive_of(load_robot("widowx")))
    with pytest.raises(BadFile, match=words):
        drive_of(rewrite(folder, {**drive, **change}))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("left_finger_link", "left_fingr_link", "unknown link 'left_fingr_link'. Did you mean 'left_finger_link'"),
        ('"joint": "left_finger"', '"joint": "left_fingr"', "unknown joint of the gripper 'left_fingr'"),
    ],
)
def test_misspelt_names_of_a_drive_are_told(folder: Path, old: str, new: str, words: str) -> None:
    drive = as_record(drive_of(load_robot("widowx")))
    with pytest.raises(BadFile, match=words):
        drive_of(rewrite(folder, json.loads(json.dumps(drive).replace(old, new))))


def test_an_environment_may_have_a_station_of_its_own() -> None:
    from vap_sim.envs.twin_env import TwinEnv

    own: Station = replace(get_station("Bridge"), name="Mine", control="joint_velocity", start_spread=0.0)
    env = TwinEnv(station=own)
    observation, _ = env.reset(seed=0)
    home = load_robot("widowx").home.numpy()[:6]
    assert np.abs(observation["joint_position"] - home).max() < 2e-3
    env.close()
