"""The control loop alone: what is asked for happens, in its order, and neither faults nor hurry stop it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from tests.viewer.teleop_toy import ToyWorld, toy_session
from vap_sim.errors import InvalidInput
from vap_sim.viewer.teleop_history import Moment
from vap_sim.viewer.teleop_loop import MOST_WAITING, DrivingLoop, Timing
from vap_sim.viewer.teleop_session import DrivingSession
from vap_sim.viewer.teleop_steering import Steering, moved

FORWARD = np.array([1.0, 0, 0, 0, 0, 0])


class _Heard:
    """What a loop tells."""

    def __init__(self) -> None:
        self.moments: list[tuple[Moment, Timing]] = []
        self.words: list[str] = []

    @property
    def step(self) -> int:
        return self.moments[-1][0].step if self.moments else -1


@contextmanager
def _running(dt: float = 0.02) -> Iterator[tuple[DrivingLoop, _Heard, DrivingSession, ToyWorld]]:
    session, made = toy_session()
    world = made["toy"]
    world.dt = dt
    session.begin(0)
    heard = _Heard()
    loop = DrivingLoop(
        lambda: session, lambda moment, timing: heard.moments.append((moment, timing)), heard.words.append
    )
    loop.start()
    _until(lambda: heard.step == 0)
    try:
        yield loop, heard, session, world
    finally:
        loop.stop()
        assert not loop.alive


def _until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


def test_held_keys_drive_and_released_ones_stop() -> None:
    with _running() as (loop, heard, _, _):
        loop.move(FORWARD)
        _until(lambda: heard.step >= 5)
        loop.move(np.zeros(6))
        _until(lambda: not loop.wish.linear.any())
        time.sleep(0.1)
        still = heard.step
        time.sleep(0.2)
        assert heard.step == still, "time stands still while nothing is asked for"
        loop.let_time_run(True)
        _until(lambda: heard.step >= still + 3)
        loop.let_time_run(False)


def test_the_shortest_tap_is_one_step() -> None:
    with _running(dt=0.2) as (loop, heard, _, _):
        for count in range(1, 4):
            loop.ask("busy", lambda session: time.sleep(0.05))
            loop.move(FORWARD)
            loop.move(np.zeros(6))
            _until(lambda count=count: heard.step == count)
            time.sleep(0.3)
            assert heard.step == count and not loop.wish.linear.any()
        time.sleep(0.4)
        loop.move(FORWARD)
        _until(lambda: heard.step == 4)
        loop.move(FORWARD)  # the page says so as long as it is held
        loop.move(np.zeros(6))
        time.sleep(0.5)
        assert heard.step == 4 and loop.timing.late == 0, "taps are not late, however far they are apart"


def test_a_goal_is_driven_to_and_then_forgotten() -> None:
    with _running() as (loop, heard, session, world):
        steering = Steering(world.model, world.dt)
        start = steering.tool(session.present.seen.joints)
        loop.aim(moved(start, np.array([0.01, 0.01, -0.01]), np.zeros(3)))
        _until(lambda: loop.wish.goal is None and heard.step > 0)
        reached = steering.tool(heard.moments[-1][0].seen.joints)
        assert np.abs(reached[:3, 3] - start[:3, 3] - [0.01, 0.01, -0.01]).max() < 2e-3
        loop.grip(1.0)
        _until(lambda: loop.wish.gripper is None)
        assert heard.moments[-1][0].asked[-1] == 1.0


def test_single_joints_go_together_and_keys_end_what_was_asked_of_them() -> None:
    with _running() as (loop, heard, session, world):
        names = Steering(world.model, world.dt).singly
        start = session.present.asked.copy()
        loop.bend(names[0], float(start[0]) + 0.2)
        loop.bend(names[1], float(start[1]) - 0.2)
        _until(lambda: heard.step > 0 and not loop.wish.joints)
        moved_by = heard.moments[-1][0].asked - start
        assert moved_by[:2] == pytest.approx([0.2, -0.2], abs=2e-3) and np.abs(moved_by[2:]).max() < 1e-6
        loop.bend(names[0], 2.0)
        loop.move(FORWARD)
        assert not loop.wish.joints
        loop.move(np.zeros(6))


def test_what_is_asked_between_steps_is_done_in_order_and_the_newest_of_a_kind_counts() -> None:
    with _running() as (loop, heard, _, _):
        loop.move(FORWARD)
        _until(lambda: heard.step >= 6)
        loop.move(np.zeros(6))
        done: list[int] = []

        def held(_: DrivingSession) -> None:
            time.sleep(0.2)

        loop.ask("hold", held)
        time.sleep(0.05)
        for step in (1, 4, 2):
            loop.ask("rewind", lambda session, step=step: done.append(session.rewind(step).step))
        loop.ask("fork", lambda session: done.append(session.fork().number))
        _until(lambda: len(done) == 2)
        assert done == [2, 2]
        _until(lambda: heard.step == 2)
        assert not all(loop.ask(f"more {number}", held) for number in range(MOST_WAITING + 2))


def test_faults_are_told_and_driving_goes_on() -> None:
    with _running() as (loop, heard, _, world):

        def broken(_: DrivingSession) -> None:
            raise ZeroDivisionError("secret")

        def refused(_: DrivingSession) -> None:
            raise InvalidInput("world", "nope", "another")

        loop.ask("first", broken)
        loop.ask("second", refused)
        _until(lambda: len(heard.words) == 2)
        assert "ZeroDivisionError" in heard.words[0] and "secret" not in heard.words[0]
        assert heard.words[1].startswith("second: ") and "nope" in heard.words[1]
        world.fails_at = world.steps + 1
        loop.move(FORWARD)
        _until(lambda: len(heard.words) == 3)
        assert not loop.wish.linear.any(), "the arm rests after a fault"
        loop.move(FORWARD)
        _until(lambda: heard.step >= 2)


def test_a_world_that_cannot_be_opened_is_told() -> None:
    words: list[str] = []

    def closed() -> DrivingSession:
        raise InvalidInput("world", "none", "one")

    loop = DrivingLoop(closed, lambda moment, timing: None, words.append)
    loop.start()
    _until(lambda: not loop.alive)
    assert "could not be opened" in words[0] and "none" in words[0]
    loop.stop()


def test_what_the_arm_cannot_reach_is_told_and_asked_no_more() -> None:
    with _running(dt=0.2) as (loop, heard, session, world):
        far = Steering(world.model, world.dt).tool(session.present.seen.joints)
        far[:3, 3] = [0.0, 0.0, 3.0]
        loop.aim(far)
        _until(lambda: any("cannot reach" in words for words in heard.words))
        _until(lambda: loop.wish.goal is None)
