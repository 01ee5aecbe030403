"""Learned motions in dreams: told once they last, in streams and in chunks, each row its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.contracts.world_model import next_prompt, pictures, prompts, same_state
from tests.models.cogvideox.worlds import tiny_backbone, tiny_world
from tests.models.conditioners.flexiact_tools import fill, small_flexiact
from vap_sim.models.cogvideox.stream import Stream, uncached
from vap_sim.models.cogvideox.world import CogVideoXWorld
from vap_sim.state import WorldState

pytest.importorskip("diffusers")


def world_of(mode: str, **changes: Any) -> CogVideoXWorld:
    backbone = tiny_backbone("i2v")
    return tiny_world(backbone=backbone, mode=mode, conditioners=(small_flexiact(backbone),), **changes)


def start(world: CogVideoXWorld, *motion: str, rows: int = 2) -> WorldState:
    plan = prompts(world, 1, rows)
    return world.encode(pictures(world, rows), replace(plan, motion=motion), [*range(1, 1 + rows)])


def film(world: CogVideoXWorld, state: WorldState, steps: int = 3, motion: tuple[str, ...] = ()) -> Tensor:
    frames = []
    for number in range(steps):
        state, made = world.step(state, replace(next_prompt(world, number, state.rows), motion=motion))
        frames.append(made)
    return torch.cat(frames, dim=2)


@pytest.mark.parametrize("mode", ["stream", "chunk"])
def test_a_dream_keeps_to_the_motion_it_was_told(mode: str, tmp_path: Path) -> None:
    world = world_of(mode)
    state = start(world, "wave")
    once = film(world, state)
    assert torch.equal(once, film(world, state, motion=("wave",)))
    assert not torch.equal(once, film(world, state, motion=("lift",)))
    other = start(world, "lift")
    last = world.spec.frames_per_step
    assert not torch.equal(once[:, :, -last:], film(world, other)[:, :, -last:])
    state.save(tmp_path / "state.safetensors")
    again = WorldState.load(tmp_path / "state.safetensors")
    assert same_state(state, again) and torch.equal(film(world, again, 1), once[:, :, :last])
    mixed = WorldState.cat([state.index([0]), other.index([1])])
    rows = film(world, mixed)
    assert torch.equal(rows[0], once[0]) and torch.equal(rows[1], film(world, other)[1])
    together = world_of(mode, rows_at_once=2)
    near = film(together, WorldState.cat([start(together, "wave").index([0]), start(together, "lift").index([1])]))
    assert int((near.int() - rows.int()).abs().max()) <= 1, "in one pass, up to a grey level"


def test_worlds_with_other_tokens_or_settings_are_told_apart() -> None:
    backbone = tiny_backbone("i2v")
    prints = {
        tiny_world(backbone=backbone, conditioners=(one,)).fingerprint
        for one in (small_flexiact(backbone), fill(small_flexiact(backbone), 8), small_flexiact(backbone, alpha=2.0))
    }
    assert len(prints) == 3


def test_a_guided_dream_leaves_the_motion_out_of_one_pass() -> None:
    """With a guidance of control the pass without conditioners sees no token."""
    world = world_of("chunk", control_guidance=2.0)
    assert not torch.equal(
        film(world, start(world, "wave"), 1), film(world_of("chunk"), start(world_of("chunk"), "wave"), 1)
    )


@pytest.mark.parametrize("kind", ["i2v", "t2v", "sines"])
def test_a_stream_predicts_what_one_pass_without_a_cache_does(kind: str) -> None:
    """At a level that draws the noisy frame to the motion and none of the clean ones that it looks back at."""
    backbone = tiny_backbone(kind)
    world = tiny_world(backbone=backbone, mode="stream", history=2, conditioners=(small_flexiact(backbone),))
    stream = world.mode
    assert isinstance(stream, Stream)
    steps = 5 if stream.renews else 2
    plan, captions = replace(prompts(world, 1 + 4 * (steps + 1), 2), motion=("wave",)), ("a", "b")
    plan = replace(plan, text=captions)
    state = world.encode(pictures(world, 2), plan.between(0, 1), [3, 4])
    history = [state.context["latent"]]
    for number in range(steps):
        state, _ = world.step(state, plan.between(1 + 4 * number, 5 + 4 * number))
        history.append(state.context["latent"])
    noisy = torch.randn(history[0].shape, generator=torch.Generator().manual_seed(5))
    for level in (850, 500):
        cached = stream.predict(state.context, state.step, noisy, level, plan.between(1 + 4 * steps, 5 + 4 * steps))
        whole = uncached(stream, torch.cat(history, 1), noisy, level, captions, plan)
        assert float((cached - whole).abs().amax()) < 1e-4
        other = uncached(stream, torch.cat(history, 1), noisy, level, captions, replace(plan, motion=("lift",)))
        assert float((other - whole).abs().amax()) > 1e-3, "the motion is heard at all"
