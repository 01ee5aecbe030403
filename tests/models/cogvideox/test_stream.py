"""Stream mode by its laws: the cache changes nothing, the future is free, a late step costs what an early one does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.contracts.world_model import Work, next_prompt, pictures, prompts, same_state
from tests.models.cogvideox.worlds import CarryingCodec, Pooled, tiny_backbone, tiny_parts, tiny_world
from vap_sim.errors import InvalidInput, VAPSimError
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.cache import KeyValueCache
from vap_sim.models.cogvideox.sampler import denoise
from vap_sim.models.cogvideox.skeleton_control import SkeletonControl
from vap_sim.models.cogvideox.stream import LATENT, Stream, uncached
from vap_sim.models.cogvideox.world import CogVideoXWorld
from vap_sim.noise import standard_normals
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState

ROWS = 2
CAPTIONS = ("push the cup", "")
LEVELS = (999, 500, 3)


def captioned(prompt: VisualPrompt) -> VisualPrompt:
    return VisualPrompt(prompt.skeleton, text=CAPTIONS)


def dream(world: CogVideoXWorld, steps: int) -> tuple[list[WorldState], VisualPrompt]:
    """The states of a dream from its start on, and its whole prompt."""
    whole = captioned(prompts(world, 1 + 4 * steps, ROWS))
    states = [world.encode(pictures(world, ROWS), whole.between(0, 1), [5, 6])]
    for number in range(steps):
        state, _ = world.step(states[-1], whole.between(1 + 4 * number, 5 + 4 * number))
        states.append(state)
    return states, whole


def both_ways(world: CogVideoXWorld, steps: int) -> list[tuple[Tensor, Tensor]]:
    """Predictions of the frame after `steps` steps, by the cache and without it, at several noise levels."""
    stream = world.mode
    assert isinstance(stream, Stream)
    whole = captioned(prompts(world, 5 + 4 * steps, ROWS))  # of which the last frames are not dreamt yet
    state = world.encode(pictures(world, ROWS), whole.between(0, 1), [5, 6])
    latents = [state.context[LATENT]]
    for number in range(steps):
        state, _ = world.step(state, whole.between(1 + 4 * number, 5 + 4 * number))
        latents.append(state.context[LATENT])
    history = torch.cat(latents, dim=1)
    noisy = standard_normals(state.key, state.step + 100, tuple(history[:, :1].shape[1:]))
    news = whole.between(1 + 4 * steps, 5 + 4 * steps)
    return [
        (
            stream.predict(state.context, state.step, noisy, level, news),
            uncached(stream, history, noisy, level, CAPTIONS, whole),
        )
        for level in LEVELS
    ]


@pytest.mark.parametrize("kind", ["i2v", "t2v"])
@pytest.mark.parametrize("steps", [0, 3])
def test_cached_equals_uncached(kind: str, steps: int) -> None:
    for mine, other in both_ways(tiny_world(kind, rows_at_once=ROWS), steps):
        assert float(other.std()) > 0.05
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-4)


@pytest.mark.parametrize("solver", ["ddim", "dpm"])
def test_a_whole_step_equals_denoising_without_a_cache(solver: str) -> None:
    world, steps = tiny_world(solver=solver, rows_at_once=ROWS), 2
    stream, parts = world.mode, world.parts
    assert isinstance(stream, Stream)
    states, whole = dream(world, steps + 1)
    history = torch.cat([state.context[LATENT] for state in states[:-1]], dim=1)
    key, step = states[-2].key, states[-2].step
    latents = denoise(
        standard_normals(key, step, (1, *parts.shape)),
        lambda noisy, level: uncached(stream, history, noisy, level, CAPTIONS, whole),
        parts.schedule,
        parts.settings.steps,
        solver=solver,
        fresh=lambda index: standard_normals(key, step, (1, *parts.shape), stream=1 + index),
    )
    torch.testing.assert_close(states[-1].context[LATENT], latents, rtol=0, atol=1e-4)


def loud_control(backbone: Backbone) -> SkeletonControl:
    """A control branch that is heard: its silent layers are random."""
    control = SkeletonControl(backbone, blocks=1, channels=4, width=8)
    source = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for value in control.parameters():
            value.add_(torch.randn(value.shape, generator=source) * 0.05)
    return control.requires_grad_(False)


def test_cached_equals_uncached_with_a_branch_that_keeps_a_cache_of_its_own() -> None:
    backbone = tiny_backbone("i2v")
    world = tiny_world(backbone=backbone, conditioners=(loud_control(backbone), Pooled(32)), rows_at_once=ROWS)
    plain = tiny_world(backbone=backbone, conditioners=(Pooled(32),), rows_at_once=ROWS)
    for (mine, other), (bare, _) in zip(both_ways(world, 2), both_ways(plain, 2), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-4)
        assert float((mine - bare).abs().max()) > 1e-3
    names = dream(world, 1)[0][1].context
    assert {"text/main/keys", "text/0/values"} <= names.keys() and "text/1/keys" not in names
    assert any(name.startswith("told/0/") for name in names) and any(name.startswith("told/1/") for name in names)


@pytest.mark.parametrize("keep_first", [True, False])
def test_frames_that_left_the_window_are_as_if_they_were_invisible(keep_first: bool) -> None:
    """Every frame's keys kept, those outside the window hidden, and the others numbered as in the window.

    So it is with rotary positions alone; added ones are renewed, see below.
    """
    world = tiny_world("t2v", told=False, history=2, keep_first=keep_first, rows_at_once=ROWS)
    stream, backbone, steps, window = world.mode, world.parts.backbone, 6, 2 + int(keep_first)
    assert isinstance(stream, Stream)
    states, _ = dream(world, steps)
    text, patches = 4, 6
    whole: KeyValueCache | None = None
    for number, state in enumerate(states):
        keys, values = (state.context[f"text/main/{name}"] for name in ("keys", "values"))
        end = text + patches * min(number + 1, window)
        first = 0 if whole is None else end - patches
        part = KeyValueCache(keys[:, :, :, first:end], values[:, :, :, first:end], 0 if first else text, patches)
        whole = part if whole is None else whole.append(part)
    assert whole is not None and whole.frames == steps + 1
    seen = [0, steps - 1, steps] if keep_first else [steps - 1, steps]
    positions = [seen.index(frame) if frame in seen else 0 for frame in range(steps + 1)]
    visible = torch.tensor([[frame in seen for frame in range(steps + 1)]]).expand(ROWS, -1)
    past = backbone.past(whole, positions, (4, 6), visible)
    noisy = standard_normals(states[-1].key, states[-1].step + 100, (1, 8, 4, 6))
    clean = torch.zeros(ROWS, dtype=torch.int64)
    theirs = backbone(noisy, clean + 700, None, text_timestep=clean, positions=[window], past=past)
    mine = stream.predict(states[-1].context, states[-1].step, noisy, 700, next_prompt(world, rows=ROWS))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kind", "keep_first"), [("i2v", True), ("i2v", False), ("sines", True)])
def test_added_positions_are_renewed_when_the_window_slides(kind: str, keep_first: bool) -> None:
    """By the cache as in one pass over the window's frames, in their places, with a branch and guidance too."""
    backbone = tiny_backbone(kind)
    changes: dict[str, Any] = {
        "backbone": backbone, "conditioners": (loud_control(backbone), Pooled(32)), "rows_at_once": ROWS,
        "history": 2, "keep_first": keep_first, "steps": 1, "guidance": 2.0, "control_guidance": 2.0,
    }  # fmt: skip
    for mine, other in both_ways(tiny_world(**changes), 5):
        assert float(other.std()) > 0.05
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-4)


def test_positions_that_are_not_renewed_are_off() -> None:
    """What `renew` is for, and that a step costs less without it."""
    costs = []
    for renew in (True, False):
        world = tiny_world(history=2, renew=renew, rows_at_once=ROWS)
        stale, plain = tiny_world("t2v", history=2, renew=renew), dream(world, 5)[0][-1]
        assert any(name.startswith("seen/") for name in plain.context) is renew
        assert not any(name.startswith("seen/") for name in dream(stale, 1)[0][-1].context)
        with FlopCounterMode(display=False) as flops:
            world.step(plain, next_prompt(world, rows=ROWS))
        costs.append(flops.get_total_flops())
    assert costs[1] < costs[0]
    kept = CogVideoXWorld(tiny_parts(history=2, renew=False, rows_at_once=ROWS))
    renewing = Stream(tiny_parts(history=2, rows_at_once=ROWS))
    stream = kept.mode
    assert isinstance(stream, Stream)
    states, whole = dream(kept, 5)
    history = torch.cat([state.context[LATENT] for state in states], dim=1)
    noisy = standard_normals(states[-1].key, states[-1].step + 100, tuple(history[:, :1].shape[1:]))
    more = VisualPrompt(torch.cat([whole.skeleton, next_prompt(kept, rows=ROWS).skeleton], dim=2))
    true = uncached(renewing, history, noisy, 500, CAPTIONS, more)
    off = stream.predict(states[-1].context, states[-1].step, noisy, 500, more.between(21, 25))
    assert float((true - off).abs().max()) > 1e-2


def test_a_step_costs_the_same_at_5_and_at_50() -> None:
    world = tiny_world(history=2, steps=1, codec=CarryingCodec(8))
    prompt = next_prompt(world, rows=1)
    state = world.encode(pictures(world, 1), prompts(world, 1, 1), [3])
    costs, shapes = {}, {}
    for number in range(1, 51):
        if number not in (1, 5, 50):
            state, _ = world.step(state, prompt)
            continue
        with FlopCounterMode(display=False) as flops, Work() as work:
            state, _ = world.step(state, prompt)
        costs[number] = flops.get_total_flops(), work.operations, work.elements
        shapes[number] = {name: tuple(value.shape) for name, value in state.context.items()}
    assert costs[50] == costs[5] and min(costs[5]) > 0
    assert costs[1][2] < costs[5][2]  # the window is not full yet
    assert shapes[50] == shapes[1]


def test_the_past_does_not_hang_on_the_prompts_to_come() -> None:
    world = tiny_world(codec=CarryingCodec(8))
    plan, other = prompts(world, 12, 1, seed=1), prompts(world, 12, 1, seed=2)
    mixed = VisualPrompt(torch.cat([plan.skeleton[:, :, :4], other.skeleton[:, :, 4:]], dim=2))
    start = world.encode(pictures(world, 1), prompts(world, 1, 1), [3])
    first, second = world.imagine(start, plan).frames, world.imagine(start, mixed).frames
    assert first is not None and second is not None
    assert torch.equal(first[:, :, :4], second[:, :, :4])
    assert not torch.equal(first[:, :, 4:8], second[:, :, 4:8])


def test_rows_of_different_age_and_at_once_dream_what_they_dream_alone() -> None:
    world, together = tiny_world(), tiny_world(rows_at_once=3)
    old, _ = dream(world, 3)
    young, _ = dream(world, 1)
    mixed = WorldState.cat([old[-1], young[-1]]).index([0, 2, 3])
    prompt = next_prompt(world, rows=3)
    after, frames = world.step(mixed, prompt)
    assert after.step.tolist() == [4, 2, 2]
    alone = [world.step(mixed.index([row]), prompt.index([row])) for row in range(3)]
    assert torch.equal(torch.cat([film for _, film in alone]), frames)
    assert same_state(WorldState.cat([state for state, _ in alone]), after)
    batch = WorldState(mixed.context, mixed.step, mixed.key, together.fingerprint)
    film = together.step(batch, prompt)[1]
    assert int((film.int() - frames.int()).abs().max()) <= 1


def test_the_codec_is_carried_on() -> None:
    world = tiny_world(codec=CarryingCodec(8), told=False)
    states, _ = dream(world, 3)
    latents = torch.cat([state.context[LATENT] for state in states], dim=1)
    film, carry = [], None
    for number in range(4):
        frames, carry = world.parts.codec.decode_next(latents[:, number : number + 1], carry)
        film.append(frames)
    again = world.imagine(states[0], captioned(prompts(world, 12, ROWS))).frames
    assert again is not None and torch.equal(again[:, 0], torch.cat(film[1:], dim=1))


def test_guidance_keeps_a_cache_for_every_branch_and_changes_the_dream() -> None:
    films, names = [], []
    for text, control in ((1.0, 1.0), (3.0, 1.0), (1.0, 2.0), (3.0, 2.0)):
        world = tiny_world(guidance=text, control_guidance=control)
        states, _ = dream(world, 2)
        films.append(states[-1].context[LATENT])
        names.append(sorted(name for name in states[-1].context if name.endswith("main/keys")))
    assert [len(one) for one in names] == [1, 2, 2, 3]
    assert all(not torch.allclose(films[a], films[b]) for a in range(4) for b in range(a))


def test_dpm_and_dynamic_guidance_dream_by_their_seed() -> None:
    changes: tuple[dict[str, Any], ...] = ({"solver": "dpm"}, {"guidance": 3.0, "dynamic_guidance": True})
    for change in changes:
        world = tiny_world(**change)
        first, second = dream(world, 2)[0][-1], dream(world, 2)[0][-1]
        assert same_state(first, second) and torch.isfinite(first.context[LATENT]).all()
        assert not torch.equal(first.context[LATENT], dream(tiny_world(), 2)[0][-1].context[LATENT])


def refuse(**changes: Any) -> Callable[[], object]:
    return lambda: tiny_world(**changes)


def another_caption() -> object:
    world = tiny_world()
    states, _ = dream(world, 0)
    return world.step(states[0], VisualPrompt(next_prompt(world, rows=2).skeleton, text=("pull the cup", "")))


@pytest.mark.parametrize(
    ("kind", "words", "call"),
    [
        (InvalidInput, "history: given 4 latent frames, expected at most 3", refuse(history=4)),
        (InvalidInput, "history: given 5 latent frames, expected at most 4", refuse(history=5, keep_first=False)),
        (InvalidInput, r"text of the prompt: given \('pull the cup', ''\), expected the caption", another_caption),
    ],
)
def test_bad_input_is_named(kind: type[VAPSimError], words: str, call: Callable[[], object]) -> None:
    with pytest.raises(kind, match=words):
        call()


def test_a_rotary_model_may_look_back_further_than_it_was_trained_to() -> None:
    assert Stream(tiny_parts("t2v", history=9)).fullness(20) == 10
