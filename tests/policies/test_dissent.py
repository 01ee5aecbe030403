"""Second opinions: what a judge says of echoes, against its verdict."""

from __future__ import annotations

import numpy as np
import pytest

from vap_sim.envs.start import load_start
from vap_sim.policies.dissent import dissent
from vap_sim.policies.judge import CallableJudge, Evidence, Pictures, Verdict, single

BRIGHT = np.array([0, 60, 120, 240], np.uint8)
ECHOES: Pictures = np.broadcast_to(BRIGHT[:, None, None, None], (4, 128, 128, 3)).copy()
YES, NO = Verdict(True, 0.99), Verdict(False, 0.01)


def evidence() -> Evidence:
    start = load_start("reach_00")
    first = start.frames[0].numpy()
    return single(first, np.stack([first, first]), start.joints.numpy(), start.cameras[0], "reach", "reach the cube")


def bright(first: Pictures, last: Pictures, joints: object, text: str) -> Verdict:
    """The brighter its one last picture, the likelier it is done."""
    assert np.array_equal(first, evidence().first[0]) and len(last) == 1 and text == "reach the cube"
    chance = float(last.mean()) / 240
    return Verdict(chance > 0.5, chance)


@pytest.mark.parametrize(("verdict", "expected"), [(YES, 1 - 420 / 960), (NO, 420 / 960)])
def test_dissent_is_the_mean_chance_of_the_other_outcome(verdict: Verdict, expected: float) -> None:
    assert dissent(CallableJudge(bright), evidence(), verdict, ECHOES) == pytest.approx(expected)


def test_answers_without_a_chance_count_whole_or_half() -> None:
    def answers(first: Pictures, last: Pictures, joints: object, text: str) -> bool | None:
        return {0: True, 60: False, 120: None, 240: False}[int(last[0, 0, 0, 0])]

    assert dissent(CallableJudge(answers), evidence(), YES, ECHOES) == pytest.approx((0 + 1 + 0.5 + 1) / 4)


def test_without_echoes_or_verdict_there_is_none() -> None:
    judge = CallableJudge(bright)
    assert dissent(judge, evidence(), YES, ECHOES[:0]) is None
    assert dissent(judge, evidence(), Verdict(None, 0.5, "too dark"), ECHOES) is None
