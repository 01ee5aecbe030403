"""Which world an environment's arguments mean: names, paths, models, and options that go with them."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import vap_sim  # noqa: F401 - registers the environments
from tests.envs.test_world_env import Recording
from vap_sim.envs.start import load_start
from vap_sim.envs.vector_env import WorldVectorEnv
from vap_sim.envs.world_env import WorldEnv
from vap_sim.envs.worlds import open_world
from vap_sim.errors import BadFile, InvalidInput, UnknownName, VAPSimError
from vap_sim.models.kinematic import KinematicWorld
from vap_sim.prompts import VisualPrompt
from vap_sim.state import WorldState

NAME = "VAPWorld-DROID-v0"
OPTIONS: dict[str, Any] = {"frame_rate": 10.0, "frames_per_step": 2}
ENVIRONMENTS = [WorldEnv, WorldVectorEnv]


def test_options_reach_the_world() -> None:
    made = open_world("kinematic", options=OPTIONS)
    assert made.spec == KinematicWorld(frame_rate=10.0, frames_per_step=2).spec
    assert open_world(made) is made
    assert open_world("kinematic").spec == open_world("kinematic", options={}).spec == KinematicWorld().spec


def test_environments_dream_with_the_options_as_with_the_model() -> None:
    given: dict[str, Any] = {"control_hz": 10.0, "video_hz": 10.0, "world": "kinematic", "world_options": OPTIONS}
    named = gymnasium.make(NAME, **given)
    model = gymnasium.make(NAME, control_hz=10.0, video_hz=10.0, world=KinematicWorld(**OPTIONS))
    rows = gymnasium.make_vec(NAME, num_envs=2, **given)
    actions = np.random.default_rng(0).uniform(-0.5, 0.5, (4, 8)).astype(np.float32)
    for env in (named, model, rows):
        env.reset(seed=3)
    for action in actions:
        mine, theirs = named.step(action), model.step(action)
        both = rows.step(np.stack([action, action]))
        assert np.array_equal(mine[0]["image"], theirs[0]["image"])
        assert np.array_equal(mine[0]["image"], both[0]["image"][0])
        assert mine[4]["new_frame"] == theirs[4]["new_frame"] == both[4]["new_frame"][0]


def test_specs_with_options_are_pickled() -> None:
    env = gymnasium.make(NAME, world="kinematic", world_options=OPTIONS, control_hz=10.0, video_hz=10.0)
    assert env.spec is not None and env.spec.kwargs["world_options"] == OPTIONS
    again: Any = gymnasium.make(pickle.loads(pickle.dumps(env.spec))).unwrapped
    assert again._session.world.spec == open_world("kinematic", options=OPTIONS, views=2).spec


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize(
    ("kind", "words", "given"),
    [
        (
            UnknownName,
            "option of world 'kinematic' 'frame_rat'. Did you mean 'frame_rate'",
            {"world_options": {"frame_rat": 1}},
        ),
        (InvalidInput, "world_options: given stream, expected a mapping", {"world_options": "stream"}),
        (InvalidInput, "world_options: given {1: 2}, expected a mapping from names", {"world_options": {1: 2}}),
        (
            InvalidInput,
            "world_options: given 'device' among them, expected device as an arg",
            {"world_options": {"device": "cpu"}},
        ),
        (InvalidInput, "world_options: given {'frame_rate': 5.0}, expected None, because", {
            "world": KinematicWorld(), "world_options": {"frame_rate": 5.0},
        }),
        (InvalidInput, "weights: given mine, expected None, because", {"world": KinematicWorld(), "weights": "mine"}),
        (BadFile, "runs/nowhere: no such weights file", {"world": "runs/nowhere"}),
        (UnknownName, "unknown world 'kinematics'. Did you mean 'kinematic'", {"world": "kinematics"}),
    ],
)  # fmt: skip
def test_bad_worlds_are_named(environment: Any, kind: type[VAPSimError], words: str, given: dict[str, Any]) -> None:
    with pytest.raises(kind, match=words):
        environment(**{"world": "kinematic", **given})


class Reader(Recording):
    """Keeps the captions that its dreams began with, one tuple a call."""

    def __init__(self, *, reads: bool = True) -> None:
        super().__init__()
        self.spec = replace(self.inner.spec, reads_text=reads)
        self.told: list[tuple[str, ...] | None] = []

    def encode(self, frames: torch.Tensor, prompt: VisualPrompt, seed: Any) -> WorldState:
        self.told.append(prompt.text)
        return super().encode(frames, prompt, seed)


def test_a_world_that_reads_is_told_the_instruction_of_the_start() -> None:
    world, mute = Reader(), Reader(reads=False)
    for one in (world, mute):
        env = WorldEnv(world=one)  # type: ignore[arg-type]
        _, info = env.reset(seed=0, options={"start": "push_00"})
        env.step(env.action_space.sample())
    assert world.told == [(load_start("push_00").instruction,)] == [(info["instruction"],)]
    assert info["instruction"] and mute.told == [None]
    assert [prompt.text for prompt in world.prompts] == [None], "once an episode"


def test_an_instruction_in_the_options_comes_first_and_stays_for_the_episode() -> None:
    world = Reader()
    env = WorldEnv(world=world)  # type: ignore[arg-type]
    _, info = env.reset(seed=0, options={"start": "push_00", "instruction": "wave"})
    assert info["instruction"] == env.step(env.action_space.sample())[4]["instruction"] == "wave"
    assert world.told == [("wave",)]
    assert env.get_state().starts[0].name == "push_00"
    assert env.reset()[1]["instruction"] != "wave"
    assert env.reset(options={"instruction": ""})[1]["instruction"] == ""
    before = env.get_state()
    with pytest.raises(InvalidInput, match="instruction: given 3, expected a text"):
        env.reset(seed=5, options={"instruction": 3})
    assert env.get_state() is before


def test_rows_have_instructions_of_their_own() -> None:
    world = Reader()
    env = WorldVectorEnv(3, 1, "SameStep", world=world)  # type: ignore[arg-type]
    _, infos = env.reset(seed=0, options={"start": "push_00", "instruction": ["wave", None, "lift"]})
    own = load_start("push_00").instruction
    assert infos["instruction"].tolist() == ["wave", own, "lift"]
    assert world.told == [("wave", own, "lift")]
    infos = env.step(env.action_space.sample())[4]
    assert "wave" not in infos["instruction"].tolist(), "the next episodes have their own"
    assert infos["final_info"]["instruction"].tolist() == ["wave", own, "lift"]
    assert env.reset(options={"instruction": "wave"})[1]["instruction"].tolist() == ["wave"] * 3
    with pytest.raises(InvalidInput, match="instructions: given 2 of them, expected one, or 3"):
        env.reset(options={"instruction": ["wave", "lift"]})


def test_a_folder_may_be_given_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that a training wrote, as a path, as a text with a separator and by its bare name."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "world.json").write_text('{"world": "kinematic"}')
    monkeypatch.chdir(tmp_path)
    for world in (tmp_path / "mine", str(tmp_path / "mine"), "mine"):
        with pytest.raises(InvalidInput, match="weights of world 'kinematic'"):
            WorldEnv(world=world)
