"""What keys and gamepads ask for: messages of the page, read with suspicion, and their meaning."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput

LARGEST = 4096
"""Bytes of one message."""
STALE = 0.6
"""Seconds after which keys count as released when nothing is heard of them."""
_DEAD = 0.15  # of a stick's way is nothing
_HELD = {  # linear x y z, angular x y z, in the base frame
    "KeyW": (0, 1.0),
    "KeyS": (0, -1.0),
    "KeyA": (1, 1.0),
    "KeyD": (1, -1.0),
    "KeyR": (2, 1.0),
    "KeyF": (2, -1.0),
    "ArrowLeft": (3, -1.0),
    "ArrowRight": (3, 1.0),
    "ArrowUp": (4, -1.0),
    "ArrowDown": (4, 1.0),
    "KeyQ": (5, 1.0),
    "KeyE": (5, -1.0),
}
_PRESSED = {"Space": "grip", "KeyZ": "back", "KeyX": "fork", "KeyT": "again"}
_PAD_PRESSED = {0: "grip", 1: "back", 2: "fork", 3: "again"}
_PAD_HELD = {
    4: (5, 1.0),
    5: (5, -1.0),
    6: (2, -1.0),
    7: (2, 1.0),
    12: (4, -1.0),
    13: (4, 1.0),
    14: (3, -1.0),
    15: (3, 1.0),
}

KEYS = """| keys | do | gamepad |
| --- | --- | --- |
| W S, A D, R F | forward back, left right, up down | left stick, triggers |
| Q E, arrows | turn, lean | shoulders, cross |
| space | open or close | A |
| Z, X, T | a step back, fork, try again | B, X, Y |
"""


@dataclass(frozen=True, eq=False)
class Held:
    """What is held: motion (6,) in [-1, 1], linear then angular along the base frame's axes; events: what was pressed
    since the last message, of "grip", "back", "fork", "again"; trip: seconds there and back, None where not known;
    sent: the page's clock, to be sent back."""

    motion: NDArray[np.float64]
    events: tuple[str, ...]
    trip: float | None
    sent: float


class InputReader:
    """Reads one page's messages in order; remembers which buttons of a gamepad were down."""

    def __init__(self) -> None:
        self._down: frozenset[int] = frozenset()

    def read(self, message: str | bytes) -> Held:
        """One message. Raises InvalidInput for one that is too large or not of the form that pages send."""
        if not isinstance(message, str) or len(message) > LARGEST:
            raise InvalidInput(
                "message of a page", f"{type(message).__name__} of {len(message)}", f"text up to {LARGEST}"
            )
        try:
            values = json.loads(message)
        except (ValueError, RecursionError) as error:
            raise InvalidInput("message of a page", "no JSON", "an object") from error
        if not isinstance(values, dict):
            raise InvalidInput("message of a page", type(values).__name__, "an object")
        motion = np.zeros(6)
        for name in _names(values.get("held")):
            if name in _HELD:
                axis, sign = _HELD[name]
                motion[axis] += sign
        events = [_PRESSED[name] for name in _names(values.get("pressed")) if name in _PRESSED]
        pad = values.get("pad")
        if pad is not None:
            stick, more = self._pad(pad)
            motion += stick
            events += more
        trip = values.get("trip")
        return Held(
            np.clip(motion, -1, 1),
            tuple(events),
            None if trip is None else _number(trip) / 1000,
            _number(values.get("sent", 0)),
        )

    def _pad(self, pad: object) -> tuple[NDArray[np.float64], list[str]]:
        if not isinstance(pad, dict):
            raise InvalidInput("gamepad of a page", type(pad).__name__, "an object")
        axes = [_number(value) for value in _list(pad.get("axes"))[:4]] + [0.0] * 4
        buttons = _list(pad.get("buttons"))[:16]
        motion = np.zeros(6)
        motion[0], motion[1] = -_live(axes[1]), -_live(axes[0])
        motion[4], motion[3] = _live(axes[3]), _live(axes[2])
        down = frozenset(number for number, value in enumerate(buttons) if value in (1, True))
        for number in down & _PAD_HELD.keys():
            axis, sign = _PAD_HELD[number]
            motion[axis] += sign
        events = [_PAD_PRESSED[number] for number in sorted((down - self._down) & _PAD_PRESSED.keys())]
        self._down = down
        return motion, events


def _live(value: float) -> float:
    """A stick's way without the dead middle."""
    way = min(abs(value), 1.0)
    return 0.0 if way < _DEAD else math.copysign((way - _DEAD) / (1 - _DEAD), value)


def _list(value: object) -> Sequence[object]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > 64:
        raise InvalidInput("message of a page", type(value).__name__, "a list of at most 64 entries")
    return value


def _names(value: object) -> list[str]:
    return [name for name in _list(value) if isinstance(name, str)]


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInput("message of a page", repr(value)[:40], "a finite number")
    return float(value)
