"""The One-Euro filter against its published formula and against what it promises."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from vap_sim.errors import InvalidInput
from vap_sim.extraction.hand_smoothing import OneEuro

RATE = 30.0
TIME = np.arange(90) / RATE


def published(signal: list[float], rate: float, rest: float, beta: float, speed: float) -> list[float]:
    """Algorithm 1 of the paper, one number at a time."""

    def alpha(cutoff: float) -> float:
        tau = 1 / (2 * math.pi * cutoff)
        return 1 / (1 + tau * rate)

    out = [signal[0]]
    change = 0.0
    for value in signal[1:]:
        raw = (value - out[-1]) * rate
        change = alpha(speed) * raw + (1 - alpha(speed)) * change
        share = alpha(rest + beta * abs(change))
        out.append(share * value + (1 - share) * out[-1])
    return out


@pytest.mark.parametrize("signal", [np.sin(7 * TIME), np.where(TIME > 1, 1.0, 0.0), TIME**2, np.cos(40 * TIME)])
@pytest.mark.parametrize("settings", [OneEuro(), OneEuro(1.0, 0.007, 1.0), OneEuro(0.3, 0.0, 2.0)])
def test_follows_the_published_formula(signal: np.ndarray, settings: OneEuro) -> None:
    expected = published(signal.tolist(), RATE, settings.rest, settings.beta, settings.speed)
    np.testing.assert_allclose(settings.smooth(signal, RATE), expected, rtol=0, atol=1e-12)


def test_components_are_filtered_each_for_itself() -> None:
    signals = np.stack([np.sin(5 * TIME), TIME, np.cos(11 * TIME) - 3], axis=1).reshape(-1, 3, 1)
    together = OneEuro().smooth(signals, RATE)
    for k in range(3):
        np.testing.assert_array_equal(together[:, k, 0], OneEuro().smooth(signals[:, k, 0], RATE))


@pytest.mark.parametrize("method", ["smooth", "smooth_both_ways"])
def test_a_constant_stays_a_constant(method: str) -> None:
    constant = np.full((50, 21, 2), -12.34)
    np.testing.assert_array_equal(getattr(OneEuro(), method)(constant, RATE), constant)


def test_only_the_past_counts() -> None:
    signal, other = np.sin(3 * TIME), np.sin(3 * TIME)
    other[60:] += 5
    np.testing.assert_array_equal(OneEuro().smooth(signal, RATE)[:60], OneEuro().smooth(other, RATE)[:60])


def test_both_ways_commutes_with_time_reversal_and_halves_nothing_of_a_symmetric_signal() -> None:
    signal = np.sin(9 * TIME) + 0.2 * TIME
    filtered = OneEuro().smooth_both_ways(signal, RATE)
    np.testing.assert_allclose(OneEuro().smooth_both_ways(signal[::-1], RATE)[::-1], filtered, atol=1e-12)


def test_both_ways_does_not_lag() -> None:
    line = 2 * TIME
    settings = replace(OneEuro(), rest=0.5, beta=0.0)
    middle = slice(35, 55)
    assert np.abs(settings.smooth(line, RATE) - line)[middle].min() > 0.4
    assert np.abs(settings.smooth_both_ways(line, RATE) - line)[middle].max() < 0.02


def test_jitter_at_rest_shrinks_and_speed_is_kept() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, 90)
    settings = OneEuro(rest=1.0, beta=2.0)
    assert settings.smooth(noise, RATE)[20:].std() < 0.5 * noise[20:].std()
    fast = 20 * TIME
    slow = replace(settings, beta=0.0)
    assert (
        np.abs(settings.smooth(fast, RATE) - fast)[40:].max() < 0.3 * np.abs(slow.smooth(fast, RATE) - fast)[40:].max()
    )


@pytest.mark.parametrize("length", [0, 1])
def test_nothing_to_filter(length: int) -> None:
    assert OneEuro().smooth(np.ones((length, 2)), RATE).shape == (length, 2)


@pytest.mark.parametrize("values", [{"rest": 0.0}, {"beta": -1.0}, {"speed": math.nan}, {"rest": math.inf}])
def test_impossible_settings(values: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match="One-Euro"):
        OneEuro(**values)


@pytest.mark.parametrize(("values", "rate"), [(np.array([0.0, np.nan]), 30.0), (np.zeros(3), 0.0)])
def test_impossible_values(values: np.ndarray, rate: float) -> None:
    with pytest.raises(InvalidInput):
        OneEuro().smooth(values, rate)
