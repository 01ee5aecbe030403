"""Writes the right hand into this folder and the left one into ../human_hand_left; run it again after a change.

The left hand is the right one mirrored in y. Both carry the points, bones and colours that ../human_hands has for
their side, so that a recorded hand and this one draw alike.
"""

from __future__ import annotations

import json
from math import cos, pi, sin
from pathlib import Path
from typing import Any

from vap_sim.robots.making import JointPlan, LinkPlan, Points, Vector, ball, disc, part, write_json, write_robot

FOLDER = Path(__file__).parent
SKIN, SLEEVE = (0.87, 0.68, 0.57), (0.26, 0.32, 0.45)
SLEEVE_LENGTH = 0.26
"""From the wrist [m]."""
SLEEVE_RADIUS = 0.038
"""What most of the sleeve keeps within, from the bone along it [m]."""
REMARK = (
    "A human hand before a moving head. Lengths of bones of an average adult; shapes are our own convex low-poly parts"
    " (../human_hand/make_model.py). Licence: Apache-2.0. See README.md in this folder."
)

BONES: dict[str, tuple[float, ...]] = {
    "thumb": (0.046, 0.032, 0.022),
    "index": (0.068, 0.040, 0.022, 0.016),
    "middle": (0.065, 0.045, 0.026, 0.017),
    "ring": (0.058, 0.041, 0.026, 0.017),
    "little": (0.053, 0.033, 0.018, 0.016),
}
"""Metacarpal, proximal, middle and distal bone [m]; a thumb has no middle one."""
CARPUS: dict[str, Vector] = {
    "thumb": (0.024, 0.020, -0.010),
    "index": (0.029, 0.011, 0.0),
    "middle": (0.030, 0.001, 0.001),
    "ring": (0.029, -0.009, 0.0),
    "little": (0.027, -0.018, -0.002),
}
"""Where each metacarpal begins, seen from the wrist: x along the hand, y towards a right thumb, z out of the back."""
SPREAD = {"index": 0.13, "middle": 0.02, "ring": -0.12, "little": -0.25}
"""How far a finger's bones lean towards the thumb [rad]."""
THUMB_TURN: Vector = (-1.05, 0.30, 0.80)
"""Roll, pitch and yaw of a right thumb's metacarpal [rad]: it bends across the palm."""
RADII: dict[str, tuple[float, ...]] = {
    "thumb": (0.0135, 0.0115, 0.0105, 0.0085),
    "index": (0.0105, 0.0090, 0.0080, 0.0068),
    "middle": (0.0105, 0.0092, 0.0082, 0.0070),
    "ring": (0.0100, 0.0086, 0.0078, 0.0066),
    "little": (0.0090, 0.0076, 0.0068, 0.0058),
}
"""Half the thickness at each joint, from the root to the tip [m]."""

BENDS: dict[str, tuple[float, float]] = {"mcp": (-0.4, 1.57), "pip": (0.0, 1.9), "dip": (-0.1, 1.4)}
THUMB_BENDS: dict[str, tuple[float, float]] = {"cmc": (-0.5, 0.7), "mcp": (-0.2, 1.0), "ip": (-0.3, 1.4)}
SIDEWAYS: dict[str, tuple[float, float]] = {"mcp": (-0.35, 0.35), "thumb_cmc": (-0.6, 0.6), "thumb_mcp": (-0.2, 0.2)}
"""Ranges of bending and of moving sideways [rad], rounded from what is common in adults."""
GRASP: dict[str, tuple[float, ...]] = {
    "thumb": (0.30, 0.30, 0.35),
    "index": (0.80, 0.75, 0.35),
    "middle": (0.85, 0.80, 0.40),
    "ring": (0.85, 0.85, 0.45),
    "little": (0.80, 0.85, 0.45),
}
"""What closing the hand adds to each bend, root to tip [rad]: thumb and index finger meet."""
LEADER = "index"
TOOL: Vector = (0.1005, 0.026, -0.0605)
"""Where the tips of thumb and index finger meet as the hand closes from its home pose."""

SLIDES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
TURNS = {"yaw": ((0.0, 0.0, 1.0), pi), "pitch": ((0.0, 1.0, 0.0), 1.5), "roll": ((1.0, 0.0, 0.0), pi)}
HOME = {
    "hand_x": 0.33, "hand_y": -0.12, "hand_z": 0.17, "hand_yaw": 0.45, "hand_pitch": 0.5, "hand_roll": -0.35,
    "head_x": -0.06, "head_y": 0.0, "head_z": 0.58, "head_yaw": 0.0, "head_pitch": 0.8, "head_roll": 0.0,
}  # fmt: skip
"""A right hand over a table, palm down, and the head behind it; mirrored for a left one. Fingers rest half bent."""
REST = {"mcp": 0.15, "pip": 0.3, "dip": 0.15, "cmc": 0.0, "ip": 0.1}


def stages(finger: str) -> tuple[str, ...]:
    """The joints of a finger from its root on."""
    return ("cmc", "mcp", "ip") if finger == "thumb" else ("mcp", "pip", "dip")


def bones(finger: str) -> tuple[str, ...]:
    """The links of a finger from its root on."""
    names = ("metacarpal", "proximal", "distal") if finger == "thumb" else ("proximal", "middle", "distal")
    return tuple(f"{finger}_{name}" for name in names)


def root(finger: str, sign: int) -> tuple[Vector, Vector]:
    """Origin and rpy of a finger's first joint in the wrist's frame; `sign` is -1 for a left hand."""
    x, y, z = CARPUS[finger]
    if finger == "thumb":
        roll, pitch, yaw = THUMB_TURN
        return (x, sign * y, z), (sign * roll, pitch, sign * yaw)
    lean, length = SPREAD[finger], BONES[finger][0]
    return (x + length * cos(lean), sign * (y + length * sin(lean)), z), (0.0, 0.0, sign * lean)


def lengths(finger: str) -> tuple[float, ...]:
    """Of a finger's moving bones [m]."""
    return BONES[finger] if finger == "thumb" else BONES[finger][1:]


def links(sign: int) -> list[LinkPlan]:
    """Palm, sleeve and three bones a finger; the links between joints that share a place are empty."""
    out = [LinkPlan("world"), *(LinkPlan(f"hand_{name}") for name in ("x", "y", "z", "yaw", "pitch"))]
    knuckles = [ball(*root(f, sign)[0], 0.0105) for f in SPREAD]
    carpus = [ball(0.012, sign * y, 0, 0.014) for y in (-0.014, 0.014)]
    base = ball(*root("thumb", sign)[0], 0.0125)
    sleeve = (disc(-SLEEVE_LENGTH, 0, 0.004, 0.043, "x"), disc(-0.03, 0, 0.0, 0.031, "x"))
    joint = (ball(-0.028, 0, 0, 0.022), ball(0.004, sign * 0.008, 0, 0.017), ball(0.004, -sign * 0.008, 0, 0.017))
    parts = (
        part("palm", SKIN, *knuckles, *carpus),
        part("thumb_root", SKIN, base, ball(0.07, sign * 0.022, -0.004, 0.009), ball(0.012, sign * 0.01, 0, 0.014)),
        part("wrist", SKIN, *joint),
        part("sleeve", SLEEVE, *sleeve),
    )
    out.append(LinkPlan("wrist", parts, 0.6))
    for finger in BONES:
        radii = RADII[finger]
        for index, (bone, length) in enumerate(zip(bones(finger), lengths(finger), strict=True)):
            steps = ("sideways", "bent") if _two(finger, index) else ("bent",)
            out += [LinkPlan(f"{bone}_{step}") for step in steps]
            out.append(LinkPlan(bone, (part(bone, SKIN, *_bone(length, radii[index], radii[index + 1], index)),), 0.02))
    out.append(LinkPlan("tool"))
    return [*out, *(LinkPlan(f"head_{name}") for name in ("x", "y", "z", "yaw", "pitch")), LinkPlan("head")]


def _bone(length: float, first: float, last: float, index: int) -> tuple[Points, Points]:
    """A bone's flesh; the last one ends at the tip, which lies a little under the skin."""
    return ball(0, 0, 0, first), ball(length if index < 2 else length - 0.3 * last, 0, 0, last)


def _two(finger: str, index: int) -> bool:
    """Whether the joint at the root of this bone also moves sideways."""
    return index == 0 or (finger == "thumb" and index == 1)


def joints(sign: int) -> list[JointPlan]:
    """Six joints for the hand, 21 for its fingers, one that closes it, and six for the head."""
    out = _floating("hand", "wrist", 1.5, 5.0)
    for finger in BONES:
        place, turn = root(finger, sign)
        before = "wrist"
        for index, (stage, bone) in enumerate(zip(stages(finger), bones(finger), strict=True)):
            name, xyz, rpy = f"{finger}_{stage}", place, turn
            if index:
                xyz, rpy = (lengths(finger)[index - 1], 0.0, 0.0), (0.0, 0.0, 0.0)
            if _two(finger, index):
                limits = SIDEWAYS.get(name, SIDEWAYS["mcp"])
                axis = (0.0, 0.0, float(sign))
                out.append(JointPlan(f"{name}_sideways", before, f"{bone}_sideways", xyz, rpy, axis, limits, 6.0, 2.0))
                before, xyz, rpy = f"{bone}_sideways", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)
            limits = (THUMB_BENDS if finger == "thumb" else BENDS)[stage]
            out.append(JointPlan(f"{name}_bend", before, f"{bone}_bent", xyz, rpy, (0, 1, 0), limits, 8.0, 2.0))
            out.append(_grasp(finger, index, bone, name))
            before = bone
    x, y, z = TOOL
    out.append(JointPlan("tool_joint", "wrist", "tool", (x, sign * y, z), (0, pi / 2, 0)))
    return [*out, *_floating("head", "head", 0.8, 2.0)]


def _grasp(finger: str, index: int, bone: str, name: str) -> JointPlan:
    """The joint that closing the hand adds to a bend, about the same axis; the leader counts 0 open to 1 closed."""
    leads = finger == LEADER and index == 0
    share = GRASP[finger][index] / GRASP[LEADER][0]
    top = GRASP[finger][index]
    return JointPlan(
        "grasp" if leads else f"{name}_grasp",
        f"{bone}_bent",
        bone,
        axis=(0, 1, 0),
        limits=(0.0, top),
        speed=4.0,
        effort=2.0,
        mimic=None if leads else ("grasp", round(share, 6), 0.0),
    )


def _floating(name: str, link: str, speed: float, turning: float) -> list[JointPlan]:
    """Three slides and three turns, yaw, pitch, roll, from the world to `link`."""
    out, before = [], "world"
    for axis, unit in SLIDES.items():
        limits = (-0.5, 1.5) if axis == "z" else (-1.5, 1.5)
        child = f"{name}_{axis}"
        out.append(JointPlan(child, before, child, axis=unit, limits=limits, speed=speed, effort=50, slides=True))
        before = child
    for turn, (unit, most) in TURNS.items():
        child = link if turn == "roll" else f"{name}_{turn}"
        limits = (-most, most)
        out.append(JointPlan(f"{name}_{turn}", before, child, axis=unit, limits=limits, speed=turning, effort=20))
        before = child
    return out


def robot(side: str, sign: int) -> dict[str, Any]:
    """robot.json: what grasps, the home pose and the cameras."""
    mirrored = ("hand_y", "hand_yaw", "hand_roll")
    home = {name: sign * value if name in mirrored else value for name, value in HOME.items()}
    for finger in BONES:
        home |= {f"{finger}_{stage}_bend": REST[stage] for stage in stages(finger)}
    head = {
        "size": [128, 128], "parent_link": "head", "eye": [0, 0, 0], "target": [1, 0, 0], "focal_px": 140.0,
    }  # fmt: skip
    across = {"size": [128, 128], "eye": [1.0, sign * 0.55, 0.5], "target": [0.4, 0, 0.1], "focal_px": 150.0}
    return {
        "name": "human_hand" if side == "right" else "human_hand_left",
        "flange_link": "wrist",
        "tool_link": "tool",
        "gripper": {"joint": "grasp", "open": 0.0, "closed": GRASP[LEADER][0]},
        "home": home,
        "cameras": {"head": head, "exterior_1": across},
    }


def skeleton(side: str) -> dict[str, Any]:
    """skeleton.json: one side of ../human_hands, its points on the links of this hand, and a bone along the sleeve.

    The sleeve fills more of the picture than the hand does, and the fingers alone do not tell where it points. Recorded
    hands have no such point: what finds hands in videos ends at the wrist."""
    both = json.loads((FOLDER.parent / "human_hands" / "skeleton.json").read_text(encoding="utf-8"))
    names = [point["name"] for point in both["points"] if point["name"].startswith(f"{side}_")]
    places = [("wrist", 0.0)]
    for finger in BONES:
        chain = bones(finger)
        places += [*((bone, 0.0) for bone in chain), (chain[-1], lengths(finger)[-1])]
    points = [{"name": name, "link": link, "offset": [x, 0, 0]} for name, (link, x) in zip(names, places, strict=True)]
    own = [bone for bone in both["bones"] if bone["start"] in names]
    points.append({"name": f"{side}_forearm", "link": "wrist", "offset": [-SLEEVE_LENGTH, 0, 0.004]})
    forearm: dict[str, Any] = {
        "start": f"{side}_wrist",
        "end": f"{side}_forearm",
        "group": "arm",
        "color": [255, 125, 38],
    }
    forearm["radius"] = SLEEVE_RADIUS
    return {"points": points, "bones": [*own, forearm]}


def main() -> None:
    """Write both hands."""
    for side, sign in (("right", 1), ("left", -1)):
        values = robot(side, sign)
        folder = FOLDER.parent / str(values["name"])
        write_robot(folder, str(values["name"]), REMARK, links(sign), joints(sign))
        for file, content in (("robot.json", values), ("skeleton.json", skeleton(side))):
            write_json(folder / file, content)


if __name__ == "__main__":
    main()
