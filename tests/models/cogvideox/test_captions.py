"""Captions: embedded once a dream, heard all through it, and in the environment those of the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from tests.contracts.world_model import next_prompt, pictures, prompts
from tests.models.cogvideox.worlds import tiny_backbone, tiny_world
from vap_sim.envs.world_env import WorldEnv
from vap_sim.models.cogvideox.loading import Header, save_world
from vap_sim.models.cogvideox.text import HashedWords


class Counting(HashedWords):
    """Keeps what it was asked to embed."""

    def __init__(self) -> None:
        super().__init__(4, 8)
        self.asked: list[str] = []

    def encode(self, captions: Sequence[str]) -> Tensor:
        self.asked += captions
        return super().encode(captions)


@pytest.mark.parametrize("mode", ["stream", "chunk"])
def test_a_caption_is_embedded_once_a_dream_and_the_empty_one_once(mode: str) -> None:
    text = Counting()
    world = tiny_world(mode=mode, text=text, guidance=3.0, control_guidance=2.0, rows_at_once=2)
    for told in (("push the cup", "lift"), ("pull", "wave")):
        start = replace(prompts(world, 1, 2), text=told)
        state = world.encode(pictures(world, 2), start, [1, 2])
        for number in range(3):
            state, _ = world.step(state, next_prompt(world, number, 2))
    assert sorted(text.asked) == ["", "lift", "pull", "push the cup", "wave"]


@pytest.mark.parametrize("mode", ["stream", "chunk"])
def test_the_environment_tells_the_world_its_instruction(tmp_path: Path, mode: str) -> None:
    settings: dict[str, Any] = {"steps": 1, "history": 1, "chunk": 5, "mode": mode}
    save_world(tmp_path, tiny_backbone(), Header((128, 128), 5.0, "vap", 17, 8, True, None, settings))
    env = WorldEnv(world=tmp_path, control_hz=1.25)
    world = env._session.world
    assert world.spec.reads_text
    films = []
    for options in ({"start": "push_00"}, {"start": "push_00", "instruction": "lift the red cube"}):
        env.reset(seed=4, options=options)
        films.append(env.step(np.zeros(8, np.float32))[0]["image"])
    assert not np.array_equal(*films)
    start = env.get_state().starts[0]
    assert start.instruction == "lift the red cube"
    still = start.joints[None, None]
    told = replace(env._session.prompter.draw(still, start.cameras), text=(start.instruction,))
    state = world.encode(start.frames[None], told, env.get_state().world.key)
    frames = world.step(state, env._session.prompter.draw(still.expand(-1, 4, -1), start.cameras))[1]
    assert np.array_equal(frames[0, 0, -1].numpy(), films[1])
