"""Experts of every arm: how a hand goes about a table, where plans lead, and that arms can follow them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.policies.drawer_plans import Drawer, close_drawer, open_drawer
from vap_sim.policies.experts import PLANNERS, arm_of, expert_targets, expert_tasks, target_of
from vap_sim.policies.handling import PANDA, Handling, handling_of
from vap_sim.policies.motion_plans import Target, Waypoint, beside, lift, pick_place, push, suited, sweep, wander
from vap_sim.policies.scripted import joint_targets, tool_path, tool_pose
from vap_sim.robots.library import load_robot

ARMS = {name: load_robot(name) for name in ("panda_robotiq", "widowx", "google_robot")}
CORNERS = {"widowx": ((0.18, -0.16), (0.33, 0.16)), "google_robot": ((0.42, -0.26), (0.62, 0.14))}
"""Where things stand at the stations of these arms (x, y) [m]."""


def tools(name: str, joints: np.ndarray) -> np.ndarray:
    model = ARMS[name]
    poses = model.robot.forward(torch.as_tensor(joints, dtype=torch.float64))
    return poses[..., model.robot.link_index(model.tool_link), :, :].numpy()


def scene(*places: tuple[float, float], cabinet: float | None = None) -> dict[str, Any]:
    items = [{"x": x, "y": y, "yaw": 0.4, "size": [0.03, 0.03, 0.04], "shape": "cube"} for x, y in places]
    drawer = {"x": 0.61, "y": -0.06, "yaw": 3.1, "size": [0.24, 0.3, 0.17], "opening": cabinet, "travel": 0.16}
    handle = {"handle_reach": 0.05, "handle_share": 0.62}
    return {"objects": items, "goal": None, "cabinets": [] if cabinet is None else [drawer | handle]}


# Handling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("period", [np.pi / 2, np.pi])
def test_the_nearest_yaw_grasps_as_well_and_turns_least(name: str, period: float) -> None:
    handling = handling_of(ARMS[name])
    for yaw in np.linspace(-7, 7, 29):
        for x, y in ((0.3, -0.2), (0.3, 0.0), (0.25, 0.2)):
            near = handling.nearest(float(yaw), x, y, period)
            turns = (near - yaw) / period
            assert turns == pytest.approx(round(turns), abs=1e-9)
            assert abs(near - handling.ease(x, y)) <= period / 2 + 1e-9


def test_a_hand_leans_no_more_than_it_may_and_not_down_low() -> None:
    google = handling_of(ARMS["google_robot"])
    leans = [google.lean(height) for height in np.linspace(0, 1, 101)]
    assert leans[0] == google.lean(google.lean_from) == 0 and max(leans) == google.lean_most
    assert all(b >= a for a, b in zip(leans, leans[1:], strict=False))
    assert {PANDA.lean(height) for height in (0.0, 0.3, 2.0)} == {0.0}


def test_the_pandas_plans_suit_it_as_they_are() -> None:
    rng = np.random.default_rng(0)
    plan = [*sweep(rng, 4), *wander(rng, 4), *pick_place(Target(0.4, 0.1, 0.3, (0.05,) * 3), (0.5, 0.0))]
    assert suited(plan, PANDA) == plan


def test_a_leaning_hand_points_forward() -> None:
    point = Waypoint(0.4, 0.1, 0.2, yaw=0.7)
    for lean in (0.3, 1.0, np.pi / 2):
        pose = tool_pose(replace(point, lean=lean))
        assert np.allclose(pose[:3, 2], (np.sin(lean), 0, -np.cos(lean)))
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1) and np.allclose(pose[:3, 3], (0.4, 0.1, 0.2))


def test_an_unknown_arm_is_handled_by_what_its_home_tells() -> None:
    stranger = replace(ARMS["widowx"], robot=replace(ARMS["widowx"].robot, name="stranger"))
    handling, pose = handling_of(stranger), tools("widowx", ARMS["widowx"].home.numpy())
    assert handling.sweep_low[0] < pose[0, 3] < handling.sweep_high[0]
    assert handling.wander_low[2] < handling.wander_high[2]
    known = handling_of(ARMS["widowx"]).lowest
    assert handling.lowest == pytest.approx(known, abs=1e-3), "its fingers reach beyond the tool as far as they do"
    assert np.cos(handling.yaw) == pytest.approx(pose[0, 0], abs=0.01)


# Arms follow their plans -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CORNERS)
def test_arms_reach_where_their_plans_lead(name: str) -> None:
    model, handling, (low, high) = ARMS[name], handling_of(ARMS[name]), CORNERS[name]
    home, rng, side = model.home.double().numpy(), np.random.default_rng(3), 0.03
    spots = [(low[0], low[1]), (low[0], high[1]), (high[0], low[1]), (high[0], high[1])]
    for spot, goal in zip(spots, [*spots[1:], spots[0]], strict=True):
        target = Target(*spot, float(rng.uniform(-np.pi, np.pi)), (side, side, side + 0.01), bool(rng.integers(2)))
        plan = pick_place(target, goal, handling, onto=0.03)
        targets = joint_targets(model, home, plan, 0.2)
        poses, grips = tool_path(tools(name, home), 0.0, plan, 0.2)
        found = tools(name, targets)
        assert np.linalg.norm(found[:, :3, 3] - poses[:, :3, 3], axis=1).max() < 2e-3
        assert np.abs(found[:, :3, :3] - poses[:, :3, :3]).max() < 0.01
        moves = np.abs(np.diff(np.concatenate([home[None], targets])[:, arm_of(model)], axis=0))
        assert moves.max() < 0.8, "the arm does not change its mind between two steps"
        finger = model.robot.joint_index(model.gripper.joint if model.gripper else "")
        assert np.allclose(targets[:, finger], model.gripper.to_joint(torch.tensor(grips)).numpy())  # type: ignore[union-attr]
        down = [point for point in plan if point.z < handling.lean_from or not handling.lean_rate]
        assert down and all(point.lean == 0 and point.z >= handling.lowest for point in down)


@pytest.mark.parametrize("name", CORNERS)
@pytest.mark.parametrize("make", [sweep, wander])
def test_aimless_motion_stays_within_reach(name: str, make: Any) -> None:
    handling = handling_of(ARMS[name])
    plan = make(np.random.default_rng(1), 12, handling)
    poses = np.stack([tool_pose(point) for point in plan])
    targets = joint_targets(ARMS[name], ARMS[name].home.double().numpy(), plan, 0.2)
    gaps = np.linalg.norm(tools(name, targets)[:, None, :3, 3] - poses[None, :, :3, 3], axis=-1).min(0)
    assert np.median(gaps) < 2e-3 and (gaps < 0.03).mean() > 0.8
    assert min(point.z for point in plan) >= min(handling.lowest, handling.wander_low[2])


# What plans do -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CORNERS)
@pytest.mark.parametrize("task", ["put_on_plate", "stack"])
def test_things_are_let_go_of_just_above_what_they_belong_on(name: str, task: str) -> None:
    handling = handling_of(ARMS[name])
    record = scene((0.25, -0.1), (0.3, 0.1))
    item, base = target_of(record), target_of(record, 1)
    plan = PLANNERS[task](record, handling)
    grasp = next(k for k, point in enumerate(plan) if point.gripper == 1)
    release = next(k for k, point in enumerate(plan) if k > grasp and point.gripper < 1)
    assert (plan[release].x, plan[release].y) == (base.x, base.y)
    dropped = plan[release].z - plan[grasp].z - base.size[2]
    assert 0 < dropped < 0.015, "a hair above it"
    assert (plan[grasp].x, plan[grasp].y) == (item.x, item.y)
    assert plan[grasp].z < item.size[2] + 0.01


def test_a_thing_on_a_thing_is_grasped_where_it_is() -> None:
    low = Target(0.4, 0.0, 0.0, (0.05, 0.05, 0.06))
    for make in (lambda t: push(t, (0.5, 0.1)), lift):
        flat, high = make(low), make(replace(low, base=0.07))
        deepest = min(point.z for point in high) - min(point.z for point in flat)
        assert deepest == pytest.approx(0.07)
    put = pick_place(replace(low, base=0.07), (0.5, 0.1))
    assert min(point.z for point in put if point.x == 0.5) == pytest.approx(0.036), "put down on the table"


def test_what_is_too_high_to_be_reached_from_above_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"height to put an object down at \[m\]: given 0.3, expected at most 0.1"):
        pick_place(Target(0.4, 0.0, 0.0, (0.05, 0.05, 0.06)), (0.5, 0.1), onto=0.3)


def test_a_lifted_thing_stays_up() -> None:
    for model in ARMS.values():
        handling = handling_of(model)
        plan = lift(Target(0.4, 0.0, 0.0, (0.03, 0.03, 0.05)), handling, hold=4)
        assert plan[-1].z == handling.clear and plan[-1].gripper == 1 and plan[-1].hold == 4


def test_beside_is_the_gap_away_and_clear_of_the_rest() -> None:
    low, high, rng = (0.35, -0.2), (0.65, 0.2), np.random.default_rng(0)
    for _ in range(100):
        spots = rng.uniform((0.35, -0.2), (0.65, 0.2), (3, 2)).tolist()
        item, other, third = (Target(x, y, 0.0, (0.05, 0.04, 0.05)) for x, y in spots)
        place = beside(item, other, 0.02, low, high)
        assert np.hypot(place[0] - other.x, place[1] - other.y) == pytest.approx(0.07)
        assert all(a <= v <= b for a, v, b in zip(low, place, high, strict=True))
        clear = beside(item, other, 0.02, low, high, [third])
        if np.hypot(third.x - other.x, third.y - other.y) > 0.02:
            assert np.hypot(clear[0] - third.x, clear[1] - third.y) > 0.07
    near = beside(Target(0.5, 0.2, 0, (0.05,) * 3), Target(0.5, 0.0, 0, (0.05,) * 3), 0.02, low, high)
    assert near == pytest.approx((0.5, 0.07)), "on the side where the thing comes from"


@pytest.mark.parametrize("opening", [0.0, 0.05])
def test_a_drawer_is_pulled_as_far_as_it_goes(opening: float) -> None:
    drawer, google = Drawer.of(scene(cabinet=opening)["cabinets"][0]), handling_of(ARMS["google_robot"])
    along = np.array([np.cos(3.1), np.sin(3.1)])
    assert np.allclose((drawer.x, drawer.y), np.array([0.61, -0.06]) + (0.05 + opening) * along)
    assert drawer.z == pytest.approx(0.62 * 0.17)
    plan = open_drawer(drawer, google)
    held = [np.array([p.x, p.y, p.z]) for p in plan if p.gripper == 1]
    assert np.allclose(held[0], (drawer.x, drawer.y, drawer.z)) and held[-1][2] == drawer.z
    assert np.allclose((held[-1] - held[0])[:2] @ along, 0.16 - opening, atol=0.01)
    assert plan[-1].gripper < 1


def test_a_drawer_is_pushed_shut() -> None:
    drawer, google = Drawer.of(scene(cabinet=0.14)["cabinets"][0]), handling_of(ARMS["google_robot"])
    plan, along = close_drawer(drawer, google), np.array([np.cos(3.1), np.sin(3.1)])
    deepest = min((np.array([p.x, p.y]) - (drawer.x, drawer.y)) @ along for p in plan)
    assert -0.15 < deepest < -0.125 and all(p.gripper == 1 for p in plan)


@pytest.mark.parametrize("task", ["open_drawer", "close_drawer"])
def test_the_google_robot_reaches_the_handle_all_the_way(task: str) -> None:
    model, record = ARMS["google_robot"], scene(cabinet=0.0 if task == "open_drawer" else 0.15)
    home = model.home.double().numpy()
    targets = expert_targets(model, task, record, home, 1 / 3)
    plan = PLANNERS[task](record, handling_of(model))
    gaps = [np.linalg.norm(tools("google_robot", targets)[:, :3, 3] - (p.x, p.y, p.z), axis=1).min() for p in plan]
    assert max(gaps) < 3e-3


# Misuse ------------------------------------------------------------------------------------------------------------


def test_experts_name_what_a_scene_lacks() -> None:
    model, home = ARMS["widowx"], ARMS["widowx"].home.double().numpy()
    for task, record, words in (
        ("stack", scene((0.3, 0.0)), "given 1 objects, expected at least 2"),
        ("pick", scene(), "given no objects, expected at least one object"),
        ("open_drawer", scene((0.3, 0.0)), "given no cabinet, expected one with a drawer"),
        ("push", scene((0.3, 0.0)), "given no goal, expected a goal, as task 'push' needs"),
    ):
        with pytest.raises(InvalidInput, match=words):
            expert_targets(model, task, record, home, 0.2)


def test_tasks_without_an_expert_are_named() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'stack'"):
        expert_targets(ARMS["widowx"], "stak", scene(), ARMS["widowx"].home.double().numpy(), 0.2)
    assert {"stack", "pick", "open_drawer"} <= set(expert_tasks("google_robot"))
    assert "tilt" in expert_tasks("human_hand") and "stack" not in expert_tasks("human_hand")


def test_noise_follows_from_its_key() -> None:
    model, record = ARMS["widowx"], scene((0.25, -0.1), (0.3, 0.1))
    home = model.home.double().numpy()
    one, again, other = (expert_targets(model, "stack", record, home, 0.2, key, 0.01) for key in (1, 1, 2))
    assert np.array_equal(one, again) and (len(one) != len(other) or not np.array_equal(one, other))


def test_handling_of_an_arm_is_a_plain_record() -> None:
    assert isinstance(handling_of(ARMS["widowx"]), Handling) and handling_of(ARMS["panda_robotiq"]) == PANDA
