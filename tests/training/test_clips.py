"""Clips: a step draws the same ones again, layers and colors go together, and bad files are named."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vap_sim.data.twin import TwinEpisode, save_episode
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.compact.losses import Clip
from vap_sim.training.clips import ClipSource, Film, draw_prompts, films_of, load_films


@pytest.fixture(scope="module")
def films(recording: TwinEpisode) -> tuple[Film, ...]:
    return tuple(films_of(recording, "compact"))


def draw(films: tuple[Film, ...], seed: int, count: int = 2, length: int = 4, eventful: float = 0.75) -> Clip:
    return ClipSource(films, eventful).draw(np.random.default_rng(seed), count, length)


def same(one: Clip, other: Clip) -> bool:
    return all(torch.equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(Clip))


def test_there_is_one_film_a_view(films: tuple[Film, ...], recording: TwinEpisode) -> None:
    assert len(films) == 2
    for view, film in enumerate(films):
        assert np.array_equal(film.frames, recording.frames[view])
        assert np.array_equal(film.seen, 255 * (recording.labels[view] >= 2))
        assert film.skeletons.shape == (10, 64, 64, 3) and film.skeletons.any(axis=(1, 2, 3)).all()
        assert film.moving.tolist() == [False] * 5 + [True] * 5


def test_prompts_are_drawn_from_nominal_joints_by_the_recorded_cameras(
    films: tuple[Film, ...], recording: TwinEpisode
) -> None:
    prompts = draw_prompts(recording.meta, recording.joints, "compact").numpy()
    for view, film in enumerate(films):
        assert np.array_equal(prompts[view], film.skeletons)
        # The drawn skeleton lies on the robot.
        drawn = film.skeletons.max(axis=-1) > 128
        assert (film.robot[drawn] > 0).mean() > 0.8
    assert not np.array_equal(prompts[0], prompts[1])


def test_clips_have_the_shapes_that_the_loss_takes(films: tuple[Film, ...]) -> None:
    clip = draw(films, 0, count=3, length=5)
    shapes = {f.name: tuple(getattr(clip, f.name).shape) for f in fields(Clip)}
    assert shapes == {
        "frames": (3, 5, 3, 64, 64), "skeletons": (3, 7, 3, 64, 64), "objects": (3, 5, 4, 64, 64),
        "plate": (3, 3, 64, 64), "robot": (3, 5, 1, 64, 64), "seen": (3, 5, 1, 64, 64), "numbers": (3, 64, 64),
        "centres": (3, 5, 6, 2), "steps": (3, 5, 6, 4),
    }  # fmt: skip
    kinds = {f.name: getattr(clip, f.name).dtype for f in fields(Clip)}
    assert {kinds.pop(name) for name in ("centres", "steps")} == {torch.float32}
    assert set(kinds.values()) == {torch.uint8}


def test_what_is_drawn_follows_from_the_generator(films: tuple[Film, ...]) -> None:
    assert same(draw(films, 1), draw(films, 1)) and not same(draw(films, 1), draw(films, 2))


def test_colors_are_permuted_alike_in_all_layers(films: tuple[Film, ...]) -> None:
    """Layers still make the picture, whatever the colors; and the prompt keeps its own."""
    permuted = 0
    for seed in range(12):
        clip = draw(films, seed, count=1, length=3)
        objects, plate, frames = (getattr(clip, name)[0].float() for name in ("objects", "plate", "frames"))
        together = objects[:, :3] + (1 - objects[:, 3:] / 255) * plate
        free = clip.robot[0] == 0
        assert ((together - frames).abs() * free).max() < 2
        found = [
            (film, start, colors)
            for film in films
            for start in range(8)
            for colors in ([0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0])
            if np.array_equal(film.frames[start : start + 3][..., colors], clip.frames[0].permute(0, 2, 3, 1))
        ]
        assert found
        film, start, colors = found[0]
        permuted += colors != [0, 1, 2]
        history = [max(k, 0) for k in range(start - 2, start + 3)]
        assert np.array_equal(film.skeletons[history], clip.skeletons[0].permute(0, 2, 3, 1))
        assert np.array_equal(film.centres[start : start + 3], clip.centres[0])
        assert np.array_equal(film.steps[start : start + 3], clip.steps[0])
        assert np.array_equal(film.numbers[start], clip.numbers[0])
        assert np.array_equal(film.robot[start : start + 3], clip.robot[0, :, 0])
        assert np.array_equal(film.seen[start : start + 3], clip.seen[0, :, 0])
    assert 2 <= permuted <= 10


def test_eventful_clips_hold_movement(films: tuple[Film, ...]) -> None:
    def events(eventful: float) -> float:
        clips = draw(films, 0, count=40, length=3, eventful=eventful)
        return float((clips.steps[:, 1:, :, :2].abs() > 0.12).flatten(1).any(dim=1).float().mean())

    assert events(1.0) == 1.0 and events(0.0) < 0.95


def test_what_moved_before_a_clip_is_no_event_of_it(films: tuple[Film, ...]) -> None:
    once = np.arange(10) == 5
    marked = np.where(once[:, None, None], films[0].steps * 0 + 9, films[0].steps * 0).astype(np.float32)
    clips = draw((replace(films[0], moving=once, steps=marked),), 0, count=30, length=3, eventful=1.0)
    assert (clips.steps[:, 1:] == 9).flatten(1).any(dim=1).all()


def test_where_nothing_moves_clips_are_drawn_all_the_same(films: tuple[Film, ...]) -> None:
    still = tuple(replace(film, moving=np.zeros(10, bool)) for film in films)
    assert draw(still, 0, eventful=1.0).frames.shape[0] == 2


def test_a_clip_as_long_as_the_film_begins_at_its_start(films: tuple[Film, ...]) -> None:
    clip = draw(films, 0, count=1, length=10)
    assert torch.equal(clip.skeletons[0, 0], clip.skeletons[0, 2]) and torch.equal(
        clip.skeletons[0, 1], clip.skeletons[0, 2]
    )


def test_clips_longer_than_the_shortest_film_are_refused(films: tuple[Film, ...]) -> None:
    with pytest.raises(InvalidInput, match="clip length: given 11, expected at most 10 frames"):
        draw(films, 0, length=11)
    assert ClipSource(films).shortest == 10 and ClipSource(films).size == (64, 64)


def test_no_films_and_films_of_two_sizes_are_refused(films: tuple[Film, ...]) -> None:
    with pytest.raises(InvalidInput, match="films to draw clips from: given none"):
        ClipSource(())
    small = replace(films[0], frames=films[0].frames[:, ::2, ::2])
    with pytest.raises(InvalidInput, match=r"pictures \(H, W\) of \[\(32, 32\), \(64, 64\)\], expected one size"):
        ClipSource((films[0], small))


def test_files_are_read_in_their_order(recording_file: Path, recording: TwinEpisode, films: tuple[Film, ...]) -> None:
    later = recording_file.with_name("twin_47.vap.npz")
    turned = replace(recording, **{k: getattr(recording, k)[::-1].copy() for k in ("frames", "plate")})
    save_episode(later, turned)
    read = load_films([later, recording_file], "compact", threads=2, progress=False)
    assert len(read) == 4
    assert np.array_equal(read[0].frames, films[1].frames) and np.array_equal(read[2].frames, films[0].frames)


def test_no_files_and_bad_files_are_named(recording: TwinEpisode, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="the data set: no episode files"):
        load_films([], "compact")
    (tmp_path / "half.vap.npz").write_bytes(b"PK")
    with pytest.raises(BadFile, match=r"half\.vap\.npz: not a whole episode file"):
        load_films([tmp_path / "half.vap.npz"], "compact", progress=False)
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
            load_films([path], "compact", progress=False)
