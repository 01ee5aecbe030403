"""What distillation to few steps buys: a small CogVideoX in stream mode, its students, and how far each is from it.

Records twin episodes of small pictures, trains a teacher (`vap-sim train`) and a student for each number of steps
(`vap-sim distill`), all kept in the output folder and gone on with when it is called again. Then teacher and students
dream held-out episodes from their first picture and their joints with the same noise.

    python benchmarks/few_steps.py --students 1 2 4 --sheet out/few_steps/sheet.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median
from time import perf_counter

import torch
import torch.nn.functional as F
from harness import about, episode_camera, write_json, write_sheet
from torch import Tensor

from vap_sim.commands import distill, train
from vap_sim.commands.train_cogvideox import CogVideoX
from vap_sim.data.twin import episode_files, load_episode
from vap_sim.metrics.trust import PromptAgreement
from vap_sim.models.cogvideox.codec import FRAMES as PACKED
from vap_sim.models.cogvideox.loading import HEADER
from vap_sim.models.cogvideox.world import CogVideoXWorld
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot
from vap_sim.training.clips import caption_of

FORM, FRAMES, SPACING = "skeleton", 13, 4
SHOWN = (4, 8, 16, 24)
METER = 128
"""Side of the pictures that the trust meter knows [px]; smaller ones are enlarged before it reads them."""


@dataclass(frozen=True, eq=False)
class Held:
    """b held-out episodes: truth (b, F, H, W, 3) uint8 from the first picture on, the prompt of all of it, the joints
    (b, F, J) [rad] it was drawn from, and a camera each."""

    truth: Tensor
    prompt: VisualPrompt
    joints: Tensor
    cameras: tuple[Camera, ...]


@dataclass(frozen=True)
class Line:
    """A row of the table. to_teacher, to_truth: root mean square of grey levels, 0..255, over all dreamt pictures;
    first: the former over the first step alone, which looks back at a recorded picture; agreement: of the robot seen
    with the joints told, 0..1; step_ms: time of a step of four pictures [ms]."""

    name: str
    steps: int
    first: float
    to_teacher: float
    to_truth: float
    agreement: float
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


def teach(out: Path, args: argparse.Namespace) -> Path:
    """Train the teacher to the end, or until its minutes are over, and return its folder."""
    return train.run(
        train.Train(
            out / "episodes",
            out / "teacher",
            args.teacher,
            cooldown=args.teacher // 2,
            minutes=args.minutes,
            seed=args.seed,
            threads=args.threads,
            validation=args.held,
            world="cogvideox",
            cogvideox=CogVideoX(
                model="small",
                form=FORM,
                frames=FRAMES,
                spacing=SPACING,
                batch=args.batch,
                mode="history",
                learning_rate=args.learning_rate,
                control_dropout=0.0,
                cache=out / "cache",
                preview_every=10**9,
            ),
        )
    )


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
            cooldown=args.student // 2,
            minutes=args.minutes,
            learning_rate=args.student_rate,
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
    truth, prompts, joints, cameras = [], [], [], []
    for path in files:
        episode = load_episode(path, only=("frames", "joints"))
        camera = episode_camera(episode)
        prompter = Prompter(load_robot(episode.meta["robot"]), profile(FORM), camera.size)
        told = torch.from_numpy(episode.joints[None, : frames + 1])
        prompts.append(replace(prompter.draw(told, [camera]), joints=None, text=(caption_of(episode.meta),)))
        truth.append(torch.from_numpy(episode.frames[0, : frames + 1].copy()))
        joints.append(told[0])
        cameras.append(camera)
    return Held(torch.stack(truth), VisualPrompt.cat(prompts), torch.stack(joints), tuple(cameras))


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
    """Root mean square of the difference of dreamt pictures in grey levels; the first picture was given."""
    return float((one[:, 1:].float() - other[:, 1:].float()).square().mean().sqrt())


def agreement(film: Tensor, held: Held) -> float:
    """Mean over the dreamt pictures of how well the robot seen in them covers the one that was told, 0..1."""
    meter, found = PromptAgreement(load_robot("panda_robotiq"), (METER, METER)), []
    for row, camera in enumerate(held.cameras):
        pictures = film[row, 1:].permute(0, 3, 1, 2).float()
        large = F.interpolate(pictures, (METER, METER), mode="bicubic").round().clamp(0, 255).to(torch.uint8)
        scores = meter.all(large.permute(0, 2, 3, 1), held.joints[row, 1:], camera.resized((METER, METER)))
        found += scores.existing()
    return mean(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", type=int, nargs="+", default=[1, 2, 4], help="steps a frame of each student")
    parser.add_argument("--teacher-steps", type=int, default=12)
    parser.add_argument("--teacher", type=int, default=2000, help="training steps of the teacher")
    parser.add_argument("--student", type=int, default=800, help="training steps of each student")
    parser.add_argument("--self-forcing", type=float, default=0.25)
    parser.add_argument("--minutes", type=float, default=None, help="of each training in this call")
    parser.add_argument("--episodes", type=int, default=28)
    parser.add_argument("--held", type=int, default=4, help="episodes that nothing is trained on")
    parser.add_argument("--side", type=int, default=64, help="of the pictures [px]")
    parser.add_argument("--frames", type=int, default=24, help="pictures to dream, a multiple of 4")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="of the teacher")
    parser.add_argument("--student-rate", type=float, default=1e-3, help="learning rate of the students")
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
        place = teach(args.out, args)
    if args.train_only == "teacher":
        return
    places = {steps: student(args.out, place, steps, args) for steps in args.students}
    if args.train_only is None:
        report(place, places, held_out(files[-args.held :], args.frames), args)


def report(place: Path, places: dict[int, Path], held: Held, args: argparse.Namespace) -> None:
    """Dream, print the table, and write what was asked for."""
    teacher = CogVideoXWorld.load(place, steps=args.teacher_steps)
    many, seconds = dream(teacher, held)

    def line(name: str, steps: int, film: Tensor, seconds: float) -> Line:
        first = distance(film[:, : 1 + PACKED], many[:, : 1 + PACKED])
        errors = first, distance(film, many), distance(film, held.truth)
        return Line(name, steps, *errors, agreement(film, held), 1e3 * seconds)

    lines = [line("teacher", args.teacher_steps, many, seconds)]
    sheet = {"recorded": held.truth, "prompt": held.prompt.skeleton[:, 0]}
    sheet[f"teacher, {args.teacher_steps} steps"] = many
    for steps, folder in places.items():
        for name, world in (
            ("teacher", CogVideoXWorld.load(place, steps=steps)),
            ("student", CogVideoXWorld.load(folder)),
        ):
            film, seconds = dream(world, held)
            lines.append(line(name, steps, film, seconds))
            sheet[f"{name}, {steps} step{'s' if steps > 1 else ''}"] = film
    codec, still = teacher.parts.codec, held.truth[:, :1].expand_as(held.truth)
    lines.append(line("codec", 0, codec.decode(codec.encode(held.truth)), 0.0))
    lines.append(line("first picture", 0, still, 0.0))
    print(f"{'who':14}{'steps':>6}{'first':>8}{'to teacher':>12}{'to truth':>10}{'agreement':>11}{'ms a step':>11}")
    for one in lines:
        print(
            f"{one.name:14}{one.steps:6}{one.first:8.2f}{one.to_teacher:12.2f}{one.to_truth:10.2f}"
            f"{one.agreement:11.2f}{one.step_ms:11.1f}"
        )
    options = {name: str(value) for name, value in vars(args).items()}
    record = {**about(teacher, args), "options": options, "lines": [asdict(one) for one in lines]}
    write_json(args.out / "few_steps.json", record)
    if args.sheet is not None:
        rows = [
            (
                name,
                [
                    film[row, frame].numpy()
                    for row in range(min(2, len(film)))
                    for frame in SHOWN
                    if frame <= args.frames
                ],
            )
            for name, film in sheet.items()
        ]
        write_sheet(args.sheet, rows)


if __name__ == "__main__":
    main()
