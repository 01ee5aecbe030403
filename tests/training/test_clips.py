"""Clips: encoded once, keyed by all that decides them, and what a clip is made of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training import tiny_diffusion as tiny
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.models.cogvideox.codec import TinyCodec
from vap_sim.models.tensor_cache import TensorCache
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot
from vap_sim.training.clips import ClipSettings, caption_of, noised_images, open_data_set, path_of, region_of
from vap_sim.training.parallel import Team


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.record(tmp_path_factory.mktemp("films"), [3, 4], views=2)


class Counted(TinyCodec):
    """Counts the clips it encodes."""

    asked = 0

    def encode(self, frames: Tensor) -> Tensor:
        type(self).asked += 1
        return super().encode(frames)


def test_clips_are_encoded_once_and_again_where_something_changed(films: Path, tmp_path: Path) -> None:
    Counted.asked = 0
    cache = TensorCache(tmp_path)

    def encoded(settings: ClipSettings, channels: int = 4) -> int:
        before = Counted.asked
        data = open_data_set(films, settings, Counted(channels), cache, progress=False)
        assert len(data.clips) == 2 * 2 * 2 and data.seeds == (3, 4)  # episodes, views, starts
        return Counted.asked - before

    once = encoded(tiny.SETTINGS)
    assert once == 8 * (1 + 3) and encoded(tiny.SETTINGS) == 0
    assert encoded(tiny.SETTINGS, channels=5) == once
    assert encoded(replace(tiny.SETTINGS, form="mesh")) == once
    assert encoded(replace(tiny.SETTINGS, seed=1)) == once
    damaged = next(tmp_path.iterdir())
    damaged.write_bytes(damaged.read_bytes()[:99])
    assert sum(encoded(one) for one in (tiny.SETTINGS, replace(tiny.SETTINGS, form="mesh"))) <= 4


def test_a_team_shares_the_work(films: Path, tmp_path: Path) -> None:
    Counted.asked = 0
    parts = []
    for rank in range(2):
        team = Team(rank, 2)
        object.__setattr__(team, "wait", lambda: None)
        parts.append(open_data_set(films, tiny.SETTINGS, Counted(4), TensorCache(tmp_path), team=team))
        assert Counted.asked == (rank + 1) * 4 * 4
    assert [clip.key for clip in parts[0].clips] == [clip.key for clip in parts[1].clips]


@pytest.mark.parametrize("form", ["skeleton", "mesh", "depth", "raw_action", "text"])
def test_a_clip_is_what_codec_and_prompter_say(form: str, films: Path, tmp_path: Path) -> None:
    data = tiny.data_set(films, tmp_path, replace(tiny.SETTINGS, form=form))
    clip, episode = data.clips[3].load(), tiny.episode(3, views=2)  # second view, from frame 4
    frames = torch.from_numpy(episode.frames[1, 4:13])
    assert torch.equal(clip.latents, TinyCodec(4).encode(frames[None])[0])
    assert torch.equal(clip.images[0], TinyCodec(4).encode(frames[None, :1])[0, 0]) and len(clip.images) == 3
    camera = Camera.from_dict(episode.meta["cameras"][1])
    prompter = Prompter(load_robot("panda_robotiq"), profile(form), tiny.SIZE)
    drawn = prompter.draw(torch.from_numpy(episode.joints[None, 4:13]), [camera])
    assert torch.equal(clip.prompt.skeleton, drawn.skeleton)
    assert (clip.prompt.joints is None) == (form == "text")
    if clip.prompt.joints is not None:
        assert torch.allclose(clip.prompt.joints[0], torch.from_numpy(episode.joints[4:13]), atol=1e-6)
    assert 0 < clip.region.mean() < 1 and clip.region.shape == clip.latents.shape[:1] + clip.latents.shape[2:]
    assert torch.equal(clip.region, tiny.data_set(films, tmp_path / "other").clips[3].load().region)


def test_strides_skip_frames_and_straighten_control() -> None:
    joints = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    plain = ClipSettings(frames=9)
    assert np.allclose(path_of(joints, 3, plain), joints[3:12])
    assert np.allclose(path_of(joints, 3, replace(plain, video_stride=2)), joints[3:20:2]) and plain.reach == 9
    slow = path_of(joints, 3, replace(plain, control_stride=4))
    assert np.allclose(slow[[0, 4, 8]], joints[[3, 7, 11]])
    assert np.allclose(slow[2], (joints[3] + joints[7]) / 2, atol=1e-6)
    odd = path_of(joints, 0, replace(plain, control_stride=5))
    assert np.allclose(odd[[0, 5, 8]], joints[[0, 5, 8]])


def test_video_stride_takes_the_frames_it_says(films: Path, tmp_path: Path) -> None:
    data = tiny.data_set(films, tmp_path, replace(tiny.SETTINGS, frames=5, video_stride=3))
    frames = torch.from_numpy(tiny.episode(3, views=2).frames[0, 0:13:3])
    assert torch.equal(data.clips[0].load().latents, TinyCodec(4).encode(frames[None])[0])


def test_the_region_holds_what_is_drawn_and_grows() -> None:
    drawn = torch.zeros(5, 32, 32, 3, dtype=torch.uint8)
    assert region_of(drawn, 3).sum() == 0
    drawn[0, 9, 9], drawn[3, 23, 31] = 255, 1
    region = region_of(drawn, 0)
    assert region.shape == (2, 4, 4) and region.sum() == 2 and region[0, 1, 1] == 1 and region[1, 2, 3] == 1
    assert region_of(drawn, 1)[1].sum() == 2  # pixel 23 + 1 is in the next cell
    assert (region_of(drawn, 8) >= region_of(drawn, 1)).all()


def test_the_noise_of_first_frames_is_that_of_diffusers() -> None:
    grey = torch.full((24, 24, 3), 128, dtype=torch.uint8)
    noised = noised_images(grey, 200, key=5)
    assert noised.dtype == torch.uint8 and torch.equal(noised, noised_images(grey, 200, key=5))
    assert torch.equal(noised[:3], noised_images(grey, 3, key=5)) and not torch.equal(
        noised, noised_images(grey, 200, 6)
    )
    spread = ((noised.double() - 128) / 127.5).flatten(1).std(1).log()
    assert float(spread.mean()) == pytest.approx(-3, abs=0.15) and float(spread.std()) == pytest.approx(0.5, abs=0.1)


def test_captions_come_from_the_folder_or_the_scene(tmp_path: Path) -> None:
    folder = tiny.record(tmp_path / "data", [1, 2])
    (folder / "captions.json").write_text(json.dumps({"twin_0002": "the robot waits"}))
    captions = [clip.caption for clip in tiny.data_set(folder, tmp_path / "cache").clips]
    told = "a robot arm over a table with a red cube, a blue box; push, clumsy push"
    assert captions == [told] * 2 + ["the robot waits"] * 2
    goal = {"behaviours": [], "scene": {"objects": [], "goal": [0, 0, 1]}}
    assert caption_of(goal) == "a robot arm over a table with a round goal; "


@pytest.mark.parametrize(("content", "words"), [("[", "is not JSON"), ('{"a": 1}', "expected an object from names")])
def test_captions_that_are_none_are_named(content: str, words: str, tmp_path: Path) -> None:
    folder = tiny.record(tmp_path / "data", [1])
    (folder / "captions.json").write_text(content)
    with pytest.raises(BadFile, match=words):
        tiny.data_set(folder, tmp_path / "cache")


def test_films_that_are_too_short_or_broken_are_named(films: Path, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no episode of 17 frames or more"):
        tiny.data_set(films, tmp_path, ClipSettings(frames=17))
    folder = tiny.record(tmp_path / "data", [1])
    from vap_sim.data.twin import save_episode

    for field, value, words in [("cameras", 5, "scene or cameras"), ("robot", "robbie", "robot or cameras")]:
        bad = tiny.episode(1)
        save_episode(folder / "twin_0001.vap.npz", replace(bad, meta={**bad.meta, field: value}))
        with pytest.raises(BadFile, match=f"meta.json: {words} cannot be used"):
            tiny.data_set(folder, tmp_path / "cache")


def test_a_cached_file_that_is_no_clip_is_named(films: Path, tmp_path: Path) -> None:
    clip = tiny.data_set(films, tmp_path).clips[0]
    tensors = clip.cache.get(clip.key)
    clip.cache.put(clip.key, {name: value for name, value in tensors.items() if name != "lengths"})
    with pytest.raises(BadFile, match="is not a clip"):
        clip.load()
    clip.cache.put(clip.key, {**tensors, "drawn": torch.zeros_like(tensors["drawn"])})
    with pytest.raises(BadFile, match="a picture of the prompt is damaged"):
        clip.load()
    clip.cache.put(clip.key, {**tensors, "lengths": tensors["lengths"] + 1})
    with pytest.raises(BadFile, match="is not a clip"):
        clip.load()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"frames": 8}, InvalidInput, r"frames of a clip: given 8, expected 1 \+ 4 k"),
        ({"spacing": 0}, InvalidInput, "strides, spacing, images, dilate of clips"),
        ({"dilate": -1}, InvalidInput, "strides, spacing, images, dilate of clips"),
        ({"form": "skelton"}, UnknownName, "Did you mean 'skeleton'"),
    ],
)
def test_impossible_clips_are_refused(changes: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ClipSettings(**changes)  # type: ignore[arg-type]
