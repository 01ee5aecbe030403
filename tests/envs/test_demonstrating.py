"""Demonstrations on their way from an option of `reset` to the world that is shown them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import pytest
import torch

import vap_sim  # noqa: F401 - registers the environments
from vap_sim.envs.demonstrating import FILE, joined, load_demonstration, resolve_demonstration, save_demonstration
from vap_sim.envs.start import Start, load_start
from vap_sim.envs.vector_env import WorldVectorEnv
from vap_sim.envs.world_env import WorldEnv
from vap_sim.errors import BadFile, InvalidInput, UnknownName, Unsupported
from vap_sim.models.kinematic import KinematicWorld
from vap_sim.models.protocol import Rollout
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt
from vap_sim.state import WorldState


def clip(seed: int = 0, length: int = 3, size: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (length, size, size, 3), dtype=np.uint8)


class Watcher:
    """A kinematic world that keeps the demonstrations its dreams began with."""

    def __init__(self, *, watches: bool = True) -> None:
        self.inner = KinematicWorld()
        self.spec = replace(self.inner.spec, reads_reference=watches)
        self.shown: list[ReferenceClip | None] = []

    def encode(self, frames: torch.Tensor, prompt: VisualPrompt, seed: Any) -> WorldState:
        self.shown.append(prompt.reference)
        return self.inner.encode(frames, prompt, seed)

    def step(self, state: WorldState, prompt: VisualPrompt) -> tuple[WorldState, torch.Tensor]:
        assert prompt.reference is None, "a demonstration is shown once a dream"
        return self.inner.step(state, prompt)

    def imagine(self, state: WorldState, prompts: VisualPrompt, *, decode: bool = True) -> Rollout:
        return self.inner.imagine(state, prompts, decode=decode)


def write_video(path: Path, frames: np.ndarray) -> Path:
    height, width = frames.shape[1:3]
    film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 5, (width, height))
    for frame in frames:
        film.write(frame[..., ::-1])
    film.release()
    return path


def test_a_path_frames_and_a_clip_mean_the_same(tmp_path: Path) -> None:
    frames = clip(size=16)
    path = write_video(tmp_path / "demo.avi", frames)
    for given in (frames, path, str(path), ReferenceClip(torch.from_numpy(frames)[None])):
        found = resolve_demonstration(given)
        assert found.text is None and np.array_equal(found.frames[0].numpy(), frames)
    found = resolve_demonstration({"video": path, "caption": "a push"})
    assert found.text == ("a push",) and np.array_equal(found.frames[0].numpy(), frames)


@pytest.mark.parametrize(
    ("kind", "words", "given"),
    [
        (InvalidInput, r"demonstration: given float64 \(3, 6, 6, 3\), expected uint8", clip() / 255),
        (InvalidInput, r"demonstration: given uint8 \(6, 6, 3\), expected uint8 \(T, H, W, 3\)", clip()[0]),
        (UnknownName, "field of a demonstration 'captoin'. Did you mean 'caption'", {"video": 0, "captoin": ""}),
        (InvalidInput, "expected also 'video'", {"caption": "a push"}),
        (InvalidInput, "caption of a demonstration", {"video": clip(), "caption": 3}),
        (InvalidInput, "a clip of 2 rows", ReferenceClip(torch.zeros(2, 1, 2, 2, 3, dtype=torch.uint8))),
        (BadFile, "nowhere.mp4", "nowhere.mp4"),
    ],
)  # fmt: skip
def test_bad_demonstrations_are_named(kind: type[Exception], words: str, given: Any) -> None:
    with pytest.raises(kind, match=words):
        resolve_demonstration(given)


def test_an_environment_shows_its_world_the_demonstration_once_a_dream() -> None:
    world = Watcher()
    env = WorldEnv(world=world)
    env.reset(seed=0, options={"start": "push_00", "demonstration": {"video": clip(), "caption": "a push"}})
    env.step(env.action_space.sample())
    env.reset(seed=0)
    first, second = world.shown
    assert second is None, "it holds for one episode"
    assert first is not None and first.text == ("a push",) and np.array_equal(first.frames[0].numpy(), clip())


def test_the_start_of_an_environment_may_hold_one_for_all_episodes() -> None:
    world = Watcher()
    env = WorldEnv(world=world, start=replace(load_start("push_00"), demonstration=resolve_demonstration(clip())))
    for _ in range(2):
        env.reset(seed=0)
    assert [one is not None and one.frames.shape[1] for one in world.shown] == [3, 3]


def test_rows_of_a_vector_environment_have_demonstrations_of_their_own() -> None:
    world = Watcher()
    envs = WorldVectorEnv(2, world=world)
    envs.reset(seed=0, options={"demonstration": [clip(0), clip(1)]})
    envs.reset(seed=0, options={"demonstration": clip(2)})
    own, common = world.shown
    assert own is not None and common is not None
    assert np.array_equal(own.frames.numpy(), np.stack([clip(0), clip(1)]))
    assert np.array_equal(common.frames.numpy(), np.stack([clip(2), clip(2)]))


def test_rows_that_differ_in_what_they_have_are_named() -> None:
    spec = Watcher().spec
    one, longer = (resolve_demonstration(clip(length=length)) for length in (3, 4))
    for rows in ([one, longer], [one, None], [one, replace(one, text=("a push",))]):
        with pytest.raises(InvalidInput, match="demonstrations of the rows"):
            joined(rows, spec)
    assert joined([None, None], spec) is None


def test_several_videos_of_one_action_stay_in_their_rows() -> None:
    pairs = [
        ReferenceClip(torch.from_numpy(clip(k))[None], None, (resolve_demonstration(clip(k + 5)),)) for k in (1, 2)
    ]
    both = joined(pairs, Watcher().spec)
    assert both is not None
    for row, pair in enumerate(pairs):
        for mine, theirs in zip(both.index([row]).each, pair.each, strict=True):
            assert torch.equal(mine.frames, theirs.frames)


@pytest.mark.parametrize("world", ["compact", Watcher(watches=False)])
def test_a_world_that_cannot_be_shown_one_says_so_and_nothing_changes(world: Any) -> None:
    env: Any = gym.make("VAPWorld-DROID-v0", world=world)
    env.reset(seed=3)
    before = env.unwrapped.get_state()
    with pytest.raises(Unsupported, match="cannot be shown a demonstration"):
        env.reset(options={"demonstration": clip()})
    assert env.unwrapped.get_state() is before


def test_a_start_keeps_its_demonstration_on_disk(tmp_path: Path) -> None:
    shown = ReferenceClip(torch.from_numpy(clip())[None], ("a push",), (resolve_demonstration(clip(4, 5)),))
    start = replace(load_start("push_00"), demonstration=shown)
    again = Start.load(start.save(tmp_path / "start")).demonstration
    assert again is not None and len(again.each) == 2
    for mine, theirs in zip(again.each, shown.each, strict=True):
        assert torch.equal(mine.frames, theirs.frames) and mine.text == theirs.text
    replace(start, demonstration=None).save(tmp_path / "start")
    assert Start.load(tmp_path / "start").demonstration is None


def test_a_damaged_demonstration_is_named(tmp_path: Path) -> None:
    save_demonstration(tmp_path, resolve_demonstration(clip()))
    data = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(data[:-7])
    with pytest.raises(BadFile, match=FILE):
        load_demonstration(tmp_path)
