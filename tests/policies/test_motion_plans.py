"""Tool paths as data: safe heights, the right order of grasping and letting go, errors that follow from a seed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from vap_sim.errors import InvalidInput
from vap_sim.policies.motion_plans import (
    CLEAR_HEIGHT,
    Target,
    Waypoint,
    noisy,
    pick_place,
    push,
    reach,
    sweep,
    wander,
)

LOWEST = 0.02
BRICK = Target(0.45, -0.1, 0.7, (0.10, 0.05, 0.06))
GOAL = (0.55, 0.15)


def place(point: Waypoint) -> np.ndarray:
    return np.array([point.x, point.y, point.z])


def travels_only_in_the_clear(plan: list[Waypoint]) -> bool:
    """Sideways movements happen at the clear height, so that nothing on the table is hit."""
    return all(min(a.z, b.z) >= CLEAR_HEIGHT for a, b in pairwise(plan) if np.hypot(a.x - b.x, a.y - b.y) > 1e-6)


@pytest.mark.parametrize("square", [True, False])
def test_grasp_yaw_turns_least(square: bool) -> None:
    quarter = np.pi / 2 if square else np.pi
    for yaw in np.linspace(-7, 7, 57):
        turned = Target(0.5, 0.0, float(yaw), (0.05, 0.05, 0.05), square).grasp_yaw
        assert -quarter / 2 - 1e-9 <= turned <= quarter / 2 + 1e-9
        rest = (turned - yaw) / quarter
        assert rest == pytest.approx(round(rest), abs=1e-9)


def test_pick_place_grasps_carries_and_lets_go() -> None:
    plan = pick_place(BRICK, GOAL)
    assert travels_only_in_the_clear(plan)
    closing = next(k for k, point in enumerate(plan) if point.gripper > 0)
    opening = next(k for k, point in enumerate(plan) if k > closing and point.gripper == 0)
    assert np.allclose(place(plan[closing]), (BRICK.x, BRICK.y, BRICK.size[2] / 2))
    assert np.allclose(place(plan[closing]), place(plan[closing - 1]))  # the fingers close where the tool rests
    assert plan[closing].hold > 0 and plan[opening].hold > 0
    assert np.allclose(place(plan[opening])[:2], GOAL) and plan[opening].z - plan[closing].z < 0.01
    assert max(point.z for point in plan[closing:opening]) >= CLEAR_HEIGHT
    assert all(point.gripper == 1 for point in plan[closing:opening])
    assert plan[-1].z == CLEAR_HEIGHT and plan[-1].gripper == 0
    assert {point.yaw for point in plan} == {BRICK.grasp_yaw}


def test_flat_objects_are_grasped_above_the_table() -> None:
    assert min(point.z for point in pick_place(Target(0.5, 0, 0, (0.05, 0.05, 0.02)), GOAL)) > LOWEST


@pytest.mark.parametrize("goal", [GOAL, (0.34, -0.2), (0.34, 0.1), (0.6, -0.1)])
def test_push_runs_from_behind_to_the_goal(goal: tuple[float, float]) -> None:
    plan = push(BRICK, goal)
    start, end = np.array([BRICK.x, BRICK.y]), np.array(goal)
    along = (end - start) / np.linalg.norm(end - start)
    low = [point for point in plan if point.z < CLEAR_HEIGHT]
    assert len(low) == 2 and low[0].z == low[1].z and LOWEST < low[0].z < BRICK.size[2]
    before, after = (((place(point)[:2] - start) @ along) for point in low)
    assert before < -BRICK.size[0] / 2 - 0.04  # fingers come down beside the object, not on it
    # What is pushed ends with its middle at the goal: the tool stops half an object before it.
    assert 0 < np.linalg.norm(end - start) - after - BRICK.size[0] / 2 < 0.02
    for point in plan:
        aside = place(point)[:2] - start
        assert abs(aside[0] * along[1] - aside[1] * along[0]) < 1e-9  # on one line
        assert point.gripper == 1
        assert np.sin(point.yaw - np.arctan2(along[1], along[0])) == pytest.approx(0, abs=1e-9)
        assert abs(point.yaw) <= np.pi / 2 + 1e-9
    assert travels_only_in_the_clear([plan[0], plan[1]]) and travels_only_in_the_clear(plan[3:])


def test_a_push_to_where_the_object_is_has_no_direction() -> None:
    with pytest.raises(InvalidInput, match=r"push goal.*expected a point away from the object"):
        push(BRICK, (BRICK.x, BRICK.y))


def test_reach_ends_above_the_object() -> None:
    plan = reach(BRICK)
    assert np.allclose(place(plan[-1]), (BRICK.x, BRICK.y, BRICK.size[2] + 0.03)) and plan[-1].hold > 0
    assert reach(BRICK, 0.15)[-1].z == 0.15 and travels_only_in_the_clear(plan)


def test_a_clumsy_plan_misses_by_about_its_spread() -> None:
    plan = pick_place(BRICK, GOAL)
    misses = []
    for seed in range(200):
        missed = noisy(plan, np.random.default_rng(seed), 0.02)
        for point, off in zip(plan, missed, strict=True):
            assert (off.gripper, off.hold, off.speed, off.tilt) == (point.gripper, point.hold, point.speed, point.tilt)
            assert off.z > LOWEST
        misses.append([place(off) - place(point) for point, off in zip(plan, missed, strict=True)])
    sideways = np.array(misses)[..., :2]
    assert sideways.mean(axis=1).std() == pytest.approx(0.02, rel=0.2)  # of the whole plan
    assert (sideways - sideways.mean(axis=1, keepdims=True)).std() == pytest.approx(0.02 / 3, rel=0.2)
    assert np.abs(sideways.mean(axis=(0, 1))).max() < 0.005


def test_no_spread_is_no_change() -> None:
    plan = push(BRICK, GOAL)
    assert noisy(plan, np.random.default_rng(0), 0.0) == plan


@pytest.mark.parametrize("make", [sweep, wander])
def test_random_plans_follow_from_the_generator(make: object) -> None:
    assert callable(make)
    one, again, other = (make(np.random.default_rng(seed), 5) for seed in (3, 3, 4))
    assert one == again != other
    for seed in range(50):
        for point in make(np.random.default_rng(seed), 6):
            assert 0.28 <= point.x <= 0.68 and -0.38 <= point.y <= 0.38 and LOWEST < point.z < 0.55
            assert 0 <= point.gripper <= 1 and point.speed >= 0.1 and point.hold >= 0


def test_sweeps_are_low_and_begin_above() -> None:
    plan = sweep(np.random.default_rng(0), 40)
    assert len(plan) == 41 and plan[0].z == CLEAR_HEIGHT
    assert np.median([point.z for point in plan]) < 0.06
    assert len(wander(np.random.default_rng(0), 7)) == 7
