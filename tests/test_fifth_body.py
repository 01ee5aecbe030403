"""A body that does not ship, as docs/new_body.md says: its folder, its preview, and the whole way."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from tests.benchmark_parts import benchmark_modules
from vap_sim.cli import main
from vap_sim.data.twin import TwinEpisode, load_episode
from vap_sim.errors import BadFile, UnknownName
from vap_sim.metrics.detector import Detector
from vap_sim.prompts.silhouette import silhouettes
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def parts() -> Iterator[SimpleNamespace]:
    """The benchmark's files as modules."""
    with benchmark_modules(("fifth_body_folder", "fifth_body"), needs=("pybullet",)) as modules:
        yield SimpleNamespace(whole=modules["fifth_body"], folder=modules["fifth_body_folder"])


@pytest.fixture(scope="module")
def shelf(parts: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of robots that the page makes."""
    made: Path = parts.folder.make_folder(tmp_path_factory.mktemp("reader"), parts.folder.read_page())
    return made


@pytest.fixture(scope="module")
def recording(parts: SimpleNamespace, shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of the robot at the table."""
    from vap_sim.envs.twin_recorder import RecorderSettings, record_file

    with parts.folder.known_by_name(shelf):
        settings = RecorderSettings(steps=2, robot="xarm6", behaviours=("sweep",))
        return record_file(140_000, tmp_path_factory.mktemp("recordings"), settings)


def test_the_page_makes_a_robot_and_its_preview(
    parts: SimpleNamespace,
    shelf: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "my_robots").symlink_to(shelf)
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.png", np.full((128, 128, 3), 100, np.uint8))
    text = parts.folder.PAGE.read_text(encoding="utf-8")
    (command,) = re.findall(r"^    vap-sim (preview .*)$", text, re.MULTILINE)
    assert main(command.split()) == 0
    numbers = json.loads((tmp_path / "out" / "preview.json").read_text())
    assert [point["place"] for point in numbers["points"]] == ["in"] * 12
    sides = [f"{side}_{part}" for side in ("left", "right") for part in ("finger", "inner_knuckle", "outer_knuckle")]
    arm = ["link_base", *(f"link{i}" for i in range(1, 7)), "xarm_gripper_base_link"]
    assert set(numbers["links"]) == {*arm, *sides}
    (tmp_path / "station.json").write_text(parts.folder.read_page().station)
    cv2.imwrite("photo.png", np.full((720, 1280, 3), 100, np.uint8))
    capsys.readouterr()
    told = ["preview", "--robot", "my_robots/xarm6", "--image", "photo.png", "--camera", "station.json"]
    assert main(told) == 0
    assert "12 of 12 key points lie in the picture" in capsys.readouterr().out


def test_the_tool_lies_between_the_fingertips(shelf: Path) -> None:
    """Closed, both tips are at the tool; open, they are apart by what a hand of that size grasps; home points down."""
    model = load_robot(shelf / "xarm6")
    gripper = model.gripper
    assert gripper is not None
    joints = model.home.repeat(2, 1)
    joints[:, model.robot.joint_index(gripper.joint)] = torch.tensor([gripper.open_value, gripper.closed_value])
    poses = model.robot.forward(joints)
    at = model.skeleton.positions(model.robot, poses)
    left, right, tool = (at[:, model.skeleton.point_index(name)] for name in ("left_tip", "right_tip", "tool"))
    apart = (left - right).norm(dim=1)
    assert float(apart[1]) < 0.03 and 0.08 < float(apart[0]) < 0.14
    assert float(((left + right) / 2 - tool)[1].norm()) < 0.01
    home = poses[0, model.robot.link_index("tool")]
    assert torch.allclose(home[:3, :3], torch.diag(torch.tensor([1.0, -1.0, -1.0])), atol=0.02)
    assert torch.allclose(home[:3, 3], torch.tensor([0.45, 0.0, 0.25]), atol=0.02)


def test_robots_of_a_shelf_are_known_only_meanwhile(parts: SimpleNamespace, shelf: Path) -> None:
    before = os.environ.get("VAP_SIM_ROBOTS")
    with parts.folder.known_by_name(shelf) as model:
        assert model is load_robot("xarm6") and model.robot.num_joints == 7
    assert os.environ.get("VAP_SIM_ROBOTS") == before
    with pytest.raises(UnknownName, match="'xarm6'"):
        load_robot("xarm6")


def test_a_page_that_does_not_do_what_it_says_is_named(parts: SimpleNamespace, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```json\n{}\n```\n")
    with pytest.raises(BadFile, match=r"page\.md: has blocks of code: 0 of python, 1 of json; expected 1 of python"):
        parts.folder.read_page(page)
    broken = replace(parts.folder.read_page(), program="raise OSError('no meshes')")
    with pytest.raises(BadFile, match="its program fails: OSError: no meshes"):
        parts.folder.make_folder(tmp_path, broken)


def seen_as(model: RobotModel, episode: TwinEpisode, shift: int = 0) -> TwinEpisode:
    """The episode as if the robot were its own outline, moved to the right by some pixels."""
    camera = Camera.from_dict(episode.meta["cameras"][0])
    masks = silhouettes(model, torch.from_numpy(episode.measured)[None], [camera])[0]
    return replace(episode, labels=np.roll(masks.numpy().astype(np.uint8), shift, axis=-1))


def test_the_drawing_is_judged_by_where_the_robot_is(parts: SimpleNamespace, shelf: Path, recording: Path) -> None:
    episode, model = load_episode(recording), load_robot(shelf / "xarm6")
    over = parts.folder.drawn_over
    exact, beside = (over(model, seen_as(model, episode, shift), every=1) for shift in (0, 9))
    assert exact.overlap.values.tolist() == [1.0] * 3 == exact.inside.values.tolist()
    assert 0.1 < beside.overlap.mean() < 0.9 and beside.points.mean() < exact.points.mean() == 1.0
    # What an object hides is not judged; where no robot is seen, nothing is.
    hidden = seen_as(model, episode)
    hidden.labels[..., 64:, :] = 2
    assert over(model, hidden, every=1).overlap.values.tolist() == [1.0] * 3
    hidden.labels[...] = 2
    assert over(model, hidden, every=1).overlap.undefined == 3
    real = over(model, episode, every=1)
    assert real.overlap.mean() > 0.8 and real.inside.mean() > 0.95 and real.points.mean() > 0.9


def test_dreams_are_judged_beside_what_the_eye_sees(parts: SimpleNamespace, shelf: Path, recording: Path) -> None:
    with parts.folder.known_by_name(shelf):
        worlds = {"before": "still", "after": "kinematic"}
        tallies, lines = parts.whole.compare(worlds, [recording], Detector.load())
    assert list(tallies) == ["before", "after", "detector", "copy"]
    name = "robot-mask ST-IoU"
    found = {kind: tally[name].summary() for kind, tally in tallies.items()}
    assert all(summary is not None and 0 < summary.value < 1 for summary in found.values())
    assert found["before"].value == found["copy"].value != found["after"].value
    rows = {row.name: row for row in parts.whole.rows_of(tallies)}
    assert list(rows) == list(parts.whole.MEASURES)
    assert rows[name].summary == found["after"] and rows[name].bar == 0.75
    assert {kind: summary.value for kind, summary in rows[name].beside.items()} == {
        kind: found[kind].value for kind in ("before", "detector", "copy")
    }
    assert rows["PSNR at step 1"].beside["detector"] is None and rows["PSNR at step 50"].summary is None
    assert [caption for caption, _ in lines] == [
        f"seed 140000, steps 1: {kind}" for kind in ("truth", "before", "after")
    ]
    assert torch.equal(lines[0][1][0], torch.from_numpy(load_episode(recording).frames[0, 1]))
