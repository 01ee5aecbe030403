"""Worlds that are told of carrying: what is held goes with the tool for as long as it is held, in every view."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.compact.test_views import CONFIG, SIZE, black, shown
from tests.models.compact.two_views import RED, cameras
from vap_sim.errors import InvalidInput
from vap_sim.models.compact import layers, reach
from vap_sim.models.compact.geometry import see
from vap_sim.models.compact.layers import Reading
from vap_sim.models.compact.model import CompactWorld, fingerprint_of, read_config
from vap_sim.models.compact.network import CompactNetwork
from vap_sim.models.compact.views import CompactViews
from vap_sim.models.protocol import WorldModel
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState
from vap_sim.training.loop import plain

PLACE = (0.45, 0.05, 0.03)
STEPS = 12
HELD, LET_GO = 50.0, -50.0


@pytest.fixture(autouse=True)
def _read_exactly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pictures are read without a network: what is colorful is an object, all else the table."""

    def read(network: CompactNetwork, frame: Tensor, skeleton: Tensor) -> Reading:
        alpha = (frame.amax(1, keepdim=True) - frame.amin(1, keepdim=True) > 0.2).float()
        nothing = torch.full((1, 10, SIZE, SIZE), -20.0)
        return Reading(frame, torch.cat([frame * alpha, alpha], 1), frame, torch.zeros(1, 4), nothing)

    monkeypatch.setattr(layers, "read", read)
    yield


def network(held: float = HELD, moves: float = 9.0, *, carry: bool = True) -> CompactNetwork:
    """Says of every object that it moves, by nothing of its own, and that it is held or not."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        made = CompactNetwork(replace(CONFIG, carry=carry))
        made.motion.head.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, moves, held, 0.0, 0.0][: 5 + 3 * carry]))
    return made


def tools(steps: int = STEPS) -> Tensor:
    """Poses (1, T + 1, 4, 4) of a tool that takes what it holds from PLACE up and aside."""
    out = torch.eye(4).repeat(1, steps + 1, 1, 1)
    out[0, :, :3, 3] = torch.tensor(PLACE) + torch.arange(steps + 1)[:, None] * torch.tensor([-0.004, 0.006, 0.008])
    return out


def told(views: int, tool: Tensor | None = None) -> VisualPrompt:
    tool = tools() if tool is None else tool
    return replace(black(cameras(views, SIZE), tool.shape[1]), tool=tool)


def begun(world: WorldModel, prompt: VisualPrompt) -> WorldState:
    frames = torch.stack([shown(camera, ((PLACE, RED),)) for camera in cameras(world.spec.views, SIZE)])[None]
    return world.encode(frames, prompt.between(0, 1), [0])


def centres(world: WorldModel, prompt: VisualPrompt) -> tuple[np.ndarray, np.ndarray]:
    """Where the object is in each view (V, 2) [px] before and after all steps."""
    state = begun(world, prompt)
    after = world.imagine(state, prompt.between(1, prompt.pixel_frames), decode=False).state
    first, last = (one.context["centre"][0].reshape(-1, 6, 2)[:, 0].double().numpy() for one in (state, after))
    return first, last


def expected(views: int) -> np.ndarray:
    """By how much a body goes that the tool holds (V, 2) [px]."""
    seen = told(views).projections
    assert seen is not None
    path = tools()[0, :, :3, 3].double().numpy()
    matrices = seen[0, :, 0].double().numpy()
    return np.asarray(see(matrices, path[-1])[0] - see(matrices, path[0])[0])


@pytest.mark.parametrize("views", [1, 2, 3])
def test_what_is_held_ends_where_the_tool_took_it(views: int) -> None:
    world = CompactWorld(network(), dtype=torch.float32) if views == 1 else CompactViews(network(), views=views)
    first, last = centres(world, told(views))
    way = expected(views)
    assert np.linalg.norm(way, axis=1).min() > 5
    # One view cannot tell how deep its object lies, several put it where their pictures agree.
    np.testing.assert_allclose(last - first, way, atol=0.6)


def test_what_is_not_held_stays() -> None:
    first, last = centres(CompactWorld(network(LET_GO)), told(1))
    np.testing.assert_allclose(last, first, atol=1e-3)


def test_what_does_not_surely_move_stays_though_it_is_held() -> None:
    first, last = centres(CompactWorld(network(moves=-9.0)), told(1))
    assert np.array_equal(last, first)


@pytest.mark.parametrize("views", [1, 2])
def test_only_how_the_tool_goes_matters(views: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dreams of a world that is not told are the same, to the bit, whatever the tool does, if it reaches everything."""
    monkeypatch.setattr(reach, "REACH", 1e9)
    make = CompactWorld if views == 1 else CompactViews
    films = []
    for tool in (tools(), tools().flip(1)):
        world = make(network(carry=False))
        prompt = told(views, tool)
        films.append(world.imagine(begun(world, prompt), prompt.between(1, 4)).frames)
        assert not world.spec.reads_tool
    assert films[0] is not None and films[1] is not None and torch.equal(films[0], films[1])


@pytest.mark.parametrize("views", [1, 2])
def test_prompts_that_do_not_tell_are_refused(views: int) -> None:
    world = CompactWorld(network()) if views == 1 else CompactViews(network(), views=2)
    assert world.spec.reads_cameras and world.spec.reads_tool
    prompt = told(views)
    with pytest.raises(InvalidInput, match=r"no tool, expected tool \(1, 1\) \+ \(4, 4\)"):
        begun(world, replace(prompt, tool=None))
    state = begun(world, prompt)
    with pytest.raises(InvalidInput, match=r"no projections, expected projections"):
        world.step(state, replace(prompt.between(1, 2), projections=None))


def test_rows_beyond_those_that_move_together_are_carried_alike() -> None:
    world, prompt = CompactWorld(network()), told(1)
    rows = [0] * 30
    frames = shown(cameras(1, SIZE)[0], ((PLACE, RED),))[None, None]
    many = world.encode(frames.expand(30, -1, -1, -1, -1), prompt.between(0, 1).index(rows), rows)
    one = begun(world, prompt)
    for frame in range(1, 4):
        part = prompt.between(frame, frame + 1)
        many, one = world.step(many, part.index(rows))[0], world.step(one, part)[0]
    for name, value in one.context.items():
        assert torch.equal(many.context[name], value.expand(30, *value.shape[1:])), name


def test_echoes_hold_what_the_dream_holds() -> None:
    """A mirror changes nothing of what is carried, and so there is no doubt of it."""
    world, prompt = CompactWorld(network(), dtype=torch.float32), told(1)
    state = begun(world, prompt)
    memory = world.begin_doubt(state)
    for frame in range(1, STEPS + 1):
        part = replace(prompt.between(frame, frame + 1))
        part.skeleton[:, :, :, ::2, ::2] = 255  # a robot everywhere: nothing is far from it
        after = world.step(state, part)[0]
        memory, parting = world.doubt(memory, state, after, part)
        state = after
    assert float(parting) < 0.02


def test_weights_say_whether_they_are_told() -> None:
    made, plainly = network(), network(carry=False)
    assert read_config(plain(asdict(made.config)), "a file").carry
    without = {name: value for name, value in plain(asdict(plainly.config)).items() if name != "carry"}
    assert not read_config(without, "a file").carry
    assert fingerprint_of(made, None) != fingerprint_of(plainly, None)
    with torch.no_grad():
        for value in plainly.parameters():
            value.zero_()
    assert fingerprint_of(plainly, None) == "cde3f2cb86ba16b4"  # as before there was anything to tell
