"""`vap-sim preview`: a robot's skeleton drawn over a photo, with numbers, before any model runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vap_sim.commands.outcome import Outcome
from vap_sim.commands.preview_inputs import find_camera, find_robot, read_joints, read_photo
from vap_sim.errors import InvalidInput, UnknownName

if TYPE_CHECKING:
    from vap_sim.robots.camera import Camera
    from vap_sim.robots.library import RobotModel

_STRETCH = 0.01
"""How far, as a share, the shapes of photo and camera may differ: the rounding of a size."""
_DIMMED, _OPACITY = 0.8, 0.75
"""Brightness of the photo, and how much of it the drawing hides."""
_OUTLINE = (255, 255, 255)


@dataclass(frozen=True)
class Preview:
    """Draw a robot's skeleton over a photo. Example: vap-sim preview --robot widowx --image photo.png --camera wrist

    White lines are the outline of the robot's shapes. A JSON file beside OUT holds the numbers. No model runs.

    Attributes:
        robot: Name of a robot, or folder with robot.urdf, robot.json and skeleton.json.
        image: The photo.
        camera: Name of one of the robot's cameras, or a JSON file that holds cameras; not needed where there is but
            one.
        view: The camera of that file, by name.
        joints: Values in the robot's order, or name=value for some, with the home pose for the others.
        profile: How skeletons are drawn, as a model was trained with.
        out: Picture to write, its name ends in .png.
    """

    robot: str
    image: Path
    camera: str | None = None
    view: str | None = None
    joints: tuple[str, ...] = ()
    profile: str = "compact"
    out: Path = Path("out") / "preview.png"


@dataclass(frozen=True)
class PointSeen:
    """One key point: `x`, `y` [px, the centre of the top-left pixel is (0, 0)], both None behind the camera; `depth`
    [m] along the view; `place` is "in", "outside" or "behind"."""

    name: str
    link: str
    x: float | None
    y: float | None
    depth: float
    place: str


@dataclass(frozen=True, eq=False)
class Sighting:
    """What a camera sees of a robot: `picture` (H, W, 3) uint8 RGB, its key points, how many corners of the shapes of
    each link that has some lie in the picture (inside, all), and remarks."""

    picture: NDArray[np.uint8]
    points: tuple[PointSeen, ...]
    links: Mapping[str, tuple[int, int]]
    notes: tuple[str, ...]


def run(command: Preview) -> Outcome:
    """Draw, write the picture and the numbers, and return them as a table.

    Raises BadFile, InvalidInput, UnknownName, Unsupported, OSError.
    """
    if command.out.suffix.lower() != ".png":
        raise InvalidInput("--out", command.out.name, "a name that ends in .png")
    if command.out.resolve() == command.image.resolve():
        raise InvalidInput("--out", command.out, "another file than the photo")
    model = find_robot(command.robot)
    photo = read_photo(command.image)
    camera = find_camera(model, command.camera, command.view)
    pose = read_joints(model, command.joints)
    seen = look(model, photo, camera, pose, command.profile)
    command.out.parent.mkdir(parents=True, exist_ok=True)
    numbers = command.out.with_suffix(".json")
    _write(command.out, _png(seen.picture))
    about = _about(model, photo, camera, pose, seen)
    _write(numbers, json.dumps(about, indent=1).encode())
    told = "\n".join([*_table(model, camera, photo, seen), f"written: {command.out}, {numbers}"])
    return Outcome(told, {**about, "written": [command.out, numbers]})


def look(
    model: RobotModel, photo: NDArray[np.uint8], camera: Camera, joints: NDArray[np.float32], profile: str
) -> Sighting:
    """Draw the robot at `joints` (J,) over `photo` (H, W, 3) uint8 RGB, and say where its key points lie.

    A camera of another size but the same shape is resampled. Raises InvalidInput where the shapes differ, UnknownName
    for a draw profile.
    """
    import cv2
    import torch

    from vap_sim.prompts import Prompter, profile_names, silhouettes
    from vap_sim.prompts import profile as find_profile

    if profile not in profile_names():
        raise UnknownName("draw profile", profile, profile_names())
    camera, notes = _fitted(camera, (photo.shape[1], photo.shape[0]))
    q = torch.from_numpy(joints)[None, None]
    drawn = Prompter(model, find_profile(profile), camera.size).draw(q, [camera]).skeleton[0, 0, 0].numpy()
    strength = _OPACITY * drawn.max(axis=-1, keepdims=True) / 255.0
    picture = (photo * _DIMMED * (1 - strength) + _OPACITY * drawn).clip(0, 255).astype(np.uint8)
    if model.robot.visuals:
        mask = silhouettes(model, q, [camera])[0, 0, 0].numpy().astype(np.uint8)
        outline, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outline, -1, _OUTLINE, 1 + max(photo.shape) // 800)
    else:
        notes.append("the URDF has no visual shapes, so there is no outline")
    for name, value, lower, upper in zip(
        model.robot.joint_names, joints, model.robot.lower.tolist(), model.robot.upper.tolist(), strict=True
    ):
        if not lower - 1e-3 <= value <= upper + 1e-3:
            notes.append(f"joint {name!r} is at {value:.4g}, beyond its limits {lower:.4g}..{upper:.4g}")
    points, links = _positions(model, camera, q[0, 0])
    if not any(point.place == "in" for point in points):
        notes.append("no key point lies in the picture: does the camera belong to this photo?")
    return Sighting(picture, points, links, tuple(notes))


def _fitted(camera: Camera, size: tuple[int, int]) -> tuple[Camera, list[str]]:
    (width, height), (own_width, own_height) = size, camera.size
    if camera.size == size:
        return camera, []
    if abs(width * own_height / (height * own_width) - 1) > _STRETCH:
        expected = f"the shape of camera {camera.name!r}, {own_width} x {own_height}; crop it, or give its own camera"
        raise InvalidInput("photo", f"{width} x {height} pixels", expected)
    return camera.resized(size), [f"camera {camera.name!r} has {own_width} x {own_height} pixels; resampled"]


def _positions(model: RobotModel, camera: Camera, q: Any) -> tuple[tuple[PointSeen, ...], dict[str, tuple[int, int]]]:
    """Where key points lie, and for each link with shapes how many of their corners are in the picture."""
    import torch

    robot = model.robot
    poses = robot.forward(q)
    corners = {name: [torch.zeros(0, 3)] for name in robot.link_names}
    for visual in robot.visuals:
        pose = poses[visual.link]
        corners[robot.link_names[visual.link]].append(torch.from_numpy(visual.vertices) @ pose[:3, :3].T + pose[:3, 3])
    links = {}
    for name, groups in corners.items():
        if len(groups) > 1:
            places = [place for *_, place in _places(camera, torch.cat(groups), poses, model)]
            links[name] = (places.count("in"), len(places))
    at = _places(camera, model.skeleton.positions(robot, poses), poses, model)
    points = tuple(
        PointSeen(point.name, point.link, None if place == "behind" else x, None if place == "behind" else y, z, place)
        for point, (x, y, z, place) in zip(model.skeleton.points, at, strict=True)
    )
    return points, links


def _places(camera: Camera, points: Any, poses: Any, model: RobotModel) -> list[tuple[float, float, float, str]]:
    """Pixel, depth and place of points (P, 3) [m]; a picture ends half a pixel beyond its outermost centres."""
    xy, depth = camera.project(points, poses, model.robot)
    out = []
    for (x, y), z in zip(xy.tolist(), depth.tolist(), strict=True):
        inside = -0.5 <= x < camera.size[0] - 0.5 and -0.5 <= y < camera.size[1] - 0.5
        out.append((x, y, z, "behind" if z <= 0 else "in" if inside else "outside"))
    return out


def _table(model: RobotModel, camera: Camera, photo: NDArray[np.uint8], seen: Sighting) -> list[str]:
    """The numbers as lines of text."""
    size = f"{photo.shape[1]} x {photo.shape[0]}"
    lines = [f"{model.name} seen by camera {camera.name!r} in {size} pixels"]
    wide = max(len(point.name) for point in seen.points)
    lines.append(f"{'key point':{max(wide, 9)}}  {'x [px]':>8} {'y [px]':>8} {'depth [m]':>9}")
    for p in seen.points:
        pixel = f"{'-':>8} {'-':>8}" if p.x is None or p.y is None else f"{p.x:8.1f} {p.y:8.1f}"
        where = "" if p.place == "in" else "  behind the camera" if p.place == "behind" else "  outside the picture"
        lines.append(f"{p.name:{max(wide, 9)}}  {pixel} {p.depth:9.3f}{where}")
    inside = sum(point.place == "in" for point in seen.points)
    lines.append(f"{inside} of {len(seen.points)} key points lie in the picture")
    outside = [name for name, (count, _) in seen.links.items() if not count]
    cut = [f"{name} ({count / total:.0%} in)" for name, (count, total) in seen.links.items() if 0 < count < total]
    if outside:
        lines.append(f"links without a corner in the picture: {', '.join(outside)}")
    if cut:
        lines.append(f"links with corners on both sides of its edge: {', '.join(cut)}")
    return lines + [f"note: {note}" for note in seen.notes]


def _about(
    model: RobotModel, photo: NDArray[np.uint8], camera: Camera, joints: NDArray[np.float32], seen: Sighting
) -> dict[str, Any]:
    """The numbers as plain data."""
    return {
        "robot": model.name,
        "size": [photo.shape[1], photo.shape[0]],
        "camera": camera.to_dict(),
        "joints": dict(zip(model.robot.joint_names, joints.tolist(), strict=True)),
        "points": [vars(point) for point in seen.points],
        "links": {name: {"corners_in": count, "corners": total} for name, (count, total) in seen.links.items()},
        "notes": list(seen.notes),
    }


def _png(picture: NDArray[np.uint8]) -> bytes:
    import cv2

    _, data = cv2.imencode(".png", picture[..., ::-1])
    return bytes(data)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    os.replace(partial, path)
