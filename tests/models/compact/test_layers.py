"""Reading and painting by law: shares reach their ends, what is known is kept, layers make the picture."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vap_sim.models.compact import layers
from vap_sim.models.compact.losses import Pictures, unit
from vap_sim.models.compact.network import CompactNetwork, UNet
from vap_sim.models.compact.slots import SLOTS, render

SIZE = 32


def bias_of(unet: UNet) -> torch.Tensor:
    assert unet.head.bias is not None
    return unet.head.bias


def prompts(pictures: Pictures) -> list[torch.Tensor]:
    return [layers.skeleton_blocks(unit(item)) for item in pictures.skeletons.unbind(1)]


def test_a_share_reaches_none_and_all_and_can_come_back() -> None:
    logits = torch.tensor([-40.0, -4.0, 0.0, 4.0, 40.0], requires_grad=True)
    shares = layers.share(logits)
    assert torch.allclose(shares.detach(), torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]), atol=1e-6)
    assert shares.min() >= 0 and shares.max() <= 1
    shares.sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None and (logits.grad[1:4] > 0.01).all()
    spread = layers.share(torch.linspace(-6, 6, 200))
    assert (spread.diff() >= 0).all()


def test_skeletons_are_read_as_blocks_between_minus_one_and_one(pictures: Pictures) -> None:
    skeleton = unit(pictures.skeletons[:, 0])
    blocks = layers.skeleton_blocks(skeleton)
    assert blocks.shape == (2, 12, 16, 16) and blocks.min() == -1 and blocks.max() == 1
    assert torch.allclose((torch.nn.functional.pixel_shuffle(blocks, 2) + 1) / 2, skeleton)


def test_a_reading_is_in_range_and_of_the_promised_shape(lively: CompactNetwork, pictures: Pictures) -> None:
    reading = layers.read(lively, unit(pictures.frames[:, 0]), prompts(pictures)[0])
    assert reading.plate.shape == (2, 3, SIZE, SIZE) and reading.objects.shape == (2, 4, SIZE, SIZE)
    assert reading.style.shape == (2, 4) and reading.planes.shape == (2, 10, SIZE, SIZE)
    for part in (reading.plate, reading.objects, reading.color):
        assert part.min() >= 0 and part.max() <= 1 and part.dtype == torch.float32
    assert (reading.objects[:, :3] <= reading.objects[:, 3:] + 1e-6).all()  # premultiplied
    assert torch.allclose(reading.color * reading.objects[:, 3:], reading.objects[:, :3])


def test_what_is_seen_is_taken_from_the_picture(networks: Callable[..., CompactNetwork], pictures: Pictures) -> None:
    """A network that holds nothing for an object and all ground for seen gives the picture back as its plate."""
    network = networks(0)
    with torch.no_grad():
        bias_of(network.scene.unet).fill_(-30.0)
        network.scene.unet.head.weight.zero_()
    frame = unit(pictures.frames[:, 0])
    reading = layers.read(network, frame, prompts(pictures)[0])
    assert torch.equal(reading.plate, frame)
    assert not reading.objects.any()


def test_filling_keeps_what_is_known_and_continues_plain_ground() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, SIZE, SIZE, generator=generator)
    assert torch.allclose(layers.fill(image, torch.ones(1, 1, SIZE, SIZE)), image, atol=1e-6)
    known = torch.ones(1, 1, SIZE, SIZE)
    known[..., 8:20, 5:17] = 0
    assert torch.allclose((layers.fill(image, known) * known), image * known, atol=1e-6)
    plain = torch.tensor([0.2, 0.5, 0.8])[None, :, None, None].expand(1, 3, SIZE, SIZE)
    assert torch.allclose(layers.fill(plain * known + (1 - known), known), plain, atol=1e-5)


def test_filling_a_slope_ends_between_its_neighbours() -> None:
    slope = torch.linspace(0, 1, SIZE).expand(1, 3, SIZE, SIZE)
    known = torch.ones(1, 1, SIZE, SIZE)
    known[..., 10:22, 10:22] = 0
    error = (layers.fill(slope * known, known) - slope).abs()
    assert error.max() < 0.25 and error.mean() < 0.02


def test_filling_nothing_known_stays_finite() -> None:
    filled = layers.fill(torch.rand(1, 3, SIZE, SIZE), torch.zeros(1, 1, SIZE, SIZE))
    assert torch.isfinite(filled).all()


@pytest.mark.parametrize("logit", [-30.0, 30.0])
def test_painting_covers_the_scene_by_the_robot(
    logit: float, networks: Callable[..., CompactNetwork], pictures: Pictures
) -> None:
    network = networks(0)
    with torch.no_grad():
        network.robot.unet.head.weight.zero_()
        bias_of(network.robot.unet).copy_(torch.tensor([logit] * 4 + [1.0] * 4 + [0.0] * 4 + [-1.0] * 4))
    objects, plate = unit(pictures.objects[:, 1]), unit(pictures.plate)
    painting = layers.paint(network, prompts(pictures)[1], objects, torch.zeros(2, 4), plate)
    rgb = torch.sigmoid(torch.tensor([1.0, 0.0, -1.0]))[None, :, None, None].expand(2, 3, SIZE, SIZE)
    scene = objects[:, :3] + (1 - objects[:, 3:]) * plate
    assert torch.allclose(painting.robot_rgb, rgb)
    assert torch.allclose(painting.frame, rgb if logit > 0 else scene, atol=1e-6)
    assert painting.robot_logit.shape == (2, 1, SIZE, SIZE)


def test_objects_of_a_reading_become_slots_that_render_it_again(pictures: Pictures) -> None:
    objects = unit(pictures.objects[:, 1])
    slots = layers.find_slots(objects)
    assert slots.present.shape == (2, SLOTS) and slots.present.sum(dim=1).tolist() == [2, 2]
    assert torch.allclose(render(slots, SIZE), objects, atol=1e-4)
