"""How exactly are cameras recovered from video and joint log, where the truth is known, and on real recordings?

    python benchmarks/calibration.py --cameras 100
    python benchmarks/calibration.py --cameras 0 --real ../shared/data/droid

Twin: random cameras see held-out twin episodes at 320 x 192 pixels; nothing is told but pictures and joints. Of every
camera: the median distance between where the true and the recovered camera see the robot's key points, the distance
between the two cameras, the angle between their directions and the error of the focal length. Cameras that are refused
are counted, by reason, and count in no median. Each is kept in out/calibration as it is done: the same command goes on.
About 15 CPU seconds a camera.

Real: the overlap of silhouette and motion of every camera of a folder of recordings, and how far its skeleton lies from
the points that were marked by hand (`marks`). What `vap-sim calibrate` writes goes to out/calibration/real; `--found`
tells the figures of a folder that it wrote before. The record goes to out/calibration/record.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from calibration_marks import marked_distances, marked_lines
from harness import joint_angles, write_json
from numpy.typing import NDArray
from tqdm import tqdm

from vap_sim.extraction.cameras import CalibrationSettings, calibrate
from vap_sim.extraction.cameras_file import FILE, read_cameras
from vap_sim.extraction.cameras_prior import from_camera, projections, rotations
from vap_sim.extraction.motion_masks import Clip, link_places
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot

FIRST_SEED = 1_200_000
SIZE = (320, 192)
STEPS, EVERY = 72, 2
BARS = {"pixels": 2.0, "centimetres": 2.0, "degrees": 1.5}
OVERLAP_BAR = 0.6
Array = NDArray[np.float64]


def random_camera(rng: np.random.Generator) -> Camera:
    """A camera somewhere around the table, before the wall, that sees the work."""
    while True:
        azimuth, distance = rng.uniform(-2.4, 2.4), rng.uniform(0.7, 1.4)
        target = np.array([0.42, 0.0, 0.25]) + rng.uniform(-0.08, 0.08, 3)
        height = rng.uniform(0.15, 1.0)
        eye = np.array([target[0] + distance * np.cos(azimuth), target[1] + distance * np.sin(azimuth), height])
        if eye[0] > -0.6 and np.hypot(*eye[:2]) > 0.35:
            break
    roll, focal = rng.normal(0, 0.05), float(np.exp(rng.uniform(*np.log([0.4, 0.9]))) * SIZE[0])
    side = np.cross(target - eye, (0.0, 0.0, 1.0))
    up = np.array([0.0, 0.0, 1.0]) + roll * side / np.linalg.norm(side)
    return Camera.look_at("twin", eye.tolist(), target.tolist(), size=SIZE, focal_px=focal, up=up.tolist())


def twin_clip(seed: int, camera: Camera, model: RobotModel) -> Clip:
    """What the camera sees of a held-out twin episode, every second frame."""
    from vap_sim.envs.scenes import Scene
    from vap_sim.envs.twin_recorder import RecorderSettings, record_episode
    from vap_sim.envs.twin_renderer import Snapshot, TwinRenderer

    episode = record_episode(seed, RecorderSettings(steps=STEPS, pictures=False), held_out=True)
    joints = episode.measured[::EVERY].astype(np.float64)
    renderer = TwinRenderer(Scene.from_dict(episode.meta["scene"]), model.folder / "robot.urdf")
    pose = np.asarray(camera.T_parent_camera, np.float64)
    try:
        frames = []
        for q, objects in zip(joints, episode.object_poses[::EVERY], strict=True):
            poses = tuple((tuple(row[:3].tolist()), tuple(row[3:].tolist())) for row in objects)
            frames.append(renderer.render(Snapshot(joint_angles(model, q), poses), camera, pose).rgb)
    finally:
        renderer.close()
    return Clip(f"twin {seed}", np.stack(frames), joints)


def errors(camera: Camera, found: Array, places: Array) -> dict[str, float]:
    """How far a camera vector (8,) is from the truth: at key points (F, P, 3) in the picture [px], and in space."""
    true = from_camera(camera)
    points, seen = places.reshape(-1, 3), []
    for matrix in projections(np.stack([true, found]), SIZE):
        rays = points @ matrix[:, :3].T + matrix[:, 3]
        seen.append((rays[:, :2] / np.maximum(rays[:, 2:], 1e-3), rays[:, 2] > 0.05))
    inside = (np.abs(seen[0][0] - np.array(SIZE) / 2) < np.array(SIZE) / 2).all(1) & seen[0][1]
    turn = rotations(np.stack([true, found]))
    cosine = np.clip((np.trace(turn[0].T @ turn[1]) - 1) / 2, -1, 1)
    return {
        "pixels": float(np.median(np.linalg.norm(seen[0][0] - seen[1][0], axis=1)[inside])),
        "centimetres": 100 * float(np.linalg.norm(true[:3] - found[:3])),
        "degrees": float(np.degrees(np.arccos(cosine))),
        "focal_percent": 100 * abs(float(np.exp(found[6] - true[6])) - 1),
    }


def one_camera(number: int, model: RobotModel, folder: Path) -> dict[str, Any]:
    """The record of one camera: made now, or read where it was made before."""
    path = folder / f"camera_{number:03d}.json"
    if path.exists():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    seed = FIRST_SEED + number
    camera = random_camera(np.random.default_rng([seed, 5]))
    clip = twin_clip(seed, camera, model)
    begun = time.process_time()
    result = calibrate([clip], model, f"twin {number}", CalibrationSettings())
    record: dict[str, Any] = {"seed": seed, "seconds": time.process_time() - begun, "refused": result.reason}
    record |= {"detail": result.detail, "std": dict(result.std), "figures": dict(result.figures)}
    if result.vector is not None:
        record |= {
            "vector": result.vector.tolist(),
            "errors": errors(camera, result.vector, link_places(model, clip.joints)),
        }
    write_json(path, record)
    return record


def twin_report(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of figures: medians over the cameras that were given, and what was refused."""
    given = [record for record in records if record["refused"] is None]
    lines = [f"twin: {len(given)} of {len(records)} cameras given"]
    for name, unit in (("pixels", "px"), ("centimetres", "cm"), ("degrees", "deg"), ("focal_percent", "%")):
        if not given:
            break
        values = np.array([record["errors"][name] for record in given])
        bar = BARS.get(name)
        verdict = "" if bar is None else f"  bar {bar} {unit}  {'pass' if np.median(values) <= bar else 'FAIL'}"
        spread = f"90 % below {np.quantile(values, 0.9):.2f}, worst {values.max():.2f}"
        lines.append(f"  {name:15} median {np.median(values):.2f} {unit}, {spread}{verdict}")
    refused = Counter(record["refused"] for record in records if record["refused"] is not None)
    lines += [f"  refused: {count} {reason}" for reason, count in refused.most_common()]
    wrong = [
        r for r in records if r["refused"] is not None and r.get("errors", {}).get("pixels", 99.0) < BARS["pixels"]
    ]
    lines.append(f"  of those refused, {len(wrong)} were right to {BARS['pixels']:.0f} px")
    lines.append(f"  CPU seconds a camera: {np.mean([record['seconds'] for record in records]):.1f}")
    return lines


def real_report(folder: Path, path: Path, focal: float | None, found: bool) -> tuple[list[str], list[dict[str, Any]]]:
    """Lines of figures of every camera of a folder of recordings, and the entries of its cameras.json."""
    from vap_sim.commands.calibrate import Calibrate, run

    if not found:
        run(Calibrate(path, folder, views=("exterior_1", "exterior_2"), focal=focal))
    entries = json.loads((folder / FILE).read_text(encoding="utf-8"))["cameras"]
    given = [entry for entry in entries if entry["camera"] is not None]
    lines = [f"real: {len(given)} of {len(entries)} cameras given"]
    for entry in entries:
        told = f"overlap {entry['figures'].get('overlap') or 0:.2f}" if entry["figures"] else "no answer"
        reason = "" if entry["refused"] is None else f"  refused: {entry['refused']['detail']}"
        lines.append(f"  {entry['view']} {' '.join(entry['episodes'][:2])}: {told}{reason}")
    if given:
        middle = float(np.median([entry["figures"]["overlap"] for entry in given]))
        verdict = "pass" if middle >= OVERLAP_BAR else "FAIL"
        lines.append(f"  overlap of silhouette and motion: median {middle:.2f}  bar {OVERLAP_BAR}  {verdict}")
    lines += marked_lines(marked_distances(path, read_cameras(folder), load_robot("panda_robotiq")))
    return lines, entries


def main() -> None:
    """Print the figures and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=100, help="random cameras of the twin; 0 for none")
    parser.add_argument("--real", type=Path, help="a folder of real recordings, DROID's for one")
    parser.add_argument("--focal", type=float, help="fx of the real recordings [px], where it is known")
    parser.add_argument(
        "--found", type=Path, help="a folder with cameras.json, to tell figures of without looking again"
    )
    parser.add_argument("--limit", type=int, help="use only so many cameras")
    parser.add_argument("--out", type=Path, default=Path("out") / "calibration")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    model = load_robot("panda_robotiq")
    count = options.cameras if options.limit is None else min(options.limit, options.cameras)
    numbers = tqdm(range(count), desc="calibrating", unit="camera", mininterval=5, disable=not count)
    records = [one_camera(number, model, options.out / "twin") for number in numbers]
    lines = twin_report(records) if records else []
    content: dict[str, Any] = {"twin": records}
    if options.real is not None:
        folder = options.found or options.out / "real"
        more, content["real"] = real_report(folder, options.real, options.focal, options.found is not None)
        lines += more
    write_json(options.out / "record.json", content)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
