"""How well are drawn robots brought onto pictured ones, and what is refused? On the twin, where the truth is known.

    python benchmarks/alignment.py --episodes FOLDER --limit 10

Every camera of the held-out twin episodes is put wrong on purpose, by small, middle and large amounts; the robot is
drawn with the wrong camera, and `align` brings it back. Reported is the distance of the skeleton's points in the
picture from where they belong, in pixels of pictures 320 wide, before and after, over frames that are kept. What must
be refused is the robot of another episode, and pictures without a robot. Prints a table, and writes it and every run to
out/alignment.json.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from harness import held_out_files, write_json
from numpy.typing import NDArray
from tqdm import tqdm

from vap_sim.data.twin import TwinEpisode, load_episode
from vap_sim.extraction.alignment import WORK, align
from vap_sim.extraction.matching import Array, move_points
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot

WRONG = {"right": (0.0, 0.0, 0.0), "small": (1.0, 0.01, 0.01), "middle": (2.0, 0.02, 0.03), "large": (4.0, 0.04, 0.05)}
"""Root mean squares of a camera's turn [degrees], shift [m], and of the logarithm of its focal length's error."""
_STEP = 2  # every other frame, at 5 Hz


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=Path, help="a folder of held-out episodes; by default they are recorded")
    parser.add_argument("--limit", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("out/alignment.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    episodes = [load_episode(path) for path in held_out_files(options.episodes, options.limit)]
    model = load_robot(str(episodes[0].meta["robot"]))
    runs = []
    for number, episode in enumerate(tqdm(episodes, unit="episode", file=sys.stderr, dynamic_ncols=True)):
        for level, amounts in WRONG.items():
            runs.append({"episode": number, "camera": level, **_moved(episode, model, amounts, number)})
        other = episodes[(number + 1) % len(episodes)]
        runs.append(
            {"episode": number, "camera": "another episode's joints", **_refused(episode, other.measured, model)}
        )
        runs.append(
            {"episode": number, "camera": "no robot in sight", **_refused(_empty(episode), episode.measured, model)}
        )
    lines = [
        _line(level, [run for run in runs if run["camera"] == level])
        for level in dict.fromkeys(r["camera"] for r in runs)
    ]
    head = "| camera | px before: median, 95 % | px after: median, 95 % | frames kept | views kept |"
    print("\n".join([head, "| --- | --- | --- | --- | --- |", *lines]))
    write_json(
        options.out,
        {
            "picture_width": WORK,
            "wrong": WRONG,
            "runs": [{k: v for k, v in r.items() if k not in ("before", "after")} for r in runs],
            "table": lines,
        },
    )


def wrong_camera(camera: Camera, turn: float, shift: float, focal: float, seed: int) -> Camera:
    """A camera turned, shifted and zoomed by random amounts of these root mean squares [degrees, m, logarithm]."""
    rng = np.random.default_rng(seed)
    pose, intrinsics = (value.double().numpy().copy() for value in (camera.T_parent_camera, camera.intrinsics))
    pose[:3, :3] = pose[:3, :3] @ cv2.Rodrigues(np.deg2rad(turn) / np.sqrt(3) * rng.normal(size=3))[0]
    pose[:3, 3] += shift / np.sqrt(3) * rng.normal(size=3)
    intrinsics[:2, :2] *= np.exp(focal * rng.normal())
    return replace(
        camera, T_parent_camera=torch.from_numpy(pose).float(), intrinsics=torch.from_numpy(intrinsics).float()
    )


def _moved(episode: TwinEpisode, model: RobotModel, amounts: tuple[float, float, float], seed: int) -> dict[str, Any]:
    """Distances [px at 320] of skeleton points inside the picture from where they belong."""
    camera, joints = Camera.from_dict(episode.meta["cameras"][0]), episode.measured[::_STEP].astype(np.float64)
    wrong = wrong_camera(camera, *amounts, seed)
    found = align(episode.frames[0, ::_STEP], model, joints, wrong)
    true, drawn = (_skeleton(c, model, joints) for c in (camera, wrong))
    after = np.stack([move_points(xy, move) for xy, move in zip(drawn, found.homographies, strict=True)])
    inside = ((true >= 0) & (true <= np.array(camera.size) - 1)).all(-1) & found.kept[:, None]
    scale = WORK / max(camera.size)
    gaps = {
        name: scale * np.linalg.norm(xy - true, axis=-1)[inside] for name, xy in (("before", drawn), ("after", after))
    }
    medians = {f"{name}_median": float(np.median(gap)) if len(gap) else None for name, gap in gaps.items()}
    return {"kept": float(found.kept.mean()), **medians, **gaps}


def _refused(episode: TwinEpisode, joints: NDArray[np.float32], model: RobotModel) -> dict[str, Any]:
    count = min(len(joints), episode.length)
    camera = Camera.from_dict(episode.meta["cameras"][0])
    found = align(episode.frames[0, :count:_STEP], model, joints[:count:_STEP].astype(np.float64), camera)
    return {"kept": float(found.kept.mean())}


def _empty(episode: TwinEpisode) -> TwinEpisode:
    """The scene alone, with noise."""
    plate = episode.plate[:, None] + np.random.default_rng(0).normal(0, 3, episode.frames.shape)
    return replace(episode, frames=np.clip(plate, 0, 255).astype(np.uint8))


def _skeleton(camera: Camera, model: RobotModel, joints: Array) -> Array:
    """Pixels (T, P, 2) of the points on bones."""
    named = {name for bone in model.skeleton.bones if bone.group != "plumb" for name in (bone.start, bone.end)}
    chosen = [k for k, point in enumerate(model.skeleton.points) if point.name in named]
    T_base_link = model.robot.forward(torch.from_numpy(joints))
    points = model.skeleton.positions(model.robot, T_base_link)[:, chosen]
    return np.asarray(camera.to("cpu", torch.float64).project(points, T_base_link, model.robot)[0].numpy())


def _line(level: str, runs: list[dict[str, Any]]) -> str:
    kept = np.array([run["kept"] for run in runs])
    shares = f"{kept.mean():.0%} | {(kept >= 0.5).sum()} of {len(kept)}"
    if "before" not in runs[0]:
        return f"| {level} | | | {shares} |"
    words = []
    for name in ("before", "after"):
        gap = np.concatenate([run[name] for run in runs])
        words.append(f"{np.median(gap):.1f}, {np.percentile(gap, 95):.1f}" if len(gap) else "none kept")
    return f"| {level} | {words[0]} | {words[1]} | {shares} |"


if __name__ == "__main__":
    main()
