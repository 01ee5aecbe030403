"""The motion loss: the truth costs nothing, misplaced objects are pulled, and training rolls out what is dreamt."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from vap_sim.models.compact.motion import apply, move
from vap_sim.models.compact.motion_losses import (
    MOVED,
    TURNED,
    MotionWeights,
    Paths,
    is_moving,
    motion_loss,
    roll_out,
)
from vap_sim.models.compact.network import MOTION_UNIT, CompactNetwork, MotionNet
from vap_sim.models.compact.slots import SLOTS, Slots, place, render
from vap_sim.models.compact.windows import look, look_at_patch, offsets

Many = Callable[..., Paths]


class Teller(nn.Module):
    """Says steps (T - 1, b, 5, or 8 if told of carrying) in the network's units, one after the other, and keeps the
    windows it is shown."""

    def __init__(self, steps: Tensor) -> None:
        super().__init__()
        self.told_of_carrying = steps.shape[-1] > MotionNet.OUTPUTS
        self.steps, self.windows = nn.Parameter(steps), []  # type: ignore[var-annotated]

    def forward(self, windows: Tensor, overview: Tensor, state: Tensor) -> Tensor:
        self.windows.append(windows)
        return self.steps[len(self.windows) - 1]

    def as_net(self) -> MotionNet:
        return cast(MotionNet, self)


def telling(paths: Paths, add: tuple[float, float] = (0.0, 0.0), surely: float = 30.0) -> Teller:
    """Tells the true steps, seen through each path's frame; `add` [px] more."""
    true = paths.steps[:, 1:].transpose(0, 1)
    shift = torch.einsum("bij,tbj->tbi", torch.linalg.inv(paths.frames), true[..., :2] + torch.tensor(add))
    angle = true[..., 2:3] * torch.linalg.det(paths.frames).sign()[:, None]
    logit = torch.where(is_moving(true), surely, -surely)[..., None]
    return Teller(torch.cat([shift / MOTION_UNIT, angle, true[..., 3:], logit], dim=-1))


def still(paths: Paths) -> Tensor:
    return torch.zeros_like(paths.start)


def rows(paths: Paths, order: list[int]) -> Paths:
    return Paths(**{name: value[order] for name, value in vars(paths).items()})


def loss_of(network: MotionNet, paths: Paths, jitter: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    return motion_loss(network, paths, MotionWeights(), jitter=still(paths) if jitter is None else jitter)


@pytest.fixture
def framed(paths: Paths) -> Paths:
    """One path in a mirror, the other turned and zoomed."""
    turned = [[[-1.0, 0.0], [0.0, 1.0]], [[0.9, -0.5], [0.5, 0.9]]]
    return replace(paths, frames=torch.tensor(turned))


def test_a_network_that_tells_the_truth_stays_on_it(framed: Paths) -> None:
    motions, truths, misses = roll_out(telling(framed).as_net(), framed, jitter=still(framed))
    assert len(motions) == len(truths) == len(misses) == 3
    for step in range(3):
        assert torch.equal(truths[step], framed.steps[:, step + 1])
        assert torch.allclose(motions[step].shift, truths[step][:, :2], atol=1e-5)
        assert torch.allclose(motions[step].twist, truths[step][:, 2:], atol=1e-6)
        assert torch.allclose(misses[step], torch.zeros(2, 2), atol=1e-4)
    _, terms = loss_of(telling(framed).as_net(), framed)
    assert all(float(value) < 1e-4 for value in terms.values())


def test_what_is_held_and_goes_with_the_tool_stays_on_it(framed: Paths) -> None:
    """Nothing is said of the steps but that the tool makes them, which go and turn and grow."""
    planes = torch.eye(3).repeat(2, 4, 1, 1)
    lies = torch.cumsum(framed.steps[..., :2], dim=1) + framed.start[:, None]
    for row in range(2):
        for step in range(1, 4):
            x, y, turn, growth = framed.steps[row, step].tolist()
            c, s = math.exp(growth) * math.cos(turn), math.exp(growth) * math.sin(turn)
            middle = lies[row, step - 1]
            planes[row, step, :2, :2] = torch.tensor([[c, -s], [s, c]])
            planes[row, step, :2, 2] = middle + torch.tensor([x, y]) - planes[row, step, :2, :2] @ middle
    held = telling(framed).steps.detach()
    nothing = torch.zeros_like(held[..., :4])
    held = torch.cat([nothing, held[..., 4:], nothing[..., :1] + 50, nothing[..., :2]], dim=-1)
    paths = replace(framed, planes=planes)
    motions, truths, misses = roll_out(Teller(held).as_net(), paths, jitter=still(paths))
    assert all(torch.allclose(miss, torch.zeros(2, 2), atol=1e-3) for miss in misses)
    for motion, truth in zip(motions, truths, strict=True):
        assert torch.allclose(torch.cat([motion.shift, motion.twist], 1), truth, atol=1e-3)
    _, terms = loss_of(Teller(held).as_net(), paths)
    assert all(float(value) < 1e-3 for value in terms.values())


def test_a_network_that_says_nothing_moves_nothing(paths: Paths, network: CompactNetwork) -> None:
    jitter = torch.tensor([[0.5, -2.0], [1.0, 0.0]])
    motions, _, misses = roll_out(network.motion, paths, jitter=jitter)
    for step in range(3):
        assert not motions[step].shift.any()
        assert torch.allclose(misses[step], paths.steps[:, : step + 1, :2].sum(1) - jitter, atol=1e-5)


def test_what_is_rolled_out_is_what_is_dreamt(lively: CompactNetwork, followed: Many) -> None:
    """The same steps as of slots that are moved and rendered in a whole picture."""
    with torch.no_grad():
        lively.motion.head.bias[4] += 5
    paths = replace(followed(3), others=torch.zeros_like(followed(3).others))
    motions = roll_out(lively.motion, paths, jitter=still(paths))[0]
    patches, centre, velocity = torch.zeros(2, SLOTS, 4, 48, 48), torch.zeros(2, SLOTS, 2), torch.zeros(2, SLOTS, 2)
    patches[:, 2, 3:] = paths.patches.float() / 255
    centre[:, 2], velocity[:, 2] = paths.start, paths.velocity
    present = torch.arange(SLOTS).expand(2, SLOTS) == 2
    slots = Slots(patches, centre, torch.tensor([1.0, 0.0]).expand(2, SLOTS, 2), velocity, present)
    skeletons = paths.skeletons.float() / 255
    for step, motion in enumerate(motions):
        history = torch.cat([skeletons[:, step + 1 + older] for older in (2, 1, 0)], dim=1)
        expected = move(lively.motion, history, render(slots, 64), slots)
        assert torch.allclose(motion.shift, expected.shift[:, 2], atol=1e-3)
        assert torch.allclose(motion.twist, expected.twist[:, 2], atol=1e-4)
        slots = apply(slots, expected)
    assert (slots.centre[:, 2] - paths.start).abs().min() > 0.1


def test_the_network_sees_where_it_put_the_object_and_all_others_where_they_are(paths: Paths) -> None:
    teller = telling(paths, add=(2.0, 1.0))
    roll_out(teller.as_net(), paths, jitter=torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    told = paths.steps[:, 1, :2] + torch.tensor([2.0, 1.0])
    lies = paths.start + torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    lies = lies + told * is_moving(paths.steps[:, 1])[:, None]  # one is said to rest
    angle, growth = paths.steps[:, 1, 2], paths.steps[:, 1, 3]
    turn = growth.exp()[:, None] * torch.stack([angle.cos(), angle.sin()], dim=-1)
    patches, others = paths.patches / 255, paths.others[:, 1] / 255
    own = place(patches, lies, turn, 64)
    second = teller.windows[1]
    assert torch.allclose(second[:, 9:10], look_at_patch(patches, turn, offsets()), atol=1e-4)
    assert torch.allclose(second[:, 10:], look(1 - (1 - own) * (1 - others), lies, offsets()), atol=1e-4)
    newest = look(paths.skeletons[:, 4] / 255, lies, offsets())  # that of the frame that is foreseen
    assert torch.allclose(second[:, :3], newest, atol=1e-4)


def test_no_gradient_flows_from_one_step_into_another(paths: Paths) -> None:
    teller = telling(paths, add=(1.0, 0.0), surely=1.0)
    motions, _, misses = roll_out(teller.as_net(), paths, jitter=still(paths))
    assert not any(missed.requires_grad for missed in misses)
    motions[2].shift.sum().backward()  # type: ignore[no-untyped-call]
    grad = teller.steps.grad
    assert grad is not None and not grad[:2].any() and grad[2].any()


def test_every_term_is_weighted_finite_and_detached(lively: CompactNetwork, paths: Paths) -> None:
    total, terms = loss_of(lively.motion, paths)
    assert set(terms) == {field.name for field in fields(MotionWeights)}
    assert all(torch.isfinite(value) and value > 0 and not value.requires_grad for value in terms.values())
    weights = MotionWeights(moving=2.0, shift=0.5, twist=3.0)
    weighted, _ = motion_loss(lively.motion, paths, weights, jitter=still(paths))
    expected = sum(getattr(weights, name) * float(value) for name, value in terms.items())
    assert float(weighted.detach()) == pytest.approx(expected)
    assert float(total.detach()) == pytest.approx(sum(float(value) for value in terms.values()))


def test_the_order_of_a_batch_does_not_matter(lively: CompactNetwork, followed: Many) -> None:
    paths = followed(1, ((1.0, 0.0), (0.0, 0.0), (-2.0, 1.0)))
    jitter = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    forth, _ = loss_of(lively.motion, paths, jitter)
    back, _ = loss_of(lively.motion, rows(paths, [2, 0, 1]), jitter[[2, 0, 1]])
    assert float(forth.detach()) == pytest.approx(float(back.detach()), rel=1e-5)


def test_paths_are_foreseen_one_by_one(lively: CompactNetwork, followed: Many) -> None:
    paths = followed(1, ((1.0, 0.0), (0.0, 0.0), (-2.0, 1.0)))
    together, _, _ = roll_out(lively.motion, paths, jitter=still(paths))
    alone, _, _ = roll_out(lively.motion, rows(paths, [1]), jitter=still(paths)[:1])
    for step in range(3):
        assert torch.allclose(together[step].shift[1], alone[step].shift[0], atol=1e-4)


def test_the_gradient_reaches_every_weight_of_motion_and_no_other(lively: CompactNetwork, paths: Paths) -> None:
    loss_of(lively.motion, paths)[0].backward()  # type: ignore[no-untyped-call]
    felt = {name for name, value in lively.named_parameters() if value.grad is not None and value.grad.any()}
    assert felt == {f"motion.{name}" for name, _ in lively.motion.named_parameters()}
    assert all(torch.isfinite(value.grad).all() for value in lively.motion.parameters() if value.grad is not None)


def test_a_fresh_network_can_learn(network: CompactNetwork, paths: Paths) -> None:
    loss_of(network.motion, paths)[0].backward()  # type: ignore[no-untyped-call]
    assert network.motion.head.weight.grad is not None and network.motion.head.weight.grad.any(dim=1).all()


def cost(paths: Paths, jitter: Tensor, row: int, shift: float) -> float:
    """The shift term of one step of a row, of a network that says (shift, 0) px of it."""
    short = replace(rows(paths, [row]), centres=paths.centres[[row], :2])
    teller = Teller(torch.tensor([[[shift / MOTION_UNIT, 0, 0, 0, 5.0]]]))
    return float(loss_of(teller.as_net(), short, jitter[[row]])[1]["shift"])


@pytest.mark.parametrize(("jitter", "pull"), [(-2.0, 0.6), (1.0, -0.3), (-9.0, 1.5), (8.0, -1.5)])
def test_moving_objects_are_pulled_where_they_belong_and_resting_ones_are_not(
    jitter: float, pull: float, followed: Many
) -> None:
    paths = followed(0, ((1.0, 0.0), (0.0, 0.0)))
    aside = torch.tensor([[jitter, 0.0], [jitter, 0.0]])
    for row, best in ((0, 1.0 + pull), (1, 0.0)):
        assert cost(paths, aside, row, best) == pytest.approx(0, abs=1e-5)
        assert cost(paths, aside, row, best + 0.2) > 0.05 and cost(paths, aside, row, best - 0.2) > 0.05


def test_twists_are_taught_to_what_moves_alone(paths: Paths) -> None:
    wrong = telling(paths)
    with torch.no_grad():
        wrong.steps[:, 1, 2:4] += 0.3
    assert float(loss_of(wrong.as_net(), paths)[1]["twist"]) == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        wrong.steps[:, 0, 2:4] += 0.3
    assert float(loss_of(Teller(wrong.steps.detach()).as_net(), paths)[1]["twist"]) > 0.1


def test_a_lost_object_teaches_nothing(lively: CompactNetwork, paths: Paths) -> None:
    lost = torch.tensor([[0.0, 14.0], [-14.0, 0.0]])
    total, terms = loss_of(lively.motion, paths, lost)
    assert terms["moving"] == terms["shift"] == terms["twist"] == 0
    total.backward()  # type: ignore[no-untyped-call]
    assert not any(value.grad is not None and value.grad.any() for value in lively.motion.parameters())
    near, _ = loss_of(lively.motion, paths, lost * 0.5)
    assert float(near.detach()) > 0


def test_moving_is_more_than_a_trace_of_shift_or_turn() -> None:
    steps = torch.zeros(5, 4)
    steps[0, 0], steps[1, 1], steps[2, 2], steps[3, 1], steps[4, 2] = (
        1.1 * MOVED, -1.1 * MOVED, -1.1 * TURNED, 0.9 * MOVED, 0.9 * TURNED
    )  # fmt: skip
    steps[:, 3] = 0.5  # an approach alone is no motion
    assert is_moving(steps).tolist() == [True, True, True, False, False]


def test_a_tiny_network_learns_what_moves(networks: Callable[..., CompactNetwork], followed: Many) -> None:
    network, paths = networks(0).motion, followed(0, ((2.0, 1.0), (0.0, 0.0)), length=2)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    losses: list[dict[str, Tensor]] = []
    for _ in range(60):
        total, terms = loss_of(network, paths)
        losses.append(terms)
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for name in ("moving", "shift", "twist"):
        assert losses[-1][name] < 0.6 * losses[0][name], name
