"""Which clips were taken by one camera: other things on the table do not matter, a push does."""

from __future__ import annotations

import cv2
import numpy as np

from vap_sim.extraction.cameras_stations import empty_scene, group_scenes, match_scenes

RNG = np.random.default_rng(1)


def room(seed: int) -> np.ndarray:
    blots = cv2.GaussianBlur(np.random.default_rng(seed).uniform(0, 255, (192, 320)).astype(np.float32), (0, 0), 3)
    return np.clip((blots - 127) * 6 + 127, 0, 255).astype(np.uint8)


def with_things(picture: np.ndarray) -> np.ndarray:
    changed = picture.copy()
    changed[100:150, 120:220] = room(99)[:50, :100]
    return changed


def test_a_scene_with_other_things_is_the_same() -> None:
    match = match_scenes(room(1), with_things(room(1)))
    assert match.same_camera
    assert match.still < match.blocks


def test_a_pushed_camera_is_another() -> None:
    match = match_scenes(room(1), np.roll(room(1), 4, axis=1))
    assert not match.same_camera
    assert match.moved > match.still


def test_groups_are_split_by_pushes_and_rooms() -> None:
    scenes = [room(1), room(2), with_things(room(1)), np.roll(room(1), 5, axis=0), room(2)]
    assert group_scenes(scenes) == ((0, 2), (1, 4), (3,))


def test_a_blank_wall_tells_nothing() -> None:
    blank = np.full((192, 320), 128, np.uint8)
    assert match_scenes(blank, blank).blocks == 0
    assert group_scenes([blank, blank]) == ((0,), (1,))


def test_what_moves_fades_from_the_scene() -> None:
    still = np.repeat(room(3)[..., None], 3, axis=2)
    frames = np.stack([still] * 9)
    for number in range(9):
        frames[number, :, 30 * number : 30 * number + 30] = 255
    np.testing.assert_array_equal(empty_scene(frames), room(3))
