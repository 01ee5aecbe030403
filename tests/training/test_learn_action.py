"""`vap-sim learn-action`: one clip in, one named motion out, which a world is then told; killed runs go on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training import tiny_diffusion as tiny
from tests.training.test_flexiact_clips import film
from vap_sim.cli import main
from vap_sim.models.checkpoint import read_description

pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore:.*is resampled")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny world and a clip."""
    from vap_sim.models.cogvideox.loading import Header, save_world

    path = tmp_path_factory.mktemp("learn")
    settings = {"mode": "chunk", "chunk": 9, "steps": 2, "guidance": 1.0}
    save_world(path / "world", tiny.backbone(), Header((32, 32), 8.0, "vap", 9, 4, True, None, settings))
    film(path / "clip.mp4")
    return path


def learn(folder: Path, out: Path, *options: str) -> int:
    told = ["learn-action", str(folder / "clip.mp4"), "--name", "wave", "--weights", str(folder / "world")]
    few = ["--steps", "4", "--crops", "2", "--tokens", "5", "--threads", "1", "--preview-every", "4"]
    return main([*told, "--out", str(out), *few, "--preview-steps", "2", "--log-every", "1", *options])


def test_a_clip_becomes_a_motion_that_a_world_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vap_sim.models.cogvideox.world import CogVideoXWorld
    from vap_sim.models.conditioners.flexiact_files import load_flexiact
    from vap_sim.prompts.visual_prompt import VisualPrompt

    out = tmp_path / "wave.safetensors"
    assert learn(folder, out, "--caption", "a square moves") == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert {path.name for path in tmp_path.iterdir()} == {"wave.safetensors", "wave-run"}
    about = read_description(out)["description"]
    assert (about["clip"], about["caption"], about["steps"], about["alpha"]) == ("clip.mp4", "a square moves", 4, 1.0)
    card = (tmp_path / "wave-run" / "README.md").read_text()
    assert "The motion 'wave' of world" in card and "windows: 2" in card and "4 of 4 steps" in card
    plain = CogVideoXWorld.load(folder / "world")
    conditioner = load_flexiact(plain.parts.backbone, [out])
    assert conditioner.settings["motions"] == {"wave": 5} and conditioner.tokens.of("wave").abs().max() > 1e-4
    world = CogVideoXWorld.load(folder / "world", control=conditioner)
    picture = torch.full((1, 1, 32, 32, 3), 90, dtype=torch.uint8)
    black = torch.zeros(1, 1, 9, 32, 32, 3, dtype=torch.uint8)
    dreams = []
    for one in (plain, world):
        state = one.encode(picture, VisualPrompt(black[:, :, :1], motion=("wave",)), [1])
        dreams.append(one.step(state, VisualPrompt(black[:, :, :8]))[1])
    assert not torch.equal(*dreams)
    shown = _logged(tmp_path / "wave-run" / "training" / "tensorboard", "dreams/0")
    assert shown.shape == (9, 32, 64, 3), "dream and truth side by side"


def _logged(folder: Path, name: str) -> Any:
    import av
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    assert {"loss", "terms/velocity", "terms/temporal"} <= set(events.Tags()["scalars"])
    (shown,) = events.Images(name)
    with av.open(io.BytesIO(shown.encoded_image_string), "r") as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_the_same_command_goes_on_after_a_kill(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vap_sim.models.checkpoint import load_tensors
    from vap_sim.training.flexiact import FlexiActRecipe

    assert learn(folder, tmp_path / "whole.safetensors") == 0
    whole, out = load_tensors(tmp_path / "whole.safetensors")[0], tmp_path / "part.safetensors"
    found = FlexiActRecipe.loss

    def killed(recipe: Any, step: int) -> Any:
        if step == 3:
            raise KeyboardInterrupt
        return found(recipe, step)

    with monkeypatch.context() as patch:
        patch.setattr(FlexiActRecipe, "loss", killed)
        assert learn(folder, out, "--checkpoint-every", "2") == 130
    assert "interrupted; what was finished is kept" in capsys.readouterr().err and not out.exists()
    assert learn(folder, out) == 0
    again = load_tensors(out)[0]
    assert again.keys() == whole.keys() == {"wave"} and torch.equal(again["wave"], whole["wave"])
    assert learn(folder, out, "--tokens", "6") == 1
    assert "a checkpoint of" in capsys.readouterr().err.splitlines()[-1]


def test_half_precision_for_a_world_that_streams(folder: Path, tmp_path: Path) -> None:
    """As a large model needs it: weights of 16 bits, inner values computed again, frames of levels of their own."""
    from vap_sim.models.checkpoint import load_tensors

    out = tmp_path / "wave.safetensors"
    assert learn(folder, out, "--precision", "bf16", "--checkpointing", "--mode", "forcing", "--crops", "1") == 0
    tokens = load_tensors(out)[0]["wave"]
    assert tokens.dtype == torch.float32 and tokens.isfinite().all() and tokens.any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--name", "a/b"], "name of a motion: given 'a/b', expected 1 to 64 letters"),
        (["--out", "wave.pt"], "--out: given wave.pt, expected a name that ends in .safetensors"),
        (["--frames", "13"], "--frames: given 13, expected at most 9, as the model was trained with"),
        (["--frames", "8"], "frames of a window: given 8"),
        (["--weights", "{}/none"], "no such folder"),
        (["--mode", "chunks"], "unknown mode of training 'chunks'. Did you mean 'chunk'?"),
        (["--alpha", "nan"], "alpha of a noise bias: given nan"),
        (["--tokens", "0"], "tokens of the motion 'wave': given 0"),
        (["--steps", "0"], "training steps: given 0"),
        (["--crops", "0"], "crops, pictures and smallest window: given (0,"),
    ],
)
def test_what_cannot_be_learned_is_named(
    options: list[str], words: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [option.format(tmp_path) for option in options]
    assert learn(folder, tmp_path / "wave.safetensors", *told) == 1
    shown = capsys.readouterr().err
    assert words in shown.splitlines()[-1] and "Traceback" not in shown
    assert not (tmp_path / "wave-run" / "training").exists()


def test_a_clip_that_is_none_is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clip.mp4").write_text("no film")
    told = ["learn-action", str(tmp_path / "clip.mp4"), "--name", "wave", "--weights", str(folder / "world")]
    assert main([*told, "--out", str(tmp_path / "wave.safetensors")]) == 1
    assert "clip.mp4: is no video that can be read" in capsys.readouterr().err.splitlines()[-1]
