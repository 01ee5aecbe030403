"""Films: what each part of the training looks at is what was recorded, and files that are no good are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vap_sim.data.twin import TwinEpisode, save_episode
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.compact.motion_losses import MOVED
from vap_sim.training.films import MotionFilm, PictureFilm, check_films, draw_prompts, films_of, load_films
from vap_sim.training.tracks import follow

NEAR = 20
"""[px] around an object's centre in which a skeleton is near."""


def test_there_is_one_film_of_pictures_a_view(picture_films: list[PictureFilm], recording: TwinEpisode) -> None:
    assert len(picture_films) == 2
    for view, film in enumerate(picture_films):
        for name in ("frames", "objects", "plate", "robot"):
            assert np.array_equal(getattr(film, name), getattr(recording, name)[view]), name
        assert np.array_equal(film.seen, 255 * (recording.labels[view] >= 2))
        assert film.skeletons.shape == (10, 64, 64, 3) and film.skeletons.any(axis=(1, 2, 3)).all()


def test_there_is_one_film_of_motion_a_view(motion_films: list[MotionFilm], recording: TwinEpisode) -> None:
    assert len(motion_films) == 2
    for view, film in enumerate(motion_films):
        track = follow(recording, view)
        for name in ("numbers", "centres", "steps"):
            assert np.array_equal(getattr(film, name), getattr(track, name)), name
        assert np.array_equal(film.alpha, recording.objects[view, ..., 3])
        assert film.moving.any(axis=1).tolist() == [False] * 5 + [True] * 5
        assert not film.moving[(np.abs(film.steps[..., :3]) < 1e-3).all(-1)].any()
        assert film.moving[(np.abs(film.steps[..., :2]) > MOVED).any(-1)].all()


def test_both_kinds_of_films_see_the_same_prompts(
    picture_films: list[PictureFilm], motion_films: list[MotionFilm]
) -> None:
    for pictures, motion in zip(picture_films, motion_films, strict=True):
        assert np.array_equal(pictures.skeletons, motion.skeletons)


def test_prompts_are_drawn_from_nominal_joints_by_the_recorded_cameras(
    picture_films: list[PictureFilm], recording: TwinEpisode
) -> None:
    prompts = draw_prompts(recording.meta, recording.joints, "compact").numpy()
    for view, film in enumerate(picture_films):
        assert np.array_equal(prompts[view], film.skeletons)
        drawn = film.skeletons.max(axis=-1) > 128  # the drawn skeleton lies on the robot
        assert (film.robot[drawn] > 0).mean() > 0.8
    assert not np.array_equal(prompts[0], prompts[1])


def near(skeletons: np.ndarray, centres: np.ndarray, recording: TwinEpisode, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a film says of these skeletons and centres."""
    track = replace(follow(recording, 0), centres=centres)
    monkeypatch.setattr("vap_sim.training.films.follow", lambda episode, view: track)
    return MotionFilm.of(recording, 0, skeletons).near


def test_near_is_where_something_is_drawn_around_the_object(motion_films: list[MotionFilm]) -> None:
    ys, xs = np.mgrid[:64, :64]
    for film in motion_films:
        for frame, slot in np.ndindex(*film.near.shape):
            x, y = np.round(film.centres[frame, slot])
            window = (abs(xs - x) <= NEAR) & (abs(ys - y) <= NEAR)
            assert film.near[frame, slot] == film.skeletons[frame][window].any()
        assert film.near[film.moving].all()  # what pushes is close


@pytest.mark.parametrize(
    ("centre", "expected"),
    [
        ((30, 25), True), ((10, 45), True), ((50, 25), True), ((51, 25), False), ((9, 25), False),
        ((30, 46), False), ((30, 4), False), ((30.4, 45.3), True), ((-500, 25), False), ((30, 9000), False),
    ],
)  # fmt: skip
def test_near_ends_where_it_ends(
    centre: tuple[float, float], expected: bool, recording: TwinEpisode, monkeypatch: pytest.MonkeyPatch
) -> None:
    skeletons, centres = np.zeros((10, 64, 64, 3), np.uint8), np.full((10, 6, 2), 1e4, np.float32)
    skeletons[3, 25, 30, 2] = 1
    centres[:, 1] = centre
    found = near(skeletons, centres, recording, monkeypatch)
    assert found[3, 1] == expected and found.sum() == expected


def test_files_are_read_in_their_order(
    recording_file: Path, recording: TwinEpisode, picture_films: list[PictureFilm]
) -> None:
    later = recording_file.with_name("twin_47.vap.npz")
    turned = replace(recording, **{k: getattr(recording, k)[::-1].copy() for k in ("frames", "plate")})
    save_episode(later, turned)
    read = load_films([later, recording_file], "compact", PictureFilm.of, threads=2, progress=False)
    assert len(read) == 4
    assert np.array_equal(read[0].frames, picture_films[1].frames)
    assert np.array_equal(read[2].frames, picture_films[0].frames)


def test_a_film_from_a_file_is_that_of_the_recording(recording_file: Path, motion_films: list[MotionFilm]) -> None:
    read = load_films([recording_file], "compact", MotionFilm.of, progress=False)
    for film, expected in zip(read, motion_films, strict=True):
        assert all(np.array_equal(value, getattr(expected, name)) for name, value in vars(film).items())


def test_no_files_and_bad_files_are_named(recording: TwinEpisode, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="the data set: no episode files"):
        load_films([], "compact", PictureFilm.of)
    (tmp_path / "half.vap.npz").write_bytes(b"PK")
    with pytest.raises(BadFile, match=r"half\.vap\.npz: not a whole episode file"):
        load_films([tmp_path / "half.vap.npz"], "compact", PictureFilm.of, progress=False)
    broken: list[tuple[dict[str, Any], str]] = [
        ({"robot": "pandas"}, "unknown robot 'pandas'"),
        ({"cameras": [{}]}, "scene, robot or cameras cannot be used"),
        ({"cameras": []}, "scene, robot or cameras cannot be used"),
        ({"scene": {"objects": []}}, "scene, robot or cameras cannot be used"),
    ]
    for number, (change, words) in enumerate(broken):
        path = tmp_path / f"{number}.vap.npz"
        save_episode(path, replace(recording, meta={**recording.meta, **change}))
        with pytest.raises(BadFile, match=rf"{number}\.vap\.npz: meta\.json.*{words}"):
            load_films([path], "compact", MotionFilm.of, progress=False)


def test_films_that_do_not_suit_are_refused(picture_films: list[PictureFilm], recording: TwinEpisode) -> None:
    check_films(picture_films, 64, 10)
    with pytest.raises(InvalidInput, match="films for training: given none, expected at least one"):
        check_films([], 64, 2)
    small = replace(picture_films[0], skeletons=picture_films[0].skeletons[:, ::2, ::2])
    with pytest.raises(InvalidInput, match=r"pictures \(H, W\) of \[\(32, 32\), \(64, 64\)\], expected \(64, 64\), as"):
        check_films([picture_films[0], small], 64, 2)
    with pytest.raises(InvalidInput, match=r"pictures \(H, W\) of \[\(64, 64\)\], expected \(128, 128\)"):
        check_films(picture_films, 128, 2)
    short = replace(picture_films[0], skeletons=picture_films[0].skeletons[:7])
    with pytest.raises(InvalidInput, match="given 7 frames in the shortest, expected at least 8"):
        check_films([picture_films[0], short], 64, 8)


def test_films_are_made_by_what_is_asked_for(recording: TwinEpisode) -> None:
    def make(episode: TwinEpisode, view: int, skeletons: np.ndarray) -> PictureFilm:
        assert episode is recording and torch.from_numpy(skeletons).shape == (10, 64, 64, 3)
        made.append(view)
        return PictureFilm.of(episode, view, skeletons)

    made: list[int] = []
    assert len(films_of(recording, "compact", make)) == 2 and made == [0, 1]
