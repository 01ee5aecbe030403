"""What the control branch adds: nothing at first, nothing at scale 0, else what the drawing of its row says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.models.cogvideox.conftest import FRAMES, PATCHES, ROWS, SIZE, WORDS, draw, small_backbone, words
from tests.models.cogvideox.control_tools import CODEC, SMALL, noised, prompt, run, small_control, twin, wake
from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.block import Shared, walk
from vap_sim.models.cogvideox.cache import KeyValueCache, causal_mask
from vap_sim.models.cogvideox.codec import TinyCodec
from vap_sim.models.cogvideox.config import build_transformer, full_config, parameter_count
from vap_sim.models.cogvideox.injection import Noised
from vap_sim.models.cogvideox.lora import freeze_backbone
from vap_sim.models.cogvideox.memory import checkpoint_blocks
from vap_sim.models.cogvideox.prepared import carry_of, drop_rows
from vap_sim.models.cogvideox.skeleton_control import CONTROL, SkeletonControl

CLEAN = torch.zeros(ROWS, dtype=torch.int64)


@pytest.fixture(scope="module")
def control(backbone: Backbone) -> SkeletonControl:
    """Do not change it."""
    return small_control(backbone)


@pytest.mark.parametrize("kind", ["2b", "5b", "5b-i2v"])
def test_untrained_it_changes_nothing(backbones: dict[str, Backbone], kind: str) -> None:
    backbone = backbones[kind]
    fresh = SkeletonControl(backbone, **SMALL)
    given = noised() if kind == "5b-i2v" else noised(channels=None)
    with torch.no_grad():
        injection = fresh.inject(fresh.prepare(prompt(), CODEC), given)
        assert set(injection.residuals) == {0}, "a third of three blocks"
        assert injection.input_add is not None
        latents = given.latents if given.channels is None else torch.cat([given.latents, given.channels], dim=2)
        bare = backbone(latents, given.timestep, words())
        assert torch.equal(backbone(latents, given.timestep, words(), injection), bare)


def test_the_copied_blocks_see_at_first_what_the_backbone_sees(backbone: Backbone) -> None:
    """So what comes out of copy i is what comes out of block i."""
    fresh = SkeletonControl(backbone, blocks=2, input_path=False, **SMALL)
    for projection in fresh.projections:
        torch.nn.init.eye_(projection.weight)
    given = noised()
    with torch.no_grad():
        injection = fresh.inject(fresh.prepare(prompt(), CODEC), given)
        tokens = backbone.embed(torch.cat([given.latents, given.channels], dim=2), given.text)
        shared = Shared(backbone.levels(given.timestep, torch.float32), backbone.rotary(SIZE, FRAMES))
        for step in walk(list(backbone.blocks)[:2], tokens, shared):
            assert torch.allclose(injection.residuals[step.index], step.tokens.video, atol=1e-5)


def test_gradients_reach_the_encoder_after_one_step_and_before_it_only_what_is_zero() -> None:
    backbone = small_backbone()
    freeze_backbone(backbone)
    control = SkeletonControl(backbone, **SMALL)
    optimiser = torch.optim.SGD(control.parameters(), lr=0.1)

    def moved() -> set[str]:
        optimiser.zero_grad()
        run(backbone, control.inject(control.prepare(prompt(), CODEC), noised())).square().mean().backward()
        named = control.named_parameters()
        return {name.split(".")[0] for name, value in named if value.grad is not None and bool(value.grad.any())}

    assert all(value.requires_grad for value in control.parameters()), "copied from frozen ones though they are"
    assert moved() == {"projections", "input_projection"}
    optimiser.step()
    assert moved() == {"projections", "input_projection", "encoder", "branch"}
    assert all(value.grad is None for value in backbone.parameters())


def test_scale_zero_is_removal_and_scale_multiplies(backbone: Backbone, control: SkeletonControl) -> None:
    prepared = control.prepare(prompt(), CODEC)
    none, half = (twin(control, backbone, scale=scale) for scale in (0, 0.5))
    empty, weak, full = (one.inject(prepared, noised()) for one in (none, half, control))
    assert empty.input_add is None
    assert not empty.residuals
    assert torch.allclose(2 * weak.residuals[1], full.residuals[1])
    assert torch.allclose(2 * weak.input_add, full.input_add)
    with torch.no_grad():
        assert torch.equal(run(backbone, empty), run(backbone))
        assert not torch.allclose(run(backbone, full), run(backbone), atol=1e-3)


def test_install_and_its_undoing_leave_the_backbone_alone(backbone: Backbone, control: SkeletonControl) -> None:
    names, before = list(backbone.state_dict()), {name: value.clone() for name, value in backbone.state_dict().items()}
    undo = control.install(backbone)
    undo()
    assert list(backbone.state_dict()) == names
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_rows_do_not_leak_and_dropped_ones_get_nothing(backbone: Backbone, control: SkeletonControl) -> None:
    prepared, other = control.prepare(prompt(), CODEC), control.prepare(prompt(seed=4), CODEC)
    mixed = {name: torch.cat([value[:1], other[name][1:]]) for name, value in prepared.items()}
    dropped = drop_rows(drop_rows(prepared, torch.tensor([False, True])), torch.tensor([False, False]))
    with torch.no_grad():
        ours, theirs, none, bare = (
            run(backbone, injection)
            for injection in (*(control.inject(one, noised()) for one in (prepared, mixed, dropped)), None)
        )
    assert torch.equal(ours[0], theirs[0])
    assert not torch.allclose(ours[1], theirs[1], atol=1e-4)
    assert torch.equal(none[1], bare[1])
    assert torch.equal(none[0], ours[0])
    with pytest.raises(InvalidInput, match=r"rows to drop: given torch.bool \(3,\), expected torch.bool \(2,\)"):
        drop_rows(prepared, torch.zeros(3, dtype=torch.bool))


def test_each_path_can_be_left_out(backbone: Backbone) -> None:
    """The two alone add what both together do."""
    both, branch, entrance = (
        SkeletonControl(backbone, blocks=2, **SMALL, **paths).requires_grad_(False)
        for paths in ({}, {"input_path": False}, {"branch": False})
    )
    wake(both)
    for one in (branch, entrance):
        one.load_state_dict({name: both.state_dict()[name] for name in one.state_dict()})
    whole, only_branch, only_entrance = (
        one.inject(one.prepare(prompt(), CODEC), noised()) for one in (both, branch, entrance)
    )
    assert only_branch.input_add is None
    assert not only_entrance.residuals
    assert torch.equal(only_branch.residuals[1], whole.residuals[1])
    assert torch.equal(only_entrance.input_add, whole.input_add)
    assert entrance.past(KeyValueCache(*[torch.zeros(1, 1, 1, 2, 4)] * 2, 0, 1), [0, 1], SIZE) is None
    assert [one.settings["blocks"] for one in (both, branch, entrance)] == [2, 2, None]
    with pytest.raises(InvalidInput, match="paths of a skeleton control: given none"):
        SkeletonControl(backbone, branch=False, input_path=False)


@pytest.mark.parametrize("kind", ["2b", "5b-i2v"])
def test_cached_equals_uncached(backbones: dict[str, Backbone], kind: str) -> None:
    """The branch's cache and the encoder's carry beside the backbone's cache, frame by frame under a causal mask."""
    backbone = backbones[kind]
    control = small_control(backbone)
    whole = noised() if kind == "5b-i2v" else noised(channels=None)
    levels = torch.zeros(ROWS, FRAMES, dtype=torch.int64)
    levels[:, -1] = 600
    whole = replace(whole, timestep=levels, text_timestep=CLEAN, mask=causal_mask([1] * FRAMES, PATCHES, WORDS))
    told = prompt()

    def both(given: Noised, prepared: Any, past: Any) -> Any:
        injection = control.inject(prepared, given)
        latents = given.latents if given.channels is None else torch.cat([given.latents, given.channels], dim=2)
        out = backbone(
            latents, given.timestep, given.text, injection,
            text_timestep=CLEAN, positions=given.positions, mask=given.mask, past=past, collect=given.collect,
        )  # fmt: skip
        return out, injection.cache

    with torch.no_grad():
        expected, _ = both(whole, control.prepare(told, CODEC), None)
        main = own = carry = None
        for frame in range(FRAMES):
            first, last = max(0, 4 * frame - 3), 4 * frame + 1
            prepared = control.prepare(told.between(first, last), CODEC, carry)
            carry = carry_of(prepared)
            here = slice(frame, frame + 1)
            given = replace(
                whole,
                latents=whole.latents[:, here],
                channels=None if whole.channels is None else whole.channels[:, here],
                timestep=levels[:, here],
                text=None if frame else words(),
                positions=[frame],
                mask=None if frame else causal_mask([1], PATCHES, WORDS),
                past=None if own is None else control.past(own, range(frame), SIZE),
                collect=True,
            )
            past = None if main is None else backbone.past(main, range(frame), SIZE)
            (part, new_main), new_own = both(given, prepared, past)
            assert torch.allclose(part, expected[:, here], atol=1e-4)
            main = new_main if main is None else main.append(new_main)
            own = new_own if own is None else own.append(new_own)
    assert own.frames == FRAMES
    assert own.text == WORDS
    assert own.keys.shape[1] == 2


def test_a_prompt_of_more_frames_is_of_the_newest(control: SkeletonControl) -> None:
    prepared = control.prepare(prompt(), CODEC)
    given = noised()
    newest = replace(given, latents=given.latents[:, -2:], channels=given.channels[:, -2:])
    cut = {**prepared, CONTROL: prepared[CONTROL][:, -2:]}
    assert torch.equal(control.inject(prepared, newest).input_add, control.inject(cut, newest).input_add)


def test_checkpointing_the_branch_gives_the_same_gradients(backbone: Backbone) -> None:
    control = wake(SkeletonControl(backbone, **SMALL))
    control.train()
    calls: list[int] = []
    control.branch.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))

    def gradients() -> list[torch.Tensor]:
        control.zero_grad()
        control.inject(control.prepare(prompt(), CODEC), noised()).residuals[0].square().mean().backward()
        return [value.grad.clone() for value in control.branch.parameters() if value.grad is not None]

    plain = gradients()
    assert len(calls) == 1
    checkpoint_blocks(control.branch)
    kept = gradients()
    assert len(calls) == 3, "once for the answer, once more for the gradient"
    assert len(kept) == len(plain) > 10
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(kept, plain, strict=True))


def test_a_control_in_half_precision_serves_a_backbone_in_single(backbone: Backbone, control: SkeletonControl) -> None:
    half = twin(control, backbone).to(torch.bfloat16)
    injection = half.inject(half.prepare(prompt(), CODEC), noised())
    exact = control.inject(control.prepare(prompt(), CODEC), noised())
    assert injection.residuals[1].dtype == torch.float32
    assert (injection.residuals[1] - exact.residuals[1]).norm() < 0.05 * exact.residuals[1].norm()


def test_its_state_holds_nothing_of_the_backbone_and_a_step_changes_nothing_there(backbone: Backbone) -> None:
    control = SkeletonControl(backbone, **SMALL)
    ours = {id(value) for value in backbone.parameters()}
    assert not [name for name, value in control.named_parameters() if id(value) in ours]
    assert not [name for name in control.state_dict() if "pos_embedding" in name]
    table = backbone.transformer.patch_embed.pos_embedding
    assert control.branch.transformer.patch_embed.pos_embedding.data_ptr() == table.data_ptr(), "too large for two"


def test_full_size_counts() -> None:
    """A third of 42 blocks of 132.2 million, 14 projections of 9.4 million, and little beside them."""
    backbone = Backbone(build_transformer(full_config("5b-i2v"), device="meta"))
    control = SkeletonControl(backbone)
    counts = [parameter_count(block) for block in control.branch.blocks]
    assert len(counts) == len(control.projections) == 14
    assert {round(count / 1e6, 1) for count in counts} == {132.2}
    assert [parameter_count(one) for one in control.projections] == [3072 * 3072 + 3072] * 14
    entrance = (32 + 48) * 4 * 3072 + 3072 + 4096 * 3072 + 3072  # patches and words
    time = 3072 * 512 + 512 + 512 * 512 + 512
    assert parameter_count(control.branch) == sum(counts) + entrance + time
    assert parameter_count(control.input_projection) == 48 * 4 * 3072 + 3072
    parts = (control.branch, control.projections, control.input_projection, control.encoder)
    assert parameter_count(control) == sum(parameter_count(part) for part in parts)
    assert parameter_count(control) == pytest.approx(14 * 132.2e6 + 14 * 9.4e6, rel=0.02)
    assert all(value.is_meta for value in control.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blocks": 4}, r"blocks to copy: given 4, expected 1 .. 3"),
        ({"blocks": 0}, "blocks to copy: given 0"),
        ({"scale": -1.0}, "scale of a conditioner: given -1.0"),
        ({"scale": float("nan")}, "scale of a conditioner: given nan"),
        ({"channels": 0}, "channels and width of a control encoder"),
    ],
)
def test_bad_settings_are_named(backbone: Backbone, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        SkeletonControl(backbone, **{**SMALL, **settings})


def test_bad_prompts_are_named(control: SkeletonControl) -> None:
    told = prompt()
    with pytest.raises(Unsupported, match="a prompt of 2 views: CogVideoX is told of one view"):
        control.prepare(replace(told, skeleton=told.skeleton.repeat(1, 2, 1, 1, 1, 1)), CODEC)
    with pytest.raises(InvalidInput, match=r"size \(H, W\) of the prompt: given \(64, 88\), expected multiples of 16"):
        control.prepare(replace(told, skeleton=told.skeleton[..., :88, :]), CODEC)
    with pytest.raises(InvalidInput, match="pixel frames at the start of a clip: given 4"):
        control.prepare(told.between(0, 4), CODEC)
    with pytest.raises(InvalidInput, match="latent channels of the codec: given 5, expected 4"):
        control.prepare(told, TinyCodec(5))


@pytest.mark.parametrize(
    ("told", "changes", "message"),
    [
        (prompt(9), {}, r"latent frames of the prompt: given 3, expected at least 4"),
        (prompt(rows=1), {}, r"rows of the prompt: given 1, expected 2"),
        (prompt(), {"latents": draw(ROWS, FRAMES, 4, 8, 8)}, r"latent size \(h, w\) of the prompt: given \(8, 12\)"),
        (prompt(), {"channels": None}, "branch is shown: given 4 and 0, expected 4 in `latents`, 4 of a condition"),
        (prompt(), {"text": None}, "text of a skeleton control's branch: given neither in `text` nor in `past`"),
    ],
)
def test_a_pass_that_does_not_fit_is_named(
    control: SkeletonControl, told: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        control.inject(control.prepare(told, CODEC), noised(**changes))


def test_a_foreign_past_backbone_or_prepared_is_named(backbone: Backbone, control: SkeletonControl) -> None:
    values = torch.zeros(ROWS, 3, 2, WORDS + PATCHES, 16)
    past = backbone.past(KeyValueCache(values, values, WORDS, PATCHES), [0], SIZE)
    prepared = control.prepare(prompt(), CODEC)
    with pytest.raises(InvalidInput, match="blocks of the branch's past: given 3, expected 2"):
        control.inject(prepared, noised(text=None, past=past))
    with pytest.raises(InvalidInput, match="given in `text` and in `past`"):
        control.inject(prepared, noised(past=past))
    with pytest.raises(InvalidInput, match=r"prepared of a skeleton control: given \[\], expected 'control'"):
        control.inject({}, noised())
    with pytest.raises(InvalidInput, match="in_channels of the backbone: given 4, expected 8"):
        control.install(small_backbone("5b"))
    hooked = small_backbone()
    hooked.blocks[0]._hf_hook = object()
    with pytest.raises(InvalidInput, match="backbone: given one with offload hooks"):
        SkeletonControl(hooked, **SMALL)
