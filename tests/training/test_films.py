"""Films: what each part of the training looks at is what was recorded, and files that are no good are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vap_sim.data.twin import TwinEpisode, save_episode
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.training.films import PictureFilm, check_films, draw_prompts, films_of, load_films


def test_there_is_one_film_of_pictures_a_view(picture_films: list[PictureFilm], recording: TwinEpisode) -> None:
    assert len(picture_films) == 2
    for view, film in enumerate(picture_films):
        for name in ("frames", "objects", "plate", "robot"):
            assert np.array_equal(getattr(film, name), getattr(recording, name)[view]), name
        assert np.array_equal(film.seen, 255 * (recording.labels[view] >= 2))
        assert film.skeletons.shape == (10, 64, 64, 3) and film.skeletons.any(axis=(1, 2, 3)).all()


def test_prompts_are_drawn_from_nominal_joints_by_the_recorded_cameras(
    picture_films: list[PictureFilm], recording: TwinEpisode
) -> None:
    prompts = draw_prompts(recording.meta, recording.joints, "compact").numpy()
    for view, film in enumerate(picture_films):
        assert np.array_equal(prompts[view], film.skeletons)
        drawn = film.skeletons.max(axis=-1) > 128  # the drawn skeleton lies on the robot
        assert (film.robot[drawn] > 0).mean() > 0.8
    assert not np.array_equal(prompts[0], prompts[1])


def test_files_are_read_in_their_order(
    recording_file: Path, recording: TwinEpisode, picture_films: list[PictureFilm]
) -> None:
    later = recording_file.with_name("twin_47.vap.npz")
    turned = replace(recording, **{k: getattr(recording, k)[::-1].copy() for k in ("frames", "plate")})
    save_episode(later, turned)
    read = load_films([later, recording_file], "compact", threads=2, progress=False)
    assert len(read) == 4
    assert np.array_equal(read[0].frames, picture_films[1].frames)
    assert np.array_equal(read[2].frames, picture_films[0].frames)


def test_a_recording_without_pictures_gives_no_film(recording: TwinEpisode, tmp_path: Path) -> None:
    views = ("frames", "objects", "plate", "robot", "labels", "flow")
    blind = replace(recording, **{name: getattr(recording, name)[:0] for name in views})
    assert films_of(blind, "compact") == []
    save_episode(tmp_path / "motion.vap.npz", blind)
    save_episode(tmp_path / "twin.vap.npz", recording)
    files = [tmp_path / "motion.vap.npz", tmp_path / "twin.vap.npz"]
    assert len(load_films(files, "compact", progress=False)) == 2


def test_no_files_and_bad_files_are_named(recording: TwinEpisode, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="the data set: no episode files"):
        load_films([], "compact")
    (tmp_path / "half.vap.npz").write_bytes(b"PK")
    with pytest.raises(BadFile, match=r"half\.vap\.npz: not a whole episode file"):
        load_films([tmp_path / "half.vap.npz"], "compact", progress=False)
    broken: list[tuple[dict[str, Any], str]] = [
        ({"robot": "pandas"}, "unknown robot 'pandas'"),
        ({"cameras": [{}]}, "robot or cameras cannot be used"),
        ({"cameras": []}, "robot or cameras cannot be used"),
    ]
    for number, (change, words) in enumerate(broken):
        path = tmp_path / f"{number}.vap.npz"
        save_episode(path, replace(recording, meta={**recording.meta, **change}))
        with pytest.raises(BadFile, match=rf"{number}\.vap\.npz: meta\.json.*{words}"):
            load_films([path], "compact", progress=False)


def test_films_that_do_not_suit_are_refused(picture_films: list[PictureFilm], recording: TwinEpisode) -> None:
    check_films(picture_films, 64, 10)
    with pytest.raises(InvalidInput, match="films for training: given none, expected at least one"):
        check_films([], 64, 2)
    small = replace(picture_films[0], frames=picture_films[0].frames[:, ::2, ::2])
    words = r"pictures \(width, height\) of \[\(32, 32\), \(64, 64\)\], expected \(64, 64\), as"
    with pytest.raises(InvalidInput, match=words):
        check_films([picture_films[0], small], 64, 2)
    with pytest.raises(InvalidInput, match=r"pictures \(width, height\) of \[\(64, 64\)\], expected \(128, 128\)"):
        check_films(picture_films, 128, 2)
    short = replace(picture_films[0], frames=picture_films[0].frames[:7])
    with pytest.raises(InvalidInput, match="given 7 frames in the shortest, expected at least 8"):
        check_films([picture_films[0], short], 64, 8)
