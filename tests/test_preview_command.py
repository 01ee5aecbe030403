"""`vap-sim preview`: the drawing lies where the camera sees the robot, numbers are the camera's, errors are named."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from vap_sim.cli import main
from vap_sim.commands.preview_inputs import read_cameras, read_joints
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.prompts import silhouettes
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot

PLAIN: dict[str, Any] = {"size": [4, 4], "intrinsics": np.eye(3).tolist()}
FRONT: dict[str, Any] = {"size": [160, 120], "eye": [0.9, 0.4, 0.5], "target": [0.2, 0.0, 0.15], "focal_px": 120.0}
CALIBRATED: list[dict[str, Any]] = [
    {"name": "left", "view": "exterior", "episodes": ["1"], "camera": FRONT, "refused": None},
    {"name": "wrist", "view": "wrist", "episodes": ["1"], "camera": None, "refused": {"reason": "moves"}},
]
"""As `vap-sim calibrate` writes them."""


@pytest.fixture
def model() -> RobotModel:
    return load_robot("widowx")


def photo(folder: Path, size: tuple[int, int] = (128, 128), level: int = 100) -> Path:
    path = folder / "photo.png"
    cv2.imwrite(str(path), np.full((size[1], size[0], 3), level, np.uint8))
    return path


def preview(folder: Path, *words: str) -> tuple[np.ndarray, dict[str, Any]]:
    out = folder / "seen" / "out.png"
    assert main(["preview", "--image", str(folder / "photo.png"), "--out", str(out), *words]) == 0
    return cv2.imread(str(out))[..., ::-1], json.loads(out.with_suffix(".json").read_text())


def test_numbers_are_the_cameras(model: RobotModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(tmp_path)
    words = ["--robot", "widowx", "--camera", "exterior_2", "--joints", "waist=0.4", "left_finger=0.02"]
    picture, numbers = preview(tmp_path, *words)
    q = model.home.clone()
    q[0], q[-1] = 0.4, 0.02
    assert numbers["joints"] == pytest.approx(dict(zip(model.robot.joint_names, q.tolist(), strict=True)))
    poses = model.robot.forward(q)
    xy, depth = model.camera("exterior_2").project(model.skeleton.positions(model.robot, poses), poses, model.robot)
    found = [(point["x"], point["y"], point["depth"]) for point in numbers["points"]]
    np.testing.assert_allclose(found, torch.cat([xy, depth[:, None]], dim=1).numpy(), atol=1e-3)
    assert [point["place"] for point in numbers["points"]] == ["in"] * len(found)
    assert Camera.from_dict(numbers["camera"]).size == (128, 128)
    text = capsys.readouterr().out
    assert f"{len(found)} of {len(found)} key points lie in the picture" in text
    assert re.search(rf"^left_tip +{xy[10, 0]:.1f} +{xy[10, 1]:.1f} +{depth[10]:.3f}$", text, re.MULTILINE)
    assert picture.shape == (128, 128, 3)


def test_drawing_and_outline_lie_on_the_robot(model: RobotModel, tmp_path: Path) -> None:
    photo(tmp_path)
    picture, _ = preview(tmp_path, "--robot", "widowx", "--camera", "exterior_2")
    camera, q = model.camera("exterior_2"), model.home[None, None]
    mask = silhouettes(model, q, [camera])[0, 0, 0].numpy()
    white, cross = (picture == 255).all(-1), np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
    edge = mask & ~cv2.erode(mask.astype(np.uint8), cross).astype(bool)
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1] = edge[1:-1, 1:-1]
    assert white[inner].mean() > 0.95 and mask[white].all()
    # Halfway along the upper arm lies its colour, over a dimmed photo; far from the robot only the photo is left.
    poses = model.robot.forward(model.home)
    at = model.skeleton.positions(model.robot, poses)
    bone = next(bone for bone in model.skeleton.bones if bone.start == "shoulder")
    middle = (at[model.skeleton.point_index(bone.start)] + at[model.skeleton.point_index(bone.end)]) / 2
    x, y = camera.project(middle[None])[0][0].round().int().tolist()
    assert picture[y, x].argmax() == np.argmax(bone.color) and int(np.ptp(picture[y, x])) > 100
    assert picture[120, 120].tolist() == [80, 80, 80]


def test_a_photo_of_another_size_is_seen_by_the_same_camera(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--robot", "google_robot", "--camera", "head"]
    photo(tmp_path, (640, 512))
    _, full = preview(tmp_path, *words)
    photo(tmp_path, (320, 256))
    _, half = preview(tmp_path, *words)
    for one, other in zip(full["points"], half["points"], strict=True):
        if one["x"] is not None:
            assert other["x"] + 0.5 == pytest.approx((one["x"] + 0.5) / 2, abs=1e-2, rel=1e-4)
        assert (one["place"], one["depth"]) == (other["place"], other["depth"])
    assert "resampled" in capsys.readouterr().out
    photo(tmp_path, (640, 480))
    assert main(["preview", "--image", str(tmp_path / "photo.png"), "--out", str(tmp_path / "o.png"), *words]) == 1
    assert "photo: given 640 x 480 pixels, expected the shape of camera 'head', 640 x 512" in capsys.readouterr().err


def test_what_is_not_in_the_picture_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(tmp_path, (160, 120))
    behind = {**FRONT, "eye": [0.2, 0.0, 0.2], "target": [1.0, 0.0, 0.2]}
    path = tmp_path / "cameras.json"
    path.write_text(json.dumps({"front": FRONT, "behind": behind}))
    words = ["--robot", "widowx", "--camera", str(path), "--view", "behind", "--joints", "elbow=2.0"]
    _, numbers = preview(tmp_path, *words)
    text = capsys.readouterr().out
    base = numbers["points"][0]
    assert (base["name"], base["x"], base["place"]) == ("base", None, "behind") and base["depth"] < 0
    assert re.search(r"^base +- +- +-0\.200  behind the camera$", text, re.MULTILINE)
    assert "links without a corner in the picture: base, shoulder_link" in text
    assert numbers["links"]["base"]["corners_in"] == 0 < numbers["links"]["base"]["corners"]
    assert "note: joint 'elbow' is at 2, beyond its limits -2.147..1.606" in text


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (FRONT, ["cameras"]),
        ({**FRONT, "name": "a"}, ["a"]),
        ([{**FRONT, "name": "a"}, {**FRONT, "name": "b"}], ["a", "b"]),
        ({"a": FRONT, "b": FRONT}, ["a", "b"]),
        ({"robot": "x", "cameras": [{**FRONT, "name": "a"}]}, ["a"]),
        ({"name": "x", "cameras": {"a": FRONT}}, ["a"]),
        (Camera.from_dict(FRONT, name="c").to_dict(), ["c"]),
        ({"format": "vap-sim cameras", "cameras": CALIBRATED}, ["left"]),
    ],
)
def test_files_of_cameras(tmp_path: Path, values: Any, names: list[str]) -> None:
    path = tmp_path / "cameras.json"
    path.write_text(json.dumps(values))
    found = read_cameras(path)
    assert list(found) == names and all(camera.size == (160, 120) for camera in found.values())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("3", "holds no cameras"),
        ("[]", "holds no cameras"),
        (json.dumps({"cameras": CALIBRATED[1:]}), "holds only cameras that calibration refused"),
        ('{"a": {"size": [1, 2]}}', "camera 'a': given no field"),
        (json.dumps([FRONT, FRONT]), "holds two cameras of the same name"),
        (
            json.dumps({**PLAIN, "T_parent_camera": np.diag([1.0, 1, -1, 1]).tolist()}),
            "camera 'cameras': .* a mirrored",
        ),
        (
            json.dumps({**PLAIN, "T_parent_camera": np.diag([2.0, 2, 2, 1]).tolist()}),
            "camera 'cameras': .* no rotation",
        ),
    ],
)
def test_bad_files_of_cameras_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "cameras.json"
    path.write_text(text)
    with pytest.raises(BadFile, match=rf"cameras\.json: .*{words}"):
        read_cameras(path)


def test_joints_by_order_and_by_name(model: RobotModel) -> None:
    assert read_joints(model, ()).tolist() == model.home.tolist()
    assert read_joints(model, ["1", "-0.5", "0", "0", "0", "0", "0.02"]) == pytest.approx([1, -0.5, 0, 0, 0, 0, 0.02])
    for words, error, match in (
        (["1", "2"], InvalidInput, "given 1 2, expected 7 numbers .waist, shoulder"),
        (["1", "2", "3", "4", "5", "6", "waist=7"], InvalidInput, "expected 7 numbers"),
        (["waits=1"], UnknownName, "'waits'. Did you mean 'waist'"),
        (["waist=far"], InvalidInput, "joint 'waist': given far, expected a number"),
        (["waist=nan"], InvalidInput, "expected a finite number"),
    ):
        with pytest.raises(error, match=match):
            read_joints(model, words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--robot", "widwox", "--camera", "wrist"], "unknown robot or folder 'widwox'. Did you mean 'widowx'"),
        (
            ["--robot", "widowx"],
            "cameras of widowx: given exterior_1, exterior_2, wrist, expected one, or a name in --camera",
        ),
        (["--robot", "widowx", "--camera", "wirst"], "unknown camera of widowx 'wirst'. Did you mean 'wrist'"),
        (["--robot", "widowx", "--camera", "none.json"], "none.json: cannot be read"),
        (["--robot", "widowx", "--camera", "wrist", "--view", "a"], "--view: given a, expected none but with a file"),
        (["--robot", "widowx", "--camera", "wrist", "--profile", "x"], "unknown draw profile 'x'"),
        (["--robot", "widowx", "--camera", "wrist", "--image", "no.png"], "no.png: no such picture"),
        (
            ["--robot", "widowx", "--camera", "wrist", "--image", "{}/text.png"],
            "text.png: is no picture that can be read",
        ),
        (
            ["--robot", "widowx", "--camera", "wrist", "--out", "{}/a.jpg"],
            "--out: given a.jpg, expected a name that ends in",
        ),
        (["--robot", "widowx", "--camera", "wrist", "--out", "{}/photo.png"], "expected another file than the photo"),
        (["--robot", "{}/broken", "--camera", "wrist"], "robot.urdf: link 'base' has the mesh"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: list[str], message: str, tmp_path: Path, model: RobotModel, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    shutil.copytree(model.folder, tmp_path / "broken", ignore=shutil.ignore_patterns("foot.obj"))
    before = photo(tmp_path).read_bytes()
    told = ["preview", "--image", str(tmp_path / "photo.png"), *(word.format(tmp_path) for word in words)]
    assert main([*told, *([] if "--out" in words else ["--out", str(tmp_path / "o.png")])]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "o.png").exists() and (tmp_path / "photo.png").read_bytes() == before


def test_a_robot_without_shapes_has_no_outline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(tmp_path, (160, 120))
    (tmp_path / "bar").mkdir()
    joint = '<joint name="j" type="revolute"><parent link="a"/><child link="b"/><origin xyz="0.2 0 0.1"/>'
    limit = '<limit lower="-1" upper="1" velocity="1"/></joint>'
    (tmp_path / "bar" / "robot.urdf").write_text(
        f'<robot name="bar"><link name="a"/><link name="b"/>{joint}{limit}</robot>'
    )
    values = {"flange_link": "b", "tool_link": "b", "cameras": {"front": FRONT}}
    (tmp_path / "bar" / "robot.json").write_text(json.dumps(values))
    bone = {"start": "a", "end": "b", "group": "arm", "color": [0, 255, 0]}
    skeleton = {"points": [{"name": "a", "link": "a"}, {"name": "b", "link": "b"}], "bones": [bone]}
    (tmp_path / "bar" / "skeleton.json").write_text(json.dumps(skeleton))
    picture, numbers = preview(tmp_path, "--robot", str(tmp_path / "bar"))
    assert "note: the URDF has no visual shapes, so there is no outline" in capsys.readouterr().out
    assert numbers["links"] == {} and (picture[..., 1] > picture[..., 0] + 50).any()
