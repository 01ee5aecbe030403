"""The recipe of the motion network: paths that belong to one object, shares that are kept, stages, resuming."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.compact.motion_losses import MotionWeights, Paths, is_moving
from vap_sim.models.compact.network import CompactNetwork
from vap_sim.models.compact.packed import fast_dtype
from vap_sim.models.compact.slots import PATCH, cut, place
from vap_sim.training.loop import LoopSettings, train
from vap_sim.training.motion import MotionRecipe, MotionTraining, PathSource, Stage, cut_alpha
from vap_sim.training.motion_films import MotionFilm

TRAINING = MotionTraining(stages=(Stage(0, 2, 3, 0.5), Stage(2, 3, 2, 1.0)))
Make = Callable[..., CompactNetwork]


@pytest.fixture
def recipes(motion_films: list[MotionFilm], networks: Make) -> Callable[..., MotionRecipe]:
    """Makes recipes with the second film to show."""

    def make(training: MotionTraining = TRAINING) -> MotionRecipe:
        return MotionRecipe(networks(), motion_films, motion_films[1:], training)

    return make


def draw(films: list[MotionFilm], seed: int = 0, count: int = 12, length: int = 4, **training: Any) -> Paths:
    return PathSource(films, replace(TRAINING, **training)).draw(np.random.default_rng(seed), count, length)


def origin(films: list[MotionFilm], paths: Paths, row: int) -> tuple[MotionFilm, int, int]:
    """The film, first frame and object that a path was taken from."""
    length = paths.centres.shape[1]
    ((film, start, slot),) = [
        (film, start, slot)
        for film in films
        for start in range(film.length - length + 1)
        for slot in range(film.centres.shape[1])
        if np.array_equal(film.centres[start : start + length, slot], paths.centres[row])
        and np.array_equal(
            film.skeletons(np.arange(start, start + length)), paths.skeletons[row, 2:].permute(0, 2, 3, 1)
        )
    ]
    return film, start, slot


@pytest.mark.parametrize("place_at", [(30, 20), (0, 0), (55, 58), (25, 60)])
def test_a_cut_out_is_what_slots_cut(place_at: tuple[int, int]) -> None:
    x, y = place_at
    alpha = np.random.default_rng(0).integers(1, 256, (64, 64)).astype(np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[y : y + 9, x : x + 6], mask[y, x] = True, False
    centre, patch = cut_alpha(alpha, mask)
    objects = torch.from_numpy(alpha / np.float32(255)).expand(1, 4, 64, 64)
    slots = cut(objects, torch.from_numpy(mask.astype(np.uint8))[None])
    assert centre.dtype == np.float32 and patch.dtype == np.uint8 and patch.shape == (PATCH, PATCH)
    assert np.array_equal(centre, slots.centre[0, 0]) and np.array_equal(
        patch / np.float32(255), slots.patches[0, 0, 3]
    )


def test_paths_have_the_shapes_that_the_loss_takes(motion_films: list[MotionFilm]) -> None:
    paths = draw(motion_films, count=3, length=5)
    assert {name: (tuple(value.shape), value.dtype) for name, value in vars(paths).items()} == {
        "skeletons": ((3, 7, 3, 64, 64), torch.uint8), "others": ((3, 5, 1, 64, 64), torch.uint8),
        "patches": ((3, 1, PATCH, PATCH), torch.uint8), "start": ((3, 2), torch.float32),
        "velocity": ((3, 2), torch.float32), "centres": ((3, 5, 2), torch.float32),
        "steps": ((3, 5, 4), torch.float32), "frames": ((3, 2, 2), torch.float32),
        "carried": ((3, 5, 4), torch.float32), "planes": ((3, 5, 3, 3), torch.float32),
    }  # fmt: skip


def test_what_is_drawn_follows_from_the_generator(motion_films: list[MotionFilm]) -> None:
    one, again, other = (draw(motion_films, seed) for seed in (1, 1, 2))
    assert all(torch.equal(value, getattr(again, name)) for name, value in vars(one).items())
    assert not torch.equal(one.skeletons, other.skeletons)


def test_a_path_belongs_to_one_object(motion_films: list[MotionFilm]) -> None:
    paths = draw(motion_films)
    placed = place(paths.patches.float(), paths.start, torch.tensor([1.0, 0.0]).expand(12, 2), 64)
    slots = set()
    for row in range(12):
        film, start, slot = origin(motion_films, paths, row)
        part = slice(start, start + 4)
        numbers, alpha = film.objects(np.arange(start, start + 4))
        own = numbers == slot + 1
        assert np.array_equal(paths.steps[row], film.steps[part, slot])
        assert np.array_equal(paths.others[row, :, 0], np.where(own, 0, alpha))
        assert np.abs(placed[row, 0].numpy() - np.where(own[0], alpha[0], 0)).max() < 0.1
        history = [max(start - 2, 0), max(start - 1, 0)]
        assert np.array_equal(film.skeletons(np.array(history)), paths.skeletons[row, :2].permute(0, 2, 3, 1))
        assert own[0].sum() >= 12
        slots.add(slot)
    assert len(slots) > 1


def test_the_last_motion_is_known_of_what_moved_and_of_a_share_alone(motion_films: list[MotionFilm]) -> None:
    known = draw(motion_films, count=30, length=3, unknown_velocity=0.0)
    moved = is_moving(known.steps[:, 0])
    assert moved.any() and not moved.all()
    assert torch.equal(known.velocity, known.steps[:, 0, :2] * moved[:, None])
    assert not draw(motion_films, count=30, length=3, unknown_velocity=1.0).velocity.any()
    half = draw(motion_films, count=60, length=3, moving=1.0, near=0.0, unknown_velocity=0.5)
    share = half.velocity.any(dim=1)[is_moving(half.steps[:, 0])].float().mean()
    assert 0.2 < float(share) < 0.8


def marked(film: MotionFilm, **masks: list[tuple[int, int]]) -> MotionFilm:
    """A film whose masks hold at these frames and objects alone."""
    values: dict[str, Any] = {}
    for name in ("moving", "near"):
        values[name] = np.zeros_like(film.moving)
        for frame, slot in masks.get(name, []):
            values[name][frame, slot] = True
    return replace(film, **values)


def events(films: list[MotionFilm], length: int = 3, count: int = 40, **shares: Any) -> list[tuple[range, int]]:
    """Of every path the frames into which it steps, and the object."""
    paths = draw(films, count=count, length=length, **shares)
    found = [origin(films, paths, row) for row in range(count)]
    return [(range(start + 1, start + length), slot) for _, start, slot in found]


def test_paths_hold_what_they_were_chosen_for(motion_films: list[MotionFilm]) -> None:
    films = [marked(motion_films[0], moving=[(5, 1), (0, 0)], near=[(7, 0), (5, 1)])]
    moving = events(films, moving=1.0, near=0.0)
    assert all(5 in steps and slot == 1 for steps, slot in moving) and len({steps for steps, _ in moving}) == 2
    assert all(7 in steps and slot == 0 for steps, slot in events(films, moving=0.0, near=1.0))
    assert len(set(events(films, moving=0.0, near=0.0))) > 6


def test_shares_are_kept(motion_films: list[MotionFilm]) -> None:
    """Paths of the moving share by the marked step of one object, of the near share by that of another."""
    films = [marked(motion_films[0], moving=[(5, 1)], near=[(5, 0)])]
    drawn = events(films, count=200, length=2, moving=0.6, near=0.4)
    assert set(drawn) == {(range(5, 6), 0), (range(5, 6), 1)}
    assert 0.5 < sum(slot == 1 for _, slot in drawn) / 200 < 0.7


def test_where_nothing_moves_the_other_kinds_are_drawn(motion_films: list[MotionFilm]) -> None:
    films = [marked(motion_films[0], near=[(5, 0)])]
    assert set(events(films, length=2, moving=0.9, near=0.1)) == {(range(5, 6), 0)}


def test_objects_outside_of_the_picture_are_not_followed(motion_films: list[MotionFilm]) -> None:
    centres = motion_films[0].centres.copy()
    centres[:, 0], centres[:5, 1] = (-3.0, 20.0), (20.0, 64.5)
    drawn = events([replace(motion_films[0], centres=centres)], length=2)
    assert all(slot != 0 and (slot != 1 or steps[0] >= 5) for steps, slot in drawn)


def test_a_path_as_long_as_the_film_begins_at_its_start(motion_films: list[MotionFilm]) -> None:
    paths = draw(motion_films, count=4, length=10)
    for older in (0, 1):
        assert torch.equal(paths.skeletons[:, older], paths.skeletons[:, 2])


def test_frames_turn_zoom_and_mirror_as_they_are_told(motion_films: list[MotionFilm]) -> None:
    plain: dict[str, Any] = {"turn": 0.0, "zoom": 0.0, "mirror": 0.0}
    identity = torch.eye(2).expand(40, 2, 2)
    assert torch.equal(draw(motion_films, count=40, length=2, **plain).frames, identity)
    mirrored = draw(motion_films, count=40, length=2, **{**plain, "mirror": 1.0}).frames
    assert torch.equal(mirrored, torch.tensor([[-1.0, 0.0], [0.0, 1.0]]).expand(40, 2, 2))
    turned = draw(motion_films, count=40, length=2, **{**plain, "turn": 0.5}).frames
    assert torch.allclose(turned @ turned.transpose(1, 2), identity, atol=1e-6)
    assert 0.3 < float(torch.atan2(turned[:, 1, 0], turned[:, 0, 0]).std()) < 0.7
    zoomed = draw(motion_films, count=40, length=2, **{**plain, "zoom": 0.5}).frames
    assert torch.allclose(zoomed, zoomed[:, :1, :1] * identity) and bool((zoomed[:, 0, 0] > 0).all())
    assert 0.3 < float(zoomed[:, 0, 0].log().std()) < 0.7
    signs = torch.linalg.det(draw(motion_films, count=40, length=2, mirror=0.5).frames).sign()
    assert 8 < int((signs < 0).sum()) < 32


def test_films_without_objects_or_of_too_few_frames_are_refused(motion_films: list[MotionFilm]) -> None:
    empty = replace(motion_films[0], centres=np.zeros_like(motion_films[0].centres))
    with pytest.raises(InvalidInput, match="films for training: given no object in any of them, expected at least one"):
        PathSource([empty], TRAINING)
    with pytest.raises(InvalidInput, match="given no path of 11 frames in 50 tries, expected longer films"):
        draw(motion_films, length=11)
    points = replace(motion_films[0].bodies, outlines=tuple(o[:, :1] for o in motion_films[0].bodies.outlines))
    crumbs = replace(motion_films[0], bodies=points)
    with pytest.raises(InvalidInput, match="given no path of 4 frames"):
        draw([crumbs])


def test_stages_begin_at_their_step() -> None:
    assert [TRAINING.stage(step).length for step in (0, 1, 2, 50)] == [2, 2, 3, 3]
    whole = MotionTraining()
    assert whole.stage(0) == whole.stages[0] and whole.stage(10**6) == whole.stages[-1]


def test_a_step_sees_the_same_batch_again(recipes: Callable[..., MotionRecipe]) -> None:
    made = recipes()
    for step in (0, 3):
        (once, terms), (again, _), (later, _) = made.loss(step), made.loss(step), made.loss(step + 1)
        assert torch.equal(once, again) and not torch.equal(once, later)
        assert torch.isfinite(once) and set(terms) == set(vars(MotionWeights()))
    assert not torch.equal(recipes(replace(TRAINING, seed=1)).loss(0)[0], made.loss(0)[0])
    heavier = recipes(replace(TRAINING, weights=MotionWeights(moving=9.0)))
    assert float(heavier.loss(0)[0].detach()) > float(made.loss(0)[0].detach())


def test_a_stage_says_how_many_how_long_and_how_far_off(
    recipes: Callable[..., MotionRecipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int, Any]] = []

    def watch(network: Any, paths: Paths, weights: Any, *, jitter: torch.Tensor) -> tuple[torch.Tensor, dict[str, Any]]:
        asked.append((len(paths.start), paths.centres.shape[1], jitter))
        return torch.zeros(()), {}

    monkeypatch.setattr("vap_sim.training.motion.motion_loss", watch)
    made = recipes(replace(TRAINING, scale=20))
    for step in (1, 2):
        made.loss(step)
    (count, length, jitter), (later, longer, wider) = asked
    assert (count, length, later, longer) == (60, 2, 40, 3)
    assert jitter.shape == (60, 2) and 0.4 < float(jitter.std()) < 0.6 and 0.8 < float(wider.std()) < 1.2


def test_precision_is_a_choice(recipes: Callable[..., MotionRecipe]) -> None:
    exact, fast = (recipes(replace(TRAINING, precision=name)).loss(0)[0].detach() for name in ("fp32", "bf16"))
    assert torch.equal(exact, fast) == (fast_dtype() == torch.float32)  # some processors only pretend to be fast
    assert float(fast) == pytest.approx(float(exact), rel=0.05)


def test_motion_is_trained_under_its_name(recipes: Callable[..., MotionRecipe], networks: Make) -> None:
    names = set(recipes().network.state_dict())
    assert names == {name for name in networks().state_dict() if name.startswith("motion.")}


def test_a_broken_run_goes_on_bit_by_bit(recipes: Callable[..., MotionRecipe], tmp_path: Path) -> None:
    whole = recipes()
    steps = LoopSettings(tmp_path / "whole", steps=4, warmup=1, checkpoint_every=9, preview_every=9)
    expected = train(whole, steps)
    part = replace(steps, folder=tmp_path / "part")
    train(recipes(), replace(part, steps=3))
    last = recipes()
    outcome = train(last, part)
    for name, value in expected.weights.items():
        assert torch.equal(outcome.weights[name], value), name
        assert torch.equal(last.network.state_dict()[name], whole.network.state_dict()[name]), name
    with pytest.raises(BadFile, match="this recipe is"):
        train(recipes(replace(TRAINING, near=0.1)), part)


def test_settings_survive_json(recipes: Callable[..., MotionRecipe]) -> None:
    described = recipes().describe()
    assert json.loads(json.dumps(described)) == described
    assert described["part"] == "motion" and described["network"]["size"] == 64
    assert described["stages"][1]["length"] == 3


def test_a_preview_shows_where_objects_went_and_where_they_were_dreamt(recipes: Callable[..., MotionRecipe]) -> None:
    """A network that rests leaves its object in red where the path begins; in green it goes its way."""
    made = recipes()
    with torch.no_grad():
        for value in made.network.parameters():
            value.zero_()
        sheet = made.preview(0)["followed"]
        assert torch.equal(sheet, made.preview(7)["followed"])  # the same paths at every step
    assert sheet.dtype == torch.uint8 and sheet.shape == (3, 4 * 64, 3 * 64)  # ten frames: 0, 3 and 6
    red, green, _ = (sheet[channel] for channel in range(3))
    full = red == 255
    assert full.any() and torch.equal(full[:, :64], full[:, 64:128]) and torch.equal(full[:, :64], full[:, 128:])
    went = green == 255
    assert torch.equal(went[:, :64], full[:, :64]) and not torch.equal(went[:, 128:], full[:, 128:])


def test_where_nothing_moves_a_preview_shows_what_rests(networks: Make, motion_films: list[MotionFilm]) -> None:
    still = marked(motion_films[1])
    with torch.no_grad():
        sheet = MotionRecipe(networks(), motion_films, [still], TRAINING).preview(0)["followed"]
    assert sheet.shape == (3, 4 * 64, 3 * 64)


def test_films_that_do_not_suit_are_refused_at_once(motion_films: list[MotionFilm], networks: Make) -> None:
    network = networks()
    with pytest.raises(InvalidInput, match="films for training: given none"):
        MotionRecipe(network, motion_films, [], TRAINING)
    with pytest.raises(InvalidInput, match="given 10 frames in the shortest, expected at least 13"):
        MotionRecipe(network, motion_films, motion_films, MotionTraining())
    with pytest.raises(InvalidInput, match=r"expected \(128, 128\), as the network's"):
        MotionRecipe(networks(128), motion_films, motion_films, TRAINING)
