"""The convolutions of AlexNet and VGG16 as far as LPIPS looks into them, with the names that torchvision gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from vap_sim.errors import UnknownName


@dataclass(frozen=True)
class Convolution:
    """A convolution that a ReLU follows; a tap is where LPIPS looks, after the ReLU."""

    inputs: int
    outputs: int
    side: int = 3
    stride: int = 1
    padding: int = 1
    tap: bool = False


@dataclass(frozen=True)
class TrunkPlan:
    """A trunk's layers in order. pool: side of its max-pools, all of stride 2; least_side [px] of a picture."""

    name: str
    layers: tuple[Convolution | Literal["pool"], ...]
    pool: int
    least_side: int

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels at each tap."""
        return tuple(layer.outputs for layer in self.layers if isinstance(layer, Convolution) and layer.tap)


_ALEX = TrunkPlan(
    "alex",
    (
        Convolution(3, 64, 11, 4, 2, tap=True),
        "pool",
        Convolution(64, 192, 5, 1, 2, tap=True),
        "pool",
        Convolution(192, 384, tap=True),
        Convolution(384, 256, tap=True),
        Convolution(256, 256, tap=True),
    ),
    pool=3,
    least_side=31,
)
_VGG = TrunkPlan(
    "vgg",
    (
        Convolution(3, 64), Convolution(64, 64, tap=True), "pool",
        Convolution(64, 128), Convolution(128, 128, tap=True), "pool",
        Convolution(128, 256), Convolution(256, 256), Convolution(256, 256, tap=True), "pool",
        Convolution(256, 512), Convolution(512, 512), Convolution(512, 512, tap=True), "pool",
        Convolution(512, 512), Convolution(512, 512), Convolution(512, 512, tap=True),
    ),
    pool=2,
    least_side=16,
)  # fmt: skip
_PLANS = {plan.name: plan for plan in (_ALEX, _VGG)}


def trunk_plan(name: str) -> TrunkPlan:
    """The plan of "alex" or "vgg". Raises UnknownName."""
    if name not in _PLANS:
        raise UnknownName("trunk of LPIPS", name, _PLANS)
    return _PLANS[name]


class Trunk(nn.Module):
    """(n, 3, H, W) -> what each tap sees, from fine to coarse. Weights are to be filled in."""

    def __init__(self, plan: TrunkPlan) -> None:
        super().__init__()
        self.plan = plan
        modules: list[nn.Module] = []
        self._taps: list[int] = []
        for layer in plan.layers:
            if isinstance(layer, Convolution):
                modules.append(nn.Conv2d(layer.inputs, layer.outputs, layer.side, layer.stride, layer.padding))
                modules.append(nn.ReLU())
                self._taps += [len(modules) - 1] if layer.tap else []
            else:
                modules.append(nn.MaxPool2d(plan.pool, 2))
        self.features = nn.Sequential(*modules)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The features at every tap, finest first, of pictures x (b, 3, H, W)."""
        seen: list[Tensor] = []
        for index, module in enumerate(self.features):
            x = module(x)
            if index in self._taps:
                seen.append(x)
        return seen
