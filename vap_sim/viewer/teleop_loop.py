"""The control loop of driving: one thread that owns the session, takes what is asked for, and steps in real time.

A key that is pressed while nothing moves acts at once; held keys, a dragged gizmo and a moving gripper go on at the
rate of the world. Time stands still while nothing is asked for, unless it is told to run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vap_sim.errors import VAPSimError
from vap_sim.viewer.teleop_history import Moment
from vap_sim.viewer.teleop_session import DrivingSession
from vap_sim.viewer.teleop_steering import Array, Steering, Wish

_LOG = logging.getLogger(__name__)
MOST_WAITING = 32
_FAULTS = (VAPSimError, ArithmeticError, LookupError, TypeError, ValueError, RuntimeError, OSError)


@dataclass(frozen=True)
class Timing:
    """How driving goes: `step` seconds of the last action in the world, `shown` seconds from asking to the picture
    being sent, steps so far, and how many of those that followed another were more than an interval late."""

    step: float = 0.0
    shown: float = 0.0
    steps: int = 0
    late: int = 0


class DrivingLoop:
    """Runs `session`, which it opens by `open_session` in its own thread, until `stop`.

    on_moment(moment, timing) is called in that thread after every change; on_words(words) with what went wrong or was
    done. `ask` and the setters may be called from any thread and never wait for a world.
    """

    def __init__(
        self,
        open_session: Callable[[], DrivingSession],
        on_moment: Callable[[Moment, Timing], None],
        on_words: Callable[[str], None],
    ) -> None:
        self._open_session, self._on_moment, self._on_words = open_session, on_moment, on_words
        self._condition = threading.Condition()
        self._waiting: deque[tuple[str, Callable[[DrivingSession], Any], float]] = deque()
        self._wish, self._wished = Wish(), 0.0
        self._stopped, self._runs = False, False
        # A key went down since the last action; and it is up again.
        self._tapped = self._released = False
        self.timing = Timing()
        self._thread = threading.Thread(target=self._run, name="driving", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout: float = 30.0) -> None:
        """End after the action under way; harmless when called twice."""
        with self._condition:
            self._stopped = True
            self._condition.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)

    @property
    def alive(self) -> bool:
        """Whether the loop runs."""
        return self._thread.is_alive()

    def ask(self, name: str, act: Callable[[DrivingSession], Any]) -> bool:
        """Have `act(session)` done between two actions; one of the same name that still waits is replaced. False where
        too much waits already."""
        with self._condition:
            for place, (waiting, _, _) in enumerate(self._waiting):
                if waiting == name:
                    del self._waiting[place]
                    break
            if len(self._waiting) >= MOST_WAITING:
                return False
            self._waiting.append((name, act, time.perf_counter()))
            self._condition.notify()
        return True

    def move(self, motion: Array) -> None:
        """Keys or sticks (6,), linear then angular; zeros when released. Where not zero it forgets a goal of the gizmo
        and single joints.

        A key that is released before the loop came to it moves the arm for one action all the same."""
        with self._condition:
            if np.any(motion):
                # Told again and again while it is held: only what is new is a tap.
                new = not np.array_equal(motion, np.concatenate([self._wish.linear, self._wish.angular]))
                self._released = False
                self._wanted(
                    replace(self._wish, linear=motion[:3].copy(), angular=motion[3:].copy(), goal=None, joints={})
                )
                self._tapped |= new
            elif self._tapped:
                self._released = True
            elif np.any(self._wish.linear) or np.any(self._wish.angular):
                self._wish = replace(self._wish, linear=np.zeros(3), angular=np.zeros(3))

    def aim(self, goal: Array | None) -> None:
        """Where the tool shall go (4, 4), or None to stay. Forgets single joints."""
        with self._condition:
            self._wanted(replace(self._wish, goal=goal, joints={}))

    def grip(self, position: float | None) -> None:
        """Where the gripper shall go, 0 open .. 1 closed; None to stay."""
        with self._condition:
            self._wanted(replace(self._wish, gripper=position))

    def bend(self, joint: str, place: float) -> None:
        """Where a single joint shall go [rad or m]. Forgets a goal of the gizmo."""
        with self._condition:
            self._wanted(replace(self._wish, goal=None, joints={**self._wish.joints, joint: place}))

    def release(self) -> None:
        """Ask for nothing any more, as when the driver is gone."""
        with self._condition:
            self._wish = Wish()
            self._tapped = self._released = False

    def let_time_run(self, runs: bool) -> None:
        """Whether time goes on while nothing is asked for."""
        with self._condition:
            self._runs = runs
            self._condition.notify()

    @property
    def wish(self) -> Wish:
        """What is asked for now."""
        return self._wish

    def _wanted(self, wish: Wish) -> None:
        if self._wish.goal is None and not np.any(self._wish.linear) and not np.any(self._wish.angular):
            self._wished = time.perf_counter()
        self._wish = wish
        self._condition.notify()

    def _run(self) -> None:
        try:
            session = self._open_session()
        except _FAULTS as error:
            _LOG.exception("the world could not be opened") if not isinstance(error, VAPSimError) else None
            self._on_words(f"The world could not be opened: {error}")
            return
        self._told(session.present)
        due, moving = 0.0, False
        while True:
            with self._condition:
                while not self._stopped and not self._waiting:
                    left = due - time.perf_counter()
                    if self._active() and left <= 0:
                        break
                    moving &= self._active()
                    self._condition.wait(left if self._active() else None)
                if self._stopped:
                    return
                asked = self._waiting.popleft() if self._waiting else None
                wish, wished = self._wish, self._wished
                if asked is None:
                    if self._released:
                        self._wish = replace(wish, linear=np.zeros(3), angular=np.zeros(3))
                    self._tapped = self._released = False
            if asked is not None:
                self._act(session, *asked)
                moving = False
                continue
            began = time.perf_counter()
            stepped = self._step(session, wish, wished if not moving else max(due, wished))
            if stepped and moving and began - due > session.world.dt:
                self.timing = replace(self.timing, late=self.timing.late + 1)
            # A world that cannot keep up falls behind; it does not hurry afterwards.
            due = began + session.world.dt if not moving else max(due + session.world.dt, began)
            moving = stepped

    def _active(self) -> bool:
        wish = self._wish
        asked = wish.goal is not None or wish.gripper is not None or bool(wish.joints)
        return asked or bool(np.any(wish.linear) or np.any(wish.angular)) or self._runs

    def _act(self, session: DrivingSession, name: str, act: Callable[[DrivingSession], Any], asked: float) -> None:
        try:
            before = session.present
            with self._condition:
                self._wish = replace(self._wish, goal=None, gripper=None, joints={})
            act(session)
            if session.present is not before:
                self.timing = replace(self.timing, shown=time.perf_counter() - asked)
            self._told(session.present)
        except _FAULTS as error:
            self._fault(name, error)

    def _step(self, session: DrivingSession, wish: Wish, wished: float) -> bool:
        """Whether an action was taken."""
        try:
            steering = Steering(session.world.model, session.world.dt)
            steered = steering.steer(session.present.asked, wish)
            if steered.out_of_reach:
                self._on_words("The arm cannot reach further in that direction.")
            if steered.action is None and not self._runs:
                self._settled(wish)
                return False
            began = time.perf_counter()
            moment = session.step(session.present.asked if steered.action is None else steered.action)
            now = time.perf_counter()
            self.timing = replace(self.timing, step=now - began, shown=now - wished, steps=self.timing.steps + 1)
            self._told(moment)
            if steered.arrived:
                with self._condition:
                    if self._wish.goal is wish.goal:
                        self._wish = replace(self._wish, goal=None)
            return True
        except _FAULTS as error:
            self._fault("a step", error)
            self.release()
            self.let_time_run(False)
            return False

    def _settled(self, wish: Wish) -> None:
        """Everything that was asked for is reached, or cannot be: ask no more, unless something new was asked."""
        with self._condition:
            if self._wish is wish:
                self._wish = Wish()
                self._tapped = self._released = False

    def _fault(self, name: str, error: BaseException) -> None:
        if not isinstance(error, VAPSimError):
            _LOG.error("%s failed", name, exc_info=error)
            self._on_words(f"{name} failed: {type(error).__name__}. The episode is kept; see the terminal.")
            return
        self._on_words(f"{name}: {error}")

    def _told(self, moment: Moment) -> None:
        self._on_moment(moment, self.timing)
