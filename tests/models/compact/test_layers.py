"""Reading, moving and painting by law: shares reach their ends, what is known is kept, layers make the picture."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vap_sim.models.compact import layers
from vap_sim.models.compact.losses import Clip, unit
from vap_sim.models.compact.network import CompactNetwork, UNet
from vap_sim.models.compact.slots import SLOTS, Slots, advance, cut, footprints, render

SIZE = 32


def bias_of(unet: UNet) -> torch.Tensor:
    assert unet.head.bias is not None
    return unet.head.bias


def prompts(clip: Clip) -> list[torch.Tensor]:
    return [layers.skeleton_blocks(unit(item)) for item in clip.skeletons.unbind(1)]


def slots_of(clip: Clip) -> Slots:
    return cut(unit(clip.objects[:, 0]), clip.numbers)


def test_a_share_reaches_none_and_all_and_can_come_back() -> None:
    logits = torch.tensor([-40.0, -4.0, 0.0, 4.0, 40.0], requires_grad=True)
    shares = layers.share(logits)
    assert torch.allclose(shares.detach(), torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]), atol=1e-6)
    assert shares.min() >= 0 and shares.max() <= 1
    shares.sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None and (logits.grad[1:4] > 0.01).all()
    spread = layers.share(torch.linspace(-6, 6, 200))
    assert (spread.diff() >= 0).all()


def test_skeletons_are_read_as_blocks_between_minus_one_and_one(clip: Clip) -> None:
    skeleton = unit(clip.skeletons[:, 2])
    blocks = layers.skeleton_blocks(skeleton)
    assert blocks.shape == (2, 12, 16, 16) and blocks.min() == -1 and blocks.max() == 1
    assert torch.allclose((torch.nn.functional.pixel_shuffle(blocks, 2) + 1) / 2, skeleton)


def test_a_reading_is_in_range_and_of_the_promised_shape(lively: CompactNetwork, clip: Clip) -> None:
    reading = layers.read(lively, unit(clip.frames[:, 0]), prompts(clip)[2])
    assert reading.plate.shape == (2, 3, SIZE, SIZE) and reading.objects.shape == (2, 4, SIZE, SIZE)
    assert reading.style.shape == (2, 4) and reading.planes.shape == (2, 10, SIZE, SIZE)
    for part in (reading.plate, reading.objects, reading.color):
        assert part.min() >= 0 and part.max() <= 1 and part.dtype == torch.float32
    assert (reading.objects[:, :3] <= reading.objects[:, 3:] + 1e-6).all()  # premultiplied
    assert torch.allclose(reading.color * reading.objects[:, 3:], reading.objects[:, :3])


def test_what_is_seen_is_taken_from_the_picture(networks: Callable[..., CompactNetwork], clip: Clip) -> None:
    """A network that holds nothing for an object and all ground for seen gives the picture back as its plate."""
    network = networks(0)
    with torch.no_grad():
        bias_of(network.scene.unet).fill_(-30.0)
        network.scene.unet.head.weight.zero_()
    frame = unit(clip.frames[:, 0])
    reading = layers.read(network, frame, prompts(clip)[2])
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


def test_a_fresh_network_moves_nothing(network: CompactNetwork, clip: Clip) -> None:
    slots, skeletons = slots_of(clip), prompts(clip)
    layer = render(slots, SIZE)
    motion = layers.move(network, torch.cat(skeletons[1:4][::-1], dim=1), layer, slots)
    after = advance(slots, motion.shift, motion.twist, motion.logit > 0)
    assert torch.equal(render(after, SIZE), layer)
    assert motion.shift.shape == motion.twist.shape == (2, SLOTS, 2) and motion.logit.shape == (2, SLOTS)
    assert torch.equal(motion.footprint, footprints(slots, SIZE))


def test_a_slot_moves_as_the_blocks_under_it_say(networks: Callable[..., CompactNetwork], clip: Clip) -> None:
    """A network that says the same of every block: 3 px right, 1 px up, a turn of 0.2, growth 0.1, surely."""
    network = networks(0)
    with torch.no_grad():
        said = torch.tensor([3 / layers.FLOW_UNIT, -1 / layers.FLOW_UNIT, 0.2, 0.1, 5.0, 4.0])
        bias_of(network.motion.unet).copy_(said)
    slots, skeletons = slots_of(clip), prompts(clip)
    motion = layers.move(network, torch.cat(skeletons[:3][::-1], dim=1), render(slots, SIZE), slots)
    present = slots.present
    assert torch.allclose(motion.shift[present], torch.tensor([3.0, -1.0]), atol=1e-3)
    assert torch.allclose(motion.twist[present], torch.tensor([0.2, 0.1]), atol=1e-3)
    assert torch.allclose(motion.logit[present], torch.tensor(4.0), atol=1e-2)
    assert not motion.shift[~present].any() and not motion.logit[~present].any()


def test_motion_sees_which_skeleton_is_the_newest(lively: CompactNetwork, clip: Clip) -> None:
    slots, skeletons = slots_of(clip), prompts(clip)
    layer = render(slots, SIZE)
    forth = layers.move(lively, torch.cat(skeletons[1:4][::-1], dim=1), layer, slots)
    back = layers.move(lively, torch.cat(skeletons[1:4], dim=1), layer, slots)
    assert not torch.allclose(forth.blocks, back.blocks)


@pytest.mark.parametrize("logit", [-30.0, 30.0])
def test_painting_covers_the_scene_by_the_robot(
    logit: float, networks: Callable[..., CompactNetwork], clip: Clip
) -> None:
    network = networks(0)
    with torch.no_grad():
        network.robot.unet.head.weight.zero_()
        bias_of(network.robot.unet).copy_(torch.tensor([logit] * 4 + [1.0] * 4 + [0.0] * 4 + [-1.0] * 4))
    objects, plate = unit(clip.objects[:, 1]), unit(clip.plate)
    painting = layers.paint(network, prompts(clip)[3], objects, torch.zeros(2, 4), plate)
    rgb = torch.sigmoid(torch.tensor([1.0, 0.0, -1.0]))[None, :, None, None].expand(2, 3, SIZE, SIZE)
    scene = objects[:, :3] + (1 - objects[:, 3:]) * plate
    assert torch.allclose(painting.robot_rgb, rgb)
    assert torch.allclose(painting.frame, rgb if logit > 0 else scene, atol=1e-6)
    assert painting.robot_logit.shape == (2, 1, SIZE, SIZE)
