"""The RefAdapter: its arithmetic, its weight while it is on, fused and taken off, alone and beside another LoRA."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.cogvideox.conftest import small_backbone
from tests.models.cogvideox.control_tools import CODEC, noised, prompt, run
from tests.models.conditioners.flexiact_tools import dense, small_flexiact, told
from vap_sim.errors import InvalidInput, UnknownName, Unsupported
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.config import build_transformer, full_config
from vap_sim.models.cogvideox.lora import Lora, lora_parameters, merge_lora
from vap_sim.models.cogvideox.memory import sequential_offload
from vap_sim.models.conditioners.flexiact import FlexiAct
from vap_sim.models.conditioners.flexiact_adapter import (
    NAME,
    RefAdapter,
    adapter_shapes,
    adapter_weights,
    weigh_adapter,
)

pytest.importorskip("peft")
RANK = 4


@pytest.fixture
def backbone() -> Backbone:
    return small_backbone().requires_grad_(False)


def weights(seed: int = 4, spread: float = 0.3) -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=source) * spread for name, shape in adapter_shapes(3, 32, RANK).items()}


def adapter(**changes: Any) -> RefAdapter:
    return RefAdapter(**{"weights": weights(), "rank": RANK, "alpha": 2.0, **changes})


def updated(factor: float) -> Backbone:
    """A bare backbone into whose weights the updates were added by hand."""
    bare, low = small_backbone().requires_grad_(False), weights()
    for name in low:
        if ".lora_A." in name:
            layer = bare.transformer.get_submodule(name.removesuffix(".lora_A.weight"))
            layer.weight += factor * low[name.replace("lora_A", "lora_B")] @ low[name]
    return bare


def test_full_size_count() -> None:
    """Four layers of 3072 by 3072 in each of 42 blocks, two matrices of rank 64 each."""
    backbone = Backbone(build_transformer(full_config("5b-i2v"), device="meta"))
    one = FlexiAct(backbone, adapter=RefAdapter())
    undo = one.install(backbone)
    own = lora_parameters(backbone, NAME)
    assert sum(value.numel() for value in own.values()) == 66_060_288 and len(own) == 336
    assert {name: tuple(value.shape) for name, value in own.items()} == adapter_shapes(42, 3072)
    scales = {layer.scaling[NAME] for layer in backbone.modules() if NAME in getattr(layer, "lora_A", ())}
    assert [*scales] == [pytest.approx(0.7 * 32 / 64)]
    undo()
    assert not lora_parameters(backbone, NAME)


@pytest.mark.parametrize("fused", [False, True])
@torch.no_grad()
def test_it_is_the_weighed_product_added_to_four_layers(fused: bool, backbone: Backbone) -> None:
    bare = run(backbone)
    undo = adapter(fused=fused).install(backbone)
    found = run(backbone)
    torch.testing.assert_close(found, run(updated(0.7 * 2.0 / RANK)), rtol=0, atol=2e-5)
    assert not torch.allclose(found, bare, atol=1e-2)
    undo()
    torch.testing.assert_close(run(backbone), bare, rtol=0, atol=1e-5 if fused else 0)
    assert [name for name, _ in backbone.named_parameters()] == [n for n, _ in small_backbone().named_parameters()]


@torch.no_grad()
def test_fused_equals_unfused(backbone: Backbone) -> None:
    other = small_backbone().requires_grad_(False)
    adapter().install(backbone)
    adapter(fused=True).install(other)
    assert other.blocks[2].attn1.to_out[0].merged and not backbone.blocks[2].attn1.to_out[0].merged
    torch.testing.assert_close(run(other), run(backbone), rtol=0, atol=1e-5)
    merge_lora(backbone)
    assert torch.equal(run(other), run(backbone)), "fused later"


@pytest.mark.parametrize("fused", [False, True])
@torch.no_grad()
def test_its_weight_may_change_while_it_is_on(fused: bool, backbone: Backbone) -> None:
    bare = run(backbone)
    adapter(fused=fused).install(backbone)
    weigh_adapter(backbone, 1.5)
    torch.testing.assert_close(run(backbone), run(updated(1.5 * 2.0 / RANK)), rtol=0, atol=5e-5)
    weigh_adapter(backbone, 0)
    torch.testing.assert_close(run(backbone), bare, rtol=0, atol=1e-5)
    with pytest.raises(InvalidInput, match="weight of an adapter: given nan"):
        weigh_adapter(backbone, float("nan"))


@torch.no_grad()
def test_learned_tokens_go_through_it_too(backbone: Backbone) -> None:
    """As published, it acts on text, learned and video tokens alike."""
    given = noised(timestep=torch.tensor([950, 740]))
    one = small_flexiact(backbone, adapter=adapter())
    undo = one.install(backbone)
    said = one.inject(one.prepare(told("wave"), CODEC), given)
    found = run(backbone, said, given)
    expected = dense(updated(0.35), given, one.tokens.of("wave"), one.bias.at(given.timestep))
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-5)
    undo()
    silent = small_flexiact(backbone, scale=0, adapter=adapter())
    silent.install(backbone)
    assert not lora_parameters(backbone, NAME), "scale 0 is the bare backbone"


def test_untrained_it_changes_nothing_and_begins_as_published(backbone: Backbone) -> None:
    half = small_backbone().to(torch.bfloat16)
    RefAdapter(rank=2).install(half)
    assert {value.dtype for value in lora_parameters(half, NAME).values()} == {torch.float32}, "to be trained"
    with torch.no_grad():
        bare = run(backbone)
        RefAdapter(rank=16, seed=3).install(backbone)
        torch.testing.assert_close(run(backbone), bare, rtol=0, atol=1e-6)
    own = lora_parameters(backbone, NAME)
    downs = torch.cat([value.detach().flatten() for name, value in own.items() if "lora_A" in name])
    assert float(downs.std()) == pytest.approx(1 / 16, rel=0.05) and float(downs.mean().abs()) < 0.005
    assert not any(value.any() for name, value in own.items() if "lora_B" in name)
    kept = adapter_weights(backbone)
    again = small_backbone()
    RefAdapter(rank=16, seed=3).install(again)
    assert all(torch.equal(value, kept[name]) for name, value in adapter_weights(again).items())


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
@torch.no_grad()
def test_it_stands_beside_another_lora(merged: bool, backbone: Backbone) -> None:
    """Where the other is in the weights already, it is fused too: beside those one that is not is never heard."""
    undo_control = Lora(rank=2, alpha=4).install(backbone)
    source = torch.Generator().manual_seed(3)
    for value in lora_parameters(backbone).values():
        value.copy_(torch.randn(value.shape, generator=source) * 0.2)
    if merged:
        merge_lora(backbone)
    control = run(backbone)
    undo = adapter().install(backbone)
    assert backbone.blocks[0].attn1.to_q.merged == merged
    both = run(backbone)
    assert not torch.allclose(both, control, atol=1e-2)
    if merged:
        again = small_backbone().requires_grad_(False)
        Lora(rank=2, alpha=4).install(again)
        for name, value in lora_parameters(again).items():
            value.copy_(lora_parameters(backbone)[name])
        adapter().install(again)
        torch.testing.assert_close(run(again), both, rtol=0, atol=2e-5)
    undo()
    torch.testing.assert_close(run(backbone), control, rtol=0, atol=2e-5)
    undo = adapter().install(backbone)
    undo_control()
    torch.testing.assert_close(run(backbone), run(updated(0.35)), rtol=0, atol=5e-5)
    undo()
    torch.testing.assert_close(run(backbone), run(small_backbone()), rtol=0, atol=2e-5)


def test_alone_it_is_a_conditioner_that_only_installs(backbone: Backbone) -> None:
    one = adapter()
    assert one.prepare(prompt(), CODEC) == {}
    assert not one.inject({}, noised()).tokens
    none = adapter(weight=0).install(backbone)
    assert not lora_parameters(backbone, NAME)
    none()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("transformer_blocks.1.attn1.to_v.lora_B.weight"), r"1\.attn1\.to_v\.lora_B\.weight' of an ad"),
        (lambda w: w.update({"x": torch.zeros(1)}), "weight 'x' of an adapter: given one that this backbone has no pl"),
        (
            lambda w: w.update({"transformer_blocks.0.attn1.to_q.lora_A.weight": torch.zeros(4, 48)}),
            r"to_q\.lora_A\.weight' of an adapter: given \(4, 48\), expected \(4, 32\)",
        ),
    ],
)
def test_weights_of_another_backbone_are_refused(change: Any, words: str, backbone: Backbone) -> None:
    low = weights()
    change(low)
    with pytest.raises(InvalidInput, match=words):
        adapter(weights=low).install(backbone)
    assert not lora_parameters(backbone, NAME)


def test_layers_that_wait_elsewhere_take_none(backbone: Backbone) -> None:
    pytest.importorskip("accelerate")
    sequential_offload(backbone, "cpu")
    with pytest.raises(Unsupported, match="a RefAdapter on layers that are brought to the device one by one"):
        adapter().install(backbone)
    assert not lora_parameters(backbone, NAME)


def test_what_makes_no_adapter_is_named(backbone: Backbone) -> None:
    with pytest.raises(InvalidInput, match="rank of LoRA: given 0"):
        RefAdapter(rank=0)
    with pytest.raises(InvalidInput, match="weight of an adapter: given True"):
        RefAdapter(weight=True)
    with pytest.raises(UnknownName, match="unknown adapter on the backbone 'flexiact'"):
        weigh_adapter(backbone, 1.0)
