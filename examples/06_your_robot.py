"""Any robot from its URDF: kinematics, Jacobian, inverse kinematics and a drawing. Writes out/06_your_robot.png.

python examples/06_your_robot.py                       the small arm below
python examples/06_your_robot.py path/to/robot.urdf    yours
"""

import sys
from pathlib import Path

import cv2
import torch

from vap_sim import Camera, Robot
from vap_sim.prompts import draw_skeletons, profile
from vap_sim.robots.inverse import solve_inverse
from vap_sim.robots.skeleton import Bone, KeyPoint, SkeletonSpec

OUT = Path("out")


def small_arm() -> Path:
    """A URDF of six turning joints, each 20 cm above the last, about the vertical and across it by turns."""
    joints = "".join(
        f'<link name="part_{i + 1}"/><joint name="joint_{i}" type="revolute">'
        f'<parent link="part_{i}"/><child link="part_{i + 1}"/><origin xyz="0 0 {0.2 if i else 0.1}"/>'
        f'<axis xyz="{"0 0 1" if i % 2 == 0 else "0 1 0"}"/>'
        '<limit lower="-2.8" upper="2.8" velocity="2" effort="50"/></joint>'
        for i in range(6)
    )
    path = OUT / "06_small_arm.urdf"
    path.write_text(f'<robot name="small_arm"><link name="part_0"/>{joints}</robot>', encoding="utf-8")
    return path


def straight_skeleton(robot: Robot) -> SkeletonSpec:
    """A key point on every link and a bone from each to the next: right for a chain, a first sketch for a tree."""
    points = tuple(KeyPoint(name, name) for name in robot.link_names)
    pairs = zip(robot.link_names[:-1], robot.link_names[1:], strict=True)
    count = len(robot.link_names)
    colors = [(60, 120 + 100 * i // count, 255 - 200 * i // count) for i in range(count)]
    return SkeletonSpec(points, tuple(Bone(a, b, "arm", color) for (a, b), color in zip(pairs, colors, strict=False)))


def main() -> None:
    OUT.mkdir(exist_ok=True)
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else small_arm()
    robot = Robot.from_urdf(path)
    tip = robot.link_names[-1]
    print(f"{robot.name}: {robot.num_joints} joints, {len(robot.link_names)} links, tip {tip}")
    for name, low, high in zip(robot.joint_names, robot.lower.tolist(), robot.upper.tolist(), strict=True):
        print(f"  {name}: {low:.2f} .. {high:.2f}")

    # Everything takes batches: here five poses, and then small steps around the first to check the Jacobian.
    share = torch.linspace(0.35, 0.65, 5, dtype=torch.float64)[:, None]
    low, high = robot.lower.double().clamp_min(-3), robot.upper.double().clamp_max(3)
    q = low + share * (high - low)
    poses = robot.forward(q)
    print(f"forward: {tuple(q.shape)} -> {tuple(poses.shape)}; the tip at {poses[0, -1, :3, 3].tolist()}")
    nudge = 1e-6 * torch.eye(robot.num_joints, dtype=torch.float64)  # each joint in turn, as a batch
    ahead, behind = (robot.forward(q[0] + sign * nudge)[:, robot.link_index(tip), :3, 3] for sign in (1, -1))
    apart = robot.jacobian(q[0], tip)[:3] - (ahead - behind).T / 2e-6
    print(f"Jacobian against differences: {apart.abs().max():.1e} apart")

    # Find joints that bring the tip to each of the five poses, from the pose before it. A far start may get stuck.
    before = torch.cat([q[:1], q[:-1]])
    found = solve_inverse(robot, tip, poses[:, robot.link_index(tip)], before)
    print(f"inverse: {int(found.converged.sum())} of 5 found, at most {1000 * found.position_error.max():.3f} mm off")

    reach = max(robot.reach(tip), 0.1)
    camera = Camera.look_at(
        "side", (1.6 * reach, -1.6 * reach, reach), (0, 0, 0.4 * reach), focal_px=420, size=(256, 256)
    )
    skeleton = straight_skeleton(robot)
    xy, depth = camera.project(skeleton.positions(robot, poses))
    pictures = draw_skeletons(xy, depth, skeleton, camera.size, profile("vap"))
    cv2.imwrite(str(OUT / "06_your_robot.png"), torch.cat(list(pictures), dim=1).numpy()[..., ::-1])
    print(f"written: {OUT / '06_your_robot.png'}")


if __name__ == "__main__":
    main()
