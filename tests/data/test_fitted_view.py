"""A view at a world's size: points in space stay on what they are, and prompts follow the alignment that was chosen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.station_clips import camera, make_clip
from vap_sim.data.fitted_view import fit_view, standing_views
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.robots.library import load_robot

SIDEWAYS = np.array([[1, 0, 8], [0, 1, 0], [0, 0, 1]], np.float32)


def test_a_view_of_the_world_s_own_size_is_the_clip_itself() -> None:
    clip = make_clip()
    view = fit_view(clip, 0, (64, 64), "compact")
    assert np.array_equal(view.frames, clip.frames[0]) and np.array_equal(view.robot, clip.robot[0])
    assert np.array_equal(view.expected, clip.robot[0] > 0)
    prompter = Prompter(load_robot("panda_robotiq"), profile("compact"), (64, 64))
    prompt = prompter.draw(torch.from_numpy(clip.joints)[None], clip.cameras)
    assert np.array_equal(view.skeletons, prompt.skeleton[0, 0].numpy())
    assert prompt.projections is not None and prompt.tool is not None and prompt.bones is not None
    assert view.projections is not None and np.array_equal(view.projections, prompt.projections[0, 0].numpy())
    assert view.tool is not None and np.array_equal(view.tool, prompt.tool[0].numpy())
    assert view.bones is not None and np.array_equal(view.bones, prompt.bones[0].numpy())


def test_a_view_whose_prompts_hide_the_action_tells_of_neither_tool_nor_bones() -> None:
    view = fit_view(make_clip(), 0, (64, 64), "raw_action")
    assert view.projections is None and view.tool is None and view.bones is None


def test_a_stretched_view_still_has_the_robot_where_its_prompts_are() -> None:
    """The robot's colour marks the truth: it must lie inside the silhouette drawn at the new size, and fill it."""
    view = fit_view(make_clip(size=(120, 80)), 0, (64, 64), "compact")
    painted = np.abs(view.frames.astype(int) - [230, 120, 40]).max(-1) < 40
    overlap = (painted & view.expected).sum() / (painted | view.expected).sum()
    assert view.frames.shape == (9, 64, 64, 3) and overlap > 0.85
    assert np.abs(view.robot.astype(float) / 255 - view.expected).mean() < 0.02


def test_prompts_move_with_the_alignment_that_is_asked_for() -> None:
    homographies = np.tile(np.eye(3, dtype=np.float32), (1, 9, 1, 1))
    homographies[0, 2:] = SIDEWAYS
    kept = np.ones((1, 9), np.bool_)
    kept[0, :2] = False
    plain = fit_view(make_clip(), 0, (64, 64), "compact")
    clip = make_clip(homographies=homographies, kept=kept)
    each, first, none = (fit_view(clip, 0, (64, 64), "compact", alignment=how) for how in ("each", "first", "none"))
    for name in ("skeletons", "expected"):
        still, own, held, bare = (getattr(view, name) for view in (plain, each, first, none))
        assert np.array_equal(bare, still)
        assert np.array_equal(own[:2], still[:2]) and np.array_equal(own[2:], held[2:])
        assert not np.array_equal(held[0], still[0])
    assert np.array_equal(first.expected[:, :, 8:], plain.expected[:, :, :-8])


def test_alignments_are_stretched_with_the_pictures() -> None:
    """Eight of 120 pixels are some four of 64."""
    homographies = np.tile(SIDEWAYS, (1, 9, 1, 1))
    view = fit_view(make_clip(size=(120, 80), homographies=homographies), 0, (60, 80), "compact")
    assert np.allclose(view.moved, np.tile([[1, 0, 4], [0, 1, 0], [0, 0, 1]], (9, 1, 1)), atol=1e-5)


def test_every_so_many_frames() -> None:
    clip = make_clip()
    every, third = (fit_view(clip, 0, (64, 64), "compact", stride=n) for n in (1, 3))
    assert third.length == 3 and third.frame_rate == pytest.approx(5 / 3)
    for name in ("frames", "skeletons", "robot", "expected", "kept", "joints", "tool", "bones"):
        assert np.array_equal(getattr(third, name), getattr(every, name)[::3]), name


def test_cameras_that_ride_on_the_robot_do_not_stand() -> None:
    assert standing_views(make_clip()) == (0,)
    assert standing_views(make_clip(cameras=(camera(parent="panda_link8"),))) == ()


def test_what_cannot_be_fitted_is_named() -> None:
    clip = make_clip()
    with pytest.raises(InvalidInput, match="view of clip 'a': given view 1"):
        fit_view(clip, 1, (64, 64), "compact")
    with pytest.raises(UnknownName, match=r"alignment of prompts 'frist'\. Did you mean 'first'"):
        fit_view(clip, 0, (64, 64), "compact", alignment="frist")
    with pytest.raises(InvalidInput, match="no kept frame"):
        fit_view(make_clip(kept=np.zeros((1, 9), np.bool_)), 0, (64, 64), "compact", alignment="first")
