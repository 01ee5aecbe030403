"""The recipe for stations: batches that follow from the step, terms that count only what is known, resuming."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.station_clips import make_clip
from tests.training.conftest import make_network
from vap_sim.cli import main
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.metrics.detector import ROBOT, Detector, DetectorConfig, DetectorNet
from vap_sim.models.checkpoint import load_tensors, read_description, save_tensors
from vap_sim.models.compact.losses import picture_loss
from vap_sim.training.adapt import AdaptRecipe, AdaptTraining, draw_station, station_overlap, station_stills
from vap_sim.training.adapt_films import StationFilm, station_films
from vap_sim.training.adapt_losses import StationPictures, StationWeights, station_loss
from vap_sim.training.films import PictureFilm
from vap_sim.training.loop import LoopSettings, train
from vap_sim.training.pictures import draw_pictures

TRAINING = AdaptTraining(scenes=2, painted=2, precision="fp32")
Make = Callable[..., AdaptRecipe]


@pytest.fixture(scope="module")
def films() -> tuple[StationFilm, ...]:
    return station_films([make_clip(length=7), make_clip("b", length=6)], 64, "compact", margin=0.05)


@pytest.fixture
def recipes(films: tuple[StationFilm, ...]) -> Make:
    def make(training: AdaptTraining = TRAINING, twin: tuple[PictureFilm, ...] = ()) -> AdaptRecipe:
        return AdaptRecipe(make_network(), films, films[1:], twin, training)

    return make


def draw(films: tuple[StationFilm, ...], seed: int = 0) -> StationPictures:
    return draw_station(films, np.random.default_rng(seed), 3, 2, 0.05)


def test_a_batch_follows_from_its_generator_and_fits_together(films: tuple[StationFilm, ...]) -> None:
    one, again, other = draw(films), draw(films), draw(films, 1)
    assert torch.equal(one.frames, again.frames) and not torch.equal(one.frames, other.frames)
    shapes = {name: tuple(value.shape) for name, value in vars(one).items()}
    three, single = (3, 3, 3, 64, 64), (3, 3, 1, 64, 64)
    assert shapes == {
        "frames": three, "skeletons": three, "plates": three, "robot": single, "sure": single, "known": single
    }  # fmt: skip
    there = ((one.robot == 0) & (one.known == 255)).expand(three)
    assert torch.equal(one.frames[there], one.plates[there]), "away from the robot a frame is what lies behind it"


def test_light_changes_frames_and_what_lies_behind_them_alike(films: tuple[StationFilm, ...]) -> None:
    lit, plain = (draw_station(films[:1], np.random.default_rng(3), 1, 1, light) for light in (0.2, 0.0))
    assert torch.equal(lit.skeletons, plain.skeletons) and not torch.equal(lit.frames, plain.frames)
    for color in range(3):
        bright = (plain.plates[0, :, color] > 60) & (lit.frames[0, :, color] < 255)
        gains = [(getattr(lit, name) / getattr(plain, name))[0, :, color][bright] for name in ("frames", "plates")]
        assert all(float(gain.max() - gain.min()) < 0.05 for gain in gains)
        assert float(gains[0].mean() - gains[1].mean()) == pytest.approx(0, abs=0.02)


def test_what_is_not_known_does_not_count(films: tuple[StationFilm, ...]) -> None:
    """Other colours behind the robot where nothing is known of them, other shares of it where they are not trusted."""
    network, pictures = make_network(), draw(films)
    unknown, untrusted = pictures.known == 0, pictures.sure == 0
    assert unknown.any() and untrusted.any()
    expected = station_loss(network, pictures, StationWeights())[1]
    noise = torch.randint(0, 255, pictures.plates.shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    plates = torch.where(unknown & (pictures.robot == 0), noise, pictures.plates)
    found = station_loss(network, replace(pictures, plates=plates), StationWeights())[1]
    assert {name: float(value) for name, value in found.items()} == {name: float(v) for name, v in expected.items()}
    trusting = replace(pictures, sure=torch.full_like(pictures.sure, 255))
    assert float(station_loss(network, trusting, StationWeights())[1]["robot_alpha"]) != float(expected["robot_alpha"])


def test_terms_are_weighed_as_they_say(films: tuple[StationFilm, ...]) -> None:
    network, pictures = make_network(), draw(films)
    total, terms = station_loss(network, pictures, StationWeights())
    assert set(terms) == set(vars(StationWeights()))
    assert float(total.detach()) == pytest.approx(
        sum(getattr(StationWeights(), name) * float(v) for name, v in terms.items())
    )
    alone = StationWeights(**{name: float(name == "plate") for name in terms})
    assert float(station_loss(network, pictures, alone)[0].detach()) == pytest.approx(float(terms["plate"]))


def test_a_step_sees_the_same_batch_again(recipes: Make) -> None:
    made = recipes()
    (once, _), (again, _), (later, _) = made.loss(0), made.loss(0), made.loss(1)
    assert torch.equal(once, again) and not torch.equal(once, later)


def test_the_twin_is_mixed_in_by_its_share(recipes: Make, picture_films: list[PictureFilm]) -> None:
    twin = tuple(picture_films)
    alone, (mixed, terms) = recipes().loss(4)[0], recipes(twin=twin).loss(4)
    heavier = recipes(replace(TRAINING, twin_share=0.6), twin).loss(4)[0]
    assert any(name.startswith("twin/") for name in terms)
    known = float((mixed - alone).detach())
    assert known > 0 and float((heavier - alone).detach()) == pytest.approx(2 * known, rel=1e-4)


def test_recordings_alone_are_learned_from_as_they_are(recipes: Make, picture_films: list[PictureFilm]) -> None:
    """Without clips the loss is that of the pictures recipe on as many scenes, whatever the share of the twin."""
    twin = tuple(picture_films)
    made = AdaptRecipe(make_network(), (), twin, twin, replace(TRAINING, twin_share=0.1))
    total, terms = made.loss(3)
    drawn = draw_pictures(twin, np.random.default_rng([TRAINING.seed, 3]), TRAINING.scenes, TRAINING.painted)
    expected, known = picture_loss(make_network(), drawn, TRAINING.twin_weights)
    assert total.item() == pytest.approx(expected.item(), rel=1e-5) and set(terms) == set(known)
    (sheet,) = made.preview(0).values()
    assert sheet.shape == (3, 2 * 64 * min(4, len(twin)), 5 * 64)


def test_the_command_learns_from_recordings(
    recording_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of recordings is taken like one of clips; what it lacks is named."""
    folder, weights, out = tmp_path / "recordings", tmp_path / "tiny.safetensors", tmp_path / "body.safetensors"
    folder.mkdir()
    for name in "ab":
        shutil.copy(recording_file, folder / f"{name}.vap.npz")
    shape = {name: {"widths": [8, 8], "blocks": [1, 1]} for name in ("scene", "motion", "robot")}
    save_tensors(weights, make_network().state_dict(), {"network": {"size": 64, "style": 4, **shape}})
    words = [
        "adapt",
        str(folder),
        "--out",
        str(out),
        "--weights",
        str(weights),
        "--threads",
        "1",
        "--detector-steps",
        "0",
    ]
    assert main([*words, "--steps", "2", "--cooldown", "0", "--held-out", "1"]) == 0
    assert "step 2 of 2 on 2 views of 1 recordings, 1 recordings held out" in capsys.readouterr().out
    adapted = read_description(out)["adapted"]
    assert (adapted["clips"], adapted["held_out"], adapted["twin_views"]) == (["a"], ["b"], 2)
    changed = {name.partition(".")[0] for name, value in load_tensors(out)[0].items() if moved(name, value)}
    assert changed == {"scene", "robot"}
    assert main([*words, "--held-out", "2"]) == 1
    assert "--held-out: given 2, expected 0 or more, and fewer than the 2 recordings" in capsys.readouterr().err


def moved(name: str, value: torch.Tensor) -> bool:
    """Whether weights are no longer those of a fresh network."""
    return not torch.equal(value, make_network().state_dict()[name].to(value.dtype))


@pytest.mark.parametrize("rank", [0, 2])
def test_what_moves_objects_is_not_trained(recipes: Make, tmp_path: Path, rank: int) -> None:
    made = recipes(replace(TRAINING, rank=rank))
    before = {name: value.clone() for name, value in make_network().state_dict().items() if name.startswith("motion.")}
    train(made, LoopSettings(tmp_path, steps=2, warmup=1, learning_rate=1e-2))
    after = made.whole.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(name.startswith("motion") for name in made.network.state_dict())


@pytest.mark.parametrize("rank", [0, 2])
def test_a_broken_run_goes_on_bit_by_bit(recipes: Make, tmp_path: Path, rank: int) -> None:
    training = replace(TRAINING, rank=rank)
    steps = LoopSettings(tmp_path / "whole", steps=3, warmup=1, learning_rate=1e-2, checkpoint_every=9)
    expected = train(recipes(training), steps).weights
    part = replace(steps, folder=tmp_path / "part")
    train(recipes(training), replace(part, steps=2))
    found = train(recipes(training), part).weights
    assert expected and all(torch.equal(found[name], value) for name, value in expected.items())
    with pytest.raises(BadFile, match="this recipe is"):
        train(recipes(replace(training, clips=("another",))), part)


def test_training_paints_the_station(recipes: Make, tmp_path: Path) -> None:
    """Thirty steps of a tiny network: what a dream shows comes nearer to the recording."""
    made = recipes()

    def apart() -> float:
        with torch.no_grad():
            sheet = made.preview(0)["dreamt"].float()
        true, dreamt = sheet[:, :64], sheet[:, 64:]
        return float((true - dreamt).abs().mean())

    before = apart()
    train(made, LoopSettings(tmp_path, steps=30, warmup=5, learning_rate=5e-3, preview_every=99, checkpoint_every=99))
    assert apart() < 0.9 * before


def test_a_preview_lays_what_was_over_what_is_dreamt(recipes: Make, films: tuple[StationFilm, ...]) -> None:
    with torch.no_grad():
        sheet = recipes().preview(0)["dreamt"]
    assert sheet.dtype == torch.uint8 and sheet.shape == (3, 2 * 64, 5 * 64)
    for column, frame in enumerate((0, 1, 2, 4, 5)):
        shown = sheet[:, :64, 64 * column : 64 * column + 64].permute(1, 2, 0)
        assert np.array_equal(shown, films[1].frames[frame])


def test_settings_survive_json(recipes: Make) -> None:
    described = recipes().describe()
    assert json.loads(json.dumps(described)) == described and described["part"] == "adapt"


def test_films_that_do_not_suit_are_refused_at_once(films: tuple[StationFilm, ...]) -> None:
    with pytest.raises(InvalidInput, match="given none"):
        AdaptRecipe(make_network(), (), films, (), TRAINING)
    with pytest.raises(InvalidInput, match="given 6 frames in the shortest, expected at least 10"):
        AdaptRecipe(make_network(), films, films, (), replace(TRAINING, painted=9))


def test_a_detector_is_judged_by_overlap(films: tuple[StationFilm, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    stills = station_stills(films, 2)
    assert stills.frames.shape == (7, 64, 64, 3) and set(np.unique(stills.labels)) == {0, ROBOT}
    detector = Detector(DetectorNet(DetectorConfig((8, 8))))
    true = torch.from_numpy(station_stills(films, 3).labels)
    half = true.clone()
    half[:, :, ::2] = 0
    for found, overlap in ((true, 1.0), (half, int((half == ROBOT).sum()) / int((true == ROBOT).sum()))):
        monkeypatch.setattr(detector, "labels", lambda frames, found=found: found)
        assert station_overlap(detector, films) == pytest.approx(overlap)
    monkeypatch.setattr(detector, "labels", lambda frames: torch.zeros_like(true))
    blank = [replace(film, robot=np.zeros_like(film.robot)) for film in films]
    with pytest.raises(InvalidInput, match="no robot in any frame"):
        station_overlap(detector, blank)
