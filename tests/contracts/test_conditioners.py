"""The contract of conditioners for each of them, and for each pair that may speak at once."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import combinations
from typing import Any

import pytest

if not find_spec("diffusers"):
    pytest.skip("CogVideoX needs diffusers, which is optional", allow_module_level=True)

import torch

from tests.contracts.conditioner import AloneContract, ComposedContract, Subject
from tests.models.cogvideox.control_tools import JOINTS, small_control, wake
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.injection import Injection, Noised, Prepared, Uninstall, traits_of
from vap_sim.models.cogvideox.lora import Lora, lora_parameters
from vap_sim.models.cogvideox.raw_action import ActionVector
from vap_sim.models.conditioners.action_prism import ActionPrism
from vap_sim.models.conditioners.flexiact import FlexiAct
from vap_sim.models.conditioners.video_as_prompt import VideoAsPrompt


class AwakeLora(Lora):
    """LoRA whose updates are random once they are on the backbone."""

    def install(self, backbone: Backbone) -> Uninstall:
        undo = super().install(backbone)
        source = torch.Generator().manual_seed(9)
        with torch.no_grad():
            for value in lora_parameters(backbone, self.name).values():
                value.add_(torch.randn(value.shape, generator=source) * 0.1)
        return undo


def _raw(backbone: Backbone, **settings: Any) -> ActionVector:
    return wake(ActionVector(backbone, joints=JOINTS, width=8, **settings)).requires_grad_(False)


def _prism(backbone: Backbone, **settings: Any) -> ActionPrism:
    return wake(ActionPrism(backbone, preset="tiny", blocks=(0, 2), **settings)).requires_grad_(False)


def _expert(blocks: Any, one_way: bool = False) -> Any:
    def make(backbone: Backbone, **settings: Any) -> VideoAsPrompt:
        return wake(VideoAsPrompt(backbone, blocks=blocks, one_way=one_way, **settings)).requires_grad_(False)

    return make


def _flexiact(backbone: Backbone, **settings: Any) -> FlexiAct:
    made = FlexiAct(backbone, {"wave": 5}, **settings)
    with torch.no_grad():
        for value in made.parameters():
            value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(7)))
    return made.requires_grad_(False)


SUBJECTS = (
    Subject("skeleton_control", small_control, ("skeleton",)),
    Subject("raw_action", _raw, ("joints",)),
    Subject("lora", lambda backbone: AwakeLora(rank=2, alpha=2.0), scaled=False, inside=True),
    Subject("action_prism", _prism, ("reference",)),
    Subject("video_as_prompt", _expert((0, 2)), ("reference",)),
    Subject("video_as_prompt_one_way", _expert((0, 1), one_way=True), ("reference",)),
    Subject("flexiact", _flexiact, ("motion",)),
)
PAIRS = [pair for pair in combinations(SUBJECTS, 2) if not all(one.name.startswith("video_as_prompt") for one in pair)]


@pytest.mark.parametrize("subjects", [(one,) for one in SUBJECTS], ids=[one.name for one in SUBJECTS], scope="class")
class TestAlone(ComposedContract, AloneContract):
    @pytest.fixture(autouse=True)
    def _of(self, subjects: tuple[Subject, ...]) -> None:
        self.subjects = subjects


@pytest.mark.parametrize("subjects", PAIRS, ids=[f"{one.name}-{two.name}" for one, two in PAIRS], scope="class")
class TestInPairs(ComposedContract):
    @pytest.fixture(autouse=True)
    def _of(self, subjects: tuple[Subject, ...]) -> None:
        self.subjects = subjects


def test_traits_are_said_or_plain() -> None:
    class Silent:
        def inject(self, prepared: Prepared, noised: Noised) -> Injection:
            return Injection()

    assert traits_of(Silent()) == traits_of(Lora())
