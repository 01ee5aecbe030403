"""The three networks: shapes, quiet beginnings, rows that do not leak, and names that weights files rely on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vap_sim.errors import InvalidInput
from vap_sim.models.checkpoint import LARGEST_FILE
from vap_sim.models.compact.network import (
    CompactConfig,
    CompactNetwork,
    MotionNet,
    ResidualBlock,
    UNet,
    UNetConfig,
    position_planes,
    to_blocks,
)
from vap_sim.models.compact.windows import OVERVIEW, WINDOW


def seen(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the motion network is shown of so many objects."""
    windows, overview = torch.rand(count, MotionNet.CHANNELS, WINDOW, WINDOW), torch.rand(count, 3, OVERVIEW, OVERVIEW)
    return windows, overview, torch.randn(count, MotionNet.STATE)


def test_blocks_keep_every_pixel() -> None:
    image = torch.arange(2 * 3 * 8 * 6, dtype=torch.float32).reshape(2, 3, 8, 6)
    blocks = to_blocks(image)
    assert blocks.shape == (2, 12, 4, 3)
    assert torch.equal(torch.nn.functional.pixel_shuffle(blocks, 2), image)
    assert sorted(blocks[0, :4, 1, 2].tolist()) == sorted(image[0, 0, 2:4, 4:6].flatten().tolist())


def test_a_fresh_residual_block_is_the_identity() -> None:
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(ResidualBlock(8)(x), x)


def test_position_planes_run_from_minus_one_to_one() -> None:
    planes = position_planes(torch.zeros(3, 5, 4, 6, dtype=torch.float64))
    assert planes.shape == (3, 2, 4, 6) and planes.dtype == torch.float64
    assert torch.allclose(planes[1, 0, 2], torch.linspace(-1, 1, 6, dtype=torch.float64))
    assert torch.allclose(planes[2, 1, :, 3], torch.linspace(-1, 1, 4, dtype=torch.float64))


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_a_unet_keeps_the_size(levels: int) -> None:
    net = UNet(5, 7, UNetConfig((8,) * levels, (1,) * levels), style=3)
    out, lowest = net(torch.randn(2, 5, 16, 16), torch.randn(2, 3))
    assert out.shape == (2, 7, 16, 16) and lowest.shape == (2, 8, 16 >> (levels - 1), 16 >> (levels - 1))


def test_position_planes_first_made_for_inference_serve_training(lively: CompactNetwork) -> None:
    """They are kept between calls, and tensors born in inference mode must not be saved for a gradient."""
    with torch.inference_mode():
        lively.scene(torch.randn(1, 12, 8, 24), torch.randn(1, 12, 8, 24))
    lively.scene(torch.randn(1, 12, 8, 24), torch.randn(1, 12, 8, 24))[0].sum().backward()
    assert lively.scene.unet.stem.weight.grad is not None


def test_what_the_networks_say_has_the_promised_shapes(lively: CompactNetwork) -> None:
    picture, skeleton = torch.randn(2, 12, 16, 16), torch.randn(2, 12, 16, 16)
    objects = torch.rand(2, 16, 16, 16)
    planes, style = lively.scene(picture, skeleton)
    assert planes.shape == (2, 10, 32, 32) and style.shape == (2, 4) and style.abs().max() <= 1
    assert lively.motion(*seen(2)).shape == (2, MotionNet.OUTPUTS) == (2, 5)
    assert lively.robot(skeleton, objects, style).shape == (2, 4, 32, 32)


def test_rows_do_not_leak(lively: CompactNetwork) -> None:
    picture, skeleton, style = torch.randn(3, 12, 16, 16), torch.randn(3, 12, 16, 16), torch.randn(3, 4)
    objects, other = torch.rand(3, 16, 16, 16), torch.randn(1, 12, 16, 16)
    changed = torch.cat([other, picture[1:]])
    for together, alone in (
        (lively.scene(changed, skeleton)[0], lively.scene(picture, skeleton)[0]),
        (lively.robot(changed, objects, style), lively.robot(picture, objects, style)),
    ):
        assert torch.equal(together[1:], alone[1:]) and not torch.equal(together[0], alone[0])


@pytest.mark.parametrize("part", [0, 1, 2])
def test_all_that_the_motion_network_is_shown_matters_to_its_own_object_alone(
    part: int, lively: CompactNetwork
) -> None:
    shown = seen(3)
    changed = [value.clone() for value in shown]
    changed[part][0] += 1
    alone, together = lively.motion(*shown), lively.motion(*changed)
    assert torch.allclose(together[1:], alone[1:], atol=1e-6)
    assert not torch.allclose(together[0], alone[0], atol=1e-3)


@pytest.mark.parametrize("levels", [1, 3, 6])
def test_a_motion_network_may_have_as_many_levels_as_a_window_has_halves(levels: int) -> None:
    net = UNetConfig((4,) * levels, (0,) * levels)
    assert MotionNet(CompactConfig(size=64, motion=net))(*seen(1)).shape == (1, 5)
    with pytest.raises(InvalidInput, match="levels of the motion network: given 7, expected few enough to halve 64"):
        CompactConfig(size=256, motion=UNetConfig((4,) * 7, (0,) * 7))


def test_style_and_objects_change_the_robot(lively: CompactNetwork) -> None:
    skeleton, objects, style = torch.randn(1, 12, 16, 16), torch.rand(1, 16, 16, 16), torch.randn(1, 4)
    before = lively.robot(skeleton, objects, style)
    assert not torch.allclose(lively.robot(skeleton, objects, style + 1), before)
    assert not torch.allclose(lively.robot(skeleton, 1 - objects, style), before)


def test_a_fresh_network_says_little(network: CompactNetwork) -> None:
    """Objects, hidden ground and robot start out rare; motion starts out as rest."""
    planes, style = network.scene(torch.randn(1, 12, 16, 16), torch.randn(1, 12, 16, 16))
    assert planes[:, 0].mean() < -3 and planes[:, 1].mean() < -1 and planes[:, 5].mean() < -1
    assert not network.motion(*seen(2)).any()
    assert network.robot(torch.randn(1, 12, 16, 16), torch.rand(1, 16, 16, 16), style)[:, 0].mean() < -1


def test_the_default_weights_fit_into_one_file() -> None:
    with torch.device("meta"):
        network = CompactNetwork(CompactConfig())
    assert sum(2 * value.numel() for value in network.parameters()) < LARGEST_FILE


@pytest.mark.parametrize(
    ("widths", "blocks"),
    [((), ()), ((8, 8), (1,)), ((0,), (1,)), ((5000,), (1,)), ((8,), (-1,)), ((8,), (99,)), ((8,) * 9, (1,) * 9)],
)
def test_impossible_levels_are_refused(widths: tuple[int, ...], blocks: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"levels of a U-Net: given widths .*, expected 1 to 8 levels"):
        UNetConfig(widths, blocks)


@pytest.mark.parametrize("size", [0, 8, 48, 100, 2048, -32])
def test_picture_sizes_that_do_not_halve_are_refused(size: int) -> None:
    with pytest.raises(InvalidInput, match=f"picture size of the compact model: given {size}, expected a power of two"):
        CompactConfig(size=size)
    assert CompactConfig(size=64).size == 64


@pytest.mark.parametrize("style", [0, 5000])
def test_a_style_without_numbers_is_refused(style: int) -> None:
    with pytest.raises(InvalidInput, match=f"style of the compact model: given {style}"):
        CompactConfig(style=style)


def test_networks_of_a_seed_are_equal(networks: Callable[..., CompactNetwork]) -> None:
    one, again = networks(1).state_dict(), networks(1).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
