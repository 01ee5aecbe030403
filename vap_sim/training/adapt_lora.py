"""Low-rank updates of the compact model's layers: little to learn from few recordings, and little to forget.

After Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv 2106.09685): a weight W becomes W + scale B
A, of which only A and B are trained. B begins at zero, so that training begins at the model as it was. A kernel (out,
in, h, w) counts as a matrix of `out` rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vap_sim.errors import InvalidInput

MOST = 256


class LowRank(nn.Module):
    """The update of one weight; called with the weight, it gives the sum."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        rank = min(rank, rows, columns)
        spread = columns**-0.5
        first = torch.randn(rank, columns, generator=generator) * spread
        self.reduce = nn.Parameter(first.to(weight.device))
        self.restore = nn.Parameter(torch.zeros(rows, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        """The updated weight, of the shape of `weight`."""
        return weight + (self.restore @ self.reduce).view_as(weight)


def add_low_rank(network: nn.Module, rank: int, seed: int = 0) -> nn.ModuleDict:
    """Give every convolution and linear layer of `network` an update of this rank, and return the updates by layer.

    The network's own weights are no longer trained. Raises InvalidInput for an impossible rank and a network without
    such layers.
    """
    if not 1 <= rank <= MOST:
        raise InvalidInput("rank of the updates", rank, f"1 to {MOST}")
    generator = torch.Generator().manual_seed(seed)
    network.requires_grad_(False)
    updates = nn.ModuleDict()
    for name, layer in list(_layers(network)):
        update = LowRank(layer.weight, rank, generator)
        parametrize.register_parametrization(layer, "weight", update)
        updates[name.replace(".", "/")] = update
    if not len(updates):
        raise InvalidInput("network to update", "no convolution or linear layer", "at least one")
    return updates


def merge_low_rank(network: nn.Module) -> None:
    """Make the updates of `add_low_rank` part of the weights; the network's layers are plain again."""
    for _, layer in list(_layers(network)):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def _layers(network: nn.Module) -> Iterator[tuple[str, nn.Conv2d | nn.Linear]]:
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            yield name, layer
