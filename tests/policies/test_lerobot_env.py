"""LeRobot's EnvHub contract by its letter: what its evaluation calls, reads and expects of a hub's `make_env`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import VectorEnv

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.policies.judge import CallableJudge
from vap_sim.policies.lerobot_env import TASKS, make_lerobot_envs

KINEMATIC = {"world": "kinematic"}
Envs = VectorEnv[Any, Any, Any]


def never(first: Any, last: Any, joints: Any, instruction: str) -> bool:
    return False


def always(first: Any, last: Any, joints: Any, instruction: str) -> bool:
    return True


def made(judge: Any = None, count: int = 2, steps: int = 3, **options: Any) -> Envs:
    envs = make_lerobot_envs(count, tasks=["push"], steps=steps, judge=judge, options={**KINEMATIC, **options})
    return envs["vapsim"][0]


def still(envs: Envs) -> np.ndarray:
    return np.zeros(envs.action_space.shape, np.float32)


def test_every_task_is_a_numbered_entry_of_one_suite() -> None:
    suites = make_lerobot_envs(1, judge=None, options=KINEMATIC)
    assert list(suites) == ["vapsim"] and list(suites["vapsim"]) == [0, 1, 2]
    assert tuple(envs.call("task")[0] for envs in suites["vapsim"].values()) == TASKS
    for envs in suites["vapsim"].values():
        envs.close()


def test_observations_have_lerobots_names_shapes_and_types() -> None:
    envs = made()
    observations, _ = envs.reset(seed=[3, 4])
    assert set(observations) == {"pixels", "agent_pos"}
    assert set(observations["pixels"]) == {"exterior_1", "wrist"}
    assert observations["pixels"]["exterior_1"].shape == (2, 128, 128, 3)
    assert observations["pixels"]["exterior_1"].dtype == np.uint8
    assert observations["agent_pos"].shape == (2, 8) and observations["agent_pos"].dtype == np.float32
    assert envs.observation_space.contains(observations)
    envs.close()


def test_what_the_evaluation_asks_every_environment_is_there() -> None:
    envs = made(steps=7)
    envs.reset(seed=[3, 4])
    assert envs.call("_max_episode_steps") == (7, 7)
    words = envs.call("task_description")
    assert all(isinstance(one, str) and " " in one for one in words)
    assert all(hasattr(envs.envs[0], name) for name in ("task", "task_description"))
    assert all(picture.dtype == np.uint8 and picture.shape == (128, 128, 3) for picture in envs.call("render"))
    assert envs.unwrapped.metadata["render_fps"] == 5
    envs.close()


def test_seeds_are_one_an_environment_and_unknown_options_are_ignored() -> None:
    envs = made()
    first = envs.reset(seed=[3, 4], options={"some_private_key": True})[0]["pixels"]["exterior_1"]
    swapped = envs.reset(seed=[4, 3])[0]["pixels"]["exterior_1"]
    np.testing.assert_array_equal(first, swapped[::-1])
    envs.close()


@pytest.mark.parametrize(("judge", "success"), [(always, True), (never, False)])
def test_success_is_told_in_the_final_info_as_the_judge_has_it(judge: Any, success: bool) -> None:
    envs, over = made(CallableJudge(judge)), np.zeros(2, bool)
    envs.reset(seed=[3, 4])
    for _ in range(3):
        observations, rewards, terminated, truncated, infos = envs.step(still(envs))
        over = terminated | truncated
        if over.any():
            break
        assert "final_info" not in infos
    assert over.all()
    assert infos["final_info"]["is_success"].tolist() == [success] * 2
    assert terminated.tolist() == [success] * 2 and (rewards > 0).tolist() == [success] * 2
    assert infos["steps"].tolist() == [0, 0]  # they have begun again
    assert envs.observation_space.contains(observations)
    envs.close()
    envs.close()


def test_rows_act_as_alone() -> None:
    envs, alone = made(), made(count=1)
    envs.reset(seed=[3, 4])
    alone.reset(seed=[4])
    actions = np.stack([still(alone)[0] + 0.3, still(alone)[0] - 0.3])
    for _ in range(2):
        both, one = envs.step(actions)[0], alone.step(actions[1:])[0]
    np.testing.assert_array_equal(both["pixels"]["exterior_1"][1], one["pixels"]["exterior_1"][0])
    np.testing.assert_array_equal(both["agent_pos"][1], one["agent_pos"][0])
    envs.close()
    alone.close()


def test_the_twin_tells_success_by_its_own_truth() -> None:
    pytest.importorskip("pybullet", reason="the twin needs pybullet (extra twin)")
    envs = make_lerobot_envs(1, tasks=["reach"], steps=1, env_id="VAPTwin-DROID-v0")["vapsim"][0]
    envs.reset(seed=[0])
    infos = envs.step(still(envs))[4]
    assert infos["final_info"]["is_success"].tolist() == infos["final_info"]["success"].tolist()
    envs.close()


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(UnknownName, match="pick_place"):
        make_lerobot_envs(1, tasks=["pick_placed"], judge=None)
    with pytest.raises(InvalidInput, match="n_envs and steps"):
        make_lerobot_envs(0, judge=None)
    with pytest.raises(InvalidInput, match="tasks"):
        make_lerobot_envs(1, tasks=[], judge=None)


def test_the_hub_file_hands_on_what_lerobot_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(__file__).resolve().parents[2] / "integrations" / "lerobot" / "env.py"
    if not path.exists():
        pytest.skip("integrations are not installed")
    spec = importlib.util.spec_from_file_location("hub_env", path)
    assert spec is not None and spec.loader is not None
    hub = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hub)
    asked: list[Any] = []
    monkeypatch.setattr(hub, "make_lerobot_envs", lambda *a, **k: asked.append((a, k)))
    hub.make_env(n_envs=2, use_async_envs=True)
    hub.make_env(1, cfg=SimpleNamespace(task="push, reach", episode_length=9))
    dream = "VAPWorld-DROID-v0"
    assert asked[0] == ((2, True), {"tasks": TASKS, "steps": 40, "env_id": dream})
    assert asked[1] == ((1, False), {"tasks": ("push", "reach"), "steps": 9, "env_id": dream})


def test_processes_of_their_own_dream_the_same() -> None:
    envs = make_lerobot_envs(1, True, tasks=["push"], steps=2, judge=None, options=KINEMATIC)["vapsim"][0]
    alone = made(count=1, steps=2)
    seen, same = envs.reset(seed=[3])[0], alone.reset(seed=[3])[0]
    np.testing.assert_array_equal(seen["pixels"]["exterior_1"], same["pixels"]["exterior_1"])
    assert envs.call("task") == ("push",)
    envs.close()
    alone.close()


def test_lerobots_own_reader_takes_the_observations() -> None:
    reader = pytest.importorskip("lerobot.envs.utils", reason="lerobot is not installed: it pins another torch")
    envs = made(count=1)
    read = reader.add_envs_task(envs, reader.preprocess_observation(envs.reset(seed=[3])[0]))
    assert read["observation.images.exterior_1"].shape == (1, 3, 128, 128)
    assert read["observation.state"].shape == (1, 8)
    assert len(read["task"]) == 1
    envs.close()
