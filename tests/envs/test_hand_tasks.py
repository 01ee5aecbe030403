"""The EgoVid station: what its scenes are like, when its tasks are done, and that its moving camera tells the truth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

from vap_sim.envs.hand_tasks import GRASPED, LAYOUT, LIFT, GraspLift, PushAway, Tilt
from vap_sim.envs.scenes import Scene
from vap_sim.envs.tasks import Situation, Task
from vap_sim.errors import InvalidInput
from vap_sim.policies.hand_plans import hand_targets
from vap_sim.robots.control import Controller
from vap_sim.robots.library import RobotModel, load_robot

TASKS = (GraspLift(), PushAway(), Tilt())
TASK = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


@pytest.fixture(scope="module")
def model() -> RobotModel:
    return load_robot("human_hand")


def drawn(task: Task, seed: int) -> Scene:
    return task.scene(np.random.default_rng(seed))


def situation(scene: Scene, place: tuple[float, float, float], **changes: object) -> Situation:
    """Object 0 at a place, held and free of the table, upright and at rest; the rest where it stands."""
    count = len(scene.objects)
    objects = np.array([[item.x, item.y, item.size[2] / 2] for item in scene.objects])
    objects[0] = place
    held = np.arange(count) == 0
    usual = Situation(
        scene, np.array(place), 0.6, objects, held, held, 0.0, turns=np.tile([0.0, 0, 0, 1], (count, 1)), grounded=~held
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


@TASK
def test_scenes_follow_from_the_generator_and_survive_their_records(task: Task) -> None:
    scenes = [drawn(task, seed) for seed in range(30)]
    assert scenes == [drawn(task, seed) for seed in range(30)]
    assert len({scene.table_color for scene in scenes}) == 30
    for scene in scenes:
        assert Scene.from_dict(scene.to_dict()) == scene
        assert task.lacks(scene) is None
        assert scene.objects[0].color in task.instruction(scene)
        for x, y in [(item.x, item.y) for item in scene.objects]:
            assert LAYOUT.low[0] <= x <= LAYOUT.high[0]
            assert LAYOUT.low[1] <= y <= LAYOUT.high[1]


def test_what_is_to_be_done_suits_a_right_hand() -> None:
    for seed in range(60):
        grasped, pushed, poured = (drawn(task, seed) for task in TASKS)
        item, goal = pushed.objects[0], pushed.goal
        assert goal is not None
        assert abs(np.arctan2(goal[1] - item.y, goal[0] - item.x) - 0.26) <= np.pi / 2 + 1e-9
        assert np.hypot(goal[0] - item.x, goal[1] - item.y) > 0.1
        item = grasped.objects[0]
        assert item.shape in GRASPED
        assert item.shape != "brick" or -0.36 <= item.yaw + np.pi / 2 <= 1.01
        assert poured.objects[0].size[2] >= 0.1
        assert min(item.size[:2]) < 0.06


def test_lifting_is_done_when_the_hand_alone_bears_it_high_enough() -> None:
    scene = drawn(TASKS[0], 1)
    item = scene.objects[0]
    height = item.size[2] / 2 + LIFT

    def done(z: float, **changes: object) -> bool:
        return TASKS[0].success(situation(scene, (item.x, item.y, z), **changes))

    nothing = np.zeros(len(scene.objects), bool)
    assert done(height + 0.001)
    assert not done(height - 0.001)
    assert not done(height + 0.001, held=nothing)
    assert not done(height + 0.001, grounded=~nothing)
    near, far = (TASKS[0].distance(situation(scene, (item.x, item.y, height - left))) for left in (0.01, 0.05))
    assert far - near == pytest.approx(0.04)


def test_pushing_is_done_when_it_rests_on_the_disc() -> None:
    scene = drawn(TASKS[1], 2)
    assert scene.goal is not None
    x, y, radius = scene.goal
    on_table = np.ones(len(scene.objects), bool)

    def done(away: float, speed: float = 0.0, grounded: np.ndarray = on_table) -> bool:
        place = (x + away, y, scene.objects[0].size[2] / 2)
        return TASKS[1].success(situation(scene, place, speed=speed, grounded=grounded, held=~on_table))

    assert done(radius - 1e-3)
    assert not done(radius + 1e-3)
    assert not done(0.0, speed=0.06)
    assert not done(0.0, grounded=~on_table)
    place = (x + 0.03, y + 0.04, 0.03)
    assert TASKS[1].distance(situation(scene, place)) == pytest.approx(0.05)


@pytest.mark.parametrize("axis", ["x", "y"])
def test_tilting_is_done_beyond_sixty_degrees_above_the_disc(axis: str) -> None:
    scene = drawn(TASKS[2], 3)
    assert scene.goal is not None
    x, y, radius = scene.goal
    nothing = np.zeros(len(scene.objects), bool)

    def at(angle: float, away: float = 0.0, **changes: object) -> Situation:
        # Turning about its own axis first changes nothing: the tilt is that of the axis.
        turn = Rotation.from_euler(axis, np.radians(angle)) * Rotation.from_euler("z", 1.1)
        turns = np.tile(turn.as_quat(), (len(scene.objects), 1))
        return situation(scene, (x, y + away, 0.2), turns=turns, **changes)

    task = TASKS[2]
    assert task.success(at(60.5))
    assert task.success(at(-120.0))
    assert not task.success(at(59.5))
    assert not task.success(at(90.0, away=radius + 1e-3))
    assert not task.success(at(90.0, held=nothing))
    assert not task.success(at(90.0, grounded=~nothing))
    assert task.distance(at(90.0)) == 0.0
    assert task.distance(at(30.0)) - task.distance(at(50.0)) == pytest.approx(0.1 * np.radians(20))


def test_scenes_of_other_tasks_lack_a_goal() -> None:
    scene = drawn(TASKS[0], 0)
    assert TASKS[1].lacks(scene) == TASKS[2].lacks(scene) == "goal"
    with pytest.raises(InvalidInput, match="no goal disc"):
        TASKS[2].success(situation(scene, (0.4, 0.0, 0.1)))
    assert TASKS[0].lacks(replace(scene, objects=())) == "object"


class TestTwin:
    """The whole environment, played by the experts on development seeds."""

    @pytest.fixture(autouse=True)
    def _needs_pybullet(self) -> None:
        pytest.importorskip("pybullet", reason="pybullet is not installed")

    def played(self, task: str, seed: int, model: RobotModel) -> Iterator[tuple[object, dict[str, object]]]:
        from vap_sim.envs.twin_env import TwinEnv

        env = TwinEnv(station="EgoVid", task=task)
        with closing(env):
            _, info = env.reset(seed=seed)
            joints = info["joints"].astype(np.float64)
            plan = hand_targets(model, info["scene"], joints, task, 0.2, seed)
            controller = Controller(model, "ee_head_delta", 0.2)
            state = controller.initial(joints[None])
            yield env, info
            for goal in [*plan, plan[-1], plan[-1]]:
                action = controller.actions_for(state, goal[None])
                state, _ = controller.step(state, action, 0)
                *_, info = env.step(action[0])
                yield env, info
                if info["success"]:
                    return

    @pytest.mark.parametrize(("task", "seed"), [("grasp_lift", 900_002), ("push", 900_005), ("tilt", 900_000)])
    def test_experts_succeed(self, task: str, seed: int, model: RobotModel) -> None:
        *_, (_, info) = self.played(task, seed, model)
        assert info["success"]

    def test_masks_stay_exact_while_the_head_moves(self, model: RobotModel) -> None:
        """What the camera on the head shows lies where kinematics says, hand and things alike."""
        camera, yaws = model.cameras["head"], []
        for env, info in self.played("grasp_lift", 900_003, model):
            joints = torch.from_numpy(np.asarray(info["joints"]))
            poses = model.robot.forward(joints)
            yaws.append(float(joints[model.robot.joint_index("head_yaw")]))
            robot, objects = env.masks()  # type: ignore[attr-defined]
            points, depth = camera.project(model.skeleton.positions(model.robot, poses), poses, model.robot)
            inside = (points > 1).all(-1) & (points < 126).all(-1) & (depth > 0)
            hidden = objects.any(0)
            for x, y in points[inside].round().int().tolist():
                assert robot[y, x] or hidden[y, x]
            for index, mask in enumerate(objects):
                outline = self.outline(env.situation(), index, model, poses)  # type: ignore[attr-defined]
                assert not (mask & ~cv2.dilate(outline, np.ones((3, 3), np.uint8)).astype(bool)).any()
                core = cv2.erode(outline, np.ones((3, 3), np.uint8)).astype(bool)
                assert not (core & ~(mask | robot | hidden)).any()
        assert np.ptp(yaws) > 0.02

    def outline(self, now: Situation, index: int, model: RobotModel, poses: torch.Tensor) -> np.ndarray:
        """(128, 128) uint8: what the head would see of an object if nothing else were there."""
        from vap_sim.envs.twin_renderer import object_mesh

        turn = Rotation.from_quat(now.turns[index]).as_matrix()
        corners = object_mesh(now.scene.objects[index]).vertices @ turn.T + now.objects[index]
        xy, _ = model.cameras["head"].project(torch.from_numpy(corners).to(poses), poses, model.robot)
        hull = cv2.convexHull(np.round(xy.numpy() * 16).astype(np.int32)[:, None])
        return np.asarray(cv2.fillConvexPoly(np.zeros((128, 128), np.uint8), hull, 1, shift=4))
