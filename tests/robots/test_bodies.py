"""Every shipped body obeys the same laws: its skeleton lies on it, it opens and closes, reaches, and can be drawn."""

from __future__ import annotations

import logging
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull

from vap_sim.prompts import Prompter, form_names, profile, profile_names
from vap_sim.robots.actions import LINEAR_SPEED, MODES, action_spec
from vap_sim.robots.camera import Camera
from vap_sim.robots.control import Controller
from vap_sim.robots.inverse import solve_inverse
from vap_sim.robots.library import RobotModel, load_robot, robot_names
from vap_sim.robots.making import write_robot
from vap_sim.robots.points import plan_points
from vap_sim.robots.skeleton import SkeletonSpec

BODIES = robot_names()
WITH_GRIPPER = tuple(name for name in BODIES if load_robot(name).gripper is not None)
TIPS = {
    "panda_robotiq": ("left_tip", "right_tip", 0.085),
    "google_robot": ("left_tip", "right_tip", 0.212),
    "widowx": ("left_tip", "right_tip", 0.044),
    "human_hand": ("right_thumb_tip", "right_index_tip", 0.078),
    "human_hand_left": ("left_thumb_tip", "left_index_tip", 0.078),
}
"""Two key points that closing brings together, and by how much [m], as the data sheets say."""
BESIDE = {"panda_robotiq": {"elbow_back": 0.01}}
"""Key points that lie on no shape, and how far beside one [m]: the axis of the Panda's joint 5 passes the elbow."""
MADE = ("google_robot", "widowx", "human_hand", "human_hand_left")
MIRRORED = ("hand_y", "hand_yaw", "hand_roll", "head_y", "head_yaw", "head_roll")


@pytest.fixture(params=BODIES)
def body(request: pytest.FixtureRequest) -> RobotModel:
    return load_robot(request.param)


def random_joints(model: RobotModel, rows: int) -> torch.Tensor:
    share = torch.rand(rows, model.robot.num_joints, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return model.robot.lower + share * (model.robot.upper - model.robot.lower)


def tips(model: RobotModel, closed: float) -> float:
    """The distance [m] between the two key points of TIPS with the gripper at `closed`."""
    gripper = model.gripper
    assert gripper is not None
    q = model.home.clone()
    q[model.robot.joint_index(gripper.joint)] = gripper.to_joint(torch.tensor(closed))
    at = model.skeleton.positions(model.robot, model.robot.forward(q))
    a, b, _ = TIPS[model.name]
    return float((at[model.skeleton.point_index(a)] - at[model.skeleton.point_index(b)]).norm())


def test_limits_and_home(body: RobotModel) -> None:
    robot = body.robot
    assert bool((robot.lower < robot.upper).all()) and bool(
        robot.max_speed.isfinite().all() & (robot.max_speed > 0).all()
    )
    assert torch.equal(robot.clamp(body.home), body.home)
    for mode in MODES:
        spec = action_spec(body, mode)
        assert (spec.low < spec.high).all() and np.isfinite(spec.high).all()
        assert (spec.names[-1] == "gripper") == (body.gripper is not None)


def test_single_poses_equal_batches(body: RobotModel) -> None:
    q = random_joints(body, 100)
    many = body.robot.forward(q)
    torch.testing.assert_close(many[:4], body.robot.forward(q[:4]), rtol=0, atol=1e-12)
    torch.testing.assert_close(many[7], body.robot.forward(q[7]), rtol=0, atol=1e-12)
    points = body.skeleton.positions(body.robot, many)
    found = plan_points(body.robot, body.skeleton, body.tool_link).positions(q.numpy())
    np.testing.assert_allclose(found, points.numpy(), atol=1e-12)
    assert float(many[..., 3, :].sub(torch.tensor([0.0, 0, 0, 1])).abs().max()) == 0


def test_key_points_lie_on_the_body(body: RobotModel) -> None:
    poses = body.robot.forward(body.home.double()).numpy()
    at = body.skeleton.positions(body.robot, torch.from_numpy(poses)).numpy()
    planes = []
    for visual in body.robot.visuals:
        pose = poses[visual.link]
        planes.append(ConvexHull(visual.vertices @ pose[:3, :3].T + pose[:3, 3]).equations)
    joined = {end for bone in body.skeleton.bones if bone.group != "plumb" for end in (bone.start, bone.end)}
    for point, place in zip(body.skeleton.points, at, strict=True):
        if point.name in joined:
            away = min(float((hull[:, :3] @ place + hull[:, 3]).max()) for hull in planes)
            assert away <= BESIDE.get(body.name, {}).get(point.name, 0.0) + 1e-6, point.name


def test_the_hand_is_above_the_table_at_home(body: RobotModel) -> None:
    poses = body.robot.forward(body.home).numpy()
    acting = {end for bone in body.skeleton.bones if bone.group == "gripper" for end in (bone.start, bone.end)}
    links = {body.robot.link_index(point.link) for point in body.skeleton.points if point.name in acting}
    for visual in body.robot.visuals:
        if visual.link in links:
            pose = poses[visual.link]
            assert (visual.vertices @ pose[2, :3] + pose[2, 3]).min() > 0.02, body.robot.link_names[visual.link]


@pytest.mark.parametrize("name", WITH_GRIPPER)
def test_gripper_closes_by_what_its_sheet_says(name: str) -> None:
    model = load_robot(name)
    gripper, (*_, width) = model.gripper, TIPS[name]
    assert gripper is not None
    index = model.robot.joint_index(gripper.joint)
    ends = torch.tensor([gripper.open_value, gripper.closed_value])
    assert bool((ends >= model.robot.lower[index]).all() & (ends <= model.robot.upper[index]).all())
    distances = [tips(model, closed) for closed in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert distances == sorted(distances, reverse=True)
    assert abs(distances[0] - distances[-1] - width) < 1.5e-3
    assert distances[-1] < 0.015


@pytest.mark.parametrize("name", [name for name in BODIES if name != "human_hands"])
def test_inverse_kinematics_reaches(name: str) -> None:
    """From the home pose to poses around it. Recorded hands have sliders for points and no pose to solve for."""
    model = load_robot(name)
    robot, generator = model.robot, torch.Generator().manual_seed(2)
    home = model.home.double().expand(40, -1)
    goal = robot.clamp(home + 0.12 * torch.randn(home.shape, generator=generator, dtype=torch.float64))
    pose = robot.forward(goal)[:, robot.link_index(model.tool_link)]
    found = solve_inverse(robot, model.tool_link, pose, home)
    assert bool(found.converged.all())
    reached = robot.forward(found.q)[:, robot.link_index(model.tool_link)]
    torch.testing.assert_close(reached, pose, atol=2e-4, rtol=0)


@pytest.mark.parametrize("name", WITH_GRIPPER)
def test_one_action_means_the_same_for_every_body(name: str) -> None:
    """Seven numbers: a motion of the end effector in the base frame, and the gripper."""
    model = load_robot(name)
    controller = Controller(model, "ee_delta", control_dt=0.2)
    state = controller.initial(model.home[None].numpy())
    action = np.array([[0.3, 0.0, -0.1, 0.0, 0.0, 0.0, 1.0]], dtype=np.float32)
    after, _ = controller.step(state, action)
    before, moved = (
        model.robot.forward(torch.from_numpy(s.target))[0, model.robot.link_index(model.flange_link)]
        for s in (state, after)
    )
    expected = torch.tensor([0.3, 0.0, -0.1], dtype=torch.float64) * LINEAR_SPEED * 0.2
    torch.testing.assert_close(moved[:3, 3] - before[:3, 3], expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(moved[:3, :3], before[:3, :3], atol=5e-3, rtol=0)
    assert model.gripper is not None
    finger = model.robot.joint_index(model.gripper.joint)
    assert model.gripper.to_position(torch.tensor(after.target[0, finger])) > 0.2


def test_every_form_can_be_drawn_from_every_camera(body: RobotModel) -> None:
    for camera in body.cameras.values():
        small = camera.resized((64, round(64 * camera.size[1] / camera.size[0])))
        for name in dict.fromkeys((*profile_names(), *form_names())):
            prompt = Prompter(body, profile(name), small.size).draw(body.home[None, None], [small])
            shown = profile(name).form in ("skeleton", "mesh", "depth")
            assert bool(prompt.skeleton.any()) == shown, (camera.name, name)


def sheet(body: RobotModel) -> str:
    return (body.folder / "README.md").read_text(encoding="utf-8")


def test_data_sheets_say_what_must_be_known(body: RobotModel) -> None:
    text = sheet(body)
    assert text.startswith("# ") and "Licence of" in text and "Apache-2.0" in text
    for word in ("Joints", "Skeleton", "Home"):
        assert f"**{word}.**" in text
    for camera in body.cameras:
        assert f"`{camera}`" in text or body.name == "panda_robotiq"


def test_parsers_load_it_without_a_warning(body: RobotModel, caplog: pytest.LogCaptureFixture) -> None:
    import yourdfpy

    with caplog.at_level(logging.WARNING):
        theirs = yourdfpy.URDF.load(str(body.folder / "robot.urdf"))
    assert not caplog.records
    assert tuple(theirs.actuated_joint_names) == body.robot.joint_names
    assert len(theirs.scene.geometry) == len(body.robot.visuals)
    for q in random_joints(body, 2):
        theirs.update_cfg(dict(zip(body.robot.joint_names, q.tolist(), strict=True)))
        expected = np.stack([theirs.get_transform(link) for link in body.robot.link_names])
        np.testing.assert_allclose(body.robot.forward(q).numpy(), expected, atol=1e-9)


@pytest.mark.parametrize(
    "name", [n for n in BODIES if "<inertial>" in (load_robot(n).folder / "robot.urdf").read_text()]
)
def test_the_engine_loads_it_without_a_word(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Bodies without masses, recorded hands, are not for the engine."""
    pybullet = pytest.importorskip("pybullet")
    client = pybullet.connect(pybullet.DIRECT)
    capfd.readouterr()
    try:
        body = pybullet.loadURDF(str(load_robot(name).folder / "robot.urdf"), useFixedBase=True, physicsClientId=client)
        shapes = pybullet.getVisualShapeData(body, physicsClientId=client)
        masses = [
            pybullet.getDynamicsInfo(body, i, physicsClientId=client)[0]
            for i in range(pybullet.getNumJoints(body, physicsClientId=client))
        ]
    finally:
        pybullet.disconnect(client)
    assert capfd.readouterr() == ("", "")
    assert len(shapes) >= len(load_robot(name).robot.visuals) and min(masses) > 0


@pytest.mark.parametrize("name", MADE)
def test_files_are_what_their_script_writes(name: str, tmp_path: Path) -> None:
    folder = load_robot(name).folder
    maker = folder if (folder / "make_model.py").is_file() else folder.parent / "human_hand"
    script = runpy.run_path(str(maker / "make_model.py"))
    told = ((1,) if name == "human_hand" else (-1,)) if maker.name == "human_hand" else ()
    path = write_robot(tmp_path, name, script["REMARK"], script["links"](*told), script["joints"](*told))
    assert path.read_text() == (folder / "robot.urdf").read_text()
    assert {p.name for p in (tmp_path / "meshes").iterdir()} == {p.name for p in (folder / "meshes").iterdir()}


def test_published_chains_at_zero() -> None:
    """All joints at zero: a place is the sum of the published origins."""
    widowx, google = load_robot("widowx"), load_robot("google_robot")
    at = widowx.robot.forward(torch.zeros(7, dtype=torch.float64))[widowx.robot.link_index("ee_gripper_link"), :3, 3]
    expected = [0.04975 + 0.175 + 0.075 + 0.065 + 0.043 + 0.023 + 0.027575, 0.0, 0.072 + 0.03865 + 0.25]
    torch.testing.assert_close(at, torch.tensor(expected, dtype=torch.float64))
    poses = google.robot.forward(torch.zeros(10, dtype=torch.float64))
    base, tool, camera = (poses[google.robot.link_index(link)] for link in ("base", "tool", "camera"))
    y = -0.16728852885 + 0.002289 - 0.064 - 0.101 - 0.00604 + 0.0060384 + 0.0018853
    z = 0.5945 + 0.113 + 0.21502852885 + 0.1849715 + 0.0915 + 0.2735 + 0.10911 + 0.1635330
    expected = [0.0043375, y, z]
    torch.testing.assert_close(tool[:3, 3] - base[:3, 3], torch.tensor(expected, dtype=torch.float64))
    # The optical frame looks ahead, with x to the robot's right and y down.
    axes = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]], dtype=torch.float64)
    torch.testing.assert_close(camera[:3, :3], axes)


def test_google_fingers_mirror_each_other() -> None:
    model = load_robot("google_robot")
    q = model.home.double().repeat(5, 1)
    q[:, model.robot.joint_index("joint_finger_right")] = torch.linspace(0, 1.3, 5, dtype=torch.float64)
    poses = model.robot.forward(q)
    inside = torch.linalg.inv(poses[:, model.robot.link_index("gripper")])[:, None] @ poses
    left, right = (inside[:, model.robot.link_index(f"nail_{side}"), :3, 3] for side in ("left", "right"))
    torch.testing.assert_close(left, right * torch.tensor([1.0, -1, 1]), atol=1e-9, rtol=0)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_recorded_hand_draws_like_the_hand(side: str) -> None:
    """The same points before the same camera, once from joints and once as recorded: the same picture but for the
    forearm, which recordings do not know."""
    hand = load_robot("human_hand" if side == "right" else "human_hand_left")
    recorded = load_robot("human_hands")
    own = [point.name for point in recorded.skeleton.points if point.name.startswith(side)]
    *points, forearm = hand.skeleton.points
    *bones, sleeve = hand.skeleton.bones
    assert [point.name for point in points] == own and (sleeve.start, sleeve.end) == (own[0], forearm.name)
    assert bones == [bone for bone in recorded.skeleton.bones if bone.start in own]
    hand = replace(hand, skeleton=SkeletonSpec(tuple(points), tuple(bones)))
    q = random_joints(hand, 3).float() * 0.1 + hand.home * 0.9
    poses = hand.robot.forward(q)
    eye = hand.camera("head")
    T_camera_base = torch.linalg.inv(eye.T_base_camera(poses, hand.robot))
    points = hand.skeleton.positions(hand.robot, poses) @ T_camera_base[:, :3, :3].mT + T_camera_base[:, None, :3, 3]
    sliders = torch.full((3, 2, 21, 3), -1.0)
    sliders[:, ["left", "right"].index(side)] = points
    still = Camera("eyes", eye.intrinsics, torch.eye(4), None, eye.size)
    style = profile("compact")
    drawn = Prompter(hand, style, eye.size).draw(q[None], [eye]).skeleton
    again = Prompter(recorded, style, eye.size).draw(sliders.reshape(1, 3, 126), [still]).skeleton
    assert drawn.any(-1).sum() > 300
    difference = (drawn.int() - again.int()).abs()
    assert float((difference > 3).float().mean()) < 1e-4


def test_left_hand_mirrors_the_right_one() -> None:
    right, left = load_robot("human_hand"), load_robot("human_hand_left")
    assert right.robot.joint_names == left.robot.joint_names and right.robot.link_names == left.robot.link_names
    sign = torch.tensor([-1.0 if name in MIRRORED else 1.0 for name in right.robot.joint_names], dtype=torch.float64)
    torch.testing.assert_close(left.home.double(), right.home.double() * sign)
    q = random_joints(right, 20)
    places = [
        model.skeleton.positions(model.robot, model.robot.forward(joints))
        for model, joints in ((right, q), (left, q * sign))
    ]
    torch.testing.assert_close(places[1], places[0] * torch.tensor([1.0, -1, 1]), atol=1e-9, rtol=0)


def test_hand_bones_keep_their_length() -> None:
    """Whatever the joints do, a bone is as long as the sheet says, and a metacarpal moves with the wrist."""
    hand = load_robot("human_hand")
    at = hand.skeleton.positions(hand.robot, hand.robot.forward(random_joints(hand, 10)))
    lengths = {
        "thumb": (46, 32, 22),
        "index": (40, 22, 16),
        "middle": (45, 26, 17),
        "ring": (41, 26, 17),
        "little": (33, 18, 16),
    }
    for number, bones in enumerate(lengths.values()):
        chain = at[:, 1 + 4 * number : 5 + 4 * number]
        found = (chain[:, 1:] - chain[:, :-1]).norm(dim=-1)
        torch.testing.assert_close(found, torch.tensor(bones, dtype=torch.float64).expand(10, 3) / 1000)
        roots = (at[:, 0] - chain[:, 0]).norm(dim=-1)
        torch.testing.assert_close(roots, roots[:1].expand(10))
