"""Dreaming with packed weights and remembered layers shows what the plain networks and layers would show."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vap_sim.models.compact import layers
from vap_sim.models.compact import packed as packed_module
from vap_sim.models.compact.model import CompactWorld
from vap_sim.models.compact.motion import apply, move
from vap_sim.models.compact.network import CompactConfig, CompactNetwork, MotionNet, UNet, UNetConfig
from vap_sim.models.compact.packed import PackedMotionNet, PackedUNet, fast_cast, fast_dtype, pack, packed
from vap_sim.models.compact.slots import Slots, cut, number_objects, render
from vap_sim.models.compact.windows import OVERVIEW, WINDOW
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState

SMALL = UNetConfig((8, 16, 16, 24), (1, 2, 1, 1))
CONFIG = CompactConfig(size=64, scene=SMALL, motion=SMALL, robot=SMALL)
DTYPES = sorted({torch.float32, fast_dtype()}, key=str)


def randomised(module: nn.Module, seed: int) -> nn.Module:
    """The module with all weights random, also those that training starts at zero."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            spread = 0.8 * value[0].numel() ** -0.5 if value.ndim > 1 else 0.2
            value.copy_(torch.randn(value.shape, generator=source) * spread)
    return module


def network(moving: float) -> CompactNetwork:
    """A random network whose slots all move (moving > 0) or all rest."""
    net = CompactNetwork(CONFIG)
    randomised(net, 3)
    with torch.no_grad():
        net.motion.head.bias[4] = moving
    return net


def world_and_state(
    moving: float, objects: bool = True, dtype: torch.dtype | None = None
) -> tuple[CompactWorld, WorldState]:
    """A world and a dream in it that holds two objects, or none."""
    world = CompactWorld(network(moving), dtype=dtype)
    size = CONFIG.size
    picture = torch.randint(0, 256, (1, 1, size, size, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    state = world.encode(picture, prompt(0), [0])
    layer = torch.zeros(size, size, 4, dtype=torch.uint8)
    if objects:
        layer[12:22, 9:20] = torch.tensor([200, 20, 20, 255], dtype=torch.uint8)
        layer[40:52, 30:42] = torch.tensor([20, 30, 220, 255], dtype=torch.uint8)
    numbers = torch.from_numpy(number_objects(layer.numpy()))[None]
    slots = cut(layer.permute(2, 0, 1)[None].float() / 255, numbers)
    assert bool(slots.present.any()) == objects
    poses = {name: getattr(slots, name) for name in ("centre", "turn", "velocity", "present")}
    patches = (slots.patches * 255).round().to(torch.uint8)
    return world, replace(state, context={**state.context, **poses, "patches": patches, **world._laid(slots)})


def prompt(step: int) -> VisualPrompt:
    """A drawn line that moves."""
    skeleton = torch.zeros(1, 1, 1, CONFIG.size, CONFIG.size, 3, dtype=torch.uint8)
    skeleton[..., 20:44, 10 + 3 * step : 14 + 3 * step, :] = torch.tensor([250, 120, 30], dtype=torch.uint8)
    return VisualPrompt(skeleton)


def plain_dream(
    net: CompactNetwork, state: WorldState, prompts: list[VisualPrompt], dtype: torch.dtype
) -> list[Tensor]:
    """Frames (H, W, 3) uint8 from the layers and networks as training uses them; nothing is kept but poses."""
    net = net.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    known = state.context
    slots = Slots(known["patches"].float() / 255, *(known[n] for n in ("centre", "turn", "velocity", "present")))
    old, frames = known["skeletons"].float() / 255, []
    for item in prompts:
        skeleton = item.skeleton[0, 0, 0].permute(2, 0, 1)[None].float() / 255
        blocks, history = layers.skeleton_blocks(skeleton), torch.cat([skeleton, old], dim=1)
        slots = apply(slots, move(net.motion, history, render(slots, CONFIG.size), slots))
        painting = layers.paint(net, blocks, render(slots, CONFIG.size), known["style"], known["plate"].float() / 255)
        frames.append((painting.frame[0] * 255).round().to(torch.uint8).permute(1, 2, 0))
        old = history[:, :6]
    return frames


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize("style", [0, 5])
def test_a_packed_unet_says_the_same(dtype: torch.dtype, size: int, style: int) -> None:
    unet = randomised(UNet(7, 6, SMALL, style=style), 0)
    unet.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    source = torch.Generator().manual_seed(2)
    x = torch.randn(1, 7, size, size, generator=source)
    given = torch.randn(1, style, generator=source).to(dtype) if style else None
    before = x.clone()
    with torch.no_grad():
        expected, lowest = unet(x, given)
        found, found_lowest = PackedUNet(unet)(x, given)  # type: ignore[arg-type]
    # Rounding differs where oneDNN takes another way for packed weights; in bfloat16 on a Zen 5 it does not.
    near = {torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(found, expected, rtol=near, atol=near)
    torch.testing.assert_close(found_lowest, lowest, rtol=near, atol=near)
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("objects", [1, 5])
@pytest.mark.parametrize("shape", [SMALL, UNetConfig((16,), (1,))], ids=["deep", "flat"])
def test_a_packed_motion_network_says_the_same(dtype: torch.dtype, objects: int, shape: UNetConfig) -> None:
    net = randomised(MotionNet(CompactConfig(size=64, motion=shape)), 0)
    net.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    source = torch.Generator().manual_seed(2)
    windows = torch.rand(objects, MotionNet.CHANNELS, WINDOW, WINDOW, generator=source)
    overview = torch.rand(objects, 3, OVERVIEW, OVERVIEW, generator=source)
    state = torch.randn(objects, MotionNet.STATE, generator=source)
    before = [value.clone() for value in (windows, overview, state)]
    with torch.no_grad():
        expected = net(windows, overview, state)
        found = PackedMotionNet(net)(windows, overview, state)  # type: ignore[arg-type]
    assert expected.abs().min() > 1e-3 and found.dtype == dtype
    near = {torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(found, expected, rtol=near, atol=near)
    assert all(torch.equal(*pair) for pair in zip(before, (windows, overview, state), strict=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("moving", "objects"), [(5.0, True), (-50.0, True), (5.0, False)])
def test_a_dream_shows_what_the_layers_of_training_show(moving: float, objects: bool, dtype: torch.dtype) -> None:
    world, state = world_and_state(moving, objects, dtype)
    prompts = [prompt(step) for step in range(1, 7)]
    with torch.no_grad():
        expected = plain_dream(network(moving), state, prompts, dtype)
    first = state
    for item, wanted in zip(prompts, expected, strict=True):
        state, frames = world.step(state, item)
        assert (frames[0, 0, 0].int() - wanted.int()).abs().max() <= 1
        assert frames[0, 0, 0].is_contiguous()
    gone = (state.context["centre"] - first.context["centre"]).abs().amax(dim=(0, 2)) > 0
    assert torch.equal(gone, first.context["present"][0] & (moving > 0))


def test_a_share_is_the_same_with_and_without_gradients() -> None:
    with torch.no_grad():
        assert torch.equal(layers.share(torch.tensor([-9.0, 9.0])), torch.tensor([0.0, 1.0]))
    logits = torch.tensor([-9.0, 0.3, 9.0], requires_grad=True)
    values = layers.share(logits)
    values.sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None and bool((logits.grad > 0).all())
    with torch.no_grad():
        assert torch.equal(values, layers.share(logits))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda world: pickle.loads(pickle.dumps(world))])
def test_a_copied_world_dreams_the_same(duplicate: object) -> None:
    world, state = world_and_state(5.0)
    assert callable(duplicate)
    twin = duplicate(world)
    assert torch.equal(twin.step(state, prompt(1))[1], world.step(state, prompt(1))[1])
    assert not hasattr(twin.network.motion, "stem") and not hasattr(twin.network.robot.unet, "stem")
    assert twin.fingerprint == world.fingerprint


def test_packing_leaves_the_network_as_it_is() -> None:
    net = network(0.0)
    before = copy.deepcopy(net.state_dict())
    packed(net)
    after = net.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)
    assert all(value.requires_grad for value in net.parameters()) and net.training


def test_where_onednn_is_missing_the_layers_themselves_convolve(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Conv2d(3, 8, 3, padding=1)
    packed_layer = pack(layer, (16, 16))
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(packed_layer(x), F.conv2d(x, layer.weight, layer.bias, padding=1))
    assert packed_layer is not layer or not torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    monkeypatch.setattr(packed_module, "_has_mkldnn", lambda: False)
    assert pack(layer, (16, 16)) is layer and fast_dtype() == torch.float32
    assert fast_dtype("cuda") == torch.bfloat16


@pytest.mark.parametrize("native", [False, True])
def test_training_rounds_to_half_of_the_bits_only_where_that_is_fast(
    monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(packed_module, "fast_dtype", lambda device: torch.bfloat16 if native else torch.float32)
    layer, x = nn.Linear(3, 2), torch.zeros(1, 3)
    with fast_cast("cpu", "bf16"):
        assert layer(x).dtype == (torch.bfloat16 if native else torch.float32)
    with fast_cast("cpu", "fp32"):
        assert layer(x).dtype == torch.float32
