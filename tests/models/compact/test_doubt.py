"""Echoes of a dream: in the dream's own mood they never part from it, in another they do, and they change nothing."""

from __future__ import annotations

import pytest
import torch

from vap_sim.envs.session import Session, SessionState, open_session
from vap_sim.envs.start import load_start
from vap_sim.errors import InvalidInput
from vap_sim.models.compact import doubt, motion, reach
from vap_sim.models.compact.doubt import Echo
from vap_sim.models.compact.movers import BySight
from vap_sim.models.compact.views import CompactViews
from vap_sim.models.doubting import DoubtingWorld
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState

BY_SIGHT = {"moved_by": "sight"}
REACHES = torch.tensor([0.2, 0.9, 0.1, 0.5, -0.2, 0.8, 0.0, 0.0])


def opened(*views: str) -> Session:
    arguments = {"robot": "panda_robotiq", "world": "compact", "weights": None, "world_options": BY_SIGHT}
    rates = {"control": "joint_velocity", "control_hz": 5.0, "video_hz": 5.0, "clip_actions": True}
    return open_session(**arguments, **rates, trust=False, views=views, device="cpu")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def session() -> Session:
    return opened("exterior_1")


@pytest.fixture(scope="module")
def wide() -> Session:
    """Exterior and wrist, objects moved by sight, of which the latter has no say."""
    session = opened("exterior_1", "wrist")
    world = session.world
    assert isinstance(world, CompactViews) and isinstance(world.mover, BySight)
    world.mover = BySight(
        world.network.motion,
        world.size,
        world.table,
        told_of_carrying=True,
        hears_moving=False,
        demonstration=None,
        doubted=world.mover.doubted,
    )
    return session


@pytest.fixture(scope="module")
def begun(session: Session) -> SessionState:
    return session.begin([load_start("push_00"), load_start("push_03")], [0, 1])


def prompt(session: Session, state: SessionState, number: int) -> VisualPrompt:
    joints = torch.from_numpy(state.drawn)[:, None] + 0.1 * number * REACHES
    return session.prompter.draw(joints, state.cameras)


def dream(session: Session, state: SessionState, steps: int = 3) -> tuple[WorldState, WorldState, torch.Tensor]:
    """The dream, its echoes, and doubts (steps, b)."""
    world = session.world
    assert isinstance(world, DoubtingWorld)
    now, memory, doubts = state.world, world.begin_doubt(state.world), []
    for number in range(1, steps + 1):
        told = prompt(session, state, number)
        after, _ = world.step(now, told)
        memory, value = world.doubt(memory, now, after, told)
        now = after
        doubts.append(value)
    return now, memory, torch.stack(doubts)


def all_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every object moves in every step, whatever the network says of it and wherever the tool is."""
    monkeypatch.setattr(reach, "REACH", 1e9)
    monkeypatch.setattr(motion, "MOVES_ABOVE", -1000.0)
    monkeypatch.setattr(doubt, "_NEAR", 1e9)


def test_an_echo_in_the_mood_of_the_dream_never_parts_from_it(
    session: Session, begun: SessionState, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_move(monkeypatch)
    monkeypatch.setattr(doubt, "ECHOES", (Echo(False, 0.0),))
    now, memory, doubts = dream(session, begun)
    assert not torch.equal(now.context["centre"], begun.world.context["centre"])
    torch.testing.assert_close(memory.context["centre"][:, 0], now.context["centre"], atol=0.05, rtol=0)
    assert float(doubts.max()) < 0.02


def test_an_echo_in_another_mood_parts_from_it(
    session: Session, begun: SessionState, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_move(monkeypatch)
    monkeypatch.setattr(doubt, "ECHOES", (Echo(False, 2000.0),))
    now, memory, doubts = dream(session, begun)
    assert torch.equal(memory.context["centre"][:, 0], begun.world.context["centre"])
    far = (now.context["centre"] - begun.world.context["centre"]).norm(dim=-1)
    assert bool((doubts[-1] > 0).all())
    assert bool((doubts.diff(dim=0) > -0.05).all())
    assert bool((doubts[-1] <= far.amax(dim=1)).all())


def test_rows_doubt_alone_as_together_and_equal_echoes_look_once(
    session: Session, begun: SessionState, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, together, doubts = dream(session, begun)
    for row in (0, 1):
        _, alone, own = dream(session, begun.index([row]))
        assert torch.equal(own[:, 0], doubts[:, row])
        assert all(torch.equal(value[0], together.context[name][row]) for name, value in alone.context.items())
    looks: list[bool] = []
    plain = doubt._foresee
    monkeypatch.setattr(doubt, "_foresee", lambda *a: (looks.append(a[1].mirrored), plain(*a))[1])
    dream(session, begun.index([0]), steps=1)
    assert sorted(looks) == [False, True]


def test_a_robot_far_away_leaves_no_doubt(session: Session, begun: SessionState) -> None:
    world = session.world
    assert isinstance(world, DoubtingWorld)
    memory = world.begin_doubt(begun.world)
    blank = VisualPrompt(torch.zeros_like(prompt(session, begun, 0).skeleton))
    now = begun.world
    for _ in range(3):
        after, _ = world.step(now, blank)
        memory, value = world.doubt(memory, now, after, blank)
        now = after
    assert value.tolist() == [0.0, 0.0]


def test_foreign_memories_are_refused(session: Session, begun: SessionState) -> None:
    world, told = session.world, prompt(session, begun, 1)
    assert isinstance(world, DoubtingWorld)
    after, _ = world.step(begun.world, told)
    with pytest.raises(InvalidInput, match="memory of doubt"):
        world.doubt(begun.world, begun.world, after, told)
    with pytest.raises(InvalidInput, match="memory of doubt: given 1 rows"):
        world.doubt(world.begin_doubt(begun.world).index([0]), begun.world, after, told)


def test_of_several_views_the_first_is_doubted(
    session: Session, wide: Session, begun: SessionState, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = wide.begin(begun.starts, [0, 1])
    all_move(monkeypatch)
    monkeypatch.setattr(doubt, "ECHOES", (Echo(False, 0.0), Echo(False, 2000.0)))
    now, memory, doubts = dream(wide, both)
    alone = dream(session, begun)[2]
    torch.testing.assert_close(doubts, alone, atol=0.02, rtol=0.02)
    torch.testing.assert_close(memory.context["centre"][:, 0], now.context["centre"][:, 0], atol=0.05, rtol=0)
    assert bool((doubts[-1] > 0).all())
    row = dream(wide, both.index([1]))[2]
    assert torch.equal(row[:, 0], doubts[:, 1])


def test_a_memory_of_one_view_is_not_one_of_two(session: Session, wide: Session, begun: SessionState) -> None:
    both = wide.begin(begun.starts, [0, 1])
    assert isinstance(session.world, DoubtingWorld) and isinstance(wide.world, DoubtingWorld)
    told = prompt(wide, both, 1)
    after, _ = wide.world.step(both.world, told)
    with pytest.raises(InvalidInput, match="memory of doubt"):
        wide.world.doubt(session.world.begin_doubt(begun.world), both.world, after, told)
