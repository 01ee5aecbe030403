"""LPIPS, the learned perceptual distance, version 0.1, with networks from local files.

Two safetensors files, or one that holds both; nothing is downloaded and neither torchvision nor lpips is needed to read
them. Names and shapes are those of the state dicts of the original programs:

- trunk: the state dict of torchvision's `alexnet` or `vgg16` with weights `IMAGENET1K_V1`. Read are `features.N.weight`
  and `features.N.bias`, N = 0, 3, 6, 8, 10 of AlexNet and 0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28 of VGG16.
- heads: `weights/v0.1/alex.pth` or `vgg.pth` of the package lpips: `lin0.model.1.weight` to `lin4.model.1.weight`, each
  (1, channels, 1, 1).

`lpips.LPIPS(net=...).state_dict()` in one file serves as both: there the trunk's tensor `features.N.weight` is called
`net.sliceK.N.weight`. Further tensors (classifiers, scaling constants, copies of the heads) are left unread. To make
the files, on a machine that has both packages: `safetensors.torch.save_file(state_dict, path)`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vap_sim.errors import BadFile, InvalidInput
from vap_sim.metrics.local_files import LocalFile, read_local
from vap_sim.metrics.masks import Scores, check_pair, scores
from vap_sim.metrics.report import NetworkCard
from vap_sim.metrics.trunks import Trunk, trunk_plan

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_EPSILON = 1e-10
_PREPROCESSING = "RGB to [-1, 1], no resizing"


class Lpips:
    """Perceptual distance of pictures. AlexNet is the one to report with; VGG16 has another scale."""

    def __init__(self, trunk: Trunk, heads: list[Tensor], cards: tuple[NetworkCard, NetworkCard], device: str) -> None:
        """Use `load`."""
        self._trunk = trunk.eval().requires_grad_(False).to(device)
        self._heads = [head.to(device) for head in heads]
        self._device = device
        self.cards = cards

    @classmethod
    def load(
        cls,
        net: str,
        *,
        trunk: Path | str,
        heads: Path | str,
        trunk_sha256: str | None = None,
        heads_sha256: str | None = None,
        device: str = "cpu",
    ) -> Lpips:
        """net: "alex" or "vgg"; trunk, heads: safetensors files as the module's text says, or the same file twice.

        Raises UnknownName for another net, BadFile where a file is missing, has another hash than the one given, or
        lacks a tensor of the right shape.
        """
        plan = trunk_plan(net)
        trunk_file, heads_file = read_local(trunk, sha256=trunk_sha256), read_local(heads, sha256=heads_sha256)
        with torch.device("meta"):  # takes no first weights, which would be drawn from the global generator
            network = Trunk(plan)
        _fill(network, trunk_file)
        cards = (
            NetworkCard(f"LPIPS trunk {net}", trunk_file.sha256, _PREPROCESSING),
            NetworkCard(f"LPIPS heads {net}, v0.1", heads_file.sha256, _PREPROCESSING),
        )
        return cls(network, _heads(heads_file, plan.channels), cards, device)

    @torch.inference_mode()
    def __call__(self, *, generated: Tensor, truth: Tensor, at_once: int = 16) -> Scores:
        """The distance of frames 1 to T, each by itself, 0 for equal frames -> scores (*b, T).

        generated, truth: uint8 (*b, T + 1, H, W, 3); at_once: frames in one pass. Always defined. Raises InvalidInput
        for other types, shapes, pictures too small for the trunk, or less than two frames.
        """
        check_pair(generated, truth, torch.uint8, "(*b, T + 1, H, W, 3)", 4)
        least = self._trunk.plan.least_side
        if min(truth.shape[-3:-1]) < least:
            given = f"{truth.shape[-2]} x {truth.shape[-3]} px"
            raise InvalidInput("pictures", given, f"sides of at least {least} px for {self._trunk.plan.name}")
        ours, theirs = (clip[..., 1:, :, :, :].flatten(0, -4) for clip in (generated, truth))
        parts = [self._distance(ours[i : i + at_once], theirs[i : i + at_once]) for i in range(0, len(ours), at_once)]
        values = torch.cat(parts) if parts else torch.zeros(0)
        values = values.reshape(generated[..., 1:, 0, 0, 0].shape).to(truth.device)
        return scores("lpips", values, torch.ones_like(values, dtype=torch.bool))

    def _distance(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Of n pairs of pictures (n, H, W, 3) -> (n)."""
        total = torch.zeros(len(ours), dtype=torch.float64, device=self._device)
        pairs = zip(self._trunk(self._scaled(ours)), self._trunk(self._scaled(theirs)), self._heads, strict=True)
        for here, there, head in pairs:
            apart = (_unit(here) - _unit(there)).square()
            total += (apart * head).sum(1).double().mean((-2, -1))
        return total

    def _scaled(self, frames: Tensor) -> Tensor:
        x = frames.to(self._device).permute(0, 3, 1, 2).float() / 127.5 - 1
        shift, scale = (x.new_tensor(values).view(1, 3, 1, 1) for values in (_SHIFT, _SCALE))
        return (x - shift) / scale


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + _EPSILON)


def _fill(network: Trunk, file: LocalFile) -> None:
    found = {re.sub(r"^net\.slice\d+\.", "features.", name): value for name, value in file.tensors().items()}
    wanted = {name: _shaped(found, name, value.shape, file) for name, value in network.state_dict().items()}
    network.load_state_dict(wanted, assign=True)


def _heads(file: LocalFile, channels: tuple[int, ...]) -> list[Tensor]:
    found = file.tensors()
    names = [f"lin{level}.model.1.weight" for level in range(len(channels))]
    return [
        _shaped(found, name, torch.Size((1, width, 1, 1)), file) for name, width in zip(names, channels, strict=True)
    ]


def _shaped(found: Mapping[str, Tensor], name: str, shape: torch.Size, file: LocalFile) -> Tensor:
    value = found.get(name)
    if value is None or value.shape != shape:
        given = "missing" if value is None else f"of shape {tuple(value.shape)}"
        raise BadFile(file.path, f"tensor {name!r} is {given}, expected {tuple(shape)}")
    return value.float()
