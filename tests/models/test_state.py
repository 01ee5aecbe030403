"""World states: verbs as laws, files that survive damage, and cheap enough for every step."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.contracts.world_model import same_state
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.checkpoint import load_tensors, save_tensors
from vap_sim.state import WorldState


def state(rows: int = 4, seed: int = 0, model: str = "m") -> WorldState:
    source = torch.Generator().manual_seed(seed)
    context = {
        "plate": torch.rand(rows, 3, 5, 4, generator=source),
        "half": torch.rand(rows, 6, generator=source).to(torch.bfloat16),
        "frame": torch.randint(0, 256, (rows, 2, 3), dtype=torch.uint8, generator=source),
        "flag": torch.arange(rows) % 2 == 0,
    }
    return WorldState(context, torch.arange(rows) + seed, torch.arange(rows) * 10 - 1 + 100 * seed, model)


def test_sameness_sees_every_field() -> None:
    one = state()
    assert same_state(one, state())
    changes: list[dict[str, object]] = [{"step": one.step + 1}, {"key": one.key + 1}, {"model": "n"}]
    changes += [{"context": {**one.context, name: value[[1, 0, 2, 3]]}} for name, value in one.context.items()]
    changes += [{"context": {**one.context, "half": one.context["half"].float()}}, {"context": {}}]
    assert not any(same_state(one, replace(one, **change)) for change in changes)  # type: ignore[arg-type]


def test_rows_taken_apart_and_joined_are_the_same() -> None:
    one = state()
    assert same_state(WorldState.cat([one.index([row]) for row in range(4)]), one)
    assert same_state(WorldState.cat([one.index(slice(0, 1)), one.index(slice(1, None))]), one)
    assert same_state(WorldState.cat([one]), one)
    assert (len(one), one.rows, one.index([]).rows) == (4, 4, 0)


def test_rows_are_chosen_in_the_order_given() -> None:
    one = state()
    picked = one.index([2, 0, -1])
    assert picked.key.tolist() == [19, -1, 29] and picked.step.tolist() == [2, 0, 3]
    assert torch.equal(picked.context["plate"][0], one.context["plate"][2])
    for rows in (torch.tensor([2, 0, 3]), torch.tensor([2, 0, 3], dtype=torch.int32), (2, 0, 3)):
        assert same_state(one.index(rows), picked)
    assert same_state(one.index(torch.tensor([True, False, False, True])), one.index([0, 3]))
    assert same_state(one.index(slice(None, None, 2)), one.index([0, 2]))


def test_choosing_between_states_row_by_row() -> None:
    one, other = state(seed=1), state(seed=2)
    mask = torch.tensor([True, False, False, True])
    mixed = one.where(mask, other)
    assert same_state(mixed.index(mask), one.index(mask)) and same_state(mixed.index(~mask), other.index(~mask))
    assert same_state(one.where(torch.ones(4, dtype=torch.bool), other), one)
    assert same_state(other.where(~mask, one), mixed)


@pytest.mark.parametrize("rows", [1, 3])
def test_copies_stand_beside_their_original(rows: int) -> None:
    one = state(rows)
    assert same_state(one.repeat(3), one.index([row for row in range(rows) for _ in range(3)]))
    assert same_state(one.repeat(1), one)


def test_copies_of_one_row_take_no_memory() -> None:
    one = state(1)
    assert one.repeat(1000).context["plate"].data_ptr() == one.context["plate"].data_ptr()


def test_advancing_counts_and_keeps_the_keys() -> None:
    one = state()
    after = one.advanced({"plate": one.context["plate"]})
    assert torch.equal(after.step, one.step + 1) and torch.equal(after.key, one.key)
    assert list(after.context) == ["plate"] and after.model == "m"


def test_moving_to_a_device_moves_everything() -> None:
    assert same_state(state().to("cpu"), state())
    moved = state().to("meta")
    assert {value.device.type for value in (moved.step, moved.key, *moved.context.values())} == {"meta"}


def test_bytes_are_those_of_all_tensors() -> None:
    assert state().nbytes == 4 * (60 * 4 + 6 * 2 + 6 + 1 + 16)
    assert state(1).repeat(4).nbytes == state().nbytes


def test_a_state_is_frozen() -> None:
    mine = {"plate": torch.zeros(1)}
    one = WorldState(mine, torch.zeros(1).long(), torch.zeros(1).long())
    mine["more"] = torch.zeros(1)
    assert list(one.context) == ["plate"]
    with pytest.raises(TypeError, match="does not support item assignment"):
        one.context["more"] = torch.zeros(1)  # type: ignore[index]
    with pytest.raises(FrozenInstanceError, match="step"):
        one.step = torch.ones(1).long()  # type: ignore[misc]


def test_copying_pickling_and_printing() -> None:
    one = state()
    for copied in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert same_state(copied, one)
        assert copied.context["plate"].data_ptr() != one.context["plate"].data_ptr()
    assert repr(one).startswith("WorldState(model='m', 4 rows, flag () torch.bool, frame (2, 3) torch.uint8")


def test_saved_states_come_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.safetensors"
    shared = torch.rand(3, 2, 6)
    awkward = {"a": shared, "b": shared, "turned": shared.transpose(1, 2), "empty": torch.zeros(3, 0)}
    for one in (
        state(),
        state(1).repeat(3),
        state().index(slice(1, 3)),
        WorldState(awkward, torch.arange(3), torch.arange(3)),
    ):
        one.save(path)
        assert same_state(WorldState.load(str(path)), one)
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def rewritten(path: Path, change: Callable[[dict[str, Tensor], dict[str, object]], object]) -> None:
    tensors, description = load_tensors(path)
    change(tensors, description)
    save_tensors(path, tensors, description)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda p: p.unlink(), "no such weights file"),
        (lambda p: p.write_bytes(p.read_bytes()[:-20]), "not a whole safetensors file"),
        (lambda p: p.write_bytes(p.read_bytes()[:40]), "not a whole safetensors file"),
        (lambda p: p.write_bytes(b"\xff" * 100), "not a whole safetensors file"),
        (lambda p: p.write_bytes(b""), "not a whole safetensors file"),
        (lambda p: save_file({"a": torch.zeros(1)}, p), "no field 'description'"),
        (lambda p: save_tensors(p, {"a": torch.zeros(1)}, {"network": {}}), "field 'kind' is None"),
        (lambda p: rewritten(p, lambda t, d: d.pop("model")), "field 'model' is None, expected a fingerprint"),
        (lambda p: rewritten(p, lambda t, d: t.pop("step")), "tensor 'step' is missing"),
        (lambda p: rewritten(p, lambda t, d: t.pop("key")), "tensor 'key' is missing"),
        (lambda p: rewritten(p, lambda t, d: t.update(key=torch.zeros(4))), "WorldState.key: given torch.float32"),
        (lambda p: rewritten(p, lambda t, d: t.update(step=torch.zeros(3).long())), r"WorldState.key: .*\(3,\)"),
        (lambda p: rewritten(p, lambda t, d: t.update({"context/half": torch.zeros(9, 2)})), r"context\['half'\]"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, damage: Callable[[Path], object], words: str) -> None:
    path = tmp_path / "state.safetensors"
    state().save(path)
    damage(path)
    with pytest.raises(BadFile, match=rf"state\.safetensors: .*{words}"):
        WorldState.load(path)


def test_the_description_is_plain(tmp_path: Path) -> None:
    state().save(tmp_path / "s")
    assert load_tensors(tmp_path / "s")[1] == json.loads('{"kind": "vap_sim world state", "model": "m"}')


COUNTER = torch.arange(4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: replace(state(), step=COUNTER.int()), r"WorldState.step: given torch.int32 \(4,\)"),
        (lambda: replace(state(), step=COUNTER[:, None]), r"WorldState.step: given torch.int64 \(4, 1\)"),
        (lambda: replace(state(), key=COUNTER[:3]), r"WorldState.key: given torch.int64 \(3,\), expected .*\(4,\)"),
        (lambda: replace(state(), context={"a": torch.zeros(5)}), r"context\['a'\]: given \(5,\), expected \(4, ...\)"),
        (lambda: replace(state(), context={"a": torch.tensor(1)}), r"context\['a'\]: given \(\)"),
        (lambda: state().index([4]), r"rows of a state: given \[4\], expected numbers below 4 or a mask of 4 rows"),
        (lambda: state().index([-5]), "rows of a state"),
        (lambda: state().index(torch.ones(3, dtype=torch.bool)), "rows of a state"),
        (lambda: state().index([0.5]), "rows of a state"),  # type: ignore[list-item]
        (lambda: WorldState.cat([]), "states to join: given none"),
        (lambda: WorldState.cat([state(), state(model="n")]), "given a state of model 'n', expected one of model 'm'"),
        (lambda: WorldState.cat([state(), replace(state(), context={})]), "states to join: given no context"),
        (lambda: state().repeat(0), "copies of a state: given 0, expected at least 1"),
        (
            lambda: state().where(COUNTER, state()),
            r"mask of rows: given torch.int64 \(4,\), expected torch.bool \(4,\)",
        ),
        (lambda: state().where(COUNTER[:3] > 0, state()), r"mask of rows: given torch.bool \(3,\)"),
        (lambda: state().where(COUNTER > 0, state(model="n")), "rows from: given a state of model 'n'"),
        (lambda: state().where(COUNTER > 0, state(3)), "rows from: given 3 rows, expected 4 rows"),
    ],
)
def test_errors(make: Callable[[], object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        make()
