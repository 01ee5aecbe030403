"""What is imagined is what an environment would have shown, bit for bit, whatever the rates and however it is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from vap_sim.envs.start import load_start
from vap_sim.envs.vector_env import WorldVectorEnv
from vap_sim.envs.world_env import WorldEnv
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.imagination import Dream, Imagination
from vap_sim.models.kinematic import KinematicWorld
from vap_sim.policies.plan_policy import ScriptedPolicy

STARTS = [load_start("push_00"), load_start("push_04")]
KINEMATIC = Imagination(world="kinematic")


def begun(imagination: Imagination, rows: int = 2) -> Dream:
    starts = STARTS[:rows]
    cameras = [type(starts[0].cameras[0]).batch([start.cameras[0] for start in starts])]
    joints = np.stack([start.joints.numpy() for start in starts])
    return imagination.begin(torch.stack([start.frames for start in starts]), joints, cameras, list(range(rows)))


def actions(rows: int, steps: int, size: int = 8) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.3, 0.3, (rows, steps, size)).astype(np.float32)


def test_equals_stepping_the_environment_bit_for_bit() -> None:
    imagination = Imagination()
    plan = ScriptedPolicy("push").plan(STARTS[0], 14)[8:]
    env = WorldEnv(world=imagination.world, start=STARTS[0])
    env.reset(seed=0)
    film = []
    for action in plan:
        observation, _, _, _, info = env.step(action)
        film.append(observation["image"])
    dream = begun(imagination, 1)
    every, last = (imagination.imagine(dream, plan[None], pictures) for pictures in ("all", "last"))
    assert every.frames is not None and last.frames is not None
    assert np.array_equal(every.frames[0, 0].numpy(), np.stack(film))
    assert torch.equal(last.frames, every.frames[:, :, -1:])
    assert np.array_equal(every.joints[0, -1].astype(np.float32), info["joints"])
    halves = imagination.imagine(dream, plan[None, :3], "none")
    assert halves.frames is None and halves.dream is not None
    rest = imagination.imagine(halves.dream, plan[None, 3:], "last")
    assert rest.frames is not None and torch.equal(rest.frames, last.frames)


@pytest.mark.parametrize(("control_hz", "frames", "steps"), [(15.0, 1, 6), (5.0, 4, 8), (2.5, 4, 4), (10.0, 2, 8)])
def test_rates_of_control_and_pictures_interlock_as_in_the_environment(
    control_hz: float, frames: int, steps: int
) -> None:
    world = KinematicWorld(frames_per_step=frames)
    given = actions(2, steps)
    env = WorldVectorEnv(2, world=world, control_hz=control_hz)
    env.reset(seed=0, options={"start": STARTS})
    for step in range(steps):
        seen = env.step(given[:, step])[0]
    imagination = Imagination(world=world, control_hz=control_hz)
    assert imagination.intervals == round(control_hz * frames / 5)
    found = imagination.imagine(begun(imagination), given)
    assert found.frames is not None and found.dream is not None
    assert np.array_equal(found.frames[:, 0, 0].numpy(), seen["image"])
    assert np.array_equal(found.dream.control.joints, env.get_state().control.joints)


def test_futures_do_not_see_each_other_nor_the_size_of_their_batches() -> None:
    dream, given = begun(KINEMATIC), actions(6, 4)
    together = KINEMATIC.imagine(dream.repeat(3), given, "all")
    few = Imagination(world=KINEMATIC.world, rows_at_once=4).imagine(dream.repeat(3), given, "all")
    assert together.frames is not None and few.frames is not None
    assert torch.equal(together.frames, few.frames)
    for row in range(6):
        alone = KINEMATIC.imagine(dream.index([row // 3]), given[row : row + 1], "all")
        assert alone.frames is not None and torch.equal(alone.frames[0], together.frames[row])
        assert np.array_equal(alone.joints[0], together.joints[row])


def test_prompts_are_drawn_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    prompter, world = type(KINEMATIC.prompter), type(KINEMATIC.world)
    for owner, name in ((prompter, "draw"), (world, "imagine"), (world, "step")):
        plain: Any = getattr(owner, name)

        def heard(self: Any, *args: Any, plain: Any = plain, name: str = name, **more: Any) -> Any:
            said.append(name)
            return plain(self, *args, **more)

        monkeypatch.setattr(owner, name, heard)
    dream = begun(KINEMATIC)
    said.clear()
    KINEMATIC.imagine(dream.repeat(2), actions(4, 3))
    assert said[0] == "draw" and said.count("draw") == 1 and "step" in said


def test_a_trace_is_the_robots_part_of_a_future() -> None:
    dream, given = begun(KINEMATIC), actions(2, 3)
    whole, part = KINEMATIC.imagine(dream, given), KINEMATIC.trace(dream.control, given)
    assert part.frames is None and part.dream is None
    assert np.array_equal(part.joints, whole.joints) and np.array_equal(part.tool, whole.tool)
    robot = KINEMATIC.model.robot
    poses = robot.forward(torch.from_numpy(part.joints))[:, :, robot.link_index(KINEMATIC.model.tool_link)]
    assert np.array_equal(part.tool, poses.numpy())


def test_what_does_not_fit_is_named() -> None:
    dream = begun(KINEMATIC)
    with pytest.raises(InvalidInput, match=r"actions to imagine: given shape \(3, 2, 8\), expected \(2, T, 8\)"):
        KINEMATIC.imagine(dream, actions(3, 2))
    with pytest.raises(InvalidInput, match=r"T a positive multiple of 3"):
        Imagination(world=KINEMATIC.world, control_hz=15.0).trace(dream.control, actions(2, 4))
    with pytest.raises(UnknownName, match=r"unknown pictures to imagine 'lst'\. Did you mean 'last'"):
        KINEMATIC.imagine(dream, actions(2, 2), "lst")
    with pytest.raises(InvalidInput, match=r"control_hz: given 7\.0, expected an integer multiple"):
        Imagination(world=KINEMATIC.world, control_hz=7.0)
    with pytest.raises(InvalidInput, match="start of an imagination"):
        KINEMATIC.begin(STARTS[0].frames, dream.control, STARTS[0].cameras, [0, 1])
    with pytest.raises(InvalidInput, match="rows_at_once: given 0"):
        Imagination(world=KINEMATIC.world, rows_at_once=0)
