"""The one protocol of conditioners: what they are given back, in streams and in chunks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.contracts.world_model import next_prompt, pictures, prompts
from tests.models.cogvideox.conftest import draw
from tests.models.cogvideox.control_tools import CODEC, prompt, small_control, wake
from tests.models.cogvideox.worlds import Demonstrated, Pooled, tiny_backbone, tiny_parts, tiny_world
from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.control_encoder import HISTORY
from vap_sim.models.cogvideox.control_form import control_for
from vap_sim.models.cogvideox.injection import Conditioner, Injection, Noised, Prepared
from vap_sim.models.cogvideox.prepared import carry_of, frames_of, goes_on, lasting_of, with_carry
from vap_sim.models.cogvideox.raw_action import ActionVector
from vap_sim.models.cogvideox.settings import Settings, defaults
from vap_sim.models.cogvideox.world import CogVideoXWorld
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt

MODES = ["stream", "chunk"]


def world_of(mode: str, **changes: Any) -> CogVideoXWorld:
    return tiny_world(mode=mode, conditioners=(Pooled(32), Demonstrated(32)), **changes)


def shown(plan: VisualPrompt, level: int, caption: str = "wave") -> VisualPrompt:
    """The prompt, and a demonstration of three frames of one grey."""
    clip = torch.full((len(plan), 3, 8, 8, 3), level, dtype=torch.uint8)
    return VisualPrompt(plan.skeleton, reference=ReferenceClip(clip, (caption,) * len(plan)))


def film(world: CogVideoXWorld, start: VisualPrompt, *, repeated: bool = False) -> Tensor:
    """Three steps, of which later prompts show the demonstration again or do not."""
    state = world.encode(pictures(world, 2), start, [1, 2])
    frames = []
    for number in range(3):
        told = next_prompt(world, number, 2)
        told = VisualPrompt(told.skeleton, reference=start.reference) if repeated else told
        state, made = world.step(state, told)
        frames.append(made)
    return torch.cat(frames, dim=2)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_told_at_the_start_lasts(mode: str) -> None:
    world = world_of(mode)
    start = prompts(world, 1, 2)
    once = film(world, shown(start, 200))
    assert torch.equal(once, film(world, shown(start, 200), repeated=True))
    for other in (shown(start, 20), shown(start, 200, "lift")):
        last = film(world, other)[:, :, -world.spec.frames_per_step :]
        assert not torch.equal(last, once[:, :, -world.spec.frames_per_step :])


@pytest.mark.parametrize("mode", MODES)
def test_rows_keep_what_lasts_apart(mode: str) -> None:
    world = world_of(mode)
    plan = prompts(world, 1, 2)
    clips = torch.stack([torch.full((3, 8, 8, 3), level, dtype=torch.uint8) for level in (200, 20)])
    both = film(world, VisualPrompt(plan.skeleton, reference=ReferenceClip(clips, ("wave", "lift"))))
    assert torch.equal(both[0], film(world, shown(plan, 200, "wave"))[0])
    assert torch.equal(both[1], film(world, shown(plan, 20, "lift"))[1])


@pytest.mark.parametrize("mode", MODES)
def test_a_missing_field_is_named_at_the_start(mode: str) -> None:
    world = world_of(mode)
    with pytest.raises(InvalidInput, match=r"VisualPrompt\.reference: given None, expected a demonstration"):
        world.encode(pictures(world, 2), prompts(world, 1, 2), [1, 2])


def test_a_chunk_keeps_what_lasts_and_a_stream_also_what_is_carried() -> None:
    kept = {}
    for mode in MODES:
        world = world_of(mode)
        state = world.encode(pictures(world, 2), shown(prompts(world, 1, 2), 9), [1, 2])
        after, _ = world.step(state, next_prompt(world, rows=2))
        names = [{name for name in one.context if name.startswith("told/")} for one in (state, after)]
        assert names[0] == names[1]
        kept[mode] = names[0]
    assert kept == {"stream": {"told/0/cells", "told/1/seen"}, "chunk": {"told/1/seen"}}


def test_marks_are_found_again_and_told_apart() -> None:
    one, two, three = (torch.full((2, 1), float(value)) for value in range(3))
    prepared = with_carry({"own": one}, {"past": two}, {"demonstration": three})
    assert carry_of(prepared) == {"past": two, "demonstration": three}
    assert lasting_of(prepared) == {"demonstration": three}
    assert carry_of(with_carry({"own": one}, {})) == {}
    frames = {count: VisualPrompt(torch.zeros(1, 1, count, 8, 8, 3, dtype=torch.uint8)) for count in (1, 4, 5, 8)}
    assert [goes_on(frames[count], {}) for count in (1, 4, 5, 8)] == [False, True, False, True]
    assert not any(goes_on(one, None) for one in frames.values())


@pytest.mark.parametrize("kind", ["skeleton", "raw"])
def test_a_clip_of_its_own_hears_nothing_of_what_is_carried(backbone: Backbone, kind: str) -> None:
    one: Conditioner = small_control(backbone) if kind == "skeleton" else ActionVector(backbone, joints=7, width=8)
    before = one.prepare(prompt(5, seed=1), CODEC)
    fresh, later = one.prepare(prompt(5), CODEC), one.prepare(prompt(5), CODEC, carry_of(before))
    assert fresh.keys() == later.keys() and all(torch.equal(fresh[name], later[name]) for name in fresh)


@pytest.mark.parametrize("form", ["skeleton", "raw_action"])
def test_a_stream_is_told_what_the_whole_clip_says(form: str) -> None:
    """With all settings by default, and for longer than the encoder looks back and the window reaches."""
    backbone, heard, steps = tiny_backbone("i2v"), [], HISTORY + 3
    control = control_for(form, backbone, joints=7)
    assert control is not None
    inject = control.inject

    def ear(prepared: Prepared, noised: Noised) -> Injection:
        heard.append(next(iter(frames_of(prepared).values())))
        return inject(prepared, noised)

    wake(control).requires_grad_(False).inject = ear
    settings = Settings(**{**defaults("stream", backbone.config, {}), "steps": 1, "renew": False})
    world = CogVideoXWorld(tiny_parts(backbone=backbone, conditioners=(control,), settings=settings))
    plan = VisualPrompt(prompts(world, 1 + 4 * steps, 1).skeleton, joints=draw(1, 1 + 4 * steps, 7))
    state = world.encode(pictures(world, 1), plan.between(0, 1), [3])
    for number in range(steps):
        state, _ = world.step(state, plan.between(1 + 4 * number, 5 + 4 * number))
    whole = next(iter(frames_of(control.prepare(plan, world.parts.codec)).values()))
    assert len(heard) == 1 + 2 * steps and float(whole.std()) > 1e-3
    told = torch.cat([heard[0], *heard[1::2]], dim=1)
    torch.testing.assert_close(told, whole, rtol=0, atol=1e-5)
