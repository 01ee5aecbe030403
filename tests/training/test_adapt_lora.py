"""Low-rank updates: they begin as nothing, are all that is trained, and can be made part of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.training.conftest import make_network
from vap_sim.errors import InvalidInput
from vap_sim.training.adapt_lora import add_low_rank, merge_low_rank


def outputs(network: nn.Module) -> torch.Tensor:
    rows = torch.linspace(-1, 1, 12 * 64).reshape(1, 12, 8, 8)
    with torch.no_grad():
        return network.robot(rows, rows[:, [*range(12), 0, 1, 2, 3]], torch.ones(1, 4))


def test_an_update_begins_as_nothing_and_can_be_merged() -> None:
    network = make_network()
    before, names = outputs(network), set(network.state_dict())
    updates = add_low_rank(network, rank=2)
    assert torch.equal(outputs(network), before)
    with torch.no_grad():
        for value in updates.parameters():
            value.add_(0.1)
    after = outputs(network)
    assert not torch.allclose(after, before)
    merge_low_rank(network)
    assert torch.equal(outputs(network), after) and set(network.state_dict()) == names


def test_only_updates_are_trained_and_they_have_the_rank() -> None:
    network = make_network()
    updates = add_low_rank(network, rank=2)
    trained = {id(value) for value in network.parameters() if value.requires_grad}
    assert trained == {id(value) for value in updates.parameters()}
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    weights = [layer.weight.detach().clone() for layer in layers]
    with torch.no_grad():
        for value in updates.parameters():
            value.add_(torch.linspace(-1, 1, value.numel()).reshape(value.shape))
    for layer, weight in zip(layers, weights, strict=True):
        change = (layer.weight.detach() - weight).flatten(1)
        assert 1 <= int(torch.linalg.matrix_rank(change, rtol=1e-4)) <= 2, layer


def test_updates_follow_from_the_seed() -> None:
    one, again, other = (add_low_rank(make_network(), 2, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_what_cannot_be_updated_is_named() -> None:
    with pytest.raises(InvalidInput, match="rank of the updates: given 0, expected 1 to 256"):
        add_low_rank(make_network(), 0)
    with pytest.raises(InvalidInput, match="no convolution or linear layer"):
        add_low_rank(nn.Sequential(nn.SiLU()), 2)
