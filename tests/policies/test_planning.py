"""Objectives by law, and the planning policy: a row alone, a complete carry, and plans that do what they promise."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from vap_sim.envs.start import load_start
from vap_sim.envs.vector_env import WorldVectorEnv
from vap_sim.envs.world_env import WorldEnv
from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.imagination import Imagination, Imagined
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.objectives import (
    GoalImage,
    JointsAt,
    Judged,
    ObjectAt,
    ObjectInPicture,
    Objective,
    Smooth,
    ToolAbove,
    ToolAt,
    Weighted,
    costs,
)
from vap_sim.policies.plan_problems import Detour, Moment, Problem, read_brief
from vap_sim.policies.plan_tasks import ActionSequence, PushOntoGoal, follow
from vap_sim.policies.planned import PLANNED
from vap_sim.policies.planners import CEM, ICEM, Blind, Planner
from vap_sim.policies.planning_policy import PlanningPolicy
from vap_sim.policies.policy import as_batch, brief, carry_rows
from vap_sim.policies.registry import load_policy
from vap_sim.policies.sight import Sight, points_at_height

STARTS = [load_start("push_00"), load_start("push_04")]
IMAGINATION = Imagination(world="kinematic")
RNG = np.random.default_rng(0)
POSES = np.tile(np.eye(4), (4, 5, 1, 1))
POSES[..., :3, 3] = RNG.uniform(0.1, 0.6, (4, 5, 3))
PICTURES = torch.from_numpy(RNG.integers(0, 256, (4, 1, 1, 16, 16, 3), dtype=np.uint8))
FUTURES = Imagined(RNG.normal(size=(4, 5, 8)), POSES, PICTURES)


def moment(row: int = 0, plans: int = 0) -> Moment:
    start = STARTS[row]
    info = {"scene": start.scene, "joints": start.joints.numpy()}
    control = IMAGINATION.controller.initial(start.joints.numpy()[None])
    return Moment(start.frames, control, read_brief(info, ("exterior_1",), IMAGINATION), plans)


@pytest.mark.parametrize(
    "objective",
    [
        ToolAt(POSES[2, -1, :3, 3], POSES[2, -1, :3, :3]),
        JointsAt(FUTURES.joints[2, -1]),
        JointsAt(FUTURES.joints[2, -1], np.arange(8.0)),
        GoalImage(PICTURES[2, 0, 0]),
        GoalImage(PICTURES[2, 0, 0], torch.eye(16, dtype=torch.bool)),
        GoalImage(PICTURES[2, 0, 0], features=lambda frames: frames.float().mean((1, 2))),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_a_goal_costs_nothing_where_it_is_reached_and_something_elsewhere(objective: Objective) -> None:
    found = costs(objective, FUTURES)
    assert found[2] == pytest.approx(0, abs=1e-7)
    assert (np.delete(found, 2) > 1e-3).all()


def test_objectives_mean_what_they_say() -> None:
    turned = np.eye(3)[[1, 0, 2]] * [1, 1, -1]  # half a turn about x = y
    assert costs(ToolAt(POSES[0, -1, :3, 3], turned, 0.1), FUTURES)[0] == pytest.approx(0.1 * np.pi)
    line = replace(FUTURES, joints=np.arange(5.0)[None, :, None] * np.ones((4, 1, 8)))
    assert costs(Smooth(), line) == pytest.approx(np.zeros(4))
    assert costs(ToolAbove(0.0), FUTURES) == pytest.approx(np.zeros(4))
    lowest = POSES[:, :, 2, 3].min(1)
    assert costs(ToolAbove(1.0), FUTURES) == pytest.approx(1 - lowest)
    black = GoalImage(torch.zeros(16, 16, 3, dtype=torch.uint8))
    assert costs(black, FUTURES) == pytest.approx(PICTURES.double().mean((1, 2, 3, 4, 5)).numpy() / 255)
    early, late = ToolAt(POSES[0, 0, :3, 3], along=1.0), ToolAt(POSES[0, 0, :3, 3])
    apart = np.linalg.norm(POSES[0, :, :3, 3] - POSES[0, 0, :3, 3], axis=-1)
    assert costs(early, FUTURES)[0] == pytest.approx(apart.mean())
    assert costs(late, FUTURES)[0] == pytest.approx(apart[-1])


def test_weighted_sums_are_linear_and_look_at_the_most_that_a_term_does() -> None:
    tool, image = ToolAt(np.zeros(3)), GoalImage(PICTURES[0, 0, 0])
    both = Weighted((2.0, tool), (0.5, image))
    assert costs(both, FUTURES) == pytest.approx(2 * costs(tool, FUTURES) + 0.5 * costs(image, FUTURES))
    assert (both.pictures, Weighted((1.0, tool)).pictures) == ("last", "none")
    nested = Weighted((3.0, both))
    assert costs(nested, FUTURES) == pytest.approx(3 * costs(both, FUTURES))


def test_a_judge_who_cannot_tell_is_no_number_in_disguise() -> None:
    verdicts = np.array([1.0, 0.25, np.nan, 0.0])
    with pytest.raises(InvalidInput, match="cost of Judged for future 2: given nan, expected a finite number"):
        costs(Judged(lambda frames: verdicts), FUTURES)
    assert costs(Judged(lambda frames: verdicts, unknown=0.9), FUTURES).tolist() == [0, 0.75, 0.9, 1]
    with pytest.raises(InvalidInput, match=r"costs of Judged: given shape \(2,\), expected \(4,\)"):
        costs(Judged(lambda frames: verdicts[:2]), FUTURES)


def test_an_object_is_read_off_the_picture_at_its_place_on_the_table() -> None:
    now, scene = moment(), STARTS[0].scene
    assert scene is not None
    sight, item = Sight(now.brief.color, now.brief.colors), scene["objects"][0]
    futures = Imagined(np.zeros((1, 1, 8)), POSES[:1, :1], now.frames[None, :, None])
    away = costs(ObjectAt(sight, now.brief.cameras[0], (item["x"], item["y"])), futures)
    assert away[0] < 0.02
    further = costs(ObjectAt(sight, now.brief.cameras[0], (item["x"] + 0.1, item["y"])), futures)
    assert further[0] == pytest.approx(0.1, abs=0.02)
    middle, seen = sight.find(now.frames)
    assert seen.all()
    assert costs(ObjectInPicture(sight, tuple(middle[0])), futures)[0] == 0
    empty = replace(futures, frames=torch.zeros_like(now.frames[None, :, None]))
    assert costs(ObjectAt(sight, now.brief.cameras[0], (0.4, 0.0), lost=2.0), empty)[0] == 2
    assert costs(ObjectInPicture(sight, (0, 0), lost=3.0), empty)[0] == 3


def test_points_on_the_table_are_the_inverse_of_projection() -> None:
    camera = STARTS[0].cameras[0]
    points = torch.tensor([[0.4, 0.1, 0.05], [0.6, -0.2, 0.05]])
    pixels = camera.project(points)[0].double().numpy()
    assert points_at_height(pixels, camera, 0.05) == pytest.approx(points[:, :2].numpy(), abs=1e-4)
    with pytest.raises(InvalidInput, match="lines of sight that come down to it"):
        points_at_height(np.array([[64.0, -900.0]]), camera, 0.05)


def test_a_brief_has_the_cameras_of_the_start() -> None:
    camera, true = moment().brief.cameras[0], STARTS[0].cameras[0]
    assert torch.allclose(camera.T_parent_camera, true.T_parent_camera)
    assert torch.allclose(camera.intrinsics, true.intrinsics)
    with pytest.raises(InvalidInput, match="info for a planning policy: given no scene"):
        read_brief({"joints": 0}, ("exterior_1",), IMAGINATION)


def test_a_push_goes_where_its_numbers_say() -> None:
    now = moment()
    problem = PushOntoGoal().problem(now, IMAGINATION)
    assert isinstance(problem, Problem) and now.brief.goal is not None
    futures = problem.futures(np.array([[[0.0, 0.0, 0.10]], [[0.0, 0.02, 0.10]], [[0.5, 0.0, -0.02]]]))
    every = np.zeros(3, int)
    control = type(now.control)(now.control.target[every], now.control.joints[every])
    tool = IMAGINATION.trace(control, futures.actions).tool[..., :3, 3]
    low = [path[:length][path[:length, 2] < 0.05] for path, length in zip(tool, futures.lengths, strict=True)]
    way = low[0][-1, :2] - low[0][0, :2]
    assert np.linalg.norm(way) == pytest.approx(0.20, abs=0.03)
    along = way / np.linalg.norm(way)
    here = low[0][-1, :2] - 0.10 * along
    goal = np.array(now.brief.goal[:2]) - here
    assert along @ goal / np.linalg.norm(goal) > 0.98, "a push with angle 0 goes straight to the goal"
    across = np.array([-along[1], along[0]])
    assert (low[1][-1, :2] - low[0][-1, :2]) @ across == pytest.approx(0.02, abs=0.005)
    other = low[2][-1, :2] - low[2][0, :2]
    assert np.arctan2(other @ across, other @ along) == pytest.approx(0.5, abs=0.1)


def test_what_is_not_seen_is_looked_for_from_elsewhere() -> None:
    blind = replace(moment(), frames=torch.zeros_like(STARTS[0].frames))
    first, second = (PushOntoGoal().problem(replace(blind, plans=plans), IMAGINATION) for plans in (0, 1))
    assert isinstance(first, Detour) and isinstance(second, Detour)
    ends = [IMAGINATION.trace(blind.control, detour.actions[None]).tool[0, -1, 1, 3] for detour in (first, second)]
    assert ends[0] < -0.2 and ends[1] > 0.2


# The policy ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    task: Any
    planner: Planner
    replan_every: int | None = None


CASES = {
    "push": Case(PushOntoGoal(), CEM(candidates=3, elites=1, iterations=1)),
    "blind push": Case(PushOntoGoal(), Blind()),
    "actions": Case(ActionSequence(8, Smooth(), steps=4), ICEM(candidates=8, elites=4, iterations=2), 2),
}


def policy(name: str) -> PlanningPolicy:
    case = CASES[name]
    return PlanningPolicy(case.task, case.planner, IMAGINATION, case.replan_every)


def seen(rows: list[int]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    env = WorldVectorEnv(len(rows), world="kinematic")
    return env.reset(seed=0, options={"start": [STARTS[row] for row in rows]})


@pytest.mark.parametrize("name", CASES)
def test_a_row_alone_plans_as_in_a_batch_and_from_a_saved_memory(name: str) -> None:
    observation, info = seen([0, 1])
    both = policy(name).briefed(info)
    memory, carry, together = None, both.reset(2, seed=3), []
    for step in range(5):
        if step == 3:
            file = io.BytesIO()
            np.savez(file, **carry)
            file.seek(0)
            with np.load(file) as saved:
                memory = {key: saved[key] for key in saved.files}
        action, carry = both.act(observation, carry)
        assert action.dtype == np.float32
        together.append(action)
    assert memory is not None
    for step in (3, 4):
        action, memory = both.act(observation, memory)
        assert np.array_equal(action, together[step])
    observation, info = seen([1])
    single = policy(name).briefed(info)
    carry = single.reset(1, seed=4)
    for step in range(5):
        before = {key: value.copy() for key, value in carry.items()}
        action, after = single.act(observation, carry)
        assert all(np.array_equal(before[key], carry[key]) for key in before), "the memory was written to"
        assert np.array_equal(action[0], together[step][1])
        carry = carry_rows(after, [0])


def test_a_plan_is_carried_out_as_it_was_imagined() -> None:
    start = STARTS[0]
    env = WorldEnv(world="kinematic", start=start)
    observation, info = env.reset(seed=0)
    goal = np.array([0.45, 0.1, 0.3])
    task = ActionSequence(8, ToolAt(goal), steps=6, gripper=0.0)
    told = brief(PlanningPolicy(task, CEM(candidates=64, elites=8, iterations=5), IMAGINATION), info)
    carry = told.reset(1, seed=0)
    for _ in range(6):
        action, carry = told.act(as_batch(observation), carry)
        observation, _, _, _, info = env.step(action[0])
    robot = IMAGINATION.model.robot
    tool = robot.forward(torch.from_numpy(info["joints"]).double())[robot.link_index(IMAGINATION.model.tool_link)]
    ended = float(np.linalg.norm(tool[:3, 3].numpy() - goal))
    assert ended == pytest.approx(float(carry["cost"][0]), abs=1e-5)
    assert ended < 0.08
    assert np.array_equal(info["joints"], carry["joints"][0].astype(np.float32))


def test_follow_holds_still_after_each_plans_end() -> None:
    now = moment()
    plans = [PushOntoGoal()._waypoints(np.array([0.5, 0.0]), 0.0, 0.0, 0.0, length) for length in (0.0, 0.2)]
    futures = follow(IMAGINATION, now.control, plans, 48)
    assert futures.lengths[0] < futures.lengths[1] == futures.actions.shape[1]
    assert np.abs(futures.actions[0, futures.lengths[0] + 1 :, :7]).max() < 0.05


def test_settings_that_do_not_fit_are_named() -> None:
    with pytest.raises(InvalidInput, match="plans of this task are carried out as a whole"):
        PlanningPolicy(PushOntoGoal(), CEM(), IMAGINATION, replan_every=4)
    with pytest.raises(InvalidInput, match="replan_every: given 3"):
        PlanningPolicy(ActionSequence(8, Smooth(), hold=2), CEM(), IMAGINATION, replan_every=3)
    with pytest.raises(InvalidInput, match="views: given"):
        PlanningPolicy(PushOntoGoal(), CEM(), IMAGINATION, views=("a", "b"))
    with pytest.raises(InvalidInput, match=r"call briefed\(info\)"):
        policy("push").reset(1, 0)
    with pytest.raises(InvalidInput, match="brief of a push: given no goal"):
        now = moment()
        PushOntoGoal().problem(replace(now, brief=replace(now.brief, goal=None)), IMAGINATION)
    with pytest.raises(InvalidInput, match="futures: given no pictures"):
        costs(GoalImage(PICTURES[0, 0, 0]), replace(FUTURES, frames=None))
    with pytest.raises(InvalidInput, match="futures to be smooth: given 2 actions"):
        costs(Smooth(), replace(FUTURES, joints=FUTURES.joints[:, :2]))


def test_plan_is_a_policy_by_name() -> None:
    for task, name in (("push", "PushOntoGoal"), ("reach", "ActionSequence")):
        policy: Any = load_policy("plan", PolicyContext(task=task), world="kinematic")
        assert isinstance(policy, PlanningPolicy) and type(policy.task).__name__ == name
        assert policy.imagination.world.spec.name == "kinematic" and policy.planner is PLANNED[task].planner
    with pytest.raises(Unsupported, match="no plan for task 'pick_place'; there is one for reach, push"):
        load_policy("plan", PolicyContext(task="pick_place"))
