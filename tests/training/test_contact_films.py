"""Films of what is touched: tools, bones and things in space, and where cameras take things to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

from vap_sim.data.twin import TwinEpisode, save_episode
from vap_sim.models.compact.matching import Piece, stand
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot
from vap_sim.training.contact_films import ContactFilm, load_contact_films
from vap_sim.training.tracks import Bodies


@pytest.fixture(scope="module")
def films(recording_file: Path) -> tuple[ContactFilm, ...]:
    return load_contact_films([recording_file], progress=False)


@pytest.fixture(scope="module")
def model() -> RobotModel:
    return load_robot("panda_robotiq")


def own_cameras(recording: TwinEpisode) -> list[Camera]:
    return [Camera.from_dict(item) for item in recording.meta["cameras"]]


def test_a_film_holds_what_was_recorded(films: tuple[ContactFilm, ...], recording: TwinEpisode) -> None:
    (film,) = films
    assert film.length == 10 and film.bones.shape[::2] == (10, 8)
    count = recording.object_poses.shape[1]
    assert film.places.shape == film.turns.shape == (10, count, 3)
    assert film.guesses.shape == film.away.shape == (4, count, 3)
    assert film.sizes.shape == (4, count, 2) and film.shown.shape == (4, count)
    assert film.moving.shape == film.near.shape == (10, count)
    assert {value.dtype for value in vars(film).values()} == {np.dtype(np.float32), np.dtype(bool)}
    np.testing.assert_allclose(film.places, recording.object_poses[..., :3], rtol=0, atol=1e-5)


def test_carry_takes_the_tool_from_frame_to_frame(
    films: tuple[ContactFilm, ...], recording: TwinEpisode, model: RobotModel
) -> None:
    (film,) = films
    links = model.robot.forward(torch.from_numpy(recording.joints).double())
    tool = links[:, model.robot.link_index(model.tool_link)].numpy()
    np.testing.assert_allclose(film.carry[0], np.eye(4), rtol=0, atol=1e-6)
    np.testing.assert_allclose(film.carry[1:] @ tool[:-1], tool[1:], rtol=0, atol=1e-6)
    assert np.linalg.norm(np.diff(tool[:, :3, 3], axis=0), axis=1).min() > 0.001


def test_bones_are_where_the_skeleton_is(
    films: tuple[ContactFilm, ...], recording: TwinEpisode, model: RobotModel
) -> None:
    (film,) = films
    skeleton = model.skeleton
    points = skeleton.positions(model.robot, model.robot.forward(torch.from_numpy(recording.joints).double())).numpy()
    limbs = [bone for bone in skeleton.bones if bone.group != "plumb"]
    for number, bone in enumerate(limbs):
        for part, end in ((slice(0, 3), bone.start), (slice(3, 6), bone.end)):
            there = points[:, skeleton.point_index(end)]
            np.testing.assert_allclose(film.bones[:, number, part], there, rtol=0, atol=1e-6)
    assert film.bones.shape[1] == len(limbs)


def test_turns_take_things_from_frame_to_frame(films: tuple[ContactFilm, ...], recording: TwinEpisode) -> None:
    (film,) = films
    assert not film.turns[0].any()
    for thing in range(film.places.shape[1]):
        turns = Rotation.from_quat(recording.object_poses[:, thing, 3:])
        steps = Rotation.from_rotvec(film.turns[1:, thing])
        assert (steps * turns[:-1] * turns[1:].inv()).magnitude().max() < 1e-5


def test_what_moves_and_what_is_near(films: tuple[ContactFilm, ...]) -> None:
    """From the fifth frame on the robot is at a thing, and pushes it."""
    (film,) = films
    assert film.moving.any(axis=1).tolist() == [False] * 5 + [True] * 5
    steps = np.linalg.norm(np.diff(film.places, axis=0), axis=2)
    assert film.moving[1:][steps > 0.001].all() and not film.moving[1:][(steps < 5e-4)].any()
    share = np.linspace(0, 1, 201)[:, None]
    for frame, thing in np.ndindex(*film.near.shape):
        ends = film.bones[frame, :, :6].reshape(-1, 2, 3) - film.places[frame, thing]
        gap = min(np.linalg.norm(start + share * (end - start), axis=1).min() for start, end in ends)
        assert film.near[frame, thing] == (gap < 0.06) or abs(gap - 0.06) < 1e-3
    pushed = int(film.moving.sum(0).argmax())
    assert film.near[5:, pushed].all() and film.near.any() and not film.near.all()


def test_guesses_are_where_things_would_stand_as_they_are_seen(
    films: tuple[ContactFilm, ...], recording: TwinEpisode
) -> None:
    """Within two centimetres, since they do stand on the table; seen from there, and as large as they are."""
    (film,), bodies = films, Bodies.of(recording)
    for view, camera in enumerate(own_cameras(recording)):
        inverse = torch.linalg.inv(camera.T_parent_camera.double())
        matrix = (camera.intrinsics.double() @ inverse[:3]).numpy()
        assert film.shown[view].all()
        for thing, middle in enumerate(bodies.boxes[0].mean(1)):
            centre = camera.project(torch.from_numpy(middle)[None])[0][0].double().numpy()
            outline = camera.project(torch.from_numpy(bodies.outlines[thing][0]))[0].double().numpy()
            width, foot = float(np.ptp(outline[:, 0])), np.array([centre[0], outline[:, 1].max()])
            place = stand(Piece(0, 0, centre, foot, width, np.zeros(3), 0.0), matrix, 0.0)
            guess = film.guesses[view, thing]
            np.testing.assert_allclose(guess, place - middle, rtol=0, atol=1e-4)
            assert 0 < np.linalg.norm(guess) < 0.03
            line = camera.T_parent_camera[:3, 3].double().numpy() - place
            np.testing.assert_allclose(film.away[view, thing], line / np.linalg.norm(line), rtol=0, atol=1e-4)
            sides = np.array(recording.meta["scene"]["objects"][thing]["size"])
            assert (film.sizes[view, thing] > 0.8 * sides.min()).all()
            assert (film.sizes[view, thing] < 1.1 * np.linalg.norm(sides)).all()


def test_what_a_camera_does_not_see_it_does_not_guess(recording: TwinEpisode, model: RobotModel) -> None:
    away = Camera.look_at("away", (1.2, 0.7, 0.7), (2.4, 1.4, 0.7), size=(64, 64), focal_px=60.0)
    behind = Camera.look_at("behind", (0.0, 0.0, 0.5), (-1.0, 0.0, 0.0), size=(64, 64), focal_px=60.0)
    own = own_cameras(recording)
    aside = replace(own[0], intrinsics=own[0].intrinsics + torch.tensor([[0, 0, 60.0], [0, 0, 0], [0, 0, 0]]))
    film = ContactFilm.of(recording, model, [away, behind, aside, *own])
    assert not film.shown[:3].any() and film.shown[3:].all()
    for name in ("guesses", "sizes", "away"):
        assert not getattr(film, name)[:3].any() and getattr(film, name)[3:].any()


def test_a_camera_at_the_hand_guesses_by_where_it_is_at_first(recording: TwinEpisode, model: RobotModel) -> None:
    """As one that stands there."""
    hand = Camera.from_dict(model.camera("wrist").to_dict())
    links = model.robot.forward(torch.from_numpy(recording.joints[:1]).double())
    pose = hand.T_base_camera(links, model.robot)[0].float()
    still = replace(hand, T_parent_camera=pose, parent_link=None)
    film = ContactFilm.of(recording, model, [hand, still])
    for name in ("guesses", "sizes", "away", "shown"):
        rides, stands = getattr(film, name)
        np.testing.assert_allclose(rides, stands, rtol=0, atol=1e-3)


def test_episodes_are_seen_by_cameras_of_others(recording: TwinEpisode, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.vap.npz" for number in (0, 1)]
    for number, path in enumerate(files):
        meta = {**recording.meta, "cameras": recording.meta["cameras"][number : number + 1]}
        names = ("frames", "objects", "plate", "robot", "labels", "flow")
        save_episode(
            path, replace(recording, meta=meta, **{name: getattr(recording, name)[number:1] for name in names})
        )
    left, right = load_contact_films(files, views=1, progress=False)
    assert len(left.guesses) == len(right.guesses) == 1 and not np.array_equal(left.guesses, right.guesses)
    films = load_contact_films(files, views=9, seed=1, progress=False)
    for own, film in zip((left, right), films, strict=True):
        assert len(film.guesses) == 9 and np.array_equal(film.guesses[0], own.guesses[0])
        seen = {guess.tobytes() for guess in film.guesses}
        assert seen == {left.guesses[0].tobytes(), right.guesses[0].tobytes()}
        assert np.array_equal(film.places, own.places) and np.array_equal(film.bones, own.bones)

    def guesses(seed: int) -> list[bytes]:
        return [film.guesses.tobytes() for film in load_contact_films(files, views=9, seed=seed, progress=False)]

    assert guesses(1) == [film.guesses.tobytes() for film in films] != guesses(2)
