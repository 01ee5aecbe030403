"""Chunk mode: against diffusers' own pipeline, what is carried over, and how long a clip may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.contracts.world_model import next_prompt, pictures, prompts, same_state
from tests.models.cogvideox.conftest import stock_rotary
from tests.models.cogvideox.worlds import Pooled, tiny_backbone, tiny_world
from vap_sim.errors import InvalidInput, VAPSimError
from vap_sim.models.cogvideox.codec import TinyCodec
from vap_sim.models.cogvideox.injection import Injection, Noised, Prepared
from vap_sim.models.cogvideox.sampler import PUBLISHED
from vap_sim.models.cogvideox.stock import stock
from vap_sim.models.cogvideox.text import HashedWords
from vap_sim.models.cogvideox.world import ChunkTruncated, CogVideoXWorld
from vap_sim.noise import standard_normals
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState

CAPTIONS = ("push the cup", "")


def chunk_world(kind: str = "i2v", **changes: Any) -> CogVideoXWorld:
    return tiny_world(kind, **{"mode": "chunk", "chunk": 17, **changes})


def begin(world: CogVideoXWorld, rows: int = 2, **fields: Any) -> WorldState:
    start = VisualPrompt(prompts(world, 1, rows).skeleton, text=CAPTIONS[:rows], **fields)
    return world.encode(pictures(world, rows), start, [5, 6][:rows])


def pipeline(world: CogVideoXWorld, image: Tensor, noise: Tensor, scale: float, steps: int) -> Tensor:
    """diffusers' loop for image-to-video, written down for one caption, as its pipeline runs it."""
    backbone = world.parts.backbone
    scheduler = stock("diffusers").CogVideoXDDIMScheduler(**{k: v for k, v in PUBLISHED.items() if k != "_class_name"})
    scheduler.set_timesteps(steps)
    words = HashedWords(4, 8).encode(["", CAPTIONS[0]])
    first = TinyCodec(8).encode(image)
    padded = torch.cat([first, torch.zeros(1, noise.shape[1] - 1, *first.shape[2:])], dim=1)
    rotary, latents = stock_rotary(backbone.config, (4, 6), noise.shape[1]), noise
    for timestep in scheduler.timesteps:
        given = torch.cat([torch.cat([latents] * 2), torch.cat([padded] * 2)], dim=2)
        out = backbone.transformer(given, words, timestep.expand(2), image_rotary_emb=rotary, return_dict=False)[0]
        silent, told = out.chunk(2)
        guided = silent + scale * (told - silent)
        latents = scheduler.step(guided, timestep, latents, return_dict=False)[0]
    return TinyCodec(8).decode(latents)


def test_a_clip_from_one_image_is_that_of_diffusers() -> None:
    world = chunk_world(told=False, steps=3, guidance=6.0)
    state = begin(world, rows=1)
    with torch.no_grad():
        noise = standard_normals(state.key, state.step, (5, *world.parts.shape))
        theirs = pipeline(world, pictures(world, 1)[:, 0][:, None], noise, 6.0, 3)
    _, frames = world.step(state, next_prompt(world, rows=1))
    assert int((frames[:, 0].int() - theirs[:, 1:].int()).abs().max()) <= 1


@pytest.mark.parametrize(("kind", "overlap"), [("i2v", 1), ("i2v", 5), ("t2v", 1), ("t2v", 9)])
def test_the_last_frames_begin_the_next_clip(kind: str, overlap: int) -> None:
    world = chunk_world(kind, overlap=overlap)
    assert world.spec.frames_per_step == 17 - overlap
    state, frames = world.step(begin(world), next_prompt(world, rows=2))
    assert frames.shape == (2, 1, 17 - overlap, 32, 48, 3)
    kept = state.context["frames"]
    many = min(overlap, 17 - overlap)
    assert kept.shape[1] == overlap and torch.equal(kept[:, -many:], frames[:, 0, -many:])
    assert torch.equal(state.context["drawn"][:, :, -many:], next_prompt(world, rows=2).skeleton[:, :, -many:])


@pytest.mark.parametrize(("kind", "overlap"), [("i2v", 5), ("t2v", 1), ("t2v", 5)])
def test_held_frames_come_out_as_they_went_in(kind: str, overlap: int) -> None:
    """What the codec makes of the frames carried over opens the next clip; only there it is not shown again."""
    world = chunk_world(kind, overlap=overlap)
    state = begin(world)
    seen: list[Tensor] = []

    class Ear(TinyCodec):
        def decode(self, latents: Tensor) -> Tensor:
            seen.append(latents)
            return super().decode(latents)

    class Watcher(Pooled):
        def inject(self, prepared: Prepared, noised: Noised) -> Injection:
            levels.append(noised.timestep)
            return super().inject(prepared, noised)

    levels: list[Tensor] = []
    listening = CogVideoXWorld(replace(world.parts, codec=Ear(8), conditioners=(Watcher(32),)))
    listening.step(replace(state, model=listening.fingerprint), next_prompt(world, rows=2))
    start = world.parts.codec.encode(state.context["frames"])
    held = start.shape[1]
    assert torch.equal(torch.cat(seen)[:, :held], start)
    assert all(not bool(one[:, :held].any()) and bool((one[:, held:] > 0).all()) for one in levels)


def test_prompts_and_captions_reach_the_clip() -> None:
    world = chunk_world()
    state, plan = begin(world), next_prompt(world, rows=2)
    _, frames = world.step(state, plan)
    for other in (
        next_prompt(world, 51, 2),
        VisualPrompt(plan.skeleton, text=("pull", "")),
    ):
        after, changed = world.step(state, other)
        assert not torch.equal(changed[0], frames[0])
    assert torch.equal(changed[1], frames[1])
    kept, _ = world.step(state, VisualPrompt(plan.skeleton, text=CAPTIONS))
    assert same_state(kept, world.step(state, plan)[0]) and not same_state(kept, after)


def test_joints_are_carried_like_drawings() -> None:
    world = chunk_world(overlap=5)
    joints = torch.arange(24.0).reshape(2, 12, 1)
    state = begin(world, joints=joints[:, :1])
    assert state.context["joints"][:, :, 0].tolist() == [[0.0] * 5, [12.0] * 5]
    state, _ = world.step(state, VisualPrompt(next_prompt(world, rows=2).skeleton, joints=joints))
    assert torch.equal(state.context["joints"], joints[:, -5:])


def test_a_clip_is_told_as_one_of_its_own() -> None:
    """A conditioner hears of the second clip what it would hear at a dream's start, as in training."""
    heard: list[Tensor] = []

    class Ear(Pooled):
        def inject(self, prepared: Prepared, noised: Noised) -> Injection:
            heard.append(prepared["cells"])
            return super().inject(prepared, noised)

    world = chunk_world(conditioners=(Ear(32),), steps=1, rows_at_once=2)
    plan = prompts(world, 33, 2)
    state = world.encode(pictures(world, 2), plan.between(0, 1), [5, 6])
    for first in (1, 17):
        state, _ = world.step(state, plan.between(first, first + 16))
    fresh = Pooled(32).prepare(plan.between(16, 33), world.parts.codec)
    assert torch.equal(heard[1], fresh["cells"])
    assert not any(name.startswith("told/") for name in state.context)


def test_a_chunk_longer_than_trained_is_cut_with_a_reason() -> None:
    with pytest.warns(ChunkTruncated, match="chunk of 49 frames cut to 17: the model was trained with clips of 17"):
        world = chunk_world(chunk=49)
    assert world.truncation is not None and "cut to 17" in world.truncation
    assert (world.max_chunk, world.settings.chunk, world.spec.frames_per_step) == (17, 17, 16)
    short = chunk_world(chunk=9)
    assert short.truncation is None and short.max_chunk == 17 and short.spec.frames_per_step == 8
    assert CogVideoXWorld(chunk_world("t2v").parts, max_chunk=17).max_chunk == 17


def cut_below_its_overlap() -> object:
    with pytest.warns(ChunkTruncated):
        return chunk_world(chunk=49, overlap=17)


def lost_joints() -> object:
    world = chunk_world()
    return world.step(begin(world, joints=torch.zeros(2, 1, 7)), next_prompt(world, rows=2))


def other_joints(first: int | None, then: int) -> object:
    world = chunk_world()
    state = begin(world) if first is None else begin(world, joints=torch.zeros(2, 1, first))
    return world.step(state, VisualPrompt(next_prompt(world, rows=2).skeleton, joints=torch.zeros(2, 16, then)))


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("chunk: given 16 frames, expected 4 k \\+ 1", lambda: chunk_world(chunk=16)),
        ("chunk: given 1 frames", lambda: chunk_world(chunk=1)),
        ("overlap: given 2 frames, expected 4 j \\+ 1", lambda: chunk_world(overlap=2)),
        ("overlap: given 17 frames, .*fewer than the chunk's 17", lambda: chunk_world(overlap=17)),
        ("overlap: given 17 frames, .*fewer than the chunk's 17", cut_below_its_overlap),
        ("joints of the prompt: given none, expected some", lost_joints),
        ("joints of the prompt: given some, expected none", lambda: other_joints(None, 7)),
        ("joints of the prompt: given 7, expected 8", lambda: other_joints(8, 7)),
    ],
)
def test_bad_input_is_named(words: str, call: Callable[[], object]) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        call()
    assert isinstance(caught.value, VAPSimError)


def test_the_backbone_is_shared_by_worlds() -> None:
    backbone = tiny_backbone()
    one, two = chunk_world(backbone=backbone), tiny_world(backbone=backbone)
    assert one.fingerprint != two.fingerprint
