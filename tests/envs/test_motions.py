"""Learned motions on their way from an option of `reset` to the world that has learned them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vap_sim.envs.start import Start, load_start
from vap_sim.envs.vector_env import WorldVectorEnv
from vap_sim.envs.world_env import WorldEnv
from vap_sim.errors import BadFile, InvalidInput, UnknownName, Unsupported, VAPSimError
from vap_sim.models.kinematic import KinematicWorld
from vap_sim.models.protocol import Rollout
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState


class Taught:
    """A kinematic world that has learned some motions and keeps which dreams were told which."""

    def __init__(self, *motions: str) -> None:
        self.inner = KinematicWorld()
        self.spec = replace(self.inner.spec, motions=motions)
        self.told: list[tuple[tuple[str, ...], list[int]]] = []

    def encode(self, frames: torch.Tensor, prompt: VisualPrompt, seed: Any) -> WorldState:
        self.told.append((prompt.motion, list(seed)))
        return self.inner.encode(frames, prompt, seed)

    def step(self, state: WorldState, prompt: VisualPrompt) -> tuple[WorldState, torch.Tensor]:
        assert prompt.motion == (), "a motion is named once a dream"
        return self.inner.step(state, prompt)

    def imagine(self, state: WorldState, prompts: VisualPrompt, *, decode: bool = True) -> Rollout:
        return self.inner.imagine(state, prompts, decode=decode)


def test_a_reset_tells_its_world_a_motion_for_one_episode() -> None:
    world = Taught("wave", "bow")
    env = WorldEnv(world=world)
    for motion in ("wave", ["bow", "wave"], None):
        env.reset(seed=0, options={"motion": motion})
        env.step(env.action_space.sample())
    assert [names for names, _ in world.told] == [("wave",), ("bow", "wave"), ()]


def test_the_start_of_an_environment_may_name_one_for_all_episodes(tmp_path: Path) -> None:
    world = Taught("wave")
    start = replace(load_start("push_00"), motion=("wave",))
    start.save(tmp_path / "start")
    assert Start.load(tmp_path / "start").motion == ("wave",)
    env = WorldEnv(world=world, start=tmp_path / "start")
    for _ in range(2):
        env.reset(seed=0)
    assert [names for names, _ in world.told] == [("wave",)] * 2
    replace(start, motion=()).save(tmp_path / "start")
    assert Start.load(tmp_path / "start").motion == ()
    record = tmp_path / "start" / "start.json"
    record.write_text(record.read_text().replace('"name"', '"motion": 3, "name"'))
    with pytest.raises(BadFile, match="motion: given 3"):
        Start.load(tmp_path / "start")


def test_rows_of_a_vector_environment_are_told_motions_of_their_own() -> None:
    world = Taught("wave", "bow")
    envs = WorldVectorEnv(3, world=world)
    plain = WorldVectorEnv(3, world=KinematicWorld())
    given: dict[str, Any] = {"start": "push_00"}
    first = plain.reset(seed=5, options=given)[0]["image"]
    told = envs.reset(seed=5, options={**given, "motion": ["wave", "bow", "wave"]})[0]["image"]
    keys = plain.get_state().world.key.tolist()
    assert world.told == [(("wave",), [keys[0], keys[2]]), (("bow",), [keys[1]])]
    assert np.array_equal(told, first) and envs.get_state().world.key.tolist() == keys
    actions = envs.action_space.sample()
    assert np.array_equal(envs.step(actions)[0]["image"], plain.step(actions)[0]["image"])


@pytest.mark.parametrize(
    ("world", "motion", "kind", "words"),
    [
        (KinematicWorld(), "wave", Unsupported, "has learned no motion that could be told by the name 'wave'"),
        (Taught("wave"), "wawe", UnknownName, "unknown learned motion 'wawe'. Did you mean 'wave'"),
        (Taught("wave"), ["wave", "wave"], InvalidInput, "motion: given .* several that differ"),
        (Taught("wave"), 3, InvalidInput, "motion: given 3"),
        (Taught("wave"), [""], InvalidInput, "motion: given"),
    ],
)
def test_motions_that_cannot_be_told_are_named_and_nothing_changes(
    world: Any, motion: Any, kind: type[VAPSimError], words: str
) -> None:
    env = WorldEnv(world=world)
    env.reset(seed=3)
    before = env.get_state()
    with pytest.raises(kind, match=words):
        env.reset(options={"motion": motion})
    assert env.get_state() is before
