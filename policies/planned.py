"""Planning policies by task, as "plan" names them: what is searched, how, and how often anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vap_sim.errors import Unsupported
from vap_sim.imagination import Imagination
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.plan_problems import PlannedTask
from vap_sim.policies.plan_tasks import ActionSequence, PushOntoGoal, reach_object
from vap_sim.policies.planners import CEM, ICEM, Planner
from vap_sim.policies.planning_policy import PlanningPolicy


@dataclass(frozen=True)
class Planned:
    """How a task is planned: what is searched (made for actions of that many numbers), the planner, and after how many
    actions a new plan is made (None: each is carried out to its end)."""

    task: Callable[[int], PlannedTask]
    planner: Planner
    replan_every: int | None = None


PLANNED: Mapping[str, Planned] = MappingProxyType(
    {
        # Raw actions, four that are held for two steps each.
        "reach": Planned(
            lambda size: ActionSequence(size, reach_object(), steps=4, hold=2, gripper=0.0, spread=0.15),
            ICEM(candidates=96, elites=10, iterations=7, color=1.0, decay=1.1),
            replan_every=2,
        ),
        # Three numbers a push; a plan that ends within 1.5 cm of the goal is good enough.
        "push": Planned(lambda _: PushOntoGoal(), CEM(candidates=16, elites=4, iterations=3, enough=0.015)),
    }
)
"""Chosen on seeds 900,000 and up."""


def load_plan(context: PolicyContext, world: str = "compact") -> PlanningPolicy:
    """The planning policy of the context's task, which imagines in `world`, a name or a path.

    Raises Unsupported for a task that nobody has made plannable, and what `Imagination` raises.
    """
    planned = PLANNED.get(context.task or "")
    if planned is None:
        raise Unsupported(f"no plan for task {context.task!r}; there is one for {', '.join(PLANNED)}")
    imagination = Imagination(context.robot, world, control=context.control, control_hz=context.control_hz)
    return PlanningPolicy(planned.task(context.size), planned.planner, imagination, planned.replan_every)
