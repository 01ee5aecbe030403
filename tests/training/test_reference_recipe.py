"""Training on pairs: the demonstration reaches the loss, one left out does not, and papers have settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training import tiny_diffusion as tiny
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.models.tensor_cache import TensorCache
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt
from vap_sim.training.clips import DataSet
from vap_sim.training.diffusion import DiffusionTraining
from vap_sim.training.loop import LoopSettings, train
from vap_sim.training.reference_clips import PairedClip, PairSettings, open_pairs
from vap_sim.training.reference_pairs import films_in, pairs_of
from vap_sim.training.reference_recipe import PRESETS, ReferenceRecipe, reference_preset, without_captions

pytest.importorskip("diffusers")
from vap_sim.models.cogvideox.codec import TinyCodec
from vap_sim.models.cogvideox.injection import Injection
from vap_sim.models.cogvideox.prepared import strength
from vap_sim.models.cogvideox.sampler import PUBLISHED, Schedule
from vap_sim.models.cogvideox.text import HashedWords

WORDS = HashedWords(6, 8)


class Shown(nn.Module):
    """The smallest conditioner: the mean of the demonstration's latents and words, added to every token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seen, self.heard = nn.Linear(tiny.CHANNELS, width), nn.Linear(8, width)

    def install(self, _backbone: Any) -> Any:
        return lambda: None

    def prepare(self, prompt: VisualPrompt, codec: Any, carry: Any = None, *, text: Any = None) -> dict[str, Tensor]:
        clip = prompt.reference
        assert clip is not None and clip.text is not None
        told = text.encode(clip.text).mean(1)
        return {"shown": self.seen(codec.encode(clip.frames).mean((1, 3, 4))) + self.heard(told)}

    def inject(self, prepared: Any, noised: Any) -> Injection:
        tokens = noised.latents.shape[1] * noised.latents.shape[3] * noised.latents.shape[4] // 4
        shown = prepared["shown"][:, None].expand(-1, tokens, -1)
        factor = strength(prepared, 1.0, noised.latents)
        return Injection(input_add=shown if factor is None else shown * factor)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = tmp_path_factory.mktemp("pairs")
    tiny.record(folder / "films" / "push", [1, 2, 3])
    chosen = pairs_of(films_in(folder / "films"), references=2)
    settings = PairSettings(frames=9, size=tiny.SIZE, images=2)
    return open_pairs(chosen, settings, TinyCodec(tiny.CHANNELS), TensorCache(folder / "cache"), progress=False)


def recipe(data: DataSet, *, together: bool = False, **training: Any) -> ReferenceRecipe:
    body = tiny.backbone()
    body.requires_grad_(False)
    torch.default_generator.manual_seed(0)
    return ReferenceRecipe(
        body,
        Shown(body.config.width),
        TinyCodec(tiny.CHANNELS),
        WORDS,
        Schedule.of(PUBLISHED),
        [data],
        DiffusionTraining(**{"batch": 2, "caption": 0.0, "control": 0.0, "image": 0.0, **training}),
        together=together,
    )


def changed(data: DataSet) -> DataSet:
    """The same targets with other demonstrations."""
    clips: list[Any] = list(data.clips)
    return DataSet(data.name, tuple(PairedClip(clip.target, Inverted(clip.reference)) for clip in clips))


class Inverted:
    def __init__(self, reference: Any) -> None:
        self.reference = reference

    def load(self) -> ReferenceClip:
        clip = self.reference.load()
        return ReferenceClip(255 - clip.frames, clip.text)


def test_the_demonstration_reaches_the_loss_and_its_gradient_the_conditioner(pairs: DataSet) -> None:
    one, other = recipe(pairs), recipe(changed(pairs))
    loss = one.loss(0)[0]
    assert float(loss.detach()) != float(other.loss(0)[0].detach())
    loss.backward()  # type: ignore[no-untyped-call]
    control: Any = one.denoiser.control
    assert all(value.grad is not None and bool(value.grad.any()) for value in control.parameters())


def test_a_demonstration_that_is_left_out_changes_nothing(pairs: DataSet) -> None:
    one, other = recipe(pairs, control=1.0), recipe(changed(pairs), control=1.0)
    assert torch.equal(one.loss(0)[0], other.loss(0)[0])


def test_captions_fall_away_together_only_where_asked(pairs: DataSet) -> None:
    rows = range(40)
    joint, alone = recipe(pairs, together=True, caption=0.5), recipe(pairs, caption=0.5)
    both, one = joint.batch(rows), alone.batch(rows)
    assert torch.equal(both.text, one.text)
    blank = [not bool(row.any()) for row in both.text]
    assert 5 < sum(blank) < 35
    for batch, together in ((both, True), (one, False)):
        clip = batch.prompt.reference
        assert clip is not None and clip.text is not None and batch.prompt.text is not None
        assert [not text for text in clip.text] == [together and gone for gone in blank]
        assert [not text for text in batch.prompt.text] == [together and gone for gone in blank]


def test_all_demonstrations_of_a_row_lose_their_captions() -> None:
    clip = ReferenceClip(torch.zeros(2, 3, 8, 8, 3, dtype=torch.uint8), ("a", "b"))
    prompt = VisualPrompt(torch.zeros(2, 1, 1, 8, 8, 3, dtype=torch.uint8), reference=replace(clip, more=(clip,)))
    gone = without_captions(prompt, torch.tensor([True, False]))
    assert gone.reference is not None and gone.text is None
    assert [one.text for one in gone.reference.each] == [("", "b"), ("", "b")]
    bare = without_captions(replace(prompt, reference=replace(clip, text=None)), torch.tensor([True, True]))
    assert bare.reference is not None and bare.reference.text is None


def test_clips_without_demonstration_are_refused(pairs: DataSet) -> None:
    clips: list[Any] = list(pairs.clips)
    with pytest.raises(InvalidInput, match="no demonstration"):
        recipe(DataSet("bare", tuple(clip.target for clip in clips)))


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(pairs: DataSet, tmp_path: Path) -> None:
    def run(folder: str, steps: int) -> dict[str, Tensor]:
        settings = LoopSettings(tmp_path / folder, steps, None, 1e-2, 1, average=0.5, checkpoint_every=2, log_every=1)
        return train(recipe(pairs, control=0.3, caption=0.3, together=True), settings).weights

    whole = run("whole", 4)
    run("parts", 2)
    assert tiny.same(run("parts", 4), whole)


def test_the_papers_settings_can_be_used(tmp_path: Path) -> None:
    assert set(PRESETS) == {"action_prism", "video_as_prompt", "flexiact_adapter", "flexiact_tokens"}
    shown = reference_preset("video_as_prompt")
    assert shown.together and shown.training.caption == 0.02 and shown.training.control == 0
    loop = shown.loop_settings(tmp_path)
    assert (loop.steps, loop.learning_rate, loop.warmup, loop.betas) == (20_000, 1e-5, 1000, (0.9, 0.99))
    tokens = reference_preset("flexiact_tokens").loop_settings(tmp_path, 100)
    assert (tokens.steps, tokens.cooldown, tokens.learning_rate, tokens.betas) == (100, 100, 3e-3, (0.9, 0.95))
    prism = reference_preset("action_prism")
    assert prism.loop_settings(tmp_path, 10, log_every=2).log_every == 2 and prism.rows == 16
    with pytest.raises(InvalidInput, match="does not say"):
        prism.loop_settings(tmp_path)
    with pytest.raises(UnknownName, match="Did you mean 'video_as_prompt'"):
        reference_preset("video-as-prompt")
    with pytest.raises(InvalidInput, match="betas"):
        LoopSettings(tmp_path, 1, betas=(0.9, 1.0))
