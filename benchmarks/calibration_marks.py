"""How far the skeleton that recovered cameras draw lies from points marked by hand: a part of `calibration.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from marks_check import FOLDER, Distances, Key, distances, read_marks

from vap_sim.data.dataset import Dataset, open_dataset
from vap_sim.extraction.cameras_clips import robot_joints
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel

MARKS = FOLDER / "droid_joints.json"
VIEWS = {"0.mp4": "exterior_1", "1.mp4": "exterior_2"}
BAR = 6.0


def marked_distances(path: Path, cameras: Mapping[tuple[str, str], Camera], model: RobotModel) -> Distances:
    """Distances [px] between marked points of the robot and where the cameras, by (episode, view), draw them.

    path: the folder of the recordings. Points of cameras that are not given count as missing.
    """
    points = [point.name for point in model.skeleton.points]
    marks = read_marks(MARKS, points)
    dataset = open_dataset(path)
    predicted = {key: _drawn(dataset, key, cameras, model) for key in marks.bodies}
    return distances(marks.marks, {key: drawn for key, drawn in predicted.items() if drawn is not None})


def _drawn(
    dataset: Dataset, key: Key, cameras: Mapping[tuple[str, str], Camera], model: RobotModel
) -> dict[str, tuple[float, float]] | None:
    camera = cameras.get((key.recording, VIEWS.get(key.view or "", "")))
    if camera is None or key.recording not in dataset.names:
        return None
    joints = robot_joints(dataset.read(key.recording), model)[key.frame : key.frame + 1]
    poses = model.robot.forward(torch.from_numpy(joints))
    pixels, depth = camera.to("cpu", torch.float64).project(model.skeleton.positions(model.robot, poses))
    names = (point.name for point in model.skeleton.points)
    drawn = zip(names, pixels[0].tolist(), depth[0].tolist(), strict=True)
    return {name: (x, y) for name, (x, y), far in drawn if far > 0}


def marked_lines(found: Distances) -> list[str]:
    """The median against its bar, and by recording and view."""
    if not found.compared:
        return ["  marked points: none is in a picture of a camera that was given"]
    middle = found.quantile(0.5)
    head = f"  marked points: median {middle:.1f} px, 90 % below {found.quantile(0.9):.1f} px"
    counts = f"{len(found.compared)} points, {len(found.missing)} of cameras not given"
    lines = [f"{head}  bar {BAR:.0f} px  {'pass' if middle <= BAR else 'FAIL'}  ({counts})"]
    places = dict.fromkeys((mark.key.recording, mark.key.view) for mark in found.compared)
    for recording, view in places:
        rows = [k for k, m in enumerate(found.compared) if (m.key.recording, m.key.view) == (recording, view)]
        values = sorted(float(found.pixels[k]) for k in rows)
        lines.append(f"    {recording} {view}: {values[len(values) // 2]:.1f} px of {len(values)}")
    return lines
