"""The contact network: bones count by where they are and not by their number, and what is held goes as it is carried.

In every scene there is something that is not there, as wherever the network is asked: a thing is not beside itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vap_sim.models.compact.contact import ANSWER, TOKEN, UNIT, WHOLE, Answer, Bones, ContactNet, Things, tell

THINGS, BONES = 5, 7
HOLD, MOVES = 6, 10
"""Which numbers of an answer are the logits of being held and of moving."""


def network(seed: int = 0) -> ContactNet:
    """A small network all of whose layers say something."""
    source = torch.Generator().manual_seed(seed)
    made = ContactNet(16, 24)
    with torch.no_grad():
        for value in made.parameters():
            value.copy_(torch.randn(value.shape, generator=source) * (0.3 if value.ndim > 1 else 0.2))
    return made.requires_grad_(False)


def saying(**numbers: float) -> ContactNet:
    """A network that answers the same to everything: numbers by their place, as `n6`, the rest zero."""
    made = network()
    made.head.weight.zero_()
    made.head.bias.zero_()
    for name, value in numbers.items():
        made.head.bias[int(name[1:])] = value
    return made


def scene(seed: int = 0, things: int = THINGS, bones: int = BONES) -> tuple[Things, Bones]:
    """Things on a table and bones within a hand's breadth of them; the last bone is none."""
    source = torch.Generator().manual_seed(seed)

    def noise(*shape: int, size: float) -> Tensor:
        return torch.randn(*shape, generator=source) * size

    place = torch.tensor([0.45, 0.0, 0.05]) + noise(things, 3, size=0.1)
    before = place[:, None, None] + noise(things, bones, 2, 3, size=0.06)
    kind = torch.randint(0, 3, (things, bones), generator=source)
    kind[:, -1] = -1
    return Things(
        place=place,
        stride=noise(things, 3, size=0.01),
        size=0.03 + 0.03 * torch.rand(things, 2, generator=source),
        away=torch.nn.functional.normalize(noise(things, 3, size=1.0), dim=1),
        carry=noise(things, 3, size=0.01),
        turn=noise(things, 3, size=0.1),
    ), Bones(
        before=before,
        now=before + noise(things, bones, 1, 3, size=0.01),
        thick=0.01 + 0.03 * torch.rand(things, bones, generator=source),
        kind=kind,
    )


def chosen(parts: Bones, order: Tensor | list[int]) -> Bones:
    return Bones(**{name: value[:, order] for name, value in vars(parts).items()})


def joined(one: Bones, other: Bones) -> Bones:
    return Bones(**{name: torch.cat([value, getattr(other, name)], dim=1) for name, value in vars(one).items()})


def assert_same(one: Answer, other: Answer, atol: float = 3e-6) -> None:
    for name, value in vars(one).items():
        torch.testing.assert_close(value, getattr(other, name), rtol=3e-5, atol=atol)


def test_shapes() -> None:
    things, bones = scene()
    tokens, whole = tell(things, bones)
    assert tokens.shape == (THINGS, BONES, TOKEN) and whole.shape == (THINGS, WHOLE)
    answer = network()(things, bones)
    assert (answer.shift.shape, answer.turn.shape, answer.logit.shape) == ((THINGS, 3), (THINGS, 3), (THINGS,))
    assert network().head.out_features == ANSWER


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_bones_does_not_matter(seed: int) -> None:
    things, bones = scene(seed)
    order = torch.randperm(BONES, generator=torch.Generator().manual_seed(seed))
    assert_same(network(seed)(things, chosen(bones, order)), network(seed)(things, bones))


def test_every_bone_matters() -> None:
    """As it is now, as it was, how thick it is, and of what kind."""
    things, bones = scene()
    bones = replace(bones, kind=bones.kind.clamp_min(0) * 0)
    before = network()(things, bones)
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "before": lambda v: v + 0.02, "now": lambda v: v + 0.02, "thick": lambda v: v + 0.02, "kind": lambda v: v + 1
    }  # fmt: skip
    for name, change in changes.items():
        for bone in range(BONES):
            value = getattr(bones, name).clone()
            value[:, bone] = change(value[:, bone])
            after = network()(things, replace(bones, **{name: value}))
            assert float((after.shift - before.shift).abs().amax()) > 1e-6, (name, bone)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_not_there_does_not_matter(seed: int) -> None:
    things, bones = scene(seed)
    answer = network(seed)(things, bones)
    moved, other = replace(bones, now=bones.now.clone(), before=bones.before.clone()), scene(seed + 9)[1]
    moved.now[:, -1], moved.before[:, -1] = 0.3, 1e3
    assert_same(network(seed)(things, moved), answer)
    nothing = replace(other, kind=torch.full_like(other.kind, -1))
    assert_same(network(seed)(things, joined(bones, nothing)), answer)
    assert_same(network(seed)(things, joined(nothing, bones)), answer)


def test_a_scene_of_nothing_has_an_answer() -> None:
    things, bones = scene()
    nothing = replace(bones, kind=torch.full_like(bones.kind, -1))
    answer = network()(things, nothing)
    assert all(bool(torch.isfinite(value).all()) for value in vars(answer).values())
    assert_same(network()(things, chosen(nothing, [2])), answer)


def test_nearest_points_are_those_of_a_search_along_bones() -> None:
    """Also of bones without length, and of bones that pass by or point away."""
    things, bones = scene(4, things=20)
    bones.now[:, 0, 1] = bones.now[:, 0, 0]
    tokens, _ = tell(things, bones)
    share = torch.linspace(0, 1, 20001, dtype=torch.float64)[:, None]
    for first, ends, gap in ((12, bones.before, 18), (15, bones.now, 19)):
        told = tokens[..., first : first + 3].double() * UNIT
        for thing in range(20):
            for bone in range(BONES):
                start, end = (ends[thing, bone] - things.place[thing]).double()
                along = start + share * (end - start)
                far = along.norm(dim=1)
                nearest = along[far.argmin()]
                assert float((told[thing, bone] - nearest).norm()) < 1e-4
                free = float(far.min()) - float(bones.thick[thing, bone])
                expected = 1 / (0.5 + max(free / UNIT, -0.2))
                assert float(tokens[thing, bone, gap]) == pytest.approx(expected, rel=1e-3)


def test_what_is_held_goes_as_it_is_carried() -> None:
    """To the bit, however far, and whatever is around it."""
    things, bones = scene()
    things = replace(things, carry=things.carry * torch.tensor([1.0, 5.0, 100.0]), turn=things.turn * 20)
    answer = saying(n6=50.0)(things, bones)
    assert torch.equal(answer.shift, things.carry) and torch.equal(answer.turn, things.turn)


def test_what_is_held_may_slip() -> None:
    things, bones = scene()
    answer = saying(n6=50.0, n0=9.0, n3=9.0, n7=0.5, n9=-1.0)(things, bones)
    slip = torch.tensor([0.5, 0.0, -1.0]) * UNIT / 5
    torch.testing.assert_close(answer.shift, things.carry + slip, rtol=0, atol=1e-7)
    assert torch.equal(answer.turn, things.turn)


def test_what_is_not_held_goes_by_itself() -> None:
    things, bones = scene()
    answer = saying(n6=-50.0, n1=2.0, n4=0.3, n8=9.0, n10=1.5)(things, bones)
    torch.testing.assert_close(answer.shift, torch.tensor([0.0, 2 * UNIT / 5, 0.0]).expand(THINGS, 3))
    torch.testing.assert_close(answer.turn, torch.tensor([0.0, 0.3, 0.0]).expand(THINGS, 3))
    assert torch.equal(answer.logit, torch.full((THINGS,), 1.5))


def test_what_is_half_held_goes_half_as_far() -> None:
    things, bones = scene()
    answer = saying()(things, bones)
    torch.testing.assert_close(answer.shift, things.carry / 2)
    torch.testing.assert_close(answer.turn, things.turn / 2)


def test_a_fresh_network_takes_things_to_be_free() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fresh = ContactNet()
    assert fresh.head.bias[HOLD] == -1 and fresh.head.bias[MOVES] == 0 and int(fresh.head.bias.count_nonzero()) == 1
    things, bones = scene()
    assert bool((fresh(things, bones).shift.norm(dim=1) < 0.03).all())


@pytest.mark.parametrize("seed", range(2))
def test_one_thing_s_answer_does_not_depend_on_the_others(seed: int) -> None:
    things, bones = scene(seed)
    answer = network(seed)(things, bones)
    for row in range(THINGS):
        one = slice(row, row + 1)
        alone = network(seed)(
            Things(**{name: value[one] for name, value in vars(things).items()}),
            Bones(**{name: value[one] for name, value in vars(bones).items()}),
        )
        assert_same(alone, Answer(**{name: value[one] for name, value in vars(answer).items()}))


def test_where_the_scene_is_does_not_matter_but_for_its_height() -> None:
    things, bones = scene()
    answer = network()(things, bones)

    def moved(by: tuple[float, float, float]) -> Answer:
        off = torch.tensor(by)
        there = replace(bones, before=bones.before + off, now=bones.now + off)
        found: Answer = network()(replace(things, place=things.place + off), there)
        return found

    assert_same(moved((0.25, -0.5, 0.0)), answer, atol=1e-4)
    assert float((moved((0.0, 0.0, 0.1)).shift - answer.shift).abs().max()) > 1e-4


def test_lengths_beyond_what_is_told_change_nothing() -> None:
    things, _ = scene()
    sign = torch.where(torch.rand(THINGS, 3, generator=torch.Generator().manual_seed(1)) < 0.5, -1.0, 1.0)

    def whole(factor: float) -> Tensor:
        far = replace(
            things,
            place=torch.tensor([0.4, 0.1, 0.31 * factor]).expand(THINGS, 3),
            stride=sign * 0.06 * factor,
            carry=torch.zeros(THINGS, 3),
            size=torch.full((THINGS, 2), 0.31 * factor),
            turn=sign * 1.01 * factor,
        )
        return tell(far, scene()[1])[1]

    assert torch.equal(whole(1.0), whole(30.0))
    carried = [tell(replace(things, carry=sign * 0.16 * factor), scene()[1])[1] for factor in (1.0, 30.0)]
    assert torch.equal(carried[0], carried[1])


def test_bones_beyond_what_is_told_differ_by_their_gap_alone() -> None:
    """Which fades away: 1 / (0.5 + gap / UNIT)."""
    things, bones = scene()
    out = torch.tensor([0.4, -0.5, 0.45])
    ends = torch.stack([out, 1.2 * out])
    tokens = []
    for factor in (1.0, 10.0):
        far = things.place[:, None, None] + ends * factor + torch.zeros(THINGS, BONES, 1, 1)
        tokens.append(tell(things, replace(bones, before=far, now=far))[0])
    near, farther = tokens
    assert torch.equal(near[..., :18], farther[..., :18]) and torch.equal(near[..., 21:], farther[..., 21:])
    assert bool((farther[..., 18:20] < near[..., 18:20] / 8).all())


def test_a_thing_that_is_not_told_to_have_moved_is_marked() -> None:
    things, bones = scene()
    things.stride[2] = 0
    assert tell(things, bones)[1][:, -1].tolist() == [0.0, 0.0, 1.0, 0.0, 0.0]
