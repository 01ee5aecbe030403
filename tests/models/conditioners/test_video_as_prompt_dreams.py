"""Dreams that are shown a demonstration: clip by clip both ways, frame by frame one way, beside a skeleton control."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.contracts.world_model import next_prompt, pictures, prompts
from tests.models.cogvideox.control_tools import wake
from tests.models.cogvideox.test_stream import both_ways, loud_control
from tests.models.cogvideox.worlds import tiny_backbone, tiny_parts, tiny_world
from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.models.cogvideox.codec import Carry, Codec
from vap_sim.models.cogvideox.injection import Injection, Noised, Prepared, Uninstall
from vap_sim.models.cogvideox.text import TextEncoder
from vap_sim.models.cogvideox.world import CogVideoXWorld
from vap_sim.models.conditioners.video_as_prompt import VideoAsPrompt
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Demonstrations here are short and small, and resampled."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="demonstration resampled")
        yield


def clip(rows: int = 2, seed: int = 0) -> ReferenceClip:
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randint(0, 256, (rows, 6, 16, 24, 3), dtype=torch.uint8, generator=generator)
    return ReferenceClip(pictures, tuple(f"action {seed}" for _ in range(rows)))


def expert(backbone: Any, **settings: Any) -> VideoAsPrompt:
    return wake(VideoAsPrompt(backbone, **{"frames": 2, **settings})).requires_grad_(False)


def world_of(mode: str, kind: str = "i2v", *, skeleton: bool = True, **changes: Any) -> CogVideoXWorld:
    backbone = tiny_backbone(kind)
    one = expert(backbone, one_way=mode == "stream")
    others = (loud_control(backbone),) if skeleton else ()
    return tiny_world(kind, backbone=backbone, conditioners=(one, *others), mode=mode, rows_at_once=2, **changes)


def film(world: CogVideoXWorld, reference: ReferenceClip, *, repeated: bool = False) -> Tensor:
    """Two steps, of which the later prompts show the demonstration again or do not."""
    start = replace(prompts(world, 1, 2), reference=reference)
    state, frames = world.encode(pictures(world, 2), start, [1, 2]), []
    for number in range(2):
        plan = next_prompt(world, number, 2)
        state, made = world.step(state, replace(plan, reference=reference if repeated else None))
        frames.append(made)
    return torch.cat(frames, dim=2)


@pytest.mark.parametrize("mode", ["stream", "chunk"])
def test_a_dream_keeps_to_the_demonstration_of_its_start(mode: str) -> None:
    world = world_of(mode)
    once = film(world, clip())
    assert torch.equal(once, film(world, clip(), repeated=True))
    other = film(world, clip(seed=4))
    assert not torch.equal(once[:, :, -4:], other[:, :, -4:])
    mixed = VisualPrompt.cat([_with(world, clip()).index([0]), _with(world, clip(seed=4)).index([1])]).reference
    assert mixed is not None
    both = film(world, mixed)
    assert int((both[0].int() - once[0].int()).abs().max()) <= 1
    assert int((both[1].int() - other[1].int()).abs().max()) <= 1


def _with(world: CogVideoXWorld, reference: ReferenceClip) -> VisualPrompt:
    return replace(prompts(world, 1, 2), reference=reference)


class Shown:
    """A conditioner whose first prompt always has the same demonstration."""

    def __init__(self, inner: VideoAsPrompt) -> None:
        self.inner, self.traits = inner, inner.traits

    def install(self, backbone: Any) -> Uninstall:
        return self.inner.install(backbone)

    def prepare(
        self, prompt: VisualPrompt, codec: Codec, carry: Carry | None = None, *, text: TextEncoder | None = None
    ) -> Prepared:
        if carry is None:
            prompt = replace(prompt, reference=clip(len(prompt)))
        return self.inner.prepare(prompt, codec, carry, text=text)

    def inject(self, prepared: Prepared, noised: Noised) -> Injection:
        return self.inner.inject(prepared, noised)


@pytest.mark.parametrize("kind", ["i2v", "t2v"])
@pytest.mark.parametrize("steps", [0, 5])
def test_one_way_a_stream_is_as_uncached(kind: str, steps: int) -> None:
    """Also when the window has slid, where what is kept is renewed (i2v) or has not yet (t2v)."""
    backbone = tiny_backbone(kind)
    one = Shown(expert(backbone, one_way=True))
    steps = steps if kind == "i2v" else min(steps, 3)
    told = both_ways(tiny_world(kind, backbone=backbone, conditioners=(one,), rows_at_once=2), steps)
    bare = both_ways(tiny_world(kind, backbone=backbone, conditioners=(), rows_at_once=2), steps)
    for (mine, other), (without, _) in zip(told, bare, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-4)
        assert float((mine - without).abs().max()) > 1e-3


def test_guidance_of_the_reference_and_of_text_dream_in_both_modes() -> None:
    for mode in ("stream", "chunk"):
        world = world_of(mode, guidance=2.0, reference_guidance=3.0, control_guidance=1.5, steps=1)
        assert len(world.settings.guiding.branches) == 4
        assert int(film(world, clip()).float().std()) > 0


def test_both_ways_is_for_whole_clips_and_one_stream_is_enough() -> None:
    backbone = tiny_backbone()
    both = expert(backbone)
    with pytest.raises(Unsupported, match=r"VideoAsPrompt in stream mode: .* make it with one_way=True"):
        tiny_parts(backbone=backbone, conditioners=(both,))
    with pytest.raises(InvalidInput, match="conditioners that bring a second stream"):
        tiny_parts(backbone=backbone, conditioners=(both, both), mode="chunk")
    world = tiny_world(backbone=backbone, conditioners=(both,), mode="chunk")
    with pytest.raises(InvalidInput, match=r"VisualPrompt\.reference: given None, expected a demonstration"):
        world.encode(pictures(world, 1), prompts(world, 1, 1), [1])
