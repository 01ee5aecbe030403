"""Scenes: what is drawn from a seed, what a record must hold, and that JSON loses nothing."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from vap_sim.envs.scenes import (
    COLORS,
    SHAPES,
    WORKSPACE_HIGH,
    WORKSPACE_LOW,
    Scene,
    SceneObject,
    sample_scene,
    with_pose,
)
from vap_sim.errors import InvalidInput, UnknownName

SCENES = [sample_scene(np.random.default_rng(seed), goal=seed % 2 == 0) for seed in range(300)]


def record() -> dict[str, Any]:
    return json.loads(json.dumps(sample_scene(np.random.default_rng(5), 3, goal=True).to_dict()))  # type: ignore[no-any-return]


def test_a_seed_decides_the_scene() -> None:
    again = [sample_scene(np.random.default_rng(seed), goal=seed % 2 == 0) for seed in range(20)]
    assert again == SCENES[:20]
    assert len(set(again)) == 20


def test_json_loses_nothing() -> None:
    for scene in SCENES[:50]:
        assert Scene.from_dict(json.loads(json.dumps(scene.to_dict()))) == scene
        assert Scene.from_dict(scene.to_dict()) == scene


def test_colors_of_a_scene_differ_and_all_are_used() -> None:
    for scene in SCENES:
        assert len({item.color for item in scene.objects}) == len(scene.objects)
    assert {item.color for scene in SCENES for item in scene.objects} == set(COLORS)
    assert {item.shape for scene in SCENES for item in scene.objects} == set(SHAPES)
    assert {len(scene.objects) for scene in SCENES} == {1, 2, 3, 4}


def test_objects_and_goal_stand_apart_in_the_workspace() -> None:
    for scene in SCENES:
        spots = [(item.x, item.y) for item in scene.objects] + ([scene.goal[:2]] if scene.goal else [])
        assert (np.array(spots) >= WORKSPACE_LOW).all() and (np.array(spots) <= WORKSPACE_HIGH).all()
        for one, other in combinations(spots, 2):
            assert np.hypot(one[0] - other[0], one[1] - other[1]) > 0.11


def test_colors_differ_from_table_and_wall() -> None:
    """Objects are saturated, surroundings are not: otherwise nobody could tell them apart."""
    for scene in SCENES:
        for muted in (scene.table_color, scene.wall_color):
            assert max(muted) - min(muted) < 0.15
        for item in scene.objects:
            assert max(COLORS[item.color]) - min(COLORS[item.color]) > 0.3


def test_cameras_look_at_the_workspace_from_both_sides() -> None:
    for scene in SCENES:
        left, right = scene.cameras
        assert (left.name, right.name) == ("exterior_1", "exterior_2")
        assert left.eye[1] > left.target[1] and right.eye[1] < right.target[1]
        for camera in scene.cameras:
            assert 0.9 < np.linalg.norm(np.subtract(camera.eye, camera.target)) < 1.2 and camera.eye[2] > 0.3


def test_a_goal_is_drawn_exactly_when_asked_for() -> None:
    assert all((scene.goal is not None) == (seed % 2 == 0) for seed, scene in enumerate(SCENES))


def test_width_is_the_larger_horizontal_side() -> None:
    assert SceneObject("brick", "red", (0.05, 0.09, 0.2), 0.5, 0.0, 0.0).width == 0.09


def test_moving_one_object_leaves_the_rest() -> None:
    scene = sample_scene(np.random.default_rng(2), 3)
    moved = with_pose(scene, 1, 0.4, 0.1, 0.3)
    assert (moved.objects[1].x, moved.objects[1].y, moved.objects[1].yaw) == (0.4, 0.1, 0.3)
    assert (moved.objects[0], moved.objects[2]) == (scene.objects[0], scene.objects[2])
    assert with_pose(moved, 1, scene.objects[1].x, scene.objects[1].y, scene.objects[1].yaw) == scene
    for index in (-1, 3):
        with pytest.raises(InvalidInput, match=f"object index: given {index}, expected 0 to 2"):
            with_pose(scene, index, 0.4, 0.1, 0.3)


@pytest.mark.parametrize("count", [0, 5])
def test_a_wrong_number_of_objects_is_refused(count: int) -> None:
    with pytest.raises(InvalidInput, match=f"num_objects: given {count}, expected 1 to 4"):
        sample_scene(np.random.default_rng(0), count)


@pytest.mark.parametrize(
    ("path", "value", "error", "words"),
    [
        (("objects", 0, "shape"), "cubed", UnknownName, r"object shape 'cubed'\. Did you mean 'cube'"),
        (("objects", 0, "color"), "blu", UnknownName, r"object color 'blu'\. Did you mean 'blue'"),
        (("objects", 0, "size"), [0.05, 0.05, 0.5], InvalidInput, r"object size \[m\].*between 0\.01 and 0\.3"),
        (("objects", 0, "size"), [0.05, 0.05], InvalidInput, "scene record: given a bad or missing field"),
        (("objects", 0, "size"), [float("nan")] * 3, InvalidInput, r"object size \[m\]"),
        (("objects", 0, "x"), float("inf"), InvalidInput, r"object pose \(x, y, yaw\).*expected finite"),
        (("objects", 0, "x"), "left", InvalidInput, "bad or missing field .*could not convert"),
        (("objects", 0, "weight"), 3.0, InvalidInput, "bad or missing field .*'weight'"),
        (("objects",), 3, InvalidInput, "bad or missing field"),
        (("light", "ambient"), None, InvalidInput, "bad or missing field"),
        (("light", "shadow"), True, InvalidInput, "bad or missing field .*'shadow'"),
        (("cameras", 0, "eye"), [1, 2], InvalidInput, "bad or missing field"),
        (("cameras", 0, "fov"), 1.0, InvalidInput, "bad or missing field .*'fov'"),
        (("goal",), [0.5, 0.1], InvalidInput, "bad or missing field"),
        (("table_colour",), [1, 1, 1], UnknownName, r"'table_colour'\. Did you mean 'table_color'"),
    ],
)
def test_a_wrong_record_is_refused_by_name(
    path: tuple[str | int, ...], value: object, error: type[Exception], words: str
) -> None:
    data: Any = record()
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(error, match=words):
        Scene.from_dict(data)


@pytest.mark.parametrize("path", [("goal",), ("light", "diffuse"), ("objects", 1, "yaw"), ("cameras", 0, "name")])
def test_a_missing_field_is_named(path: tuple[str | int, ...]) -> None:
    data: Any = record()
    place = data
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    with pytest.raises(InvalidInput, match=f"bad or missing field .*'{path[-1]}'"):
        Scene.from_dict(data)


@pytest.mark.parametrize("data", [[], None, "scene"])
def test_a_record_must_be_a_mapping(data: Any) -> None:
    with pytest.raises(InvalidInput, match="scene record: given a bad or missing field"):
        Scene.from_dict(data)


def test_two_objects_of_one_color_are_refused() -> None:
    data = record()
    data["objects"][0]["color"] = data["objects"][1]["color"]
    with pytest.raises(InvalidInput, match=r"object colors of a scene.*expected a different color for each object"):
        Scene.from_dict(data)


def test_things_that_do_not_stand_on_the_table_say_how_they_lie() -> None:
    scene = sample_scene(np.random.default_rng(5), 2)
    lying = with_pose(scene, 1, 0.4, 0.1, 0.3, 0.07, (0.0, 0.6, 0.0, 0.8))
    told = json.loads(json.dumps(lying.to_dict()))
    assert "z" not in told["objects"][0] and told["objects"][1]["turn"] == [0.0, 0.6, 0.0, 0.8]
    assert Scene.from_dict(told) == lying
    assert with_pose(lying, 1, 0.4, 0.1, 0.3).objects[1].z is None
    for z, turn in ((0.1, None), (None, (0.0, 0.0, 0.0, 1.0)), (0.1, (0.0, 0.0, 0.0, 0.5)), (np.nan, (0, 0, 0, 1))):
        with pytest.raises(InvalidInput, match=r"object pose \(z, turn\)"):
            with_pose(scene, 0, 0.4, 0.1, 0.3, z, turn)
