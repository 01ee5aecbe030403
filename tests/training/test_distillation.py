"""A student of few steps: it begins as its teacher, is right at the boundary by construction, and ends much closer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training import tiny_diffusion as tiny
from vap_sim.errors import BadFile, InvalidInput, UnknownName, Unsupported
from vap_sim.models.cogvideox.guidance import Guidance
from vap_sim.models.cogvideox.sampler import PUBLISHED, Schedule, noised, velocity
from vap_sim.training.clips import DataSet
from vap_sim.training.consistency import ARRIVED, Segments, jump, leading_to, target_velocity
from vap_sim.training.distillation import DistillationRecipe, DistillationTraining
from vap_sim.training.loop import LoopSettings, train
from vap_sim.training.parallel import Team

SCHEDULE = Schedule.of(PUBLISHED)


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# The arithmetic


@pytest.mark.parametrize(("student", "teacher"), [(1, 24), (2, 24), (3, 24), (4, 24), (4, 4), (2, 50)])
def test_segments_are_the_samplers_steps_and_the_teacher_walks_through_them(student: int, teacher: int) -> None:
    segments = Segments.of(SCHEDULE, student, teacher)
    begins = SCHEDULE.timesteps(student)
    assert segments.jumps == tuple((one, SCHEDULE.after(one, student)) for one in begins)
    assert (segments.student, segments.teacher) == (student, teacher)
    assert len(segments.path) == teacher and segments.path[0][0] == 999 and segments.path[-1][1] == ARRIVED
    assert all(here > there for here, there in segments.path)
    if 1000 % teacher == 0:
        assert tuple(here for here, _ in segments.path) == SCHEDULE.timesteps(teacher)


def test_every_point_is_drawn_with_what_follows_it() -> None:
    segments, rng = Segments.of(SCHEDULE, 2, 8), np.random.default_rng(0)
    drawn = {segments.draw(rng) for _ in range(400)}
    ends = {here: end for row in segments.points.tolist() for here in row[:-1] for end in row[-1:]}
    assert drawn == {(here, there, ends[here]) for here, there in segments.path}


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ((SCHEDULE, 2, 25), InvalidInput, "denoising steps of the teacher: given 25, expected a multiple of the stud"),
        ((SCHEDULE, 4, 2), InvalidInput, "denoising steps of the teacher: given 2"),
        ((SCHEDULE, 0, 24), InvalidInput, "denoising steps: given 0"),
        ((replace(SCHEDULE, spacing="leading"), 2, 24), Unsupported, "few steps with timestep_spacing 'leading'"),
    ],
)
def test_impossible_segments_are_refused(given: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Segments.of(*given)


def test_a_jump_of_no_length_changes_nothing_whatever_the_network_says() -> None:
    sample, said = normals(3, 1, 4, 2, 2), normals(3, 1, 4, 2, 2, seed=1)
    for level in (ARRIVED, 0, 499, 999):
        alpha = SCHEDULE.alpha(torch.full((3,), level))
        assert torch.equal(jump(said, sample, alpha, alpha), sample)


@pytest.mark.parametrize("levels", [(999, ARRIVED), (999, 499), (499, ARRIVED), (41, ARRIVED), (541, 499)])
def test_a_velocity_and_where_it_leads_say_the_same(levels: tuple[int, int]) -> None:
    sample, said = normals(2, 1, 4, 2, 2), normals(2, 1, 4, 2, 2, seed=1)
    alpha, goal = (SCHEDULE.alpha(torch.full((2,), level)) for level in levels)
    assert torch.allclose(leading_to(jump(said, sample, alpha, goal), sample, alpha, goal), said, atol=2e-5)


def test_a_true_path_teaches_the_true_velocity() -> None:
    """Where clean and noise are known the path is a straight mix, and every point of it names the same end."""
    clean, noise = normals(2, 1, 4, 2, 2), normals(2, 1, 4, 2, 2, seed=1)
    alpha, after, goal = SCHEDULE.alpha(torch.tensor([[999, 600, ARRIVED], [700, 650, 499]])).unbind(1)
    sample, ahead = noised(clean, noise, alpha), noised(clean, noise, after)
    found = target_velocity(ahead, velocity(clean, noise, after), sample, alpha, after, goal)
    assert torch.allclose(found, velocity(clean, noise, alpha), atol=1e-4)


# The recipe


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


# What it is for


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


# The command


def test_the_command_makes_a_world_that_dreams_in_few_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("diffusers")
    import gymnasium

    import vap_sim
    from vap_sim.cli import main
    from vap_sim.envs.start import load_start
    from vap_sim.models.cogvideox.world import CogVideoXWorld

    folder, school, run = tiny.record(tmp_path / "data", [1, 2]), tmp_path / "school", tmp_path / "run"
    common = ["--data", str(folder), "--steps", "2", "--cooldown", "0", "--threads", "1", "--validation", "1"]
    told = ["train", "--world", "cogvideox", "--run", str(school), *common, "--cogvideox.frames", "9"]
    told += ["--cogvideox.spacing", "4", "--cogvideox.preview-every", "99", "--cogvideox.blocks", "1"]
    assert main([*told, "--cogvideox.mode", "history"]) == 0
    teacher = school / "world"
    before = {file: file.read_bytes() for file in teacher.rglob("*") if file.is_file()}

    learn = ["distill", str(teacher), "--run", str(run), *common, "--steps-per-frame", "2", "--teacher-steps", "4"]
    learn += ["--spacing", "4", "--batch", "2", "--preview-every", "2", "--guidance", "2.0", "--lora", "2"]
    capsys.readouterr()
    assert main(learn) == 0
    assert capsys.readouterr().out.strip() == str(run / "world")
    assert {file: file.read_bytes() for file in teacher.rglob("*") if file.is_file()} == before
    card = (run / "world" / "README.md").read_text()
    assert "in 2 steps a frame" in card and "2 of 2 steps" in card and "control.safetensors" in card
    assert CogVideoXWorld.load(teacher).fingerprint in card

    worlds = [vap_sim.load_world(run / "world"), CogVideoXWorld.load(run / "world")]
    assert isinstance(worlds[0], CogVideoXWorld)
    settings = worlds[0].settings
    assert (settings.mode, settings.steps, settings.solver, settings.guiding) == ("stream", 2, "ddim", Guidance())
    assert worlds[0].spec.frame_rate == 10.0 and worlds[0].spec.size == (32, 32)
    prompt = tiny_prompt()
    states = [world.encode(prompt.skeleton[:, :, 0], prompt.between(0, 1), [3]) for world in worlds]
    films = [world.step(state, prompt.between(1, 5))[1] for world, state in zip(worlds, states, strict=True)]
    assert torch.equal(*films) and films[0].shape == (1, 1, 4, 32, 32, 3)

    env = gymnasium.make("VAPWorld-DROID-v0", world=run / "world", control_hz=10.0, video_hz=10.0)
    env.reset(seed=0, options={"start": load_start("pick_place_07").resized((32, 32))})
    for _ in range(4):
        seen = env.step(np.zeros(env.action_space.shape, np.float32))[0]
    assert seen["image"].dtype == np.uint8

    for options, words in [
        (["--steps-per-frame", "5"], "--steps-per-frame: given 5, expected 1 to 4"),
        (["--teacher-steps", "5"], "denoising steps of the teacher: given 5"),
        (["--validation", "2"], "--validation: given 2"),
        (["--frames", "33"], "--frames: given 33, expected at most 9, which the teacher"),
        (["--self-forcing", "2"], "share of dreamed histories"),
    ]:
        assert main([*learn, *options]) == 1
        assert words in capsys.readouterr().err.splitlines()[-1]


def tiny_prompt() -> Any:
    from vap_sim.prompts.visual_prompt import VisualPrompt

    source = torch.Generator().manual_seed(0)
    return VisualPrompt(torch.randint(0, 256, (1, 1, 5, 32, 32, 3), dtype=torch.uint8, generator=source))


def test_teachers_and_recordings_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("diffusers")
    from tests.models.cogvideox.worlds import tiny_backbone
    from vap_sim.cli import main
    from vap_sim.models.cogvideox.loading import Header, save_world

    folder = tiny.record(tmp_path / "data", [1, 2])
    header = Header(size=(32, 32), frame_rate=10.0, tiny_codec=8, hashed_words=True)
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("chunk", {"settings": {"mode": "chunk", "chunk": 17}}, "given chunk, expected 'stream'"),
        ("small", {"size": (48, 32)}, "given (32, 32), expected (48, 32), as the teacher makes"),
        ("fast", {"frame_rate": 8.0}, "given 10 Hz, expected 8 Hz, as the teacher makes, or a multiple"),
    ]
    for name, changed, words in cases:
        save_world(tmp_path / name, tiny_backbone(), replace(header, **changed))
        assert main(["distill", str(tmp_path / name), "--data", str(folder), "--run", str(tmp_path / "run"),
                     "--validation", "1", "--threads", "1"]) == 1  # fmt: skip
        assert words in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run" / "training").exists()
