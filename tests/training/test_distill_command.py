"""The command `distill`: a teacher's folder becomes a world of few steps; what does not fit is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training import tiny_diffusion as tiny
from vap_sim.models.cogvideox.guidance import Guidance


def test_the_command_makes_a_world_that_dreams_in_few_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("diffusers")
    import gymnasium

    import vap_sim
    from vap_sim.cli import main
    from vap_sim.envs.start import load_start
    from vap_sim.models.cogvideox.world import CogVideoXWorld

    folder, school, run = tiny.record(tmp_path / "data", [1, 2]), tmp_path / "school", tmp_path / "run"
    common = ["--data", str(folder), "--steps", "2", "--cooldown", "0", "--threads", "1", "--validation", "1"]
    told = ["train", "--world", "cogvideox", "--run", str(school), *common, "--cogvideox.frames", "9"]
    told += ["--cogvideox.spacing", "4", "--cogvideox.preview-every", "99", "--cogvideox.blocks", "1"]
    assert main([*told, "--cogvideox.mode", "history"]) == 0
    teacher = school / "world"
    before = {file: file.read_bytes() for file in teacher.rglob("*") if file.is_file()}

    learn = ["distill", str(teacher), "--run", str(run), *common, "--steps-per-frame", "2", "--teacher-steps", "4"]
    learn += ["--spacing", "4", "--batch", "2", "--preview-every", "2", "--guidance", "2.0", "--lora", "2"]
    capsys.readouterr()
    assert main(learn) == 0
    assert capsys.readouterr().out.strip() == str(run / "world")
    assert {file: file.read_bytes() for file in teacher.rglob("*") if file.is_file()} == before
    card = (run / "world" / "README.md").read_text()
    assert "in 2 steps a frame" in card and "2 of 2 steps" in card and "control.safetensors" in card
    assert CogVideoXWorld.load(teacher).fingerprint in card

    worlds = [vap_sim.load_world(run / "world"), CogVideoXWorld.load(run / "world")]
    assert isinstance(worlds[0], CogVideoXWorld)
    settings = worlds[0].settings
    assert (settings.mode, settings.steps, settings.solver, settings.guiding) == ("stream", 2, "ddim", Guidance())
    assert worlds[0].spec.frame_rate == 10.0 and worlds[0].spec.size == (32, 32)
    prompt = tiny_prompt()
    states = [world.encode(prompt.skeleton[:, :, 0], prompt.between(0, 1), [3]) for world in worlds]
    films = [world.step(state, prompt.between(1, 5))[1] for world, state in zip(worlds, states, strict=True)]
    assert torch.equal(*films) and films[0].shape == (1, 1, 4, 32, 32, 3)

    env = gymnasium.make("VAPWorld-DROID-v0", world=run / "world", control_hz=10.0, video_hz=10.0)
    env.reset(seed=0, options={"start": load_start("pick_place_07").resized((32, 32))})
    for _ in range(4):
        seen = env.step(np.zeros(env.action_space.shape, np.float32))[0]
    assert seen["image"].dtype == np.uint8

    for options, words in [
        (["--steps-per-frame", "5"], "--steps-per-frame: given 5, expected 1 to 4"),
        (["--teacher-steps", "5"], "denoising steps of the teacher: given 5"),
        (["--validation", "2"], "--validation: given 2"),
        (["--frames", "33"], "--frames: given 33, expected at most 9, which the teacher"),
        (["--self-forcing", "2"], "share of dreamed histories"),
    ]:
        assert main([*learn, *options]) == 1
        assert words in capsys.readouterr().err.splitlines()[-1]


def tiny_prompt() -> Any:
    from vap_sim.prompts.visual_prompt import VisualPrompt

    source = torch.Generator().manual_seed(0)
    return VisualPrompt(torch.randint(0, 256, (1, 1, 5, 32, 32, 3), dtype=torch.uint8, generator=source))


def test_teachers_and_recordings_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("diffusers")
    from tests.models.cogvideox.worlds import tiny_backbone
    from vap_sim.cli import main
    from vap_sim.models.cogvideox.loading import Header, save_world

    folder = tiny.record(tmp_path / "data", [1, 2])
    header = Header(size=(32, 32), frame_rate=10.0, tiny_codec=8, hashed_words=True)
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("chunk", {"settings": {"mode": "chunk", "chunk": 17}}, "given chunk, expected 'stream'"),
        ("small", {"size": (48, 32)}, "given (32, 32), expected (48, 32), as the teacher makes"),
        ("fast", {"frame_rate": 8.0}, "given 10 Hz, expected 8 Hz, as the teacher makes, or a multiple"),
    ]
    for name, changed, words in cases:
        save_world(tmp_path / name, tiny_backbone(), replace(header, **changed))
        assert main(["distill", str(tmp_path / name), "--data", str(folder), "--run", str(tmp_path / "run"),
                     "--validation", "1", "--threads", "1"]) == 1  # fmt: skip
        assert words in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run" / "training").exists()
