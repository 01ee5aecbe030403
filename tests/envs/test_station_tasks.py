"""Tasks of Bridge and RT-1: when they are done, when they are not, and what is left to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vap_sim.envs.scene_parts import Cabinet, SceneObject
from vap_sim.envs.stations import BRIDGE, RT1
from vap_sim.envs.tasks import Situation
from vap_sim.envs.tasks_rt1 import CLOSED, LIFT, NEAR, OPENED, sample_cabinet
from vap_sim.errors import InvalidInput

CUBE = SceneObject("cube", "red", (0.03, 0.03, 0.03), 0.2, 0.0, 0.0)
BLOCK = SceneObject("cube", "blue", (0.034, 0.034, 0.034), 0.3, 0.1, 0.0)
PLATE = SceneObject("plate", "green", (0.12, 0.12, 0.014), 0.3, 0.1, 0.0)
OTHER = SceneObject("sphere", "pink", (0.03, 0.03, 0.03), 0.2, -0.15, 0.0)
CABINET = Cabinet(0.6, 0.0, np.pi, (0.24, 0.3, 0.17), (0.5, 0.5, 0.5), opening=0.0, travel=0.16)


def situation(*objects: SceneObject, places: list[tuple[float, float, float]], **changes: Any) -> Situation:
    count = len(objects)
    scene = replace(BRIDGE.sample_scene(np.random.default_rng(0)), objects=objects, cabinets=(CABINET,))
    values: dict[str, Any] = {
        "scene": scene,
        "tool": np.array([0.2, 0.0, 0.2]),
        "gripper": 0.0,
        "objects": np.array(places),
        "touched": np.zeros(count, bool),
        "held": np.zeros(count, bool),
        "speed": 0.0,
        "contacts": np.zeros((count, count), bool),
        "grounded": np.ones(count, bool),
        "drawers": np.zeros(1),
    }
    return Situation(**{**values, **changes})


def resting(base: SceneObject, **changes: Any) -> Situation:
    """The cube on the base, a third thing apart."""
    touch = np.zeros((3, 3), bool)
    touch[0, 1] = touch[1, 0] = True
    top = base.size[2] + CUBE.size[2] / 2
    places = [(base.x + 0.005, base.y, top), (base.x, base.y, base.size[2] / 2), (OTHER.x, OTHER.y, 0.015)]
    values = {"contacts": touch, "grounded": np.array([False, True, True]), "places": places}
    return situation(CUBE, base, OTHER, **{**values, **changes})


@pytest.mark.parametrize(("name", "base"), [("put_on_plate", PLATE), ("stack", BLOCK)])
def test_done_when_it_rests_on_its_base_alone(name: str, base: SceneObject) -> None:
    task, done = BRIDGE.get_task(name), resting(base)
    assert task.success(done)
    assert task.distance(done) == pytest.approx(0.005, abs=1e-6)
    leaning, held = done.contacts.copy(), np.array([True, False, False])
    leaning[0, 2] = leaning[2, 0] = True
    for change in (
        {"grounded": np.array([True, True, True])},
        {"held": held},
        {"gripper": 0.8},
        {"speed": 0.2},
        {"contacts": np.zeros((3, 3), bool)},
        {"contacts": leaning},
    ):
        assert not task.success(replace(done, **change)), change
    below = done.objects.copy()
    below[0, 2] = below[1, 2]
    assert not task.success(replace(done, objects=below))


def test_beside_the_middle_of_a_plate_is_as_good_but_not_beyond_its_rim() -> None:
    task, done = BRIDGE.get_task("put_on_plate"), resting(PLATE)
    for offset, expected in ((0.05, True), (0.065, False)):
        moved = done.objects.copy()
        moved[0, 0] = PLATE.x + offset
        assert task.success(replace(done, objects=moved)) is expected


def test_picked_when_held_and_lifted() -> None:
    task, stands = RT1.get_task("pick"), CUBE.size[2] / 2
    held, free = np.array([True]), np.array([False])
    for lift, holds, on_table, expected in (
        (LIFT + 0.002, held, free, True),
        (LIFT - 0.002, held, free, False),
        (LIFT + 0.002, free, free, False),
        (LIFT + 0.002, held, held, False),
    ):
        now = situation(CUBE, places=[(0.2, 0.0, stands + lift)], held=holds, grounded=on_table)
        assert task.success(now) is expected
    far = situation(CUBE, places=[(0.2, 0.0, stands)], tool=np.array([0.2, 0.1, stands]))
    assert task.distance(far) == pytest.approx(0.1 + LIFT)


def test_near_by_edges_and_nearest_of_all() -> None:
    task, reach = RT1.get_task("move_near"), (CUBE.width + BLOCK.width) / 2
    places = [(0.3 - reach - 0.05, 0.1, 0.015), (0.3, 0.1, 0.017), (0.2, -0.15, 0.015)]
    near = situation(CUBE, BLOCK, OTHER, places=places)
    assert task.success(near) and task.distance(near) == 0
    apart = near.objects.copy()
    apart[0, 0] -= 0.03
    assert not task.success(replace(near, objects=apart))
    assert task.distance(replace(near, objects=apart)) == pytest.approx(0.08 - NEAR)
    crowd = near.objects.copy()
    crowd[2, :2] = crowd[0, :2] - [0.035, 0.0]
    assert not task.success(replace(near, objects=crowd)), "nearer to something else"
    for change in ({"held": np.array([True, False, False])}, {"gripper": 1.0}, {"speed": 0.1}):
        assert not task.success(replace(near, **change))


@pytest.mark.parametrize(("name", "share", "sign"), [("open_drawer", OPENED, 1), ("close_drawer", CLOSED, -1)])
def test_drawers_are_open_and_shut_by_shares_of_their_travel(name: str, share: float, sign: int) -> None:
    task = RT1.get_task(name)
    there, before = ((share + sign * step) * CABINET.travel for step in (0.01, -0.01))
    now = situation(CUBE, places=[(0.2, 0.0, 0.015)])
    assert task.success(replace(now, drawers=np.array([there])))
    assert not task.success(replace(now, drawers=np.array([before])))
    assert task.distance(replace(now, drawers=np.array([before]))) == pytest.approx(0.01 * CABINET.travel)
    with pytest.raises(InvalidInput, match="situation of a task with a drawer: given 1 cabinets and 0 openings"):
        task.success(replace(now, drawers=np.zeros(0)))


def test_drawer_tasks_begin_undone_and_clear_of_other_things() -> None:
    for name in ("open_drawer", "close_drawer"):
        task = RT1.get_task(name)
        for seed in range(60):
            scene = task.scene(np.random.default_rng(seed))
            (cabinet,) = scene.cabinets
            start = replace(situation(CUBE, places=[(0.2, 0.0, 0.0)]), scene=scene, drawers=np.array([cabinet.opening]))
            assert not task.success(start)
            front = np.array([np.cos(cabinet.yaw), np.sin(cabinet.yaw)])
            for item in scene.objects:
                offset = np.array([item.x - cabinet.x, item.y - cabinet.y])
                along, across = float(front @ offset), abs(float(front[0] * offset[1] - front[1] * offset[0]))
                behind, ahead = along < -cabinet.size[0], along > cabinet.travel + cabinet.handle_reach
                assert behind or ahead or across > cabinet.size[1] / 2


def test_things_to_be_moved_near_begin_apart() -> None:
    task = RT1.get_task("move_near")
    for seed in range(60):
        scene = task.scene(np.random.default_rng(seed))
        places = [(item.x, item.y, item.size[2] / 2) for item in scene.objects]
        now = replace(situation(*scene.objects, places=places), scene=scene)
        assert task.distance(now) > 0.03 and not task.success(now)


def test_handles_come_along_with_their_drawers() -> None:
    cabinet = sample_cabinet(np.random.default_rng(1), opened=True)
    shut, out = np.array(cabinet.handle(0.0)), np.array(cabinet.handle(cabinet.travel))
    assert np.linalg.norm(out - shut) == pytest.approx(cabinet.travel)
    assert cabinet.handle() == cabinet.handle(cabinet.opening)
    assert out[0] < shut[0], "towards the robot"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"travel": 0.3}, r"travel of a drawer \[m\]"),
        ({"opening": 0.2}, r"opening of a drawer \[m\]: given 0.2, expected 0 to 0.16"),
        ({"size": (0.01, 0.3, 0.17)}, r"cabinet size \[m\]"),
        ({"x": float("nan")}, "cabinet pose"),
    ],
)
def test_cabinets_that_cannot_be_are_told(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        replace(CABINET, **change)
