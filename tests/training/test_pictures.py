"""The recipe of the picture networks: batches that follow from the step, layers that belong together, resuming."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.compact.losses import Pictures, PictureWeights
from vap_sim.models.compact.network import CompactNetwork
from vap_sim.models.compact.packed import fast_dtype
from vap_sim.training.films import PictureFilm
from vap_sim.training.loop import LoopSettings, train
from vap_sim.training.pictures import PictureRecipe, PictureTraining, draw_pictures

TRAINING = PictureTraining(scenes=2, painted=2)
COLORS = ([0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0])
Make = Callable[..., CompactNetwork]


@pytest.fixture
def recipes(picture_films: list[PictureFilm], networks: Make) -> Callable[..., PictureRecipe]:
    """Makes recipes with the second film to show."""

    def make(training: PictureTraining = TRAINING) -> PictureRecipe:
        return PictureRecipe(networks(), picture_films, picture_films[1:], training)

    return make


def draw(films: list[PictureFilm], seed: int, scenes: int = 1, painted: int = 3) -> Pictures:
    return draw_pictures(films, np.random.default_rng(seed), scenes, painted)


def test_pictures_have_the_shapes_that_the_loss_takes(picture_films: list[PictureFilm]) -> None:
    pictures = draw(picture_films, 0, scenes=3, painted=4)
    assert {name: tuple(value.shape) for name, value in vars(pictures).items()} == {
        "frames": (3, 5, 3, 64, 64), "skeletons": (3, 5, 3, 64, 64), "objects": (3, 5, 4, 64, 64),
        "plate": (3, 5, 3, 64, 64), "robot": (3, 5, 1, 64, 64), "seen": (3, 5, 1, 64, 64),
    }  # fmt: skip
    assert {value.dtype for value in vars(pictures).values()} == {torch.uint8}


def test_what_is_drawn_follows_from_the_generator(picture_films: list[PictureFilm]) -> None:
    one, again, other = (draw(picture_films, seed).frames for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_layers_belong_together_whatever_the_colors(picture_films: list[PictureFilm]) -> None:
    """Frames of a scene differ, colors are permuted alike in all layers, and the prompt keeps its own."""
    permuted, films = 0, set()
    for seed in range(12):
        pictures = draw(picture_films, seed)
        objects, plate, frames = (getattr(pictures, name)[0].float() for name in ("objects", "plate", "frames"))
        together = objects[:, :3] + (1 - objects[:, 3:] / 255) * plate
        assert ((together - frames).abs() * (pictures.robot[0] == 0)).max() < 2
        shown = pictures.frames[0].permute(0, 2, 3, 1).numpy()
        ((which, colors),) = [
            (which, colors)
            for which, film in enumerate(picture_films)
            for colors in COLORS
            if np.array_equal(film.plate[..., colors], pictures.plate[0, 0].permute(1, 2, 0))
            and any(np.array_equal(picture, shown[0]) for picture in film.frames[..., colors])
        ]
        film = picture_films[which]
        picks = [[np.array_equal(known[..., colors], one) for known in film.frames].index(True) for one in shown]
        assert len(set(picks)) == 4
        assert np.array_equal(film.skeletons[picks], pictures.skeletons[0].permute(0, 2, 3, 1))
        assert np.array_equal(film.objects[picks][..., [*colors, 3]], pictures.objects[0].permute(0, 2, 3, 1))
        assert np.array_equal(film.robot[picks], pictures.robot[0, :, 0])
        assert np.array_equal(film.seen[picks], pictures.seen[0, :, 0])
        permuted += colors != [0, 1, 2]
        films.add(which)
    assert 2 <= permuted <= 10 and films == {0, 1}


def test_a_step_sees_the_same_batch_again(recipes: Callable[..., PictureRecipe]) -> None:
    made = recipes()
    (once, terms), (again, _), (later, _) = made.loss(0), made.loss(0), made.loss(1)
    assert torch.equal(once, again) and not torch.equal(once, later)
    assert torch.isfinite(once) and set(terms) == set(vars(PictureWeights()))
    assert not torch.equal(recipes(replace(TRAINING, seed=1)).loss(0)[0], once)
    heavier = recipes(replace(TRAINING, weights=PictureWeights(frame=60.0)))
    assert float(heavier.loss(0)[0].detach()) > float(once.detach())


def test_precision_is_a_choice(recipes: Callable[..., PictureRecipe]) -> None:
    exact, fast = (recipes(replace(TRAINING, precision=name)).loss(0)[0].detach() for name in ("fp32", "bf16"))
    assert torch.equal(exact, fast) == (fast_dtype() == torch.float32)  # some processors only pretend to be fast
    assert float(fast) == pytest.approx(float(exact), rel=0.02)


def test_scale_multiplies_the_scenes(
    recipes: Callable[..., PictureRecipe], monkeypatch: pytest.MonkeyPatch, picture_films: list[PictureFilm]
) -> None:
    asked: list[tuple[int, int]] = []

    def watch(films: list[PictureFilm], rng: np.random.Generator, scenes: int, painted: int, share: float) -> Pictures:
        asked.append((scenes, painted))
        return draw_pictures(films, rng, 1, 1, share)

    monkeypatch.setattr("vap_sim.training.pictures.draw_pictures", watch)
    recipes(replace(TRAINING, scale=3)).loss(0)
    assert asked == [(6, 2)]


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (1.0, 10, 16), (0.5, 2, 14)])
def test_a_share_of_the_scenes_has_other_colors(
    picture_films: list[PictureFilm], share: float, least: int, most: int
) -> None:
    """One permutation of three in six is none at all."""
    film = picture_films[0]
    pictures = draw_pictures([film], np.random.default_rng(0), 16, 1, share)
    known = {frame.tobytes() for frame in np.moveaxis(film.frames, -1, 1)}
    other = sum(scene[0].numpy().tobytes() not in known for scene in pictures.frames)
    assert least <= other <= most


def test_scene_and_robot_are_trained_under_their_names(recipes: Callable[..., PictureRecipe], networks: Make) -> None:
    names = set(recipes().network.state_dict())
    assert names == {name for name in networks().state_dict() if not name.startswith("motion.")}


def test_what_reads_may_be_left_as_it_is(recipes: Callable[..., PictureRecipe]) -> None:
    made = recipes(replace(TRAINING, reading=False))
    assert {name.split(".")[0] for name in made.network.state_dict()} == {"robot"}
    (loss, terms), (both, _) = made.loss(0), recipes().loss(0)
    assert torch.equal(loss, both) and set(terms) == set(vars(PictureWeights()))
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(value.grad is not None for value in made.network.parameters())
    assert all(value.grad is None for value in made._whole.scene.parameters())


def test_a_broken_run_goes_on_bit_by_bit(recipes: Callable[..., PictureRecipe], tmp_path: Path) -> None:
    whole = recipes()
    steps = LoopSettings(tmp_path / "whole", steps=3, warmup=1, checkpoint_every=9, preview_every=9)
    expected = train(whole, steps)
    part = replace(steps, folder=tmp_path / "part")
    train(recipes(), replace(part, steps=2))
    last = recipes()
    outcome = train(last, part)
    for name, value in expected.weights.items():
        assert torch.equal(outcome.weights[name], value), name
        assert torch.equal(last.network.state_dict()[name], whole.network.state_dict()[name]), name
    with pytest.raises(BadFile, match="this recipe is"):
        train(recipes(replace(TRAINING, painted=1)), part)


def test_settings_survive_json(recipes: Callable[..., PictureRecipe]) -> None:
    described = recipes().describe()
    assert json.loads(json.dumps(described)) == described
    assert described["part"] == "pictures" and described["network"]["size"] == 64 and described["painted"] == 2


def test_a_preview_lays_what_was_over_what_is_painted(
    recipes: Callable[..., PictureRecipe], picture_films: list[PictureFilm]
) -> None:
    made = recipes()
    with torch.no_grad():
        sheet = made.preview(0)["painted"]
        assert torch.equal(sheet, made.preview(7)["painted"])
    assert sheet.dtype == torch.uint8 and sheet.shape == (3, 2 * 64, 4 * 64)  # one film is shown
    for column, frame in enumerate((1, 4, 6, 9)):
        columns = slice(64 * column, 64 * column + 64)
        assert np.array_equal(sheet[:, :64, columns].permute(1, 2, 0), picture_films[1].frames[frame])
    assert len(set(sheet[:, 64:].flatten().tolist())) > 20


def test_films_that_do_not_suit_are_refused_at_once(picture_films: list[PictureFilm], networks: Make) -> None:
    network = networks()
    with pytest.raises(InvalidInput, match="films for training: given none"):
        PictureRecipe(network, picture_films, [], TRAINING)
    with pytest.raises(InvalidInput, match="given 10 frames in the shortest, expected at least 11"):
        PictureRecipe(network, picture_films, picture_films, replace(TRAINING, painted=10))
    with pytest.raises(InvalidInput, match=r"expected \(128, 128\), as the network's"):
        PictureRecipe(networks(128), picture_films, picture_films, TRAINING)
