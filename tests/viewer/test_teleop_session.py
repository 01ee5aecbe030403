"""Driving without a browser: what is gone back to, forked, tried again or repeated elsewhere is the same bits."""

from __future__ import annotations

import numpy as np
import pytest

from tests.viewer.teleop_toy import actions, toy_session
from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.viewer.teleop_history import HistoryLimits, Moment
from vap_sim.viewer.teleop_session import DrivingSession
from vap_sim.viewer.teleop_steering import Steering, Wish


def _same(one: Moment, other: Moment) -> bool:
    pictures = zip(one.seen.pictures.values(), other.seen.pictures.values(), strict=True)
    same = all(np.array_equal(a, b) for a, b in pictures) and np.array_equal(one.seen.joints, other.seen.joints)
    return same and np.array_equal(one.asked, other.asked)


def _driven(steps: int = 6, **options: object) -> DrivingSession:
    session, _ = toy_session(**options)
    session.begin(3)
    for action in actions(session, steps):
        session.step(action)
    return session


def test_going_back_and_acting_alike_gives_the_same_bits_and_another_take() -> None:
    session = _driven()
    first = session.line
    session.rewind(2)
    assert session.present is first[2]
    for moment in first[3:]:
        session.step(moment.action)
    assert [take.number for take in session.history.takes] == [1, 2]
    assert all(_same(a, b) for a, b in zip(first, session.line, strict=True))
    assert session.line[2] is first[2] and session.line[3] is not first[3]
    session.choose(1)
    assert session.line == first and session.present is first[-1], "nothing is lost by going back"


def test_acting_at_the_tip_extends_the_take_and_a_fork_there_does_not() -> None:
    session = _driven(2)
    session.step(session.present.asked)
    assert len(session.history.takes) == 1
    fork = session.fork()
    session.step(session.present.asked)
    assert session.take.number == fork.number == 2 and session.history.takes[0].tip == 3
    assert session.take.begins == 3


def test_trying_again_returns_to_where_the_take_began() -> None:
    session = _driven(3)
    session.rewind(1)
    session.fork()
    session.step(session.present.asked)
    session.step(session.present.asked)
    again = session.again()
    assert again.step == 1 and session.take.number == 3 and len(session.line) == 2


def test_without_memory_for_states_moments_are_reached_by_repeating_actions() -> None:
    tight, ample = _driven(40, limits=HistoryLimits(state_bytes=8_000)), _driven(40)
    assert tight.history.state_bytes <= 8_000 < ample.history.state_bytes
    repeated = 0
    for step in (40, 3, 17, 18, 39, 0):
        assert _same(tight.rewind(step), ample.rewind(step))
        repeated = max(repeated, tight.replayed)
        tight.step(tight.present.asked)
        ample.step(ample.present.asked)
        assert _same(tight.present, ample.present)
        tight.choose(1)
        ample.choose(1)
    assert 0 < repeated < 16, "every so many states stay, evenly over the episode"


def test_another_world_begins_alike_and_does_the_same() -> None:
    session, made = toy_session()
    session.begin(5)
    for action in actions(session, 4):
        session.step(action)
    line = session.line
    session.rewind(3)
    present = session.switch("other")
    assert present.world == "other" and present.step == 3 and session.take.number == 2
    assert all(_same(a, b) for a, b in zip(line[:4], session.line, strict=True))
    session.step(present.asked)
    session.choose(1)
    assert session.world.name == "toy" and session.present is line[-1]
    session.switch("other")
    assert made["other"].steps == 3 + 1 + 4, "the start of a world is taken once, and never reset"
    assert session.line[0] is session.history.line(session.history.takes[1])[0]


def test_what_fails_changes_nothing() -> None:
    session, made = toy_session(limits=HistoryLimits(moments=8, takes=3))
    with pytest.raises(InvalidInput, match="no episode"):
        _ = session.present
    session.begin(0)
    for action in actions(session, 3):
        session.step(action)
    before = session.present
    made["toy"].fails_at = made["toy"].steps + 1
    with pytest.raises(InvalidInput, match="step"):
        session.step(before.asked)
    assert session.present is before
    made["toy"].fails_at = None
    following = session.step(before.asked)
    fresh = _driven(0)
    fresh.begin(0)
    for moment in session.line[1:]:
        fresh.step(moment.action)
    assert _same(fresh.present, following), "the world was put back where it was before it failed"
    for name, words in (("missing", "world"), ("fast", "actions a second")):
        with pytest.raises((InvalidInput, Unsupported), match=words):
            session.switch(name)
    with pytest.raises(Unsupported, match="no room to repeat"):
        session.switch("other")
    with pytest.raises(InvalidInput, match="0 to 4"):
        session.rewind(9)
    with pytest.raises(InvalidInput, match="1 to 1"):
        session.choose(2)
    with pytest.raises(InvalidInput, match="broken"):
        session.start_in("toy", 1, {"start": "broken"})
    assert session.present is following and session.world.name == "toy"
    for _ in range(3):
        session.step(session.present.asked)
    with pytest.raises(Unsupported, match="full: 8 moments"):
        session.step(session.present.asked)
    session.fork()
    session.fork()
    with pytest.raises(Unsupported, match="3 takes"):
        session.fork()
    session.begin(1)
    assert len(session.line) == 1 and len(session.history) == 1


def test_a_full_history_of_pictures_is_told() -> None:
    session, _ = toy_session(limits=HistoryLimits(picture_bytes=10_000))
    session.begin(0)
    with pytest.raises(Unsupported, match="pictures take"):
        for _ in range(10):
            session.step(session.present.asked)
    with pytest.raises(InvalidInput, match="at least 1"):
        HistoryLimits(moments=0)


@pytest.mark.parametrize("world", ["kinematic", "compact"])
def test_a_dream_is_driven_back_and_on_through_its_environment(world: str) -> None:
    from vap_sim.commands.teleop_worlds import world_opener

    session = DrivingSession(world_opener("VAPWorld-DROID-v0"), world)
    session.begin(0)
    for action in actions(session, 2):
        session.step(action)
    line = session.line
    assert list(line[0].seen.pictures)[:2] == ["image", "prompt"] and 0 <= float(line[1].seen.signals["trust"]) <= 1
    session.rewind(0)
    for moment in line[1:]:
        session.step(moment.action)
    assert all(_same(a, b) for a, b in zip(line, session.line, strict=True))
    assert set(session.world.cameras()) == {"image"} and "disc" in session.world.instruction()


@pytest.mark.parametrize("station", ["Bridge", "RT1", "EgoVid"])
def test_every_station_is_driven_by_the_id_of_its_twin(station: str) -> None:
    pytest.importorskip("pybullet", reason="pybullet is not installed (extra twin)")
    from vap_sim.commands.teleop_worlds import default_world, world_opener

    assert default_world(f"VAPTwin-{station}-v0") == "twin" and default_world("VAPWorld-DROID-v0") == "compact"
    session = DrivingSession(world_opener(f"VAPTwin-{station}-v0"), "twin")
    session.begin(0)
    up = Wish(linear=np.array([0.0, 0.0, 0.4]))
    steering = Steering(session.world.model, session.world.dt)
    steered = steering.steer(session.present.asked, up)
    assert steered.action is not None
    first = session.step(steered.action)
    session.switch("kinematic")
    assert session.present.step == 1 and session.world.dt == steering.dt
    session.choose(1)
    session.rewind(0)
    assert _same(session.step(steered.action), first)
    height = [steering.tool(one.seen.joints)[2, 3] for one in session.line]
    assert height[1] - height[0] > 0.005


def test_the_twin_does_the_same_beside_a_dream_and_instead_of_it() -> None:
    pytest.importorskip("pybullet", reason="pybullet is not installed (extra twin)")
    from vap_sim.commands.teleop_worlds import world_opener

    session = DrivingSession(world_opener("VAPWorld-DROID-v0", beside=True), "kinematic")
    session.begin(0)
    for action in actions(session, 2):
        session.step(action)
    dream = session.line
    assert "twin image" in dream[0].seen.pictures and "twin distance" in dream[0].seen.signals
    session.rewind(1)
    session.step(dream[2].action)
    assert _same(session.present, dream[2])
    session.switch("twin")
    truth = session.line
    assert np.array_equal(truth[2].seen.pictures["image"], dream[2].seen.pictures["twin image"])
    session.rewind(0)
    session.step(dream[1].action)
    assert _same(session.present, truth[1])
