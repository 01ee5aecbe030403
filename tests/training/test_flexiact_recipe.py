"""FlexiAct's training: the paper's loss, only tokens or only LoRA learn, any picture stands first, runs resume."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training import tiny_diffusion as tiny
from tests.training.test_flexiact_clips import film, opened
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.models.cogvideox.sampler import PUBLISHED, Schedule, noised, original
from vap_sim.training.clips import DataSet
from vap_sim.training.flexiact_clips import CropSettings
from vap_sim.training.loop import LoopSettings, learning_rate, train

pytest.importorskip("diffusers")
pytest.importorskip("peft")
CROPS = CropSettings(frames=9, size=(32, 32), frame_rate=8.0, crops=3, pictures=4)
TOKENS = "control.tokens.motion_wave"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = tmp_path_factory.mktemp("flexiact")
    return opened(film(folder / "wave.mp4"), folder / "cache", replace(CROPS, pictures=0))


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = tmp_path_factory.mktemp("flexiact")
    return opened(film(folder / "wave.mp4"), folder / "cache", CROPS)


def tokens_recipe(data: DataSet, body: Any = None, **options: Any) -> Any:
    from vap_sim.models.cogvideox.codec import TinyCodec
    from vap_sim.models.cogvideox.text import HashedWords
    from vap_sim.models.conditioners.flexiact import FlexiAct
    from vap_sim.training.flexiact import FlexiActRecipe, flexiact_preset

    body = tiny.backbone().requires_grad_(False) if body is None else body
    training = replace(flexiact_preset("tokens").training, batch=2, precision="fp32", **options.pop("training", {}))
    parts = (body, FlexiAct(body, {"wave": 6}), TinyCodec(4), HashedWords(6, 8), Schedule.of(PUBLISHED), [data])
    return FlexiActRecipe(*parts, training, **{"temporal": 1.0, **options})


def adapter_recipe(data: DataSet, **training: Any) -> Any:
    from vap_sim.models.cogvideox.codec import TinyCodec
    from vap_sim.models.cogvideox.text import HashedWords
    from vap_sim.models.conditioners.flexiact_adapter import RefAdapter
    from vap_sim.training.flexiact import FlexiActRecipe, flexiact_preset

    body, paper = tiny.backbone(), flexiact_preset("adapter")
    adapter = RefAdapter(rank=4, alpha=2.0, weight=paper.weight)
    adapter.install(body)
    settings = replace(paper.training, batch=2, precision="fp32", **training)
    parts = (body, adapter, TinyCodec(4), HashedWords(6, 8), Schedule.of(PUBLISHED), [data])
    return FlexiActRecipe(*parts, settings, any_frame=True)


def loop(folder: Path, **changes: Any) -> LoopSettings:
    from vap_sim.training.flexiact import flexiact_preset

    few = {"checkpoint_every": 2, "log_every": 1, "preview_every": 99}
    return flexiact_preset("tokens").loop_settings(folder, **{"steps": 6, **few, **changes})


# The loss


def test_the_loss_is_that_of_clean_latents_by_their_noise_and_of_one_change(data: DataSet) -> None:
    """Of x0, times 1 / (1 - alpha), and of sqrt(2) x[k+1] - x[k], not weighted: written down as it is published."""
    recipe = tokens_recipe(data, training={"image": 0.0})
    source, seen = torch.Generator().manual_seed(1), []

    def run(*given: Any) -> Tensor:
        seen.append((given[0], torch.randn(given[0].shape, generator=source)))
        return seen[-1][1]

    recipe._run = run
    for step in (0, 3):
        (total, terms), batch = recipe.loss(step), recipe.batch(range(2 * step, 2 * step + 2))
        shown, prediction = seen[-1]
        alpha = recipe.schedule.alpha(batch.levels[:, 0])
        torch.testing.assert_close(shown, noised(batch.clean, batch.noise, alpha))
        expected = original(prediction, shown, alpha)
        weight = (1 / (1 - alpha)).float()
        base = ((expected - batch.clean) ** 2).flatten(1).mean(1) * weight
        torch.testing.assert_close(terms["velocity"], base.mean(), rtol=1e-4, atol=1e-5)
        pairs = [recipe._pair(row, 3) for row in (2 * step, 2 * step + 1)]
        changes = []
        for row, k in enumerate(pairs):
            one, other = (math.sqrt(2) * x[row, k + 1] - x[row, k] for x in (expected, batch.clean))
            changes.append(((one - other) ** 2).mean())
        torch.testing.assert_close(terms["temporal"], torch.stack(changes).mean(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(total, terms["velocity"] + terms["temporal"])
    drawn = {recipe._pair(row, 3) for row in range(40)}
    assert drawn == {0, 1}


def test_the_weight_of_the_temporal_term(data: DataSet) -> None:
    losses = [tokens_recipe(data, temporal=weight).loss(1) for weight in (0.0, 1.0, 2.5)]
    (bare, none), (one, terms), (more, _) = losses
    assert none.keys() == {"velocity"}
    torch.testing.assert_close(one, bare + terms["temporal"])
    torch.testing.assert_close(more, bare + 2.5 * terms["temporal"])
    with pytest.raises(InvalidInput, match="weight of the temporal term: given -1"):
        tokens_recipe(data, temporal=-1)


# What learns


def test_only_tokens_learn_and_they_make_the_clip_likelier(data: DataSet, tmp_path: Path) -> None:
    recipe = tokens_recipe(data)
    before = {name: value.detach().clone() for name, value in recipe.denoiser.named_parameters()}

    def mean_loss() -> float:
        with torch.no_grad():
            return float(torch.stack([recipe.loss(1000 + step)[0] for step in range(10)]).mean())

    first = mean_loss()
    outcome = train(recipe, loop(tmp_path, steps=40, checkpoint_every=99))
    moved = {name for name, value in recipe.denoiser.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {TOKENS} == set(outcome.weights)
    assert torch.equal(outcome.weights[TOKENS], recipe.denoiser.control.tokens.of("wave")), "the last, not an average"
    assert mean_loss() < first


def test_only_the_adapter_learns(varied: DataSet, tmp_path: Path) -> None:
    recipe = adapter_recipe(varied)
    names = set(dict(recipe.network.named_parameters()))
    assert len(names) == 2 * 4 * 2 and all(".lora_" in name and ".flexiact." in name for name in names)
    before = {name: value.detach().clone() for name, value in recipe.denoiser.named_parameters()}
    train(recipe, loop(tmp_path, steps=3))
    moved = {name for name, value in recipe.denoiser.named_parameters() if not torch.equal(value, before[name])}
    assert moved == names


# Any picture stands first


def test_any_frame_is_the_picture_and_the_first_latent(varied: DataSet) -> None:
    recipe = adapter_recipe(varied, image=0.3, caption=0.0)
    rows = range(60)
    batch = recipe.batch(rows)
    told, chosen = 0, set()
    for row in rows:
        clip = varied.clips[recipe.mixture.pick(row)[1]].load()
        assert torch.equal(batch.clean[row, 1:], clip.latents[1:])
        if not batch.images[row].any():
            assert torch.equal(batch.clean[row, 0], clip.latents[0])
            continue
        told += 1
        chosen.add(next(n for n, one in enumerate(clip.images[1:]) if torch.equal(one, batch.images[row, 0])))
        assert torch.equal(batch.clean[row, :1], batch.images[row])
    assert 30 < told < 55 and len(chosen) > 2
    again = recipe.batch([7])
    assert torch.equal(again.clean[0], batch.clean[7])


def test_pictures_that_do_not_fit_the_recipe_are_named(data: DataSet, varied: DataSet) -> None:
    with pytest.raises(InvalidInput, match="backbone: given one that is told no picture"):
        tokens_recipe(data, tiny.backbone(image=False).requires_grad_(False), any_frame=True)
    with pytest.raises(InvalidInput, match="noisy_image of the training: given False, expected True: with any_frame"):
        tokens_recipe(varied, any_frame=True)


# Runs


def test_a_killed_run_has_the_same_loss_curve(data: DataSet, tmp_path: Path) -> None:
    whole = train(tokens_recipe(data), loop(tmp_path / "whole"))
    recipe = tokens_recipe(data)
    found = recipe.loss

    def killed(step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        if step == 5:
            raise KeyboardInterrupt
        return found(step)  # type: ignore[no-any-return]

    recipe.loss = killed
    with pytest.raises(KeyboardInterrupt):
        train(recipe, loop(tmp_path / "run"))
    again = train(tokens_recipe(data), loop(tmp_path / "run"))
    assert again.losses == whole.losses and list(whole.losses) == [1, 2, 3, 4, 5, 6]
    assert tiny.same(again.weights, whole.weights)
    with pytest.raises(BadFile, match="a checkpoint of"):
        train(tokens_recipe(data, temporal=0.5), loop(tmp_path / "run"))


def test_a_run_of_another_clip_is_refused(data: DataSet, tmp_path: Path) -> None:
    train(tokens_recipe(data), loop(tmp_path / "run", steps=2))
    other = opened(film(tmp_path / "wave.mp4", frames=14), tmp_path / "cache", replace(CROPS, pictures=0))
    with pytest.raises(BadFile, match="a checkpoint of"):
        train(tokens_recipe(other), loop(tmp_path / "run"))


def test_previews_show_the_dream_beside_the_truth(data: DataSet) -> None:
    recipe = tokens_recipe(data, shown=[data.clips[0].load()], preview_steps=2)
    with torch.no_grad():
        films = recipe.preview(0)
    assert films.keys() == {"dreams/0"} and films["dreams/0"].shape == (9, 3, 32, 64)
    truth = recipe.previews.codec.decode(data.clips[0].load().latents[None])[0]
    assert torch.equal(films["dreams/0"][..., 32:].permute(0, 2, 3, 1), truth)


# The paper's settings


def test_the_presets_are_the_papers(tmp_path: Path) -> None:
    from vap_sim.training.flexiact import flexiact_preset

    tokens, adapter = flexiact_preset("tokens"), flexiact_preset("adapter")
    assert (tokens.steps, tokens.rows, tokens.crops, tokens.temporal, tokens.weight) == (3000, 1, 12, 1.0, 0.0)
    assert (adapter.steps, adapter.rows, adapter.temporal, adapter.any_frame, adapter.weight) == (40_000, 8, 0, True, 1)
    for one, rate in ((tokens, 3e-3), (adapter, 1e-5)):
        settings = one.loop_settings(tmp_path)
        found = (settings.learning_rate, settings.betas, settings.weight_decay, settings.clip, settings.warmup)
        assert found == (rate, (0.9, 0.95), 1e-4, 1.0, 0) and settings.average == 0
        training = one.training
        assert (training.caption, training.image, training.region, training.precision) == (0.1, 0.05, 1.0, "bf16")
        half = one.steps // 2
        assert [learning_rate(settings, step) for step in (0, half)] == pytest.approx([rate, rate / 2])
        cosine = [0.5 * rate * (1 + math.cos(math.pi * step / one.steps)) for step in range(0, one.steps, 97)]
        assert [learning_rate(settings, step) for step in range(0, one.steps, 97)] == pytest.approx(cosine)
    assert tokens.loop_settings(tmp_path, 1500, clip=2.0).cooldown == 1500
    with pytest.raises(UnknownName, match=r"preset of FlexiAct's training 'token'\. Did you mean 'tokens'"):
        flexiact_preset("token")
