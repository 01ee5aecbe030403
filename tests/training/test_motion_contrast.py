"""Contrast of motions: pairs become alike by what they show, not by their captions, and a run resumes as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt
from vap_sim.training.clips import Clip, DataSet
from vap_sim.training.loop import LoopSettings, train
from vap_sim.training.motion_contrast import ContrastTraining, MotionContrast

pytest.importorskip("diffusers")
from tests.training import tiny_diffusion as tiny
from vap_sim.models.cogvideox.codec import TinyCodec
from vap_sim.models.cogvideox.text import HashedWords
from vap_sim.models.conditioners.action_prism import ActionPrism

WORDS = HashedWords(6, 8)
CODEC = TinyCodec(tiny.CHANNELS)
SIDE, FRAMES = 16, 9


class Kept:
    """A clip in memory."""

    def __init__(self, clip: Clip) -> None:
        self.clip, self.key = clip, ""

    def load(self) -> Clip:
        return self.clip


def film(action: int, seed: int) -> Tensor:
    """(T, H, W, 3) uint8: a bright square that goes right, left, down or up, on a ground of random colour."""
    source = torch.Generator().manual_seed(seed)
    ground, square = torch.randint(0, 120, (3,), generator=source), torch.randint(140, 256, (3,), generator=source)
    start = torch.randint(5, 8, (2,), generator=source)
    step = torch.tensor([(0, 1), (0, -1), (1, 0), (-1, 0)])[action]
    frames = ground.to(torch.uint8).expand(FRAMES, SIDE, SIDE, 3).clone()
    for number in range(FRAMES):
        top, left = (start + step * number // 2).clamp(0, SIDE - 4).tolist()
        frames[number, top : top + 4, left : left + 4] = square.to(torch.uint8)
    return frames


def pair(action: int, seed: int) -> Clip:
    target, shown = film(action, seed), film(action, seed + 1000)
    latents, caption = CODEC.encode(target[None])[0], f"scene {seed}"
    prompt = VisualPrompt(
        torch.zeros(1, 1, FRAMES, SIDE, SIDE, 3, dtype=torch.uint8),
        reference=ReferenceClip(shown[None], (f"scene {seed + 1000}",)),
        text=(caption,),
    )
    return Clip(latents, latents[:1], torch.zeros(len(latents), SIDE // 8, SIDE // 8), prompt, caption)


def prism(**sizes: Any) -> ActionPrism:
    return ActionPrism(tiny.backbone(), preset="tiny", frames=1 + FRAMES // 4, patch=1, **sizes)


def pairs(seeds: range) -> DataSet:
    return DataSet("films", tuple(Kept(pair(seed % 4, seed)) for seed in seeds))  # type: ignore[arg-type]


def recipe(**training: Any) -> MotionContrast:
    return MotionContrast(prism(), CODEC, WORDS, pairs(range(64)), ContrastTraining(**{"pairs": 16, **training}))


def settings(folder: Path, steps: int, **more: Any) -> LoopSettings:
    told: dict[str, Any] = {"learning_rate": 3e-3, "warmup": 2, "cooldown": steps // 2, "preview_every": steps + 1}
    return LoopSettings(folder, steps, **told, **more)


def told_apart(one: MotionContrast) -> float:
    """The share of unseen films whose action is that of the nearest of other films' demonstrations."""
    clips = [clip.load() for clip in pairs(range(200, 232)).clips]
    with torch.no_grad():
        likeness = one.of_targets(clips) @ one.of_demonstrations(clips).T
    likeness.fill_diagonal_(-2.0)
    return float((likeness.argmax(1) % 4 == torch.arange(32) % 4).float().mean())


def test_actions_of_unseen_films_are_told_apart(tmp_path: Path) -> None:
    one = recipe()
    before = told_apart(one)
    outcome = train(one, settings(tmp_path, 150, average=0.9))
    one.network.load_state_dict(outcome.weights)
    assert told_apart(one) > max(0.6, before + 0.1), "one in four by chance"


def test_the_loss_is_that_of_its_definition() -> None:
    one = recipe(pairs=4, temperature=0.5)
    loss, terms = one.loss(3)
    chosen = np.random.default_rng([0, 41, 3]).integers(64, size=4)
    clips = [one.data.clips[int(k)].load() for k in chosen]
    a, b = one.of_targets(clips), one.of_demonstrations(clips)
    assert torch.allclose(a.norm(dim=1), torch.ones(4), atol=1e-5)
    logits = a @ b.T / 0.5
    ways = [-(torch.log_softmax(way, dim=1).diagonal().mean()) for way in (logits, logits.T)]
    assert loss.item() == pytest.approx((ways[0] + ways[1]).item() / 2, rel=1e-5)
    assert 0 <= float(terms["right"]) <= 1
    assert torch.equal(one.loss(3)[0], loss) and not torch.equal(one.loss(4)[0], loss)


def test_captions_do_not_tell_which_films_belong_together() -> None:
    """A film's tokens depend on its own caption and pictures, never on those of its partner."""
    one = recipe()
    clip, other = pair(0, 1), pair(1, 2)
    swapped = replace(clip, prompt=replace(clip.prompt, reference=other.prompt.reference))
    with torch.no_grad():
        assert torch.equal(one.of_targets([clip]), one.of_targets([swapped]))
        assert torch.equal(one.of_demonstrations([swapped]), one.of_demonstrations([other]))


def test_a_killed_run_goes_on_as_it_was(tmp_path: Path) -> None:
    whole = train(recipe(), settings(tmp_path / "whole", 6)).weights
    train(recipe(), settings(tmp_path / "parts", 6, minutes=0.0))
    again = train(recipe(), settings(tmp_path / "parts", 6)).weights
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(InvalidInput, match="contrast of motions: given 1 pairs"):
        ContrastTraining(pairs=1)
    bare = replace(pair(0, 0), prompt=replace(pair(0, 0).prompt, reference=None))
    with pytest.raises(InvalidInput, match="no demonstration in their prompts"):
        MotionContrast(prism(), CODEC, WORDS, DataSet("films", (Kept(bare),)), ContrastTraining())  # type: ignore[arg-type]
    longer = ActionPrism(tiny.backbone(), preset="tiny", frames=5, patch=1)
    with pytest.raises(InvalidInput, match="latent frames of clips of 'films': given 3, expected 5"):
        MotionContrast(longer, CODEC, WORDS, pairs(range(2)), ContrastTraining())
