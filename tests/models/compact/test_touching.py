"""Things moved in space: what is held goes with the tool, and where the scene is changes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.compact.test_contact import network as lively_network
from tests.models.compact.touched import (
    FREE,
    HELD,
    PATH,
    TWO,
    begun,
    network,
    read_exactly,
    stepped,
    swung,
    told,
    world,
)
from vap_sim.models.compact import layers
from vap_sim.models.compact.geometry import eyes_of, see
from vap_sim.models.compact.poses import Placed
from vap_sim.models.compact.slots import SLOTS
from vap_sim.models.compact.touching import ByTouch
from vap_sim.state import WorldState


@pytest.fixture(autouse=True)
def _read_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "read", read_exactly)


def place(state: WorldState, thing: int = 0) -> np.ndarray:
    return np.asarray(state.context["position"][0, thing].double().numpy())


def turned(state: WorldState, view: int) -> float:
    """By what angle the first thing's cut-out is turned in a view [rad]."""
    real, imaginary = state.context["turn"][0, view, 0].double().tolist()
    return float(np.arctan2(imaginary, real))


# What is held ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [1, 2, 3])
def test_what_is_held_keeps_its_place_in_the_tool(views: int) -> None:
    dream, prompt = world(views=views), told(views=views)
    states = stepped(dream, begun(dream, prompt), prompt)
    inside = [np.linalg.solve(pose, [*place(state), 1.0])[:3] for state, pose in zip(states, PATH, strict=True)]
    assert len(inside) == 13 and np.linalg.norm(place(states[-1]) - place(states[0])) > 0.05
    np.testing.assert_allclose(inside, np.tile(inside[0], (13, 1)), rtol=0, atol=1e-5)


def test_views_show_it_where_it_is() -> None:
    dream, prompt = world(), told()
    state = begun(dream, prompt)
    after = stepped(dream, state, prompt)[-1]
    seen = state.context["projections"][0].double().numpy()
    off = [one.context["centre"][0, :, 0].double().numpy() - see(seen, place(one))[0] for one in (state, after)]
    # What is not the middle of its cut-out turns and grows with it.
    np.testing.assert_allclose(off[1], off[0], rtol=0, atol=1.0)
    assert not torch.equal(state.context["objects"], after.context["objects"])


@pytest.mark.parametrize("view", [0, 1])
@pytest.mark.parametrize("angle", [0.05, -0.04])
def test_a_cut_out_turns_as_the_tool_does_about_the_line_of_sight(view: int, angle: float) -> None:
    """By as much, and to the same side, as a second point turns about it that is fixed to the tool, too."""
    dream = world()
    middle = place(begun(dream, told()))
    seen = told().projections[0, view, 0].double().numpy()  # type: ignore[index]
    sight = middle - eyes_of(seen)
    sight /= np.linalg.norm(sight)
    path = swung(sight, middle, angle=angle)
    states = stepped(dream, begun(dream, told(path)), told(path))
    aside = np.cross(sight, [0.0, 0.0, 1.0]) * 1e-3
    marks = [see(seen, pose[:3, :3] @ aside + pose[:3, 3])[0] - see(seen, pose[:3, 3])[0] for pose in path]
    # Beside the middle of the picture a circle is seen as an ellipse, by a little.
    way = np.unwrap([np.arctan2(y, x) for x, y in marks])
    went = np.unwrap([turned(state, view) for state in states])
    np.testing.assert_allclose(went - went[0], way - way[0], rtol=0, atol=0.02)
    assert went[-1] - went[0] == pytest.approx(12 * angle, abs=0.01)
    np.testing.assert_allclose(place(states[-1]), middle, rtol=0, atol=1e-5)


def test_what_turns_across_the_line_of_sight_is_not_seen_to_turn() -> None:
    dream = world()
    middle = place(begun(dream, told()))
    sight = middle - eyes_of(told().projections[0, 0, 0].double().numpy())  # type: ignore[index]
    across = np.cross(sight, [0.0, 0.0, 1.0])
    path = swung(across / np.linalg.norm(across), middle)
    states = stepped(dream, begun(dream, told(path)), told(path))
    assert turned(states[-1], 0) == pytest.approx(turned(states[0], 0), abs=1e-4)


def test_what_is_not_held_stays_where_the_tool_goes() -> None:
    dream = world(network(FREE))
    states = stepped(dream, begun(dream, told()), told())
    np.testing.assert_allclose(place(states[-1]), place(states[0]), rtol=0, atol=1e-6)


def test_what_goes_by_itself_goes_as_far_as_it_is_said_to() -> None:
    dream = world(network(FREE, shift=(1.0, -0.5, 0.25)))
    states = stepped(dream, begun(dream, told(PATH[:4])), told(PATH[:4]))
    went = place(states[-1]) - place(states[0])
    np.testing.assert_allclose(went, [0.03, -0.015, 0.0075], rtol=0, atol=1e-6)
    np.testing.assert_allclose(states[-1].context["stride"][0, 0], [0.01, -0.005, 0.0025], rtol=0, atol=1e-6)


def test_what_does_not_move_keeps_its_bits() -> None:
    """However lively the answer is otherwise, and whatever the tool does."""
    dream = world(network(HELD, moves=-99.0, shift=(3.0, 3.0, 3.0), lively=0.1))
    state = begun(dream, told(), TWO)
    after = stepped(dream, state, told())[-1]
    assert int(state.context["present"].any(1).sum()) == 2
    for name, value in state.context.items():
        changes = name in ("tool", "bones")
        assert torch.equal(value, after.context[name]) != changes, name


def test_what_is_told_is_remembered_for_a_step() -> None:
    dream, prompt = world(), told()
    states = stepped(dream, begun(dream, prompt), prompt)
    assert prompt.bones is not None and prompt.tool is not None
    for frame in (0, 5, 12):
        assert torch.equal(states[frame].context["bones"], prompt.bones[:, frame])
        assert torch.equal(states[frame].context["tool"], prompt.tool[:, frame])


# Laws ------------------------------------------------------------------------------------------------------------


def scene(seed: int = 0) -> tuple[Placed, dict[str, Tensor], dict[str, Tensor]]:
    """Three things, of which two views show one or two, and what prompts tell of a step."""
    rng = np.random.default_rng(seed)
    present = np.zeros((2, SLOTS), bool)
    present[0, [0, 3]], present[1, [3, 4]] = True, True
    placed = Placed(
        position=rng.normal([0.45, 0.0, 0.05], 0.05, (SLOTS, 3)),
        stride=rng.normal(0, 0.01, (SLOTS, 3)),
        present=present,
        grain=np.zeros((2, SLOTS, 3, 2)),
        offset=np.zeros((2, SLOTS, 2)),
        spin=np.zeros((2, SLOTS)),
    )
    bones = np.zeros((2, 5, 8), np.float32)
    bones[0, :, :6] = rng.normal([0.45, 0.0, 0.1] * 2, 0.1, (5, 6))
    bones[1, :, :6] = bones[0, :, :6] + rng.normal(0, 0.01, (5, 6))
    bones[:, :, 6], bones[:, 3:, 7] = 0.02, 1
    old, now = ({"bones": torch.from_numpy(bones[n]), "tool": torch.from_numpy(PATH[2 + n])} for n in (0, 1))
    away = torch.from_numpy(rng.normal(0, 1, (SLOTS, 3)).astype(np.float32))
    old |= {"sizes": torch.from_numpy(rng.uniform(0.02, 0.08, (SLOTS, 2)).astype(np.float32)), "away": away}
    return placed, old, now


def test_nothing_is_foreseen_of_what_is_not_there() -> None:
    mover, (placed, old, now) = ByTouch(lively_network(), 0.0, ""), scene()
    shift, turn, logit = mover._foreseen(placed, old, now)
    here = np.asarray(placed.present.any(0))
    assert not shift[~here].any() and not turn[~here].any() and (logit[~here] == -np.inf).all()
    assert np.isfinite(logit[here]).all()
    elsewhere = replace(placed, position=placed.position * here[:, None] + 7.0 * ~here[:, None])
    for one, same in zip(mover._foreseen(elsewhere, old, now), (shift, turn, logit), strict=True):
        np.testing.assert_array_equal(one, same)
    empty = replace(placed, present=np.zeros_like(placed.present))
    assert (mover._foreseen(empty, old, now)[2] == -np.inf).all()


def test_other_things_are_seen() -> None:
    mover, (placed, old, now) = ByTouch(lively_network(), 0.0, ""), scene()
    position = placed.position.copy()
    position[3] += [0.02, 0.0, 0.0]
    moved = mover._foreseen(replace(placed, position=position), old, now)
    assert np.abs(moved[0] - mover._foreseen(placed, old, now)[0])[[0, 4]].max(1).min() > 1e-5


@pytest.mark.parametrize("height", [0.3, -0.125])
def test_how_high_the_table_is_does_not_matter(height: float) -> None:
    """Cameras, things and robot raised with it: the same dream, higher up."""
    films, ends = [], []
    for up in (0.0, height):
        dream = world(network(0.0, shift=(0.2, 0.1, 0.1), lively=0.05), table_height=up)
        prompt = told(PATH[:7], height=up)
        state = begun(dream, prompt, TWO)
        rollout = dream.imagine(state, prompt.between(1, 7))
        films.append(rollout.frames)
        ends.append(rollout.state.context)
        assert float((ends[-1]["position"] - state.context["position"])[0, :2].norm(dim=1).min()) > 0.005
    low, high = ends
    raised = low["position"][0, :2] + torch.tensor([0.0, 0.0, height])
    torch.testing.assert_close(high["position"][0, :2], raised, rtol=0, atol=1e-4)
    torch.testing.assert_close(high["sizes"], low["sizes"], rtol=0, atol=1e-5)
    torch.testing.assert_close(high["away"][0, :2], low["away"][0, :2], rtol=0, atol=1e-4)
    torch.testing.assert_close(high["centre"][..., :2, :], low["centre"][..., :2, :], rtol=0, atol=0.05)
    assert films[0] is not None and films[1] is not None
    assert float((films[0].float() - films[1].float()).abs().mean()) < 0.1


def test_things_are_remembered_as_wide_as_they_are_and_seen_from_where_they_are() -> None:
    """A cube of 6 cm, seen from a corner, in pixels of 1.3 cm."""
    dream, prompt = world(), told()
    state = begun(dream, prompt)
    width, height = state.context["sizes"][0, 0].tolist()
    assert 0.07 < width < 0.12 and 0.07 < height < 0.12
    eyes = eyes_of(state.context["projections"][0].double().numpy())
    lines = eyes - place(state)
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    away = state.context["away"][0, 0].double().numpy()
    assert np.abs(lines - away).max(1).min() < 1e-5
    assert not state.context["sizes"][0, 1:].any() and not state.context["away"][0, 1:].any()
