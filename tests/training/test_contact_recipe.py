"""The recipe of the contact network: dreams are pulled towards the truth, runs go on, and previews show both."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.compact.contact import Answer, Bones, ContactNet, Things
from vap_sim.models.compact.network import CompactConfig, CompactNetwork, UNetConfig
from vap_sim.training.contact import (
    ContactRecipe,
    ContactSource,
    ContactTraining,
    Touched,
    contact_loss,
    roll_out,
    rotation_vectors,
    told,
)
from vap_sim.training.contact_films import ContactFilm, load_contact_films
from vap_sim.training.loop import LoopSettings, train

TRAINING = ContactTraining(batch=24, length=4, late=6, grow=3)
Make = Callable[..., ContactRecipe]


@pytest.fixture(scope="module")
def film(recording_file: Path) -> ContactFilm:
    (found,) = load_contact_films([recording_file], views=2, progress=False)
    return found


def network(contact: bool = True) -> CompactNetwork:
    net = UNetConfig((8,), (1,))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return CompactNetwork(CompactConfig(size=32, style=2, scene=net, motion=net, robot=net, contact=contact))


@pytest.fixture
def recipes(film: ContactFilm) -> Make:
    def make(training: ContactTraining = TRAINING, shown: ContactFilm = film) -> ContactRecipe:
        return ContactRecipe(network(), [film], [shown], training)

    return make


def batch_of(film: ContactFilm, count: int = 24, length: int = 5) -> Touched:
    return ContactSource([film], TRAINING).draw(np.random.default_rng(2), count, length)


class Truth(ContactNet):
    """Says step by step what happens, or something else by as much as `off` [m]; listens to what it is told."""

    def __init__(self, batch: Touched, off: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> None:
        super().__init__(2, 2)
        self.batch, self.off, self.heard = batch, torch.tensor(off), list[tuple[Things, Bones]]()

    def forward(self, things: Things, bones: Bones) -> Answer:
        self.heard.append((things, bones))
        step = len(self.heard)
        moves = self.batch.moves[:, step]
        shift = (self.batch.shift[:, step] + self.off) * moves[:, None]
        return Answer(shift, self.batch.turn[:, step], torch.where(moves, 20.0, -20.0))


def still(batch: Touched) -> Touched:
    """The batch with what is below the threshold of moving at rest."""
    resting = ~batch.moves
    shift = batch.shift.clone()
    shift[:, 1:][resting[:, 1:]] = 0
    place = batch.place[:, :1] + torch.cat([torch.zeros_like(shift[:, :1]), shift[:, 1:]], 1).cumsum(1)
    return replace(batch, shift=shift, place=place)


# The loss --------------------------------------------------------------------------------------------------------


def test_who_says_the_truth_loses_nothing(film: ContactFilm) -> None:
    batch = still(batch_of(film))
    assert 0.2 < float(batch.moves[:, 1:].float().mean()) < 0.8
    _, misses = roll_out(Truth(batch), batch, torch.zeros(24, 3))
    assert len(misses) == 4 and max(float(miss.abs().max()) for miss in misses) < 1e-6
    total, terms = contact_loss(Truth(batch), batch, torch.zeros(24, 3))
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(
        {"moving": 0.0, "shift": 0.0, "turn": 0.0}, abs=1e-4
    )
    assert float(total) == pytest.approx(0.0, abs=1e-4)


def test_an_error_is_carried_on(film: ContactFilm) -> None:
    batch = still(batch_of(film))
    _, misses = roll_out(Truth(batch, (0.001, 0.0, -0.002)), batch, torch.zeros(24, 3))
    gone = batch.moves[:, 1:4].cumsum(1)[..., None] * torch.tensor([0.001, 0.0, -0.002])
    torch.testing.assert_close(torch.stack(misses, 1)[:, 1:], -gone, rtol=0, atol=1e-6)


def test_what_lies_wrong_is_to_be_mended_a_little(film: ContactFilm) -> None:
    """Nothing but where it is taken to be is told of that; where it rests nobody can know."""
    batch = still(batch_of(film))
    jitter = torch.tensor([0.01, -0.04, 0.0]).expand(24, 3)
    _, misses = roll_out(Truth(batch), batch, jitter)
    for miss in misses:
        torch.testing.assert_close(miss, -jitter, rtol=0, atol=1e-6)
    _, terms = contact_loss(Truth(batch), batch, jitter)
    moving = float(batch.moves[:, 1:].sum())
    # Three tenths of the first, and of the second the most that is asked for, in centimetres.
    assert float(terms["shift"]) == pytest.approx(moving * (0.3 + 0.8) / (24 * 4 + 1), rel=1e-3)


def test_what_is_lost_no_longer_counts(film: ContactFilm) -> None:
    batch = still(batch_of(film))
    _, terms = contact_loss(Truth(batch, (0.0, 0.003, 0.0)), batch, torch.full((24, 3), 0.06))
    assert [float(value) for value in terms.values()] == [0.0, 0.0, 0.0]


def test_steps_are_told_what_is_known_by_then(film: ContactFilm) -> None:
    """Bones of the frame before and of this one, the tool's way into it, and the thing as it was dreamt."""
    batch = still(batch_of(film))
    truth = Truth(batch, (0.002, 0.0, 0.0))
    _, misses = roll_out(truth, batch, torch.zeros(24, 3))
    bones, others = batch.bones.shape[2], batch.others.shape[2]
    for step, (things, around) in enumerate(truth.heard, start=1):
        place = batch.place[:, step - 1] - misses[step - 1]
        assert torch.equal(things.place, place) or float((things.place - place).abs().max()) < 1e-6
        assert torch.equal(around.before[:, :bones], batch.bones[:, step])
        assert torch.equal(around.now[:, :bones], batch.bones[:, step + 1])
        assert around.before.shape[1] == bones + others and torch.equal(around.kind[:, bones:], batch.other_kind)
        assert torch.equal(around.before[:, bones:, 0], batch.others[:, step])
        on = 2 * batch.others[:, step] - batch.others[:, step - 1]
        assert torch.equal(around.now[:, bones:, 1], on) and torch.equal(around.now[:, bones:, 0], on)
        matrix = batch.carry[:, step]
        taken = (matrix[:, :3, :3] @ things.place[..., None])[..., 0] + matrix[:, :3, 3]
        torch.testing.assert_close(things.carry, taken - things.place, rtol=0, atol=1e-6)
        torch.testing.assert_close(things.turn, rotation_vectors(matrix[:, :3, :3]))
        expected = (
            batch.stride if step == 1 else (batch.shift[:, step - 1] + truth.off) * batch.moves[:, step - 1, None]
        )
        torch.testing.assert_close(things.stride, expected)


def test_what_is_told_of_a_step_is_what_happens_in_it(film: ContactFilm) -> None:
    """The bones that a thing is told of now are those of the frame into which it goes, as in a dream."""
    source = ContactSource([film], TRAINING)
    film_at, thing, camera, start = (np.array([number], np.intp) for number in (0, 1, 0, 4))
    batch = source.followed(film_at, thing, camera, start, 4)
    _, around = told(batch, 2, batch.place[:, 1], batch.stride)
    count = film.bones.shape[1]
    assert np.array_equal(around.before[0, :count].flatten(1), film.bones[5, :, :6])
    assert np.array_equal(around.now[0, :count].flatten(1), film.bones[6, :, :6])
    place = film.places[5] + film.guesses[0]
    np.testing.assert_allclose(around.before[0, count:, 0], place, rtol=0, atol=1e-6)


def test_no_gradient_flows_from_step_to_step(film: ContactFilm) -> None:
    batch, contact = batch_of(film, length=3), network().contact
    assert contact is not None
    (first, second), _ = roll_out(contact, batch, torch.zeros(24, 3))
    marks: list[Tensor] = []
    first.shift.register_hook(marks.append)  # type: ignore[no-untyped-call]
    second.shift.sum().backward()  # type: ignore[no-untyped-call]
    assert not marks


# The recipe ------------------------------------------------------------------------------------------------------


def test_training_lowers_the_loss(film: ContactFilm) -> None:
    made = ContactRecipe(network(), [film], [film], replace(TRAINING, batch=64, grow=999))
    optimizer = torch.optim.AdamW(made.network.parameters(), 2e-3)
    losses = []
    for step in range(60):
        total, _ = made.loss(step)
        losses.append(float(total.detach()))
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


def test_a_step_sees_the_same_batch_again(recipes: Make) -> None:
    made = recipes()
    for step in (0, 3):
        (once, terms), (again, _), (later, _) = made.loss(step), made.loss(step), made.loss(step + 1)
        assert torch.equal(once, again) and not torch.equal(once, later)
        assert torch.isfinite(once) and set(terms) == {"moving", "shift", "turn"}
        assert float(sum(terms.values())) == pytest.approx(float(once.detach()), rel=1e-5)
    assert not torch.equal(recipes(replace(TRAINING, seed=1)).loss(0)[0], made.loss(0)[0])


def test_things_are_followed_for_longer_later(recipes: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, float]] = []

    def watch(network: Any, batch: Touched, jitter: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        asked.append((*batch.place.shape[:2], float(jitter.std())))
        return torch.zeros(()), {}

    monkeypatch.setattr("vap_sim.training.contact.contact_loss", watch)
    made = recipes(replace(TRAINING, batch=300))
    for step in (2, 3):
        made.loss(step)
    assert [one[:2] for one in asked] == [(300, 4), (300, 6)]
    assert all(0.0035 < one[2] < 0.0045 for one in asked)


def test_contact_is_trained_under_its_name(recipes: Make) -> None:
    names = set(recipes().network.state_dict())
    assert names == {name for name in network().state_dict() if name.startswith("contact.")} and names


def test_a_broken_run_goes_on_bit_by_bit(recipes: Make, tmp_path: Path) -> None:
    whole = recipes()
    steps = LoopSettings(tmp_path / "whole", steps=5, warmup=1, checkpoint_every=9, preview_every=9)
    expected = train(whole, steps)
    part = replace(steps, folder=tmp_path / "part")
    train(recipes(), replace(part, steps=3))
    outcome = train(recipes(), part)
    for name, value in expected.weights.items():
        assert torch.equal(outcome.weights[name], value), name
    with pytest.raises(BadFile, match="this recipe is"):
        train(recipes(replace(TRAINING, jitter=0.1)), part)


def test_settings_survive_json(recipes: Make) -> None:
    described = recipes().describe()
    assert json.loads(json.dumps(described)) == described
    assert described["part"] == "contact" and described["network"]["contact"] and described["late"] == 6


def test_a_preview_shows_where_things_went_and_where_they_were_dreamt(recipes: Make) -> None:
    """A network that rests leaves its things in red where the way begins; in green they go."""
    made = recipes()
    with torch.no_grad():
        for value in made.network.parameters():
            value.zero_()
    sheet = made.preview(0)["followed"]
    assert torch.equal(sheet, made.preview(7)["followed"])  # the same things at every step
    assert sheet.dtype == torch.uint8 and sheet.shape == (3, 128, 4 * 128)
    colors = {tuple(color) for color in sheet.flatten(1).T.tolist()}
    assert colors == {(0, 0, 0), (120, 120, 120), (0, 255, 0), (255, 0, 0)}
    green, red = (int((sheet[number] == 255).sum()) for number in (1, 0))
    assert green > red > 0


def test_where_nothing_moves_a_preview_shows_what_rests(recipes: Make, film: ContactFilm) -> None:
    nothing = np.zeros_like(film.moving)
    sheet = recipes(shown=replace(film, moving=nothing, near=nothing)).preview(0)["followed"]
    assert sheet.shape == (3, 128, 4 * 128)


def test_what_does_not_suit_is_refused_at_once(film: ContactFilm) -> None:
    with pytest.raises(InvalidInput, match="given one without a contact network, expected one that has one"):
        ContactRecipe(network(contact=False), [film], [film], TRAINING)
    for films, shown in (([], [film]), ([film], [])):
        with pytest.raises(InvalidInput, match="films for training: given none, expected at least one"):
            ContactRecipe(network(), films, shown, TRAINING)
