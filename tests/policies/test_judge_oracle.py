"""Episodes for judges and their labels: places lead back to the table, margins make labels unclear, files are whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vap_sim.commands.judge_episodes import JudgedEpisode, load_judged, record_judged, save_judged
from vap_sim.commands.judge_oracle import label, shown_as_read, shown_in_dream, shown_in_twin, to_plane
from vap_sim.commands.judge_questions import lessons_of_episodes, lessons_of_stills, moments_in
from vap_sim.commands.judge_stills import Stills, load_stills, save_stills
from vap_sim.envs.scenes import Scene
from vap_sim.envs.start import load_start
from vap_sim.envs.tasks import get_task
from vap_sim.errors import BadFile
from vap_sim.models.registry import load_world
from vap_sim.policies.judge_network import to_table

START = load_start("push_00")
assert START.scene is not None
SCENE = Scene.from_dict(START.scene)
CAMERA = START.cameras[0]
PICTURE = START.frames[0].numpy()
GOAL = SCENE.goal or (0.0, 0.0, 0.0)


def pixel(index: int, x: float, y: float) -> np.ndarray:
    """Where the middle of object `index` at (x, y) [m] is seen."""
    point = torch.tensor([[x, y, SCENE.objects[index].size[2] / 2]], dtype=torch.float32)
    return np.asarray(CAMERA.project(point)[0][0].numpy())


def episode(*places: tuple[float, float]) -> JudgedEpisode:
    """Object 0 comes to rest at each place for two pictures; others stay. Cut-outs are seen 2 pixels beside the
    objects' middles. The twin is kept at the second picture of each place."""
    count, number = len(places), len(SCENE.objects)
    begun = np.stack([pixel(k, item.x, item.y) for k, item in enumerate(SCENE.objects)]) + 2
    slots = np.repeat(begun[None], 1 + 2 * count, axis=0)
    slots[1:, 0] = np.repeat([pixel(0, *place) for place in places], 2, axis=0) + 2
    standing = np.array([[item.x, item.y, item.size[2] / 2] for item in SCENE.objects])
    objects = np.repeat(np.repeat(standing[None, None], 2, axis=1), count, axis=0)
    objects[:, :, 0, :2] = np.array(places)[:, None]
    joints = START.joints.numpy()[None]
    return JudgedEpisode(
        dream=PICTURE[None].repeat(1 + 2 * count, axis=0),
        slots=slots.astype(np.float32),
        present=np.ones(number, bool),
        joints=joints.repeat(1 + 2 * count, axis=0),
        twin=PICTURE[None, None].repeat(count, axis=0).repeat(2, axis=1),
        steps=2 * np.arange(1, count + 1),
        measured=joints.repeat(count, axis=0),
        objects=objects,
        tool=np.full((count, 3), 0.5),
        gripper=np.zeros(count),
        speed=np.zeros(count),
        held=np.zeros((count, number), bool),
        read=slots[2::2].astype(np.float32),
        read_present=np.ones((count, number), bool),
        meta={
            "seed": 1,
            "task": "push",
            "policy": "scripted",
            "instruction": START.instruction,
            "robot": START.robot,
            "world": "",
            "scene": SCENE.to_dict(),
            "camera": CAMERA.to_dict(),
        },
    )


@pytest.mark.parametrize("height", [0.0, 0.03])
def test_pixels_lead_back_to_the_plane_they_came_from(height: float) -> None:
    points = np.array([[0.4, -0.2], [0.55, 0.2], [0.45, 0.0]])
    raised = torch.from_numpy(np.concatenate([points, np.full((3, 1), height)], axis=1)).float()
    pixels = CAMERA.project(raised)[0].double().numpy()
    assert to_plane(CAMERA, pixels, height) == pytest.approx(points, abs=1e-4)


def test_the_dream_is_read_as_it_was_laid_and_agrees_with_the_truth() -> None:
    inside, edge, outside = GOAL[:2], (GOAL[0], GOAL[1] + GOAL[2] - 0.002), (GOAL[0], GOAL[1] + 0.15)
    made = episode(inside, edge, outside)
    shown, task = shown_in_dream(made), get_task("push")
    assert shown.places[2::2, 0] == pytest.approx(np.array([inside, edge, outside]), abs=0.004)
    assert shown.before[2::2] == pytest.approx(shown.places[2::2])
    labels = [label(shown, step, task) for step in (2, 4, 6)]
    assert [item.clear for item in labels] == [True, False, True]
    assert [labels[0].success, labels[2].success] == [True, False]
    truth = shown_in_twin(made)
    assert [label(truth, moment, task).success for moment in range(3)] == [True, True, False]
    read = shown_as_read(made).places
    assert read[:, 1:] == pytest.approx(shown.places[2::2, 1:], abs=1e-6)
    assert np.isnan(read[:, 0]).all(), "the picture does not show its colour where it is said to be"


def test_a_moving_object_is_not_done_and_a_missing_one_is_unclear() -> None:
    shown = shown_in_dream(episode(GOAL[:2]))
    assert [label(shown, step, get_task("push")).success for step in range(3)] == [False, False, True]
    made = episode(GOAL[:2])
    lost = shown_in_dream(replace(made, slots=made.slots + 40))
    assert not label(lost, 2, get_task("push")).clear


def test_a_lifted_object_has_no_place_on_the_table() -> None:
    made = episode(GOAL[:2], GOAL[:2])
    made.objects[1, 1, 0, 2] += 0.05
    shown = shown_in_twin(made)
    assert np.isfinite(shown.places[0]).all()
    assert np.isnan(shown.places[1, 0]).all()
    assert np.isfinite(shown.before[1, 0]).all()


def test_moments_are_what_a_judge_sees_with_the_truth() -> None:
    made = episode(GOAL[:2], (GOAL[0], GOAL[1] + 0.15))
    for source in ("twin", "dream"):
        here = moments_in(made, source)
        assert here.steps.tolist() == [2, 4]
        assert [item.success for item in here.labels] == [True, False]
        assert here.evidence.last.shape == (2, 2, *PICTURE.shape)
        assert here.evidence.tasks == ("push", "push")
    every = moments_in(made, "dream", np.arange(1, 5))
    assert [item.success for item in every.labels] == [False, True, False, False]


def test_lessons_say_where_things_are_and_are_kept_for_the_next_time(tmp_path: Path) -> None:
    place = (GOAL[0], GOAL[1] + 0.1)
    path = tmp_path / "judged_00000001.judge.npz"
    save_judged(path, episode(place))
    learned = lessons_of_episodes([path], tmp_path)
    assert len(learned) == 2 * len(SCENE.objects), "the first picture of the dream, and one of the twin"
    items = [(item.x, item.y) for item in SCENE.objects]
    assert learned.places.numpy() == pytest.approx(np.array([*items, place, *items[1:]]), abs=1e-4)
    kept = (tmp_path / "episodes.safetensors").stat().st_mtime_ns
    assert torch.equal(lessons_of_episodes([path], tmp_path).wide, learned.wide)
    assert (tmp_path / "episodes.safetensors").stat().st_mtime_ns == kept
    save_judged(path, episode(place, place))
    assert len(lessons_of_episodes([path], tmp_path)) == 4 * len(SCENE.objects), "read again where files changed"


def test_stills_come_back_whole_and_lead_to_lessons(tmp_path: Path) -> None:
    objects = [{"color": i.color, "x": i.x, "y": i.y, "height": i.size[2]} for i in SCENE.objects]
    shown = [{"camera": CAMERA.to_dict(), "objects": objects, "goal": goal} for goal in (list(GOAL), None)]
    path = tmp_path / "stills_000000.stills.npz"
    save_stills(path, Stills(np.stack([PICTURE, PICTURE]), shown))
    back = load_stills(path)
    assert np.array_equal(back.pictures[1], PICTURE)
    of_objects, of_goals = lessons_of_stills([path], tmp_path)
    assert (len(of_objects), len(of_goals)) == (2 * len(SCENE.objects), 1)
    seen_at = to_table(of_goals.middles, torch.zeros(1), of_goals.intrinsics, of_goals.poses)
    assert seen_at[0].numpy() == pytest.approx(np.array(GOAL[:2]), abs=0.02)
    assert float(of_goals.size[0]) == pytest.approx(GOAL[2])
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(BadFile, match="stills_000000"):
        load_stills(path)


def test_drawn_stills_show_what_they_say() -> None:
    pytest.importorskip("pybullet", reason="true pictures need the twin")
    from vap_sim.commands import judge_stills
    from vap_sim.envs.scenes import COLORS

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge_stills, "SCENES", 2)
        stills = judge_stills.draw_stills(7)
        again = judge_stills.draw_stills(7)
    assert np.array_equal(stills.pictures, again.pictures)
    assert [record["goal"] is not None for record in stills.shown] == [True, False, False, False, False] * 2
    picture, record = stills.pictures[0], stills.shown[0]
    camera = judge_stills.camera_of(record)
    for item in record["objects"]:
        middle = torch.tensor([[item["x"], item["y"], item["height"] / 2]])
        x, y = camera.project(middle)[0][0].round().int().tolist()
        own, named = picture[y, x] / picture[y, x].sum(), np.array(COLORS[item["color"]])
        assert np.abs(own - named / named.sum()).sum() < 0.15


def test_a_file_comes_back_whole_or_by_name_not_at_all(tmp_path: Path) -> None:
    made, path = episode(GOAL[:2]), tmp_path / "judged_00000001.judge.npz"
    save_judged(path, made)
    back = load_judged(path)
    for name in ("twin", "dream", "joints", "objects", "slots", "measured"):
        assert np.array_equal(getattr(back, name), getattr(made, name))
    assert Scene.from_dict(back.meta["scene"]) == SCENE
    assert {**back.meta, "scene": None} == {**made.meta, "scene": None}
    whole = path.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"PK" + whole[2:200]):
        path.write_bytes(damage)
        with pytest.raises(BadFile, match="judged_00000001"):
            load_judged(path)
    with pytest.raises(BadFile, match="not a whole episode"):
        load_judged(tmp_path / "none.judge.npz")
    changes: list[dict[str, Any]] = [{"dream": made.twin}, {"speed": made.speed.astype(np.float32)}]
    for change in changes:
        save_judged(path, replace(made, **change))
        with pytest.raises(BadFile, match=next(iter(change))):
            load_judged(path)


@pytest.mark.parametrize("options", [{}, {"moved_by": "sight"}], ids=["touch", "sight"])
def test_an_episode_is_dreamt_by_the_shipped_world_and_read_back(options: dict[str, str], tmp_path: Path) -> None:
    """However it moves its things, one view shows where they are, and at first that is where the twin shows them."""
    pytest.importorskip("pybullet")
    made = record_judged(900_000, load_world("compact", **options))
    save_judged(tmp_path / "one.judge.npz", made)
    read = load_judged(tmp_path / "one.judge.npz")
    assert np.array_equal(read.slots, made.slots) and read.slots.shape[1:] == (len(read.present), 2)
    assert read.present.any()
    stand = np.array([(item.x, item.y) for item in Scene.from_dict(read.meta["scene"]).objects])
    off = np.linalg.norm(shown_in_dream(read).places[0] - stand, axis=1)
    assert np.isfinite(off).any() and np.nanmax(off) < 0.03
