"""A figure with its intervals, or the reason why there is none: never a number that stands for a failure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vap_sim.errors import InvalidInput
from vap_sim.metrics.report import Interval


@dataclass(frozen=True)
class Told:
    """One figure. value: None where it is undefined, `why` then says so; intervals: the ones that exist; number: of
    policies, trials or episodes it rests on; no_interval: why the others do not."""

    name: str
    value: float | None
    intervals: tuple[Interval, ...]
    number: int
    why: str = ""
    no_interval: tuple[str, ...] = ()

    def text(self, *, scale: float = 1, digits: int = 3, bare: bool = True) -> str:
        """The value times `scale` with its first interval; the interval alone with bare=False, where trials are few.

        A figure without an interval is told as such, not as a number, unless a number may stand bare.
        """
        if self.value is None:
            return f"undefined ({self.why})"
        if not self.intervals:
            return f"{scale * self.value:.{digits}f} (no interval)" if bare else "too few trials to tell"
        low, high = (f"{scale * bound:.{digits}f}" for bound in (self.intervals[0].low, self.intervals[0].high))
        return f"{scale * self.value:.{digits}f} ({low} to {high})" if bare else f"{low} to {high}"


def tell(
    name: str, value: Callable[[], float], intervals: Sequence[Callable[[float], Interval]], *, number: int
) -> Told:
    """Compute a figure and, if it exists, its intervals from it; what raises InvalidInput does not exist."""
    try:
        found = value()
    except InvalidInput as error:
        return Told(name, None, (), number, why=str(error))
    there, lacking = [], []
    for interval in intervals:
        try:
            there.append(interval(found))
        except InvalidInput as error:
            lacking.append(str(error))
    return Told(name, found, tuple(there), number, no_interval=tuple(lacking))
