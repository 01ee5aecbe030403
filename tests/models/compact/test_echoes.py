"""What is dreamt beside a dream can be seen: its pictures, had things stood a little elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.compact import touched
from tests.models.compact.touched import FREE, ONE, PATH, TOUCHED, TWO, begun, network, shown, told, world
from vap_sim.errors import InvalidInput
from vap_sim.models.compact import layers
from vap_sim.models.compact.geometry import see
from vap_sim.models.compact.network import CompactNetwork
from vap_sim.models.compact.touching import ECHOES
from vap_sim.models.compact.views import CompactViews
from vap_sim.models.doubting import EchoingWorld
from vap_sim.state import WorldState

SHORT = told(PATH[:2])
PART = SHORT.between(1, 2)


@pytest.fixture(autouse=True)
def _read_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "read", touched.read_exactly)


def after_a_step(
    dream: CompactViews, frames: torch.Tensor | None = None
) -> tuple[WorldState, WorldState, torch.Tensor]:
    """Memory of doubt, state and frames after one step of dreams that began with these pictures."""
    frames = shown(2, ONE) if frames is None else frames
    rows = [0] * len(frames)
    before = dream.encode(frames, SHORT.between(0, 1).index(rows), rows)
    after, seen = dream.step(before, PART.index(rows))
    return dream.doubt(dream.begin_doubt(before), before, after, PART.index(rows))[0], after, seen


def test_echoes_of_what_rests_show_what_the_dream_shows() -> None:
    dream = world(network(moves=-9.0))
    assert isinstance(dream, EchoingWorld)
    memory, after, seen = after_a_step(dream)
    echoes = dream.echoes(memory, after, PART)
    assert echoes.shape == (1, len(ECHOES), *seen.shape[1:]) and echoes.dtype == torch.uint8
    assert all(torch.equal(echo, seen[0]) for echo in echoes[0])


def test_what_goes_wherever_it_stands_is_shown_where_the_dream_shows_it() -> None:
    """But for rounding: a state keeps places in single precision."""
    memory, after, seen = after_a_step(dream := world(network(FREE, shift=(1.0, 0.5, 0.0))))
    apart = (dream.echoes(memory, after, PART)[0].int() - seen[0].int()).abs()
    assert apart.max() <= 2


def test_an_echo_shows_its_things_where_it_has_them() -> None:
    dream = world(network(moves=-9.0))
    memory, after, _ = after_a_step(dream)
    places = memory.context["position"].clone()
    places[0, 1, 0] += torch.tensor([0.03, -0.04, 0.0])
    moved = replace(memory, context={**memory.context, "position": places})
    still, other = dream.echoes(moved, after, PART)[0, :2, :, 0].numpy().astype(int)
    assert SHORT.projections is not None
    for view in range(2):
        projection = SHORT.projections[0, view, 1].double().numpy()
        first, second = (see(projection, place.double().numpy())[0] for place in places[0, :2, 0])
        went = second - first
        # Its old place shows it too, on a plate that was read with it: the edge ahead is where it is.
        colored = [np.argwhere(np.ptp(one[view], axis=-1) > 60)[:, ::-1] for one in (still, other)]
        ahead = [np.where(went > 0, found.max(0), found.min(0)) for found in colored]
        assert np.abs(went).max() > 1
        np.testing.assert_allclose((ahead[1] - ahead[0])[np.abs(went) > 1], went[np.abs(went) > 1], atol=0.8)


def test_echoes_of_a_row_do_not_depend_on_the_others() -> None:
    dream = world(network(0.0, moves=0.5, shift=(0.2, 0.3, 0.0), lively=0.1))
    memory, after, _ = after_a_step(dream, torch.cat([shown(2, ONE), shown(2, TWO), shown(2, ())]))
    together = dream.echoes(memory, after, PART.index([0, 0, 0]))
    for row in range(3):
        alone = dream.echoes(memory.index([row]), after.index([row]), PART)
        assert torch.equal(alone[0], together[row])


def test_a_memory_of_another_maker_is_refused() -> None:
    dream = world()
    memory, after, _ = after_a_step(dream)
    with pytest.raises(InvalidInput, match=r"memory of doubt: given 1 rows of 'another'"):
        dream.echoes(replace(memory, model="another"), after, PART)
    with pytest.raises(InvalidInput, match="state of model 'another'"):
        dream.echoes(memory, replace(after, model="another"), PART)


def test_a_world_by_sight_shows_no_echoes() -> None:
    dream = CompactViews(CompactNetwork(replace(TOUCHED, contact=False)), views=2, dtype=torch.float32)
    state = begun(dream, SHORT)
    assert dream.echoes(dream.begin_doubt(state), state, PART).shape[:3] == (1, 0, 2)
