"""Courses of recorded behaviours, and the ways in which they go wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vap_sim.data.twin import load_episode
from vap_sim.envs.scenes import sample_scene
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.robots.library import load_robot

pytest.importorskip("pybullet")
from vap_sim.envs.twin_behaviours import BEHAVIOURS, FLAWS, Course, Stage, course_of, object_target
from vap_sim.envs.twin_recorder import RecorderSettings, record_episode, record_file
from vap_sim.envs.twin_renderer import Snapshot

MODEL = load_robot("panda_robotiq")
HOME = MODEL.home.double().numpy()
SCENE = sample_scene(np.random.default_rng(0), 2)
LYING = Snapshot({}, tuple(((item.x, item.y, item.size[2] / 2), (0.0, 0.0, 0.0, 1.0)) for item in SCENE.objects))


def course(behaviour: str, flaw: str | None = None, seed: int = 3) -> Course:
    rng = np.random.default_rng(seed)
    return course_of(behaviour, rng, Stage(MODEL, SCENE, lambda: LYING, 0.2), HOME, flaw)


def tool(joints: np.ndarray) -> np.ndarray:
    """Where the tool is (T, 3) [m] in poses (T, J)."""
    import torch

    poses = MODEL.robot.forward(torch.as_tensor(joints))
    return np.asarray(poses[:, MODEL.robot.link_index(MODEL.tool_link), :3, 3])


def test_shares_of_behaviours_add_up() -> None:
    assert sum(BEHAVIOURS.values()) == pytest.approx(1.0)


def test_a_plan_learns_where_an_object_lies_now() -> None:
    lying = Snapshot({}, (((0.4, -0.1, 0.03), (0.0, 0.0, np.sin(0.55), np.cos(0.55))),))
    target = object_target(SCENE, lying, 0)
    assert (target.x, target.y, target.size) == (0.4, -0.1, SCENE.objects[0].size)
    assert target.yaw == pytest.approx(1.1)
    assert target.square == (SCENE.objects[0].shape in ("cube", "cylinder", "sphere"))


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("flaw", [None, *FLAWS])
def test_every_course_is_one_of_the_robot_and_follows_from_its_seed(behaviour: str, flaw: str | None) -> None:
    targets = course(behaviour, flaw)
    assert targets.ndim == 2 and targets.shape[1] == len(HOME) and len(targets) and np.isfinite(targets).all()
    low, high = MODEL.robot.lower.double().numpy(), MODEL.robot.upper.double().numpy()
    assert (targets >= low - 1e-9).all() and (targets <= high + 1e-9).all()
    assert np.array_equal(targets, course(behaviour, flaw))


def test_fingers_that_should_close_stay_as_they_are() -> None:
    for seed in range(6):
        grippers = course("push", "fingers", seed)[:, -1]
        assert np.ptp(grippers) == 0
    assert {bool(course("push", "fingers", seed)[0, -1] == 0) for seed in range(6)} == {True, False}
    assert (course("push")[:, -1] > 0).all()


def test_a_hand_that_is_too_high_passes_above_the_meant_way() -> None:
    meant, high = tool(course("push"))[:, 2].min(), tool(course("push", "high"))[:, 2].min()
    assert 0.008 < high - meant < 0.085


def test_slack_steps_are_shares_of_the_meant_ones() -> None:
    meant, slack = course("pick_place"), course("pick_place", "slack")
    moved = np.abs(meant[:, :-1] - HOME[:-1]) > 0.05
    shares = ((slack - HOME) / np.where(meant == HOME, 1, meant - HOME))[:, :-1][moved]
    assert shares.std() < 1e-6 and 0.75 <= shares.mean() <= 1.1 and shares.mean() != 1
    assert np.array_equal(slack[:, -1], meant[:, -1])


def test_the_way_is_the_same_at_another_pace() -> None:
    meant, other = tool(course("push")), tool(course("push", "pace"))
    assert len(meant) != len(other)
    assert np.allclose(meant[-1], other[-1], atol=2e-3)


def test_an_early_gripper_closes_before_its_time() -> None:
    def closing(targets: Course) -> int:
        return int(np.argmax(targets[:, -1] > 0.1))

    meant, early = course("pick_place"), course("pick_place", "early")
    assert 1 <= closing(meant) - closing(early) <= 4 and np.array_equal(meant[:, :-1], early[:, :-1])


def test_a_frozen_arm_goes_no_farther() -> None:
    meant, frozen = course("sweep"), course("sweep", "frozen")
    moves = np.abs(np.diff(frozen, axis=0)).max(1) > 0
    stop = int(np.flatnonzero(moves).max()) + 2 if moves.any() else 1
    assert len(frozen) - stop >= 3 and np.array_equal(frozen[:stop], meant[:stop])


def test_drift_is_never_made_good() -> None:
    gap = np.abs(course("push", "drifting") - course("push"))[:, :-1].max(1)
    assert gap[0] < 0.06 and gap[-1] > 0.02


def test_no_flaws_are_recorded_where_none_are_asked_for(tmp_path: Path) -> None:
    plain = RecorderSettings(steps=5, pictures=False)
    told: Callable[[float], list[str]] = lambda share: record_episode(  # noqa: E731
        3, RecorderSettings(steps=5, pictures=False, flawed=share)
    ).meta["behaviours"]
    assert set(told(0.0)) <= set(BEHAVIOURS)
    assert all(word.split()[0] in FLAWS and word.split()[1] in BEHAVIOURS for word in told(1.0))
    path = record_file(3, tmp_path, plain)
    assert load_episode(path).meta["behaviours"] == told(0.0)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_of_flaws_is_checked(share: float) -> None:
    with pytest.raises(InvalidInput, match="share of flawed behaviours"):
        RecorderSettings(flawed=share)


def test_only_what_is_named_is_recorded() -> None:
    settings = RecorderSettings(
        steps=20, pictures=False, flawed=0.5, behaviours=("idle", "joints"), flaws=("slack", "frozen")
    )
    told = [word for seed in range(4) for word in record_episode(seed, settings).meta["behaviours"]]
    assert {word.split()[-1] for word in told} == {"idle", "joints"}
    assert {word.split()[0] for word in told if " " in word} == {"slack", "frozen"}


def test_unknown_behaviours_and_flaws_are_named() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'push'"):
        RecorderSettings(behaviours=("pushh",))
    with pytest.raises(UnknownName, match="Did you mean 'fingers'"):
        RecorderSettings(flaws=("finger",))
