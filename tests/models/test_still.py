"""The still world: every frame is the first picture, whatever the prompts say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vap_sim.errors import InvalidInput
from vap_sim.models.kinematic import KinematicWorld
from vap_sim.models.registry import load_world
from vap_sim.models.still import StillWorld
from vap_sim.prompts import VisualPrompt


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=source)


def test_every_frame_of_every_view_is_the_first_picture() -> None:
    world, picture = StillWorld(size=(8, 6), views=2, frames_per_step=3), noise(4, 2, 6, 8, 3)
    state = world.encode(picture, VisualPrompt(noise(4, 2, 1, 6, 8, 3)), [1, 2, 3, 4])
    film = world.imagine(state, VisualPrompt(noise(4, 2, 12, 6, 8, 3, seed=1))).frames
    assert film is not None and film.shape == (4, 2, 12, 6, 8, 3)
    assert all(torch.equal(film[:, :, index], picture) for index in range(12))


def test_frames_given_away_may_be_written_to() -> None:
    world, picture = StillWorld(size=(8, 6)), noise(1, 1, 6, 8, 3)
    state, prompt = (
        world.encode(picture, VisualPrompt(noise(1, 1, 1, 6, 8, 3)), [0]),
        VisualPrompt(noise(1, 1, 1, 6, 8, 3)),
    )
    world.step(state, prompt)[1].zero_()
    assert torch.equal(world.step(state, prompt)[1][:, :, 0], picture)


def test_settings_tell_worlds_apart_and_so_does_the_name() -> None:
    worlds = [StillWorld(), StillWorld(size=(64, 128)), StillWorld(views=2), StillWorld(frame_rate=15.0)]
    assert len({world.spec.fingerprint for world in (*worlds, KinematicWorld())}) == 5
    assert load_world("still", views=2).spec == worlds[2].spec


def test_it_has_no_weights() -> None:
    with pytest.raises(InvalidInput, match="weights of world 'still': given w, expected None"):
        StillWorld.load(Path("w"))
