"""Writes robot.urdf and meshes/ of this folder; run it again after changing a number or a part."""

from __future__ import annotations

from math import pi
from pathlib import Path

from vap_sim.robots.making import JointPlan, LinkPlan, Part, Points, Vector, ball, box, disc, part, write_robot

TABLE_HEIGHT = 0.79
"""Of the work surface, which is z = 0 of the root link, above the base link [m]. Ours; the rest is the robot's."""
GROUND = -0.079
"""z of the floor below the base link [m]."""
WHITE, GREY, DARK, BLACK = (0.93, 0.93, 0.92), (0.68, 0.70, 0.72), (0.30, 0.31, 0.34), (0.14, 0.15, 0.17)

REMARK = (
    "The mobile manipulator of RT-1, standing still. Kinematics from published numbers; shapes are our own convex parts"
    " (make_model.py). Licence: Apache-2.0. See README.md in this folder."
)


def links() -> list[LinkPlan]:
    """Every link with its parts, each in its link's frame."""
    return [
        LinkPlan("table_top"),
        LinkPlan(
            "base",
            (
                part(
                    "foot",
                    GREY,
                    disc(0.06, 0.12, GROUND, 0.16),
                    disc(0.06, -0.12, GROUND, 0.16),
                    disc(-0.12, 0, GROUND, 0.2),
                    disc(0.05, 0.1, 0.11, 0.14),
                    disc(0.05, -0.1, 0.11, 0.14),
                    disc(-0.1, 0, 0.11, 0.17),
                ),
                part("pillar", WHITE, disc(-0.03, 0, 0.1, 0.17), disc(0, 0, 0.54, 0.13)),
                part("spine", WHITE, disc(-0.05, 0, 0.76, 0.085), disc(0, 0, 1.13, 0.06)),
            ),
            60.0,
        ),
        LinkPlan(
            "torso",
            (
                part("chest", WHITE, disc(0, 0, -0.04, 0.135), disc(0, 0, 0.15, 0.115)),
                part("shoulder_block", WHITE, ball(0, -0.04, 0.08, 0.085), disc(0, -0.105, 0.113, 0.08, "y")),
            ),
            12.0,
        ),
        LinkPlan(
            "shoulder",
            (
                part("shoulder_ring", GREY, disc(0, 0.062, 0, 0.076, "y"), disc(0, 0.03, 0, 0.076, "y")),
                part("shoulder", WHITE, disc(0, 0.03, 0, 0.082, "y"), ball(0, -0.02, 0, 0.08), disc(0, 0, 0.12, 0.062)),
            ),
            4.0,
        ),
        LinkPlan(
            "bicep",
            (
                part("bicep_ring", GREY, disc(0, 0, -0.095, 0.056), disc(0, 0, -0.07, 0.056)),
                part("bicep", WHITE, disc(0, 0, -0.07, 0.062), disc(0, 0, 0.1, 0.06), ball(0, 0.0, 0.185, 0.058)),
            ),
            3.5,
        ),
        LinkPlan(
            "elbow",
            (
                part("elbow_ring", GREY, disc(0, 0.01, 0, 0.05, "y"), disc(0, -0.03, 0, 0.05, "y")),
                part(
                    "elbow", WHITE, disc(0, -0.04, 0, 0.06, "y"), ball(0, -0.09, 0, 0.056), disc(0, -0.101, 0.07, 0.05)
                ),
            ),
            2.5,
        ),
        LinkPlan(
            "forearm",
            (
                part("forearm_ring", GREY, disc(0, 0, -0.022, 0.045), disc(0, 0, 0.005, 0.045)),
                part("forearm", WHITE, disc(0, 0, 0.005, 0.052), disc(0, 0, 0.17, 0.05), ball(0, -0.006, 0.255, 0.046)),
            ),
            2.0,
        ),
        LinkPlan(
            "wrist",
            (
                part("wrist_joint", GREY, disc(0, -0.048, 0, 0.036, "y"), disc(0, 0.056, 0, 0.036, "y")),
                part("wrist", WHITE, ball(0, 0.004, 0.02, 0.042), disc(0, 0.006, 0.095, 0.042)),
            ),
            1.2,
        ),
        LinkPlan(
            "gripper",
            (
                part("gripper_collar", GREY, disc(0, 0, -0.014, 0.037), disc(0, 0, 0.012, 0.037)),
                part(
                    "gripper_body",
                    DARK,
                    disc(0, 0, 0.012, 0.041),
                    box((-0.024, -0.04, 0.045), (0.024, 0.04, 0.064)),
                    box((-0.02, -0.018, 0.08), (0.02, 0.018, 0.082)),
                ),
            ),
            0.8,
        ),
        *[_finger(side, which) for side in ("right", "left") for which in ("finger", "tip", "nail")],
        LinkPlan("tool"),
        LinkPlan(
            "head_pan",
            (
                part("neck", GREY, disc(0, 0, -0.035, 0.055), disc(0, 0, 0.03, 0.055)),
                part("throat", GREY, disc(0, 0, 0.03, 0.05), ball(0.06, 0, 0.1, 0.035)),
            ),
            1.0,
        ),
        LinkPlan(
            "head_tilt",
            (
                part(
                    "head",
                    WHITE,
                    disc(-0.03, 0.1, 0, 0.075, "y"),
                    disc(-0.03, -0.1, 0, 0.075, "y"),
                    box((0.06, -0.1, -0.05), (0.07, 0.1, 0.05)),
                ),
                part("face", BLACK, box((0.07, -0.085, -0.038), (0.095, 0.085, 0.038))),
            ),
            1.5,
        ),
        LinkPlan("camera"),
    ]


def _finger(side: str, which: str) -> LinkPlan:
    """Both fingers are alike: the frame of the right one is turned by half a turn about the gripper's axis."""
    shapes: dict[str, tuple[Part, ...]] = {
        "finger": (part("finger", BLACK, box((-0.012, -0.01, -0.01), (0.012, 0.01, 0.01)), _tapered(0.0642)),),
        "tip": (part("tip", DARK, box((-0.011, -0.006, -0.006), (0.011, 0.006, 0.006)), _nail(0.04)),),
        "nail": (),
    }
    return LinkPlan(f"{which}_{side}", shapes[which], 0.05 if shapes[which] else 0.001)


def _tapered(z: float) -> Points:
    return box((-0.011, -0.0184, z - 0.006), (0.011, -0.0024, z + 0.006))


def _nail(z: float) -> Points:
    return box((-0.009, -0.003, z), (0.009, 0.003, z + 0.0063))


Row = tuple[str, str, str, Vector, Vector, tuple[float, float], float]
MOVING: tuple[Row, ...] = (
    ("joint_torso", "base", "torso", (0, 0, 0.5945), (0, 0, 1), (-4.49, 1.35), 1.5),
    ("joint_shoulder", "torso", "shoulder", (0, -0.16728852885, 0.113), (0, 1, 0), (-2.66, 3.18), 1.5),
    ("joint_bicep", "shoulder", "bicep", (0, 0.002289, 0.21502852885), (0, 0, 1), (-2.13, 3.71), 1.5),
    ("joint_elbow", "bicep", "elbow", (0, -0.064, 0.1849715), (0, 1, 0), (-2.05, 3.79), 1.5),
    ("joint_forearm", "elbow", "forearm", (0, -0.101, 0.0915), (0, 0, 1), (-2.92, 2.92), 2.0),
    ("joint_wrist", "forearm", "wrist", (0, -0.00604, 0.2735), (0, 1, 0), (-1.79, 1.79), 2.0),
    ("joint_gripper", "wrist", "gripper", (0, 0.0060384, 0.10911), (0, 0, 1), (-4.49, 1.35), 2.0),
    ("joint_head_pan", "base", "head_pan", (0, 0, 1.16902), (0, 0, 1), (-3.79, 2.22), 1.5),
    ("joint_head_tilt", "head_pan", "head_tilt", (0.07181, 0, 0.11848), (0, 1, 0), (-1.17, 1.17), 1.5),
)
"""Name, parent, child, origin, axis, limits and speed. The limits of speed are ours; the rest is published."""
FINGERS: tuple[tuple[str, Vector, Vector], ...] = (
    ("right", (0, -0.025, 0.05861), (-1.15, 0, pi)),
    ("left", (0, 0.025, 0.05861), (-1.15, 0, 0)),
)


def joints() -> list[JointPlan]:
    """Every joint; the left finger follows the right one."""
    arm = [
        JointPlan(name, parent, child, xyz, axis=axis, limits=limits, speed=speed, effort=60)
        for name, parent, child, xyz, axis, limits, speed in MOVING
    ]
    fingers: list[JointPlan] = []
    for side, xyz, rpy in FINGERS:
        leader = None if side == "right" else ("joint_finger_right", 1.0, 0.0)
        fingers += [
            JointPlan(
                f"joint_finger_{side}",
                "gripper",
                f"finger_{side}",
                xyz,
                rpy,
                (1, 0, 0),
                (0, 1.3),
                3.0,
                10,
                mimic=leader,
            ),
            JointPlan(f"joint_tip_{side}", f"finger_{side}", f"tip_{side}", (0, -0.0103567, 0.0641556), (0.45, 0, 0)),
            JointPlan(f"joint_nail_{side}", f"tip_{side}", f"nail_{side}", (0, 0, 0.0463)),
        ]
    return [
        JointPlan("table_height", "table_top", "base", (0, 0, -TABLE_HEIGHT)),
        *arm[:7],
        *fingers,
        JointPlan("joint_tool", "gripper", "tool", (0.0043375, 0.0018853, 0.1635330)),
        *arm[7:],
        JointPlan("camera_mount", "head_tilt", "camera", (0.10488, 0, 0), (-pi / 2, 0, -pi / 2)),
    ]


if __name__ == "__main__":
    write_robot(Path(__file__).parent, "google_robot", REMARK, links(), joints())
