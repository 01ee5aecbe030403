"""Do two dreamed views show one scene? Objects triangulated from both against the twin, and one view against two.

    python benchmarks/views.py --limit 20 --sheet out/views.png

Held-out twin episodes of two exterior views, dreamt open loop from their first frames: by a world of two views, and
each view by a world of its own. `--seed` names the first of other episodes' seeds, such as 900000 of development. Where
an object is, is read off the dreamed pictures by the detector, and counts where the truth shows half of it in both
views; one that a dream has lost counts as infinitely far away. "truth" is the same reading of the true pictures:
nothing read by it can be expected to do better. The record goes to out/views.json.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from env_step import Bar, actions
from fidelity import MEASURES, Truth, add, judge_masks, read_truth
from harness import (
    HELD_OUT,
    RESAMPLES,
    Row,
    Tally,
    about,
    arguments,
    as_json,
    recorded_files,
    table,
    write_json,
    write_sheet,
)
from torch import Tensor
from tqdm import tqdm

import vap_sim  # noqa: F401 - registers the environments
from vap_sim.data.twin import load_episode
from vap_sim.errors import InvalidInput
from vap_sim.metrics.detector import Detector, object_masks
from vap_sim.metrics.objects import MOVED, UNCOVERED, visible_shares
from vap_sim.metrics.positions import position_errors
from vap_sim.models.protocol import WorldModel
from vap_sim.models.registry import load_world
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot

VIEWS = ("exterior_1", "exterior_2")
STEPS = (1, 10, 25, 50)
KINDS = ("both views", "each alone", "truth")
COMPARED = ("object-mask ST-IoU", "object permanence", "contact, all moved", "contact, pushed", "contact, carried")


def episodes(folder: Path | None, first: int, limit: int | None, workers: int = 2) -> list[Path]:
    """Files of two views of consecutive seeds; those not yet in the folder are recorded if none was named."""
    seeds = range(first, first + (len(HELD_OUT) if limit is None else limit))
    return recorded_files(seeds, folder, Path("out") / "episodes_of_two_views", _record, workers)


def _record(seed: int, folder: Path) -> None:
    from vap_sim.envs.twin_recorder import HELD_OUT_SEEDS, RecorderSettings, record_file

    torch.set_num_threads(1)
    record_file(seed, folder, RecorderSettings(views=VIEWS), held_out=seed in HELD_OUT_SEEDS)


def dream(world: WorldModel, frames: Tensor, prompts: VisualPrompt) -> Tensor:
    """Open loop from frames (V, H, W, 3) by prompts of T + 1 poses, that of the start first: (V, T + 1, H, W, 3)."""
    state = world.encode(frames[None], prompts.between(0, 1), [0])
    made = world.imagine(state, prompts.between(1, prompts.pixel_frames)).frames
    assert made is not None
    return torch.cat([frames[:, None], made[0].cpu()], dim=1)


def one_view(prompts: VisualPrompt, view: int) -> VisualPrompt:
    assert prompts.projections is not None
    part = slice(view, view + 1)
    return replace(prompts, skeleton=prompts.skeleton[:, part], projections=prompts.projections[:, part])


def position_lines(found: dict[str, list[dict[str, np.ndarray]]]) -> list[dict[str, Any]]:
    """Medians [cm] over objects and frames, with intervals bootstrapped over episodes, of every kind and case."""
    rng, lines = np.random.default_rng(0), []
    for case in next(iter(found.values()))[0]:
        for kind, per_episode in found.items():
            each = [errors[case] for errors in per_episode if len(errors[case])]
            if not each:
                continue
            draws = [
                np.median(np.concatenate([each[k] for k in rng.integers(len(each), size=len(each))]))
                for _ in range(RESAMPLES)
            ]
            every = np.concatenate(each)
            lines.append(
                {
                    "case": case,
                    "kind": kind,
                    "median_cm": 100 * float(np.median(every)),
                    "interval_cm": [100 * float(v) for v in np.percentile(draws, [2.5, 97.5])],
                    "within_2_cm": float((every <= 0.02).mean()),
                    "lost": int(np.isinf(every).sum()),
                    "number": len(every),
                    "episodes": len(each),
                }
            )
    return lines


def errors_of(truths: Sequence[Truth], labels: Sequence[Tensor], cameras: Sequence[Camera]) -> dict[str, np.ndarray]:
    """Errors [m] of one episode, read off labels (T + 1, H, W) a view, by case."""
    episode, things = truths[0].episode, truths[0].things
    masks = np.stack([object_masks(one, things).transpose(0, 1).numpy() for one in labels])
    positions = episode.object_poses[..., :3].astype(np.float64)
    shown = np.stack([visible_shares(labels=t.episode.labels[0], amodal=t.amodal) >= UNCOVERED for t in truths])
    judged = np.asarray(shown.all(0))
    judged &= judged[:, :1]  # nobody can remember what was not shown in both
    moved = np.linalg.norm(positions - positions[0], axis=-1).T > MOVED
    frames = np.arange(len(positions))
    cases = {f"step {step}": judged & (frames == step) for step in STEPS if step < len(frames)}
    cases |= {"all steps": judged & (frames > 0), "all steps, moved objects": judged & (frames > 0) & moved}
    return {
        name: position_errors(judged=case, masks=masks, positions=positions, cameras=cameras)
        for name, case in cases.items()
    }


def rate(world: str, repeats: int) -> float:
    """Steps a second of an environment of two views, by the median."""
    env = gym.make("VAPWorld-DROID-v0", world=world, views=VIEWS, max_episode_steps=10**9)
    env.reset(seed=0)
    seconds = []
    for number, action in enumerate(actions(repeats + 10)):
        began = perf_counter()
        env.step(action)
        if number >= 10:
            seconds.append(perf_counter() - began)
    return float(1 / np.median(seconds))


def main() -> None:
    parser = arguments(__doc__, "views.json")
    parser.add_argument("--seed", type=int, default=HELD_OUT[0], help="the first episode's seed")
    parser.add_argument("--repeats", type=int, default=100, help="environment steps to time; 0 times none")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    together, alone = load_world(options.world, views=len(VIEWS)), load_world(options.world)
    detector = Detector.load()
    prompter = Prompter(load_robot("panda_robotiq"), profile(together.spec.profile), together.spec.size)
    found: dict[str, list[dict[str, np.ndarray]]] = {kind: [] for kind in KINDS}
    tallies: dict[str, dict[str, Tally]] = {kind: defaultdict(Tally) for kind in KINDS}
    films: list[tuple[str, Tensor, Tensor]] = []
    for file in tqdm(episodes(options.episodes, options.seed, options.limit), desc="dreaming", mininterval=5):
        episode = load_episode(file)
        cameras = [Camera.from_dict(item) for item in episode.meta["cameras"]]
        if len(cameras) != len(VIEWS):
            raise InvalidInput(
                f"views of {file}", len(cameras), f"{len(VIEWS)}: vap-sim record --views {' '.join(VIEWS)}"
            )
        prompts = prompter.draw(torch.from_numpy(episode.joints)[None], cameras)
        first, truths = (
            torch.from_numpy(episode.frames[:, 0]),
            [read_truth(episode, view) for view in range(len(VIEWS))],
        )
        dreams = {
            "both views": dream(together, first, prompts),
            "each alone": torch.cat([dream(alone, first[v : v + 1], one_view(prompts, v)) for v in range(len(VIEWS))]),
            "truth": torch.from_numpy(episode.frames),
        }
        for kind, film in dreams.items():
            labels = [detector.labels(one, truths[0].things) for one in film]
            found[kind].append(errors_of(truths, labels, cameras))
            for truth, seen in zip(truths, labels, strict=True):
                add(tallies[kind], judge_masks(truth, seen))
        films.append((file.name, dreams["truth"], dreams["both views"]))
    lines = position_lines(found)
    print(f"world {together.spec.name} ({together.spec.fingerprint}), {len(films)} episodes from seed {options.seed}")
    print(f"{'objects triangulated':28}{'':12}{'median':>9}{'95 % interval':>18}{'within 2 cm':>13}{'lost':>6}{'n':>7}")
    for line in lines:
        low, high = line["interval_cm"]
        print(
            f"{line['case']:28}{line['kind']:12}{line['median_cm']:6.2f} cm{f'{low:.2f} .. {high:.2f}':>18}"
            f"{100 * line['within_2_cm']:11.1f} %{line['lost']:6}{line['number']:7}"
        )
    rows = [
        Row(
            name,
            tallies[KINDS[0]][name].summary(),
            MEASURES[name][0],
            None,
            {k: tallies[k][name].summary() for k in KINDS[1:]},
        )
        for name in COMPARED
    ]
    print("\nmasks in each view, dreamt together, and beside it each view by itself and the detector on true pictures")
    print(table(rows))
    last = [line for line in lines if line["kind"] == KINDS[0] and line["case"] == f"step {STEPS[-1]}"]
    bars = [
        Bar("object position from two dreamed views, step 50, median", line["median_cm"], 2, "cm", most=True)
        for line in last
    ]
    if options.repeats:
        bars.append(Bar("env.step of one dream of two views", rate(options.world, options.repeats), 30, "/s"))
    print("\n" + "\n".join(bar.line() for bar in bars))
    record = {
        "about": about(together, options),
        "positions": lines,
        "masks": as_json(rows),
        "bars": [vars(bar) for bar in bars],
    }
    write_json(options.out, record)
    if options.sheet is not None:
        strips = []
        for name, true, dreamt in films[:6]:
            picks = [step for step in STEPS if step < true.shape[1]]
            for caption, film in (
                (f"{name}, steps {', '.join(map(str, picks))}, both views: truth", true),
                ("dream", dreamt),
            ):
                strips.append((caption, [film[view, step].numpy() for view in range(len(VIEWS)) for step in picks]))
        write_sheet(options.sheet, strips)


if __name__ == "__main__":
    main()
