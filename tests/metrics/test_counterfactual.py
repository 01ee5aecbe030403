"""Altered actions: same start, within limits, each doing what its name says, and figures that need no recording."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.station_clips import HOME, make_clip, sweep
from vap_sim.data.fitted_view import fit_view
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.metrics.counterfactual import ALTERATIONS, alter, judge_altered, mirror_signs, parse_alteration
from vap_sim.metrics.replay import replay
from vap_sim.models.still import StillWorld
from vap_sim.robots.library import load_robot

MODEL = load_robot("panda_robotiq")
RATE = 5.0


def path(length: int = 9) -> np.ndarray:
    """An arm that swings, bends and closes its gripper."""
    joints = sweep(length).astype(np.float64)
    joints[:, 3] += np.linspace(0, 0.3, length)
    joints[:, 7] = np.linspace(0, 0.5, length)
    return joints


def altered(text: str, joints: np.ndarray | None = None, **more: object) -> np.ndarray:
    return alter(parse_alteration(text), path() if joints is None else joints, MODEL, RATE, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", [*(name for name in ALTERATIONS if name != "episode"), "scaled@10", "scaled@-10"])
def test_every_alteration_begins_where_the_recording_did_and_stays_within_limits(text: str) -> None:
    joints = path()
    told = altered(text)
    assert told.dtype == np.float32 and told.shape == joints.shape
    assert np.allclose(told[0], joints[0], atol=1e-6)
    lower, upper = MODEL.robot.lower.numpy(), MODEL.robot.upper.numpy()
    assert (told >= lower - 1e-6).all() and (told <= upper + 1e-6).all()
    fastest = np.maximum(MODEL.robot.max_speed.numpy() / RATE, np.abs(np.diff(joints, axis=0)).max(0))
    assert (np.abs(np.diff(told, axis=0)) <= fastest + 1e-5).all()


def test_each_does_what_its_name_says() -> None:
    joints = path()
    motions = np.diff(joints, axis=0)
    assert np.allclose(altered("zeroed"), joints[:1])
    assert np.allclose(np.diff(altered("reversed"), axis=0), motions[::-1], atol=1e-5)
    assert np.allclose(altered("reversed")[-1], joints[-1], atol=1e-5)
    half = altered("scaled@0.5")
    assert np.allclose(half[:, :7] - joints[0, :7], (joints[:, :7] - joints[0, :7]) / 2, atol=1e-5)
    assert np.allclose(half[:, 7], joints[:, 7])
    assert np.allclose(altered("scaled@1"), joints, atol=1e-5)
    one, other = altered("shuffled"), altered("shuffled", seed=1)
    assert not np.allclose(one, other) and np.array_equal(one, altered("shuffled"))
    assert np.allclose(np.sort(np.diff(one[:, 0])), np.sort(motions[:, 0]), atol=1e-5)


def test_a_recording_beyond_the_limits_is_not_pulled_back() -> None:
    joints = path()
    joints[:, 7] = -0.05  # as fingers are that are pressed open
    assert np.allclose(altered("scaled@1", joints), joints, atol=1e-5)


def test_mirrored_motions_lead_the_tool_to_the_other_side() -> None:
    """From a pose that is the same on both sides, the tool's way is the mirrored way, wherever the arm points."""
    for turn in (0.0, 0.7):
        joints = path()
        joints[:, [2, 4]] += 0.2 * np.sin(np.linspace(0, 3, 9))[:, None]
        joints[:, 0] += turn
        there, back = (
            MODEL.robot.forward(torch.from_numpy(np.asarray(q, np.float64)))[:, MODEL.robot.link_index(MODEL.tool_link)]
            for q in (joints, altered("mirrored", joints))
        )
        facing = np.array([np.cos(turn), np.sin(turn), 0.0])
        aside = np.array([-facing[1], facing[0], 0.0])
        first, second = (poses[:, :3, 3].numpy() for poses in (there, back))
        assert np.allclose(first @ aside, -(second @ aside), atol=2e-3) and np.abs(first @ aside).max() > 0.05
        assert np.allclose(first @ facing, second @ facing, atol=2e-3) and np.allclose(
            first[:, 2], second[:, 2], atol=2e-3
        )
    assert mirror_signs(MODEL, HOME).tolist() == [-1, 1, -1, 1, -1, 1, -1, 1]


def test_motions_of_another_recording_start_here() -> None:
    joints, other = path(), path()[:5] + 0.1
    told = altered("episode@b", joints, other=other)
    assert np.allclose(np.diff(told[:5], axis=0), np.diff(other, axis=0), atol=1e-5)
    assert np.allclose(told[4:], told[4]), "it stays where the other recording ends"
    assert np.allclose(altered("episode@b", joints, other=joints), joints, atol=1e-5)
    for wrong in (None, other[:, :6]):
        with pytest.raises(InvalidInput, match=r"recording 'b': given (none|6 joints), expected 8 joints, as of panda"):
            altered("episode@b", joints, other=wrong)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mirored", "unknown alteration of actions 'mirored'. Did you mean 'mirrored'"),
        ("scaled@fast", "scaled@fast, expected a factor of at most 10"),
        ("scaled@nan", "expected a factor"),
        ("scaled@11", "expected a factor"),
        ("episode", "the other recording's name, as in episode@NAME"),
        ("zeroed@1", "zeroed alone: it takes no argument"),
    ],
)
def test_what_is_no_alteration_is_named(text: str, words: str) -> None:
    with pytest.raises((InvalidInput, UnknownName), match=words):
        parse_alteration(text)
    assert parse_alteration("scaled").name == "scaled@0.5" and parse_alteration("episode@a@b").name == "episode@a@b"


def test_figures_of_altered_dreams_need_no_recording() -> None:
    view = fit_view(make_clip(length=5), 0, (64, 64), "compact")
    still = replay(StillWorld((64, 64)), view)
    same = judge_altered(still, still)
    assert list(same) == ["apart"] and same["apart"].values.tolist() == [0, 0, 0, 0]
    brighter = replace(still, dreamt=(still.dreamt.int() + 7).clamp(max=255).to(torch.uint8))
    assert judge_altered(brighter, still)["apart"].values.tolist() == [7, 7, 7, 7]
    with pytest.raises(InvalidInput, match="dream of altered motions"):
        judge_altered(replay(StillWorld((64, 64)), view, steps=2), still)
