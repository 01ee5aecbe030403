"""What the tool would carry: as a rigid body goes that the tool holds, whatever the camera, and nothing else."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]
from torch import Tensor

from tests.models.compact.test_motion import BOTH, MIRROR, QUARTER, Frame, Witness, noise, scene
from tests.models.compact.two_views import cameras, projections
from vap_sim.models.compact.carry import CARRY, FARTHEST, carried, homographies, planes, widened
from vap_sim.models.compact.geometry import Floats, see
from vap_sim.models.compact.motion import foresee, view
from vap_sim.models.compact.network import MOTION_UNIT, CompactConfig, MotionNet

PLACE = np.array([0.45, 0.05, 0.1])


def pose(turn: tuple[float, float, float], place: Floats) -> Floats:
    """A tool's pose (4, 4): turned by a rotation vector [rad], at a place [m]."""
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = Rotation.from_rotvec(turn).as_matrix(), place
    return out


def some_moves(count: int = 8) -> tuple[Floats, Floats]:
    """Tools (n, 4, 4) a step ago and now, which go and turn by what an arm may in a step."""
    rng = np.random.default_rng(0)
    before = np.stack([pose(rng.normal(size=3), PLACE + rng.normal(0, 0.03, 3)) for _ in range(count)])
    step = np.stack([pose(rng.normal(0, 0.2, 3), rng.normal(0, 0.03, 3)) for _ in range(count)])
    now = before.copy()
    now[:, :3, :3] = step[:, :3, :3] @ before[:, :3, :3]
    now[:, :3, 3] += step[:, :3, 3]
    return before, now


def seen() -> Floats:
    return np.asarray(projections(cameras(3)).double().numpy())


def at(matrices: Floats, centre: Floats) -> Floats:
    """`carried` (n, CARRY) of objects at centre (n, 2)."""
    return np.asarray(carried(torch.from_numpy(matrices), torch.from_numpy(centre)).numpy())


@pytest.mark.parametrize("camera", range(3))
def test_what_lies_as_deep_as_the_tool_goes_where_a_body_goes_that_the_tool_holds(camera: int) -> None:
    projection, (before, now) = seen()[camera], some_moves()
    ahead = projection[2, :3] / np.linalg.norm(projection[2, :3])
    beside = np.random.default_rng(1).normal(0, 0.03, (len(before), 3))
    body = before[:, :3, 3] + beside - (beside @ ahead)[:, None] * ahead  # in the plane through the tool
    moved = np.einsum("nij,nj->ni", now @ np.linalg.inv(before), np.c_[body, np.ones(len(body))])[:, :3]
    pixel, there = see(projection, body)[0], see(projection, moved)[0]
    assert np.abs(there - pixel).max() > 3
    found = at(homographies(np.broadcast_to(projection, (len(before), 3, 4)), before, now), pixel)
    np.testing.assert_allclose(pixel + found[:, :2], there, atol=1e-9)


def test_a_tool_that_rests_carries_nothing() -> None:
    before, _ = some_moves()
    found = at(homographies(seen()[:1], before, before), np.full((len(before), 2), 40.0))
    np.testing.assert_allclose(found, 0, atol=1e-9)


def test_the_tool_s_own_pixel_comes_back_with_the_tool() -> None:
    before, now = some_moves()
    projection = np.broadcast_to(seen()[0], (len(before), 3, 4))
    start = see(projection, before[:, :3, 3])[0]
    there = start + at(homographies(projection, before, now), start)[:, :2]
    back = there + at(homographies(projection, now, before), there)[:, :2]
    np.testing.assert_allclose(back, start, atol=1e-9)


def test_turning_about_the_line_of_sight_turns_and_coming_nearer_grows() -> None:
    projection = np.array([[100.0, 0, 64, 0], [0, 100.0, 64, 0], [0, 0, 1, 0]])
    before = pose((0.2, -0.1, 0.4), np.array([0.1, -0.05, 1.0]))
    turned, nearer = before.copy(), before.copy()
    turned[:3, :3] = Rotation.from_rotvec([0, 0, 0.3]).as_matrix() @ before[:3, :3]
    nearer[:3, 3] *= 0.8
    own = see(projection, before[:3, 3])[0][None]
    shift, turn, growth = np.split(at(homographies(projection[None], before[None], turned[None]), own)[0], [2, 3])
    np.testing.assert_allclose(np.r_[shift, turn, growth], [0, 0, 0.3, 0], atol=1e-9)
    found = at(homographies(projection[None], before[None], nearer[None]), own)[0]
    np.testing.assert_allclose(found, [0, 0, 0, -math.log(0.8)], atol=1e-9)


def test_the_twist_is_how_pixels_beside_the_object_go() -> None:
    before, now = some_moves()
    matrices = homographies(np.broadcast_to(seen()[0], (len(before), 3, 4)), before, now)
    middle, small = see(seen()[0], before[:, :3, 3])[0], 1e-4
    ends = [middle + at(matrices, middle)[:, :2]]
    for axis in np.eye(2):
        beside = middle + small * axis
        ends.append(beside + at(matrices, beside)[:, :2])
    right, down = (ends[1] - ends[0]) / small, (ends[2] - ends[0]) / small
    factor = ((right[:, 0] + down[:, 1]) + 1j * (right[:, 1] - down[:, 0])) / 2
    expected = np.stack([np.angle(factor), np.log(np.abs(factor))], axis=1)
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(at(matrices, middle)[:, 2:], expected, atol=1e-5)


def test_a_tool_behind_the_camera_carries_nothing() -> None:
    before, now = some_moves(2)
    away = seen()[:1].copy()
    away[:, 2] *= -1
    assert np.array_equal(homographies(away, before, now), np.broadcast_to(np.eye(3), (2, 3, 3)))


def test_nothing_is_said_to_be_carried_farther_than_things_go() -> None:
    before = pose((0, 0, 0), PLACE)[None]
    now = pose((0, 0, 2.0), PLACE)[None]
    far = at(homographies(seen()[:1], before, now), np.array([[500.0, -300.0]]))
    assert np.linalg.norm(far[0, :2]) == pytest.approx(FARTHEST) and np.isfinite(far).all()


def test_rows_say_the_same_alone_and_among_others() -> None:
    before, now = (torch.from_numpy(one.astype(np.float32)) for one in some_moves())
    where = torch.from_numpy(np.broadcast_to(seen()[1], (8, 3, 4)).astype(np.float32))
    centre = 100 * noise(8, 2)
    every = planes(where, before, now)
    assert every.dtype == torch.float32
    for row in range(8):
        one = slice(row, row + 1)
        alone = planes(where[one], before[one], now[one])
        assert torch.equal(alone[0], every[row])
        assert torch.equal(carried(alone, centre[one])[0], carried(every, centre)[row])


# Networks that are told ----------------------------------------------------------------------------------------------


def told_scene(count: int = 2) -> dict[str, Tensor]:
    """Arguments of `view` with what the tool would carry."""
    before, now = some_moves(count)
    matrices = homographies(np.broadcast_to(seen()[0], (count, 3, 4)), before, now)
    return {**scene(count), "planes": torch.from_numpy(matrices).float()}


def told_network(seed: int = 0) -> MotionNet:
    """A network of random weights that is told."""
    torch.manual_seed(seed)
    network = MotionNet(CompactConfig(carry=True)).eval()
    torch.nn.init.normal_(network.head.weight, 0, 0.05)
    return network


def test_the_network_is_told_of_carrying_in_its_units() -> None:
    given, witness = told_scene(), Witness(*(0.0,) * 8)
    foresee(witness.as_net(), view(**given))
    state, by = witness.shown[0][2], carried(given["planes"], given["centre"])
    assert state.shape[1] == MotionNet.STATE + CARRY
    assert torch.equal(state[:, 5:7], by[:, :2] / MOTION_UNIT) and torch.equal(state[:, 7:], by[:, 2:])


@pytest.mark.parametrize(("logit", "share"), [(-50.0, 0.0), (0.0, 0.5), (50.0, 1.0)])
def test_an_object_that_is_held_goes_as_it_is_carried(logit: float, share: float) -> None:
    given = told_scene()
    motion = foresee(Witness(0.5, -0.25, 0.2, 0.1, 3.0, logit, 0.125, -0.25).as_net(), view(**given))
    by = carried(given["planes"], given["centre"])
    own, beside = torch.tensor([4.0, -2.0]), torch.tensor([1.0, -2.0])
    assert torch.allclose(motion.shift, (1 - share) * own + share * (by[:, :2] + beside), atol=1e-5)
    assert torch.allclose(motion.twist, (1 - share) * torch.tensor([0.2, 0.1]) + share * by[:, 2:])
    assert motion.logit.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("frame", [MIRROR, QUARTER, BOTH])
def test_a_frame_shows_carrying_as_the_changed_picture_would(frame: Frame) -> None:
    given, matrix = told_scene(), torch.tensor(frame)
    frames = matrix.expand(2, 2, 2)
    plain, framed = view(**given), view(**given, frames=frames)
    inverse, hand = torch.linalg.inv(matrix), float(torch.linalg.det(matrix))
    assert plain.carry is not None and framed.carry is not None
    torch.testing.assert_close(framed.state[:, 5:7], plain.state[:, 5:7] @ inverse.T)
    torch.testing.assert_close(framed.state[:, 7], hand * plain.state[:, 7])
    torch.testing.assert_close(framed.state[:, 8], plain.state[:, 8])
    # What is held goes as it is carried, through whatever it is seen; what is said besides is said of the frame.
    held = Witness(*(0.0,) * 5, 50.0, 0.5, 0.0).as_net()
    torch.testing.assert_close(foresee(held, framed, frames).shift, plain.carry[:, :2] + 4 * matrix[:, 0])


def test_widened_weights_say_what_they_said_but_of_what_they_take_to_be_held() -> None:
    torch.manual_seed(0)
    network, given = MotionNet(CompactConfig()).eval(), told_scene()
    torch.nn.init.normal_(network.head.weight, 0, 0.05)
    wide = MotionNet(CompactConfig(carry=True)).eval()
    wide.load_state_dict(widened(network.state_dict(), prefix=""))
    with torch.no_grad():
        was = foresee(network, view(**{name: value for name, value in given.items() if name != "planes"}))
        now, by = foresee(wide, view(**given)), carried(given["planes"], given["centre"])
    share = 1 / (1 + math.e)
    torch.testing.assert_close(now.logit, was.logit)
    torch.testing.assert_close(now.shift, (1 - share) * was.shift + share * by[:, :2])
    torch.testing.assert_close(now.twist, (1 - share) * was.twist + share * by[:, 2:])


def test_views_of_several_pictures_keep_what_each_is_told() -> None:
    given = told_scene(4)
    halves = [view(**{name: value[rows] for name, value in given.items()}) for rows in (slice(0, 1), slice(1, 4))]
    whole, network = view(**given), told_network()
    joined = type(whole).cat(halves)
    assert joined.carry is not None and whole.carry is not None and torch.equal(joined.carry, whole.carry)
    assert type(whole).cat([replace(whole, carry=None)] * 2).carry is None
    with torch.no_grad():
        torch.testing.assert_close(foresee(network, joined).shift, foresee(network, whole).shift)
