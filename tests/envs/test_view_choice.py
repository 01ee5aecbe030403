"""Which pictures of a start an environment begins from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vap_sim.envs.start import Start, load_start
from vap_sim.envs.stations import DROID, RT1
from vap_sim.envs.view_choice import chosen_views, default_views, first_view, own_views, rides, station_views
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.models.compact.model import UntrainedRate
from vap_sim.models.compact.opening import CompactWorlds
from vap_sim.models.compact.views import CompactViews
from vap_sim.models.registry import load_world, world_settings
from vap_sim.robots.library import load_robot


@pytest.fixture
def start() -> Start:
    return load_start("push_03")


def names(start: Start) -> list[str]:
    return [camera.name for camera in start.cameras]


def test_a_start_that_has_the_views_is_taken_as_it_is(start: Start) -> None:
    assert chosen_views(start, ("exterior_1",)) is start


def test_views_are_picked_by_name_and_in_order(start: Start) -> None:
    wide = chosen_views(start, ("exterior_1", "exterior_2", "wrist"))
    assert names(wide) == ["exterior_1", "exterior_2", "wrist"]
    assert torch.equal(wide.frames[:1], start.frames) and wide.scene == start.scene
    assert wide.cameras[2].parent_link == load_robot("panda_robotiq").camera("wrist").parent_link
    for views in (("wrist",), ("exterior_2", "exterior_1")):
        for whole in (wide, start):
            chosen = chosen_views(whole, views)
            assert names(chosen) == list(views)
            for frame, name in zip(chosen.frames, views, strict=True):
                assert torch.equal(frame, wide.frames[names(wide).index(name)])


def test_another_size_has_all_its_views(start: Start) -> None:
    small = chosen_views(start.resized((64, 64)), ("exterior_1", "exterior_2"))
    assert small.size == (64, 64) and small.cameras[1].size == (64, 64)


def test_a_photo_by_a_camera_of_another_name_is_taken_as_it_is(start: Start) -> None:
    photo = replace(start, cameras=(replace(start.cameras[0], name="phone"),))
    assert chosen_views(photo, ("exterior_1",)) is photo


def test_pictures_of_another_moment_are_not_mixed_in(start: Start) -> None:
    moved = replace(start, joints=start.joints + 0.01)
    words = r"views of start 'push_03': given \['exterior_1'\], expected .* with views=\('exterior_1',\) begins there"
    with pytest.raises(InvalidInput, match=words):
        chosen_views(moved, ("exterior_1", "exterior_2"))


def test_a_view_that_is_not_there_is_told_by_name(start: Start) -> None:
    with pytest.raises(UnknownName, match=r"unknown view of start 'push_03' 'wrst'\. Did you mean 'wrist'"):
        chosen_views(start, ("exterior_1", "wrst"))


def test_a_photo_is_one_view(start: Start) -> None:
    photo = replace(start, cameras=(replace(start.cameras[0], name="phone"),))
    words = r"views of start 'push_03': given \['phone'\], expected .* with views=\('phone',\) begins there"
    with pytest.raises(InvalidInput, match=words):
        chosen_views(photo, ("exterior_1", "wrist"))


def test_default_views_are_the_stations_as_far_as_a_start_has_them(start: Start) -> None:
    model = load_robot(start.robot)
    assert default_views(model) == default_views(model, start) == ("exterior_1", "wrist")
    assert default_views(load_robot("google_robot")) == ("head",)
    assert default_views(model, replace(start, joints=start.joints + 0.01)) == ("exterior_1",)
    assert default_views(model, replace(start, cameras=(replace(start.cameras[0], name="phone"),))) == ("phone",)
    one = replace(chosen_views(start, ("exterior_2", "wrist")), name="mine")
    assert names(one) == ["exterior_2", "wrist"] and default_views(model, one) == ("wrist",)


def test_another_robot_at_a_station_shows_what_it_has_a_camera_for() -> None:
    other = load_robot("widowx")
    bare = replace(other, cameras={})
    assert station_views(DROID, load_robot("panda_robotiq")) == station_views(DROID, other) == ("exterior_1", "wrist")
    assert station_views(DROID, bare) == ("exterior_1",)
    assert station_views(RT1, bare) == ("head",), "which no camera has: the twin says so by name"


def test_what_a_start_can_show(start: Start) -> None:
    views, phone = ("exterior_1", "wrist"), replace(start.cameras[0], name="phone")
    assert own_views(start, views) == views
    assert own_views(replace(start, name="mine"), views) == own_views(replace(start, cameras=(phone,)), views)
    assert own_views(replace(start, name="mine"), views) == ("exterior_1",)


def test_the_first_view_alone() -> None:
    assert first_view("VAPWorld-DROID-v0") == first_view("vap_sim:VAPTwin-DROID-v0") == {"views": ("exterior_1",)}
    assert first_view("VAPWorld-RT1-v0") == {"views": ("head",)}
    assert first_view("CartPole-v1") == first_view("VAPWorld-Nowhere-v0") == {}


def test_which_views_ride(start: Start) -> None:
    model = load_robot(start.robot)
    assert rides(model, ("exterior_1", "wrist")) and not rides(model, ("exterior_1", "phone"))


def test_the_compact_world_has_as_many_views_as_asked_for() -> None:
    assert {"views", "moving", "table_height", "frame_rate", "moved_by"} <= set(world_settings("compact"))
    assert load_world("compact", moved_by="sight").spec.reads_cameras is False
    for options in ({"views": 2}, {"moving": True}):
        world = CompactWorlds.load(**options)  # type: ignore[arg-type]
        assert isinstance(world, CompactViews) and world.spec.reads_cameras
        assert world.spec.views == options.get("views", 1)
    with pytest.raises(InvalidInput, match="views of the compact world: given 5, expected 1 to 4"):
        load_world("compact", views=5)


def test_the_rate_is_said_by_the_spec() -> None:
    for views in (1, 2):
        assert load_world("compact", views=views).spec.frame_rate == 5.0
        with pytest.warns(UntrainedRate, match="not at 3 Hz"):
            assert load_world("compact", views=views, frame_rate=3.0).spec.frame_rate == 3.0
