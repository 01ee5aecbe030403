"""What a training of CogVideoX leaves behind: weights that load, with a card that says how they came to be."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training import tiny_diffusion as tiny
from vap_sim.data.twin import episode_files, load_episode, save_episode
from vap_sim.training.card import Card, ranges, write_card
from vap_sim.training.loop import Outcome
from vap_sim.training.parallel import ALONE, Team

# The card


def test_a_card_says_how_the_weights_came_to_be(tmp_path: Path) -> None:
    import hashlib

    weights = tmp_path / "control.safetensors"
    weights.write_bytes(b"weights")
    outcome = Outcome(40, 50, {}, {step: 1 / step for step in range(1, 41)}, 12.4)
    told = {"twin": {"episodes": 3, "clips": 9, "seeds": ranges([4, 2, 3, 9])}}
    card = Card("A model", "vap-sim train", {"loop": {"steps": 50, "folder": tmp_path}}, told, (weights,))
    text = write_card(tmp_path, card, outcome, ALONE).read_text()
    assert "# A model" in text and "40 of 50 steps in 12 seconds" in text and "1 process," in text
    assert hashlib.sha256(b"weights").hexdigest() in text and "episodes: 3, clips: 9, seeds: 2-4, 9" in text
    losses = re.findall(r"^\| (\d+) \| (\d\.\d{4}) \|$", text, re.MULTILINE)
    assert losses[0] == ("1", "1.0000") and losses[-1] == ("40", "0.0250") and len(losses) <= 16
    assert '"steps": 50' in text and str(tmp_path) in text
    empty = write_card(tmp_path, replace(card, weights=()), replace(outcome, losses={}), Team(0, 2, shard=True))
    assert "No step was logged." in empty.read_text() and "2 processes, weights split" in empty.read_text()
    with pytest.raises(FileNotFoundError):
        write_card(tmp_path, replace(card, weights=(tmp_path / "none",)), outcome, ALONE)
    assert not list(tmp_path.glob("*.partial"))


# The command


def test_the_command_trains_a_small_world_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("diffusers")
    from vap_sim.cli import main
    from vap_sim.models.cogvideox.world import CogVideoXWorld

    folder, more = tiny.record(tmp_path / "data", [1, 2]), tiny.record(tmp_path / "more", [5])
    run = tmp_path / "run"
    told = ["train", "--world", "cogvideox", "--data", str(folder), "--run", str(run), "--validation", "1"]
    told += ["--steps", "2", "--cooldown", "0", "--threads", "1", "--cogvideox.frames", "9"]
    told += ["--cogvideox.spacing", "4", "--cogvideox.also", str(more), "--cogvideox.preview-every", "2"]
    told += ["--cogvideox.preview-steps", "2", "--cogvideox.model", "small"]
    assert main(told) == 0
    assert capsys.readouterr().out.strip() == str(run / "world")
    world = CogVideoXWorld.load(run / "world")
    assert world.spec.size == (32, 32) and world.spec.frame_rate == 10.0  # as recorded
    assert (world.settings.chunk, world.settings.steps, world.settings.guidance) == (9, 10, 1.0)
    assert (world.config.width, world.config.latent_channels, world.config.blocks) == (128, 24, 4)
    dream = _logged(run / "training" / "tensorboard", "dreams/0")
    assert dream.shape == (9, 32, 96, 3), "dream, truth and prompt side by side, for the clip's nine frames"
    dreamt, truth, prompt = np.split(dream.astype(int), 3, axis=2)
    assert not prompt[:, 0, 0].any() and prompt.any(), "a drawing on black"
    assert np.abs(truth - prompt).mean() > 5 and np.abs(dreamt - truth).mean() > 1, "two steps teach no dreaming"
    card = (run / "world" / "README.md").read_text()
    assert "seeds: 1 " in card and "seeds: 5" in card and "2 of 2 steps" in card and "control.safetensors" in card
    for options, words in [
        (
            ["--cogvideox.lora", "0", "--world", "cogvideo"],
            "unknown world to train 'cogvideo'. Did you mean 'cogvideox'",
        ),
        (["--validation", "2"], "--validation: given 2"),
        (["--cogvideox.frames", "8"], "frames of a clip: given 8"),
        (["--cogvideox.mode", "strem"], "unknown mode of training 'strem'"),
        (["--cogvideox.preview-steps", "0"], "denoising steps of previews: given 0"),
    ]:
        assert main([*told, *options]) == 1
        assert words in capsys.readouterr().err.splitlines()[-1]


def _logged(folder: Path, name: str) -> NDArray[np.uint8]:
    """The frames (T, H, W, 3) of a film in an event file."""
    import av
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    (shown,) = events.Images(name)
    with av.open(io.BytesIO(shown.encoded_image_string), "r") as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_recordings_of_two_rates_are_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("diffusers")
    from vap_sim.cli import main

    folder, more = tiny.record(tmp_path / "data", [1, 2]), tiny.record(tmp_path / "more", [5])
    (file,) = episode_files(more)
    episode = load_episode(file)
    save_episode(file, replace(episode, meta={**episode.meta, "control_dt": 0.2}))
    told = ["train", "--world", "cogvideox", "--data", str(folder), "--run", str(tmp_path / "run"), "--validation", "1"]
    told += ["--steps", "2", "--cooldown", "0", "--threads", "1", "--cogvideox.frames", "9"]
    assert main([*told, "--cogvideox.also", str(more)]) == 1
    assert "recordings to train on: given steps of [0.1, 0.2] s" in capsys.readouterr().err
    assert not (tmp_path / "run" / "training").exists()
