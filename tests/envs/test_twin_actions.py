"""Actions played in the twin: the beginning tells nothing of the action, and each does what it is called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.robots.library import load_robot
from vap_sim.training.reference_footage import Footage, load_footage
from vap_sim.training.reference_pairs import films_in, pairs_of

pytest.importorskip("pybullet")
from vap_sim.envs.twin_actions import (
    ActionSettings,
    action_bodies,
    action_names,
    record_action,
    record_action_files,
)

SEED = 3
SMALL = ActionSettings(size=(16, 16))


@pytest.fixture(scope="module")
def films() -> dict[str, Footage]:
    return {action: record_action(action, SEED, SMALL)[0] for action in action_names()}


@pytest.fixture(scope="module")
def others() -> dict[str, Footage]:
    """The same actions of another body."""
    return {action: record_action(action, SEED, replace(SMALL, robot="widowx"))[0] for action in action_names()}


def tool_path(film: Footage, robot: str = "panda_robotiq") -> np.ndarray:
    """Where the tool was in each frame (T, 3) [m]."""
    model = load_robot(robot)
    assert film.joints is not None
    return model.robot.forward(film.joints.double())[:, model.robot.link_index(model.tool_link), :3, 3].numpy()


def test_every_action_of_a_seed_begins_with_the_same_picture_and_pose(films: dict[str, Footage]) -> None:
    first = films["lift"]
    for film in films.values():
        assert torch.equal(film.frames[0], first.frames[0])
        assert torch.equal(film.joints[0], first.joints[0])  # type: ignore[index]
        assert not torch.equal(film.frames[-1], first.frames[-1]) or film is first
        assert film.caption == first.caption and film.source == first.source


def test_the_hand_moves_as_the_action_says(films: dict[str, Footage]) -> None:
    for action, axis, sign in (
        ("push_left", 1, 1), ("push_right", 1, -1), ("push_away", 0, 1), ("push_near", 0, -1),
    ):  # fmt: skip
        path = tool_path(films[action])
        low = path[path[:, 2] < path[:, 2].min() + 0.02]  # while it is down, it pushes
        assert sign * (low[-1] - low[0])[axis] > 0.08, action
    lift = tool_path(films["lift"])
    assert lift[-1, 2] > lift[0, 2] + 0.02 > lift[:, 2].min() + 0.1
    assert (np.diff(np.sign(np.diff(tool_path(films["wave"])[4:, 1]))) != 0).sum() >= 2


def test_the_gripper_moves_as_the_action_says(films: dict[str, Footage]) -> None:
    finger = {action: film.joints[:, 7].numpy() for action, film in films.items() if film.joints is not None}
    start = finger["open"][0]
    assert finger["open"][-1] < start - 0.3 and finger["close"][-1] > start + 0.3
    for still in ("open", "close"):
        assert np.ptp(tool_path(films[still]), axis=0).max() < 0.01


def test_another_body_does_the_same(others: dict[str, Footage]) -> None:
    paths = {action: tool_path(film, "widowx") for action, film in others.items()}
    for action, axis, sign in (
        ("push_left", 1, 1), ("push_right", 1, -1), ("push_away", 0, 1), ("push_near", 0, -1),
    ):  # fmt: skip
        low = paths[action][paths[action][:, 2] < paths[action][:, 2].min() + 0.02]
        assert sign * (low[-1] - low[0])[axis] > 0.03, action
    lift = paths["lift"]
    assert lift[-1, 2] > lift[:, 2].min() + 0.08
    assert (np.diff(np.sign(np.diff(paths["wave"][2:, 1]))) != 0).sum() >= 1
    finger = {action: film.joints[:, 6].numpy() for action, film in others.items() if film.joints is not None}
    start = finger["open"][0]
    assert finger["open"][-1] > start + 0.005 and finger["close"][-1] < start - 0.005, "it slides open"
    assert all(torch.equal(film.frames[0], others["lift"].frames[0]) for film in others.values())


def test_films_of_two_bodies_are_pairs_of_one_action(tmp_path: Path) -> None:
    """A demonstration may show another body: its source differs, though the seed is the same, and so does its file."""
    short = ActionSettings(size=(16, 16), frames=3)
    for robot in action_bodies():
        (path,) = record_action_files("lift", SEED, tmp_path, replace(short, robot=robot))
        assert load_footage(path).label == "lift"
    pairs = pairs_of(films_in(tmp_path), references=1)
    assert sorted(pair.target.path.name for pair in pairs) == [
        f"lift_{SEED:08d}_0.footage.safetensors", f"lift_widowx_{SEED:08d}_0.footage.safetensors",
    ]  # fmt: skip
    assert all(pair.target.path != pair.reference.path for pair in pairs)
    with pytest.raises(UnknownName, match="body of an action 'widow'"):
        ActionSettings(robot="widow")


def test_lifting_lifts_the_object_and_pushing_moves_it() -> None:
    """Seen where only the object is: its colour leaves the place where it lay."""
    for action in ("lift", "push_left"):
        film = record_action(action, SEED, ActionSettings(size=(48, 48), frames=17))[0]
        first, last = film.frames[0].float(), film.frames[-1].float()
        colourful = first.amax(-1) - first.amin(-1) > 60
        assert colourful.any()
        assert ((first - last).abs().amax(-1) > 40)[colourful].float().mean() > 0.7


def test_the_same_seed_films_the_same_and_cameras_differ_in_the_view_alone() -> None:
    two = ActionSettings(size=(16, 16), frames=3, cameras=2)
    once, again = record_action("wave", SEED, two), record_action("wave", SEED, two)
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(once, again, strict=True))
    assert torch.equal(once[0].joints, once[1].joints) and once[0].source == once[1].source  # type: ignore[arg-type]
    assert not torch.equal(once[0].frames, once[1].frames)
    alone = record_action("wave", SEED, ActionSettings(size=(16, 16), frames=3))
    assert torch.equal(alone[0].frames, once[0].frames)


def test_captions_name_the_action_only_when_asked() -> None:
    short = ActionSettings(size=(16, 16), frames=2)
    told = record_action("push_left", SEED, ActionSettings(size=(16, 16), frames=2, told=True))[0].caption
    assert "push left" in told and "push" not in record_action("push_left", SEED, short)[0].caption


def test_files_hold_what_was_played_and_are_kept(tmp_path: Path) -> None:
    short = ActionSettings(size=(16, 16), frames=3, cameras=2)
    paths = record_action_files("open", SEED, tmp_path, short)
    assert [path.name for path in paths] == [f"open_{SEED:08d}_{k}.footage.safetensors" for k in (0, 1)]
    played = record_action("open", SEED, short)[1]
    film = load_footage(paths[1])
    assert torch.equal(film.frames, played.frames) and torch.equal(film.joints, played.joints)  # type: ignore[arg-type]
    assert film.camera is not None and played.camera is not None
    assert film.camera.to_dict() == played.camera.to_dict() and film.label == "open"
    before = [path.stat().st_mtime_ns for path in paths]
    assert record_action_files("open", SEED, tmp_path, short) == paths
    assert [path.stat().st_mtime_ns for path in paths] == before


def test_seeds_kept_for_evaluation_need_to_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="seed: given 1000000"):
        record_action("lift", 1_000_000, SMALL)
    with pytest.raises(InvalidInput, match="seed: given 3"):
        record_action_files("lift", 3, tmp_path, SMALL, held_out=True)


def test_names_and_settings_are_checked() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'push_left'"):
        record_action("push-left", SEED, SMALL)
    for wrong in ({"frames": 1}, {"stride": 0}, {"size": (8, 8)}, {"cameras": 0}, {"control_dt": 0.0}):
        with pytest.raises(InvalidInput, match="settings of an action"):
            ActionSettings(**wrong)  # type: ignore[arg-type]
