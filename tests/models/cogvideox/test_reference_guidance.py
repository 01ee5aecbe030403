"""A demonstration amplified: which passes are made, how they are mixed, and that a dream follows it more."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.contracts.world_model import next_prompt, pictures, prompts
from tests.models.cogvideox.worlds import Demonstrated, Pooled, tiny_parts, tiny_world
from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.models.cogvideox.guidance import Branch, Guidance
from vap_sim.models.cogvideox.injection import Injection, Noised, Traits
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt


class Watched(Demonstrated):
    """Told by a demonstration, and says so."""

    traits = Traits(demonstrated=True)


class Crowded(Watched):
    """One of two that would bring a second stream."""

    traits = Traits(demonstrated=True, stream=True, whole_clips="it reads the clip to its end")


def said(branch: Branch) -> Tensor:
    """Three numbers that tell passes apart: e() + c + 10 r + 100 t."""
    return torch.tensor(1.0 * branch.control + 10.0 * branch.reference + 100.0 * branch.text)


@pytest.mark.parametrize(("text", "control", "reference"), list(product((1.0, 0.0, 6.0), (1.0, 2.0), (1.0, 3.0))))
def test_each_scale_multiplies_what_its_own_adds(text: float, control: float, reference: float) -> None:
    guidance = Guidance(text, control, reference=reference)
    branches = guidance.branches
    assert branches[0] == Branch(True, True, True) and len(branches) == 1 + sum(
        one != 1 for one in (text, control, reference)
    )
    assert len({one.name for one in branches}) == len(branches)
    mixed = guidance.mix([said(branch) for branch in branches])
    assert float(mixed) == pytest.approx(control + 10 * reference + 100 * text)


def test_dynamic_text_guidance_of_scale_one_still_mixes_all_passes() -> None:
    guidance = Guidance(6.0, dynamic=True, reference=2.0)
    parts = [said(branch) for branch in guidance.branches]
    assert float(guidance.mix(parts, 1.0)) == pytest.approx(1 + 20 + 100)


def shown(plan: VisualPrompt, level: int) -> VisualPrompt:
    clip = torch.full((len(plan), 3, 8, 8, 3), level, dtype=torch.uint8)
    return VisualPrompt(plan.skeleton, reference=ReferenceClip(clip, ("wave",) * len(plan)))


def noise(parts: Any) -> Noised:
    latents = torch.randn(2, 3, *parts.shape, generator=torch.Generator().manual_seed(1))
    return Noised(latents, torch.tensor([500, 20]), parts.words(("a", "b")), torch.zeros_like(latents))


def test_the_reference_is_amplified_against_the_model_without_it() -> None:
    guided = tiny_parts(conditioners=(Watched(32), Pooled(32)), reference_guidance=4.0)
    plain = tiny_parts(backbone=guided.backbone, conditioners=guided.conditioners)
    alone = tiny_parts(backbone=guided.backbone, conditioners=guided.conditioners[1:])
    start = shown(prompts(tiny_world(), 9, 2), 200)
    prepared = guided.prepare(start)
    given = noise(guided)

    def one(parts: Any, ready: Any) -> Tensor:
        with torch.no_grad():
            return parts.guided(lambda branch: parts.predict(given, branch, ready, {})[0], 500)

    with_it, without = one(plain, prepared), one(alone, prepared[1:])
    torch.testing.assert_close(one(guided, prepared), without + 4 * (with_it - without), rtol=0, atol=1e-4)
    assert float((with_it - without).abs().max()) > 1e-3


def test_without_a_scale_of_its_own_the_reference_is_part_of_control() -> None:
    both = tiny_parts(conditioners=(Watched(32), Pooled(32)), control_guidance=2.0)
    prepared, given = both.prepare(shown(prompts(tiny_world(), 9, 2), 200)), noise(both)
    silent = both.settings.guiding.branches[1]
    with torch.no_grad():
        alone = both.predict(given, silent, prepared, {})[0]
        bare = tiny_parts(backbone=both.backbone, conditioners=()).predict(given, Branch(True, True), (), {})[0]
    assert torch.equal(alone, bare)


@pytest.mark.parametrize("mode", ["stream", "chunk"])
def test_a_dream_moves_further_with_its_demonstration(mode: str) -> None:
    """Two demonstrations lead to dreams that differ more where the reference is amplified."""
    apart = {}
    for scale in (1.0, 6.0):
        world = tiny_world(mode=mode, conditioners=(Watched(32), Pooled(32)), reference_guidance=scale, rows_at_once=2)
        latents = []
        for level in (20, 220):
            state = world.encode(pictures(world, 2), shown(prompts(world, 1, 2), level), [1, 2])
            latents.append(world.step(state, next_prompt(world, rows=2))[1].float())
        apart[scale] = float((latents[0] - latents[1]).abs().mean())
    assert apart[6.0] > 1.5 * apart[1.0] > 0


def test_every_pass_knows_whether_it_has_the_caption() -> None:
    heard = []

    class Ear(Watched):
        def inject(self, prepared: Any, noised: Noised) -> Injection:
            heard.append(noised.captioned)
            return super().inject(prepared, noised)

    parts = tiny_parts(conditioners=(Ear(32),), guidance=3.0)
    prepared = parts.prepare(shown(prompts(tiny_world(), 9, 2), 9))
    with torch.no_grad():
        parts.guided(lambda branch: parts.predict(noise(parts), branch, prepared, {})[0], 500)
    assert heard == [True, False]


def test_what_cannot_be_is_named_at_construction() -> None:
    with pytest.raises(InvalidInput, match=r"guidance of the reference: given 2\.0, expected 1, because no cond"):
        tiny_parts(reference_guidance=2.0)
    with pytest.raises(InvalidInput, match=r"guidance of control: given 2\.0, expected 1, because nothing controls"):
        tiny_parts(conditioners=(Watched(32),), reference_guidance=2.0, control_guidance=2.0)
    with pytest.raises(InvalidInput, match="guidance of reference: given -1"):
        Guidance(reference=-1)
    with pytest.raises(InvalidInput, match=r"conditioners that bring a second stream: given \['Crowded', 'Crowded'\]"):
        tiny_parts(conditioners=(Crowded(32), Crowded(32)), mode="chunk")
    with pytest.raises(Unsupported, match="Crowded in stream mode: it reads the clip to its end"):
        tiny_parts(conditioners=(Crowded(32),))
    chunk = tiny_parts(conditioners=(Crowded(32),), mode="chunk")
    assert replace(chunk, conditioners=()).conditioners == ()
