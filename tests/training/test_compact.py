"""The compact recipe: stages, batches that follow from the step, resuming, dreams to look at."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vap_sim.data.twin import TwinEpisode
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.compact import layers
from vap_sim.models.compact.losses import LossWeights, unit
from vap_sim.models.compact.network import CompactConfig, CompactNetwork, UNetConfig
from vap_sim.models.compact.slots import cut
from vap_sim.training.clips import ClipSource, films_of
from vap_sim.training.compact import CompactRecipe, CompactTraining, Stage, dream
from vap_sim.training.loop import LoopSettings, train

NET = UNetConfig((8, 8), (1, 1))
CONFIG = CompactConfig(size=64, style=4, scene=NET, motion=NET, robot=NET)
TRAINING = CompactTraining(stages=(Stage(0, 2, 2, 1, 0.5), Stage(2, 3, 1, 2, 1.0)))


@pytest.fixture(scope="module")
def source(recording: TwinEpisode) -> ClipSource:
    return ClipSource(tuple(films_of(recording, "compact")))


def recipe(source: ClipSource, training: CompactTraining = TRAINING) -> CompactRecipe:
    """The recipe on a network all of whose layers say something, with the second film to show."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        network = CompactNetwork(CONFIG)
        for value in network.parameters():
            value.add_(torch.randn_like(value) * 0.03)
        network.motion.unet.head.weight.mul_(5)
        return CompactRecipe(network, source, ClipSource(source.films[1:]), training)


def test_stages_begin_at_their_step() -> None:
    assert [TRAINING.stage(step).length for step in (0, 1, 2, 50)] == [2, 2, 3, 3]
    whole = CompactTraining()
    assert whole.stage(0) == whole.stages[0] and whole.stage(10**6) == whole.stages[-1]
    assert all(stage.painted < stage.length for stage in whole.stages)


def test_a_step_sees_the_same_batch_again(source: ClipSource) -> None:
    made = recipe(source)
    for step in (0, 3):
        (once, terms), (again, _), (later, _) = made.loss(step), made.loss(step), made.loss(step + 1)
        assert torch.equal(once, again) and not torch.equal(once, later)
        assert torch.isfinite(once) and set(terms) == set(vars(LossWeights()))
    other = recipe(source, replace(TRAINING, seed=1))
    assert not torch.equal(other.loss(0)[0], made.loss(0)[0])


def test_precision_is_a_choice(source: ClipSource) -> None:
    exact, fast = (recipe(source, replace(TRAINING, precision=name)).loss(0)[0] for name in ("fp32", "bf16"))
    assert not torch.equal(exact, fast) and float(fast.detach()) == pytest.approx(float(exact.detach()), rel=0.02)


def test_a_broken_run_goes_on_bit_by_bit(source: ClipSource, tmp_path: Path) -> None:
    whole = recipe(source)
    steps = LoopSettings(tmp_path / "whole", steps=4, warmup=1, checkpoint_every=9, preview_every=9)
    expected = train(whole, steps)
    part = replace(steps, folder=tmp_path / "part")
    train(recipe(source), replace(part, steps=3))
    last = recipe(source)
    outcome = train(last, part)
    for name, value in expected.weights.items():
        assert torch.equal(outcome.weights[name], value), name
    for name, value in whole.network.state_dict().items():
        assert torch.equal(last.network.state_dict()[name], value), name
    with pytest.raises(BadFile, match="this recipe is"):
        train(recipe(source, replace(TRAINING, weights=LossWeights(frame=1.0))), part)


def test_settings_survive_json(source: ClipSource) -> None:
    described = recipe(source).describe()
    assert json.loads(json.dumps(described)) == described
    assert described["network"]["size"] == 64 and described["stages"][1]["length"] == 3


def test_dreams_are_frames_of_the_clip(source: ClipSource) -> None:
    made = recipe(source)
    clip = source.draw(np.random.default_rng(0), 2, 5)
    with torch.no_grad():
        frames = dream(made.network, clip)
        short = dream(made.network, replace(clip, frames=clip.frames[:, :3], skeletons=clip.skeletons[:, :5]))
    assert frames.shape == (2, 4, 3, 64, 64) and frames.min() >= 0 and frames.max() <= 1
    assert torch.equal(short, frames[:, :2])  # the future is not looked at


def test_dreams_see_the_start_picture_and_the_prompts_alone(
    source: ClipSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The objects are given, because a network that has learned nothing finds none."""
    made = recipe(source)
    clip = source.draw(np.random.default_rng(0), 1, 4)
    found = cut(unit(clip.objects[:, 0]), clip.numbers)
    assert found.present.any()
    monkeypatch.setattr(layers, "find_slots", lambda objects: found)
    blind = {name: torch.zeros_like(getattr(clip, name)) for name in ("objects", "plate", "robot", "seen", "numbers")}
    later = torch.cat([clip.frames[:, :1], torch.zeros_like(clip.frames[:, 1:])], dim=1)
    older = torch.cat([torch.zeros_like(clip.skeletons[:, :2]), clip.skeletons[:, 2:]], dim=1)
    other = torch.cat([clip.skeletons[:, :3], torch.zeros_like(clip.skeletons[:, 3:])], dim=1)
    with torch.no_grad():
        dreamt = dream(made.network, clip)
        assert torch.equal(dream(made.network, replace(clip, frames=later, skeletons=older, **blind)), dreamt)
        assert not torch.equal(dream(made.network, replace(clip, skeletons=other)), dreamt)


def test_a_preview_lays_truth_over_dream(source: ClipSource) -> None:
    made = recipe(source)
    with torch.no_grad():
        sheet = made.preview(0)["dreams"]
        assert torch.equal(sheet, made.preview(7)["dreams"])  # the same clips at every step
    # Ten frames are enough for columns 1 and 5; four clips, truth and dream each.
    assert sheet.dtype == torch.uint8 and sheet.shape == (3, 4 * 2 * 64, 2 * 64)
    clip = made.shown.draw(np.random.default_rng([TRAINING.seed, 99]), 4, 10)
    assert torch.equal(sheet[:, 128:192, 64:], clip.frames[1, 5])


def test_films_that_do_not_suit_are_refused_at_once(source: ClipSource) -> None:
    with pytest.raises(InvalidInput, match=r"films for training: given 10 frames .* expected at least 11, the longest"):
        recipe(source, CompactTraining(stages=(Stage(0, 11, 1, 1, 0.0),)))
    with pytest.raises(InvalidInput, match=r"size of films for training: given \(64, 64\) .* expected \(128, 128\)"):
        CompactRecipe(CompactNetwork(replace(CONFIG, size=128)), source, source, TRAINING)
