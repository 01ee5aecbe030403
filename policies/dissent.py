"""Second opinions on an episode: what its judge says of a dream's echoes, in which things stood a little elsewhere.

A verdict that hangs on a centimetre is one that the world may well give otherwise; how far objects of echoes lie apart
does not tell that, since most of the time it does not matter.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vap_sim.policies.judge import Evidence, Judge, Pictures, Verdict


def dissent(judge: Judge, evidence: Evidence, verdict: Verdict, echoes: Pictures) -> float | None:
    """The mean chance that echoes ended otherwise, 0 to 1; None where there are none, or no verdict.

    evidence: of the episode's last moment, one row; verdict: on the episode; echoes: (E, H, W, 3) uint8, that moment in
    each. What the judge cannot tell counts half."""
    count = len(echoes)
    if not count or verdict.answer is None:
        return None
    shown = replace(
        evidence,
        first=evidence.first.repeat(count, axis=0),
        last=echoes[:, None],
        joints=evidence.joints.repeat(count, axis=0),
        **{name: getattr(evidence, name) * count for name in ("cameras", "tasks", "instructions")},
    )
    done = np.array([_chance(one) for one in judge.judge(shown)])
    return float(np.mean(1 - done if verdict.answer else done))


def _chance(verdict: Verdict) -> float:
    """That the task is done."""
    if verdict.probability is not None:
        return verdict.probability
    return {True: 1.0, False: 0.0, None: 0.5}[verdict.answer]
