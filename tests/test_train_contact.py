"""The command `train` for what moves things in space: on weights that lack it, on weights that have it, and stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.test_train_command import tensors, train
from vap_sim.data.twin import save_episode
from vap_sim.errors import InvalidInput
from vap_sim.models.checkpoint import read_description, save_tensors

QUICK = ("--cooldown", "0", "--parts", "contact")


@pytest.fixture(name="episodes", scope="module")
def _episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes of thirteen frames by one camera."""
    pytest.importorskip("pybullet")
    from vap_sim.envs.twin_recorder import RecorderSettings, record_episode

    folder = tmp_path_factory.mktemp("episodes")
    for seed in (5, 6):
        episode = record_episode(seed, RecorderSettings(steps=12, size=(32, 32), views=("exterior_1",)))
        save_episode(folder / f"{seed}.vap.npz", episode)
    return folder


@pytest.fixture(name="weights")
def _weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Makes `train` take a small network and few things, and gives weights of that network by what it shall have."""
    from vap_sim.models.compact import network
    from vap_sim.training import contact

    import_module("vap_sim.models.compact.model")  # takes its CompactConfig before that is replaced
    net = network.UNetConfig((8,), (1,))
    config = partial(network.CompactConfig, size=32, style=2, scene=net, motion=net, robot=net)
    monkeypatch.setattr(network, "CompactConfig", config)
    few = partial(contact.ContactTraining, batch=8, length=2, late=3)
    monkeypatch.setattr(contact, "ContactTraining", few)

    def make(seed: int = 1, **has: bool) -> Path:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = network.CompactNetwork(config(**has))  # type: ignore[arg-type]
        path = tmp_path / f"weights {seed} {sorted(has)}.safetensors"
        described = {"name": "compact", "network": json.loads(json.dumps(asdict(made.config))), "profile": "compact"}
        save_tensors(path, made.stored(), {**described, "frame_rates": [3.0]})
        return path

    return make


def parted(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors of a file: those of contact, and the others."""
    every = tensors(path)
    own = {name: value for name, value in every.items() if name.startswith("contact.")}
    return own, {name: value for name, value in every.items() if name not in own}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    assert one.keys() == other.keys()
    return all(value.dtype == other[name].dtype and torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("carry", [True, False])
def test_weights_learn_what_is_touched_and_keep_all_else(
    carry: bool, episodes: Path, weights: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vap_sim.models.compact.opening import CompactWorlds
    from vap_sim.models.compact.touching import ByTouch
    from vap_sim.models.compact.views import CompactViews

    start, run = weights(carry=carry), tmp_path / "run"
    assert train(episodes, run, *QUICK, "--contact-steps", "2", "--weights", str(start)) == 0
    path = run / "compact.safetensors"
    assert capsys.readouterr().out.strip() == str(path)
    own, others = parted(path)
    assert own and {value.dtype for value in own.values()} == {torch.float32}
    assert same(others, tensors(start)) and {value.dtype for value in others.values()} == {torch.bfloat16}
    assert same(own, tensors(run / "contact.safetensors"))
    described = read_description(path)
    assert described["network"]["contact"] is True and described["network"]["carry"] is carry
    assert described["step"] == {"contact": 2} and described["frame_rates"] == [5.0]  # of what it was trained on
    world = CompactWorlds.load(path)
    assert isinstance(world, CompactViews) and isinstance(world.mover, ByTouch)
    told = json.loads((run / "run.json").read_text())
    assert told["step"] == {"contact": 2} and told["command"]["contact_steps"] == "2"


def test_what_was_trained_before_is_trained_on(episodes: Path, weights: Callable[..., Path], tmp_path: Path) -> None:
    """From its own weights: without a step they are kept to the bit, and a step changes them."""
    start = weights(contact=True)
    for steps, kept in (("0", True), ("1", False)):
        run = tmp_path / steps
        stop = ("--minutes", "0") if kept else ()
        assert train(episodes, run, *QUICK, "--contact-steps", "1", "--weights", str(start), *stop) == 0
        own, others = parted(run / "compact.safetensors")
        before, pictures = parted(start)
        assert same(own, before) == kept and same(others, pictures)


@pytest.mark.parametrize("part", ["pictures", "motion"])
def test_training_of_other_parts_keeps_what_is_touched(
    part: str, episodes: Path, weights: Callable[..., Path], tmp_path: Path
) -> None:
    start, run = weights(contact=True), tmp_path / "run"
    assert train(episodes, run, "--minutes", "0", "--parts", part, "--weights", str(start)) == 0
    path = run / "compact.safetensors"
    assert read_description(path)["network"]["contact"] is True
    assert same(parted(path)[0], parted(start)[0])


def test_other_parts_alone_make_no_contact_network(
    episodes: Path, weights: Callable[..., Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert train(episodes, run, "--minutes", "0", "--parts", "motion", "--weights", str(weights())) == 0
    path = run / "compact.safetensors"
    assert not parted(path)[0] and read_description(path)["network"]["contact"] is False


def test_a_run_that_was_stopped_goes_on(episodes: Path, weights: Callable[..., Path], tmp_path: Path) -> None:
    """Stopped at once, or after a step: it ends with the bits of one that was not."""
    options = (*QUICK, "--weights", str(weights()), "--contact-steps", "3")
    for run, stops in (("whole", [()]), ("stopped", [("--minutes", "0"), ()])):
        for stop in stops:
            assert train(episodes, tmp_path / run, *options, *stop) == 0
    assert train(episodes, tmp_path / "broken", *options[:-1], "2") == 0
    told = json.loads((tmp_path / "broken" / "run.json").read_text())
    assert told["step"] == {"contact": 2}
    whole, stopped = (tensors(tmp_path / run / "compact.safetensors") for run in ("whole", "stopped"))
    assert same(whole, stopped)
    assert not same(whole, tensors(tmp_path / "broken" / "compact.safetensors"))


def test_things_are_followed_for_longer_after_a_share_of_the_training(
    episodes: Path, weights: Callable[..., Path], tmp_path: Path
) -> None:
    """And the contact network learns faster than the others."""
    from vap_sim.commands.train import Train, _recipe, _settings

    found = sorted(episodes.glob("*.npz"))
    command = Train(
        episodes, tmp_path / "run", contact_steps=200, cooldown=10, parts=("contact",), seed=4, weights=weights()
    )
    recipe: Any = _recipe(command, "contact", 1, (found[:1], found[1:]))
    assert (recipe.training.grow, recipe.training.seed) == (110, 4)
    settings = [_settings(command, part) for part in ("contact", "motion")]
    assert settings[0].steps == 200 and settings[0].learning_rate == pytest.approx(2.5 * settings[1].learning_rate)


def test_what_moves_things_in_space_may_be_left_out_and_nothing_else(tmp_path: Path) -> None:
    """Of what is not trained now the run must have weights of its own, of every part."""
    from vap_sim.commands.train import Train, _check

    run = tmp_path / "run"
    _check(Train(tmp_path, run, parts=("pictures", "motion")))
    run.mkdir()
    for there, missing in ((None, "pictures"), ("pictures", "motion")):
        if there is not None:
            (run / f"{there}.safetensors").touch()
        with pytest.raises(InvalidInput, match=f"given .'contact',., expected also {missing}, or --weights"):
            _check(Train(tmp_path, run, parts=("contact",)))
    (run / "motion.safetensors").touch()
    _check(Train(tmp_path, run, parts=("contact",)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--parts", "contact"], "--parts: given ('contact',), expected also pictures, or --weights to take it from"),
        (["--parts", "contact", "motion"], "given ('contact', 'motion'), expected also pictures, or --weights"),
        (["--parts", "contacts"], "unknown part to train 'contacts'. Did you mean 'contact'?"),
        (
            [*QUICK, "--contact-steps", "0", "--weights", "{}"],
            "training steps: given 0 with cooldown 0, expected steps >= cooldown, >= 1",
        ),
    ],
)
def test_what_cannot_be_trained_is_named(
    options: list[str],
    words: str,
    episodes: Path,
    weights: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start = weights()
    assert train(episodes, tmp_path / "run", *(option.format(start) for option in options)) == 1
    shown = capsys.readouterr().err
    assert words in shown.splitlines()[-1] and "Traceback" not in shown
    assert not (tmp_path / "run").exists()
