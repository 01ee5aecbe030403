"""A policy that imagines before it acts: it searches plans in a dream of what it sees and carries out the best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput
from vap_sim.imagination import Imagination
from vap_sim.policies.objectives import costs
from vap_sim.policies.plan_problems import Brief, Detour, Moment, PlannedTask, Problem, read_brief
from vap_sim.policies.planners import Floats, Found, Planner
from vap_sim.policies.policy import Actions, Carry, Observations, info_rows
from vap_sim.robots.control import ControlState


@dataclass(frozen=True, eq=False)
class PlanningPolicy:
    """Plans by imagination, in any environment that shows pictures: the dream or its twin.

    When a plan is due, the picture observed is encoded anew, so that what the last dream got wrong is forgotten; the
    planner draws candidates, the imagination dreams all of them, the task's objective judges what it sees, and the best
    is carried out.

    task: what is planned for; planner: how is searched; imagination: with robot, control and rates of the environment;
    replan_every: actions after which a new plan is made, which then starts from the rest of the old one; None carries
    out each plan to its end; views: the cameras observed, in order; briefs, joints: one a row, which `briefed` fills in
    from the info of a reset. Raises InvalidInput.
    """

    task: PlannedTask
    planner: Planner
    imagination: Imagination
    replan_every: int | None = None
    views: tuple[str, ...] = ("exterior_1",)
    briefs: tuple[Brief, ...] = ()
    joints: tuple[NDArray[np.float32], ...] = ()

    def __post_init__(self) -> None:
        every, step, model_step = self.replan_every, self.task.actions_per_step, self.imagination.intervals
        if every is not None and (step is None or every < 1 or every % step or every % model_step):
            expected = (
                f"None, or a positive multiple of {step} and {model_step}, the actions of a plan's and model's step"
            )
            expected = "None: plans of this task are carried out as a whole" if step is None else expected
            raise InvalidInput("replan_every", every, expected)
        if step is not None and self.task.longest % model_step:
            raise InvalidInput("actions of a plan", self.task.longest, f"a multiple of {model_step}, of a model step")
        if len(self.views) != self.imagination.world.spec.views:
            raise InvalidInput("views", self.views, f"{self.imagination.world.spec.views}, as the world shows")

    def briefed(self, info: Mapping[str, Any]) -> PlanningPolicy:
        """The same policy, told task, cameras and joints by the info of a reset. Raises InvalidInput for what lacks."""
        rows = info_rows(info)
        for row in rows:
            if "joints" not in row:
                raise InvalidInput("info for a planning policy", sorted(row), "one with joints, from a reset")
        briefs = tuple(read_brief(row, self.views, self.imagination) for row in rows)
        return replace(self, briefs=briefs, joints=tuple(row["joints"] for row in rows))

    def reset(self, num_envs: int, seed: int) -> Carry:
        """No plan yet in any row. Raises InvalidInput unless the policy was briefed for as many."""
        if len(self.briefs) != num_envs or len(self.joints) != num_envs:
            expected = f"{num_envs}: call briefed(info) with the info of the environment's reset"
            raise InvalidInput("briefs of a planning policy", len(self.briefs), expected)
        controller, shape = self.imagination.controller, self.task.shape
        state = controller.initial(np.stack(self.joints))
        return {
            "key": np.arange(num_envs, dtype=np.int64) + seed,
            "plans": np.zeros(num_envs, np.int64),
            "plan": np.zeros((num_envs, self.task.longest, controller.spec.size), np.float32),
            "length": np.zeros(num_envs, np.int64),
            "step": np.zeros(num_envs, np.int64),
            "cost": np.full(num_envs, np.inf),
            "mean": np.zeros((num_envs, *shape)),
            "kept": np.zeros((num_envs, self.planner.keeps, *shape)),
            "target": state.target,
            "joints": state.joints,
        }

    def act(self, obs: Observations, carry: Carry) -> tuple[Actions, Carry]:
        """The plan's next actions (b, A), after planning in the rows where a plan is due.

        A row's plan does not depend on other rows: its candidates are a batch of their own. "cost" in the memory is
        what the plan promises, infinite for a detour.
        """
        memory = {name: np.array(values) for name, values in carry.items()}
        limit = memory["length"] if self.replan_every is None else np.minimum(memory["length"], self.replan_every)
        for row in np.flatnonzero(memory["step"] >= limit).tolist():
            self._plan(obs, memory, row)
        rows = np.arange(len(memory["step"]))
        actions = memory["plan"][rows, memory["step"]]
        state, _ = self.imagination.controller.step(ControlState(memory["target"], memory["joints"]), actions, 0)
        memory.update(step=memory["step"] + 1, target=state.target, joints=state.joints)
        return actions, memory

    def _plan(self, obs: Observations, memory: dict[str, NDArray[Any]], row: int) -> None:
        """Make the plan of one row, in place in a memory that is not yet anybody else's."""
        control = ControlState(memory["target"][row : row + 1], memory["joints"][row : row + 1])
        plans = int(memory["plans"][row])
        moment = Moment(self._frames(obs, row), control, self.briefs[row], plans)
        key = int(np.random.SeedSequence([int(memory["key"][row]) % 2**64, plans]).generate_state(1)[0])
        problem = self.task.problem(moment, self.imagination)
        if isinstance(problem, Detour):
            plan, cost = problem.actions, np.inf
            memory["mean"][row] = memory["kept"][row] = 0.0
        else:
            found = self._searched(problem, moment, memory, row, key)
            futures = problem.futures(found.best)
            plan, cost = futures.actions[0, : futures.lengths[0]], float(found.cost[0])
            memory["mean"][row], memory["kept"][row] = found.mean[0], found.kept[0]
        memory["plan"][row], memory["plan"][row, : len(plan)] = 0.0, plan
        memory["length"][row], memory["cost"][row] = len(plan), cost
        memory["step"][row], memory["plans"][row] = 0, plans + 1

    def _searched(
        self, problem: Problem, moment: Moment, memory: Mapping[str, NDArray[Any]], row: int, key: int
    ) -> Found:
        imagination, prior = self.imagination, problem.prior
        if (
            self.replan_every is not None
            and self.task.actions_per_step is not None
            and np.isfinite(memory["cost"][row])
        ):
            steps = self.replan_every // self.task.actions_per_step
            prior = prior.warmed(memory["mean"][row : row + 1], memory["kept"][row : row + 1], steps)
        looks = problem.objective.pictures != "none"
        now = moment.frames[None]
        dream = imagination.begin(now, moment.control, moment.brief.cameras, [key % 2**31]) if looks else None

        def score(candidates: Floats) -> Floats:
            actions = problem.futures(candidates[0]).actions
            if dream is None:
                every = np.zeros(len(actions), np.intp)
                control = ControlState(moment.control.target[every], moment.control.joints[every])
                imagined = imagination.trace(control, actions)
            else:
                imagined = imagination.imagine(dream.repeat(len(actions)), actions, problem.objective.pictures)
            return costs(problem.objective, imagined)[None]

        return self.planner.search(score, prior, [key])

    def _frames(self, obs: Observations, row: int) -> torch.Tensor:
        keys = ["image", *(f"image_{name}" for name in self.views[1:])]
        for name in keys:
            if name not in obs:
                raise InvalidInput("observation of a planning policy", sorted(obs), f"one with {name!r}")
        return torch.from_numpy(np.stack([np.asarray(obs[name])[row] for name in keys]))
