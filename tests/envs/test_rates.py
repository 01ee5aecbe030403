"""Rates: how many actions make a model step, and which poses its pictures get."""

from __future__ import annotations

import pytest

from vap_sim.envs.rates import match_rates
from vap_sim.errors import InvalidInput


@pytest.mark.parametrize(
    ("control_hz", "video_hz", "frames", "intervals", "poses", "stride"),
    [
        (5.0, 5.0, 1, 1, 1, 1),
        (15.0, 5.0, 1, 3, 1, 3),
        (0.1, 0.1, 1, 1, 1, 1),
        (8.0, 8.0, 4, 4, 1, 1),
        (16.0, 8.0, 4, 8, 1, 2),
        (2.0, 8.0, 4, 1, 4, 1),
        (4.0, 8.0, 4, 2, 2, 1),
    ],
)
def test_poses_of_all_intervals_are_the_pictures_of_a_step(
    control_hz: float, video_hz: float, frames: int, intervals: int, poses: int, stride: int
) -> None:
    rates = match_rates(control_hz, video_hz, model_rate=video_hz, frames_per_step=frames)
    assert (rates.intervals, rates.poses, rates.stride) == (intervals, poses, stride)
    assert rates.intervals * rates.poses == rates.frames * rates.stride
    assert rates.intervals * rates.control_dt == pytest.approx(frames / video_hz)


def test_the_model_decides_how_many_pictures_a_second() -> None:
    assert match_rates(5.0, 5.0 + 5e-7, model_rate=5.0).intervals == 1
    with pytest.raises(InvalidInput, match=r"video_hz: given 10.0, expected 5, the frame rate of the world model"):
        match_rates(10.0, 10.0, model_rate=5.0)


@pytest.mark.parametrize(("control_hz", "frames"), [(12.0, 1), (2.5, 1), (5.0001, 1), (7.5, 4), (4.0, 4)])
def test_actions_that_do_not_fit_pictures_are_refused(control_hz: float, frames: int) -> None:
    with pytest.raises(InvalidInput, match=rf"control_hz: given {control_hz}, expected an integer multiple.*5, 10, 15"):
        match_rates(control_hz, 5.0, model_rate=5.0, frames_per_step=frames)


@pytest.mark.parametrize("value", [0, -5.0, float("inf"), float("nan"), True, "5"])
def test_rates_are_positive_numbers(value: float) -> None:
    with pytest.raises(InvalidInput, match=r"control_hz: given .*a positive number of Hertz"):
        match_rates(value, 5.0, model_rate=5.0)
    with pytest.raises(InvalidInput, match=r"video_hz: given .*a positive number of Hertz"):
        match_rates(5.0, value, model_rate=5.0)
