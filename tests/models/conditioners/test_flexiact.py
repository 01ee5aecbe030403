"""Learned motions: what they add is the paper's, by name, by noise level, row by row."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.cogvideox.conftest import small_backbone
from tests.models.cogvideox.control_tools import CODEC, noised, run
from tests.models.cogvideox.worlds import tiny_backbone
from tests.models.conditioners.flexiact_tools import COUNTS, dense, fill, small_flexiact, told
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.config import build_transformer, full_config, parameter_count
from vap_sim.models.cogvideox.injection import Injection, Noised, combine
from vap_sim.models.cogvideox.memory import checkpoint_blocks
from vap_sim.models.cogvideox.prepared import carry_of, drop_rows, frames_of
from vap_sim.models.conditioners.flexiact import TOKENS, FlexiAct
from vap_sim.models.conditioners.flexiact_bias import NoiseBias
from vap_sim.prompts.visual_prompt import VisualPrompt

pytest.importorskip("diffusers")
HIGH, LOW = torch.tensor([950, 740]), torch.tensor([500, 20])


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """Do not change it."""
    return small_backbone().requires_grad_(False)


@pytest.fixture(scope="module")
def acting(backbone: Backbone) -> FlexiAct:
    return small_flexiact(backbone)


def added(one: FlexiAct, prompt: VisualPrompt, given: Noised | None = None) -> Injection:
    return one.inject(one.prepare(prompt, CODEC), given or noised())


def tokens_of(one: FlexiAct, *names: str) -> Tensor:
    return torch.cat([one.tokens.of(name).detach() for name in names], dim=1)


# What is added


@pytest.mark.parametrize("levels", [HIGH, LOW, torch.tensor([999, 710])])
@pytest.mark.parametrize("alpha", [1.0, 3.0])
def test_a_pass_is_that_of_the_paper(levels: Tensor, alpha: float, backbone: Backbone) -> None:
    one = small_flexiact(backbone, alpha=alpha)
    given = noised(timestep=levels)
    bias = NoiseBias(alpha).at(levels)
    with torch.no_grad():
        found = run(backbone, added(one, told("wave"), given), given)
        expected = dense(backbone, given, tokens_of(one, "wave"), bias)
        bare = dense(backbone, given)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    assert not torch.allclose(found, bare, atol=1e-3)
    torch.testing.assert_close(run(backbone, None, given), bare, rtol=0, atol=2e-5)


def test_the_bias_is_heard(backbone: Backbone, acting: FlexiAct) -> None:
    without = fill(FlexiAct(backbone, COUNTS, alpha=0))
    for levels, heard in ((HIGH, True), (LOW, False)):
        given = noised(timestep=levels)
        one, other = (run(backbone, added(one, told("wave"), given), given) for one in (acting, without))
        assert torch.equal(one, other) != heard
        assert bool(added(acting, told("wave"), given).bias) == heard and not added(without, told("wave"), given).bias


def test_untrained_tokens_are_heard_a_little(backbone: Backbone) -> None:
    """Zeros have the biases of the layers for keys and values, and take their share of everybody's attention."""
    one, given = FlexiAct(backbone, {"wave": 5}).requires_grad_(False), noised(timestep=LOW)
    assert not any(value.any() for value in one.parameters())
    found, bare = run(backbone, added(one, told("wave"), given), given), run(backbone, None, given)
    torch.testing.assert_close(found, dense(backbone, given, torch.zeros(3, 5, 32)), rtol=0, atol=2e-5)
    moved = float((found - bare).abs().max())
    assert 1e-3 < moved < 0.3 * float(bare.abs().max())
    quiet = small_backbone().requires_grad_(False)
    with torch.no_grad():
        for block in quiet.blocks:
            for layer in (block.attn1.to_k, block.attn1.to_v, block.attn1.norm_k):
                layer.bias.zero_()
    attention = quiet.blocks[0].attn1
    zeros = torch.zeros(1, 5, 32)
    assert not attention.to_k(zeros).any() and not attention.to_v(zeros).any()
    found, bare = run(quiet, added(one, told("wave"), given), given), run(quiet, None, given)
    assert not torch.allclose(found, bare, atol=1e-3), "without biases too: five logits of 0 enter the softmax"


def test_the_scale_goes_from_learned_to_untrained_and_zero_is_removal(backbone: Backbone, acting: FlexiAct) -> None:
    given = noised(timestep=HIGH)
    half = small_flexiact(backbone, scale=0.5)
    assert torch.equal(added(half, told("wave"), given).tokens[1], 0.5 * added(acting, told("wave"), given).tokens[1])
    off = added(small_flexiact(backbone, scale=0), told("wave"), given)
    assert not off.tokens and not off.bias and not off.visible
    assert torch.equal(run(backbone, off, given), run(backbone, None, given))


def test_every_frame_goes_by_its_own_level(backbone: Backbone, acting: FlexiAct) -> None:
    by_frame = torch.tensor([[0, 0, 760, 760], [0, 30, 10, 20]])
    bias = added(acting, told("wave"), noised(timestep=by_frame)).bias[0]
    assert torch.equal(bias, NoiseBias().at(by_frame)[:, :, None].expand(2, 4, 5))
    assert bias[0, 2, 0] > 0 and not bias[0, :2].any() and not bias[1].any()
    assert len(added(acting, told("wave"), noised(timestep=by_frame[:1].expand(2, 4))).bias[2]) == 1
    # Frames that all have one level are told as a clip that has it.
    alike = added(acting, told("wave"), noised(timestep=torch.full((2, 4), 760))).bias[0]
    assert torch.equal(alike, NoiseBias().at(torch.tensor([760]))[:, None].expand(1, 5))
    assert not added(acting, told("wave"), noised(timestep=torch.full((2, 4), 30))).bias


def test_biases_by_frame_and_by_clip_are_joined(backbone: Backbone, acting: FlexiAct) -> None:
    """Tokens of one conditioner go by frames, those of another have one bias or none: each keeps its own."""
    by_frame = noised(timestep=torch.tensor([[0, 0, 760, 760], [900, 30, 10, 20]]))
    one = added(acting, told("wave"), by_frame)
    whole = Injection(tokens=one.tokens, bias={block: torch.full((1, 5), 0.5) for block in one.tokens})
    bare = Injection(tokens=one.tokens)
    joined = combine([one, whole, bare]).bias[0]
    assert joined.shape == (2, 4, 15)
    assert torch.equal(joined[..., :5], one.bias[0]) and (joined[..., 5:10] == 0.5).all() and not joined[..., 10:].any()
    # The same numbers, said by frame or by clip, are the same pass.
    flat = {block: torch.full((1, 4, 5), 0.5) for block in one.tokens}
    given = noised(timestep=HIGH)
    by_clip = run(backbone, whole, given)
    torch.testing.assert_close(
        run(backbone, Injection(tokens=one.tokens, bias=flat), given), by_clip, rtol=0, atol=1e-5
    )
    assert not torch.allclose(run(backbone, bare, given), by_clip, atol=1e-4)
    with pytest.raises(InvalidInput, match=r"bias\[0\] of an injection: given \(1, 4, 6\)"):
        Injection(tokens=one.tokens, bias={0: torch.zeros(1, 4, 6)})


# Names


def test_names_choose_and_join(backbone: Backbone, acting: FlexiAct) -> None:
    given = noised(timestep=HIGH)
    with torch.no_grad():
        both = run(backbone, added(acting, told("turn", "wave"), given), given)
        expected = dense(backbone, given, tokens_of(acting, "wave", "turn"), NoiseBias().at(HIGH))
        torch.testing.assert_close(both, expected, rtol=0, atol=2e-5)
        torch.testing.assert_close(run(backbone, added(acting, told("wave", "turn"), given), given), both)
        parts = [small_flexiact(backbone, motions={"wave": 5}), FlexiAct(backbone, {"turn": 4}).requires_grad_(False)]
        parts[0].tokens.of("wave").copy_(acting.tokens.of("wave"))
        parts[1].tokens.of("turn").copy_(acting.tokens.of("turn"))
        apart = combine([added(one, told(*one.motions), given) for one in parts])
        torch.testing.assert_close(run(backbone, apart, given), both, rtol=0, atol=2e-5)


def test_an_unknown_name_comes_with_the_nearest(acting: FlexiAct) -> None:
    with pytest.raises(UnknownName, match=r"unknown learned motion 'waves'\. Did you mean 'wave'\? Known: 'wave', "):
        acting.prepare(told("lift", "waves"), CODEC)
    with pytest.raises(InvalidInput, match=r"VisualPrompt\.motion: given \(\), expected names of learned motions, of"):
        acting.prepare(told(), CODEC)
    with pytest.raises(InvalidInput, match="names that differ"):
        acting.prepare(told("wave", "wave"), CODEC)
    with pytest.raises(InvalidInput, match=r"VisualPrompt\.motion: given 'wave', expected a tuple"):
        acting.prepare(replace(told(), motion="wave"), CODEC)  # type: ignore[arg-type]


def test_what_was_told_lasts_until_other_names_come(acting: FlexiAct) -> None:
    start = acting.prepare(told("wave", frames=1), CODEC)
    assert not frames_of(start) and carry_of(start).keys() == {"motion"}
    later = acting.prepare(told(frames=4), CODEC, carry_of(start))
    changed = acting.prepare(told("lift", "turn", frames=4), CODEC, carry_of(later))
    rows = [carry_of(one)["motion"].tolist() for one in (later, changed)]
    assert rows == [[[True, False, False]] * 2, [[False, True, True]] * 2]


# Rows


def test_rows_that_were_told_differently_share_a_pass(backbone: Backbone, acting: FlexiAct) -> None:
    given = noised(timestep=HIGH)
    names = [("wave",), ("lift", "turn")]
    apart = [acting.prepare(told(*one, rows=1), CODEC) for one in names]
    both = {name: torch.cat([one[name] for one in apart]) for name in apart[0]}
    found = run(backbone, acting.inject(both, given), given)
    for row, one in enumerate(names):
        alone = run(backbone, added(acting, told(*one), given), given)
        torch.testing.assert_close(found[row], alone[row], rtol=0, atol=2e-5)


@pytest.mark.parametrize("levels", [HIGH, LOW])
def test_dropped_rows_are_the_backbones_own(levels: Tensor, backbone: Backbone, acting: FlexiAct) -> None:
    given = noised(timestep=levels)
    prepared = acting.prepare(told("wave"), CODEC)
    found = run(backbone, acting.inject(drop_rows(prepared, torch.tensor([True, False])), given), given)
    torch.testing.assert_close(found[0], run(backbone, None, given)[0], rtol=0, atol=2e-5)
    whole = run(backbone, acting.inject(prepared, given), given)
    torch.testing.assert_close(found[1], whole[1], rtol=0, atol=2e-5)
    assert not torch.allclose(found[0], whole[0], atol=1e-3)
    none = acting.inject(drop_rows(prepared, torch.tensor([True, True])), given)
    assert not none.tokens and torch.equal(run(backbone, none, given), run(backbone, None, given))


def test_what_is_not_its_own_is_refused(backbone: Backbone, acting: FlexiAct) -> None:
    with pytest.raises(InvalidInput, match=r"prepared of FlexiAct: given \['control'\]"):
        acting.inject({"control": torch.zeros(2, 1)}, noised())
    with pytest.raises(InvalidInput, match="rows of the prompt: given 3, expected 2"):
        acting.inject(acting.prepare(told("wave", rows=3), CODEC), noised())
    other = FlexiAct(backbone, {"wave": 2})
    with pytest.raises(InvalidInput, match="given one of 3 motions, expected one of 1"):
        other.inject(acting.prepare(told("wave"), CODEC), noised())


# Making one


def test_the_same_again_from_its_settings(backbone: Backbone) -> None:
    one = small_flexiact(backbone, scale=0.3, alpha=2.0, high=900, low=100)
    again = FlexiAct(backbone, **one.settings)
    assert again.settings == one.settings and again.fingerprint == one.fingerprint
    again.load_state_dict(one.state_dict())
    given = noised(timestep=HIGH)
    assert torch.equal(added(again, told("lift"), given).tokens[2], added(one, told("lift"), given).tokens[2])
    assert FlexiAct(backbone, ("wave",)).settings["motions"] == {"wave": TOKENS}
    undo = one.install(backbone)
    undo()


def test_full_size_count() -> None:
    """226 tokens of width 3072 in each of 42 blocks, without memory."""
    backbone = Backbone(build_transformer(full_config("5b-i2v"), device="meta"))
    one = FlexiAct(backbone, ("wave",))
    assert parameter_count(one) == 29_159_424 and all(value.is_meta for value in one.parameters())
    latents = torch.zeros(1, 13, 16, 60, 90, device="meta")
    said = one.inject(one.prepare(told("wave", rows=1), CODEC), Noised(latents, torch.zeros(1, device="meta"), None))
    assert len(said.tokens) == len(said.bias) == 42 and said.tokens[41].shape == (1, 226, 3072)


@pytest.mark.parametrize(
    ("motions", "words"),
    [
        ("wave", r"motions of FlexiAct: given 'wave', expected a sequence of names, such as \('wave',\)"),
        (("wave", "wave"), "names that differ"),
        (("a.b",), r"name of a motion: given 'a\.b', expected 1 to 64 letters"),
        (("",), "name of a motion: given ''"),
        (("../x",), "name of a motion"),
        ({"wave": 0}, "tokens of the motion 'wave': given 0, expected a whole number from 1"),
        ({"wave": 2.0}, "tokens of the motion 'wave': given 2.0"),
    ],
)
def test_what_cannot_be_made_is_named(motions: Any, words: str, backbone: Backbone) -> None:
    with pytest.raises(InvalidInput, match=words):
        FlexiAct(backbone, motions)


def test_another_backbone_is_refused(backbone: Backbone, acting: FlexiAct) -> None:
    with pytest.raises(InvalidInput, match="blocks of the backbone: given 2, expected 3"):
        acting.install(tiny_backbone())


# Learning


@pytest.mark.parametrize("checkpointed", [False, True])
def test_tokens_that_are_told_take_gradients_and_no_others(checkpointed: bool) -> None:
    backbone = small_backbone().requires_grad_(False)
    if checkpointed:
        checkpoint_blocks(backbone)
    one, given = small_flexiact(backbone).requires_grad_(True), noised(timestep=HIGH)
    run(backbone, added(one, told("lift"), given), given).square().mean().backward()
    gradient = one.tokens.of("lift").grad
    assert gradient is not None and gradient.flatten(1).any(dim=1).all(), "in every block"
    assert one.tokens.of("wave").grad is None
    plain = small_backbone().requires_grad_(False)
    same = small_flexiact(plain).requires_grad_(True)
    run(plain, added(same, told("lift"), given), given).square().mean().backward()
    torch.testing.assert_close(gradient, same.tokens.of("lift").grad)


def test_tokens_wait_on_the_cpu_where_weights_are_offloaded() -> None:
    pytest.importorskip("accelerate")
    from vap_sim.models.cogvideox.memory import sequential_offload

    backbone = small_backbone().requires_grad_(False)
    one, given = small_flexiact(backbone), noised(timestep=HIGH)
    plain = added(one, told("wave"), given)
    moved = copy.deepcopy(one)
    sequential_offload(moved, "cpu")
    assert all(value.is_meta for value in moved.parameters())
    found = added(moved, told("wave"), given)
    assert all(torch.equal(found.tokens[block], value) for block, value in plain.tokens.items())
