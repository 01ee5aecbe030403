"""LoRA changes nothing at first, merges to what it computes, and comes off without a trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.models.cogvideox.conftest import small_backbone
from tests.models.cogvideox.control_tools import CODEC, SMALL, noised, prompt, run, small_control
from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.config import build_transformer, full_config
from vap_sim.models.cogvideox.lora import (
    Lora,
    freeze_backbone,
    lora_parameters,
    merge_lora,
    trainable_parameters,
    unmerge_lora,
)
from vap_sim.models.cogvideox.skeleton_control import SkeletonControl

peft = pytest.importorskip("peft")
LORA = Lora(rank=2, alpha=4)


@pytest.fixture
def backbone() -> Backbone:
    return small_backbone()


def stir(backbone: Backbone, name: str = "control") -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in lora_parameters(backbone, name).values():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.2)


def test_put_on_it_changes_nothing_and_taken_off_it_leaves_nothing(backbone: Backbone) -> None:
    names = [name for name, _ in backbone.named_modules()]
    state = {name: value.clone() for name, value in backbone.state_dict().items()}
    first = next(backbone.parameters()).requires_grad_(False)
    generator = torch.random.get_rng_state()
    with torch.no_grad():
        bare = run(backbone)
        undo = LORA.install(backbone)
        assert torch.equal(torch.random.get_rng_state(), generator)
        assert torch.equal(run(backbone), bare)
        stir(backbone)
        assert not torch.allclose(run(backbone), bare, atol=1e-3)
        merge_lora(backbone)
        undo()
        undo()
        assert torch.allclose(run(backbone), bare, atol=1e-5), "weights were merged and unmerged"
    assert [name for name, _ in backbone.named_modules()] == names
    assert list(backbone.state_dict()) == list(state)
    assert [name for name, value in backbone.named_parameters() if not value.requires_grad] == [
        name for name, value in backbone.named_parameters() if value is first
    ]
    again = small_backbone()
    with torch.no_grad():
        undo = LORA.install(again)
        stir(again)
        undo()
        assert torch.equal(run(again), bare), "without merging, to the bit"
    LORA.install(again)
    assert len(lora_parameters(again)) == 3 * 4 * 2


def test_merged_equals_unmerged(backbone: Backbone) -> None:
    LORA.install(backbone)
    stir(backbone)
    with torch.no_grad():
        apart = run(backbone)
        merge_lora(backbone)
        merge_lora(backbone)
        assert torch.allclose(run(backbone), apart, atol=1e-4)
        unmerge_lora(backbone)
        assert torch.allclose(run(backbone), apart, atol=1e-5)


def test_frozen_weights_get_no_gradient(backbone: Backbone) -> None:
    control = SkeletonControl(backbone, **SMALL)
    freeze_backbone(backbone)
    assert not any(value.requires_grad for value in backbone.parameters())
    LORA.install(backbone)
    stir(backbone)
    run(backbone, control.inject(control.prepare(prompt(), CODEC), noised())).square().mean().backward()
    moved = {name for name, value in backbone.named_parameters() if value.grad is not None}
    assert len(moved) == len(lora_parameters(backbone)) == 3 * 4 * 2
    assert all("lora_" in name for name in moved)
    trained = trainable_parameters(backbone, control)
    assert {name for name in trained if name.startswith("backbone.")} == {f"backbone.{name}" for name in moved}
    assert len(trained) == len(moved) + len(list(control.parameters()))
    assert trained["control.input_projection.weight"] is control.input_projection.weight


def test_first_weights_follow_the_seed() -> None:
    one, same, other = (small_backbone() for _ in range(3))
    for backbone, seed in ((one, 0), (same, 0), (other, 1)):
        Lora(rank=2, seed=seed).install(backbone)
    name = "transformer_blocks.2.attn1.to_v.lora_A.weight"
    assert torch.equal(lora_parameters(one)[name], lora_parameters(same)[name])
    assert not torch.equal(lora_parameters(one)[name], lora_parameters(other)[name])


def test_names_are_those_of_peft(backbone: Backbone) -> None:
    LORA.install(backbone)
    theirs = peft.get_peft_model_state_dict(backbone.transformer, adapter_name="control")
    ours = lora_parameters(backbone)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
def test_two_stand_side_by_side_and_go_one_by_one(backbone: Backbone) -> None:
    with torch.no_grad():
        undo = LORA.install(backbone)
        stir(backbone)
        alone = run(backbone)
        undo_second = Lora(rank=1, alpha=1, targets=("ff.net.2", "to_q"), name="second", seed=1).install(backbone)
        assert torch.allclose(run(backbone), alone, atol=1e-6)
        assert not any(value.requires_grad for value in lora_parameters(backbone).values()), "frozen, as all the rest"
        stir(backbone, "second")
        both = run(backbone)
        assert not torch.allclose(both, alone, atol=1e-3)
        merge_lora(backbone)
        assert torch.allclose(run(backbone), both, atol=1e-4)
        undo_second()
        assert torch.allclose(run(backbone), alone, atol=1e-4)
        assert backbone.blocks[0].attn1.to_q.merged, "as the one that stays was"
        assert all(value.requires_grad for value in lora_parameters(backbone).values()), "as before"
        undo()
    assert [name for name, _ in backbone.named_parameters()] == [n for n, _ in small_backbone().named_parameters()]


def test_it_fits_beside_a_control_as_a_conditioner(backbone: Backbone) -> None:
    """The branch's own blocks were copied before, and stay without it."""
    control = small_control(backbone)
    LORA.install(backbone)
    assert not [name for name, _ in control.named_modules() if "lora" in name]
    assert LORA.prepare(prompt(), CODEC) == {}
    assert LORA.inject({}, noised()).input_add is None
    with pytest.raises(InvalidInput, match="backbone: given one with LoRA"):
        SkeletonControl(backbone, **SMALL)


def test_full_size_count() -> None:
    """Four layers of 3072 by 3072 in each of 42 blocks, two matrices of 64 by 3072 each."""
    backbone = Backbone(build_transformer(full_config("5b-i2v"), device="meta"))
    Lora().install(backbone)
    ours = lora_parameters(backbone)
    assert len(ours) == 42 * 4 * 2
    assert sum(value.numel() for value in ours.values()) == 42 * 4 * 2 * 64 * 3072
    assert all(value.is_meta for value in ours.values())
    assert sum(value.numel() for value in backbone.parameters() if value.requires_grad) == 42 * 4 * 2 * 64 * 3072


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank of LoRA: given 0"),
        ({"alpha": 0}, "alpha of LoRA: given 0"),
        ({"targets": "to_q"}, "targets of LoRA: given 'to_q'"),
        ({"name": "a.b"}, "name of LoRA: given a.b"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Lora(**settings)


def test_what_cannot_be_put_on_is_named(backbone: Backbone) -> None:
    with pytest.raises(InvalidInput, match=r"target of LoRA: given to_z, .* 'attn1.to_q'"):
        Lora(targets=("to_q", "to_z")).install(backbone)
    assert not lora_parameters(backbone)
    LORA.install(backbone)
    with pytest.raises(InvalidInput, match="name of LoRA: given control, expected one that is not on the backbone"):
        LORA.install(backbone)
