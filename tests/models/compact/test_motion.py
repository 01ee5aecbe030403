"""Moving slots: what the network is shown, what becomes of its answer, and that frames change nothing but the view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from vap_sim.models.compact.motion import Motion, apply, foresee, move, view
from vap_sim.models.compact.network import MOTION_UNIT, CompactNetwork, MotionNet
from vap_sim.models.compact.slots import PATCH, SLOTS, Slots, advance, render
from vap_sim.models.compact.windows import look, look_at_patch, offsets, overview

SIZE = 65
MIDDLE = (SIZE - 1) / 2
Frame = tuple[tuple[float, float], tuple[float, float]]
MIRROR: Frame = ((-1.0, 0.0), (0.0, 1.0))
QUARTER: Frame = ((0.0, -1.0), (1.0, 0.0))
BOTH: Frame = ((0.0, 1.0), (1.0, 0.0))
ZOOM: Frame = ((2.0, 0.0), (0.0, 2.0))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


class Witness(nn.Module):
    """Keeps what it is shown, and says the same (n, 5) of every object."""

    def __init__(self, *says: float) -> None:
        super().__init__()
        self.says, self.shown = torch.tensor(says or (0.0,) * 5), []  # type: ignore[var-annotated]

    def forward(self, windows: Tensor, overview: Tensor, state: Tensor) -> Tensor:
        self.shown.append((windows, overview, state))
        return self.says.expand(len(windows), -1)

    def as_net(self) -> MotionNet:
        return cast(MotionNet, self)


def scene(count: int = 2) -> dict[str, Any]:
    """Arguments of `view`. Cut-outs are empty in their first row and column, so that mirrors fit in them."""
    patches = noise(count, 1, PATCH, PATCH, seed=1)
    patches[:, :, 0], patches[..., 0] = 0, 0
    return {
        "skeletons": noise(count, 9, SIZE, SIZE, seed=2),
        "alpha": noise(count, 1, SIZE, SIZE, seed=3),
        "patches": patches,
        "centre": 2 * (noise(count, 2, seed=4) * 30).round(),
        "turn": torch.randn(count, 2, generator=torch.Generator().manual_seed(5)),
        "velocity": 4 * noise(count, 2, seed=6) - 2,
    }


def foreseen(network: MotionNet, frames: Tensor | None = None, **given: Any) -> Motion:
    """What a network says of objects that it is shown through frames."""
    return foresee(network, view(**given, frames=frames), frames)


def slots(rows: int = 2) -> Slots:
    """Squares of various poses; in row 0 the slots 0 and 3, in row 1 slot 1, in row 2 none."""
    patches = torch.zeros(rows, SLOTS, 4, PATCH, PATCH)
    patches[..., 20:30, 22:27] = torch.tensor([0.2, 0.5, 0.3, 1.0])[:, None, None]
    present = torch.zeros(3, SLOTS, dtype=torch.bool)
    present[0, 0], present[0, 3], present[1, 1] = True, True, True
    return Slots(
        patches=patches,
        centre=noise(rows, SLOTS, 2, seed=7) * 50 + 5,
        turn=torch.randn(rows, SLOTS, 2, generator=torch.Generator().manual_seed(8)),
        velocity=noise(rows, SLOTS, 2, seed=9),
        present=present[:rows],
    )


def rows_of(some: Slots, row: int) -> Slots:
    return Slots(**{name: value[row : row + 1] for name, value in vars(some).items()})


def test_the_network_sees_windows_of_the_object_and_five_numbers() -> None:
    given, witness = scene(), Witness()
    foreseen(witness.as_net(), **given)
    windows, coarse, state = witness.shown[0]
    centre = given["centre"]
    assert torch.equal(windows[:, :9], look(given["skeletons"], centre, offsets()))
    assert torch.equal(windows[:, 9:10], look_at_patch(given["patches"], given["turn"], offsets()))
    assert torch.equal(windows[:, 10:], look(given["alpha"], centre, offsets()))
    assert torch.equal(coarse, overview(given["skeletons"][:, :3]))
    assert torch.allclose(state[:, 0:2], (centre - MIDDLE) / MIDDLE)
    assert torch.allclose(state[:, 2:4], given["velocity"] / MOTION_UNIT)
    assert torch.allclose(state[:, 4], given["turn"].norm(dim=1).log())
    assert windows.shape[1] == MotionNet.CHANNELS and state.shape[1] == MotionNet.STATE


def test_what_the_network_says_is_in_its_units() -> None:
    motion = foreseen(Witness(0.5, -0.25, 0.2, 0.1, 3.0).as_net(), **scene())
    assert torch.allclose(motion.shift, torch.tensor([4.0, -2.0]).expand(2, 2))
    assert torch.allclose(motion.twist, torch.tensor([0.2, 0.1]).expand(2, 2))
    assert motion.logit.tolist() == [3.0, 3.0]


def test_of_a_lone_object_all_objects_show_what_its_cut_out_shows() -> None:
    witness, one = Witness(), slots(2)
    one = Slots(one.patches[1:], one.centre[1:].round(), one.turn[1:], one.velocity[1:], one.present[1:])
    move(witness.as_net(), torch.ones(1, 9, SIZE, SIZE), render(one, SIZE), one)
    own, every = witness.shown[0][0][:, 9], witness.shown[0][0][:, 10]
    inside = witness.shown[0][0][:, 0] > 0.5
    assert own.any() and torch.allclose(own * inside, every * inside, atol=1e-4)


@pytest.mark.parametrize("framed", [False, True])
def test_one_picture_for_all_equals_copies_of_it(framed: bool, lively: CompactNetwork) -> None:
    given = scene(4)
    given["frames"] = torch.randn(4, 2, 2, generator=torch.Generator().manual_seed(1)) if framed else None
    one = {**given, "skeletons": given["skeletons"][:1], "alpha": given["alpha"][:1]}
    copies = {**given, **{name: one[name].expand(4, -1, -1, -1) for name in ("skeletons", "alpha")}}
    same(foreseen(lively.motion, **one), foreseen(lively.motion, **copies))


def same(one: Motion, other: Motion) -> None:
    for name in ("shift", "twist", "logit"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=1e-3)


def seen(given: dict[str, Any], frame: Frame) -> dict[str, Any]:
    """The whole scene as it is seen through an exact frame from the picture's middle."""
    inverse = torch.linalg.inv(torch.tensor(frame))

    def picture(image: Tensor) -> Tensor:
        if frame == ZOOM:
            small = torch.zeros_like(image)
            small[..., SIZE // 4 : -(SIZE // 4), SIZE // 4 : -(SIZE // 4)] = image[..., ::2, ::2]
            return small
        turned = image if frame == MIRROR else torch.rot90(image, 1, (-2, -1))
        return turned if frame == QUARTER else turned.flip(-1 if frame == MIRROR else -2)

    mirrored, patches, turn = frame in (MIRROR, BOTH), given["patches"], given["turn"]
    if mirrored:  # place = patch * turn; a mirror left to right of both leaves the cut-out mirrored, and turns it back
        patches = torch.cat([patches[..., :1], patches[..., 1:].flip(-1)], dim=-1)
        turn = turn * torch.tensor([1.0, -1.0])
    rotation = inverse @ torch.tensor(MIRROR) if mirrored else inverse
    return {
        "skeletons": picture(given["skeletons"]),
        "alpha": picture(given["alpha"]),
        "patches": patches,
        "centre": (given["centre"] - MIDDLE) @ inverse.T + MIDDLE,
        "turn": turn @ rotation.T,
        "velocity": given["velocity"] @ inverse.T,
    }


@pytest.mark.parametrize("frame", [MIRROR, QUARTER, BOTH, ZOOM], ids=["mirror", "quarter", "both", "zoom"])
def test_foreseeing_through_a_frame_is_foreseeing_the_changed_picture(frame: Frame, lively: CompactNetwork) -> None:
    network, given = lively.motion, scene()
    if frame == ZOOM:  # an overview that is shrunk is not the overview of what is shrunk
        with torch.no_grad():
            network.overview.weight[:, : -MotionNet.STATE] = 0
    frames = torch.tensor(frame).expand(2, 2, 2)
    found = foreseen(network, **given, frames=frames)
    there = foreseen(network, **seen(given, frame))
    angle = there.twist[:, :1] * torch.linalg.det(torch.tensor(frame)).sign()
    same(found, Motion(there.shift @ torch.tensor(frame).T, torch.cat([angle, there.twist[:, 1:]], 1), there.logit))
    plain = foreseen(network, **given)
    assert not torch.allclose(plain.shift, found.shift, atol=0.01)


def test_no_frame_is_the_identity(lively: CompactNetwork) -> None:
    given = scene()
    same(foreseen(lively.motion, **given, frames=torch.eye(2).expand(2, 2, 2)), foreseen(lively.motion, **given))


def test_rows_move_one_by_one_and_empty_slots_do_not(lively: CompactNetwork) -> None:
    some, skeletons = slots(3), noise(3, 9, SIZE, SIZE)
    objects = render(some, SIZE)
    together = move(lively.motion, skeletons, objects, some)
    assert together.shift.shape == together.twist.shape == (3, SLOTS, 2) and together.logit.shape == (3, SLOTS)
    for row in range(3):
        alone = move(lively.motion, skeletons[row : row + 1], objects[row : row + 1], rows_of(some, row))
        for name in ("shift", "twist", "logit"):
            torch.testing.assert_close(getattr(together, name)[row], getattr(alone, name)[0], rtol=0, atol=1e-5)
    for values in (together.shift, together.twist, together.logit[..., None]):
        assert not values[~some.present].any() and values[some.present].all()


def test_each_slot_is_foreseen_by_its_own_pose_and_picture(lively: CompactNetwork) -> None:
    some, skeletons = slots(2), noise(2, 9, SIZE, SIZE)
    objects = render(some, SIZE)
    together = move(lively.motion, skeletons, objects, some)
    for row, slot in torch.nonzero(some.present).tolist():
        pose = {name: getattr(some, name)[row, slot][None] for name in ("centre", "turn", "velocity")}
        patch = some.patches[row, slot, 3:4][None]
        one = foresee(lively.motion, view(skeletons[row : row + 1], objects[row : row + 1, 3:4], patch, **pose))
        torch.testing.assert_close(together.shift[row, slot], one.shift[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(together.logit[row, slot], one.logit[0], rtol=0, atol=1e-5)


def test_a_slot_moves_as_the_network_says(networks: Callable[..., CompactNetwork]) -> None:
    """A network that says the same of every window: 3 px right, 1 px up, a turn of 0.2, growth 0.1, surely."""
    network, some = networks(0), slots(2)
    with torch.no_grad():
        network.motion.head.bias.copy_(torch.tensor([3 / MOTION_UNIT, -1 / MOTION_UNIT, 0.2, 0.1, 4.0]))
    motion = move(network.motion, noise(2, 9, SIZE, SIZE), render(some, SIZE), some)
    after = apply(some, motion)
    gone = (after.centre - some.centre)[some.present]
    assert torch.allclose(gone, torch.tensor([3.0, -1.0]), atol=1e-4)
    grown = after.turn.norm(dim=-1) / some.turn.norm(dim=-1)
    assert torch.allclose(grown, torch.exp(0.1 * some.present.float()))
    assert torch.equal(after.velocity[some.present], motion.shift[some.present])
    expected = advance(some, motion.shift, motion.twist, some.present)
    assert torch.equal(after.turn, expected.turn) and torch.equal(after.centre, expected.centre)


def test_what_is_likelier_to_rest_stays_bit_by_bit(lively: CompactNetwork) -> None:
    some = slots(2)
    with torch.no_grad():
        lively.motion.head.bias[4] -= 50
    motion = move(lively.motion, noise(2, 9, SIZE, SIZE), render(some, SIZE), some)
    after = apply(some, motion)
    assert motion.shift[some.present].any() and not after.velocity.any()
    assert torch.equal(after.centre, some.centre) and torch.equal(after.turn, some.turn)


def test_a_fresh_network_moves_nothing(network: CompactNetwork) -> None:
    some = slots(2)
    motion = move(network.motion, noise(2, 9, SIZE, SIZE), render(some, SIZE), some)
    assert not motion.shift.any() and not motion.logit.any()
    assert torch.equal(render(apply(some, motion), SIZE), render(some, SIZE))


def test_motion_sees_which_skeleton_is_the_newest(lively: CompactNetwork) -> None:
    some, three = slots(2), noise(2, 3, 3, SIZE, SIZE)
    objects = render(some, SIZE)
    forth, back = (
        move(lively.motion, order.flatten(1, 2), objects, some).shift[some.present] for order in (three, three.flip(1))
    )
    assert not torch.allclose(forth, back, atol=1e-3)
