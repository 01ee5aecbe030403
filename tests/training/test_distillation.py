"""A student of few steps: it begins as its teacher, is right at the boundary by construction, and ends much closer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training import tiny_diffusion as tiny
from vap_sim.errors import BadFile, InvalidInput, UnknownName, Unsupported
from vap_sim.models.cogvideox.guidance import Guidance
from vap_sim.models.cogvideox.sampler import PUBLISHED, Schedule, noised
from vap_sim.training.clips import DataSet
from vap_sim.training.consistency import Segments
from vap_sim.training.distillation import DistillationRecipe, DistillationTraining
from vap_sim.training.loop import LoopSettings, train
from vap_sim.training.parallel import Team

SCHEDULE = Schedule.of(PUBLISHED)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[DataSet]:
    pytest.importorskip("diffusers")
    folder = tmp_path_factory.mktemp("distillation")
    return [tiny.data_set(tiny.record(folder / "data", range(4)), folder / "cache")]


def settings(**changes: Any) -> DistillationTraining:
    return replace(DistillationTraining(steps=2, teacher_steps=8, batch=3, region=1.0), **changes)


def recipe(
    data: list[DataSet],
    training: Any = None,
    *,
    lora: bool = False,
    image: bool = True,
    told: bool = True,
    **options: Any,
) -> Any:
    """Of a teacher whose every weight is random."""
    from vap_sim.models.cogvideox.codec import TinyCodec
    from vap_sim.models.cogvideox.lora import Lora
    from vap_sim.models.cogvideox.skeleton_control import SkeletonControl
    from vap_sim.models.cogvideox.text import HashedWords
    from vap_sim.training.diffusion import Denoiser

    training = training or settings()
    body = tiny.backbone(image=image)
    control = SkeletonControl(body, channels=4, width=8) if told else None
    if control is not None:
        tiny.shake(control, 1)
    if lora:
        Lora(rank=2, alpha=2.0).install(body)
    codec = TinyCodec(tiny.CHANNELS)
    segments = Segments.of(SCHEDULE, training.steps, training.teacher_steps)
    given = {"window": 2, **options}
    return DistillationRecipe(
        Denoiser(body, control, codec), codec, HashedWords(6, 8), segments, data, training, **given
    )


def loop(folder: Path, **changes: Any) -> LoopSettings:
    plain = LoopSettings(
        folder, steps=6, warmup=2, checkpoint_every=2, log_every=1, preview_every=99, learning_rate=0.01
    )
    return replace(plain, **changes)


def plain_batch(made: Any, last: int = 2, levels: tuple[int, int, int] = (999, 874, 499)) -> Any:
    clips = [clip.load() for clip in made.data[0].clips[:3]]
    return made.frames(clips, last, [0, 1, 2], [levels] * 3)


@pytest.mark.parametrize("image", [True, False])
def test_a_new_student_is_its_teacher(image: bool, data: list[DataSet]) -> None:
    made = recipe(data, image=image)
    batch = plain_batch(made)
    level = torch.tensor([999, 500, 20])
    with torch.no_grad():
        said = made._ask(None, batch, batch.noise[:, -1:], level)
        assert torch.equal(said, made.guided(batch, batch.noise[:, -1:], level))
        assert torch.equal(said, made._ask(made.network.slow(), batch, batch.noise[:, -1:], level))


@pytest.mark.parametrize("image", [True, False])
def test_a_students_dream_is_the_worlds(image: bool, data: list[DataSet]) -> None:
    """What is trained on is what `Stream` makes with a cache, solver and all."""
    from vap_sim.models.cogvideox.parts import Parts
    from vap_sim.models.cogvideox.settings import Settings
    from vap_sim.models.cogvideox.world import CogVideoXWorld

    made = recipe(data, image=image)
    clip = made.data[0].clips[0].load()
    batch = made.frames([clip], 2, [7], [(0, 0, 0)])
    parts = Parts(
        made.denoiser.backbone, made.codec, made.text, SCHEDULE, Settings(steps=2, history=1), tiny.SIZE,
        (made.denoiser.control,),
    )  # fmt: skip
    world, seen = CogVideoXWorld(parts), []
    told = [
        replace(clip.prompt, skeleton=clip.prompt.skeleton[:, :, a:b], joints=None) for a, b in ((0, 1), (1, 5), (5, 9))
    ]
    with torch.no_grad():
        context = world.mode.begin(made.codec.decode(batch.clean[:, :1])[:, None, 0], told[0])
        batch = replace(batch, clean=torch.cat([context["latent"], batch.clean[:, 1:]], dim=1))
        for step in range(2):
            key = torch.tensor([made.training.seed])
            noise = parts.normals(key, torch.tensor([step]), 1)
            batch.noise[:, step + 1] = noise[:, 0]
            context, _ = world.mode.advance(context, torch.tensor([step]), key, told[step + 1])
            seen.append(context["latent"])
    found = made.dreamed(batch, whole=True).clean[:, 1:]
    assert torch.allclose(found, torch.cat(seen, dim=1), atol=1e-4)


def test_targets_carry_no_gradient_and_the_teacher_stays(data: list[DataSet], tmp_path: Path) -> None:
    made = recipe(data)
    before = {name: value.clone() for name, value in made.teacher.items()}
    batch = plain_batch(made)
    sample = noised(batch.clean[:, -1:], batch.noise[:, -1:], torch.tensor(0.5))
    taught = made.guided(batch, sample, batch.levels[:, 0]).detach()
    made.loss(0)[0].backward()
    assert all(value.grad is None for value in (*made.teacher.values(), *made.network.slow().values()))
    assert any(bool(value.grad.any()) for value in made.network.parameters())
    train(made, loop(tmp_path, steps=4))
    assert tiny.same(dict(made.teacher), before)
    assert torch.equal(made.guided(batch, sample, batch.levels[:, 0]), taught)
    moved = dict(made.network.student.named_parameters())
    assert any(not torch.equal(moved[name], value) for name, value in before.items())
    assert any(not torch.equal(made.network.slow()[name], value) for name, value in before.items())


def test_at_a_segments_end_the_target_is_the_teachers_own(data: list[DataSet]) -> None:
    made = recipe(data)
    with torch.no_grad():
        for value in made.network.target.buffers():
            value.add_(0.3)  # so that it would be heard
        batch = plain_batch(made, levels=(624, 499, 499))
        sample = noised(batch.clean[:, -1:], batch.noise[:, -1:], SCHEDULE.alpha(624))
        found, said = made.target(batch, sample), made.guided(batch, sample, batch.levels[:, 0])
        assert torch.allclose(found, said, atol=1e-4)
        further = plain_batch(made, levels=(749, 624, 499))
        assert not torch.allclose(
            made.target(further, sample), made.guided(further, sample, further.levels[:, 0]), atol=1e-2
        )


def test_guidance_is_folded_into_one_pass(data: list[DataSet]) -> None:
    guidance = Guidance(text=3.0, control=2.0)
    made = recipe(data, settings(guidance=guidance))
    batch, asked = plain_batch(made), []
    level = batch.levels[:, 0]
    run = made.denoiser.forward

    def counted(*given: Any) -> Any:
        asked.append(given)
        return run(*given)

    with torch.no_grad():
        single = [made._ask(made.teacher, batch, batch.noise[:, -1:], level, one) for one in guidance.branches]
        assert torch.equal(made.guided(batch, batch.noise[:, -1:], level), guidance.mix(single))
        made.denoiser.forward = counted
        made.sampled(batch, batch.noise[:, -1:])
    assert len(single) == 3 and len(asked) == 2  # two steps of the student, one pass each


def test_the_target_follows_slowly(data: list[DataSet]) -> None:
    made = recipe(data)
    name, value = next(iter(made.network.student.named_parameters()))
    old = value.detach().clone()
    with torch.no_grad():
        value.add_(1.0)
    made.loss(0)
    assert torch.equal(made.network.slow()[name], old)
    made.loss(1)
    assert torch.allclose(made.network.slow()[name], old + 0.05, atol=1e-5)


def test_history_is_recorded_or_dreamed_as_the_lot_says(data: list[DataSet]) -> None:
    recorded, dreamed = (recipe(data, settings(self_forcing=share)) for share in (0.0, 1.0))
    for step in range(12):
        batch, dream = recorded.batch(step), dreamed.batch(step)
        assert torch.equal(batch.clean[:, 0], dream.clean[:, 0])
        if batch.clean.shape == dream.clean.shape:
            assert torch.equal(batch.clean[:, -1], dream.clean[:, -1])
        assert dream.clean.shape[1] == 3 and not dream.clean.requires_grad
        again = dreamed.frames([c.load() for c in _clips_of(dreamed, step)], 2, _rows(dreamed, step), [(9, 9, 9)] * 3)
        assert torch.equal(dream.noise, again.noise) and not torch.equal(dream.clean[:, 1], again.clean[:, 1])
    assert {recorded.batch(step).clean.shape[1] for step in range(12)} == {2, 3}


def _rows(made: Any, step: int) -> list[int]:
    return list(range(step * made.training.batch, (step + 1) * made.training.batch))


def _clips_of(made: Any, step: int) -> list[Any]:
    return [made.data[0].clips[made.mixture.pick(row)[1]] for row in _rows(made, step)]


def test_two_processes_see_what_one_sees_with_twice_the_batch(data: list[DataSet], monkeypatch: Any) -> None:
    monkeypatch.setattr(Team, "wrap", lambda self, module, units=(): module)
    halves = [recipe(data, settings(batch=2), team=Team(rank, 2)).loss(3)[0] for rank in range(2)]
    whole = recipe(data, settings(batch=4)).loss(3)[0]
    assert torch.allclose(torch.stack(halves).mean(), whole, atol=1e-5)


def test_a_killed_run_goes_on_as_if_unbroken(data: list[DataSet], tmp_path: Path) -> None:
    whole = train(recipe(data), loop(tmp_path / "whole"))
    made = recipe(data)
    found = made.loss

    def killed(step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        if step == 5:
            raise KeyboardInterrupt
        return found(step)  # type: ignore[no-any-return]

    made.loss = killed
    with pytest.raises(KeyboardInterrupt):
        train(made, loop(tmp_path / "run"))
    again = train(recipe(data), loop(tmp_path / "run"))
    assert again.losses == whole.losses and tiny.same(again.weights, whole.weights)
    with pytest.raises(BadFile, match="a checkpoint of"):
        train(recipe(data, teacher="another"), loop(tmp_path / "run"))


def test_lora_shares_the_frozen_backbone(data: list[DataSet]) -> None:
    pytest.importorskip("peft")
    made = recipe(data, lora=True)
    assert all(name.startswith("control.") or ".lora_" in name for name in made.teacher)
    made.loss(0)[0].backward()
    assert any(bool(value.grad.any()) for name, value in made.network.student.named_parameters() if "lora_B" in name)


def test_previews_show_teacher_and_student_beside_the_truth(data: list[DataSet]) -> None:
    clip = data[0].clips[0].load()
    with torch.no_grad():
        film = recipe(data, shown=[clip]).preview(0)["clips/0"]
    assert film.shape == (9, 3, 32, 128) and film.dtype == torch.uint8
    assert torch.equal(film[0, :, :, 64:96], film[0, :, :, 96:])  # the first frame is given


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"precision": "bf61"}, UnknownName, "Did you mean 'bf16'"),
        ({"batch": 0}, InvalidInput, r"batch and weight of the region: given \(0, 1.0\)"),
        ({"self_forcing": 1.5}, InvalidInput, r"share of dreamed histories, share kept: given \(1.5, 0.95\)"),
        ({"guidance": Guidance(text=6.0, dynamic=True)}, Unsupported, "dynamic guidance in distillation"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        settings(**changes)


def test_what_does_not_fit_the_teacher_is_named(data: list[DataSet]) -> None:
    with pytest.raises(InvalidInput, match=r"latent frames of the clips: given 3, expected 2 \.\. 2: the stream looks"):
        recipe(data, window=1)
    with pytest.raises(Unsupported, match="weights split over processes"):
        recipe(data, team=Team(0, 2, shard=True))


def test_a_student_comes_closer_to_its_teacher_than_the_teacher_in_as_few_steps(
    data: list[DataSet], tmp_path: Path
) -> None:
    """Where a picture may go on in many ways, one step of the teacher is their mean, and many steps are one of them."""
    from vap_sim.training.diffusion import DiffusionRecipe, DiffusionTraining

    training = settings(steps=1, teacher_steps=6, batch=8, self_forcing=0.2, keep=0.8)
    made = recipe(data, training, told=False)
    quick = {"learning_rate": 0.006, "warmup": 10, "checkpoint_every": 999, "log_every": 50, "average": 0.95}
    schooling = DiffusionTraining(batch=8, mode="history", region=1.0, caption=0.0, noisy_image=False)
    body, codec, text = made.denoiser.backbone, made.codec, made.text
    lessons = DiffusionRecipe(body, None, codec, text, SCHEDULE, data, schooling)
    train(lessons, loop(tmp_path / "teacher", steps=120, cooldown=40, **quick))

    made = DistillationRecipe(made.denoiser, codec, text, made.segments, data, training, window=2)
    batch = plain_batch(made)
    with torch.no_grad():
        noise = batch.noise[:, -1:]
        many, few = made.sampled(batch, noise, teacher=True), made.sampled(batch, noise)
    outcome = train(made, loop(tmp_path / "student", steps=100, cooldown=40, **quick))
    made.network.load_state_dict(outcome.weights)
    with torch.no_grad():
        learned = made.sampled(batch, noise)
    untaught, taught = (float((one - many).square().mean()) for one in (few, learned))
    assert taught < 0.5 * untaught
