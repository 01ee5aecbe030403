"""Clips and embeddings on disk: made once, never half, keyed by all that decides them; and what a clip is made of."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.training import tiny_diffusion as tiny
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.models.cogvideox.codec import TinyCodec
from vap_sim.models.cogvideox.text import HashedWords, check_captions
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot
from vap_sim.training.clips import ClipSettings, caption_of, noised_images, open_data_set, path_of, region_of
from vap_sim.training.latents import CachedText, TensorCache, fingerprint, key_of
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


# The cache


def test_what_was_put_comes_back_and_only_whole_files_have_its_name(tmp_path: Path) -> None:
    cache, values = TensorCache(tmp_path), {"a": torch.arange(4.0), "b": torch.zeros(2, 3, dtype=torch.uint8)}
    key = key_of(a=1)
    assert not cache.has(key)
    cache.put(key, values)
    assert cache.has(key) and tiny.same(cache.get(key), values) and len(list(tmp_path.iterdir())) == 1
    whole = cache.path(key).read_bytes()
    for length in (0, 7, 60, len(whole) - 1):
        cache.path(key).write_bytes(whole[:length])
        assert not cache.has(key)
        with pytest.raises(BadFile, match="not a whole safetensors file"):
            cache.get(key)
    assert tiny.same(cache.made(key, lambda: values), values) and cache.has(key)


def test_a_file_under_the_name_of_another_is_not_taken(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path)
    cache.put("one", {"a": torch.zeros(1)})
    cache.path("one").rename(cache.path("two"))
    assert not cache.has("two")
    with pytest.raises(BadFile, match="holds 'one', which its name does not say"):
        cache.get("two")


def test_a_kill_while_writing_leaves_nothing_under_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vap_sim.models import checkpoint

    def killed(tensors: object, path: Path, metadata: object) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        TensorCache(tmp_path).put("one", {"a": torch.zeros(1)})
    assert not TensorCache(tmp_path).has("one") and list(tmp_path.iterdir()) == []


def _write_often(folder: Path, value: float) -> None:
    for _ in range(20):
        TensorCache(folder).put("shared", {"a": torch.full((50000,), value)})


def test_processes_that_write_the_same_key_do_not_spoil_it(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    others = [fork.Process(target=_write_often, args=(tmp_path, value)) for value in (1.0, 2.0)]
    for other in others:
        other.start()
    cache, seen = TensorCache(tmp_path), 0
    while any(other.is_alive() for other in others):
        if cache.path("shared").is_file():
            values = cache.get("shared")["a"]
            assert (values == values[0]).all()
            seen += 1
    for other in others:
        other.join()
        assert other.exitcode == 0
    assert seen and [path.name for path in tmp_path.iterdir()] == ["shared.safetensors"]


def test_keys_and_fingerprints_tell_apart_what_decides(tmp_path: Path) -> None:
    assert key_of(a=1, b="x") == key_of(b="x", a=1) != key_of(a=2, b="x")
    assert fingerprint(TinyCodec(4)) == fingerprint(TinyCodec(4)) != fingerprint(TinyCodec(5))
    assert fingerprint(HashedWords(6, 8)) != fingerprint(HashedWords(7, 8))

    class Learned:
        def __init__(self, value: float) -> None:
            self.network = torch.nn.Linear(2, 1).to(torch.bfloat16)
            torch.nn.init.constant_(self.network.weight, value)
            torch.nn.init.zeros_(self.network.bias)

    assert fingerprint(Learned(1.0)) == fingerprint(Learned(1.0)) != fingerprint(Learned(2.0))


def test_a_caption_is_embedded_once_and_the_same_from_disk(tmp_path: Path) -> None:
    class Once(HashedWords):
        asked: list[str]

        def encode(self, captions: object) -> Tensor:
            self.asked.extend(captions)  # type: ignore[arg-type]
            return super().encode(captions)  # type: ignore[arg-type]

    words = Once(6, 8)
    words.asked = []
    cached = CachedText(words, TensorCache(tmp_path), "words")
    captions = ["push the cube", "", "push the cube"]
    expected = HashedWords(6, 8).encode(captions)
    assert torch.equal(cached.encode(captions), expected) and torch.equal(cached.encode(captions), expected)
    assert words.asked == ["push the cube", ""] and (cached.length, cached.width) == (6, 8)
    again = CachedText(words, TensorCache(tmp_path), "words")
    assert torch.equal(again.encode(captions), expected) and len(words.asked) == 2
    assert cached.encode([]).shape == (0, 6, 8)
    CachedText(words, TensorCache(tmp_path), "others").encode([""])
    assert len(words.asked) == 3


class Wide(HashedWords):
    """Embeddings large enough that writing one takes a while."""

    def __init__(self) -> None:
        super().__init__(64, 512)

    def encode(self, captions: Sequence[str]) -> Tensor:
        check_captions(captions)
        return torch.stack([torch.full((64, 512), float(len(caption))) for caption in captions])


def _tell_at_once(folder: Path, meeting: Barrier, lengths: Sequence[int]) -> None:
    for length in lengths:
        cached = CachedText(Wide(), TensorCache(folder))
        meeting.wait(60)
        assert bool((cached.encode(["x" * length]) == length).all())


def test_processes_that_embed_the_same_captions_at_once_agree(tmp_path: Path) -> None:
    fork, lengths = multiprocessing.get_context("fork"), range(1, 25)
    meeting = fork.Barrier(2)
    others = [fork.Process(target=_tell_at_once, args=(tmp_path, meeting, lengths)) for _ in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert [other.exitcode for other in others] == [0, 0]
    assert len(list(tmp_path.iterdir())) == len(lengths), "a file for each caption, nothing else"
    with pytest.raises(InvalidInput, match="captions: given just one"):
        CachedText(Wide(), TensorCache(tmp_path)).encode("just one")


def test_an_embedding_of_another_shape_is_named(tmp_path: Path) -> None:
    cached = CachedText(HashedWords(6, 8), TensorCache(tmp_path), "words")
    cached.encode(["x"])
    path = next(tmp_path.iterdir())
    key = path.stem
    save_file({"text": torch.zeros(5, 8)}, path, metadata={"description": json.dumps({"key": key})})
    with pytest.raises(BadFile, match=r"tensor 'text' is \(5, 8\), expected \(6, 8\)"):
        CachedText(HashedWords(6, 8), TensorCache(tmp_path), "words").encode(["x"])


# Clips


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
    with pytest.raises(BadFile, match="cannot be read"):
        from vap_sim.training.latents import hash_file

        hash_file(tmp_path / "none")


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
