"""Answers against labels: who judged whole episodes rightly, and which way the errors go.

The same table serves a judge against ground truth and a dream against the reference. An answer is yes, no, or cannot
tell; silence is neither right nor wrong and is told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata  # type: ignore[import-untyped, unused-ignore]

from vap_sim.errors import InvalidInput, UnknownName

Answer = Literal["yes", "no", "cannot tell"]
ANSWERS: tuple[str, ...] = get_args(Answer)


@dataclass(frozen=True)
class Confusion:
    """How many episodes were answered how, apart for true successes and true failures.

    The shares below are over answered episodes but for `abstention`; those of nothing raise InvalidInput.
    """

    yes_on_success: int
    no_on_success: int
    silent_on_success: int
    yes_on_failure: int
    no_on_failure: int
    silent_on_failure: int

    @property
    def answered(self) -> int:
        """Episodes with an answer."""
        return self.yes_on_success + self.no_on_success + self.yes_on_failure + self.no_on_failure

    @property
    def episodes(self) -> int:
        """All episodes."""
        return self.answered + self.silent_on_success + self.silent_on_failure

    def counts(self, name: str) -> tuple[int, int]:
        """Numerator and denominator of one of the shares by its name. Raises UnknownName."""
        on_success, on_failure = self.yes_on_success + self.no_on_success, self.yes_on_failure + self.no_on_failure
        shares = {
            "accuracy": (self.yes_on_success + self.no_on_failure, self.answered),
            "recall_on_failures": (self.no_on_failure, on_failure),
            "recall_on_successes": (self.yes_on_success, on_success),
            "precision_of_failures": (self.no_on_failure, self.no_on_failure + self.no_on_success),
            "optimism": (self.yes_on_failure, on_failure),
            "pessimism": (self.no_on_success, on_success),
            "abstention": (self.silent_on_success + self.silent_on_failure, self.episodes),
        }
        if name not in shares:
            raise UnknownName("share of a confusion", name, shares)
        return shares[name]

    def share(self, name: str) -> float:
        """A share by its name: "accuracy" and so on. Raises InvalidInput where it is a share of nothing."""
        part, whole = self.counts(name)
        if not whole:
            raise InvalidInput(name, "no such episodes", "at least one answered episode that it is a share of")
        return part / whole

    @property
    def accuracy(self) -> float:
        """Right answers."""
        return self.share("accuracy")

    @property
    def recall_on_failures(self) -> float:
        """Of the true failures, those called so."""
        return self.share("recall_on_failures")

    @property
    def optimism(self) -> float:
        """Of the true failures, those called successes: false success, the error that sells a bad policy."""
        return self.share("optimism")

    @property
    def pessimism(self) -> float:
        """Of the true successes, those called failures."""
        return self.share("pessimism")

    @property
    def abstention(self) -> float:
        """Of all episodes, those without an answer."""
        return self.share("abstention")


def confusion(*, told: Sequence[Answer | bool | None], truth: Sequence[bool]) -> Confusion:
    """The confusion of n answers with n labels.

    told: a verdict, or True, False and None for yes, no and cannot tell; truth: whether the episode succeeded.
    Raises InvalidInput for different lengths and for labels that are no bools, UnknownName for other verdicts.
    """
    if len(told) != len(truth):
        raise InvalidInput("answers", f"{len(told)} for {len(truth)} labels", "one a label")
    columns = {True: 0, "yes": 0, False: 1, "no": 1, None: 2, "cannot tell": 2}
    table = np.zeros((2, 3), int)
    for answer, label in zip(told, truth, strict=True):
        if not (answer is None or isinstance(answer, bool | np.bool_) or answer in ANSWERS):
            raise UnknownName("verdict", answer, ANSWERS)
        if not isinstance(label, bool | np.bool_):
            raise InvalidInput("label", repr(label), "True or False")
        table[int(not label), columns[bool(answer) if isinstance(answer, np.bool_) else answer]] += 1
    return Confusion(*(int(count) for count in table.ravel()))


def auroc(
    *, score: Sequence[float] | NDArray[Any], event: Sequence[bool] | NDArray[Any], weight: NDArray[Any] | None = None
) -> float:
    """The area under the receiver operating characteristic: how often an episode with the event outscores one without.

    score, event: (n,), higher scores foretell the event; ties count one half. weight: (n,) not negative, how often each
    episode counts. 0.5 is chance. Raises InvalidInput for scores that are not finite, and where all episodes have the
    event or none has.
    """
    values, events = np.asarray(score, np.float64), np.asarray(event)
    weights = np.ones(values.shape) if weight is None else np.asarray(weight, np.float64)
    if values.ndim != 1 or events.shape != values.shape or weights.shape != values.shape or events.dtype != bool:
        given = f"{values.shape}, {events.dtype} {events.shape} and {weights.shape}"
        raise InvalidInput("scores, events and weights", given, "numbers (n,), bools (n,) and numbers (n,)")
    if not np.isfinite(values).all() or not np.isfinite(weights).all() or (weights < 0).any():
        raise InvalidInput("scores or weights", "values that are no finite numbers", "finite ones, weights 0 or more")
    with_event, without = float(weights[events].sum()), float(weights[~events].sum())
    if not with_event or not without:
        given = f"{with_event:g} episodes with the event, {without:g} without"
        raise InvalidInput("episodes for AUROC", given, "at least one of both kinds")
    rank = rankdata(values, "dense") - 1
    above = np.bincount(rank, weights * events)
    below = np.bincount(rank, weights * ~events)
    return float((above * (np.cumsum(below) - below / 2)).sum() / (with_event * without))
