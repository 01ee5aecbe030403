"""The dream: what it shows and judges, how it forks, and how rates of control and pictures meet the model's steps."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vap_sim.envs.observations import Observation
from vap_sim.envs.session import SessionState
from vap_sim.envs.start import Start, load_start, photo_start
from vap_sim.envs.trusting import _colors
from vap_sim.envs.vector_env import WorldVectorEnv
from vap_sim.envs.world_env import WorldEnv
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.metrics.trust import PromptAgreement
from vap_sim.models.kinematic import KinematicWorld, paste
from vap_sim.prompts import Prompter, VisualPrompt, profile
from vap_sim.robots.control import Controller
from vap_sim.robots.library import RobotModel, load_robot
from vap_sim.state import WorldState


class Recording:
    """The kinematic world, which keeps the prompts it was given."""

    def __init__(self, **settings: Any) -> None:
        self.inner = KinematicWorld(**settings)
        self.spec = self.inner.spec
        self.prompts: list[VisualPrompt] = []
        self.seeds: list[Any] = []

    def encode(self, frames: torch.Tensor, prompt: VisualPrompt, seed: Any) -> WorldState:
        self.seeds.append(list(seed))
        return self.inner.encode(frames, prompt, seed)

    def step(self, state: WorldState, prompt: VisualPrompt) -> tuple[WorldState, torch.Tensor]:
        self.prompts.append(prompt)
        return self.inner.step(state, prompt)

    def imagine(self, state: WorldState, prompts: VisualPrompt, *, decode: bool = True) -> Any:
        return self.inner.imagine(state, prompts, decode=decode)


def _actions(count: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.concatenate([rng.uniform(-0.2, 0.2, (count, 7)), rng.uniform(0, 1, (count, 1))], 1).astype(np.float32)


def test_first_picture_is_the_start_and_the_next_is_the_model_on_the_drawn_path(
    model: RobotModel, start: Start
) -> None:
    env = WorldEnv(world="kinematic", start=start)
    first, info = env.reset(seed=0)
    assert np.array_equal(first["image"], start.frames[0].numpy())
    assert info["scene"] == start.scene
    action = _actions(1)
    second, reward, terminated, truncated, _ = env.step(action[0])
    controller = Controller(model, "joint_velocity", 0.2)
    _, path = controller.step(controller.initial(start.joints[None].numpy()), action)
    prompt = Prompter(model, profile("compact"), (128, 128)).draw(torch.from_numpy(path), start.cameras)
    expected = paste(prompt.skeleton, start.frames[None, :, None])
    assert np.array_equal(second["image"], expected[0, 0, 0].numpy())
    assert np.array_equal(second["joint_position"], path[0, 0, :7])
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert isinstance(reward, float)


def test_seed_decides_start_and_noise() -> None:
    world = Recording()
    env = WorldEnv(world=world, task=None)  # type: ignore[arg-type]
    names = [env.reset(seed=seed)[1]["start"] for seed in range(30)]
    assert len({name.rpartition("_")[0] for name in names}) == 3
    assert len({tuple(seed) for seed in world.seeds}) == 30
    push = WorldEnv(world="kinematic", task="push")
    assert all(push.reset()[1]["start"].startswith("push") for _ in range(8))


def test_noise_does_not_depend_on_where_the_start_comes_from() -> None:
    worlds = [Recording(), Recording()]
    WorldEnv(world=worlds[0]).reset(seed=4)  # type: ignore[arg-type]
    WorldEnv(world=worlds[1]).reset(seed=4, options={"start": "push_02"})  # type: ignore[arg-type]
    assert worlds[0].seeds == worlds[1].seeds


def test_photo_in_the_options() -> None:
    env = WorldEnv(world="kinematic", start="reach_03", views=("exterior_1",))
    photo = {
        "image": np.full((128, 128, 3), 50, np.uint8),
        "joints": load_start("reach_00").joints,
        "camera": "exterior_1",
    }
    observation, info = env.reset(options={"start": photo})
    assert (observation["image"] == 50).all()
    assert info["start"] == "photo"
    assert "scene" not in info
    assert env.reset()[1]["start"] == "reach_03"
    with pytest.raises(InvalidInput, match="size of the pictures of start 'photo'"):
        env.reset(options={"start": photo | {"size": (64, 64)}})
    with pytest.raises(InvalidInput, match=r"expected uint8 levels 0\.\.255"):
        env.reset(options={"start": photo | {"image": np.zeros((128, 128, 3))}})
    assert env.get_state().starts[0].name == "reach_03"
    words = (
        r"views of start 'photo': given \['exterior_1'\], expected \['exterior_1', 'wrist'\].*views=\('exterior_1',\)"
    )
    with pytest.raises(InvalidInput, match=words):
        WorldEnv(world="kinematic").reset(options={"start": photo})


def test_judge_gives_reward_and_end() -> None:
    seen: list[tuple[Observation, dict[str, Any]]] = []

    def judge(observation: Observation, info: dict[str, Any]) -> tuple[float, bool]:
        seen.append((observation, info))
        return np.float32(info["steps"] / 2), np.bool_(info["steps"] >= 2)  # type: ignore[return-value]

    env = WorldEnv(world="kinematic", judge=judge)
    env.reset(seed=0)
    rows = [env.step(action) for action in _actions(2)]
    assert [row[1] for row in rows] == [0.5, 1.0]
    assert [row[2] for row in rows] == [False, True]
    assert all(type(row[1]) is float and type(row[2]) is bool for row in rows)
    assert seen[0][0] is rows[0][0]
    with pytest.warns(UserWarning, match="after the episode terminated"):
        env.step(_actions(1)[0])
    env.reset()
    env.step(_actions(1)[0])


def test_judge_that_fails_leaves_the_dream_where_it_was() -> None:
    def judge(observation: Observation, info: dict[str, Any]) -> tuple[float, bool]:
        raise ZeroDivisionError

    env = WorldEnv(world="kinematic", judge=judge)
    env.reset(seed=0)
    before = env.get_state()
    with pytest.raises(ZeroDivisionError):
        env.step(_actions(1)[0])
    assert env.get_state() is before


@pytest.mark.parametrize(("control_hz", "frames"), [(4.0, 4), (1.0, 4), (2.0, 4), (8.0, 4), (12.0, 1), (4.0, 2)])
def test_a_model_step_gets_the_poses_of_its_own_actions(model: RobotModel, control_hz: float, frames: int) -> None:
    """However actions and pictures are grouped, the prompts of a model step show the joints at its pictures' times."""
    world = Recording(frames_per_step=frames, frame_rate=4.0)
    env = WorldEnv(world=world, control_hz=control_hz, video_hz=4.0)  # type: ignore[arg-type]
    env.reset(seed=0)
    count = int(3 * control_hz * frames / 4) if control_hz >= 4 / frames else 3
    actions = _actions(count)
    news = [env.step(action)[4]["new_frame"] for action in actions]
    per_step = count // 3
    assert news == [(step + 1) % per_step == 0 for step in range(count)]
    controller = Controller(model, "joint_velocity", 1 / control_hz)
    state = controller.initial(env.get_state().starts[0].joints[None].numpy())
    fine = 12  # poses an action; every rate used here divides it
    path = []
    for action in actions:
        state, poses = controller.step(state, action[None], fine)
        path.append(poses[0])
    between = int(fine * control_hz / 4)
    expected = np.concatenate(path)[between - 1 :: between]
    given = torch.cat([prompt.joints[0] for prompt in world.prompts if prompt.joints is not None]).numpy()
    assert given.shape == expected.shape
    assert np.allclose(given, expected, atol=1e-6)


def test_prompt_view_is_the_prompt_of_the_picture_shown() -> None:
    world = Recording()
    env = WorldEnv(world=world, control_hz=15.0, render_mode="rgb_array", render_views=("prompt",))  # type: ignore[arg-type]
    env.reset(seed=0)
    for action in _actions(5):
        env.step(action)
    assert len(world.prompts) == 1
    picture = env.render()
    assert picture is not None
    assert np.array_equal(picture, world.prompts[0].skeleton[0, 0, 0].numpy())


def test_several_views(start: Start) -> None:
    world = KinematicWorld(views=2)
    cameras = (start.cameras[0], replace(start.cameras[0], name="again"))
    two = replace(start, frames=torch.stack([start.frames[0], 255 - start.frames[0]]), cameras=cameras)
    env = WorldEnv(world=world, start=two, views=("exterior_1", "again"), render_mode="rgb_array",
                   render_views=("image_again", "image"))  # fmt: skip
    observation, _ = env.reset(seed=0)
    assert np.array_equal(observation["image_again"], 255 - observation["image"])
    observation = env.step(_actions(1)[0])[0]
    picture = env.render()
    assert picture is not None
    assert np.array_equal(picture, np.concatenate([observation["image_again"], observation["image"]], 1))
    with pytest.raises(InvalidInput, match=r"views: given \('exterior_1', 'wrist'\), expected 3 names, as world"):
        WorldEnv(world=KinematicWorld(views=3))


def test_as_many_of_the_default_views_as_there_are(start: Start) -> None:
    def pictures(env: WorldEnv) -> list[str]:
        return [name for name in env.reset(seed=0)[0] if name.startswith("image")]

    assert pictures(WorldEnv(world="kinematic")) == ["image", "image_wrist"]
    assert pictures(WorldEnv(world=KinematicWorld())) == ["image"]
    assert pictures(WorldEnv(world="kinematic", start=start)) == ["image", "image_wrist"]
    assert pictures(WorldEnv(world="kinematic", start=replace(start, name="mine"))) == ["image"]
    assert pictures(WorldEnv(world="kinematic", robot="google_robot", control="ee_delta", task="pick")) == ["image"]


def test_state_goes_to_another_environment_but_not_to_another_world() -> None:
    env, twin, wide = (WorldEnv(world=KinematicWorld(profile=name)) for name in ("compact", "compact", "vap"))
    env.reset(seed=0)
    env.step(_actions(1)[0])
    twin.set_state(env.get_state())
    ahead = [env.step(action)[0] for action in _actions(3)]
    again = [twin.step(action)[0] for action in _actions(3)]
    assert all(np.array_equal(a[key], b[key]) for a, b in zip(ahead, again, strict=True) for key in a)
    with pytest.raises(InvalidInput, match=r"state: given one of world 'kinematic'.*expected world 'kinematic'"):
        wide.set_state(env.get_state())
    with pytest.raises(InvalidInput, match=r"state: given 2 rows, expected 1; state.index\(rows\) chooses some"):
        env.set_state(env.get_state().index([0, 0]))


def test_state_rows_are_independent() -> None:
    env = WorldEnv(world="kinematic")
    states = []
    for seed in range(3):
        env.reset(seed=seed)
        env.step(_actions(3)[seed])
        states.append(env.get_state())
    whole = states[0].index([0, 0, 0]).with_rows([2, 1], states[1].index([0, 0]).with_rows([0], states[2]))
    assert [start.name for start in whole.starts] == [states[i].starts[0].name for i in range(3)]
    for row, state in enumerate(states):
        one = whole.index([row])
        for name in ("frames", "drawn", "poses", "phase", "steps", "joints"):
            assert np.array_equal(getattr(one, name), getattr(state, name))
        assert torch.equal(one.world.key, state.world.key)
        assert torch.equal(one.cameras[0].intrinsics, state.cameras[0].intrinsics)
        assert torch.equal(one.cameras[0].T_parent_camera, state.cameras[0].T_parent_camera)


def test_stepping_writes_to_no_state() -> None:
    env = WorldEnv(world="kinematic", control_hz=15.0)
    env.reset(seed=0)
    env.step(_actions(1)[0])
    state = env.get_state()
    before = copy.deepcopy(
        (state.frames, state.poses, state.phase, state.steps, state.control, dict(state.world.context))
    )
    for action in _actions(4):
        env.step(action)
    after = (state.frames, state.poses, state.phase, state.steps, state.control, dict(state.world.context))
    for a, b in zip(before[:4], after[:4], strict=True):
        assert np.array_equal(a, b)
    assert np.array_equal(before[4].joints, after[4].joints)
    assert all(torch.equal(before[5][name], after[5][name]) for name in before[5])


def test_profile_splits_the_time() -> None:
    env = WorldEnv(world="kinematic")
    env.reset(seed=0)
    assert env.profile.steps == 0
    for action in _actions(5):
        _, _, _, _, info = env.step(action)
    assert env.profile.steps == 5
    assert env.profile.network_seconds > 0
    assert env.profile.outside_seconds > 0
    assert not [name for name in info if "second" in name]


def test_trust_meter_sees_every_new_picture_once() -> None:
    env = WorldEnv(world="kinematic", trust=True, control_hz=10.0)
    obs, info = env.reset(seed=0)
    state = env.get_state()
    camera, colors = state.starts[0].cameras[0], _colors(state.trust.begun[0, 0])
    meter = PromptAgreement(load_robot("panda_robotiq"), (128, 128))

    def agreement(known: list[str] | None) -> float:
        """Of the present picture, read with what is known of the colours there."""
        labels = meter.detector.labels(torch.from_numpy(obs["image"]), known)
        return float(meter.of_labels(labels[None], torch.from_numpy(info["joints"][None]), camera).values[0])

    assert info["prompt_agreement"] == agreement(None) == meter(obs["image"], info["joints"], camera)
    values = {info["prompt_agreement"]}
    for action in _actions(6):
        before = info["prompt_agreement"]
        obs, _, _, _, info = env.step(action)
        assert info["prompt_agreement"] == (agreement(colors) if info["new_frame"] else before)
        values.add(info["prompt_agreement"])
    assert len(values) == 4  # the first picture's, and three new ones
    plain = WorldEnv(world="kinematic", control_hz=10.0)
    plain.reset(seed=0)
    with pytest.raises(InvalidInput, match=r"trust on.*trust off"):
        plain.set_state(env.get_state())


def test_trust_is_told_row_by_row() -> None:
    env = WorldVectorEnv(3, world="kinematic", trust=True)
    _, infos = env.reset(seed=0)
    alone = [WorldEnv(world="kinematic", trust=True).reset(seed=row)[1]["prompt_agreement"] for row in range(3)]
    assert infos["prompt_agreement"].tolist() == pytest.approx(alone) and len(set(alone)) > 1


def test_shipped_trust_meter_prefers_the_true_pose() -> None:
    try:
        env = WorldEnv(world="kinematic", trust=True, views=("exterior_1",))
    except BadFile as error:
        pytest.skip(str(error))
    start = load_start("pick_place_01")
    moved = start.joints + torch.tensor([0.5, 0, 0, 0, 0, 0, 0, 0])
    true, wrong = (
        env.reset(seed=0, options={"start": replace(start, joints=joints)})[1]["prompt_agreement"]
        for joints in (start.joints, moved)
    )
    assert true > wrong + 0.2


def test_unknown_state_type() -> None:
    env = WorldEnv(world="kinematic")
    env.reset(seed=0)
    assert isinstance(env.get_state(), SessionState)
    with pytest.raises(InvalidInput, match="state: given dict"):
        env.set_state({})  # type: ignore[arg-type]


def test_a_users_own_robot(tmp_path: Path, model: RobotModel) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(model.folder, folder)
    described = json.loads((folder / "robot.json").read_text())
    (folder / "robot.json").write_text(json.dumps(described | {"name": "mine"}))
    for env in (WorldEnv(robot=folder, world="kinematic"), WorldVectorEnv(1, robot=folder, world="kinematic")):
        with pytest.raises(InvalidInput, match="start: given None, expected one of robot 'mine'"):
            env.reset()
        with pytest.raises(InvalidInput, match="robot of start 'push_00': given panda_robotiq, expected 'mine'"):
            env.reset(options={"start": "push_00"})
        photo = {"image": np.zeros((128, 128, 3), np.uint8), "joints": model.home, "camera": "exterior_1"}
        env.reset(options={"start": photo})
        env.step(np.zeros(env.action_space.shape or (), np.float32))
        assert env.get_state().starts[0].robot == "mine"


def test_photo_start_needs_no_environment() -> None:
    start = photo_start(np.zeros((128, 128, 3), np.uint8), load_start("push_00").joints, "exterior_1")
    assert WorldEnv(world="kinematic", start=start).reset()[1]["start"] == "photo"
