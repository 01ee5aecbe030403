"""How true are dreams? Held-out twin episodes, dreamt open loop from their first frame, beside what really happened.

    python benchmarks/fidelity.py --limit 20 --sheet out/fidelity.png

Each figure stands beside two others: the same measure on the true frames seen through the detector that reads the dream
("detector": nothing read by it can be expected to do better), and on the first frame repeated ("copy": what standing
still earns). Masks of the truth are exact, from the twin. Frame 0 is given and not judged. Intervals are bootstrapped
over episodes. The record goes to out/fidelity.json.
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
    begin,
    dreamt_episodes,
    held_out_files,
    table,
    write_json,
    write_sheet,
)
from torch import Tensor

from vap_sim.data.twin import TwinEpisode
from vap_sim.metrics.detector import ROBOT, Detector, class_labels, object_masks, score
from vap_sim.metrics.fidelity import copy_first_frame, moving_gain, psnr
from vap_sim.metrics.masks import Scores, mean_frame_iou, st_iou
from vap_sim.metrics.motion import motion_st_iou
from vap_sim.metrics.objects import amodal_masks, moves, offset_in_widths, returns, visible_shares

STEPS = (1, 10, 20, 50)
SHEET_STEPS = (1, 10, 20, 30, 40, 50)
KINDS = ("dream", "detector", "copy")
# name -> (unit, bar)
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


@dataclass(frozen=True, eq=False)
class Truth:
    """What one episode says: frames (T + 1, H, W, 3), class labels (T + 1, H, W), and its objects' amodal masks."""

    episode: TwinEpisode
    frames: Tensor
    labels: Tensor
    colors: tuple[str, ...]
    amodal: np.ndarray


def read_truth(episode: TwinEpisode) -> Truth:
    colors = tuple(str(item["color"]) for item in episode.meta["scene"]["objects"])
    raw = episode.labels[0]
    return Truth(
        episode,
        torch.from_numpy(episode.frames[0]),
        torch.from_numpy(class_labels(raw, colors)),
        colors,
        amodal_masks(labels=raw, layer=episode.objects[0], count=len(colors)),
    )


def judge_masks(truth: Truth, labels: Tensor) -> dict[str, tuple[list[float], int]]:
    """Measures that rest on masks: values of one episode, and how many do not exist."""
    true_objects = object_masks(truth.labels, truth.colors).transpose(0, 1)
    objects = object_masks(labels, truth.colors).transpose(0, 1)
    results = {
        "robot-mask ST-IoU": _values(st_iou(generated=labels == ROBOT, truth=truth.labels == ROBOT)),
        "robot-mask IoU, mean of frames": _values(
            mean_frame_iou(generated=labels == ROBOT, truth=truth.labels == ROBOT)
        ),
        "object-mask ST-IoU": _values(st_iou(generated=objects, truth=true_objects)),
        "object-mask IoU, mean of frames": _values(mean_frame_iou(generated=objects, truth=true_objects)),
    }
    positions = truth.episode.object_poses[..., :3].astype(np.float64)
    shares = visible_shares(labels=truth.episode.labels[0], amodal=truth.amodal)

    def near(index: int, frame: int) -> float:
        masks = {"generated": objects[index, frame].numpy(), "truth": true_objects[index, frame].numpy()}
        offset = offset_in_widths(**masks, amodal=truth.amodal[index, frame])
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
    parser.add_argument("--detector", help="weights of another detector")
    options: argparse.Namespace = parser.parse_args()
    world, detector = begin(options), Detector.load(options.detector)
    files = held_out_files(options.episodes, options.limit)
    tallies: dict[str, dict[str, Tally]] = {kind: defaultdict(Tally) for kind in KINDS}
    found, true_labels, colors, ranking = [], [], [], []
    for file, (episode, dreamt) in zip(files, dreamt_episodes(world, files), strict=True):
        truth = read_truth(episode)
        seen = detector.labels(truth.frames, truth.colors)
        own = judge_masks(truth, detector.labels(dreamt, truth.colors))
        add(tallies["dream"], own | judge_pixels(truth, dreamt))
        add(tallies["detector"], judge_masks(truth, seen))
        still = judge_pixels(truth, copy_first_frame(truth.frames).contiguous())
        add(tallies["copy"], judge_masks(truth, seen[:1].expand_as(seen)) | still)
        found.append(seen)
        true_labels.append(truth.labels)
        colors.append(truth.colors)
        objects = own["object-mask ST-IoU"][0]
        if objects:
            ranking.append((float(np.mean(objects)), file.name, truth.frames, dreamt))
    rows = [
        Row(name, tallies["dream"][name].summary(), unit, bar, {k: tallies[k][name].summary() for k in KINDS[1:]})
        for name, (unit, bar) in MEASURES.items()
    ]
    eye = score(found, true_labels, colors)
    print(
        f"world {world.spec.name} ({world.spec.fingerprint}), {len(files)} held-out episodes, one view, nominal joints"
    )
    print(table(rows))
    print(
        f"The detector's own error on these true frames: robot IoU {eye.robot_iou:.3f}, object IoU "
        f"{eye.object_iou:.3f}, missed {100 * eye.missed:.2f} % of {eye.visible} visible objects."
    )
    write_json(options.out, {"about": about(world, options), "results": as_json(rows), "detector": asdict(eye)})
    if options.sheet is not None and ranking:
        ranking.sort(key=lambda item: item[0])
        picks = {"worst": ranking[0], "median": ranking[len(ranking) // 2], "best": ranking[-1]}
        lines = []
        for rank, (value, name, true, dreamt) in picks.items():
            steps = [step for step in SHEET_STEPS if step < len(true)]
            title = f"{rank} by object ST-IoU {value:.2f}, {name}, steps {', '.join(map(str, steps))}: "
            lines += [
                (title + "truth", [true[s].numpy() for s in steps]),
                ("dream", [dreamt[s].numpy() for s in steps]),
            ]
        write_sheet(options.sheet, lines)


if __name__ == "__main__":
    main()
