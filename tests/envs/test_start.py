"""Starts: round trips through files, photos, and a named error for everything that does not fit."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from vap_sim.envs.start import Start, check_start, load_start, photo_start, shipped_starts
from vap_sim.envs.starting import draw, first_start, resolve_start, start_names
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot

PHOTO = np.full((128, 128, 3), 90, np.uint8)
HOME = load_robot("panda_robotiq").home


def test_shipped_starts_fit_the_robot_and_see_it(model: RobotModel) -> None:
    names = shipped_starts()
    assert len(names) == 24
    for name in names:
        start = load_start(name)
        assert start.name == name
        check_start(start, model, (128, 128), 1)
        assert start.scene is not None
        assert start.instruction
        assert start.frames.float().std() > 10
    assert {name.rpartition("_")[0] for name in names} == {"reach", "push", "pick_place"}
    assert shipped_starts("push") == tuple(f"push_{number:02d}" for number in range(8))


def test_shipped_starts_are_small() -> None:
    folder = Path(__file__).resolve().parents[2] / "envs" / "start_frames"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 1_000_000


def test_save_and_load_keep_every_bit(start: Start, tmp_path: Path) -> None:
    views = replace(
        start,
        frames=torch.stack([start.frames[0], 255 - start.frames[0]]),
        cameras=(start.cameras[0], replace(start.cameras[0], name="wrist", parent_link="robotiq_base")),
        instruction="grasp it – quickly",
    )
    for _ in range(2):  # saving again replaces what is there
        assert views.save(tmp_path / "new" / "place") == tmp_path / "new" / "place"
    again = load_start(tmp_path / "new" / "place")
    assert torch.equal(again.frames, views.frames)
    assert torch.equal(again.joints, views.joints)
    assert [camera.to_dict() for camera in again.cameras] == [camera.to_dict() for camera in views.cameras]
    for field in ("gripper", "name", "robot", "scene", "instruction"):
        assert getattr(again, field) == getattr(views, field)
    assert sorted(path.name for path in (tmp_path / "new" / "place").iterdir()) == [
        "exterior_1.png",
        "start.json",
        "wrist.png",
    ]


def test_pickles(start: Start) -> None:
    assert torch.equal(pickle.loads(pickle.dumps(start)).frames, start.frames)


def test_resized_pictures_stay_under_the_drawn_robot(start: Start, model: RobotModel) -> None:
    small = start.resized((64, 32))
    assert small.size == (64, 32)
    assert small.cameras[0].size == (64, 32)
    assert small.frames.float().mean() == pytest.approx(start.frames.float().mean(), abs=1)
    points = torch.tensor([[0.5, 0.1, 0.0]])
    large, _ = start.cameras[0].project(points)
    little, _ = small.cameras[0].project(points)
    assert torch.allclose((large + 0.5) * torch.tensor([0.5, 0.25]) - 0.5, little, atol=1e-4)
    assert start.resized((256, 256)).resized((128, 128)).frames.float().sub(start.frames.float()).abs().mean() < 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frames": torch.zeros(1, 128, 128, 3)}, r"frames of start 'push_00': given torch.float32.*0\.\.255"),
        (
            {"frames": torch.zeros(128, 128, 3, dtype=torch.uint8)},
            r"frames of start.*expected torch.uint8 \(V, H, W, 3\)",
        ),
        ({"joints": torch.zeros(8).double()}, r"joints of start.*float64.*expected finite torch.float32 \(J,\)"),
        ({"joints": torch.tensor([np.nan] * 8)}, "joints of start.*nan"),
        ({"gripper": 1.5}, "gripper of start 'push_00': given 1.5, expected a number from 0"),
        ({"cameras": ()}, "cameras of start 'push_00': given 0, expected 1, one for each picture"),
        (
            {"cameras": (Camera.batch([load_start("push_00").cameras[0]]),)},
            "a batch of cameras, expected a single camera",
        ),
        (
            {"cameras": (load_start("push_00").cameras[0].resized((64, 64)),)},
            r"size of camera 'exterior_1'.*\(64, 64\)",
        ),
    ],
)
def test_parts_that_disagree_are_named(start: Start, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        replace(start, **changes)


def _turned_away() -> Camera:
    """Its optical axis runs back through the robot's base, which it would show if it saw what is behind it."""
    model = load_robot("panda_robotiq")
    x, y, z = model.skeleton.positions(model.robot, model.robot.forward(HOME))[0].tolist()
    return Camera.look_at("away", (x + 1, y, z), (x + 2, y, z), focal_px=150.0, size=(128, 128))


ASIDE = Camera.look_at("aside", (1.5, 0.0, 0.5), (1.2, 2.0, 0.5), focal_px=150.0, size=(128, 128))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"robot": "widowx"}, "robot of start 'push_00': given widowx, expected 'panda_robotiq'"),
        (
            {"joints": torch.zeros(7)},
            r"joints of start 'push_00': given \(7,\), expected \(8,\): panda_joint1, .*finger",
        ),
        (
            {"joints": HOME + torch.tensor([0, 0, 0, 3.0, 0, 0, 0, 0])},
            r"joint 'panda_joint4'.*expected a value in \[-3.07",
        ),
        ({"gripper": 0.5}, "gripper of start 'push_00': given 0.5, expected 0.000, as its joint says"),
        (
            {"cameras": (_turned_away(),)},
            "camera 'away' of start 'push_00': given [0-9]+ of [0-9]+ points of the robot behind it",
        ),
        ({"cameras": (ASIDE,)}, "camera 'aside'.*outside of its picture, expected a camera that sees the robot"),
    ],
)
def test_start_that_does_not_fit_the_robot_is_named(
    start: Start, model: RobotModel, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_start(replace(start, **changes), model, (128, 128), 1)


def test_start_that_does_not_fit_the_world_model_is_named(start: Start, model: RobotModel) -> None:
    with pytest.raises(InvalidInput, match=r"given \(128, 128\), expected \(64, 64\); start.resized\(\(64, 64\)\)"):
        check_start(start, model, (64, 64), 1)
    with pytest.raises(InvalidInput, match=r"views of start 'push_00': given \['exterior_1'\], expected 2"):
        check_start(start, model, (128, 128), 2)


def test_measured_joints_may_overshoot_a_limit_a_little(start: Start, model: RobotModel) -> None:
    joints = start.joints.clone()
    joints[7] = -5e-4
    check_start(replace(start, joints=joints, gripper=0.0), model, (128, 128), 1)


def test_photo_is_taken_as_it_is(model: RobotModel) -> None:
    start = photo_start(PHOTO, HOME.tolist(), "exterior_1", instruction="wave")
    check_start(start, model, (128, 128), 1)
    assert (start.frames == 90).all()
    assert start.instruction == "wave"
    seven = photo_start(PHOTO, HOME[:7], model.camera("exterior_1"), gripper=1.0)
    assert seven.joints[7] == pytest.approx(0.8)
    assert seven.gripper == 1.0
    photo = PHOTO.copy()
    start = photo_start(photo, HOME, "exterior_1")
    photo[...] = 0
    assert (start.frames == 90).all()


def test_photo_of_another_size_is_scaled_when_asked(model: RobotModel) -> None:
    camera = model.camera("exterior_1").resized((640, 480))
    photo = np.full((480, 640, 3), 7, np.uint8)
    start = photo_start(photo, HOME, camera)
    assert start.size == (640, 480)
    with pytest.raises(
        InvalidInput, match=r"size of the pictures.*photo_start\(..., size=\(128, 128\)\), samples it anew"
    ):
        check_start(start, model, (128, 128), 1)
    start = photo_start(photo, HOME, camera, size=(128, 128))
    check_start(start, model, (128, 128), 1)


@pytest.mark.parametrize(
    ("image", "joints", "options", "words"),
    [
        (PHOTO / 255, HOME, {}, r"photo: given float64 \(128, 128, 3\), expected uint8 levels 0..255 \(not 0..1\)"),
        (PHOTO[..., 0], HOME, {}, r"photo: given shape \(128, 128\), expected \(H, W, 3\) RGB"),
        (PHOTO.transpose(2, 0, 1), HOME, {}, r"photo: given shape \(3, 128, 128\)"),
        (PHOTO, HOME[:7], {}, r"joints: given shape \(7,\), expected \(8,\): panda_joint1"),
        (PHOTO, "home", {}, "joints: given home, expected numbers"),
        (PHOTO, HOME[:7], {"gripper": 2.0}, "gripper of start 'photo': given 2.0"),
        (
            PHOTO[:64],
            HOME,
            {},
            r"size of camera 'exterior_1' of start 'photo': given \(128, 128\), expected \(128, 64\)",
        ),
    ],
)
def test_photo_that_does_not_fit_is_named(image: Any, joints: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        photo_start(image, joints, "exterior_1", **options)


def test_photo_by_an_unknown_camera_is_named() -> None:
    with pytest.raises(UnknownName, match=r"unknown camera 'exterior'. Did you mean 'exterior_"):
        photo_start(PHOTO, HOME, "exterior")


def test_what_a_start_may_be(start: Start, model: RobotModel, tmp_path: Path) -> None:
    start.save(tmp_path)
    photo = {"image": PHOTO, "joints": HOME, "camera": "exterior_1"}
    assert resolve_start(start, model) is start
    assert resolve_start("push_00", model).name == "push_00"
    assert resolve_start(tmp_path, model).name == "push_00"
    assert resolve_start(photo, model).name == "photo"
    with pytest.raises(InvalidInput, match="start: given int, expected a name"):
        resolve_start(3, model)  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match=r"unknown field of a photo start 'joint'. Did you mean 'joints'"):
        resolve_start({"image": PHOTO, "joint": HOME}, model)
    with pytest.raises(InvalidInput, match=r"photo start: given \['image'\], expected also \['joints', 'camera'\]"):
        resolve_start({"image": PHOTO}, model)


def test_names_to_draw_from(model: RobotModel) -> None:
    assert start_names(None, model) == shipped_starts()
    with pytest.raises(UnknownName, match=r"unknown task with shipped starts 'pus'. Did you mean 'push'"):
        start_names("pus", model)
    stranger = replace(model, robot=replace(model.robot, name="widowx"))
    assert start_names("push", stranger) == ()


def test_first_start_is_the_nearest_wish(start: Start, model: RobotModel) -> None:
    other = load_start("reach_00")
    assert first_start(start, other, "push_01", model) is start
    assert first_start(None, other, "push_01", model) is other
    assert first_start(None, None, "push_01", model).name == "push_01"
    with pytest.raises(
        InvalidInput, match=r"start: given None, expected one of robot 'panda_robotiq'.*none is shipped"
    ):
        first_start(None, None, None, model)


def test_draws_are_as_many_whether_or_not_a_start_is_drawn() -> None:
    one, other = np.random.default_rng(5), np.random.default_rng(5)
    assert draw(one, ("a", "b", "c"))[0] == draw(other, ())[0]
    assert one.bit_generator.state == other.bit_generator.state
    drawn = [draw(one, ("a", "b", "c"))[1] for _ in range(60)]
    assert set(drawn) == {"a", "b", "c"}


def _edit(field: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        record = json.loads((folder / "start.json").read_text())
        if value is None:
            del record[field]
        else:
            record[field] = value
        (folder / "start.json").write_text(json.dumps(record))

    return change


def _large(folder: Path) -> None:
    cv2.imwrite(str(folder / "exterior_1.png"), np.zeros((64, 128, 3), np.uint8))


def _camera_name(name: str) -> Callable[[Path], None]:
    return _edit("cameras", [{**load_start("push_00").cameras[0].to_dict(), "name": name}])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "start.json").unlink(), "start.json: cannot be read"),
        (lambda f: (f / "start.json").write_bytes(b"\xff{"), "start.json: is not JSON"),
        (lambda f: (f / "start.json").write_text("[]"), "start.json: holds a list, expected an object"),
        (_edit("joints", None), "start.json: no field 'joints'"),
        (_edit("joints", ["a"]), "start.json: .*str"),
        (_edit("joints", [[0.0] * 8]), r"start.json: joints of start.*\(1, 8\)"),
        (_edit("gripper", "open"), "start.json: could not convert"),
        (_edit("scene", [1]), "start.json: scene: given list, expected an object or null"),
        (_edit("cameras", [{"name": "exterior_1"}]), "start.json: camera 'exterior_1': given no field 'size'"),
        (_edit("cameras", [3]), "start.json: "),
        (_camera_name("../push_01/exterior_1"), r"camera name '../push_01/exterior_1', expected letters"),
        (lambda f: (f / "exterior_1.png").unlink(), "exterior_1.png: cannot be read"),
        (lambda f: (f / "exterior_1.png").write_bytes(b"P6 1 1 255 aaa" * 4), "exterior_1.png: is not a PNG picture"),
        (_large, r"exterior_1.png: is 128 x 64 pixels, the camera says \(128, 128\)"),
        (
            lambda f: (f / "exterior_1.png").write_bytes((f / "exterior_1.png").read_bytes()[:200]),
            "exterior_1.png: is damaged",
        ),
    ],
)
def test_bad_files_say_which_file_and_field(
    start: Start, tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    start.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(BadFile, match=words):
        Start.load(tmp_path)


def test_camera_names_become_file_names(start: Start, tmp_path: Path) -> None:
    hostile = replace(start, cameras=(replace(start.cameras[0], name="../x"),))
    with pytest.raises(InvalidInput, match=r"camera names of a start to save: given \['../x'\]"):
        hostile.save(tmp_path / "a")
    assert not (tmp_path / "x.png").exists()
