"""The bias towards learned tokens: the published values, and schedules that are none."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vap_sim.errors import InvalidInput
from vap_sim.models.conditioners.flexiact_bias import NoiseBias


def test_the_bias_of_the_paper() -> None:
    """Spec of the published schedule: 1 from 800 on, half a cosine to 700, nothing below."""
    levels = torch.tensor([999, 819, 799, 759, 719, 699])
    expected = torch.tensor([1, 1, 0.9998, 0.6395, 0.0865, 0])
    torch.testing.assert_close(NoiseBias().at(levels), expected, rtol=0, atol=5e-5)
    assert NoiseBias().at(torch.arange(701)).eq(0).all() and NoiseBias().at(torch.arange(800, 1000)).eq(1).all()
    every = NoiseBias().at(torch.arange(1000))
    assert (every.diff() >= 0).all() and float(every.diff().max()) < 0.02, "it rises without a step"
    assert torch.equal(NoiseBias(alpha=-2.5).at(levels), -2.5 * NoiseBias().at(levels)), "alpha scales the ramp too"
    assert torch.equal(NoiseBias().at(levels.reshape(2, 3)), NoiseBias().at(levels).reshape(2, 3))


def test_a_bias_may_switch_at_once() -> None:
    assert NoiseBias(2.0, high=750, low=750).at(torch.tensor([749, 750, 751])).tolist() == [0, 2, 2]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"alpha": float("nan")}, "alpha of a noise bias: given nan"),
        ({"alpha": True}, "alpha of a noise bias: given True"),
        ({"high": 600}, r"low and high of a noise bias: given \(700, 600\)"),
        ({"low": -1}, r"low and high of a noise bias: given \(-1, 800\)"),
        ({"high": float("inf")}, "low and high of a noise bias"),
    ],
)
def test_impossible_schedules_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        NoiseBias(**settings)
