"""What has been driven so far: every moment of every take, with as many states of worlds as memory allows.

Takes are paths through a tree of moments. Going back never loses anything: what is driven from an earlier moment
becomes another take. Where states were let go for want of memory, the moment is reached again by repeating actions from
the nearest state that was kept, which gives the same bits because worlds are deterministic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput, Unsupported

Picture = NDArray[np.uint8]
Signal = float | bool | str
MEGABYTE = 2**20


@dataclass(frozen=True, eq=False)
class Seen:
    """What a world shows after a reset or a step.

    pictures: (H, W, 3) uint8 by name, the first is the main view; joints: (J,) float64 [rad or m] in the robot's order;
    signals: what the world tells besides, such as success, trust or distance.
    """

    pictures: Mapping[str, Picture]
    joints: NDArray[np.float64]
    signals: Mapping[str, Signal]


@dataclass(frozen=True, eq=False)
class Moment:
    """One moment of one take. `number` is unique in its history; `step` counts actions since the start; `parent` is the
    number of the moment before, None at a start; `action` (A,) led here; `asked` (A,) is what the arm was last told,
    which the next action goes on from; `world` names the world that showed it."""

    number: int
    step: int
    parent: int | None
    action: NDArray[np.float32] | None
    asked: NDArray[np.float32]
    world: str
    seen: Seen


@dataclass(frozen=True)
class Take:
    """One path through the history: from the start over the moment `begins`, where it left its elder, to `tip`."""

    number: int
    world: str
    begins: int
    tip: int


@dataclass(frozen=True)
class HistoryLimits:
    """Most bytes of kept states, most bytes of pictures, and most moments and takes of one history."""

    state_bytes: int = 512 * MEGABYTE
    picture_bytes: int = 1024 * MEGABYTE
    moments: int = 20_000
    takes: int = 200

    def __post_init__(self) -> None:
        if min(self.state_bytes, self.picture_bytes, self.moments, self.takes) < 1:
            raise InvalidInput("limits of a history", self, "at least 1 of each")


class History:
    """All moments and takes since the last start; the takes are in the order in which they were begun."""

    def __init__(self, limits: HistoryLimits | None = None) -> None:
        self.limits = limits or HistoryLimits()
        self.takes: tuple[Take, ...] = ()
        self.state_bytes = self.picture_bytes = 0
        self._moments: dict[int, Moment] = {}
        self._states: dict[int, tuple[Any, int]] = {}
        self._stride = 1

    def __len__(self) -> int:
        return len(self._moments)

    def moment(self, number: int) -> Moment:
        """The moment of that number. Raises InvalidInput where there is none."""
        if number not in self._moments:
            raise InvalidInput("moment", number, f"0 to {len(self._moments) - 1}")
        return self._moments[number]

    def state(self, number: int) -> Any | None:
        """The state kept for a moment, or None where it was let go."""
        kept = self._states.get(number)
        return None if kept is None else kept[0]

    def check_room(self) -> None:
        """Raises Unsupported where no further moment fits."""
        limits = self.limits
        if len(self._moments) >= limits.moments:
            raise Unsupported(f"this episode is full: {limits.moments} moments are kept; save it and start anew")
        if self.picture_bytes >= limits.picture_bytes:
            given = limits.picture_bytes // MEGABYTE
            raise Unsupported(f"this episode is full: its pictures take {given} MB; save it and start anew")

    def add(
        self,
        parent: Moment | None,
        action: NDArray[np.float32] | None,
        asked: NDArray[np.float32],
        world: str,
        seen: Seen,
        state: Any,
        nbytes: int,
    ) -> Moment:
        """A new moment after `parent`, whose state takes `nbytes`. Raises Unsupported where the history is full."""
        self.check_room()
        step = 0 if parent is None else parent.step + 1
        number = len(self._moments)
        moment = Moment(number, step, None if parent is None else parent.number, action, asked, world, seen)
        self._moments[number] = moment
        self.picture_bytes += sum(picture.nbytes for picture in seen.pictures.values())
        self._states[number] = (state, nbytes)
        self.state_bytes += nbytes
        self._thin(newest=number)
        return moment

    def begin_take(self, moment: Moment) -> Take:
        """A new take that leaves its elder at `moment`. Raises Unsupported where there are too many."""
        if len(self.takes) >= self.limits.takes:
            raise Unsupported(f"this episode has {len(self.takes)} takes, the most that are kept; start anew")
        take = Take(len(self.takes) + 1, moment.world, moment.number, moment.number)
        self.takes = (*self.takes, take)
        return take

    def extend(self, take: Take, tip: Moment) -> Take:
        """The take with a new tip."""
        longer = replace(take, tip=tip.number)
        self.takes = tuple(longer if one.number == take.number else one for one in self.takes)
        return longer

    def line(self, take: Take) -> tuple[Moment, ...]:
        """The moments of a take from its start to its tip."""
        return self.way_to(self.moment(take.tip))

    def way_to(self, moment: Moment) -> tuple[Moment, ...]:
        """The moments from the start to this one."""
        way = [moment]
        while way[-1].parent is not None:
            way.append(self._moments[way[-1].parent])
        return tuple(reversed(way))

    def _thin(self, newest: int) -> None:
        """Let states go until the rest fits: starts and the newest stay, of the others every second, fourth, ..."""
        while self.state_bytes > self.limits.state_bytes and self._stride < self.limits.moments:
            self._stride *= 2
            for number in list(self._states):
                moment = self._moments[number]
                if number != newest and moment.parent is not None and moment.step % self._stride:
                    self._drop(number)
        # While the stride holds, the one before the newest stays only if its turn has come.
        previous = self._moments[newest].parent
        if self._stride > 1 and previous in self._states:
            elder = self._moments[previous]
            if elder.parent is not None and elder.step % self._stride:
                self._drop(previous)

    def _drop(self, number: int) -> None:
        self.state_bytes -= self._states.pop(number)[1]
