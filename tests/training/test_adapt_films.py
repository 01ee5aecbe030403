"""Recordings as layers: behind the robot is what was seen there at another time; where it is, the picture decides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.station_clips import ROBOT, camera, make_clip, room
from vap_sim.data.fitted_view import FittedView, fit_view
from vap_sim.errors import InvalidInput
from vap_sim.training.adapt_films import StationFilm, station_film, station_films

MARGIN = 0.03


@pytest.fixture(scope="module")
def view() -> FittedView:
    return fit_view(make_clip(length=12), 0, (64, 64), "compact")


@pytest.fixture(scope="module")
def film(view: FittedView) -> StationFilm:
    return station_film(view, MARGIN)


def test_behind_the_robot_lies_the_room(film: StationFilm) -> None:
    """Wherever it is known; it is unknown only where the robot covers a pixel in every frame."""
    plates, known = film.plates(range(film.length))
    assert np.array_equal(plates[known], np.broadcast_to(room((64, 64)), plates.shape)[known])
    always = (film.robot > 0).all(0)
    assert always.any() and not known[:, always].any()
    assert known.mean() > 0.9 and (plates[~known] == 0).all()


def test_what_was_moved_lies_behind_from_then_on(view: FittedView) -> None:
    """A patch far from the robot changes its colour: each frame has it as it is then."""
    frames = view.frames.copy()
    frames[:6, 56:60, 4:10], frames[6:, 56:60, 4:10] = 200, 20
    plates, known = station_film(replace(view, frames=frames), MARGIN).plates([1, 5, 6, 11])
    assert known[:, 56:60, 4:10].all()
    assert [int(plate[57, 5, 0]) for plate in plates] == [200, 200, 20, 20]


def test_a_hidden_pixel_is_as_it_was_at_the_nearest_time() -> None:
    """One pixel that darkens from frame to frame, covered in frames 2 to 6."""
    clip = make_clip(length=9)
    frames, robot = np.zeros((1, 9, 64, 64, 3), np.uint8), np.zeros((1, 9, 64, 64), np.uint8)
    frames += np.arange(100, 10, -10, dtype=np.uint8)[None, :, None, None, None]
    robot[:, 2:7, 20:30, 20:30] = 255
    view = fit_view(replace(clip, frames=frames, robot=robot), 0, (64, 64), "compact")
    plates, known = station_film(view, MARGIN).plates(range(9))
    assert known.all()
    assert plates[:, 25, 25, 0].tolist() == [100, 90, 90, 90, 90, 30, 30, 30, 20]


def test_the_picture_decides_where_the_outline_is_not_sure(view: FittedView) -> None:
    """A true outline and one three pixels off tell nearly the same robot, as far as either is trusted."""
    true = (view.frames == ROBOT).all(-1)
    off = np.roll(view.robot, 3, axis=2)
    for film in (station_film(view, 0.08), station_film(replace(view, robot=off), 0.08)):
        _, known = film.plates(range(film.length))
        found = film.robot >= 128
        judged = known & (film.sure > 0)
        assert (found & true & judged).sum() / ((found | true) & judged).sum() > 0.93
        assert 0.02 < judged[true].mean() < 1


def test_far_from_the_robot_there_is_surely_none(film: StationFilm) -> None:
    assert (film.robot[:, -6:, -6:] == 0).all() and (film.sure[:, -6:, -6:] == 255).all()


def test_frames_that_were_not_kept_are_left_out(view: FittedView) -> None:
    kept = view.kept.copy()
    kept[[0, 5]] = False
    film = station_film(replace(view, kept=kept), MARGIN)
    assert film.length == 10 and np.array_equal(film.frames, view.frames[kept])
    assert np.array_equal(film.skeletons, view.skeletons[kept]) and film.behind.max() == 9
    kept[2:] = False
    with pytest.raises(InvalidInput, match="clip 'a': given 1 kept frames of view 'side', expected at least two"):
        station_film(replace(view, kept=kept), MARGIN)


def test_a_film_for_every_camera_that_stands() -> None:
    clip = make_clip()
    both = {name: np.concatenate([getattr(clip, name)] * 2) for name in ("frames", "robot", "homographies", "kept")}
    mounted = (*clip.cameras, camera(name="wrist", parent="panda_link8"))
    films = station_films([replace(clip, **both, cameras=mounted), clip], 64, "compact", margin=0.05)
    assert [film.name for film in films] == ["a side", "a side"]
    blind = replace(clip, kept=np.zeros((1, 9), np.bool_))
    assert station_films([blind], 64, "compact", margin=0.05) == ()
    with pytest.raises(InvalidInput, match=r"margin around the robot: given 0\.5"):
        station_films([clip], 64, "compact", margin=0.5)
