"""Replays: the world is told the first picture and the prompts alone, and figures count only what can be judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from tests.station_clips import make_clip
from vap_sim.data.fitted_view import FittedView, fit_view
from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.metrics.detector import OTHER, ROBOT, Detector, DetectorConfig, DetectorNet
from vap_sim.metrics.fidelity import moving_pixels, psnr
from vap_sim.metrics.replay import judge, pooled, replay, stride_of
from vap_sim.models.picture_world import PictureWorld
from vap_sim.models.still import StillWorld


class Echo(PictureWorld):
    """Shows the prompts that it is told."""

    name: ClassVar[str] = "echo"

    def begun(self, frames: torch.Tensor, skeleton: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"frame": frames}

    def shown(self, context: Mapping[str, torch.Tensor], skeleton: torch.Tensor) -> torch.Tensor:
        return skeleton.clone()


SIZE = (64, 64)


@pytest.fixture(scope="module")
def view() -> FittedView:
    kept = np.ones((1, 8), np.bool_)
    kept[0, [0, 4]] = False
    return fit_view(make_clip(length=8, kept=kept), 0, (64, 64), "compact")


class Eye(Detector):
    """Finds the robot of the made-up station by its colour."""

    def __init__(self) -> None:
        super().__init__(DetectorNet(DetectorConfig((8, 8))))

    def labels(self, frames: torch.Tensor, colors: object = None) -> torch.Tensor:
        return torch.where(frames[..., 0] > 200, ROBOT, OTHER).to(torch.uint8)


def test_a_world_is_told_the_first_kept_frame_and_every_prompt_after(view: FittedView) -> None:
    """Seven frames from the first kept one on: six to dream, in two steps of four of which the last two are cut."""
    told = replay(Echo(SIZE, frames_per_step=4), view)
    assert told.first == 1 and len(told.recorded) == 7
    assert np.array_equal(told.dreamt[0], view.frames[1]) and np.array_equal(told.dreamt[1:], view.skeletons[2:])
    assert told.kept.tolist() == [True, True, True, False, True, True, True]
    assert np.array_equal(replay(Echo(SIZE), view, steps=3).dreamt[1:], view.skeletons[2:5])
    for name in ("skeletons", "expected"):
        assert np.array_equal(getattr(told, name), getattr(view, name)[1:])


def test_a_world_is_told_where_the_camera_is(view: FittedView) -> None:
    """As by the environments: the projection of each frame's camera, the last one's for frames beyond the end, and so
    with the tool and the bones."""
    heard: list[torch.Tensor] = []
    tools: list[torch.Tensor] = []
    bones: list[torch.Tensor] = []

    class Listening(Echo):
        def step(self, state, prompt):  # type: ignore[no-untyped-def]
            heard.append(prompt.projections)
            tools.append(prompt.tool)
            bones.append(prompt.bones)
            return super().step(state, prompt)

    replay(Listening(SIZE, frames_per_step=4), view, meter=None)
    assert view.projections is not None and view.projections.shape == (8, 3, 4)
    told = torch.cat(heard, 2)[0, 0].numpy()
    assert np.array_equal(told[:6], view.projections[2:]) and np.array_equal(told[6:], view.projections[[-1, -1]])
    for parts, own in ((tools, view.tool), (bones, view.bones)):
        every = torch.cat(parts, 1)[0].numpy()
        assert own is not None and np.array_equal(every[:6], own[2:]) and np.array_equal(every[6:], own[[-1, -1]])


def test_what_is_recorded_later_does_not_reach_the_world(view: FittedView) -> None:
    frames = view.frames.copy()
    frames[2:] = 255 - frames[2:]
    one, other = (replay(StillWorld(SIZE), seen).dreamt for seen in (view, replace(view, frames=frames)))
    assert torch.equal(one, other)


def test_figures_of_the_truth_and_of_standing_still(view: FittedView) -> None:
    still = replay(StillWorld(SIZE), view)
    figures = judge(still, Eye())
    assert figures.gain.defined.tolist() == [True, True, False, True, True, True]
    assert figures.gain.mean() == 0
    true = judge(replace(still, dreamt=still.recorded), Eye())
    assert true.agreement.mean() == true.agreement_recorded.mean() > 0.95
    assert figures.agreement.mean() == figures.agreement_copy.mean() < 0.8
    assert true.psnr.undefined == 6, "an infinite ratio is no number"


def test_a_dream_between_is_worth_what_it_is_nearer(view: FittedView) -> None:
    """Half of the way from the first frame to the truth: 6 dB, whatever moved."""
    still = replay(StillWorld(SIZE), view)
    half = ((still.recorded.int() + still.dreamt.int()) / 2).round().to(torch.uint8)
    between = replace(still, dreamt=half)
    figures = judge(between)
    assert figures.gain.mean() == pytest.approx(6.0, abs=0.2) and figures.agreement is None
    moved = moving_pixels(still.recorded)
    exact = psnr(generated=half, truth=still.recorded, where=moved).values[[0, 1, 3, 4, 5]]
    assert torch.equal(figures.moving.values[figures.moving.defined], exact)
    means = figures.means()
    assert means["gain"] == pytest.approx(means["moving"] - means["copy"]) and means["agreement"] is None


def test_steps_say_what_is_undefined(view: FittedView) -> None:
    steps = judge(replay(Echo(SIZE), view), Eye()).steps()
    assert [step["psnr"] is None for step in steps] == [False, False, True, False, False, False]
    assert set(steps[0]) == {
        "psnr", "moving", "copy", "gain", "agreement", "agreement_recorded", "agreement_copy"
    }  # fmt: skip


def test_means_are_pooled_over_replays_that_have_one(view: FittedView) -> None:
    still = replay(StillWorld(SIZE), view)
    true, same = judge(replace(still, dreamt=still.recorded)), judge(still)
    assert pooled([true, same, same], "gain").tolist() == [0, 0] and len(pooled([true], "agreement")) == 0


@pytest.mark.parametrize(("rate", "stride"), [(5, 1), (4.2, 1), (10, 2), (15, 3), (30, 6), (9, 2)])
def test_recordings_are_thinned_to_the_world_s_rate(rate: float, stride: int) -> None:
    assert stride_of(rate, 5.0) == stride


def test_what_cannot_be_replayed_is_named(view: FittedView) -> None:
    for slow in (2.0, 7.2):
        with pytest.raises(InvalidInput, match="frame rate of a recording"):
            stride_of(slow, 5.0)
    with pytest.raises(InvalidInput, match=r"pictures of clip 'a': given \(64, 64\)"):
        replay(StillWorld((32, 32)), view)
    with pytest.raises(Unsupported, match="dreams one view"):
        replay(StillWorld(SIZE, views=2), view)
    with pytest.raises(InvalidInput, match="no kept frame"):
        replay(StillWorld(SIZE), replace(view, kept=np.zeros(8, np.bool_)))
    last = np.arange(8) == 7
    with pytest.raises(InvalidInput, match="at least one step"):
        replay(StillWorld(SIZE), replace(view, kept=last))
