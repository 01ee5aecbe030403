"""The page's figures of CogVideoX's weight are what its networks have, and a stream keeps what the page says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.benchmark_parts import benchmark_modules

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def sizes() -> Iterator[ModuleType]:
    with benchmark_modules(["cogvideox_sizes"], needs=("diffusers", "peft", "transformers")) as modules:
        yield modules["cogvideox_sizes"]


def test_the_page_says_what_the_script_counts(sizes: ModuleType) -> None:
    page = ROOT / "docs" / "cogvideox.md"
    if not page.is_file():
        pytest.skip("the pages are not installed")
    assert "\n".join(sizes.rows()) in page.read_text(encoding="utf-8"), "print the tables anew"


@pytest.mark.parametrize("control", [False, True])
def test_a_longer_history_costs_the_bytes_of_its_frames(control: bool, sizes: ModuleType) -> None:
    from vap_sim.models.cogvideox.codec import TinyCodec
    from vap_sim.models.cogvideox.config import tiny_config
    from vap_sim.models.cogvideox.parts import Parts
    from vap_sim.models.cogvideox.sampler import PUBLISHED, Schedule
    from vap_sim.models.cogvideox.settings import Settings
    from vap_sim.models.cogvideox.skeleton_control import SkeletonControl
    from vap_sim.models.cogvideox.text import HashedWords
    from vap_sim.models.cogvideox.world import CogVideoXWorld
    from vap_sim.prompts.visual_prompt import VisualPrompt

    config = tiny_config(latent_channels=4, blocks=4, heads=2, size=(4, 6), frames=5, image=False)
    backbone = sizes.Backbone(sizes.build_transformer(config))
    conditioners = (SkeletonControl(backbone, channels=4, width=8).eval(),) if control else ()
    drawn = VisualPrompt(torch.zeros(1, 1, 1, 32, 48, 3, dtype=torch.uint8))

    def kept(history: int) -> int:
        text, schedule = HashedWords(config.text_length, config.text_width), Schedule.of(PUBLISHED)
        settings, cpu = Settings(history=history), torch.device("cpu")
        parts = Parts(backbone, TinyCodec(4), text, schedule, settings, (48, 32), conditioners, cpu, torch.float32)
        state = CogVideoXWorld(parts).encode(drawn.skeleton[:, :, 0], drawn, [0])
        return int(state.nbytes)

    frame = sizes.frame_bytes(config, (48, 32), control=control, item=4)
    assert kept(3) - kept(1) == 2 * frame > 0
