"""Films of dreams during a training: a model that is right dreams the truth, and a dream is what its world dreams."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training import tiny_diffusion as tiny
from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.sampler import PUBLISHED, Schedule
from vap_sim.training.clips import Clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    pytest.importorskip("diffusers")
    folder = tmp_path_factory.mktemp("previews")
    return tiny.data_set(tiny.record(folder / "films", [3]), folder / "cache").clips[0].load()


class Oracle:
    """Predicts the velocity that leads to the clip it knows, and notes what it was shown."""

    def __init__(self, clip: Clip, schedule: Schedule) -> None:
        self.clean, self.schedule = clip.latents[None], schedule
        self.backbone = SimpleNamespace(config=SimpleNamespace(condition_channels=4))
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self, latents: Tensor, levels: Tensor, _text: Tensor, images: Tensor, prompt: Any, _alone: Tensor, stream: bool
    ) -> Tensor:
        clean = self.clean[:, : latents.shape[1]]
        self.calls.append({"latents": latents, "levels": levels, "images": images, "prompt": prompt, "stream": stream})
        alpha = self.schedule.alpha(levels).float()[..., None, None, None]
        return (alpha.sqrt() * latents - clean) / (1 - alpha).sqrt()


def previews(denoiser: Any, *, stream: bool, steps: int = 3) -> Any:
    from vap_sim.models.cogvideox.codec import TinyCodec
    from vap_sim.models.cogvideox.text import HashedWords
    from vap_sim.training.previews import Previews

    text, schedule = HashedWords(6, 8), Schedule.of(PUBLISHED)
    return Previews(denoiser, TinyCodec(4), text, schedule, nullcontext, torch.device("cpu"), stream, steps, seed=0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_is_right_dreams_the_truth(stream: bool, clip: Clip) -> None:
    oracle = Oracle(clip, Schedule.of(PUBLISHED))
    film = previews(oracle, stream=stream).dream(clip, 0)
    assert film.shape == (9, 3, 32, 96)
    dream, truth, prompt = film[..., :32].int(), film[..., 32:64].int(), film[..., 64:]
    assert (dream - truth).abs().max() <= 1
    assert torch.equal(prompt, clip.prompt.skeleton[0, 0].permute(0, 3, 1, 2))
    assert all(torch.equal(call["images"], clip.images[:1][None]) for call in oracle.calls)


def test_a_stream_is_dreamt_from_its_own_clean_frames(clip: Clip) -> None:
    oracle = Oracle(clip, Schedule.of(PUBLISHED))
    previews(oracle, stream=True).dream(clip, 0)
    assert [call["latents"].shape[1] for call in oracle.calls] == [2, 2, 2, 3, 3, 3]
    for call in oracle.calls:
        known = call["latents"].shape[1] - 1
        assert not call["levels"][:, :known].any() and call["levels"][0, known] > 0 and call["stream"]
        assert torch.allclose(call["latents"][:, :known], clip.latents[None, :known], atol=1e-4)
        assert call["prompt"].pixel_frames == 1 + 4 * known


def test_a_clip_dreamt_at_once_shows_one_level_for_all(clip: Clip) -> None:
    oracle = Oracle(clip, Schedule.of(PUBLISHED))
    previews(oracle, stream=False, steps=2).dream(clip, 0)
    assert [call["levels"].tolist() for call in oracle.calls] == [[[999] * 3], [[499] * 3]]
    assert oracle.calls[0]["prompt"].pixel_frames == 9 and not oracle.calls[0]["stream"]


def test_dreams_follow_from_seed_and_number(clip: Clip) -> None:
    pytest.importorskip("peft")
    from vap_sim.training.diffusion import DiffusionTraining

    data: Any = [_Once(clip)]
    made = tiny.recipe(data, DiffusionTraining(mode="forcing"), preview_steps=2)
    with torch.no_grad():
        one, again, other = (made.previews.dream(clip, number) for number in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert torch.equal(one[0, :, :, :32], one[0, :, :, 32:64]), "a stream begins with the first frame"


class _Once:
    """A data set of one clip in memory."""

    name, seeds = "one", ()

    def __init__(self, clip: Clip) -> None:
        self.clips = (SimpleNamespace(load=lambda: clip),)


def test_bad_steps_are_named(clip: Clip) -> None:
    for steps in (0, 1001):
        with pytest.raises(InvalidInput, match=f"denoising steps of previews: given {steps}"):
            previews(Oracle(clip, Schedule.of(PUBLISHED)), stream=True, steps=steps)


def test_a_training_film_dreams_as_the_world_does(clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same noise given, a dream of the previews is the stream of a world with the same weights."""
    from dataclasses import replace

    from vap_sim.models.cogvideox.codec import TinyCodec
    from vap_sim.models.cogvideox.parts import Parts
    from vap_sim.models.cogvideox.settings import Settings
    from vap_sim.models.cogvideox.skeleton_control import SkeletonControl
    from vap_sim.models.cogvideox.text import HashedWords
    from vap_sim.models.cogvideox.world import CogVideoXWorld
    from vap_sim.training.diffusion import Denoiser

    body = tiny.backbone()
    control = SkeletonControl(body, channels=4, width=8)
    tiny.shake(control, 1)
    body.transformer.eval()
    noise = torch.randn(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(Parts, "normals", lambda _self, _key, step, _count, **_: noise[:, [int(step[0]) + 1]])
    shown = previews(Denoiser(body, control, TinyCodec(4)), stream=True, steps=2)
    monkeypatch.setattr(type(shown), "_normals", lambda *_: noise)
    with torch.no_grad():
        film = shown.dream(clip, 0)
    parts = Parts(
        body,
        TinyCodec(4),
        HashedWords(6, 8),
        Schedule.of(PUBLISHED),
        Settings(steps=2, history=1),
        (32, 32),
        (control,),
        torch.device("cpu"),
        torch.float32,
    )
    world = CogVideoXWorld(parts)
    prompt = clip.prompt
    first = replace(prompt, skeleton=prompt.skeleton[:, :, :1], joints=None)
    start = film[0, :, :, 32:64].permute(1, 2, 0)[None, None].contiguous()
    monkeypatch.setattr(type(parts.codec), "encode", lambda _self, _frames: clip.latents[None, :1])
    state = world.encode(start, first, [0])
    for step in range(2):
        part = prompt.skeleton[:, :, 1 + 4 * step : 5 + 4 * step]
        state, frames = world.step(state, replace(first, skeleton=part))
        dreamt = film[1 + 4 * step : 5 + 4 * step, :, :, :32].permute(0, 2, 3, 1).int()
        assert (frames[0, 0].int() - dreamt).abs().max() <= 1
