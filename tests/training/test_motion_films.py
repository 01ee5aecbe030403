"""Films of motion: recorded episodes by their own cameras and by those of others, drawn when asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vap_sim.data.twin import TwinEpisode, save_episode
from vap_sim.models.compact.carry import carried
from vap_sim.models.compact.motion_losses import MOVED
from vap_sim.robots.camera import Camera
from vap_sim.training.films import PictureFilm
from vap_sim.training.motion_films import MotionFilm, _near, load_motion_films
from vap_sim.training.tracks import Bodies, follow

NEAR = 20
"""[px] around an object's centre in which a skeleton is near."""
ALL = np.arange(10)


@pytest.fixture
def files(recording: TwinEpisode, tmp_path: Path) -> list[Path]:
    """The recording by one camera each, the second without pictures."""
    names = ("frames", "objects", "plate", "robot", "labels", "flow")
    for number in (0, 1):
        meta = {**recording.meta, "cameras": recording.meta["cameras"][number : number + 1]}
        views = {name: getattr(recording, name)[number:1] for name in names}
        save_episode(tmp_path / f"{number}.vap.npz", replace(recording, meta=meta, **views))
    return [tmp_path / "0.vap.npz", tmp_path / "1.vap.npz"]


def test_there_is_one_film_a_camera(motion_films: list[MotionFilm], recording: TwinEpisode) -> None:
    assert len(motion_films) == 2
    bodies = Bodies.of(recording)
    for view, film in enumerate(motion_films):
        track = follow(bodies, Camera.from_dict(recording.meta["cameras"][view]))
        assert np.array_equal(film.centres, track.centres) and np.array_equal(film.steps, track.steps)
        assert film.length == 10 and film.size == (64, 64)
        assert film.moving.any(axis=1).tolist() == [False] * 5 + [True] * 5
        assert not film.moving[(np.abs(film.steps[..., :3]) < 1e-3).all(-1)].any()
        assert film.moving[(np.abs(film.steps[..., :2]) > MOVED).any(-1)].all()


def test_planes_take_the_tool_where_it_went(motion_films: list[MotionFilm]) -> None:
    for film in motion_films:
        model = film.prompter.model
        tools = model.robot.forward(torch.from_numpy(film.joints).double())[:, model.robot.link_index(model.tool_link)]
        xy, _ = film.camera.project(tools[:, :3, 3].float())
        planes = torch.from_numpy(film.planes)
        torch.testing.assert_close(planes[0], torch.eye(3))
        assert float((xy[1:] - xy[:-1]).norm(dim=1).max()) > 1
        torch.testing.assert_close(carried(planes[1:], xy[:-1])[:, :2], xy[1:] - xy[:-1], rtol=0, atol=1e-3)


def test_both_kinds_of_films_see_the_same_prompts(
    picture_films: list[PictureFilm], motion_films: list[MotionFilm]
) -> None:
    for pictures, motion in zip(picture_films, motion_films, strict=True):
        assert np.array_equal(pictures.skeletons, motion.skeletons(ALL))
        assert np.array_equal(pictures.skeletons[[4, 1]], motion.skeletons(np.array([4, 1])))


def test_near_is_where_something_is_drawn_around_the_object(motion_films: list[MotionFilm]) -> None:
    ys, xs = np.mgrid[:64, :64]
    for film in motion_films:
        skeletons = film.skeletons(ALL)
        for frame, slot in np.ndindex(*film.near.shape):
            x, y = np.round(film.centres[frame, slot])
            window = (abs(xs - x) <= NEAR) & (abs(ys - y) <= NEAR)
            assert film.near[frame, slot] == skeletons[frame][window].any()
        assert film.near[film.moving].all()  # what pushes is close


@pytest.mark.parametrize(
    ("centre", "expected"),
    [
        ((30, 25), True), ((10, 45), True), ((50, 25), True), ((51, 25), False), ((9, 25), False),
        ((30, 46), False), ((30, 4), False), ((30.4, 45.3), True), ((-500, 25), False), ((30, 9000), False),
    ],
)  # fmt: skip
def test_near_ends_where_it_ends(centre: tuple[float, float], expected: bool) -> None:
    skeletons, centres = np.zeros((10, 64, 64, 3), np.uint8), np.full((10, 6, 2), 1e4, np.float32)
    skeletons[3, 25, 30, 2] = 1
    centres[:, 1] = centre
    found = _near(skeletons, centres)
    assert found[3, 1] == expected and found.sum() == expected


def test_episodes_are_seen_by_cameras_of_others(files: list[Path], motion_films: list[MotionFilm]) -> None:
    def cameras(films: tuple[MotionFilm, ...]) -> list[bytes]:
        return [film.camera.T_parent_camera.numpy().tobytes() for film in films]

    left, right = cameras(tuple(motion_films))
    assert cameras(load_motion_films(files, "compact", progress=False)) == [left, right]
    films = load_motion_films(files, "compact", views=9, seed=1, progress=False)
    assert len(films) == 18 and (films[0].camera.name, films[9].camera.name) == ("exterior_1", "exterior_2")
    assert set(cameras(films[:9])) == set(cameras(films[9:])) == {left, right}
    assert cameras(films) == cameras(load_motion_films(files, "compact", views=9, seed=1, progress=False))
    assert cameras(films) != cameras(load_motion_films(files, "compact", views=9, seed=2, progress=False))
    for film in films:  # who made the episode does not matter, only who looks at it
        same = motion_films[[left, right].index(film.camera.T_parent_camera.numpy().tobytes())]
        assert np.array_equal(film.steps, same.steps) and np.array_equal(film.near, same.near)
        assert all(np.array_equal(a, b) for a, b in zip(film.objects(ALL), same.objects(ALL), strict=True))
