"""Skeletons: where key points lie, and which files are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.robots.library import RobotModel
from vap_sim.robots.skeleton import Bone, KeyPoint, SkeletonSpec

POINT = {"name": "p", "link": "tool"}
BONE = {"start": "p", "end": "p", "group": "arm", "color": [1, 2, 3]}


def test_points_lie_on_their_links(model: RobotModel) -> None:
    q = model.home + torch.linspace(-0.2, 0.2, 6).reshape(2, 3, 1)
    poses = model.robot.forward(q)
    at = model.skeleton.positions(model.robot, poses)
    assert at.shape == (2, 3, len(model.skeleton.points), 3)
    for i, point in enumerate(model.skeleton.points):
        pose = poses[..., model.robot.link_index(point.link), :, :]
        expected = (pose @ torch.tensor([*point.offset, 1.0]))[..., :3]
        if point.ground:
            expected = expected * torch.tensor([1.0, 1.0, 0.0])
        torch.testing.assert_close(at[..., i, :], expected)


def test_panda_shows_opening_and_height(model: RobotModel) -> None:
    spec, robot = model.skeleton, model.robot
    q = model.home.repeat(2, 1)
    q[1, -1] = 0.8
    at = spec.positions(robot, robot.forward(q))
    left, right, tool, ground = (at[:, spec.point_index(n)] for n in ("left_tip", "right_tip", "tool", "ground"))
    opening = (left - right).norm(dim=-1)
    assert 0.08 < opening[0] < 0.1
    assert opening[1] < 0.01
    assert torch.equal(tool[:, :2], ground[:, :2])
    assert ground[:, 2].abs().max() == 0
    # The pads slide past the tool point as they close; it stays between their ends.
    torch.testing.assert_close(((left + right) / 2)[:, :2], tool[:, :2], atol=1e-5, rtol=0)


def test_panda_colours_tell_parts_apart(model: RobotModel) -> None:
    groups: dict[str, set[tuple[int, int, int]]] = {}
    for bone in model.skeleton.bones:
        groups.setdefault(bone.group, set()).add(bone.color)
    arm = [b for b in model.skeleton.bones if b.group == "arm"]
    assert len(groups["arm"]) == len(arm)
    assert len(groups["gripper"]) == 2
    assert len(groups["plumb"]) == 1
    assert len(set.union(*groups.values())) == len(arm) + 3


def test_round_trip(model: RobotModel, tmp_path: Path) -> None:
    path = tmp_path / "skeleton.json"
    path.write_text(json.dumps(model.skeleton.to_dict()))
    assert SkeletonSpec.load(path) == model.skeleton


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "skeleton field 'points'"),
        ({"points": [POINT]}, "skeleton field 'bones'"),
        ({"points": [{"name": "p"}], "bones": []}, "key point: given .*'name': 'p'.* expected name, link"),
        ({"points": [{**POINT, "offset": [1, 2]}], "bones": []}, "expected name, link, offset of three numbers"),
        ({"points": [{**POINT, "offset": [1, 2, float("inf")]}], "bones": []}, "offset of key point 'p'"),
        ({"points": [POINT, POINT], "bones": []}, r"key points of a skeleton: given \['p', 'p'\]"),
        ({"points": [], "bones": []}, "expected at least one"),
        ({"points": [POINT], "bones": [{"start": "p"}]}, "bone: given .*'start': 'p'.* expected start, end"),
        ({"points": [POINT], "bones": [{**BONE, "end": "q"}]}, "unknown key point of a bone 'q'"),
        ({"points": [POINT], "bones": [{**BONE, "group": "am"}]}, "unknown bone group 'am'. Did you mean 'arm'"),
        ({"points": [POINT], "bones": [{**BONE, "color": [1, 2, 300]}]}, r"color of bone p-p: given \(1, 2, 300\)"),
        ({"points": [POINT], "bones": [{**BONE, "color": [1, 2, 0.5]}]}, "color of bone p-p"),
        (
            {"points": [POINT], "bones": [{**BONE, "radius": 0}]},
            "radius of bone p-p: given 0.0, expected metres above 0",
        ),
        ({"points": [POINT], "bones": [{**BONE, "radius": float("nan")}]}, "radius of bone p-p: given nan"),
        ({"points": [POINT], "bones": [{**BONE, "radius": "thick"}]}, "perhaps radius in metres"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, values: Any, words: str) -> None:
    path = tmp_path / "skeleton.json"
    path.write_text(json.dumps(values))
    with pytest.raises(BadFile, match=rf"skeleton\.json: .*{words}"):
        SkeletonSpec.load(path)


def test_unreadable_files_and_names(model: RobotModel, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"none\.json: cannot be read"):
        SkeletonSpec.load(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text('{"points": [')
    with pytest.raises(BadFile, match=r"cut\.json: is not JSON"):
        SkeletonSpec.load(tmp_path / "cut.json")
    with pytest.raises(UnknownName, match=r"unknown key point 'lef_tip'. Did you mean 'left_tip'"):
        model.skeleton.point_index("lef_tip")
    stray = SkeletonSpec((KeyPoint("a", "panda_link99"),), ())
    with pytest.raises(UnknownName, match="unknown link 'panda_link99'"):
        stray.positions(model.robot, model.robot.forward(model.home))
    with pytest.raises(InvalidInput, match="offset of key point 'a'"):
        SkeletonSpec((KeyPoint("a", "b", (0.0, 0.0)),), (Bone("a", "a", "arm", (0, 0, 0)),))  # type: ignore[arg-type]
