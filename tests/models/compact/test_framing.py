"""Where a robot is painted: around its skeleton, in few sizes, as the network paints that part of a picture alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.compact.conftest import CONFIG, make_network
from vap_sim.errors import InvalidInput
from vap_sim.models.compact.framing import frame_around
from vap_sim.models.compact.model import fingerprint_of
from vap_sim.models.compact.network import NOWHERE, CompactConfig, CompactNetwork, join
from vap_sim.models.compact.packed import packed

BLOCKS = 64


def drawn(rows: slice, columns: slice, size: int = BLOCKS) -> Tensor:
    """Blocks (12, size, size) of a skeleton that is drawn there."""
    skeleton = torch.full((12, size, size), -1.0)
    skeleton[7, rows, columns] = -0.5
    return skeleton


def near_network(near: int | None) -> CompactNetwork:
    return make_network(2, replace(CONFIG, near=near), spread=0.3)


@pytest.mark.parametrize("seed", range(40))
def test_a_frame_holds_all_that_is_near_the_skeleton(seed: int) -> None:
    rng = np.random.default_rng(seed)
    near, grid = int(rng.integers(1, 24)), int(2 ** rng.integers(0, 4))
    (top, bottom), (left, right) = np.sort(rng.integers(0, BLOCKS, (2, 2)), axis=1)
    frame = frame_around(drawn(slice(top, bottom + 1), slice(left, right + 1)), near, grid)
    assert frame is not None
    margin = near / 2
    for side, first, last in ((frame.rows, top, bottom + 1), (frame.columns, left, right + 1)):
        assert 0 <= side.start <= max(0, first - margin) and min(BLOCKS, last + margin) <= side.stop <= BLOCKS
        assert side.start % grid == 0 and side.stop - side.start in (BLOCKS // 2, 3 * BLOCKS // 4, BLOCKS)
    assert frame_around(drawn(slice(0, 0), slice(0, 0)), near, grid) is None


def test_a_frame_is_no_larger_than_it_must_be() -> None:
    corner = frame_around(drawn(slice(60, 64), slice(0, 2)), 8, 8)
    assert corner is not None and (corner.rows, corner.columns) == (slice(32, 64), slice(0, 32))
    tall = frame_around(drawn(slice(4, 40), slice(30, 34)), 8, 8)
    assert tall is not None and (tall.rows, tall.columns) == (slice(0, 48), slice(24, 56))


@pytest.mark.parametrize("packing", [False, True])
def test_a_robot_is_painted_as_its_part_of_the_picture_says(packing: bool) -> None:
    network = near_network(4)
    size = CONFIG.size // 2
    skeleton = drawn(slice(2, 5), slice(9, 12), size)[None]
    objects, style = torch.rand(1, 16, size, size), torch.rand(1, CONFIG.style)
    with torch.no_grad():
        painted = (packed(network) if packing else network).robot(skeleton, objects, style)
        part = join(torch.float32, skeleton, objects)[:, :, 0:8, 6:14]
        alone = torch.nn.functional.pixel_shuffle(network.robot.unet(part, style)[0], 2)
    torch.testing.assert_close(painted[:, :, 0:16, 12:28], alone, rtol=1e-3, atol=2e-3)
    painted[:, :, 0:16, 12:28] = NOWHERE
    assert (painted == NOWHERE).all()


def test_near_everything_is_anywhere() -> None:
    size = CONFIG.size // 2
    skeleton, objects = drawn(slice(3, 4), slice(3, 4), size)[None], torch.rand(1, 16, size, size)
    style = torch.rand(1, CONFIG.style)
    with torch.no_grad():
        near, anywhere = (near_network(n).robot(skeleton, objects, style) for n in (CONFIG.size, None))
        nothing = near_network(4).robot(skeleton * 0 - 1, objects, style)
    assert torch.equal(near, anywhere) and (nothing == NOWHERE).all()


def test_a_row_is_painted_alike_in_any_batch_and_gradients_reach_the_weights() -> None:
    network, size = near_network(4), CONFIG.size // 2
    skeletons = torch.stack([drawn(slice(2, 5), slice(2, 5), size), drawn(slice(0, 16), slice(7, 8), size)])
    objects, style = torch.rand(2, 16, size, size), torch.rand(2, CONFIG.style)
    both = network.robot(skeletons, objects, style)
    for row in range(2):
        alone = network.robot(skeletons[row : row + 1], objects[row : row + 1], style[row : row + 1])
        assert torch.equal(alone[0], both[row])
    both.sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in network.robot.parameters())


def test_weights_painted_near_have_a_name_of_their_own() -> None:
    assert fingerprint_of(near_network(4), None) != fingerprint_of(near_network(None), None)


@pytest.mark.parametrize("near", [0, -3, 33])
def test_a_nearness_that_cannot_be_is_refused(near: int) -> None:
    with pytest.raises(InvalidInput, match=f"near of the compact model: given {near}, expected None, or 1 to 32"):
        CompactConfig(size=32, near=near)
