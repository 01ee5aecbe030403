"""Tasks: which scenes they draw, and what counts as done, by situations built on purpose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vap_sim.envs.scenes import Scene, sample_scene
from vap_sim.envs.tasks import TASKS, Situation, get_task
from vap_sim.errors import InvalidInput, UnknownName

SCENE = sample_scene(np.random.default_rng(1), 2, goal=True)
assert SCENE.goal is not None
GOAL = np.array([*SCENE.goal[:2], SCENE.objects[0].size[2] / 2])
RADIUS = SCENE.goal[2]
TOP = np.array([0, 0, SCENE.objects[0].size[2] / 2])


def by(x: float, y: float, z: float) -> np.ndarray:
    return np.array([x, y, z])


def situation(scene: Scene = SCENE, **changes: object) -> Situation:
    """The first object rests on the goal, untouched, with the open gripper high above."""
    objects = np.array([GOAL, (SCENE.objects[1].x, SCENE.objects[1].y, 0.03)])
    done = Situation(
        scene=scene,
        tool=GOAL + by(0, 0, 0.2),
        gripper=0.0,
        objects=objects,
        touched=np.zeros(2, bool),
        held=np.zeros(2, bool),
        speed=0.0,
    )
    return replace(done, **changes)  # type: ignore[arg-type]


def objects_at(first: np.ndarray) -> np.ndarray:
    return np.stack([first, situation().objects[1]])


@pytest.mark.parametrize("name", TASKS)
def test_a_task_draws_a_scene_in_which_it_is_not_yet_done(name: str) -> None:
    task = get_task(name)
    assert task.name == name
    for seed in range(30):
        scene = task.scene(np.random.default_rng(seed))
        assert scene == task.scene(np.random.default_rng(seed))
        standing = np.array([(item.x, item.y, item.size[2] / 2) for item in scene.objects])
        count = len(standing)
        start = Situation(
            scene, np.array([0.4, 0.0, 0.45]), 0.0, standing, np.zeros(count, bool), np.zeros(count, bool), 0.0
        )
        assert not task.success(start) and task.distance(start) > 0.03


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("reach", "move the gripper above the {}"),
        ("push", "push the {} onto the disc"),
        ("pick_place", "put the {} on the disc"),
    ],
)
def test_instructions_name_the_first_object(name: str, words: str) -> None:
    assert get_task(name).instruction(SCENE) == words.format(f"{SCENE.objects[0].color} {SCENE.objects[0].shape}")


def test_reach_is_done_just_above_the_first_object() -> None:
    task = get_task("reach")
    above = GOAL + TOP
    assert task.success(situation(tool=above + by(0, 0, 0.03)))
    assert task.success(situation(tool=above + by(0.02, 0, 0.04))) and task.success(
        situation(tool=above + by(0, 0, 0.055))
    )
    assert not task.success(situation(tool=above + by(0, 0, 0.065)))
    assert not task.success(situation(tool=above + by(0.035, 0, 0.03)))
    assert not task.success(situation(tool=situation().objects[1] + TOP + by(0, 0, 0.03)))
    assert task.distance(situation(tool=above + by(0.3, 0.4, 0.03))) == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["push", "pick_place"])
def test_the_goal_is_a_disc(name: str) -> None:
    task = get_task(name)
    assert task.success(situation()) and task.distance(situation()) == pytest.approx(0)
    for angle in np.linspace(0, 6, 7):
        way = np.array([np.cos(angle), np.sin(angle), 0.0])
        inside, outside = (situation(objects=objects_at(GOAL + k * RADIUS * way)) for k in (0.95, 1.05))
        assert task.success(inside) and not task.success(outside)
        assert task.distance(outside) == pytest.approx(1.05 * RADIUS)
    other = situation(objects=situation().objects[::-1].copy())
    assert not task.success(other)  # another object on the goal does not count


@pytest.mark.parametrize("name", ["push", "pick_place"])
def test_what_moves_flies_or_fell_is_not_done(name: str) -> None:
    task = get_task(name)
    assert not task.success(situation(speed=0.1))
    for height in (0.06, 0.2, -0.3):
        assert not task.success(situation(objects=objects_at(GOAL + by(0, 0, height))))
    tipped = GOAL * [1, 1, 0] + by(0, 0, max(SCENE.objects[0].size) / 2)
    assert task.success(situation(objects=objects_at(tipped)))


def test_only_placing_asks_for_letting_go() -> None:
    held = situation(held=np.array([True, False]), touched=np.array([True, False]))
    assert get_task("push").success(held) and not get_task("pick_place").success(held)
    assert not get_task("pick_place").success(situation(gripper=0.8))
    assert get_task("pick_place").success(situation(held=np.array([False, True])))


@pytest.mark.parametrize("name", ["push", "pick_place"])
def test_a_scene_without_a_goal_is_refused(name: str) -> None:
    bare = replace(SCENE, goal=None)
    with pytest.raises(InvalidInput, match="scene of a task with a goal: given no goal disc"):
        get_task(name).distance(situation(bare))
    assert not get_task(name).success(situation(bare))


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"unknown task 'pick_plac'\. Did you mean 'pick_place'"):
        get_task("pick_plac")
