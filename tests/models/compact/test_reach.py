"""What the robot does not reach does not begin to move, whatever a picture looks like; what it may reach, the network
tells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.compact.test_carrying_worlds import PLACE, _read_exactly, network, told  # noqa: F401 - a fixture
from tests.models.compact.test_views import SIZE, shown
from tests.models.compact.two_views import BLUE, RED, cameras
from vap_sim.errors import InvalidInput
from vap_sim.models.compact import reach
from vap_sim.models.compact.model import CompactWorld
from vap_sim.models.compact.network import CompactNetwork
from vap_sim.models.compact.views import CompactViews
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState

World = CompactWorld | CompactViews
THING = (PLACE[0], PLACE[1], reach.MIDDLE)


def restless() -> CompactNetwork:
    """Says of every object that it moves, 8 px to the right."""
    made = network(carry=False)
    with torch.no_grad():
        made.motion.head.bias[0] = 1.0
    return made


def world(views: int, table: float = 0.0) -> World:
    if views == 1:
        return CompactWorld(restless(), dtype=torch.float32, table_height=table)
    return CompactViews(restless(), dtype=torch.float32, views=views, table_height=table)


def at(*places: tuple[float, float, float], views: int = 1) -> VisualPrompt:
    """Prompts of a tool that is at these places [m], one a frame, and of nothing that is drawn."""
    tool = torch.eye(4).repeat(1, len(places), 1, 1)
    tool[0, :, :3, 3] = torch.tensor(places)
    return told(views, tool)


def beginning(made: World, prompt: VisualPrompt, *others: tuple[float, float, float]) -> WorldState:
    things = [(THING, RED), *((place, BLUE) for place in others)]
    frames = torch.stack([shown(camera, things) for camera in cameras(made.spec.views, SIZE)])[None]
    return made.encode(frames, prompt.between(0, 1), [0])


def went(before: WorldState, after: WorldState) -> Tensor:
    """Which objects (b, S) are elsewhere."""
    changed: Tensor = (before.context["centre"] != after.context["centre"]).any(-1)
    return changed if changed.ndim == 2 else changed.any(1)


def moves(made: World, prompt: VisualPrompt) -> bool:
    """Whether the one thing on the table moves in the step from the first frame of a prompt to its second."""
    state = beginning(made, prompt)
    return bool(went(state, made.step(state, prompt.between(1, 2))[0]).any())


def along_the_sight(share: float) -> tuple[float, float, float]:
    """The point so far from the thing to the first camera."""
    eye = cameras(1, SIZE)[0].T_parent_camera[:3, 3].numpy()
    return tuple(map(float, np.array(THING) + share * (eye - np.array(THING))))  # type: ignore[return-value]


@pytest.mark.parametrize("views", [1, 2])
def test_what_is_far_from_the_tool_rests_and_what_is_near_goes_as_the_network_says(views: int) -> None:
    made, away = world(views), (THING[0] - 0.5, THING[1], 0.3)
    near = (THING[0], THING[1] + 0.5 * reach.REACH, THING[2])
    assert not moves(made, at(away, away, views=views))
    assert moves(made, at(away, near, views=views))
    assert moves(made, at(near, away, views=views))  # it went away from there


@pytest.mark.parametrize("views", [1, 2])
def test_a_tool_that_passes_between_camera_and_thing_is_far(views: int) -> None:
    aside, before = (THING[0], THING[1] - 0.5, 0.5), along_the_sight(0.4)
    assert np.linalg.norm(np.array(before) - THING) > 2 * reach.REACH
    assert not moves(world(views), at(aside, before, views=views))


def test_a_tool_that_comes_by_in_one_step_is_near() -> None:
    left, right = ((THING[0], THING[1] + side * 0.4, THING[2]) for side in (-1, 1))
    assert moves(world(1), at(left, right))


def test_what_the_tool_is_seen_at_in_the_beginning_may_be_held() -> None:
    up = along_the_sight(0.5)
    assert moves(world(1), at(up, (up[0], up[1] - 0.4, up[2])))


@pytest.mark.parametrize("views", [1, 2])
def test_what_has_moved_is_free(views: int) -> None:
    made, away = world(views), (THING[0] - 0.5, THING[1], 0.3)
    prompt = at(away, (THING[0], THING[1], 0.05), away, away, away, views=views)
    state = beginning(made, prompt)
    assert state.context["lies"].any()
    for frame in range(1, 5):
        after = made.step(state, prompt.between(frame, frame + 1))[0]
        assert bool(went(state, after).any()) and not after.context["lies"].any()
        state = after


@pytest.mark.parametrize("views", [1, 2])
def test_a_thing_that_moves_sets_free_what_is_near_it(views: int) -> None:
    """It is pushed from one side; what lies on the other side is out of the tool's reach, and it comes near."""
    made, away = world(views), (THING[0], THING[1] - 0.6, 0.3)
    for apart, free in ((0.15, True), (0.45, False)):
        other, touch = (THING[0], THING[1] + apart, THING[2]), (THING[0], THING[1] - 0.12, THING[2])
        prompt = at(away, touch, away, views=views)
        state = beginning(made, prompt, other)
        first = made.step(state, prompt.between(1, 2))[0]
        second = made.step(first, prompt.between(2, 3))[0]
        assert int(went(state, first).sum()) == 1 and int(went(state, second).sum()) == 1 + free


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("wrong", [-0.05, 0.05])
def test_a_table_that_is_higher_or_lower_than_told_costs_no_contact(wrong: float, views: int) -> None:
    away, touch = (THING[0] - 0.5, THING[1], 0.3), (THING[0], THING[1] + 0.04, THING[2])
    assert moves(world(views, wrong), at(away, touch, views=views))
    assert not moves(world(views, 10 * wrong), at(away, touch, views=views))


def test_a_world_of_another_table_is_another_world() -> None:
    assert world(1).fingerprint == CompactWorld(restless()).fingerprint != world(1, 0.1).fingerprint
    with pytest.raises(InvalidInput, match=r"table_height of the compact world: given nan, expected a finite number"):
        world(1, float("nan"))


@pytest.mark.parametrize("table", [0.0, -0.4])
def test_where_a_thing_lies_follows_from_the_table(table: float) -> None:
    """The tool is where the line of sight to the thing meets the table, or a table 40 cm away from there."""
    seen, eye = along_the_sight(0.0), np.array(along_the_sight(1.0))
    share = (table + reach.MIDDLE - eye[2]) / (seen[2] - eye[2])
    place = tuple(map(float, eye + share * (np.array(seen) - eye)))
    prompt = at(place, place)  # type: ignore[arg-type]
    context = {**beginning(world(1), prompt).context, "lies": torch.ones(1, 6).bool()}
    far = {height: bool(reach.beyond(context, prompt.between(1, 2), height)[0, 0]) for height in (0.0, -0.4)}
    assert not far[table] and far[-0.4 - table]


def test_a_prompt_that_does_not_tell_leaves_it_to_the_network() -> None:
    made, away = world(1), (THING[0] - 0.5, THING[1], 0.3)
    silent = replace(at(away, away), tool=None)
    state = beginning(made, silent)
    assert "lies" not in state.context and bool(went(state, made.step(state, silent.between(1, 2))[0]).any())
    begun = beginning(made, at(away, away))
    after = made.step(begun, silent.between(1, 2))[0]
    assert bool(went(begun, after).any()) and after.context.keys() == begun.context.keys()


def test_rows_are_free_or_not_each_for_itself() -> None:
    made, away = world(1), (THING[0] - 0.5, THING[1], 0.3)
    both = [at(away, away), at(away, (THING[0], THING[1], 0.05))]
    states = [beginning(made, prompt) for prompt in both]
    alone = [made.step(state, prompt.between(1, 2))[0] for state, prompt in zip(states, both, strict=True)]
    tool = torch.cat([prompt.tool for prompt in both if prompt.tool is not None])
    joined = replace(told(1, both[0].tool).index([0, 0]), tool=tool)
    frames = shown(cameras(1, SIZE)[0], ((THING, RED),))[None, None].expand(2, -1, -1, -1, -1)
    together = made.step(made.encode(frames, joined.between(0, 1), [0, 0]), joined.between(1, 2))[0]
    assert went(states[0], together.index([0])).any().item() is False
    for row, state in enumerate(alone):
        for name, value in state.context.items():
            assert torch.equal(together.context[name][row], value[0]), name
