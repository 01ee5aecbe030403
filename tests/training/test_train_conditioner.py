"""`vap-sim train-conditioner`: films of actions in, weights of a system out that a world is then shown actions with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import tiny_diffusion as tiny
from tests.training.test_flexiact_clips import film
from vap_sim.cli import main
from vap_sim.models.checkpoint import load_tensors, read_description

pytest.importorskip("diffusers")
pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:.*resampled")
DEMONSTRATED = ("action_prism", "video_as_prompt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny world, and two films of each of two actions."""
    from vap_sim.models.cogvideox.loading import Header, save_world

    path = tmp_path_factory.mktemp("conditioner")
    settings = {"mode": "chunk", "chunk": 9, "steps": 2, "guidance": 1.0}
    save_world(path / "world", tiny.backbone(), Header((32, 32), 8.0, "vap", 9, 4, True, None, settings))
    for action, frames in (("slide", 12), ("dash", 9)):
        (path / "films" / action).mkdir(parents=True)
        for number in range(2):
            film(path / "films" / action / f"{number}.mp4", frames + number)
    return path


def teach(folder: Path, system: str, out: Path, *options: str) -> int:
    told = ["train-conditioner", str(folder / "films"), "--with", system, "--weights", str(folder / "world")]
    few = ["--steps", "3", "--accumulate", "1", "--prism", "tiny", "--rank", "4", "--threads", "1", "--log-every", "1"]
    return main([*told, "--out", str(out), *few, "--preview-every", "3", "--preview-steps", "2", *options])


def dream(folder: Path, conditioner: Any, shown: int) -> torch.Tensor:
    from vap_sim.models.cogvideox.world import CogVideoXWorld
    from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt

    world = CogVideoXWorld.load(folder / "world", control=conditioner)
    picture = torch.full((1, 1, 32, 32, 3), 90, dtype=torch.uint8)
    black = torch.zeros(1, 1, 9, 32, 32, 3, dtype=torch.uint8)
    clip = ReferenceClip(torch.full((1, 9, 32, 32, 3), shown, dtype=torch.uint8), ("it moves",))
    state = world.encode(picture, VisualPrompt(black[:, :, :1], None, clip, (), ("it moves",)), [1])
    return world.step(state, VisualPrompt(black[:, :, :8]))[1]


@pytest.mark.parametrize("system", DEMONSTRATED)
def test_films_become_a_system_that_a_world_is_shown_actions_with(
    system: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vap_sim.models.cogvideox.world import CogVideoXWorld
    from vap_sim.models.conditioners.action_prism_file import load_action_prism
    from vap_sim.models.conditioners.video_as_prompt_file import load_video_as_prompt

    out = tmp_path / "system.safetensors"
    assert teach(folder, system, out, "--blocks", "first_and_last", "--learning-rate", "0.01") == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert {path.name for path in tmp_path.iterdir()} == {"system.safetensors", "system-run"}
    assert read_description(out)["description"]["steps"] == 3
    card = (tmp_path / "system-run" / "README.md").read_text()
    assert "for world" in card and "clips: 4" in card and "3 of 3 steps" in card
    backbone = CogVideoXWorld.load(folder / "world").parts.backbone
    load = load_action_prism if system == "action_prism" else load_video_as_prompt
    films = [dream(folder, load(out, backbone), shown) for shown in (10, 240)]
    assert not torch.equal(*films), "what is shown must matter"


def test_a_prism_may_learn_from_pairs_alone_first(folder: Path, tmp_path: Path) -> None:
    plain, first = tmp_path / "plain.safetensors", tmp_path / "first.safetensors"
    assert teach(folder, "action_prism", plain) == 0
    assert teach(folder, "action_prism", first, "--pretrain", "4") == 0
    assert (tmp_path / "first-run" / "pretraining").is_dir() and not (tmp_path / "plain-run" / "pretraining").exists()
    encoders = [{n: v for n, v in load_tensors(path)[0].items() if n.startswith("encoder.")} for path in (plain, first)]
    moved = [float((encoders[0][name] - value).abs().max()) for name, value in encoders[1].items()]
    assert max(moved) > 1e-3, "four steps at the rate of that stage move it further than three of training"
    assert teach(folder, "action_prism", first, "--pretrain", "4") == 0, "what is finished is not done again"
    assert teach(folder, "video_as_prompt", plain, "--pretrain", "4") == 1


def test_films_become_an_adapter(folder: Path, tmp_path: Path) -> None:
    from vap_sim.models.cogvideox.world import CogVideoXWorld
    from vap_sim.models.conditioners.flexiact_files import load_adapter

    out = tmp_path / "adapter.safetensors"
    assert teach(folder, "flexiact_adapter", out, "--learning-rate", "0.01") == 0
    adapter = load_adapter(out, CogVideoXWorld.load(folder / "world").parts.backbone)
    assert adapter.rank == 4
    learned = [value for name, value in (adapter.weights or {}).items() if ".lora_B." in name]
    assert learned and all(value.any() for value in learned)


def test_the_same_command_goes_on_after_a_kill(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vap_sim.training.reference_recipe import ReferenceRecipe

    assert teach(folder, "action_prism", tmp_path / "whole.safetensors") == 0
    whole, out = load_tensors(tmp_path / "whole.safetensors")[0], tmp_path / "part.safetensors"
    found = ReferenceRecipe.loss

    def killed(recipe: Any, step: int) -> Any:
        if step == 2:
            raise KeyboardInterrupt
        return found(recipe, step)

    with monkeypatch.context() as patch:
        patch.setattr(ReferenceRecipe, "loss", killed)
        assert teach(folder, "action_prism", out, "--checkpoint-every", "1") == 130
    assert not out.exists()
    assert teach(folder, "action_prism", out) == 0
    again = load_tensors(out)[0]
    assert again.keys() == whole.keys() and all(torch.equal(again[name], whole[name]) for name in whole)


@pytest.mark.parametrize("system", [*DEMONSTRATED, "flexiact_adapter"])
def test_half_precision_and_rows_that_are_shown_nothing(system: str, folder: Path, tmp_path: Path) -> None:
    """As a large model needs it: a model of 16 bits, inner values computed again; what is learned has 32."""
    out = tmp_path / "a.safetensors"
    assert teach(folder, system, out, "--precision", "bf16", "--checkpointing", "--dropout", "0.5", "--batch", "2") == 0
    weights = load_tensors(out)[0].values()
    assert all(value.isfinite().all() for value in weights)
    assert {value.dtype for value in weights} == {torch.float32}


def test_what_the_authors_say_is_the_default(folder: Path, tmp_path: Path) -> None:
    from vap_sim.commands.train_conditioner import TrainConditioner, _loop_settings
    from vap_sim.training.parallel import ALONE

    films, world, out = folder / "films", str(folder / "world"), tmp_path / "a.safetensors"
    expert = _loop_settings(TrainConditioner(films, "video_as_prompt", world, out), ALONE)
    assert (expert.steps, expert.learning_rate, expert.accumulate) == (20_000, 1e-5, 48)
    adapter = _loop_settings(TrainConditioner(films, "flexiact_adapter", world, out, batch=4), ALONE)
    assert (adapter.steps, adapter.accumulate) == (40_000, 2)


@pytest.mark.parametrize(
    ("system", "options", "words"),
    [
        ("action_prisms", [], "unknown system for --with 'action_prisms'. Did you mean 'action_prism'?"),
        ("action_prism", ["--out", "wave.pt"], "--out: given wave.pt, expected a name that ends in .safetensors"),
        ("action_prism", ["--frames", "13"], "--frames: given 13, expected at most 9, as the model was trained with"),
        ("action_prism", ["--references", "0"], "references of a target: given 0"),
        ("video_as_prompt", ["--blocks", "firstandlast"], "Did you mean 'first_and_last'?"),
        ("video_as_prompt", ["--weights", "{}/none"], "no such folder"),
    ],
)
def test_what_cannot_be_trained_is_named(
    system: str, options: list[str], words: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [option.format(tmp_path) for option in options]
    assert teach(folder, system, tmp_path / "a.safetensors", *told) == 1
    shown = capsys.readouterr().err
    assert words in shown and "Traceback" not in shown
    assert not (tmp_path / "a-run" / "training").exists()


def test_steps_must_be_given_where_the_authors_do_not_say(folder: Path, tmp_path: Path) -> None:
    from vap_sim.commands.train_conditioner import TrainConditioner, run
    from vap_sim.errors import InvalidInput

    command = TrainConditioner(folder / "films", "action_prism", str(folder / "world"), tmp_path / "a.safetensors")
    with pytest.raises(InvalidInput, match="steps of training"):
        run(command)
