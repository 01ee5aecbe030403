"""Which world an environment's arguments mean: names, paths, models, and options that go with them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import vap_sim  # noqa: F401 - registers the environments
from vap_sim.envs.vector_env import WorldVectorEnv
from vap_sim.envs.world_env import WorldEnv
from vap_sim.envs.worlds import open_world
from vap_sim.errors import BadFile, InvalidInput, UnknownName, VAPSimError
from vap_sim.models.kinematic import KinematicWorld

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
    assert again._session.world.spec == open_world("kinematic", options=OPTIONS).spec


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


def test_a_folder_may_be_given_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that a training wrote, as a path, as a text with a separator and by its bare name."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "world.json").write_text('{"world": "kinematic"}')
    monkeypatch.chdir(tmp_path)
    for world in (tmp_path / "mine", str(tmp_path / "mine"), "mine"):
        with pytest.raises(InvalidInput, match="weights of world 'kinematic'"):
            WorldEnv(world=world)
