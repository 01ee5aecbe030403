"""What distillation to few steps buys: a small CogVideoX in stream mode, its students, and how far each is from it.

Records twin episodes of small pictures, trains a teacher and a student for each number of steps (`vap-sim distill`),
all kept in the output folder and gone on with when it is called again. Then teacher and students dream held-out
episodes from their first picture and their joints with the same noise; errors are means over all dreamt pictures.

    python benchmarks/few_steps.py --students 1 2 4 --sheet out/few_steps/sheet.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from harness import about, episode_camera, write_json, write_sheet
from torch import Tensor

from vap_sim.commands import distill
from vap_sim.data.twin import episode_files, load_episode
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.codec import SIDE, TinyCodec
from vap_sim.models.cogvideox.config import build_transformer, tiny_config
from vap_sim.models.cogvideox.control_form import save_control
from vap_sim.models.cogvideox.loading import HEADER, Header, save_world
from vap_sim.models.cogvideox.sampler import PUBLISHED, Schedule
from vap_sim.models.cogvideox.skeleton_control import SkeletonControl
from vap_sim.models.cogvideox.text import HashedWords
from vap_sim.models.cogvideox.world import CogVideoXWorld
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.robots.library import load_robot
from vap_sim.training.clips import ClipSettings, caption_of, open_data_set
from vap_sim.training.diffusion import DiffusionRecipe, DiffusionTraining
from vap_sim.training.latents import CachedText, TensorCache
from vap_sim.training.loop import LoopSettings, train
from vap_sim.training.parallel import settle

FORM, FRAMES, SPACING = "skeleton", 13, 4
SHOWN = (4, 8, 16, 24)


@dataclass(frozen=True, eq=False)
class Held:
    """b held-out episodes: truth (b, F, H, W, 3) uint8 from the first picture on, and the prompt of all of it."""

    truth: Tensor
    prompt: VisualPrompt


@dataclass(frozen=True)
class Line:
    """A row of the table. Errors: root mean square of grey levels, 0..255; time: of a step of four pictures [ms]."""

    name: str
    steps: int
    to_teacher: float
    to_truth: float
    step_ms: float


def record(folder: Path, count: int, side: int, workers: int) -> list[Path]:
    """Episodes of seeds 0, 1, ..., those that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(_record, [(seed, folder, side) for seed in range(count)]))
    return episode_files(folder)


def _record(job: tuple[int, Path, int]) -> None:
    from vap_sim.envs.twin_recorder import RecorderSettings, record_file

    torch.set_num_threads(1)
    seed, folder, side = job
    record_file(seed, folder, RecorderSettings(size=(side, side)))


def teach(out: Path, files: Sequence[Path], args: argparse.Namespace) -> Path:
    """Train the teacher to the end, or until its minutes are over, and return its folder."""
    folder, cache = out / "teacher" / "world", TensorCache(out / "cache")
    config = tiny_config(size=(args.side // SIDE, args.side // SIDE), frames=1 + FRAMES // 4, blocks=args.blocks)
    body = Backbone(build_transformer(config, seed=args.seed).train())
    control = SkeletonControl(body, blocks=1, channels=16, width=32, seed=args.seed)
    codec, text = TinyCodec(config.latent_channels), HashedWords(config.text_length, config.text_width)
    clips = ClipSettings(form=FORM, frames=FRAMES, spacing=SPACING, images=1, seed=args.seed)
    data = open_data_set(out / "episodes", clips, codec, cache, files=files)
    training = DiffusionTraining(seed=args.seed, batch=args.batch, mode="history", control=0.0, noisy_image=False)
    schedule = Schedule.of(PUBLISHED)
    recipe = DiffusionRecipe(body, control, codec, CachedText(text, cache), schedule, [data], training)
    outcome = train(recipe, loop_settings(out / "teacher" / "training", args.teacher, args))
    settle(recipe.denoiser, outcome.weights)
    save_control(folder / "control", body, control, profile=FORM)
    header = Header(
        size=(args.side, args.side),
        frame_rate=1 / float(load_episode(files[0], only=()).meta["control_dt"]),
        profile=FORM,
        max_chunk=FRAMES,
        tiny_codec=config.latent_channels,
        hashed_words=True,
        control="control",
        settings={"mode": "stream", "history": FRAMES // 4 - 1, "steps": args.teacher_steps},
    )
    save_world(folder, body, header)
    print(f"teacher: {outcome.step} of {outcome.steps} steps in {outcome.seconds:.0f} s, losses {last(outcome.losses)}")
    return folder


def loop_settings(folder: Path, steps: int, args: argparse.Namespace) -> LoopSettings:
    return LoopSettings(
        folder,
        steps,
        args.minutes,
        args.learning_rate,
        warmup=50,
        cooldown=steps // 4,
        average=0.99,
        preview_every=10**9,
    )


def last(losses: dict[int, float]) -> str:
    """The mean of the last twenty losses that were logged."""
    newest = [losses[step] for step in sorted(losses)[-20:]]
    return f"{sum(newest) / max(1, len(newest)):.3f}"


def student(out: Path, teacher: Path, steps: int, args: argparse.Namespace) -> Path:
    """Distill, or go on with it, and return the student's folder."""
    return distill.run(
        distill.Distill(
            teacher,
            out / "episodes",
            out / f"student_{steps}",
            steps_per_frame=steps,
            teacher_steps=args.teacher_steps,
            self_forcing=args.self_forcing,
            steps=args.student,
            cooldown=args.student // 4,
            minutes=args.minutes,
            learning_rate=args.learning_rate / 2,
            batch=args.batch,
            spacing=SPACING,
            seed=args.seed,
            threads=args.threads,
            validation=args.held,
            cache=out / "cache",
            preview_every=10**9,
        )
    )


def held_out(files: Sequence[Path], frames: int) -> Held:
    """The first `frames` pictures after the start, of each episode."""
    truth, prompts = [], []
    for path in files:
        episode = load_episode(path, only=("frames", "joints"))
        camera = episode_camera(episode)
        prompter = Prompter(load_robot(episode.meta["robot"]), profile(FORM), camera.size)
        drawn = prompter.draw(torch.from_numpy(episode.joints[None, : frames + 1]), [camera])
        prompts.append(replace(drawn, joints=None, text=(caption_of(episode.meta),)))
        truth.append(torch.from_numpy(episode.frames[0, : frames + 1].copy()))
    return Held(torch.stack(truth), VisualPrompt.cat(prompts))


def dream(world: CogVideoXWorld, held: Held) -> tuple[Tensor, float]:
    """Pictures (b, F, H, W, 3) uint8, the first given, and the median time of a step of one row [s]."""
    told, films, times = held.prompt, [], []
    for row in range(len(told)):
        own = told.index(torch.tensor([row]))
        state = world.encode(held.truth[row : row + 1, :1], own.between(0, 1), [row])
        film = [held.truth[row : row + 1, :1]]
        for first in range(1, held.truth.shape[1], world.spec.frames_per_step):
            began = perf_counter()
            state, frames = world.step(state, own.between(first, first + world.spec.frames_per_step))
            times.append(perf_counter() - began)
            film.append(frames[:, 0])
        films.append(torch.cat(film, dim=1))
    return torch.cat(films), median(times)


def distance(one: Tensor, other: Tensor) -> float:
    """Root mean square of the difference of dreamt pictures in grey levels."""
    return float((one[:, 1:].float() - other[:, 1:].float()).square().mean().sqrt())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", type=int, nargs="+", default=[1, 2, 4], help="steps a frame of each student")
    parser.add_argument("--teacher-steps", type=int, default=24)
    parser.add_argument("--teacher", type=int, default=3000, help="training steps of the teacher")
    parser.add_argument("--student", type=int, default=1500, help="training steps of each student")
    parser.add_argument("--self-forcing", type=float, default=0.25)
    parser.add_argument("--minutes", type=float, default=None, help="of each training in this call")
    parser.add_argument("--episodes", type=int, default=28)
    parser.add_argument("--held", type=int, default=4, help="episodes that nothing is trained on")
    parser.add_argument("--side", type=int, default=64, help="of the pictures [px]")
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--frames", type=int, default=24, help="pictures to dream, a multiple of 4")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--train-only", choices=("teacher", "student"), help="stop after this; students side by side")
    parser.add_argument("--out", type=Path, default=Path("out") / "few_steps")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet to this PNG file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    files = record(args.out / "episodes", args.episodes, args.side, args.threads)
    place = args.out / "teacher" / "world"
    if args.train_only != "student" or not (place / HEADER).is_file():
        place = teach(args.out, files[: -args.held], args)
    if args.train_only == "teacher":
        return
    places = {steps: student(args.out, place, steps, args) for steps in args.students}
    if args.train_only is None:
        report(place, places, held_out(files[-args.held :], args.frames), args)


def report(place: Path, places: dict[int, Path], held: Held, args: argparse.Namespace) -> None:
    """Dream, print the table, and write what was asked for."""
    teacher = CogVideoXWorld.load(place)
    many, seconds = dream(teacher, held)
    lines = [Line("teacher", args.teacher_steps, 0.0, distance(many, held.truth), 1e3 * seconds)]
    sheet = {"recorded": held.truth, f"teacher, {args.teacher_steps} steps": many}
    still = held.truth[:, :1].expand_as(held.truth)
    for steps, folder in places.items():
        for name, world in (
            ("teacher", CogVideoXWorld.load(place, steps=steps)),
            ("student", CogVideoXWorld.load(folder)),
        ):
            film, seconds = dream(world, held)
            lines.append(Line(name, steps, distance(film, many), distance(film, held.truth), 1e3 * seconds))
            sheet[f"{name}, {steps} step{'s' if steps > 1 else ''}"] = film
    lines.append(Line("first picture", 0, distance(still, many), distance(still, held.truth), 0.0))
    print(f"{'who':16}{'steps':>6}{'to teacher':>12}{'to truth':>10}{'ms a step':>11}")
    for line in lines:
        print(f"{line.name:16}{line.steps:6}{line.to_teacher:12.2f}{line.to_truth:10.2f}{line.step_ms:11.1f}")
    options = {name: str(value) for name, value in vars(args).items()}
    record = {**about(teacher, args), "options": options, "lines": [asdict(line) for line in lines]}
    write_json(args.out / "few_steps.json", record)
    if args.sheet is not None:
        rows = [
            (name, [film[row, frame].numpy() for row in range(min(2, len(film))) for frame in SHOWN])
            for name, film in sheet.items()
        ]
        write_sheet(args.sheet, rows)


if __name__ == "__main__":
    main()
