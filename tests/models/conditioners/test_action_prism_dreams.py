"""Dreams that listen to a demonstration: streams equal one pass without a cache, and the start's clip lasts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.contracts.world_model import next_prompt, pictures, prompts
from tests.models.cogvideox.control_tools import wake
from tests.models.cogvideox.worlds import Pooled, tiny_backbone, tiny_parts
from vap_sim.models.cogvideox.stream import Stream, uncached
from vap_sim.models.cogvideox.world import CogVideoXWorld
from vap_sim.models.conditioners.action_prism import ActionPrism
from vap_sim.models.conditioners.action_prism_reference import Resampled
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt

MODES = ["stream", "chunk"]


def world_of(mode: str, kind: str = "i2v", **changes: object) -> CogVideoXWorld:
    backbone = tiny_backbone(kind)
    prism = wake(ActionPrism(backbone, preset="tiny", frames=3)).requires_grad_(False)
    parts = tiny_parts(backbone=backbone, conditioners=(prism, Pooled(32)), mode=mode, **changes)
    return CogVideoXWorld(parts)


def clip(world: CogVideoXWorld, rows: int = 2, seed: int = 0) -> ReferenceClip:
    """Nine frames of the world's size."""
    frames = prompts(world, 9, rows, seed=50 + seed).skeleton[:, 0]
    return ReferenceClip(frames, ("wave", "lift")[:rows])


def film(world: CogVideoXWorld, reference: ReferenceClip, *, repeated: bool = False) -> Tensor:
    """Three steps of as many of two rows as the clip has."""
    rows = list(range(len(reference.frames)))
    start = replace(prompts(world, 1, 2).index(rows), reference=reference)
    state = world.encode(pictures(world, 2)[rows], start, [1 + row for row in rows])
    frames = []
    for number in range(3):
        told = next_prompt(world, number, 2).index(rows)
        state, made = world.step(state, replace(told, reference=reference) if repeated else told)
        frames.append(made)
    return torch.cat(frames, dim=2)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_shown_at_the_start_lasts_row_by_row(mode: str) -> None:
    world = world_of(mode)
    first, second = clip(world), clip(world, seed=1)
    once = film(world, first)
    assert torch.equal(once, film(world, first, repeated=True))
    last = slice(-world.spec.frames_per_step, None)
    for changed in (second, replace(first, text=("lift", "wave")), replace(first, frames=first.frames.flip(0))):
        assert not torch.equal(film(world, changed)[:, :, last], once[:, :, last])
    mixed = ReferenceClip(torch.stack([second.frames[0], first.frames[1]]), ("wave", "lift"))
    assert torch.equal(film(world, mixed)[1], once[1])
    assert torch.equal(film(world, first.index([0]))[0], once[0])


@pytest.mark.parametrize("kind", ["i2v", "t2v", "sines"])
def test_a_stream_predicts_what_one_pass_without_a_cache_does(kind: str) -> None:
    """Also where the window has slid, for the models that renew what they keep; and longer than the demonstration."""
    world = world_of("stream", kind, history=2)
    stream = world.mode
    assert isinstance(stream, Stream)
    steps = 5 if stream.renews else 2
    plan, captions = prompts(world, 1 + 4 * (steps + 1), 2), ("a", "b")
    plan = replace(plan, text=captions)
    begin = replace(plan.between(0, 1), reference=clip(world))
    state = world.encode(pictures(world, 2), begin, [3, 4])
    history = [state.context["latent"]]
    for number in range(steps):
        state, _ = world.step(state, plan.between(1 + 4 * number, 5 + 4 * number))
        history.append(state.context["latent"])
    noisy = torch.randn(history[0].shape, generator=torch.Generator().manual_seed(5))
    told = plan.between(1 + 4 * steps, 5 + 4 * steps)
    cached = stream.predict(state.context, state.step, noisy, 500, told)
    whole = uncached(stream, torch.cat(history, 1), noisy, 500, captions, replace(plan, reference=clip(world)))
    assert float((cached - whole).abs().amax()) < 1e-4
    another = uncached(
        stream, torch.cat(history, 1), noisy, 500, captions, replace(plan, reference=clip(world, seed=1))
    )
    assert float((another - whole).abs().amax()) > 1e-3, "the demonstration is heard at all"


def test_a_dream_goes_with_its_row_through_forks_and_copies() -> None:
    world = world_of("stream")
    state = world.encode(pictures(world, 2), replace(prompts(world, 1, 2), reference=clip(world)), [1, 2])
    state, _ = world.step(state, next_prompt(world, 0, 2))
    prompt = next_prompt(world, 1, 2)
    _, frames = world.step(state, prompt)
    _, turned = world.step(state.index([1, 0, 1]), prompt.index([1, 0, 1]))
    assert torch.equal(turned, frames[[1, 0, 1]])


def test_a_demonstration_of_other_length_is_resampled_at_the_start_alone() -> None:
    world = world_of("chunk")
    long = clip(world)
    long = replace(long, frames=long.frames.repeat_interleave(2, dim=1))
    with pytest.warns(Resampled, match="from 18 to 9 frames") as notes:
        film(world, long)
    assert len(notes) == 2, "rows are prepared one by one"


def test_guidance_of_the_reference_amplifies_it() -> None:
    """With 0 for it the dream is that of the model without."""
    worlds = [world_of("chunk", reference_guidance=scale) for scale in (0.0, 1.0, 3.0)]
    films = [film(world, clip(world)).float() for world in worlds]
    bare = CogVideoXWorld(tiny_parts(backbone=tiny_backbone("i2v"), conditioners=(Pooled(32),), mode="chunk"))
    without = film(bare, clip(worlds[0])).float()
    assert float((films[0] - without).abs().amax()) <= 1
    assert float((films[2] - without).abs().mean()) > float((films[1] - without).abs().mean()) > 0.5


def test_a_world_without_demonstration_says_so() -> None:
    world = world_of("stream")
    with pytest.raises(ValueError, match=r"VisualPrompt\.reference: given None, expected a demonstration"):
        world.encode(pictures(world, 2), VisualPrompt(prompts(world, 1, 2).skeleton), [1, 2])
