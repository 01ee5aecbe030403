"""The robot library: what comes with the package, and which folders are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.robots.library import GripperSpec, RobotModel, load_robot, robot_names

TOY = """<robot name="toy"><link name="a"/><link name="b"/><joint name="j" type="revolute"><parent link="a"/>
<child link="b"/><limit lower="0.5" upper="1" velocity="1"/></joint></robot>"""
VALUES = {"flange_link": "b", "tool_link": "b"}


def folder(path: Path, values: Any, skeleton: str | None = None) -> Path:
    (path / "robot.urdf").write_text(TOY)
    (path / "robot.json").write_text(values if isinstance(values, str) else json.dumps(values))
    points = '{"points": [{"name": "p", "link": "b"}], "bones": []}'
    (path / "skeleton.json").write_text(skeleton or points)
    return path


@pytest.mark.parametrize("name", robot_names())
def test_every_robot_is_whole(name: str) -> None:
    model = load_robot(name)
    robot = model.robot
    assert model.name == name
    assert torch.equal(robot.clamp(model.home), model.home)
    poses = robot.forward(model.home)
    at = model.skeleton.positions(robot, poses)
    for camera in model.cameras.values():
        xy, depth = camera.project(at, poses, robot)
        inside = (depth > 0) & (xy >= 0).all(-1) & (xy < torch.tensor(camera.size)).all(-1)
        assert int(inside.sum()) >= 5, camera.name
    assert load_robot(name) is model
    assert (model.folder / "README.md").is_file()


def test_panda_gripper_runs_from_open_to_closed(model: RobotModel) -> None:
    gripper = model.gripper
    assert gripper is not None
    share = torch.tensor([0.0, 0.25, 1.0])
    torch.testing.assert_close(gripper.to_joint(share), torch.tensor([0.0, 0.2, 0.8]))
    torch.testing.assert_close(gripper.to_position(gripper.to_joint(share)), share)


def test_gripper_may_close_downwards() -> None:
    gripper = GripperSpec("slide", 0.037, 0.015)
    share = torch.tensor([0.0, 0.5, 1.0])
    torch.testing.assert_close(gripper.to_joint(share), torch.tensor([0.037, 0.026, 0.015]))
    torch.testing.assert_close(gripper.to_position(gripper.to_joint(share)), share)


def test_user_folder(model: RobotModel, tmp_path: Path) -> None:
    shutil.copytree(model.folder, tmp_path / "mine")
    mine = load_robot(tmp_path / "mine")
    assert mine is not model
    assert torch.equal(mine.robot.forward(mine.home), model.robot.forward(model.home))


def test_first_use_in_inference_mode_leaves_gradients_possible(model: RobotModel, tmp_path: Path) -> None:
    def pixels(mine: RobotModel, q: torch.Tensor) -> torch.Tensor:
        poses = mine.robot.forward(mine.robot.clamp(q))
        at = mine.skeleton.positions(mine.robot, poses) + mine.robot.jacobian(q, "tool").sum()
        return sum(camera.project(at, poses, mine.robot)[0].sum() for camera in mine.cameras.values())

    shutil.copytree(model.folder, tmp_path / "mine")
    with torch.inference_mode():
        mine = load_robot(tmp_path / "mine")
        pixels(mine, mine.home)
    (gradient,) = torch.autograd.grad(pixels(mine, q := mine.home.clone().requires_grad_()), q)
    assert bool(gradient.isfinite().all())


def test_folder_without_extras(tmp_path: Path) -> None:
    toy = load_robot(folder(tmp_path, VALUES))
    assert (toy.gripper, dict(toy.cameras), toy.name) == (None, {}, tmp_path.name)
    assert toy.home.tolist() == [0.5]


def test_unknown_names(model: RobotModel) -> None:
    with pytest.raises(UnknownName, match=r"unknown robot 'panda_robotic'. Did you mean 'panda_robotiq'"):
        load_robot("panda_robotic")
    with pytest.raises(UnknownName, match=r"unknown camera 'wirst'. Did you mean 'wrist'"):
        model.camera("wirst")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("{", "is not JSON"),
        ([1], "holds a list, expected an object"),
        ({}, "field 'flange_link': given nothing"),
        ({**VALUES, "tool_link": "c"}, "unknown link 'c'"),
        ({**VALUES, "cameras": []}, "field 'cameras': given list, expected an object"),
        ({**VALUES, "cameras": {"k": {"eye": [0, 0, 0]}}}, "camera 'k': given no field 'size'"),
        (
            {
                **VALUES,
                "cameras": {
                    "k": {"size": [4, 4], "eye": [0, 0, 0], "target": [1, 0, 0], "focal_px": 1, "parent_link": "z"}
                },
            },
            "unknown link 'z'",
        ),
        ({**VALUES, "gripper": {"joint": "j"}}, "field 'gripper': .* expected joint, open, closed"),
        ({**VALUES, "gripper": {"joint": "x", "open": 0, "closed": 1}}, "unknown joint 'x'"),
        ({**VALUES, "gripper": {"joint": "j", "open": 1, "closed": 1}}, "open and closed values that differ"),
        ({**VALUES, "home": {"x": 0}}, "unknown joint 'x'"),
        ({**VALUES, "home": {"j": "far"}}, "home of joint 'j': given far, expected a number"),
    ],
)
def test_bad_folders_are_named(tmp_path: Path, values: Any, words: str) -> None:
    with pytest.raises(BadFile, match=rf"robot\.json: .*{words}"):
        load_robot(folder(tmp_path, values))


def test_missing_file_and_stray_skeleton(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"robot\.json: cannot be read"):
        load_robot(tmp_path / "nowhere")
    with pytest.raises(BadFile, match=r"skeleton\.json: is not JSON"):
        load_robot(folder(tmp_path, VALUES, "["))
    (tmp_path / "b").mkdir()
    stray = '{"points": [{"name": "p", "link": "z"}], "bones": []}'
    with pytest.raises(BadFile, match=r"skeleton\.json: key point 'p': unknown link 'z'"):
        load_robot(folder(tmp_path / "b", VALUES, stray))


def test_a_stray_key_point_is_told_the_nearest_link(model: RobotModel, tmp_path: Path) -> None:
    shutil.copytree(model.folder, tmp_path / "mine")
    path = tmp_path / "mine" / "skeleton.json"
    path.write_text(path.read_text().replace('"link": "panda_link5"', '"link": "panda_lnik5"'))
    with pytest.raises(
        BadFile, match=r"skeleton\.json: key point 'wrist': .*'panda_lnik5'. Did you mean 'panda_link5'"
    ):
        load_robot(tmp_path / "mine")


def test_folders_of_robots_are_known_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for shelf in ("one", "two"):
        (tmp_path / shelf / f"arm_{shelf}").mkdir(parents=True)
        folder(tmp_path / shelf / f"arm_{shelf}", VALUES)
    monkeypatch.setenv("VAP_SIM_ROBOTS", f"{tmp_path / 'one'}:{tmp_path / 'two'}:{tmp_path / 'none'}")
    assert {"arm_one", "arm_two", "panda_robotiq"} <= set(robot_names())
    assert load_robot("arm_one").folder == tmp_path / "one" / "arm_one"
    assert load_robot("arm_two") is load_robot(tmp_path / "two" / "arm_two")
    with pytest.raises(UnknownName, match=r"'arm_tow'. Did you mean 'arm_two'"):
        load_robot("arm_tow")
    (tmp_path / "two" / "arm_three").mkdir()
    folder(tmp_path / "two" / "arm_three", {**VALUES, "name": "arm_3"})
    with pytest.raises(BadFile, match=r"robot\.json: field 'name' is 'arm_3', expected 'arm_three'"):
        load_robot("arm_three")
    (tmp_path / "two" / "widowx").mkdir()
    folder(tmp_path / "two" / "widowx", VALUES)
    with pytest.raises(InvalidInput, match=r"robot 'widowx': given .* and .*, expected one folder"):
        robot_names()
