"""Worlds that know what is touched: what they are told, doubt, and keep in files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.models.compact import touched
from tests.models.compact.touched import (
    FREE,
    ONE,
    PATH,
    TOUCHED,
    TWO,
    begun,
    network,
    shown,
    stepped,
    swung,
    taken,
    told,
    world,
)
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.models.checkpoint import load_tensors, save_tensors
from vap_sim.models.compact import layers
from vap_sim.models.compact.contact import Answer, Bones, Things
from vap_sim.models.compact.demonstration import Demonstration
from vap_sim.models.compact.model import CompactWorld, fingerprint_of, read_config
from vap_sim.models.compact.movers import BySight
from vap_sim.models.compact.network import CompactNetwork
from vap_sim.models.compact.opening import CompactWorlds
from vap_sim.models.compact.touching import ECHOES, ByTouch, _mistakes
from vap_sim.models.compact.views import CompactViews
from vap_sim.state import WorldState


@pytest.fixture(autouse=True)
def _read_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "read", touched.read_exactly)


def doubts(dream: CompactViews, path: np.ndarray = PATH) -> list[float]:
    """The doubt after each step."""
    prompt = told(path)
    states = stepped(dream, begun(dream, prompt), prompt)
    memory, found = dream.begin_doubt(states[0]), []
    for frame, (before, after) in enumerate(zip(states[:-1], states[1:], strict=True), start=1):
        memory, parting = dream.doubt(memory, before, after, prompt.between(frame, frame + 1))
        assert parting.shape == (1,) and parting.dtype == torch.float64
        found.append(float(parting))
    return found


def test_another_robot_in_the_midst_of_a_dream_is_refused() -> None:
    dream, prompt = world(), told()
    assert prompt.bones is not None
    other = replace(prompt, bones=torch.cat([prompt.bones, prompt.bones], dim=2)).between(1, 2)
    with pytest.raises(InvalidInput, match=r"bones of the prompt: given .*, expected .*, those of the robot it began"):
        dream.step(begun(dream, prompt), other)


# Doubt -----------------------------------------------------------------------------------------------------------


def test_what_rests_for_all_echoes_is_not_doubted() -> None:
    assert doubts(world(network(moves=-9.0))) == [0.0] * 12


def test_what_goes_wherever_it_stands_is_not_doubted() -> None:
    """But for rounding: a state keeps places in single precision."""
    assert max(doubts(world(network(FREE, shift=(1.0, 0.5, 0.0))))) < 1e-4
    steady = taken(swung((0.0, 0.0, 1.0), (0.47, 0.02, 0.08), angle=0.0), (0.0, 0.006, 0.008))
    assert max(doubts(world(), steady)) < 1e-4


def test_what_a_turning_tool_carries_depends_on_where_it_is() -> None:
    """Each echo goes round the tool by its own mistake more: by the chord of the angle."""
    axis, dream = np.array([0.0, 0.0, 1.0]), world()
    path = swung(axis, (0.47, 0.02, 0.08))
    begun_ = begun(dream, told(path)).context
    width, away = float(begun_["sizes"][0, 0, 0]), begun_["away"][0, 0].numpy()
    flat = float(np.linalg.norm(away[:2]))
    mistakes = np.array([abs(echo.nearer) * flat + abs(echo.left) for echo in ECHOES])
    chords = [2 * np.sin(0.05 * step / 2) for step in range(1, 13)]
    assert doubts(dream, path) == pytest.approx([chord * mistakes.mean() / width for chord in chords], rel=1e-3)


def test_a_push_that_might_as_well_miss_is_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that moves only what stands to one side of where this thing is seen: echoes beyond it stay."""
    dream = world(network(FREE))
    assert isinstance(dream.mover, ByTouch)
    state = begun(dream, told())
    start, width = state.context["position"][0, 0].numpy(), float(state.context["sizes"][0, 0, 0])

    def pushed(things: Things, bones: Bones) -> Answer:
        moves = torch.where(things.place[:, 1] > float(start[1]) - 0.003, 9.0, -9.0)
        return Answer(torch.tensor([0.01, 0.0, 0.0]).expand_as(things.place), torch.zeros_like(things.place), moves)

    monkeypatch.setattr(dream.mover, "network", pushed)
    away = state.context["away"][0].double().numpy()
    stay = sum(float(mistake[0, 1]) < -0.003 for mistake in _mistakes(away))
    assert 0 < stay < len(ECHOES)
    assert doubts(dream, PATH[:3]) == pytest.approx([0.01 * k * stay / len(ECHOES) / width for k in (1, 2)], rel=1e-3)


def test_doubt_of_a_row_does_not_depend_on_the_others() -> None:
    dream, prompt = world(network(0.0, moves=0.5, shift=(0.2, 0.3, 0.0), lively=0.1)), told(PATH[:2])
    frames = torch.cat([shown(2, ONE), shown(2, TWO), shown(2, ())])
    rows = [0, 0, 0]
    before = dream.encode(frames, prompt.between(0, 1).index(rows), rows)
    part = prompt.between(1, 2)
    after = dream.step(before, part.index(rows))[0]
    memory, together = dream.doubt(dream.begin_doubt(before), before, after, part.index(rows))
    assert float(together[0]) > 0 and float(together[1]) > 0 and float(together[2]) == 0
    for row in range(3):
        one = before.index([row])
        own, parting = dream.doubt(dream.begin_doubt(one), one, after.index([row]), part)
        assert torch.equal(parting[0], together[row])
        assert all(torch.equal(value[0], memory.context[name][row]) for name, value in own.context.items())


def test_a_memory_of_another_maker_or_of_other_rows_is_refused() -> None:
    dream, prompt = world(), told(PATH[:2])
    before = begun(dream, prompt)
    part = prompt.between(1, 2)
    after = dream.step(before, part)[0]
    memory = dream.begin_doubt(before)
    foreign = WorldState(memory.context, memory.step, memory.key, "another")
    for given in (foreign, before, memory.repeat(2)):
        with pytest.raises(InvalidInput, match=r"memory of doubt: given \d rows of .* expected as many rows, of"):
            dream.doubt(given, before, after, part)
    with pytest.raises(InvalidInput, match="state of model 'another'"):
        dream.doubt(memory, replace(before, model="another"), after, part)


# What is told ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bones", r"no bones, expected bones \(1, 1\) \+ \(B, 8\): it must know what the robot touches"),
        ("tool", r"no tool, expected tool \(1, 1\) \+ \(4, 4\)"),
        ("projections", "no projections, expected projections"),
    ],
)
@pytest.mark.parametrize("views", [1, 2])
def test_prompts_that_do_not_tell_are_refused(name: str, words: str, views: int) -> None:
    dream, prompt = world(views=views), told(PATH[:2], views)
    state = begun(dream, prompt)
    bare = replace(prompt, **{name: None})  # type: ignore[arg-type]
    calls: list[Callable[[], object]] = [
        lambda: begun(dream, bare), lambda: dream.step(state, bare.between(1, 2)),
        lambda: dream.imagine(state, bare.between(1, 2), decode=False),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(InvalidInput, match=words):
            call()


def test_worlds_say_what_they_read() -> None:
    dream = world()
    assert isinstance(dream.mover, ByTouch) and dream.spec.reads_bones and dream.spec.reads_tool
    without = CompactNetwork(replace(TOUCHED, contact=False))
    sighted = CompactViews(without, views=2)
    assert isinstance(sighted.mover, BySight) and not sighted.spec.reads_bones and not sighted.spec.reads_tool


def test_with_a_demonstration_things_are_moved_by_sight() -> None:
    shows = Demonstration(TOUCHED, frames=4, width=16, heads=2, layers=1, motion=16, tokens=1)
    dream = CompactViews(network(), views=2, dtype=torch.float32, demonstration=shows)
    assert isinstance(dream.mover, BySight) and dream.spec.reads_reference and not dream.spec.reads_bones
    prompt = replace(told(PATH[:2]), bones=None, tool=None)
    assert dream.step(begun(dream, prompt), prompt.between(1, 2))[1].shape[:3] == (1, 2, 1)


# Files -----------------------------------------------------------------------------------------------------------


def saved(made: CompactNetwork, path: Path) -> Path:
    config = json.loads(json.dumps(asdict(made.config)))
    save_tensors(path, made.stored(), {"name": "compact", "network": config, "profile": "limbs"})
    return path


@pytest.mark.parametrize("views", [1, 2])
def test_weights_go_through_a_file_to_the_bit(views: int, tmp_path: Path) -> None:
    """Those of what knows places in space; those of what reads pictures, to half precision."""
    made = network(0.3, lively=0.1)
    path = saved(made, tmp_path / "touched.safetensors")
    types = {name.partition(".")[0]: value.dtype for name, value in load_tensors(path)[0].items()}
    half = torch.bfloat16
    assert types == {"scene": half, "motion": half, "robot": half, "contact": torch.float32}
    loaded = CompactWorlds.load(path, views=views)
    assert isinstance(loaded, CompactViews) and isinstance(loaded.mover, ByTouch)
    assert loaded.spec.profile == "limbs" and loaded.spec.views == views and loaded.spec.reads_bones
    assert made.contact is not None
    for name, value in made.contact.state_dict().items():
        kept = loaded.mover.network.state_dict()[name]
        assert kept.dtype == torch.float32 and torch.equal(kept, value), name
    assert not any(value.requires_grad for value in loaded.mover.network.parameters())


def test_a_loaded_world_dreams_as_the_one_that_was_saved(tmp_path: Path) -> None:
    made, prompt = network(0.3, shift=(0.2, 0.1, 0.3), lively=0.1), told(PATH[:6])
    path = saved(made, tmp_path / "touched.safetensors")
    ends = []
    for dream in (CompactViews(made, "limbs", views=2), CompactWorlds.load(path, views=2)):
        assert isinstance(dream, CompactViews)
        state = begun(dream, prompt, TWO)
        ends.append(stepped(dream, state, prompt)[-1].context["position"])
        assert not torch.equal(ends[-1], state.context["position"])
    assert torch.equal(*ends)


def test_a_world_goes_on_when_its_network_is_trained_on() -> None:
    """It keeps weights of its own."""
    made, prompt = network(), told(PATH[:2])
    dream = world(made)
    before = dream.step(begun(dream, prompt), prompt.between(1, 2))[0]
    assert made.contact is not None and all(value.requires_grad for value in made.contact.parameters())
    with torch.no_grad():
        made.contact.head.bias.add_(1)
    again = dream.step(begun(dream, prompt), prompt.between(1, 2))[0]
    assert torch.equal(again.context["position"], before.context["position"])


def test_casting_leaves_what_knows_places_as_it_is() -> None:
    made = network(0.3, lively=0.1)
    assert made.contact is not None
    kept = {name: value.clone() for name, value in made.contact.state_dict().items()}
    made.cast("cpu", torch.bfloat16)
    assert made.scene.unet.dtype == torch.bfloat16
    assert all(torch.equal(value, kept[name]) for name, value in made.contact.state_dict().items())


def test_weights_say_whether_they_know_what_is_touched() -> None:
    made, without = network(), CompactNetwork(replace(TOUCHED, contact=False))
    plain = json.loads(json.dumps(asdict(made.config)))
    assert read_config(plain, "a file").contact and not read_config({**plain, "contact": False}, "a file").contact
    del plain["contact"]
    assert not read_config(plain, "a file").contact
    assert not any(name.startswith("contact") for name in without.state_dict())
    names = [fingerprint_of(one, None) for one in (made, network(0.3), without)]
    assert len(set(names)) == 3


def test_weights_without_are_opened_as_they_were(tmp_path: Path) -> None:
    path = saved(CompactNetwork(replace(TOUCHED, contact=False)), tmp_path / "plain.safetensors")
    assert isinstance(CompactWorlds.load(path), CompactWorld)


@pytest.mark.parametrize("views", [1, 2])
def test_a_caller_may_have_things_moved_by_sight(tmp_path: Path, views: int) -> None:
    made = network()
    path = saved(made, tmp_path / "touched.safetensors")
    seeing = saved(CompactNetwork(replace(TOUCHED, contact=False)), tmp_path / "plain.safetensors")
    touched, sighted = (CompactWorlds.load(path, views=views, moved_by=how) for how in ("touch", "sight"))
    assert touched.spec == CompactWorlds.load(path, views=views).spec and touched.spec.reads_bones
    assert not sighted.spec.reads_bones and sighted.spec.fingerprint != touched.spec.fingerprint
    made.by_sight()
    alone = saved(made, tmp_path / "alone.safetensors")
    assert sighted.spec == CompactWorlds.load(alone, views=views).spec
    with pytest.raises(InvalidInput, match=r"'touch' for a world of .*plain.safetensors, which never learned it"):
        CompactWorlds.load(seeing, views=views, moved_by="touch")
    with pytest.raises(UnknownName, match=r"moved_by of the compact world 'tuch'. Did you mean 'touch'"):
        CompactWorlds.load(path, views=views, moved_by="tuch")
