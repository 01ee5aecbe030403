"""How true are dreams? Held-out twin episodes, dreamt open loop from their first frame, beside what really happened.

    python benchmarks/fidelity.py --limit 20 --sheet out/fidelity.png
    python benchmarks/fidelity.py --station Bridge --views exterior_1 exterior_2

Each figure stands beside two others: the same measure on the true frames seen through the detector that reads the dream
("detector": nothing read by it can be expected to do better), and on the first frame repeated ("copy": what standing
still earns). Masks of the truth are exact, from the twin. Frame 0 is given and not judged. Intervals are bootstrapped
over episodes; each view of an episode is judged by itself. DROID is judged unless `--station` names another, in the
world that the station's environment dreams with unless `--world` names another. The record goes to out/fidelity.json,
or out/fidelity_STATION.json.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from harness import (
    Row,
    Tally,
    about,
    arguments,
    as_json,
    dreamt_views,
    seen_by,
    table,
    write_json,
    write_sheet,
)
from station_dreams import Stand, add_station_options
from torch import Tensor

from vap_sim.data.twin import TwinEpisode
from vap_sim.metrics.detector import CLASSES, ROBOT, class_labels, object_masks, scene_things, score
from vap_sim.metrics.fidelity import copy_first_frame, moving_gain, psnr
from vap_sim.metrics.masks import Scores, mean_frame_iou, st_iou
from vap_sim.metrics.motion import motion_st_iou
from vap_sim.metrics.objects import amodal_masks, moves, offset_in_widths, returns, visible_shares, yardsticks

STEPS = (1, 10, 20, 50)
SHEET_STEPS = (1, 10, 20, 30, 40, 50)
KINDS = ("dream", "detector", "copy")
# name -> (unit, bar); the bars are DROID's
MEASURES: dict[str, tuple[str, float | None]] = {
    "robot-mask ST-IoU": ("", 0.92),
    "robot-mask IoU, mean of frames": ("", None),
    "object-mask ST-IoU": ("", 0.60),
    "object-mask IoU, mean of frames": ("", None),
    "object permanence": ("%", 0.95),
    "permanence, in place until hidden": ("%", None),
    "contact, all moved": ("%", 0.70),
    "contact, pushed": ("%", None),
    "contact, carried": ("%", None),
    "motion ST-IoU": ("", 0.60),
    **{f"PSNR at step {step}": ("dB", 29.0 if step == 50 else None) for step in STEPS},
    **{f"moving pixels over copy at step {step}": ("dB", 9.0 if step == 50 else None) for step in STEPS},
    "moving pixels over copy, all steps": ("dB", None),
}
BARS_OF_BODIES = {
    "robot-mask ST-IoU": 0.90,
    "object-mask ST-IoU": 0.60,
    "object permanence": 0.95,
    "contact, all moved": 0.70,
}
"""Of every other station."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What one view of an episode says: frames (T + 1, H, W, 3), labels (T + 1, H, W) that number a detector's classes,
    what its scene holds, and where these things would be seen without the robot."""

    episode: TwinEpisode
    frames: Tensor
    labels: Tensor
    things: tuple[str, ...]
    amodal: np.ndarray
    classes: tuple[str, ...] = CLASSES


def read_truth(episode: TwinEpisode, view: int = 0, classes: tuple[str, ...] = CLASSES) -> Truth:
    """The truth of one view, its labels as numbers into `classes`. Raises UnknownName for a thing that is none."""
    one, things = seen_by(episode, [episode.meta["cameras"][view]["name"]]), scene_things(episode.meta["scene"])
    return Truth(
        one,
        torch.from_numpy(one.frames[0]),
        torch.from_numpy(class_labels(one.labels[0], things, classes)),
        things,
        amodal_masks(labels=one.labels[0], layer=one.objects[0], count=len(things)),
        classes,
    )


def judge_masks(truth: Truth, labels: Tensor) -> dict[str, tuple[list[float], int]]:
    """Measures that rest on masks: values of one episode, and how many do not exist."""
    true_objects = object_masks(truth.labels, truth.things, truth.classes).transpose(0, 1)
    objects = object_masks(labels, truth.things, truth.classes).transpose(0, 1)
    results = {
        "robot-mask ST-IoU": _values(st_iou(generated=labels == ROBOT, truth=truth.labels == ROBOT)),
        "robot-mask IoU, mean of frames": _values(
            mean_frame_iou(generated=labels == ROBOT, truth=truth.labels == ROBOT)
        ),
        "object-mask ST-IoU": _values(st_iou(generated=objects, truth=true_objects)),
        "object-mask IoU, mean of frames": _values(mean_frame_iou(generated=objects, truth=true_objects)),
    }
    yards = yardsticks(truth.episode.meta["scene"])
    positions = truth.episode.object_poses[..., :3].astype(np.float64)
    shares = visible_shares(labels=truth.episode.labels[0], amodal=truth.amodal)

    def near(index: int, frame: int) -> float:
        masks = {"generated": objects[index, frame].numpy(), "truth": true_objects[index, frame].numpy()}
        offset = offset_in_widths(**masks, amodal=truth.amodal[index, frame], yardstick=yards[index])
        return float(offset is not None and offset <= 1)

    back = [(near(item.index, item.again), item) for item in returns(shares=shares, positions=positions)]
    moved = [(near(item.index, item.frame), item.carried) for item in moves(shares=shares, positions=positions)]
    results["object permanence"] = [value for value, _ in back], 0
    # Apart from what false contacts did before: of objects that the dream, too, had in place until they were hidden.
    results["permanence, in place until hidden"] = (
        [value for value, item in back if near(item.index, item.first - 1)],
        0,
    )
    results["contact, all moved"] = [value for value, _ in moved], 0
    results["contact, pushed"] = [value for value, carried in moved if not carried], 0
    results["contact, carried"] = [value for value, carried in moved if carried], 0
    return results


def judge_pixels(truth: Truth, frames: Tensor) -> dict[str, tuple[list[float], int]]:
    """Measures that compare pixels: values of one episode, and how many do not exist."""
    whole, gain = psnr(generated=frames, truth=truth.frames), moving_gain(generated=frames, truth=truth.frames)
    results = {"motion ST-IoU": _values(motion_st_iou(generated=frames, truth=truth.frames))}
    for step in STEPS:
        if step < len(frames):
            results[f"PSNR at step {step}"] = _at(whole, step)
            results[f"moving pixels over copy at step {step}"] = _at(gain, step)
    results["moving pixels over copy, all steps"] = _values(gain)
    return results


def _values(found: Scores) -> tuple[list[float], int]:
    return found.existing(), found.undefined


def _at(found: Scores, step: int) -> tuple[list[float], int]:
    exists = bool(found.defined[step - 1])
    return ([float(found.values[step - 1])], 0) if exists else ([], 1)


def add(tallies: Mapping[str, Tally], results: Mapping[str, tuple[list[float], int]]) -> None:
    for name, (values, undefined) in results.items():
        # Events count each; everything else counts once an episode, as the mean over its objects or frames.
        if name.startswith(("object permanence", "permanence", "contact")):
            tallies[name].add(values, undefined)
        else:
            tallies[name].add_mean(values, undefined)


def main() -> None:
    parser = arguments(__doc__, "fidelity.json")
    add_station_options(parser)
    parser.add_argument("--detector", help="weights of another detector")
    options: argparse.Namespace = parser.parse_args()
    torch.set_num_threads(options.threads)
    stand = Stand.of(options)
    name = stand.station.name
    if name != "DROID" and options.out == parser.get_default("out"):
        options.out = options.out.with_name(f"fidelity_{name}.json")
    world, detector = stand.world(options.world), stand.detector(options.detector)
    files = stand.files(options.episodes, options.seed, options.limit)
    tallies: dict[str, dict[str, Tally]] = {kind: defaultdict(Tally) for kind in KINDS}
    found, true_labels, things, ranking = [], [], [], []
    for file, (episode, dreams) in zip(files, dreamt_views(world, files, stand.views), strict=True):
        for view, dreamt in enumerate(dreams):
            truth = read_truth(episode, view, detector.classes)
            seen = detector.labels(truth.frames, truth.things)
            own = judge_masks(truth, detector.labels(dreamt, truth.things))
            add(tallies["dream"], own | judge_pixels(truth, dreamt))
            add(tallies["detector"], judge_masks(truth, seen))
            still = judge_pixels(truth, copy_first_frame(truth.frames).contiguous())
            add(tallies["copy"], judge_masks(truth, seen[:1].expand_as(seen)) | still)
            found.append(seen)
            true_labels.append(truth.labels)
            things.append(truth.things)
            objects = own["object-mask ST-IoU"][0]
            if objects:
                ranking.append((float(np.mean(objects)), f"{file.name} {stand.views[view]}", truth.frames, dreamt))
    rows = [
        Row(
            measure,
            tallies["dream"][measure].summary(),
            unit,
            bar if name == "DROID" else BARS_OF_BODIES.get(measure),
            {k: tallies[k][measure].summary() for k in KINDS[1:]},
        )
        for measure, (unit, bar) in MEASURES.items()
    ]
    eye = score(found, true_labels, things, classes=detector.classes)
    print(
        f"world {world.spec.name} ({world.spec.fingerprint}), {len(files)} episodes of {name} "
        f"from seed {options.seed}, {' and '.join(stand.views)}, nominal joints"
    )
    print(table(rows))
    print(
        f"The detector's own error on these true frames: robot IoU {eye.robot_iou:.3f}, object IoU "
        f"{eye.object_iou:.3f}, missed {100 * eye.missed:.2f} % of {eye.visible} visible objects."
    )
    write_json(options.out, {"about": about(world, options), "results": as_json(rows), "detector": asdict(eye)})
    if options.sheet is not None and ranking:
        write_sheet(options.sheet, picked(ranking))


def picked(ranking: list[tuple[float, str, Tensor, Tensor]]) -> list[tuple[str, list[np.ndarray]]]:
    """Rows of a contact sheet: the worst, the median and the best of (object ST-IoU, name, truth, dream)."""
    order = sorted(ranking, key=lambda item: item[0])
    lines = []
    for rank, (value, name, true, dreamt) in {
        "worst": order[0],
        "median": order[len(order) // 2],
        "best": order[-1],
    }.items():
        steps = [step for step in SHEET_STEPS if step < len(true)]
        title = f"{rank} by object ST-IoU {value:.2f}, {name}, steps {', '.join(map(str, steps))}: "
        lines += [
            (title + "truth", [true[s].numpy() for s in steps]),
            ("dream", [dreamt[s].numpy() for s in steps]),
        ]
    return lines


if __name__ == "__main__":
    main()
