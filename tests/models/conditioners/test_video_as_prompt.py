"""Video-As-Prompt by the facts of its paper and release, and in dreams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.contracts.conditioner import FRAME_LEVELS, PIXELS, TEXT, demonstration, ready, told, whole_prompt
from tests.models.cogvideox.conftest import FRAMES, PATCHES, ROWS, SIZE, WORDS, draw, small_backbone
from tests.models.cogvideox.control_tools import CODEC, LEVELS, noised, run, wake
from tests.models.cogvideox.naive_block import asked, normal
from vap_sim.errors import InvalidInput, UnknownName, Unsupported
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.block import KeyStream, TokenStream
from vap_sim.models.cogvideox.codec import TinyCodec
from vap_sim.models.cogvideox.config import build_transformer, full_config, parameter_count
from vap_sim.models.cogvideox.lora import Lora
from vap_sim.models.cogvideox.memory import sequential_offload
from vap_sim.models.cogvideox.positions import rotary_table
from vap_sim.models.cogvideox.prepared import drop_rows, lasting_of
from vap_sim.models.conditioners.action_prism_reference import Resampled
from vap_sim.models.conditioners.video_as_prompt import LATENTS, PLAIN, VideoAsPrompt
from vap_sim.models.conditioners.video_as_prompt import WORDS as SAID
from vap_sim.models.conditioners.video_as_prompt_expert import expert_blocks, reference_positions, table_of
from vap_sim.models.conditioners.video_as_prompt_released import released_name
from vap_sim.prompts.visual_prompt import ReferenceClip


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """Do not change it."""
    return small_backbone().requires_grad_(False)


@pytest.fixture(scope="module")
def expert(backbone: Backbone) -> VideoAsPrompt:
    """Beside the first and the second of three blocks, awake. Do not change it."""
    return wake(VideoAsPrompt(backbone)).requires_grad_(False)


def stream(expert: VideoAsPrompt, **changes: Any) -> TokenStream:
    given = expert.inject(ready(expert, changes.pop("prompt", None)), noised(**changes)).stream
    assert isinstance(given, TokenStream)
    return given


def test_it_begins_as_an_exact_copy_named_by_the_suffix(backbone: Backbone) -> None:
    fresh, own = VideoAsPrompt(backbone, blocks=(0, 2)), backbone.transformer.state_dict()
    copied = fresh.expert.transformer.state_dict()
    partners = {name: released_name(name, fresh.blocks).replace("_mot_ref", "") for name in copied}
    assert all(torch.equal(copied[name], own[partner]) for name, partner in partners.items())
    left = {name for name in own if name not in partners.values()}
    assert {name.split(".")[0] for name in left if ".1." not in name} == {
        "norm_final", "norm_out", "proj_out", "patch_embed",
    }  # fmt: skip
    assert {name for name in left if name.startswith("patch_embed")} == {"patch_embed.pos_embedding"}
    assert {name.split(".")[1] for name in left if name.startswith("transformer_blocks")} == {"1"}
    assert table_of(fresh.expert) is table_of(backbone), "the learned table is shared"
    assert fresh.expert.blocks[0] is not backbone.blocks[0]
    with torch.no_grad():
        changed = told(backbone, [fresh])
    assert not torch.allclose(changed, run(backbone), atol=1e-3), "nothing is zero at first"


def test_at_full_size_it_has_the_released_number_of_parameters() -> None:
    backbone = Backbone(build_transformer(full_config("5b-i2v"), device="meta"))
    one = sum(value.numel() for value in backbone.blocks[0].parameters())
    entrance = 3072 * (32 * 4 + 1) + 3072 * (4096 + 1) + 512 * (3072 + 1) + 512 * (512 + 1)
    assert abs(one - 132.2e6) < 0.05e6 and abs(entrance - 14.8e6) < 0.05e6
    whole = VideoAsPrompt(backbone, device="meta")
    assert whole.blocks == tuple(range(41))
    assert parameter_count(whole) == 41 * one + entrance
    cheap = VideoAsPrompt(backbone, blocks="first_and_last", device="meta")
    assert cheap.blocks == (0, 40) and parameter_count(cheap) == 2 * one + entrance
    assert all(value.is_meta for value in whole.parameters())


def test_the_reference_stands_right_before_the_video() -> None:
    assert reference_positions(1, 13) == tuple(range(-13, 0))
    assert reference_positions(3, 13) == tuple(range(-39, 0))
    config = full_config("5b-i2v")
    mine, theirs = (rotary_table(config, (60, 90), range(first, first + 13)) for first in (-13, 0))
    time = config.head_width // 4
    for one, other in zip(mine, theirs, strict=True):
        assert torch.equal(one[:, time:], other[:, time:]), "in space as the video"
        assert not torch.equal(one[:, :time], other[:, :time])
    alone = rotary_table(config, (60, 90), [-1])
    assert all(torch.equal(a[-1350:], b) for a, b in zip(mine, alone, strict=True))


def test_the_stream_is_made_as_the_release_makes_it(backbone: Backbone, expert: VideoAsPrompt) -> None:
    """Latents beside their own first frame, the captions' words, each demonstration a clip of its own."""
    first, second = demonstration(seed=1), demonstration(seed=2)
    given = stream(expert, prompt=replace(whole_prompt(), reference=replace(first, more=(second,))))
    own = expert.expert
    for number, clip in enumerate((first, second)):
        latents = CODEC.encode(clip.frames)
        channels = torch.cat([latents[:, :1], torch.zeros_like(latents[:, 1:])], dim=1)
        tokens = own.embed(torch.cat([latents, channels], dim=2), TEXT.encode(clip.text))
        count, words = FRAMES * PATCHES, slice(number * WORDS, (number + 1) * WORDS)
        assert torch.equal(given.tokens.video[:, number * count : (number + 1) * count], tokens.video)
        assert torch.equal(given.tokens.text[:, words], tokens.text)
    table = own.rotary(SIZE, 2 * FRAMES, range(-2 * FRAMES, 0))
    assert all(torch.equal(a, b) for a, b in zip(given.rotary, table, strict=True))
    assert given.blocks.keys() == {0, 1}


@pytest.mark.parametrize(("timestep", "heard"), [(LEVELS, LEVELS), (FRAME_LEVELS, torch.tensor([999, 700]))])
def test_the_reference_hears_the_noise_level_of_the_video(
    expert: VideoAsPrompt, timestep: Tensor, heard: Tensor
) -> None:
    given = stream(expert, timestep=timestep)
    assert torch.equal(given.levels.frames, expert.expert.levels(heard, torch.float32).frames)
    assert torch.equal(given.tokens.video, stream(expert).tokens.video), "but stays clean"


def test_swapped_demonstrations_swap_what_is_predicted(backbone: Backbone, expert: VideoAsPrompt) -> None:
    whole = whole_prompt()
    both = noised(**{name: _twice(getattr(noised(), name)) for name in ("latents", "channels", "text", "timestep")})
    first = told(backbone, [expert], both, prompt=whole)
    swapped = replace(whole, reference=whole.reference.index([1, 0]))
    second = told(backbone, [expert], both, prompt=swapped)
    torch.testing.assert_close(first.flip(0), second, rtol=0, atol=1e-5)
    assert not torch.allclose(first[0], first[1], atol=1e-4)


def _twice(value: Tensor) -> Tensor:
    return torch.cat([value[:1], value[:1]])


def test_the_strength_goes_from_nothing_to_as_trained_and_on(backbone: Backbone, expert: VideoAsPrompt) -> None:
    bare, distances = run(backbone), []
    for scale in (1e-6, 0.5, 1.0, 4.0):
        other = VideoAsPrompt(backbone, scale=scale).requires_grad_(False)
        other.load_state_dict(expert.state_dict())
        distances.append(float((told(backbone, [other]) - bare).square().mean()))
    assert distances[0] < 1e-9 and distances == sorted(distances)
    assert torch.equal(told(backbone, [expert]), told(backbone, [_with(expert, backbone, scale=1)]))


def _with(expert: VideoAsPrompt, backbone: Backbone, **changes: Any) -> VideoAsPrompt:
    other = VideoAsPrompt(backbone, **{**expert.settings, **changes}).requires_grad_(False)
    other.load_state_dict(expert.state_dict())
    return other


def test_the_pass_of_the_empty_caption_blanks_that_of_the_reference(expert: VideoAsPrompt) -> None:
    prepared = ready(expert)
    for captioned, caption in ((True, demonstration(seed=3).text), (False, ("", ""))):
        given = expert.inject(prepared, noised(captioned=captioned)).stream
        told_so = replace(whole_prompt(), reference=ReferenceClip(demonstration(seed=3).frames, caption))
        assert torch.equal(given.tokens.text, stream(expert, prompt=told_so).tokens.text)
    kept = lasting_of(prepared)
    assert kept[LATENTS].shape == (ROWS, FRAMES, 4, *SIZE) and kept[SAID].shape == kept[PLAIN].shape


def test_one_way_the_reference_looks_at_itself_alone(backbone: Backbone) -> None:
    one = wake(VideoAsPrompt(backbone, one_way=True)).requires_grad_(False)
    given = [one.inject(ready(one), noised(timestep=level)).stream for level in (LEVELS, LEVELS * 0)]
    assert all(isinstance(own, KeyStream) for own in given)
    both = _with(one, backbone, one_way=False)
    clean = stream(both, timestep=LEVELS * 0)
    inner, _ = normal(one.expert.blocks[0].norm1, clean.tokens, clean.levels)
    _, keys, values = asked(one.expert.blocks[0].attn1, inner, clean.rotary)
    for own in given:
        torch.testing.assert_close(own.keys[0][0], keys, rtol=0, atol=1e-5)
        torch.testing.assert_close(own.keys[0][1], values, rtol=0, atol=1e-5)
    assert not torch.allclose(given[0].keys[0][0], given[0].keys[1][0], atol=1e-2)


@pytest.mark.parametrize("one_way", [False, True])
def test_all_of_the_expert_learns(backbone: Backbone, one_way: bool) -> None:
    one = VideoAsPrompt(backbone, blocks=(0, 1, 2), one_way=one_way)
    prepared = one.prepare(whole_prompt(), CODEC, text=TEXT)
    run(backbone, one.inject(prepared, noised())).square().mean().backward()
    silent = {name for name, value in one.named_parameters() if value.grad is None or not value.grad.any()}
    last = [name for name in silent if name.startswith("expert.transformer.transformer_blocks.2.")]
    assert len(silent) == len(last) == 6 + 4 + 4, "queries and output, second norm and feed-forward of the last block"
    assert silent == {name for name, value in one.named_parameters() if not value.requires_grad}


def test_training_uses_the_same_weights_whatever_rows_are_dropped(backbone: Backbone) -> None:
    for rows in ([False, True], [True, True]):
        one = VideoAsPrompt(backbone)
        prepared = drop_rows(one.prepare(whole_prompt(), CODEC, text=TEXT), torch.tensor(rows))
        out = run(backbone, one.inject(prepared, noised()))
        out.square().mean().backward()
        learning = [value for value in one.parameters() if value.requires_grad]
        assert all(value.grad is not None and bool(value.grad.isfinite().all()) for value in learning)
        assert any(value.grad.any() for value in learning) == (not all(rows))
        assert torch.allclose(out[1], run(backbone)[1], atol=1e-5)


@pytest.mark.parametrize(
    ("choice", "count", "expected"),
    [
        ("released", 42, tuple(range(41))),
        ("first_and_last", 42, (0, 40)),
        ("every_second", 6, (1, 3, 5)),
        ("first_half", 42, tuple(range(21))),
        ("all", 3, (0, 1, 2)),
        ("released", 1, (0,)),
        ("first_and_last", 1, (0,)),
        ([1, 4], 6, (1, 4)),
    ],
)
def test_blocks_are_chosen_by_name_or_number(choice: Any, count: int, expected: tuple[int, ...]) -> None:
    assert expert_blocks(choice, count) == expected


def test_a_demonstration_of_another_length_or_size_is_resampled_with_a_note(expert: VideoAsPrompt) -> None:
    odd = ReferenceClip(torch.zeros(ROWS, 7, 20, 30, 3, dtype=torch.uint8), ("a", "b"))
    with pytest.warns(Resampled, match=f"from 7 to {PIXELS} frames and from 30 x 20 to 96 x 64 pixels"):
        prepared = ready(expert, replace(whole_prompt(), reference=odd))
    assert lasting_of(prepared)[LATENTS].shape == (ROWS, FRAMES, 4, *SIZE)


def _lora(backbone: Backbone) -> object:
    undo = Lora(rank=2).install(backbone)
    try:
        return VideoAsPrompt(backbone)
    finally:
        undo()


def _shown(one: VideoAsPrompt, **changes: Any) -> object:
    clip = replace(demonstration(), **changes)
    return one.prepare(replace(whole_prompt(), reference=clip), CODEC, text=TEXT)


Case = Callable[[VideoAsPrompt, Backbone], object]


@pytest.mark.parametrize(
    ("case", "error", "message"),
    [
        (lambda v, b: VideoAsPrompt(b, blocks="firstandlast"), UnknownName, "Did you mean 'first_and_last'"),
        (lambda v, b: VideoAsPrompt(b, blocks=(1, 0)), InvalidInput, r"expert blocks: given \[1, 0\], expected rising"),
        (lambda v, b: VideoAsPrompt(b, blocks=()), InvalidInput, r"expert blocks: given \[\]"),
        (lambda v, b: VideoAsPrompt(b, frames=9), InvalidInput, "latent frames of a demonstration: given 9, .* 2 to 4"),
        (lambda v, b: VideoAsPrompt(b, scale=-1), InvalidInput, "scale of a conditioner"),
        (lambda v, b: VideoAsPrompt(b, device="cuda"), InvalidInput, "device of an expert"),
        (lambda v, b: _lora(small_backbone()), InvalidInput, "backbone: given one with LoRA"),
        (lambda v, b: VideoAsPrompt(small_backbone("2b")), Unsupported, "without rotary positions"),
        (
            lambda v, b: v.install(small_backbone("5b")),
            InvalidInput,
            "in_channels of the backbone: given 4, ",
        ),
        (lambda v, b: _shown(v, text=None), InvalidInput, "ReferenceClip.text: given None, expected a caption a row"),
        (
            lambda v, b: _shown(v, frames=demonstration(frames=1).frames),
            InvalidInput,
            r"ReferenceClip.frames: given \(2, 1",
        ),
        (lambda v, b: v.prepare(whole_prompt(), CODEC), InvalidInput, "text encoder of Video-As-Prompt"),
        (lambda v, b: v.prepare(whole_prompt(), TinyCodec(3), text=TEXT), InvalidInput, "latent channels of the codec"),
        (lambda v, b: v.prepare(whole_prompt(), CODEC, {}, text=TEXT), InvalidInput, "kept of a demonstration"),
        (lambda v, b: v.inject({}, noised()), InvalidInput, "kept of a demonstration: given .*, expected 'reference'"),
        (lambda v, b: v.inject(ready(v), noised(collect=True)), Unsupported, "make it with one_way=True"),
        (lambda v, b: v.inject(ready(v), noised(text=None)), Unsupported, "masked or cached frames"),
        (
            lambda v, b: v.inject(ready(v), noised(latents=draw(1, 4, 4, *SIZE))),
            InvalidInput,
            "rows of the demonstration: given 2, expected 1",
        ),
        (
            lambda v, b: v.inject(ready(v), noised(latents=draw(2, 4, 4, 4, 6))),
            InvalidInput,
            r"size \(h, w\) of the demonstration: given \(8, 12\), expected \(4, 6\)",
        ),
        (
            lambda v, b: v.prepare(
                replace(whole_prompt(), reference=replace(demonstration(), more=(demonstration(),))),
                CODEC,
                lasting_of(ready(v)),
                text=TEXT,
            ),
            InvalidInput,
            "'reference' of a later demonstration: .* as at the start of the dream",
        ),
    ],
)
def test_bad_input_is_named(
    expert: VideoAsPrompt, backbone: Backbone, case: Case, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        case(expert, backbone)


def test_offloaded_layer_by_layer_it_says_the_same(expert: VideoAsPrompt, backbone: Backbone) -> None:
    pytest.importorskip("accelerate")
    host, other = small_backbone().requires_grad_(False), _with(expert, backbone)
    expected = told(host, [other])
    sequential_offload(host, "cpu")
    sequential_offload(other, "cpu")
    assert next(other.parameters()).is_meta
    torch.testing.assert_close(told(host, [other]), expected, rtol=0, atol=1e-5)


def test_rows_without_reference_cost_nothing_where_all_are(expert: VideoAsPrompt) -> None:
    none = drop_rows(ready(expert), torch.tensor([True, True]))
    with torch.no_grad():
        assert expert.inject(none, noised()).stream is None
