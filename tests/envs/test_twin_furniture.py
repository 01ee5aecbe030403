"""Drawers in the twin: they slide and stop, are seen, told, saved and built again; so are things that are stacked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from vap_sim.envs.scene_parts import HANDLE_THICKNESS
from vap_sim.envs.scenes import Scene, with_openings
from vap_sim.envs.stations import RT1

pybullet = pytest.importorskip("pybullet", reason="pybullet is not installed")
from vap_sim.envs.twin_env import TwinEnv  # noqa: E402
from vap_sim.envs.twin_furniture import case_boards, drawer_boards, drawer_pose, handle_boards  # noqa: E402
from vap_sim.envs.twin_world import TwinWorld  # noqa: E402

OPEN = RT1.get_task("close_drawer").scene(np.random.default_rng(4))
(CABINET,) = OPEN.cabinets


@pytest.fixture
def world() -> Iterator[TwinWorld]:
    with closing(TwinWorld(OPEN)) as made:
        made.furnish()
        yield made


def run(world: TwinWorld, steps: int, force: float = 0.0) -> float:
    """Physics steps under a force [N] on the handle along the front's normal; returns how far the drawer is out."""
    front = np.array([np.cos(CABINET.yaw), np.sin(CABINET.yaw), 0.0])
    for _ in range(steps):
        if force:
            place = CABINET.handle(float(world.openings()[0]))
            pybullet.applyExternalForce(
                world.cabinets[0],
                0,
                (force * front).tolist(),
                place,
                pybullet.WORLD_FRAME,
                physicsClientId=world.client,
            )
        pybullet.stepSimulation(physicsClientId=world.client)
    return float(world.openings()[0])


def test_a_drawer_stays_where_it_was_left(world: TwinWorld) -> None:
    assert run(world, 240) == pytest.approx(CABINET.opening, abs=1e-3)


def test_a_drawer_slides_between_its_stops(world: TwinWorld) -> None:
    assert run(world, 240, force=-8.0) == pytest.approx(0.0, abs=3e-3)
    assert run(world, 360, force=8.0) == pytest.approx(CABINET.travel, abs=3e-3)
    stays = run(world, 20)
    assert run(world, 60, force=-1.0) == pytest.approx(stays, abs=1e-3), "less than its runners' friction"


def test_saved_moments_hold_the_drawer(world: TwinWorld) -> None:
    saved = pybullet.saveState(physicsClientId=world.client)
    before = float(world.openings()[0])
    assert abs(run(world, 120, force=-8.0) - before) > 0.03
    pybullet.restoreState(stateId=saved, physicsClientId=world.client)
    assert float(world.openings()[0]) == before
    ahead = [run(world, 20, force=-8.0)]
    pybullet.restoreState(stateId=saved, physicsClientId=world.client)
    assert ahead == [run(world, 20, force=-8.0)]


def test_where_a_drawer_is_told_to_be_is_where_it_collides(world: TwinWorld) -> None:
    run(world, 100, force=-8.0)
    ((position, turn),) = world.drawers()
    state = pybullet.getLinkState(world.cabinets[0], 0, computeForwardKinematics=True, physicsClientId=world.client)
    assert np.allclose(position, state[4], atol=1e-6) and np.allclose(turn, state[5], atol=1e-6)
    x, y, z = CABINET.handle(float(world.openings()[0]))
    hit = pybullet.rayTest((x, y, z + 0.2), (x, y, z - 0.1), physicsClientId=world.client)[0]
    assert (hit[0], hit[1]) == (world.cabinets[0], 0)
    assert hit[3][2] == pytest.approx(CABINET.handle_height + HANDLE_THICKNESS / 2, abs=2e-3)


def test_boards_of_a_drawer_fit_into_its_case() -> None:
    def corners(boxes: tuple) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
        centres, halves = (np.array([getattr(box, name) for box in boxes]) for name in ("centre", "half"))
        return (centres - halves).min(0), (centres + halves).max(0)

    case_low, case_high = corners(case_boards(CABINET))
    low, high = corners(drawer_boards(CABINET))
    assert (low > case_low).all() and (high <= case_high + 1e-12).all()
    assert np.allclose(case_high - case_low, CABINET.size)
    _, far = corners(handle_boards(CABINET))
    assert far[0] == pytest.approx(CABINET.handle_reach + HANDLE_THICKNESS / 2)
    assert drawer_pose(CABINET, 0.0)[0] == (CABINET.x, CABINET.y, 0.0)


@pytest.fixture(scope="module")
def env() -> Iterator[TwinEnv]:
    made = TwinEnv(station="RT1", task="close_drawer")
    yield made
    made.close()


def test_the_drawer_has_a_mask_of_its_own(env: TwinEnv) -> None:
    env.reset(seed=3)
    robot, things = env.masks()
    assert len(things) == len(env.situation().objects) + 1
    drawer = things[-1]
    assert drawer.sum() > 150 and not (drawer & robot).any() and not (drawer & things[:-1].any(0)).any()
    start = env.start()
    assert start.scene is not None
    shut = Scene.from_dict(start.scene)
    shut = with_openings(shut, [0.0])
    env.reset(options={"start": replace(start, scene=shut.to_dict())})
    other = env.masks()[1][-1]
    assert (drawer & other).sum() < 0.9 * drawer.sum()
    assert drawer.sum() > 1.1 * other.sum(), "a drawer that is out shows more of itself"


def test_a_moved_drawer_is_done_reported_and_built_again(env: TwinEnv) -> None:
    env.reset(seed=3)
    before = env.get_state()
    physics = env._present().physics
    pybullet.resetJointState(physics.world.cabinets[0], 0, 0.002, physicsClientId=physics.world.client)
    hold = np.zeros(env.action_space.shape, np.float32)
    observation, reward, terminated, _, info = env.step(hold)
    assert (reward, terminated, info["success"], info["distance"]) == (1.0, True, True, 0.0)
    start = env.start("shut")
    assert start.scene is not None
    opening = start.scene["cabinets"][0]["opening"]
    assert opening == pytest.approx(env.situation().drawers[0])
    again, _ = env.reset(options={"start": start})
    assert env.situation().drawers[0] == pytest.approx(opening, abs=1e-3)
    assert np.abs(again["image"].astype(int) - observation["image"]).mean() < 0.5
    env.reset(seed=3)
    assert env.situation().drawers[0] > 0.7 * CABINET.travel
    assert before is not None


def test_what_is_stacked_is_built_again_where_it_was() -> None:
    env = TwinEnv(station="Bridge", task="stack")
    env.reset(seed=2)
    world = env._present().physics.world
    scene = env._present().scene
    base, item = scene.objects[1], scene.objects[0]
    place = (base.x, base.y, base.size[2] + item.size[2] / 2 + 0.002)
    pybullet.resetBasePositionAndOrientation(world.objects[0], place, (0, 0, 0, 1), physicsClientId=world.client)
    hold = np.zeros(env.action_space.shape, np.float32)
    done = env.step(hold)[2]
    assert done
    start = env.start("stacked")
    assert start.scene is not None
    told = [sorted(item) for item in start.scene["objects"]]
    assert "z" in told[0] and "z" not in told[1]
    _, info = env.reset(options={"start": start})
    assert info["success"]
    assert np.abs(env.situation().objects[0] - place).max() < 4e-3
    assert Scene.from_dict(info["scene"]).objects[0].z == pytest.approx(place[2], abs=4e-3)
    env.close()
