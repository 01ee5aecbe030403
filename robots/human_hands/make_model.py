"""Writes robot.urdf, robot.json and skeleton.json of this folder; run it again after changing a number below.

Two hands as a machine of points: each of the 42 joints of the fingers slides along x, y and z of the camera that saw
it, so that the joint values of a pose are the points themselves. Nothing has to be solved for, and no estimate of a
hand is bent to fit a model of one.
"""

from __future__ import annotations

import colorsys
import json
from pathlib import Path

FOLDER = Path(__file__).parent
SIDES = ("left", "right")
FINGERS = ("thumb", "index", "middle", "ring", "little")
JOINTS = {"thumb": ("base", "knuckle", "joint", "tip")}
OTHER_JOINTS = ("knuckle", "middle", "end", "tip")
HUES = {"thumb": 0, "index": 48, "middle": 130, "ring": 205, "little": 300}
PALE = 0.55
"""How far a left hand's colours are mixed with white."""
RADII = {"wrist": 0.020, "base": 0.016, "knuckle": 0.013, "middle": 0.009, "joint": 0.010, "end": 0.008, "tip": 0.008}
"""Of the ball at each joint [m], about half of what a finger measures there."""
BEHIND = -1.0
"""z of a hand that is not there [m]: behind the camera nothing is drawn."""
REACH, SPEED = 10.0, 20.0
SPREAD = {"thumb": -0.050, "index": -0.025, "middle": -0.003, "ring": 0.017, "little": 0.035}
KNUCKLE = {"thumb": 0.030, "index": 0.088, "middle": 0.090, "ring": 0.085, "little": 0.078}
LENGTHS = {
    "thumb": (0.035, 0.032, 0.027), "index": (0.040, 0.024, 0.022), "middle": (0.044, 0.028, 0.023),
    "ring": (0.040, 0.027, 0.023), "little": (0.032, 0.020, 0.020),
}  # fmt: skip
"""An open hand of an adult, roughly: where each finger's first joint lies across and along the palm, and its bones
[m]."""


def points() -> list[str]:
    """The 21 names of one hand in order: the wrist, then each finger from its root to its tip."""
    return ["wrist", *(f"{finger}_{joint}" for finger in FINGERS for joint in JOINTS.get(finger, OTHER_JOINTS))]


def bones() -> list[tuple[str, str, str]]:
    """Start, end and finger of the 20 bones of one hand."""
    found = []
    for finger in FINGERS:
        chain = ["wrist", *(f"{finger}_{joint}" for joint in JOINTS.get(finger, OTHER_JOINTS))]
        found += [(start, end, finger) for start, end in zip(chain, chain[1:], strict=False)]
    return found


def thickness(point: str) -> float:
    """Radius of the ball at a point [m]."""
    return RADII[point.rsplit("_")[-1]]


def color(side: str, finger: str) -> list[int]:
    """RGB 0..255: one hue a finger, pale for a left hand."""
    levels = colorsys.hsv_to_rgb(HUES[finger] / 360, 0.85, 1.0)
    pale = PALE if side == "left" else 0.0
    return [round(255 * (level + pale * (1 - level))) for level in levels]


def open_hand(side: str) -> dict[str, tuple[float, float, float]]:
    """Both hands half a metre before the camera, fingers up, as their owner sees their backs [m]."""
    sign, middle = (1.0, 0.12) if side == "right" else (-1.0, -0.12)
    places = {"wrist": (middle, 0.08, 0.5)}
    for finger in FINGERS:
        x, y = middle + sign * SPREAD[finger], 0.08 - KNUCKLE[finger]
        names = JOINTS.get(finger, OTHER_JOINTS)
        for name, length in zip(names, (*LENGTHS[finger], 0.0), strict=True):
            places[f"{finger}_{name}"] = (round(x, 4), round(y, 4), 0.5)
            x, y = x + sign * length * SPREAD[finger] * 6, y - length
    return places


def urdf() -> str:
    """A link a point, moved by three sliders."""
    lines = [
        '<?xml version="1.0"?>',
        "<!-- Written by make_model.py. Licence: Apache-2.0. See README.md in this folder. -->",
        '<robot name="human_hands">',
        '  <link name="camera"/>',
    ]
    for side in SIDES:
        for point in points():
            name, radius = f"{side}_{point}", thickness(point)
            before = "camera"
            for axis, unit in zip("xyz", ("1 0 0", "0 1 0", "0 0 1"), strict=True):
                link = name if axis == "z" else f"{name}_{axis}"
                lower = BEHIND if axis == "z" else -REACH
                limit = f'<limit lower="{lower}" upper="{REACH}" velocity="{SPEED}" effort="0"/>'
                ball = ""
                if axis == "z":
                    finger = point.split("_")[0] if "_" in point else "middle"
                    rgba = " ".join(f"{level / 255:.3f}" for level in color(side, finger))
                    look = f'<material name="{name}"><color rgba="{rgba} 1"/></material>'
                    ball = f'<visual><geometry><sphere radius="{radius}"/></geometry>{look}</visual>'
                lines.append(f'  <link name="{link}">{ball}</link>' if ball else f'  <link name="{link}"/>')
                lines.append(
                    f'  <joint name="{name}_{axis}" type="prismatic"><parent link="{before}"/><child link="{link}"/>'
                    f'<axis xyz="{unit}"/>{limit}</joint>'
                )
                before = link
    return "\n".join([*lines, "</robot>"]) + "\n"


def main() -> None:
    """Write the three files."""
    named = [f"{side}_{point}" for side in SIDES for point in points()]
    joined = [
        {"start": f"{side}_{a}", "end": f"{side}_{b}", "group": "gripper", "color": color(side, finger)}
        | {"radius": thickness(b)}
        for side in SIDES
        for a, b, finger in bones()
    ]
    home = {
        f"{side}_{point}_{axis}": value
        for side in SIDES
        for point, place in open_hand(side).items()
        for axis, value in zip("xyz", place, strict=True)
    }
    eye = {"size": [192, 128], "eye": [0, 0, 0], "target": [0, 0, 1], "up": [0, -1, 0], "focal_px": 160.0}
    robot = {
        "name": "human_hands", "flange_link": "right_wrist", "tool_link": "right_wrist", "home": home,
        "cameras": {"eyes": eye},
    }  # fmt: skip
    skeleton = {"points": [{"name": name, "link": name} for name in named], "bones": joined}
    (FOLDER / "robot.urdf").write_text(urdf(), encoding="utf-8")
    for file, values in (("robot.json", robot), ("skeleton.json", skeleton)):
        (FOLDER / file).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
