"""The recipe of CogVideoX: diffusers' loss, exact omissions, rows that follow from their number, runs that resume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training import tiny_diffusion as tiny
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.models.cogvideox.sampler import PUBLISHED, Schedule
from vap_sim.training.animation import animated_png
from vap_sim.training.clips import DataSet
from vap_sim.training.loop import LoopSettings, train
from vap_sim.training.parallel import Team

# The recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[DataSet]:
    pytest.importorskip("diffusers")
    pytest.importorskip("peft")
    folder = tmp_path_factory.mktemp("diffusion")
    sets = [("many", range(1, 5)), ("few", range(8, 9))]
    return [tiny.data_set(tiny.record(folder / name, seeds), folder / "cache") for name, seeds in sets]


def settings(**changes: Any) -> Any:
    from vap_sim.training.diffusion import DiffusionTraining

    return replace(DiffusionTraining(batch=2, control=0.3, caption=0.3), **changes)


def loop(folder: Path, **changes: Any) -> LoopSettings:
    plain = LoopSettings(
        folder, steps=6, warmup=2, checkpoint_every=2, log_every=1, preview_every=99, learning_rate=0.01
    )
    return replace(plain, **changes)


def rows(batch: Any, first: int, last: int) -> dict[str, Tensor]:
    values = {
        name: getattr(batch, name) for name in ("clean", "noise", "levels", "learned", "images", "weight", "text")
    }
    values |= {"skeleton": batch.prompt.skeleton, "alone": batch.uncontrolled}
    return {name: value[first:last] for name, value in values.items()}


@pytest.mark.parametrize("mode", ["chunk", "history", "forcing"])
def test_a_row_follows_from_its_number_alone(mode: str, data: list[DataSet]) -> None:
    recipe = tiny.recipe(data, settings(mode=mode))
    batch = recipe.batch(range(6, 12))
    for row in (6, 9, 11):
        assert tiny.same(rows(recipe.batch([row]), 0, 1), rows(batch, row - 6, row - 5))
    other = tiny.recipe(data, settings(mode=mode, seed=1)).batch(range(6, 12))
    assert not torch.equal(other.noise, batch.noise) and not torch.equal(other.levels, batch.levels)
    assert not torch.equal(batch.noise[0], batch.noise[1])


def test_processes_see_together_what_one_sees_with_twice_the_batch(data: list[DataSet], monkeypatch: Any) -> None:
    seen: list[list[int]] = []

    def watch(recipe: Any) -> Any:
        found = recipe.batch

        def batch(asked: range) -> Any:
            seen.append(list(asked))
            return found(asked)

        monkeypatch.setattr(recipe, "batch", batch)
        return recipe

    monkeypatch.setattr(Team, "wrap", lambda self, module, units=(): module)
    losses = [watch(tiny.recipe(data, settings(), team=Team(rank, 2))).loss(3)[0] for rank in range(2)]
    whole = watch(tiny.recipe(data, settings(batch=4))).loss(3)[0]
    assert seen[0] + seen[1] == seen[2] == [12, 13, 14, 15]
    assert torch.allclose(torch.stack(losses).mean(), whole, atol=1e-6)


def test_what_is_left_out_is_left_out(data: list[DataSet]) -> None:
    every = tiny.recipe(data, settings(caption=1.0, control=1.0, image=1.0)).batch(range(8))
    assert not every.text.any() and every.uncontrolled.all() and not every.images.any()
    none = tiny.recipe(data, settings(caption=0.0, control=0.0, image=0.0)).batch(range(8))
    assert none.text.flatten(1).any(1).all() and not none.uncontrolled.any() and none.images.flatten(1).any(1).all()
    some = tiny.recipe(data, settings(caption=0.25, control=0.5, image=0.0, batch=1)).batch(range(400))
    assert float(some.uncontrolled.double().mean()) == pytest.approx(0.5, abs=0.08)
    assert float((~some.text.flatten(1).any(1)).double().mean()) == pytest.approx(0.25, abs=0.07)


def test_first_frames_come_with_noise_or_without(data: list[DataSet]) -> None:
    recipe = tiny.recipe(data, settings(image=0.0))
    clips = [recipe.data[which].clips[index].load() for which, index in map(recipe.mixture.pick, range(12))]
    batch = recipe.batch(range(12))
    places = [
        next(number for number, one in enumerate(clip.images) if torch.equal(one, image[0]))
        for clip, image in zip(clips, batch.images, strict=True)
    ]
    assert set(places) == {1, 2}
    plain = tiny.recipe(data, settings(image=0.0, noisy_image=False)).batch(range(12))
    assert all(torch.equal(clip.images[:1], image) for clip, image in zip(clips, plain.images, strict=True))
    assert tiny.recipe(data, settings(), image=False).batch([0]).images is None


def passed(recipe: Any, batch: Any, clean: Tensor, stream: bool, **changes: Tensor) -> Tensor:
    given = {"levels": batch.levels, "text": batch.text, "images": batch.images, "uncontrolled": batch.uncontrolled}
    given |= changes
    with torch.no_grad():
        return recipe.denoiser(clean, prompt=batch.prompt, stream=stream, **given)  # type: ignore[no-any-return]


def test_rows_without_control_are_the_backbones_own(data: list[DataSet]) -> None:
    from vap_sim.models.cogvideox.injection import Injection, first_frame_channels

    recipe = tiny.recipe(data, settings())
    batch = recipe.batch(range(2))
    found = passed(recipe, batch, batch.noise, False, uncontrolled=torch.tensor([True, False]))
    channels = first_frame_channels(batch.images, 3)
    with torch.no_grad():
        bare = recipe.denoiser.backbone(batch.noise, batch.levels[:, 0], batch.text, Injection(channels=channels))
    assert torch.allclose(found[0], bare[0], atol=1e-6) and not torch.allclose(found[1], bare[1], atol=1e-3)


def test_a_streams_frames_do_not_see_later_ones(data: list[DataSet]) -> None:
    recipe = tiny.recipe(data, settings(mode="forcing"))
    batch = recipe.batch(range(2))
    later = batch.noise.clone()
    later[:, 2] += 1
    for stream in (True, False):
        one, other = (passed(recipe, batch, values, stream)[:, :2] for values in (batch.noise, later))
        assert torch.allclose(one, other, atol=1e-5) == stream


def test_clean_frames_go_in_clean(data: list[DataSet], monkeypatch: Any) -> None:
    recipe, seen = tiny.recipe(data, settings(mode="history")), []
    run = recipe._run

    def watched(*given: Any) -> Tensor:
        seen.append(given[0])
        return run(*given)  # type: ignore[no-any-return]

    monkeypatch.setattr(recipe, "_run", watched)
    recipe.loss(0)
    batch = recipe.batch(range(2))
    assert torch.equal(seen[0][~batch.learned], batch.clean[~batch.learned])
    assert not torch.isclose(seen[0][batch.learned], batch.clean[batch.learned]).all(-1).any()


def test_the_region_weighs_in_the_loss(data: list[DataSet]) -> None:
    plain, weighed = (tiny.recipe(data, settings(region=region)) for region in (1.0, 3.0))
    (one, terms), (other, same) = plain.loss(1), weighed.loss(1)
    assert torch.allclose(one, terms["unweighted"]) and torch.equal(terms["unweighted"], same["unweighted"])
    assert one < other < 3 * one
    region = torch.stack([c.load().region for c in data[0].clips])
    batch = weighed.batch(range(4))
    assert set(batch.weight.unique().tolist()) == {1.0, 3.0} and 0 < float(region.mean()) < 1


def test_control_and_lora_learn_and_the_rest_stays(data: list[DataSet], tmp_path: Path) -> None:
    recipe = tiny.recipe(data, settings())
    names = [name for name, _ in recipe.network.named_parameters()]
    assert all(name.startswith("control.") or ".lora_" in name for name in names)
    assert {name.split(".")[1] for name in names if name.startswith("control.")} == {
        "encoder", "branch", "projections", "input_projection",
    }  # fmt: skip
    before = {name: value.detach().clone() for name, value in recipe.denoiser.named_parameters()}
    train(recipe, loop(tmp_path, steps=2, cooldown=0))
    moved = {name for name, value in recipe.denoiser.named_parameters() if not torch.equal(value, before[name])}
    assert moved == set(names)


def test_a_silent_control_wakes_up(data: list[DataSet], tmp_path: Path, monkeypatch: Any) -> None:
    """Zero at first: the encoder has no gradient in the first step, and one in the second."""
    monkeypatch.setattr(tiny, "shake", lambda *given: None)
    recipe = tiny.recipe(data, settings(control=0.0))
    before = {name: value.detach().clone() for name, value in recipe.denoiser.control.encoder.named_parameters()}
    train(recipe, loop(tmp_path, steps=3, cooldown=0, weight_decay=0.0))
    after = dict(recipe.denoiser.control.encoder.named_parameters())
    assert all(not torch.equal(after[name], value) for name, value in before.items())


def test_a_killed_run_has_the_same_loss_curve(data: list[DataSet], tmp_path: Path) -> None:
    whole = train(tiny.recipe(data, settings()), loop(tmp_path / "whole"))
    recipe = tiny.recipe(data, settings())
    found = recipe.loss

    def killed(step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        if step == 5:
            raise KeyboardInterrupt
        return found(step)  # type: ignore[no-any-return]

    recipe.loss = killed
    with pytest.raises(KeyboardInterrupt):
        train(recipe, loop(tmp_path / "run"))
    again = train(tiny.recipe(data, settings()), loop(tmp_path / "run"))
    assert again.losses == whole.losses and list(whole.losses) == [1, 2, 3, 4, 5, 6]
    assert tiny.same(again.weights, whole.weights) and again.seconds > 0


def test_two_batches_of_two_are_one_of_four(data: list[DataSet], tmp_path: Path) -> None:
    slow = {"steps": 3, "learning_rate": 1e-3}  # what is no more than rounding, Adam makes steps of
    parts = train(tiny.recipe(data, settings()), loop(tmp_path / "parts", accumulate=2, **slow))
    whole = train(tiny.recipe(data, settings(batch=4)), loop(tmp_path / "whole", **slow))
    assert tiny.same(parts.weights, whole.weights, 1e-5)
    assert [*parts.losses.values()] == pytest.approx([*whole.losses.values()], abs=1e-5)


def test_a_run_of_other_settings_or_data_is_refused(data: list[DataSet], tmp_path: Path) -> None:
    train(tiny.recipe(data, settings()), loop(tmp_path, steps=1, cooldown=0))
    for other, sets in ((settings(region=2.0), data), (settings(), data[:1]), (settings(batch=3), data)):
        with pytest.raises(BadFile, match="a checkpoint of"):
            train(tiny.recipe(sets, other), loop(tmp_path, steps=1, cooldown=0))


def test_memory_switches_do_not_change_what_is_learned(data: list[DataSet]) -> None:
    from vap_sim.models.cogvideox.memory import checkpoint_blocks

    def gradients(recipe: Any) -> dict[str, Tensor]:
        recipe.network.train()
        recipe.loss(0)[0].backward()
        return {name: value.grad for name, value in recipe.network.named_parameters()}

    plain, thrifty, coarse = (tiny.recipe(data, settings(precision=kind)) for kind in ("fp32", "fp32", "bf16"))
    checkpoint_blocks(thrifty.denoiser.backbone)
    checkpoint_blocks(thrifty.denoiser.control.branch)
    expected = gradients(plain)
    assert tiny.same(gradients(thrifty), expected, 1e-6)
    close = gradients(coarse)
    largest = max(float(value.abs().max()) for value in expected.values())
    assert tiny.same(close, expected, 0.1 * largest) and not tiny.same(close, expected, 1e-6)


@pytest.mark.parametrize("form", ["raw_action", "text"])
def test_other_forms_train_by_the_same_recipe(form: str, tmp_path: Path) -> None:
    from vap_sim.models.cogvideox.codec import TinyCodec
    from vap_sim.models.cogvideox.control_form import control_for
    from vap_sim.models.cogvideox.lora import Lora
    from vap_sim.models.cogvideox.text import HashedWords
    from vap_sim.training.diffusion import DiffusionRecipe

    pytest.importorskip("diffusers")
    pytest.importorskip("peft")
    told = tiny.data_set(tiny.record(tmp_path, [1]), tmp_path / "cache", replace(tiny.SETTINGS, form=form))
    body = tiny.backbone()
    control = control_for(form, body, joints=8)
    Lora(rank=2).install(body)
    schedule, text = Schedule.of(PUBLISHED), HashedWords(6, 8)
    recipe = DiffusionRecipe(body, control, TinyCodec(tiny.CHANNELS), text, schedule, [told], settings())
    loss = recipe.loss(0)[0]
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss) and all(value.grad is not None for value in recipe.network.parameters())


def test_previews_are_films_of_truth_prompt_guess_and_dream(data: list[DataSet], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    clip = data[1].clips[0].load()
    recipe = tiny.recipe(data, settings(mode="forcing"), shown=[clip], preview_steps=2)
    train(recipe, loop(tmp_path, steps=2, cooldown=0, preview_every=2))
    with torch.no_grad():
        films = recipe.preview(2)
    guess, dream = films["clips/0"], films["dreams/0"]
    drawn = clip.prompt.skeleton[0, 0].permute(0, 3, 1, 2)
    assert guess.shape == dream.shape == (9, 3, 32, 96) and guess.dtype == dream.dtype == torch.uint8
    assert torch.equal(guess[..., 32:64], drawn) and torch.equal(dream[..., 64:], drawn)
    assert torch.equal(dream[..., 32:64], guess[..., :32])  # both tell the same truth
    assert torch.equal(guess[0, :, :, 64:], guess[0, :, :, :32])  # the first frame is given
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for name in films:
        shown = events.Images(name)[0].encoded_image_string
        assert shown.startswith(b"\x89PNG") and shown.count(b"fcTL") == 9


def test_a_film_is_stored_without_loss() -> None:
    import io

    import av

    film = torch.randint(0, 256, (3, 3, 8, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with av.open(io.BytesIO(animated_png(film)), "r") as container:
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert torch.equal(torch.stack(frames).permute(0, 3, 1, 2), film)
    with pytest.raises(InvalidInput, match="film to show: given"):
        animated_png(film[0])


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"mode": "stream"}, UnknownName, "unknown mode of training 'stream'"),
        ({"precision": "bf61"}, UnknownName, "Did you mean 'bf16'"),
        ({"batch": 0}, InvalidInput, r"batch and weight of the region: given \(0, 3.0\)"),
        ({"region": 0.5}, InvalidInput, "batch and weight of the region"),
        ({"caption": 1.1}, InvalidInput, "shares of rows without caption, control, image"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        settings(**changes)


def test_what_does_not_fit_is_named(data: list[DataSet], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(tiny, "CHANNELS", 5)
    with pytest.raises(InvalidInput, match="latent channels of the clips: given 4, expected 5"):
        tiny.recipe(data)
    monkeypatch.undo()
    from vap_sim.training.parallel import Trainable

    with pytest.raises(InvalidInput, match="weights to train: given none"):
        Trainable(torch.nn.ReLU())
    with pytest.raises(InvalidInput, match="batches to accumulate: given 0"):
        loop(tmp_path, accumulate=0)
