"""What the contact network learns from: things followed in films, as cameras misjudge them, turned and mirrored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.models.compact.contact import ContactNet
from vap_sim.training.contact import ContactSource, ContactTraining, Touched, _turned, roll_out, rotation_vectors
from vap_sim.training.contact_films import ContactFilm, load_contact_films

TRAINING = ContactTraining(batch=24, length=4, late=6, grow=3)


@pytest.fixture(scope="module")
def film(recording_file: Path) -> ContactFilm:
    (found,) = load_contact_films([recording_file], views=2, progress=False)
    return found


def draw(films: list[ContactFilm], seed: int = 0, count: int = 24, length: int = 4, **training: Any) -> Touched:
    return ContactSource(films, replace(TRAINING, **training)).draw(np.random.default_rng(seed), count, length)


def index(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.intp)


def follow(films: list[ContactFilm], film: int, thing: int, camera: int, start: int, length: int = 4) -> Touched:
    source = ContactSource(films, TRAINING)
    return source.followed(index(film), index(thing), index(camera), index(start), length)


def smaller(film: ContactFilm, length: int = 8, things: int = 2, bones: int = 9, cameras: int = 1) -> ContactFilm:
    """The same film with less in it."""
    frames = {name: getattr(film, name)[:length, :things] for name in ("places", "turns", "moving", "near")}
    seen = {name: getattr(film, name)[:cameras, :things] for name in ("guesses", "sizes", "away", "shown")}
    return ContactFilm(bones=film.bones[:length, :bones], carry=film.carry[:length], **frames, **seen)


def plain(films: list[ContactFilm], **changes: Any) -> Touched:
    return draw(films, **{"resized": 0.0, "unknown": 0.0, **changes})


# What is followed ------------------------------------------------------------------------------------------------


def test_things_have_the_shapes_that_the_loss_takes(film: ContactFilm) -> None:
    batch, bones, things = draw([film], count=3, length=5), film.bones.shape[1], film.places.shape[1]
    real = torch.float32
    assert {name: (tuple(value.shape), value.dtype) for name, value in vars(batch).items()} == {
        "bones": ((3, 6, bones, 2, 3), real), "thick": ((3, bones), real), "kind": ((3, bones), torch.int64),
        "others": ((3, 6, things, 3), real), "other_kind": ((3, things), torch.int64),
        "other_thick": ((3, things), real), "place": ((3, 5, 3), real), "shift": ((3, 5, 3), real),
        "turn": ((3, 5, 3), real), "stride": ((3, 3), real), "size": ((3, 2), real), "away": ((3, 3), real),
        "moves": ((3, 5), torch.bool), "carry": ((3, 5, 4, 4), real),
    }  # fmt: skip


def test_a_thing_is_followed_as_its_camera_misjudges_it(film: ContactFilm) -> None:
    for camera, thing, start in ((0, 1, 5), (1, 0, 2), (1, 1, 0)):
        batch, part = follow([film], 0, thing, camera, start), slice(start, start + 4)
        guess = film.guesses[camera, thing]
        np.testing.assert_allclose(batch.place[0], film.places[part, thing] + guess, rtol=0, atol=1e-6)
        older = film.places[[max(start - 1, 0), *range(start, start + 3)], thing]
        np.testing.assert_allclose(batch.shift[0], film.places[part, thing] - older, rtol=0, atol=1e-6)
        assert torch.equal(batch.stride, batch.shift[:, 0])
        assert np.array_equal(batch.turn[0], film.turns[part, thing])
        assert np.array_equal(batch.moves[0], film.moving[part, thing])
        assert np.array_equal(batch.carry[0], film.carry[part])
        assert np.array_equal(batch.size[0], film.sizes[camera, thing])
        assert np.array_equal(batch.away[0], film.away[camera, thing])
        history = [max(start - 1, 0), *range(start, start + 4)]
        assert np.array_equal(batch.bones[0].flatten(2), film.bones[history, :, :6])
        assert np.array_equal(batch.kind[0], film.bones[0, :, 7]) and np.array_equal(
            batch.thick[0], film.bones[0, :, 6]
        )
        np.testing.assert_allclose(batch.others[0], film.places[history] + film.guesses[camera], rtol=0, atol=1e-6)
        assert batch.other_kind[0].tolist() == [-1 if other == thing else 2 for other in range(film.places.shape[1])]
        np.testing.assert_allclose(batch.other_thick[0], film.sizes[camera].mean(1) / 2)


def test_what_a_camera_does_not_see_is_not_beside_what_it_sees(film: ContactFilm) -> None:
    shown = film.shown.copy()
    shown[0, 2] = False
    batch = follow([replace(film, shown=shown)], 0, 1, 0, 2)
    assert batch.other_kind[0].tolist() == [2, -1, -1, 2]


def test_films_of_other_sizes_are_followed_as_each_alone(film: ContactFilm) -> None:
    """What is missing in the smaller one is nothing at all."""
    less = smaller(film)
    for number, own in enumerate((film, less)):
        for thing, start in ((1, 2), (0, 4)):
            alone, beside = follow([own], 0, thing, 0, start), follow([film, less], number, thing, 0, start)
            for name, value in vars(alone).items():
                found = getattr(beside, name)
                part = found[tuple(slice(0, size) for size in value.shape)]
                assert torch.equal(part, value), name
            bones, things = own.bones.shape[1], own.places.shape[1]
            assert bool((beside.kind[:, bones:] == -1).all()) and bool((beside.other_kind[:, things:] == -1).all())
            assert bool((beside.kind[:, :bones] >= 0).all())


def test_beyond_a_film_s_end_everything_rests(film: ContactFilm) -> None:
    """Robot and things alike: the last frame goes on."""
    batch = follow([smaller(film), film], 0, 1, 0, 4, length=7)
    assert bool(batch.moves[0, 1:4].any())
    for name in ("shift", "turn", "moves"):
        assert not getattr(batch, name)[0, 4:].any(), name
    assert torch.equal(batch.carry[0, 4:], torch.eye(4).expand(3, 4, 4))
    assert torch.equal(batch.bones[0, 5:], batch.bones[0, 5:6].expand(3, -1, -1, -1))
    assert torch.equal(batch.place[0, 4:], batch.place[0, 3:4].expand(3, -1))


def test_a_network_hears_of_films_of_other_sizes_as_of_each_alone(film: ContactFilm) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        contact = ContactNet(16, 24)
    less = smaller(film)
    answers = [
        roll_out(contact, follow(films, number, 1, 0, 3), torch.zeros(1, 3))[0][-1]
        for films, number in (([less], 0), ([film, less], 1))
    ]
    for name, value in vars(answers[0]).items():
        torch.testing.assert_close(getattr(answers[1], name), value, rtol=1e-4, atol=1e-6)


def test_what_is_drawn_follows_from_the_generator(film: ContactFilm) -> None:
    one, again, other = (draw([film, smaller(film)], seed) for seed in (1, 1, 2))
    assert all(torch.equal(value, getattr(again, name)) for name, value in vars(one).items())
    assert not torch.equal(one.place, other.place)


def marked(film: ContactFilm, **masks: list[tuple[int, int]]) -> ContactFilm:
    """A film whose masks hold at these frames and things alone."""
    values: dict[str, Any] = {}
    for name in ("moving", "near"):
        values[name] = np.zeros_like(film.moving)
        for frame, thing in masks.get(name, []):
            values[name][frame, thing] = True
    return replace(film, **values)


def drawn(film: ContactFilm, length: int = 3, count: int = 60, **shares: Any) -> list[tuple[range, int]]:
    """Of everything that was drawn the frames into which it steps, and the thing."""
    heights = film.places.copy()
    # Turning and mirroring leave heights: these tell which thing it is, and when.
    heights[..., 2] = 100 * np.arange(film.places.shape[1]) + np.arange(film.length)[:, None]
    known = replace(film, places=heights, guesses=np.zeros_like(film.guesses))
    batch = plain([known], count=count, length=length, **shares)
    found = [(int(z[0]) % 100, int(z[0]) // 100) for z in batch.place[:, :, 2].round()]
    return [(range(start + 1, start + length), thing) for start, thing in found]


def test_things_are_drawn_for_what_happens_to_them(film: ContactFilm) -> None:
    here = marked(film, moving=[(5, 1), (0, 0)], near=[(7, 0), (5, 1)])
    moving = drawn(here, moving=1.0, near=0.0)
    assert all(5 in steps and thing == 1 for steps, thing in moving) and len({steps for steps, _ in moving}) == 2
    assert all(7 in steps and thing == 0 for steps, thing in drawn(here, moving=0.0, near=1.0))
    assert len(set(drawn(here, moving=0.0, near=0.0))) > 9
    share = [thing == 1 for _, thing in drawn(here, count=300, moving=0.6, near=0.4)]
    assert 0.5 < np.mean(share) < 0.7


def test_where_nothing_moves_the_other_kinds_are_drawn(film: ContactFilm) -> None:
    assert {thing for _, thing in drawn(marked(film, near=[(5, 0)]), moving=0.9, near=0.1)} == {0}


def test_what_no_camera_shows_is_not_drawn(film: ContactFilm) -> None:
    shown = film.shown.copy()
    shown[:, 1], shown[0, 2] = False, False
    assert {thing for _, thing in drawn(replace(film, shown=shown), count=200)} == {0, 2, 3}
    with pytest.raises(InvalidInput, match="films for training: given no object in any of them, expected at least one"):
        ContactSource([replace(film, shown=np.zeros_like(shown))], TRAINING)
    with pytest.raises(InvalidInput, match="films for training: given none"):
        ContactSource([], TRAINING)


def test_sizes_are_misjudged_and_strides_unknown_by_chance(film: ContactFilm) -> None:
    exact, wrong = (draw([film], count=200, resized=size, unknown=0.0) for size in (0.0, 0.2))
    ratio = (wrong.size / exact.size).log()
    torch.testing.assert_close(ratio[:, 0], ratio[:, 1], rtol=0, atol=1e-5)
    assert 0.15 < float(ratio[:, 0].std()) < 0.25
    assert not draw([film], count=50, unknown=1.0).stride.any()
    moved = draw([film], count=300, moving=1.0, near=0.0, unknown=0.5)
    share = moved.stride.any(1)[moved.shift[:, 0].norm(dim=1) > 1e-3].float().mean()
    assert 0.3 < float(share) < 0.7


# Turning ---------------------------------------------------------------------------------------------------------


def test_turning_keeps_lengths_and_heights(film: ContactFilm) -> None:
    source = ContactSource([film], TRAINING)
    batch = source.followed(index(0, 0), index(1, 0), index(0, 1), index(4, 2), 4)
    rng = np.random.default_rng(3)
    signs = set()
    for _ in range(6):
        turned = _turned(batch, rng)
        for name in ("bones", "others", "place", "shift", "turn", "stride", "away"):
            one, other = getattr(batch, name), getattr(turned, name)
            torch.testing.assert_close(other.norm(dim=-1), one.norm(dim=-1), rtol=0, atol=1e-5)
            if name != "turn":
                assert torch.equal(other[..., 2], one[..., 2]), name
        for name in ("thick", "kind", "other_kind", "other_thick", "size", "moves"):
            assert torch.equal(getattr(turned, name), getattr(batch, name))
        gaps = [(one.bones - one.place[:, :1, None, None]).norm(dim=-1) for one in (batch, turned)]
        torch.testing.assert_close(*gaps, rtol=0, atol=1e-5)
        corners = [torch.stack([one.away[0], one.place[0, 0], one.bones[0, 0, 3, 0]]) for one in (batch, turned)]
        angles = [torch.linalg.det(corner) for corner in corners]
        signs.add(bool(angles[0] * angles[1] < 0))
        torch.testing.assert_close(angles[0].abs(), angles[1].abs(), rtol=1e-3, atol=1e-7)
    assert signs == {True, False}  # some are mirrored


def test_turns_and_tools_are_turned_and_mirrored_as_places_are(film: ContactFilm) -> None:
    """What a rotation or a carry does to a place, the turned one does to the turned place."""
    source = ContactSource([film], TRAINING)
    batch = source.followed(index(*[0] * 8), index(*[1] * 8), index(*[0] * 8), index(*[5] * 8), 4)
    vectors = torch.randn(8, 4, 3, generator=torch.Generator().manual_seed(0))
    batch = replace(batch, turn=vectors, shift=_rotated(vectors, batch.place), carry=_random_poses(8, 4))
    turned = _turned(batch, np.random.default_rng(0))
    torch.testing.assert_close(_rotated(turned.turn, turned.place), turned.shift, rtol=0, atol=1e-5)

    def carried(one: Touched) -> Tensor:
        return (one.carry[..., :3, :3] @ one.place[..., None])[..., 0] + one.carry[..., :3, 3]

    again = _turned(replace(batch, shift=carried(batch)), np.random.default_rng(0))
    torch.testing.assert_close(carried(again), again.shift, rtol=0, atol=1e-5)
    as_turns = _turned(replace(batch, turn=_vectors(batch)), np.random.default_rng(0))
    torch.testing.assert_close(_vectors(again), as_turns.turn, rtol=0, atol=1e-5)


def _rotated(vectors: Tensor, places: Tensor) -> Tensor:
    turns = Rotation.from_rotvec(vectors.reshape(-1, 3).numpy())
    return torch.from_numpy(turns.apply(places.reshape(-1, 3).numpy()).astype(np.float32)).reshape(places.shape)


def _vectors(batch: Touched) -> Tensor:
    return rotation_vectors(batch.carry.flatten(0, 1)[:, :3, :3]).reshape(batch.turn.shape)


def _random_poses(*lead: int) -> Tensor:
    source = np.random.default_rng(5)
    out = np.tile(np.eye(4, dtype=np.float32), (*lead, 1, 1))
    count = int(np.prod(lead))
    out[..., :3, :3] = Rotation.from_rotvec(source.normal(0, 0.7, (count, 3))).as_matrix().reshape(*lead, 3, 3)
    out[..., :3, 3] = source.normal(0, 0.3, (*lead, 3))
    return torch.from_numpy(out)
