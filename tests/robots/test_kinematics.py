"""Forward kinematics and Jacobians: equal to a physics engine, to logged robots, and to their own laws."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.robots.kinematics import Robot
from vap_sim.robots.library import robot_names
from vap_sim.robots.rotations import rotation_vector, rpy_to_matrix

# Recorded hands, 126 sliders without masses, are not for the engine.
SHIPPED = [name for name in robot_names() if name != "human_hands"]
ENGINE_ROBOTS = [*SHIPPED, "franka_panda/panda.urdf", "kuka_iiwa/model.urdf", "xarm/xarm6_robot.urdf"]
SLIDER = """<robot name="slider"><link name="a"/><link name="b"/><link name="c"/><link name="d"/><link name="e"/>
<joint name="slide" type="prismatic"><parent link="a"/><child link="b"/>
<origin xyz="1 0 0" rpy="0 0 1.5707963267948966"/>
<axis xyz="2 0 0"/><limit lower="0" upper="1" velocity="1"/></joint>
<joint name="back" type="prismatic"><parent link="b"/><child link="c"/><axis xyz="1 0 0"/>
<mimic joint="slide" multiplier="-2" offset="0.5"/></joint>
<joint name="spin" type="continuous"><parent link="c"/><child link="d"/><origin xyz="0 0 1"/><axis xyz="0 0 1"/></joint>
<joint name="again" type="prismatic"><parent link="a"/><child link="e"/><axis xyz="0 0 1"/>
<mimic joint="back" multiplier="3" offset="0.1"/></joint>
</robot>"""


def random_joints(robot: Robot, count: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    share = torch.rand(count, robot.num_joints, generator=torch.Generator().manual_seed(1), dtype=dtype)
    lower, upper = robot.lower.clamp_min(-4).to(dtype), robot.upper.clamp_max(4).to(dtype)
    return lower + share * (upper - lower)


@pytest.fixture
def slider(tmp_path: Path) -> Robot:
    (tmp_path / "slider.urdf").write_text(SLIDER)
    return Robot.from_urdf(tmp_path / "slider.urdf")


@pytest.mark.parametrize("name", ENGINE_ROBOTS)
@pytest.mark.parametrize("rows", [250, 1])
def test_equals_pybullet(robot: Robot, name: str, rows: int) -> None:
    """`rows` poses in one call, so that both the path for many and the path for few are compared."""
    pybullet = pytest.importorskip("pybullet")
    data = Path(pytest.importorskip("pybullet_data").getDataPath())
    path = robot_file(name, data)
    ours = Robot.from_urdf(path)
    client = pybullet.connect(pybullet.DIRECT)
    try:
        body = pybullet.loadURDF(str(path), useFixedBase=True, physicsClientId=client)
        worst = compare(pybullet, client, body, ours, rows)
    finally:
        pybullet.disconnect(client)
    assert worst[0] < 1e-6
    assert worst[1] < 1e-5  # the engine keeps quaternions in single precision


def robot_file(name: str, data: Path) -> Path:
    return Path(__file__).resolve().parents[2] / "robots" / name / "robot.urdf" if "/" not in name else data / name


def compare(pybullet: object, client: int, body: int, ours: Robot, rows: int) -> tuple[float, float]:
    """Largest distance [m] and angle [rad] between the engine's link frames and ours, over 250 poses or 50."""
    count = pybullet.getNumJoints(body, client)
    infos = [pybullet.getJointInfo(body, i, client) for i in range(count)]
    moving = [i for i in range(count) if infos[i][2] != pybullet.JOINT_FIXED]
    links = [ours.link_index(info[12].decode()) for info in infos]
    q = random_joints(ours, 250 if rows > 1 else 50)
    poses = torch.cat([ours.forward(part) for part in q.split(rows)])[:, links].numpy()
    # The engine ignores <mimic>; followers get their value from us.
    follow = [ours._followed[infos[i][1].decode()] for i in moving]
    positions, quaternions = [], []
    for row in q.numpy():
        for i, (leader, scale, offset) in zip(moving, follow, strict=True):
            pybullet.resetJointState(body, i, scale * row[ours.joint_index(leader)] + offset, physicsClientId=client)
        states = pybullet.getLinkStates(body, list(range(count)), computeForwardKinematics=1, physicsClientId=client)
        positions.append([s[4] for s in states])
        quaternions.append([s[5] for s in states])
    root = pybullet.getBasePositionAndOrientation(body, client)
    inertial = pybullet.getDynamicsInfo(body, -1, client)[3:5]
    base = pybullet.multiplyTransforms(*root, *pybullet.invertTransform(*inertial))
    turn = np.array(pybullet.getMatrixFromQuaternion(base[1])).reshape(3, 3)
    distance = (np.array(positions) - base[0]) @ turn - poses[..., :3, 3]
    matrices = turn.T @ matrices_from(np.array(quaternions))
    angle = rotation_vector(torch.from_numpy(poses[..., :3, :3]) @ torch.from_numpy(matrices).mT)
    return float(np.abs(distance).max()), float(angle.abs().max())


def matrices_from(quaternions: np.ndarray) -> np.ndarray:
    """Unit quaternions (..., 4) as x y z w -> rotations (..., 3, 3)."""
    q = quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True)
    v, w = q[..., :3], q[..., 3, None, None]
    cross = np.zeros((*q.shape[:-1], 3, 3))
    cross[..., [2, 0, 1], [1, 2, 0]], cross[..., [1, 2, 0], [2, 0, 1]] = v, -v
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def test_equals_logged_flange_poses(robot: Robot, droid_episodes: list[Path]) -> None:
    for path in droid_episodes:
        log = json.loads(path.read_text())
        joints = np.array(log.get("observation.state.joint_position", log.get("joints")))[:, :7]
        logged = torch.tensor(log.get("observation.state.cartesian_position", log["states"]), dtype=torch.float64)
        q = torch.from_numpy(np.concatenate([joints, np.zeros((len(joints), 1))], axis=1))
        flange = robot.forward(q)[:, robot.link_index("panda_link8")]
        assert float((flange[:, :3, 3] - logged[:, :3]).norm(dim=-1).max()) < 1e-3, path
        turn = rotation_vector(flange[:, :3, :3] @ rpy_to_matrix(logged[:, 3:6]).mT)
        assert float(turn.norm(dim=-1).max()) < 1e-3, path


def test_prismatic_continuous_and_mimic_by_hand(slider: Robot) -> None:
    assert slider.joint_names == ("slide", "spin")
    assert slider.link_names == ("a", "b", "c", "d", "e")
    q = torch.tensor([[0.3, torch.pi / 2]], dtype=torch.float64)
    for poses in (slider.forward(q), slider.forward(q.repeat(100, 1))[:1]):
        positions = [[0, 0, 0], [1, 0.3, 0], [1, 0.3 + 0.5 - 0.6, 0], [1, 0.2, 1], [0, 0, 3 * (0.5 - 0.6) + 0.1]]
        torch.testing.assert_close(poses[0, :, :3, 3], torch.tensor(positions, dtype=torch.float64))
        half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64))
        torch.testing.assert_close(poses[0, 3, :3, :3], half_turn)
    assert slider.upper.tolist() == [1.0, float("inf")]
    assert slider.clamp(torch.tensor([2.0, 9.0])).tolist() == [1.0, 9.0]


def test_mimic_joints_equal_the_parser_s_own_kinematics(robot: Robot) -> None:
    import yourdfpy

    path = Path(__file__).resolve().parents[2] / "robots" / "panda_robotiq" / "robot.urdf"
    theirs = yourdfpy.URDF.load(str(path), load_meshes=False)
    for q in random_joints(robot, 5):
        theirs.update_cfg(dict(zip(robot.joint_names, q.tolist(), strict=True)))
        expected = np.stack([theirs.get_transform(name) for name in robot.link_names])
        np.testing.assert_allclose(robot.forward(q).numpy(), expected, atol=1e-12)


def test_batch_equals_single_and_axes_are_kept(robot: Robot) -> None:
    q = random_joints(robot, 120)
    many = robot.forward(q)
    torch.testing.assert_close(many, torch.stack([robot.forward(row) for row in q]), rtol=0, atol=1e-14)
    torch.testing.assert_close(robot.forward(q.reshape(4, 5, 6, -1)), many.reshape(4, 5, 6, *many.shape[1:]))
    assert robot.forward(q[:0]).shape == (0, len(robot.link_names), 4, 4)


def test_poses_are_rigid(robot: Robot) -> None:
    poses = robot.forward(random_joints(robot, 100, torch.float32))
    assert poses.dtype == torch.float32
    turn = poses[..., :3, :3]
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3).expand_as(turn), atol=2e-6, rtol=0)
    assert torch.equal(poses[..., 3, :], torch.tensor([0.0, 0, 0, 1]).expand_as(poses[..., 3, :]))


@pytest.mark.parametrize("rows", [3, 100])
def test_jacobian_is_the_derivative(robot: Robot, slider: Robot, rows: int) -> None:
    for body, link in (
        (robot, "tool"),
        (robot, "left_pad"),
        (robot, "panda_link3"),
        (slider, "d"),
        (slider, "e"),
        (slider, "a"),
    ):
        q, step = random_joints(body, rows), 1e-6
        index = body.link_index(link)
        columns = []
        for joint in torch.eye(body.num_joints, dtype=q.dtype):
            ahead, behind = body.forward(q + step * joint)[:, index], body.forward(q - step * joint)[:, index]
            turn = rotation_vector(ahead[:, :3, :3] @ behind[:, :3, :3].mT)
            columns.append(torch.cat([ahead[:, :3, 3] - behind[:, :3, 3], turn], dim=-1) / (2 * step))
        torch.testing.assert_close(body.jacobian(q, link), torch.stack(columns, dim=-1), atol=1e-8, rtol=0)


@pytest.mark.parametrize("rows", [2, 100])
def test_gradient_equals_jacobian(robot: Robot, rows: int) -> None:
    q = random_joints(robot, rows).requires_grad_()
    height = robot.forward(q)[:, robot.link_index("tool"), 2, 3]
    (gradient,) = torch.autograd.grad(height.sum(), q)
    torch.testing.assert_close(gradient, robot.jacobian(q.detach(), "tool")[:, 2])


def test_reach_bounds_every_pose(robot: Robot, slider: Robot) -> None:
    for body, link in ((robot, "tool"), (slider, "b")):
        far = body.forward(random_joints(body, 2000))[:, body.link_index(link), :3, 3].norm(dim=-1).max()
        assert 0.5 * body.reach(link) < far <= body.reach(link)


def test_robot_without_joints(tmp_path: Path) -> None:
    (tmp_path / "stick.urdf").write_text(
        '<robot name="stick"><link name="a"/><link name="b"/><joint name="j" type="fixed"><parent link="a"/>'
        '<child link="b"/><origin xyz="0 0 1"/></joint></robot>'
    )
    stick = Robot.from_urdf(tmp_path / "stick.urdf", name="cane")
    assert stick.name == "cane"
    assert stick.forward(torch.zeros(2, 3, 0))[1, 2, 1, 2, 3] == 1


def test_visuals_follow_their_links(robot: Robot) -> None:
    assert {robot.link_names[v.link] for v in robot.visuals} >= {"panda_link0", "panda_link4", "left_pad"}
    assert all(v.vertices.dtype == np.float32 and v.vertices.shape[1] == 3 for v in robot.visuals)


def test_pickle_keeps_the_robot(robot: Robot) -> None:
    q = random_joints(robot, 2)
    assert torch.equal(pickle.loads(pickle.dumps(robot)).forward(q), robot.forward(q))


def test_names_and_shapes_are_checked(robot: Robot) -> None:
    with pytest.raises(UnknownName, match=r"unknown link 'tol'. Did you mean 'tool'"):
        robot.link_index("tol")
    with pytest.raises(UnknownName, match=r"unknown joint 'finger_jiont'. Did you mean 'finger_joint'"):
        robot.joint_index("finger_jiont")
    with pytest.raises(InvalidInput, match=r"shape \(2, 7\), expected float32 or float64 of shape \(\*b, 8\)"):
        robot.forward(torch.zeros(2, 7))
    with pytest.raises(InvalidInput, match="int64"):
        robot.forward(torch.zeros(2, 8, dtype=torch.int64))
