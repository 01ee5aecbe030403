"""AICL on CogVideoX: what is heard, by whom, from when on, and that nothing is heard untrained."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.cogvideox.conftest import FRAMES, PATCHES, ROWS, SIZE, WORDS, draw, small_backbone
from tests.models.cogvideox.control_tools import CODEC, noised, prompt, run, small_control, wake
from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.codec import TinyCodec
from vap_sim.models.cogvideox.config import build_transformer, full_config, parameter_count
from vap_sim.models.cogvideox.injection import Prepared, combine
from vap_sim.models.cogvideox.lora import freeze_backbone
from vap_sim.models.cogvideox.prepared import carry_of, drop_rows, frames_of, lasting_of, with_carry
from vap_sim.models.cogvideox.text import HashedWords
from vap_sim.models.conditioners.action_prism import DISTANCE, MOTION, PLACE, ActionPrism
from vap_sim.models.conditioners.action_prism_reference import Resampled, resampled
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt

TEXT = HashedWords(WORDS, 8)
PIXELS = 1 + 4 * (FRAMES - 1)
TINY: dict[str, Any] = {"preset": "tiny", "blocks": (0, 2)}


def clip(seed: int = 0, frames: int = PIXELS, rows: int = ROWS, size: tuple[int, int] | None = None) -> ReferenceClip:
    """Noise of the prompts' own size, a caption a row."""
    size = (8 * SIZE[0], 8 * SIZE[1]) if size is None else size
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randint(0, 256, (rows, frames, *size, 3), dtype=torch.uint8, generator=generator)
    return ReferenceClip(pictures, tuple(f"action {seed} {row}" for row in range(rows)))


def shown(reference: ReferenceClip | None, frames: int = PIXELS) -> VisualPrompt:
    return replace(prompt(frames), reference=reference, text=("lift", "push"))


@pytest.fixture(scope="module")
def prism(backbone: Backbone) -> ActionPrism:
    """Awake. Do not change it."""
    return wake(ActionPrism(backbone, **TINY)).requires_grad_(False)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """Do not change it."""
    return small_backbone()


def heard(prism: ActionPrism, prepared: Prepared, given: Any = None) -> Tensor:
    """What block 0 adds to fixed tokens."""
    given = given or noised()
    tokens = draw(len(given.latents), given.latents.shape[1] * PATCHES, 32, seed=7)
    return prism.inject(prepared, given).cross[0](tokens)


def test_untrained_or_at_scale_zero_the_host_keeps_its_bits(backbone: Backbone) -> None:
    for scale in (1, 0):
        fresh = ActionPrism(backbone, scale=scale, **TINY).requires_grad_(False)
        for given in (noised(), noised(timestep=torch.tensor([[0, 5, 5, 9], [0, 0, 8, 8]]))):
            added = fresh.inject(fresh.prepare(shown(clip()), CODEC, text=TEXT), given)
            assert set(added.cross) == (set() if scale == 0 else {0, 2})
            with torch.no_grad():
                assert torch.equal(run(backbone, added, given), run(backbone, None, given))


def test_by_default_every_third_block_listens_and_the_size_is_pinned() -> None:
    full = ActionPrism(Backbone(build_transformer(full_config("5b-i2v"), device="meta")))
    assert full.blocks == (1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34, 37, 40)
    norm, question, answer, times = 2 * 3072, 2 * 3072 * 1536 + 3072, 2 * 1024 * 1536, 25 * 24
    assert parameter_count(full.listeners) == 14 * (norm + question + answer + times) == 176_298_192
    assert parameter_count(full.encoder) == 322_297_152
    assert full.sizes.frames == 13 and {value.device.type for value in full.parameters()} == {"meta"}


def test_gradients_reach_every_part_after_one_step() -> None:
    backbone = small_backbone()
    freeze_backbone(backbone)
    prism = ActionPrism(backbone, **TINY)
    optimiser = torch.optim.SGD(prism.parameters(), lr=0.1)

    def moved() -> set[str]:
        optimiser.zero_grad()
        given = prism.inject(prism.prepare(shown(clip()), CODEC, text=TEXT), noised())
        run(backbone, given).square().mean().backward()
        return {name for name, value in prism.named_parameters() if value.grad is not None and bool(value.grad.any())}

    silent = {f"listeners.{block}.attention.to_out.{part}" for block in (0, 2) for part in ("weight", "bias")}
    assert moved() == silent
    optimiser.step()
    assert moved() == {name for name, _ in prism.named_parameters()}
    assert not any(value.requires_grad for value in backbone.parameters())


def test_references_that_change_rows_change_outputs_and_nothing_else(backbone: Backbone, prism: ActionPrism) -> None:
    """The guard against AICL's released code, where a batch mixes its references up. Rows differ in nothing else."""
    alike = noised(latents=draw(1, FRAMES, 4, *SIZE).expand(2, -1, -1, -1, -1), timestep=torch.tensor([500, 500]))
    alike = replace(alike, channels=alike.latents, text=alike.text[:1].expand(2, -1, -1))
    same = replace(shown(clip()), text=("lift", "lift"))
    swapped = replace(same, reference=same.reference.index([1, 0]))
    ours, theirs = (
        run(backbone, prism.inject(prism.prepare(p, CODEC, text=TEXT), alike), alike) for p in (same, swapped)
    )
    assert torch.allclose(ours, theirs.flip(0), atol=1e-5)
    assert float((ours[0] - ours[1]).abs().amax().detach()) > 1e-3
    alone = replace(same, reference=clip(1)).index([0])
    mixed = replace(
        same,
        reference=ReferenceClip(torch.cat([alone.reference.frames, clip().frames[1:]]), ("action 1 0", "action 0 1")),
    )
    both = heard(prism, prism.prepare(mixed, CODEC, text=TEXT))
    one = prism.prepare(alone, CODEC, text=TEXT)
    assert torch.allclose(heard(prism, one, noised(latents=alike.latents[:1]))[0], both[0], atol=1e-5)


def test_several_references_are_listened_to_at_once(prism: ActionPrism) -> None:
    first, second = clip(1), clip(2)

    def told(*clips: ReferenceClip) -> Tensor:
        joined = replace(clips[0], more=clips[1:])
        return heard(prism, prism.prepare(shown(joined), CODEC, text=TEXT))

    assert torch.allclose(told(first, second), told(second, first), atol=1e-5), "in any order"
    assert torch.allclose(told(first, first, first), told(first), atol=1e-5), "twice the same says no more"
    for one in (first, second):
        assert float((told(first, second) - told(one)).abs().amax()) > 1e-3


def test_it_depends_on_the_demonstration_its_captions_and_the_wanted_caption(prism: ActionPrism) -> None:
    base = shown(clip())
    others = [
        replace(base, reference=replace(clip(1), text=base.reference.text)),
        replace(base, reference=replace(base.reference, text=("other", "words"))),
        replace(base, text=("other", "words")),
    ]
    said = heard(prism, prism.prepare(base, CODEC, text=TEXT))
    for other in others:
        assert float((heard(prism, prism.prepare(other, CODEC, text=TEXT)) - said).abs().amax()) > 1e-4
    assert torch.equal(heard(prism, prism.prepare(base, CODEC, text=TEXT), noised(timestep=torch.tensor([3, 4]))), said)


def test_what_is_said_last_holds_and_a_stream_counts_on(prism: ActionPrism) -> None:
    first = prism.prepare(shown(clip()), CODEC, text=TEXT)
    later = prism.prepare(shown(None, 8), CODEC, carry_of(first), text=None)
    again = prism.prepare(shown(clip(), 8), CODEC, carry_of(first), text=TEXT)
    assert torch.equal(lasting_of(later)[MOTION], lasting_of(first)[MOTION])
    assert later.keys() == again.keys() and all(torch.equal(later[name], again[name]) for name in later)
    assert frames_of(first)[DISTANCE][0].tolist() == [
        [place - moment // 2 for moment in range(8)] for place in range(4)
    ]
    assert torch.equal(frames_of(later)[DISTANCE], frames_of(first)[DISTANCE][:, -1:].expand(-1, 2, -1)), "it is over"
    assert [int(carry_of(one)[PLACE][0]) for one in (first, later)] == [4, 6]
    fresh = prism.prepare(shown(None), CODEC, carry_of(later))
    assert torch.equal(fresh[DISTANCE], first[DISTANCE]), "a clip of its own begins anew"
    start = prism.prepare(shown(clip(), 1), CODEC, text=TEXT)
    rest = prism.prepare(shown(None, PIXELS - 1), CODEC, carry_of(start))
    assert torch.equal(torch.cat([start[DISTANCE], rest[DISTANCE]], dim=1), first[DISTANCE]), "a stream counts on"
    assert {name: value.shape for name, value in carry_of(later).items()} == {
        name: value.shape for name, value in carry_of(first).items()
    }


def test_what_a_frame_hears_depends_on_when_it_is_until_the_end(prism: ActionPrism) -> None:
    start, said = prism.prepare(shown(clip(), 1), CODEC, text=TEXT), []
    for number in (0, 2, 3, 90):
        told = prism.prepare(shown(None, 4), CODEC, {**carry_of(start), PLACE: torch.full((ROWS, 1), number)})
        said.append(heard(prism, told, noised(latents=draw(ROWS, 1, 4, *SIZE))))
    assert torch.equal(said[2], said[3])
    assert all(float((one - other).abs().amax()) > 1e-4 for one, other in zip(said[:2], said[1:3], strict=True))


def test_a_frame_can_listen_to_its_own_moment_alone(backbone: Backbone) -> None:
    prism = wake(ActionPrism(backbone, **TINY)).requires_grad_(False)
    for listener in prism.listeners.values():
        listener.time.table.copy_(-100.0 * torch.arange(1 - FRAMES, FRAMES).abs()[:, None].expand(-1, 1))
    prepared = prism.prepare(shown(clip()), CODEC, text=TEXT)
    motion = lasting_of(prepared)[MOTION].clone()
    motion[:, prism.sizes.tokens * 2 : prism.sizes.tokens * 3] += draw(32)
    changed = (heard(prism, with_carry(prepared, {}, {MOTION: motion})) - heard(prism, prepared)).abs().amax(2)
    moved = changed.reshape(ROWS, FRAMES, PATCHES).amin((0, 2)) > 1e-3
    assert moved.tolist() == [False, False, True, False]


def test_of_more_frames_the_newest_listen(prism: ActionPrism) -> None:
    prepared = prism.prepare(shown(clip()), CODEC, text=TEXT)
    newest = {**prepared, DISTANCE: prepared[DISTANCE][:, -1:]}
    one = noised(latents=draw(ROWS, 1, 4, *SIZE))
    assert torch.equal(heard(prism, prepared, one), heard(prism, newest, one))


def test_strength_and_dropped_rows(backbone: Backbone, prism: ActionPrism) -> None:
    prepared = prism.prepare(shown(clip()), CODEC, text=TEXT)
    half = ActionPrism(backbone, **{**prism.settings, "scale": 0.5}).requires_grad_(False)
    half.load_state_dict(prism.state_dict())
    assert torch.allclose(heard(half, prepared), heard(prism, prepared) / 2, atol=1e-6)
    dropped = drop_rows(prepared, torch.tensor([True, False]))
    with torch.no_grad():
        without, with_it, bare = (
            run(backbone, None if one is None else prism.inject(one, noised())) for one in (dropped, prepared, None)
        )
    assert torch.equal(without[0], bare[0]) and torch.allclose(without[1], with_it[1], atol=1e-6)
    assert float((with_it - bare).abs().amax()) > 1e-3


def test_beside_a_skeleton_the_order_is_irrelevant(backbone: Backbone, prism: ActionPrism) -> None:
    control, told = small_control(backbone), shown(clip())
    with torch.no_grad():
        both = [one.inject(one.prepare(told, CODEC, text=TEXT), noised()) for one in (control, prism)]
        assert torch.equal(run(backbone, combine(both)), run(backbone, combine(both[::-1])))
        alone = [run(backbone, one) for one in both]
        together = run(backbone, combine(both))
    assert all(float((together - one).abs().amax()) > 1e-3 for one in alone)


def test_other_weights_types_than_the_backbones_serve_too(backbone: Backbone, prism: ActionPrism) -> None:
    fine = ActionPrism(backbone, **prism.settings).double().requires_grad_(False)
    fine.load_state_dict(prism.state_dict())
    told = shown(clip())
    said = heard(fine, fine.prepare(told, CODEC, text=TEXT))
    assert said.dtype == torch.float32
    assert torch.allclose(said, heard(prism, prism.prepare(told, CODEC, text=TEXT)), atol=1e-5)


def test_a_clip_of_other_length_or_size_is_resampled_with_a_note(prism: ActionPrism) -> None:
    large = clip(frames=2 * PIXELS - 1, size=(32, 48))
    with pytest.warns(Resampled, match="from 25 to 13 frames and from 48 x 32 to 96 x 64 pixels"):
        prepared = prism.prepare(shown(large), CODEC, text=TEXT)
    with pytest.warns(Resampled):
        frames = resampled(large.frames, PIXELS, (96, 64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitting = prism.prepare(shown(ReferenceClip(frames, large.text)), CODEC, text=TEXT)
    assert torch.equal(lasting_of(prepared)[MOTION], lasting_of(fitting)[MOTION])


def test_resampling_keeps_both_ends_and_flat_colours() -> None:
    ramp = torch.arange(9, dtype=torch.uint8)[None, :, None, None, None].expand(1, 9, 4, 6, 3)
    with pytest.warns(Resampled):
        assert resampled(ramp, 5, (6, 4))[0, :, 0, 0, 0].tolist() == [0, 2, 4, 6, 8]
    with pytest.warns(Resampled):
        more = resampled(ramp, 17, (3, 8))
    assert more.shape == (1, 17, 8, 3, 3) and more[0, :, 3, 1, 0].tolist() == sorted(more[0, :, 3, 1, 0].tolist())
    assert (more == more[:, :, :1, :1]).all() and more[0, [0, -1], 0, 0, 0].tolist() == [0, 8]


CLIP = clip()
BAD: list[tuple[Callable[[Backbone, ActionPrism], object], str]] = [
    (
        lambda b, p: p.prepare(shown(None), CODEC, text=TEXT),
        r"VisualPrompt\.reference: given None, expected a demonstr",
    ),
    (lambda b, p: p.prepare(shown(replace(CLIP, text=None)), CODEC, text=TEXT), r"ReferenceClip\.text: given None"),
    (lambda b, p: p.prepare(shown(CLIP), CODEC), "text encoder of an action prism: given None"),
    (lambda b, p: p.prepare(shown(clip(frames=1)), CODEC, text=TEXT), r"ReferenceClip\.frames: .* at least 2"),
    (lambda b, p: p.prepare(shown(clip(frames=0)), CODEC, text=TEXT), r"ReferenceClip\.frames: given \(2, 0, 64"),
    (lambda b, p: p.prepare(shown(CLIP), TinyCodec(5), text=TEXT), "latent channels of the codec: given 5, expected 4"),
    (lambda b, p: p.prepare(shown(CLIP, 12), CODEC, text=TEXT), "pixel frames at the start of a clip: given 12"),
    (lambda b, p: p.prepare(shown(None, 4), CODEC, {}), "'motion' of an action prism's carry: given missing"),
    (
        lambda b, p: p.prepare(
            shown(replace(CLIP, more=(CLIP,)), 4), CODEC, {"motion": torch.zeros(2, 8, 32)}, text=TEXT
        ),
        r"'motion' of an action prism's carry: given \(2, 8, 32\), expected \(2, 16, 32\)",
    ),
    (lambda b, p: p.inject({}, noised()), "prepared of an action prism: given .., expected what its `prepare` made"),
    (
        lambda b, p: p.inject(p.prepare(shown(CLIP, 5), CODEC, text=TEXT), noised()),
        r"rows and latent frames of the prompt: given \(2, 2\), expected \(2, 4\)",
    ),
    (lambda b, p: p.install(small_backbone("5b")), "in_channels of the backbone: given 4, expected 8"),
    (
        lambda b, p: ActionPrism(b, blocks=(0, 3)),
        r"blocks that listen: given \[0, 3\], expected rising numbers of 0 .. 2",
    ),
    (lambda b, p: ActionPrism(b, blocks=()), "at least one"),
    (lambda b, p: ActionPrism(b, blocks=(2, 1)), "rising"),
    (lambda b, p: ActionPrism(b, scale=-1.0), "scale of a conditioner: given -1.0"),
    (lambda b, p: ActionPrism(b, preset="tiny", frames=1), "frames of a prism: given 1"),
]


@pytest.mark.parametrize(("call", "words"), BAD)
def test_bad_input_is_named(
    backbone: Backbone, prism: ActionPrism, call: Callable[[Backbone, ActionPrism], object], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        call(backbone, prism)


def test_an_odd_size_of_the_prompt_is_named(prism: ActionPrism) -> None:
    odd = VisualPrompt(torch.zeros(2, 1, 13, 24, 40, 3, dtype=torch.uint8), reference=CLIP)
    with pytest.raises(InvalidInput, match=r"size of the prompt: given \(40, 24\), expected multiples of 16 pixels"):
        prism.prepare(odd, CODEC, text=TEXT)
