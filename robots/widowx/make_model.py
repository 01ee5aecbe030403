"""Writes robot.urdf and meshes/ of this folder; run it again after changing a number or a part."""

from __future__ import annotations

from math import pi
from pathlib import Path

from vap_sim.robots.making import JointPlan, LinkPlan, Points, Vector, ball, box, disc, part, write_robot

BLACK, DARK, STEEL = (0.16, 0.16, 0.18), (0.25, 0.26, 0.29), (0.42, 0.43, 0.46)
SHUT = 0.015
"""How far a finger's inner face lies before its link, which makes the fingers meet at their lower limit [m]."""
REMARK = (
    "WidowX 250s arm with its gripper. Kinematics from published numbers; shapes are our own convex low-poly parts"
    " (make_model.py). Licence: Apache-2.0. See README.md in this folder."
)


def links() -> list[LinkPlan]:
    """Every link with its parts, each in its link's frame."""
    return [
        LinkPlan(
            "base",
            (
                part(
                    "foot",
                    BLACK,
                    box((-0.11, -0.08, 0), (0.08, 0.08, 0.028)),
                    box((-0.07, -0.06, 0.05), (0.06, 0.06, 0.054)),
                ),
                part("turntable", STEEL, disc(0, 0, 0.05, 0.055), disc(0, 0, 0.068, 0.052)),
            ),
            1.0,
        ),
        LinkPlan(
            "shoulder_link",
            (
                part("waist", BLACK, disc(0, 0, -0.003, 0.046), box((-0.03, -0.042, 0.01), (0.03, 0.042, 0.066))),
                part(
                    "shoulder_motors", DARK, disc(0, -0.058, 0.03865, 0.024, "y"), disc(0, 0.058, 0.03865, 0.024, "y")
                ),
            ),
            0.7,
        ),
        LinkPlan(
            "upper_arm_link",
            (
                part("upper_arm", BLACK, *_rounds((0, 0, 0), 0.032, 0.052), *_rounds((0, 0, 0.25), 0.022, 0.03)),
                part(
                    "elbow_bracket",
                    BLACK,
                    *_rounds((0, 0, 0.25), 0.024, 0.03),
                    *_rounds((0.04975, 0, 0.25), 0.026, 0.038),
                ),
            ),
            0.8,
        ),
        LinkPlan(
            "upper_forearm_link",
            (
                part("elbow_motor", DARK, *_rounds((0, 0, 0), 0.022, 0.05)),
                part("upper_forearm", BLACK, ball(0.02, 0, 0, 0.028), disc(0.16, 0, 0, 0.025, "x")),
                part("forearm_ring", STEEL, disc(0.16, 0, 0, 0.021, "x"), disc(0.178, 0, 0, 0.021, "x")),
            ),
            0.5,
        ),
        LinkPlan(
            "lower_forearm_link",
            (part("lower_forearm", BLACK, disc(0.003, 0, 0, 0.026, "x"), *_rounds((0.07, 0, 0), 0.022, 0.032)),),
            0.35,
        ),
        LinkPlan(
            "wrist_link",
            (
                part("wrist_motor", DARK, *_rounds((0, 0, 0), 0.018, 0.042)),
                part("wrist", BLACK, *_rounds((0.01, 0, 0), 0.019, 0.024), disc(0.058, 0, 0, 0.02, "x")),
            ),
            0.3,
        ),
        LinkPlan(
            "gripper_link",
            (
                part("gripper_motor", DARK, disc(-0.005, 0, 0, 0.017, "x"), disc(0.012, 0, 0, 0.017, "x")),
                part("gripper_body", BLACK, box((0.008, -0.032, -0.022), (0.05, 0.032, 0.026))),
            ),
            0.3,
        ),
        LinkPlan("ee_arm_link"),
        LinkPlan("ee_bar_link", (part("rail", STEEL, box((-0.018, -0.062, -0.011), (-0.004, 0.062, 0.011))),), 0.08),
        LinkPlan("left_finger_link", (part("left_finger", BLACK, *_finger(1)),), 0.04),
        LinkPlan("right_finger_link", (part("right_finger", BLACK, *_finger(-1)),), 0.04),
        LinkPlan("ee_gripper_link"),
        LinkPlan("tool"),
    ]


def _rounds(centre: Vector, radius: float, half: float) -> tuple[Points, Points]:
    """The two rims of a cylinder that lies along y."""
    x, y, z = centre
    return disc(x, y - half, z, radius, "y"), disc(x, y + half, z, radius, "y")


def _finger(side: int) -> tuple[Points, ...]:
    """A finger: its carriage on the rail and a flat inner face from there to its tip."""

    def between(x: tuple[float, float], y: tuple[float, float], half: float) -> Points:
        low, high = sorted(side * value for value in y)
        return box((x[0], low, -half), (x[1], high, half))

    return between((-0.004, 0.012), (-SHUT, 0.008), 0.013), between((0.05, 0.058), (-SHUT, -SHUT + 0.007), 0.009)


Row = tuple[str, str, str, Vector, Vector, tuple[float, float]]
ARM: tuple[Row, ...] = (
    ("waist", "base", "shoulder_link", (0, 0, 0.072), (0, 0, 1), (-pi, pi)),
    ("shoulder", "shoulder_link", "upper_arm_link", (0, 0, 0.03865), (0, 1, 0), (-1.885, 1.990)),
    ("elbow", "upper_arm_link", "upper_forearm_link", (0.04975, 0, 0.25), (0, 1, 0), (-2.147, 1.606)),
    ("forearm_roll", "upper_forearm_link", "lower_forearm_link", (0.175, 0, 0), (1, 0, 0), (-pi, pi)),
    ("wrist_angle", "lower_forearm_link", "wrist_link", (0.075, 0, 0), (0, 1, 0), (-1.745, 2.147)),
    ("wrist_rotate", "wrist_link", "gripper_link", (0.065, 0, 0), (1, 0, 0), (-pi, pi)),
)
"""Name, parent, child, origin, axis and limits."""
TRAVEL = (0.015, 0.037)


def joints() -> list[JointPlan]:
    """Every joint; the right finger follows the left one. The limits of speed are ours."""
    arm = [
        JointPlan(name, parent, child, xyz, axis=axis, limits=limits, speed=2.5, effort=8)
        for name, parent, child, xyz, axis, limits in ARM
    ]
    slide = {"parent": "ee_bar_link", "limits": TRAVEL, "speed": 0.1, "effort": 5.0, "slides": True}
    return [
        *arm,
        JointPlan("ee_arm", "gripper_link", "ee_arm_link", (0.043, 0, 0)),
        JointPlan("ee_bar", "ee_arm_link", "ee_bar_link", (0.023, 0, 0)),
        JointPlan("left_finger", child="left_finger_link", axis=(0, 1, 0), **slide),  # type: ignore[arg-type]
        JointPlan("right_finger", child="right_finger_link", axis=(0, -1, 0), mimic=("left_finger", 1.0, 0.0), **slide),  # type: ignore[arg-type]
        JointPlan("ee_gripper", "ee_bar_link", "ee_gripper_link", (0.027575, 0, 0)),
        JointPlan("tool_joint", "ee_gripper_link", "tool", rpy=(0, pi / 2, 0)),
    ]


if __name__ == "__main__":
    write_robot(Path(__file__).parent, "widowx", REMARK, links(), joints())
