"""Episodes for judges and their labels: places lead back to the table, margins make labels unclear, files are whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vap_sim.commands.judge_episodes import JudgedEpisode, load_judged, save_judged
from vap_sim.commands.judge_oracle import label, shown_in_dream, shown_in_twin, to_plane
from vap_sim.commands.judge_questions import episode_questions
from vap_sim.envs.scenes import Scene
from vap_sim.envs.start import load_start
from vap_sim.envs.tasks import get_task
from vap_sim.errors import BadFile

START = load_start("push_00")
assert START.scene is not None
SCENE = Scene.from_dict(START.scene)
CAMERA = START.cameras[0]
GOAL = SCENE.goal or (0.0, 0.0, 0.0)


def pixel(index: int, x: float, y: float) -> np.ndarray:
    """Where the middle of object `index` at (x, y) [m] is seen."""
    point = torch.tensor([[x, y, SCENE.objects[index].size[2] / 2]], dtype=torch.float32)
    return np.asarray(CAMERA.project(point)[0][0].numpy())


def episode(*places: tuple[float, float]) -> JudgedEpisode:
    """Object 0 comes to rest at each place; others stay. Cut-outs are seen 2 pixels beside the objects' middles."""
    count, number = len(places), len(SCENE.objects)
    begun = np.stack([pixel(k, item.x, item.y) for k, item in enumerate(SCENE.objects)]) + 2
    slots = np.repeat(np.repeat(begun[None, None], 2, axis=1), count, axis=0)
    slots[:, :, 0] = np.array([pixel(0, *place) for place in places])[:, None] + 2
    objects = np.repeat(np.array([[[item.x, item.y, item.size[2] / 2] for item in SCENE.objects]]), count, axis=0)
    objects[:, 0, :2] = places
    picture = np.repeat(START.frames.numpy()[None].repeat(2, axis=1), count, axis=0)
    joints = np.repeat(START.joints.numpy()[None, None], 2, axis=1).repeat(count, axis=0)
    success = np.array([float(np.hypot(x - GOAL[0], y - GOAL[1])) < GOAL[2] for x, y in places])
    return JudgedEpisode(
        first=START.frames[0].numpy(),
        twin=picture,
        dream=picture,
        steps=np.arange(1, count + 1),
        joints=joints,
        measured=joints,
        objects=objects,
        tool=np.full((count, 3), 0.5),
        gripper=np.zeros(count),
        speed=np.zeros(count),
        held=np.zeros((count, number), bool),
        success=success,
        slots=slots.astype(np.float32),
        present=np.ones(number, bool),
        begun=begun.astype(np.float32),
        read=slots[:, 1].astype(np.float32),
        read_present=np.ones((count, number), bool),
        meta={
            "seed": 1,
            "task": "push",
            "policy": "expert",
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
    assert shown.places[:, 0] == pytest.approx(np.array([inside, edge, outside]), abs=0.004)
    labels = [label(shown, moment, task) for moment in range(3)]
    assert [item.clear for item in labels] == [True, False, True]
    assert [labels[0].success, labels[2].success] == [True, False]
    truth = [label(shown_in_twin(made), moment, task).success for moment in range(3)]
    assert truth == made.success.tolist() == [True, True, False]


def test_a_moving_object_is_not_done_and_a_missing_one_is_unclear() -> None:
    made = episode(GOAL[:2], GOAL[:2])
    moving = made.slots.copy()
    moving[0, 0, 0] += 4
    shown = shown_in_dream(replace(made, slots=moving))
    assert [label(shown, moment, get_task("push")).success for moment in range(2)] == [False, True]
    lost = shown_in_dream(replace(made, begun=made.begun + 40))
    assert not label(lost, 1, get_task("push")).clear


def test_questions_ask_of_every_object_and_possible_task() -> None:
    made = episode(GOAL[:2], (GOAL[0], GOAL[1] + 0.15))
    own, told = episode_questions(made, every=False)
    assert [(item.source, item.truth, item.last) for item in told] == [
        ("twin", True, False),
        ("twin", False, True),
        ("dream", True, False),
        ("dream", False, True),
    ]
    assert own.done.tolist() == [1, 0, 1, 0]
    assert torch.isnan(own.places[:2, 1]).all(), "the twin does not tell where objects were one picture before"
    assert torch.isfinite(own.places[2:]).all()
    every, _ = episode_questions(made, every=True)
    assert len(every) == 3 * len(SCENE.objects) * len(own)


def test_a_file_comes_back_whole_or_by_name_not_at_all(tmp_path: Path) -> None:
    made, path = episode(GOAL[:2]), tmp_path / "judged_00000001.judge.npz"
    save_judged(path, made)
    back = load_judged(path)
    for name in ("first", "twin", "dream", "joints", "objects", "slots", "success"):
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
    changes: list[dict[str, Any]] = [{"first": made.twin}, {"speed": made.speed.astype(np.float32)}]
    for change in changes:
        save_judged(path, replace(made, **change))
        with pytest.raises(BadFile, match=next(iter(change))):
            load_judged(path)
