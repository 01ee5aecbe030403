"""Demonstrations in the compact world: nothing changes without one or untrained, each row hears its own, files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.contracts.world_model import begin, next_prompt, pictures, prompts, same_state
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.models.checkpoint import read_description, save_tensors
from vap_sim.models.compact.demonstration import MOTION, PACE, Demonstration, load_demonstration, save_demonstration
from vap_sim.models.compact.layers import find_slots
from vap_sim.models.compact.model import WEIGHTS, CompactWorld, read_config
from vap_sim.models.compact.motion import foresee, view
from vap_sim.models.compact.network import CompactConfig, CompactNetwork, UNetConfig
from vap_sim.models.compact.windows import PATCH
from vap_sim.models.conditioners.action_prism_reference import Resampled
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt
from vap_sim.state import WorldState

NET = UNetConfig((8, 8, 8, 8), (1, 1, 1, 1))
CONFIG = CompactConfig(size=32, scene=NET, motion=NET, robot=NET)
TINY = {"frames": 4, "width": 16, "heads": 2, "layers": 1, "motion": 16, "tokens": 1}


def network() -> CompactNetwork:
    """Random weights that find objects and move them a little."""
    made, source = CompactNetwork(CONFIG), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for value in made.parameters():
            spread = 0.8 * value[0].numel() ** -0.5 if value.ndim > 1 else 0.2
            value.copy_(torch.randn(value.shape, generator=source) * spread)
        made.motion.head.bias[4] = 9.0  # whatever is there moves
    return made


def awake(seed: int = 1) -> Demonstration:
    made, source = Demonstration(CONFIG, **TINY), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in made.parameters():
            value.add_(torch.randn(value.shape, generator=source) * 0.5)
    return made


def clip(rows: int = 3, seed: int = 0, frames: int = 4) -> ReferenceClip:
    source = torch.Generator().manual_seed(seed)
    return ReferenceClip(torch.randint(0, 256, (rows, frames, 32, 32, 3), dtype=torch.uint8, generator=source))


def encoded(world: CompactWorld, reference: ReferenceClip | None, rows: int = 3) -> WorldState:
    """Dreams of two squares, at another place in each row."""
    prompt = VisualPrompt(prompts(world, 1, rows).skeleton, reference=reference)
    state = world.encode(pictures(world, rows), prompt, list(range(rows)))
    layers = torch.zeros(state.rows, 32, 32, 4, dtype=torch.uint8)
    for row, layer in enumerate(layers):
        layer[4 + row : 10 + row, 5:11] = torch.tensor([200, 20, 20, 255], dtype=torch.uint8)
        layer[20:26, 18 - row : 25 - row] = torch.tensor([20, 30, 220, 255], dtype=torch.uint8)
    slots = find_slots(layers.permute(0, 3, 1, 2).float() / 255)
    assert slots.present.sum(1).tolist() == [2] * rows
    named = {name: getattr(slots, name) for name in ("centre", "turn", "velocity", "present")}
    patches = (slots.patches * 255).round().to(torch.uint8)
    return replace(state, context={**state.context, **named, "patches": patches, **world._laid(slots)})


def poses(world: CompactWorld, state: WorldState, steps: int = 2) -> Tensor:
    """Where objects are after some steps, and how they lie."""
    for number in range(steps):
        state, _ = world.step(state, next_prompt(world, number, state.rows))
    return torch.cat([state.context["centre"], state.context["turn"]], dim=2)


@pytest.fixture(scope="module")
def bare() -> CompactWorld:
    return CompactWorld(network(), dtype=torch.float32)


@pytest.fixture(scope="module")
def world() -> CompactWorld:
    return CompactWorld(network(), dtype=torch.float32, demonstration=awake())


def test_without_a_clip_or_untrained_the_dream_keeps_its_bits(bare: CompactWorld, world: CompactWorld) -> None:
    assert not bare.spec.reads_reference and world.spec.reads_reference
    fresh = CompactWorld(network(), dtype=torch.float32, demonstration=Demonstration(CONFIG, **TINY))
    assert len({one.fingerprint for one in (bare, world, fresh)}) == 3
    for other, reference in ((world, None), (fresh, clip())):
        mine, theirs = encoded(bare, None), encoded(other, reference)
        assert set(theirs.context) - set(mine.context) == {MOTION, PACE}
        for number in range(3):
            mine, own = bare.step(mine, next_prompt(bare, number))
            theirs, frames = other.step(theirs, next_prompt(bare, number))
            assert torch.equal(own, frames)
            assert all(torch.equal(value, theirs.context[name]) for name, value in mine.context.items())
        begun = [one.begin_doubt(state) for one, state in ((bare, mine), (other, theirs))]
        doubts = [
            one.doubt(memory, state, one.step(state, next_prompt(bare))[0], next_prompt(bare))[1]
            for one, memory, state in zip((bare, other), begun, (mine, theirs), strict=True)
        ]
        assert torch.equal(doubts[0], doubts[1])


def test_each_row_hears_its_own_clip(world: CompactWorld) -> None:
    first, second = clip(), clip(seed=1)
    said = poses(world, encoded(world, first))
    assert float((said - poses(world, encoded(world, None))).abs().amax(dim=(1, 2)).amin()) > 1e-3
    mixed = ReferenceClip(torch.stack([second.frames[0], first.frames[1], first.frames[2]]))
    told = poses(world, encoded(world, mixed))
    assert torch.equal(told[1:], said[1:]) and float((told[0] - said[0]).abs().amax()) > 1e-3
    base, watched, swapped = encoded(world, None).index([0, 0]), encoded(world, first), []
    for order in ([0, 1], [1, 0]):
        own = watched.index(order).context
        state = replace(base, context={**base.context, MOTION: own[MOTION], PACE: own[PACE]})
        swapped.append(world.step(state, next_prompt(world).index([0, 0]))[0].context["centre"])
    assert torch.equal(swapped[0], swapped[1].flip(0)) and not torch.equal(swapped[0][0], swapped[0][1])


def test_rows_told_and_untold_share_a_batch(world: CompactWorld) -> None:
    told, untold = encoded(world, clip()), encoded(world, None)
    both = WorldState.cat([told.index([0]), untold.index([1]), told.index([2])])
    after, frames = world.step(both, next_prompt(world))
    for row, state in enumerate((told, untold, told)):
        alone, frame = world.step(state.index([row]), next_prompt(world).index([row]))
        assert same_state(alone, after.index([row])) and torch.equal(frame[0], frames[row])


def test_a_clip_is_followed_at_its_pace_and_then_stays_at_its_end() -> None:
    made = awake().requires_grad_(False)
    watched, style = made.watch(clip(1, frames=4)), torch.randn(2, 8, generator=torch.Generator().manual_seed(2))

    def said(step: int, of: dict[str, Tensor] = watched, mirrored: bool = False) -> Tensor:
        ear = made.told(of, torch.tensor([step]), mirrored=mirrored)[0]
        assert ear is not None
        return ear(style)

    assert float(watched[PACE]) == 1 and not torch.equal(said(0), said(1)) and not torch.equal(said(2), said(3))
    assert torch.equal(said(3), said(90)) and not torch.equal(said(1), said(1, mirrored=True))
    with pytest.warns(Resampled, match="from 7 to 4 frames"):
        slow = made.watch(clip(1, frames=7))
    assert (
        float(slow[PACE]) == 0.5
        and torch.equal(said(4, slow), said(3, slow))
        and not torch.equal(said(2, slow), said(4, slow))
    )
    assert made.told(made.watch(None), torch.tensor([3])) == [None]


def test_an_echo_in_a_mirror_hears_the_clip_in_a_mirror() -> None:
    made = awake().requires_grad_(False)
    shown = clip(1)
    plain, turned = (made.watch(one)[MOTION] for one in (shown, ReferenceClip(shown.frames.flip(3))))
    assert torch.allclose(plain.flip(1), turned, atol=1e-6) and not torch.allclose(plain, turned, atol=1e-2)


def test_gradients_reach_the_prism_after_one_step() -> None:
    made, host = Demonstration(CONFIG, **TINY), network().requires_grad_(False)
    optimiser = torch.optim.SGD(made.parameters(), lr=1.0)
    source = torch.Generator().manual_seed(3)

    def moved() -> set[str]:
        optimiser.zero_grad()
        motion = made.motion(clip(1).frames)
        watched = {MOTION: torch.stack([motion, motion], dim=1), PACE: torch.ones(1)}
        views = view(
            torch.rand(1, 9, 32, 32, generator=source),
            torch.rand(1, 1, 32, 32, generator=source),
            torch.rand(2, 1, PATCH, PATCH, generator=source),
            centre=torch.tensor([[10.0, 12], [20, 15]]),
            turn=torch.tensor([[1.0, 0], [1, 0]]),
            velocity=torch.zeros(2, 2),
        )
        out = foresee(host.motion, views, told=made.told(watched, torch.tensor([1]))[0])
        (out.shift.square().mean() + out.logit.mean()).backward()
        return {name for name, value in made.named_parameters() if value.grad is not None and bool(value.grad.any())}

    assert moved() == {"listener.attention.to_out.weight", "listener.attention.to_out.bias"}
    optimiser.step()
    assert moved() == {name for name, _ in made.named_parameters()}


def test_files_make_it_again_and_wrong_ones_are_named(tmp_path: Path) -> None:
    made, path = awake(), tmp_path / "push.safetensors"
    save_demonstration(path, made, {"steps": 3})
    loaded = load_demonstration(path, CONFIG)
    assert loaded.settings == made.settings and loaded.fingerprint == made.fingerprint
    with pytest.raises(
        InvalidInput, match=r"size of the compact model for .*: given 64, expected 32, as it was trained"
    ):
        load_demonstration(path, replace(CONFIG, size=64))
    wide = replace(CONFIG, motion=UNetConfig((8, 8, 8, 12), (1, 1, 1, 1)))
    with pytest.raises(InvalidInput, match=r"style of the compact model for .*: given 12, expected 8"):
        load_demonstration(path, wide)
    save_tensors(path, made.state_dict(), {"system": "action_prism", "format": 1})
    with pytest.raises(BadFile, match="says 'action_prism', expected 'compact_demonstration'"):
        load_demonstration(path, CONFIG)
    header = {"system": "compact_demonstration", "format": 1, "size": 32, "style": 8}
    for settings, words in (({}, "tensor .* is"), ({"depth": 2}, "unknown size of a demonstration 'depth'")):
        save_tensors(path, made.state_dict(), {**header, "settings": settings})
        with pytest.raises(BadFile, match=words):
            load_demonstration(path, CONFIG)


def test_a_world_is_loaded_with_a_demonstration_or_without(tmp_path: Path) -> None:
    config = read_config(read_description(WEIGHTS)["network"], WEIGHTS)
    path = tmp_path / "demonstration.safetensors"
    save_demonstration(path, Demonstration(config))
    told, plain = CompactWorld.load(demonstration=path), CompactWorld.load()
    assert told.spec.reads_reference and not plain.spec.reads_reference
    assert told.fingerprint != plain.fingerprint
    assert sum(value.numel() for value in told.demonstration.parameters()) < 600_000


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Demonstration(CONFIG, depth=3), "unknown size of a demonstration 'depth'"),
        (lambda: Demonstration(CONFIG, frames=1), "frames of a prism: given 1"),
        (lambda: awake().watch(replace(clip(1), more=(clip(1),))), "demonstrations of a compact world: given 2"),
        (lambda: awake().watch(clip(1, frames=1)), r"ReferenceClip\.frames"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], words: str) -> None:
    with pytest.raises((InvalidInput, UnknownName), match=words):
        call()


def test_states_fork_and_return(world: CompactWorld) -> None:
    state = encoded(world, clip())
    turned = state.index([2, 0])
    after, _ = world.step(turned, next_prompt(world).index([2, 0]))
    assert same_state(after, world.step(state, next_prompt(world))[0].index([2, 0]))
    assert same_state(begin(world), begin(CompactWorld(network(), dtype=torch.float32, demonstration=awake())))
