"""The compact world: it dreams what training's own roll-out dreams, and refuses weights that are not its own.

What every world must obey is tested in tests/contracts.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vap_sim.errors import BadFile
from vap_sim.models.checkpoint import save_tensors
from vap_sim.models.compact import layers
from vap_sim.models.compact.losses import Pictures, unit
from vap_sim.models.compact.model import CompactWorld, UntrainedRate, read_config
from vap_sim.models.compact.motion import apply, move
from vap_sim.models.compact.network import CompactConfig, CompactNetwork
from vap_sim.models.compact.slots import render
from vap_sim.models.rollout import imagine
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState


def plain(config: CompactConfig) -> dict[str, Any]:
    """A configuration as a JSON header holds it."""
    values = asdict(config)
    return {
        k: {n: list(v) for n, v in value.items()} if isinstance(value, dict) else value for k, value in values.items()
    }


def prompts(pictures: Pictures, first: int, last: int) -> VisualPrompt:
    """Prompts of frames first..last-1."""
    return VisualPrompt(pictures.skeletons[:, first:last].permute(0, 1, 3, 4, 2)[:, None].contiguous())


def start(world: CompactWorld, pictures: Pictures) -> WorldState:
    first = pictures.frames[:, 0].permute(0, 2, 3, 1)[:, None].contiguous()
    return world.encode(first, prompts(pictures, 0, 1), seed=list(range(len(first))))


@pytest.fixture
def taught(lesson: tuple[CompactNetwork, dict[str, float], dict[str, float]]) -> CompactNetwork:
    """A network that finds the squares, and moves them anyhow; its worlds get a copy, because they keep theirs."""
    network = deepcopy(lesson[0])
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network.motion.head.weight.normal_(0, 0.1)
        network.motion.head.bias.copy_(torch.tensor([0.05, -0.05, 0.05, 0.02, 9.0]))
    return network


@torch.no_grad()
def plain_dream(network: CompactNetwork, pictures: Pictures) -> torch.Tensor:
    """Frames (b, P - 1, 3, H, W) in [0, 1] of the first picture and the skeletons, by nothing but the layers."""
    skeletons = unit(pictures.skeletons)
    blocks = [layers.skeleton_blocks(item) for item in skeletons.unbind(1)]
    reading = layers.read(network, unit(pictures.frames[:, 0]), blocks[0])
    slots, frames = layers.find_slots(reading.objects), []
    for frame in range(1, skeletons.shape[1]):
        history = torch.cat([skeletons[:, max(frame - age, 0)] for age in range(3)], dim=1)
        slots = apply(slots, move(network.motion, history, render(slots, 32), slots))
        frames.append(layers.paint(network, blocks[frame], render(slots, 32), reading.style, reading.plate).frame)
    return torch.stack(frames, dim=1)


def test_a_dream_is_what_layers_and_motion_show(taught: CompactNetwork, scenes: Callable[..., Pictures]) -> None:
    """To one grey level almost everywhere: a world keeps plate and cut-outs in 8 bits."""
    pictures = scenes(0, count=2, shown=6)
    world = CompactWorld(deepcopy(taught), dtype=torch.float32)
    state = start(world, pictures)
    rollout = world.imagine(state, prompts(pictures, 1, 6))
    after, rolled = rollout.state, rollout.frames
    assert bool(state.context["present"].any(dim=1).all())  # objects are found, and they move
    gone = (after.context["centre"] - state.context["centre"])[state.context["present"]]
    assert float(gone.abs().max()) > 2 and float(gone.std(dim=0).max()) > 0.05
    told = (plain_dream(taught, pictures) * 255).round().permute(0, 1, 3, 4, 2)
    assert rolled is not None and rolled.shape == (2, 1, 5, 32, 32, 3)
    error = (told - rolled[:, 0].float()).abs()
    assert error.max() <= 3 and (error > 1).float().mean() < 0.01


def test_weights_survive_a_file(taught: CompactNetwork, pictures: Pictures, tmp_path: Path) -> None:
    """As training writes them: bfloat16, as they are dreamt with."""
    path = tmp_path / "w.safetensors"
    weights = {name: value.to(torch.bfloat16) for name, value in taught.state_dict().items()}
    save_tensors(path, weights, {"network": plain(taught.config), "profile": "vap"})
    rounded = CompactNetwork(taught.config)
    rounded.load_state_dict(weights)
    loaded, world = CompactWorld.load(path), CompactWorld(rounded)
    assert loaded.spec.profile == "vap" and loaded.spec.size == (32, 32)
    frames = [imagine(w, start(w, pictures), prompts(pictures, 1, 4)).frames for w in (loaded, world)]
    assert frames[0] is not None and frames[1] is not None and torch.equal(frames[0], frames[1])
    assert CompactWorld.load(path).spec.fingerprint == loaded.spec.fingerprint


def test_one_camera_that_stands_still_dreams_the_same_wherever_it_is_said_to_be(
    taught: CompactNetwork, pictures: Pictures
) -> None:
    """To the bit: prompts may hold projections, but one view has no use for them."""
    world, told = CompactWorld(taught), prompts(pictures, 0, 4)
    where = torch.rand(len(told), 1, 4, 3, 4, generator=torch.Generator().manual_seed(0))
    knowing = replace(told, projections=where)
    first = pictures.frames[:, 0].permute(0, 2, 3, 1)[:, None].contiguous()
    films = []
    for one in (told, knowing):
        state = world.encode(first, one.between(0, 1), seed=list(range(len(first))))
        films.append(world.imagine(state, one.between(1, 4)).frames)
    assert films[0] is not None and films[1] is not None and torch.equal(films[0], films[1])
    assert world.spec.reads_cameras is False


def test_fingerprints_tell_weights_apart(networks: Callable[..., CompactNetwork]) -> None:
    marks = {CompactWorld(networks(seed)).spec.fingerprint for seed in (0, 0, 1)}
    assert len(marks) == 2


def test_loading_leaves_the_global_generator_alone(taught: CompactNetwork, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_tensors(path, taught.state_dict(), {"network": plain(taught.config)})
    before = torch.random.get_rng_state()
    CompactWorld.load(path)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_plate_and_style_stay_and_objects_at_rest_keep_their_bits(
    networks: Callable[..., CompactNetwork], pictures: Pictures
) -> None:
    world = CompactWorld(networks(0))  # fresh: says that nothing moves
    state = start(world, pictures)
    after = world.imagine(state, prompts(pictures, 1, 4)).state
    for name in ("plate", "style", "objects", "patches", "centre", "turn", "present"):
        assert torch.equal(state.context[name], after.context[name]), name
    assert not torch.equal(state.context["skeletons"], after.context["skeletons"])
    # The two newest prompts, the newest first.
    assert torch.equal(after.context["skeletons"], pictures.skeletons[:, [3, 2]].flatten(1, 2))


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"none\.safetensors: no such weights file"):
        CompactWorld.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 100}, "picture size of the compact model: given 100"),
        ({"size": "large"}, "field 'network' of its description"),
        ({"style": None}, "field 'network' of its description"),
        ({"scene": {"widths": [8, 12], "blocks": [1]}}, "levels of a U-Net"),
        ({"scene": {"widths": [10**9], "blocks": [1]}}, "levels of a U-Net"),
        ({"scene": {"widths": [8, 12]}}, "KeyError\\('blocks'\\)"),
        ({"scene": {"widths": ["a", "b"], "blocks": [1, 1]}}, "field 'network' of its description"),
        ({"motion": 3}, "field 'network' of its description"),
        ({"motion": {"widths": [1024] * 5, "blocks": [16] * 5}, "size": 32}, "expected"),
    ],
)
def test_descriptions_of_impossible_networks_are_refused(
    change: dict[str, object], words: str, network: CompactNetwork, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    save_tensors(path, network.state_dict(), {"network": {**plain(network.config), **change}})
    with pytest.raises(BadFile, match=rf"w\.safetensors: .*{words}"):
        CompactWorld.load(path)


@pytest.mark.parametrize("values", [None, [], "compact"])
def test_a_description_without_a_network_is_refused(values: object) -> None:
    with pytest.raises(BadFile, match="its description has no field 'network'"):
        read_config(values, "w.safetensors")


def test_a_missing_field_of_the_description_is_named(network: CompactNetwork) -> None:
    for field in ("size", "style", "scene", "motion", "robot"):
        values = plain(network.config)
        del values[field]
        with pytest.raises(BadFile, match=rf"field 'network' of its description: KeyError\('{field}'\)"):
            read_config(values, "w.safetensors")


def test_rates_that_the_weights_have_not_seen_are_warned_of(network: CompactNetwork, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    header = {"network": plain(network.config)}
    save_tensors(path, network.state_dict(), header)
    with pytest.warns(UntrainedRate, match="has seen objects move at 5 Hz, not at 3 Hz"):
        assert CompactWorld.load(path, frame_rate=3.0).spec.frame_rate == 3.0
    save_tensors(path, network.state_dict(), {**header, "frame_rates": [3.0, 5.0]})
    assert CompactWorld.load(path, frame_rate=3.0).spec.frame_rate == 3.0
    assert CompactWorld.load(path).spec.frame_rate == 5.0
    save_tensors(path, network.state_dict(), {**header, "frame_rates": [3.0]})
    assert CompactWorld.load(path).spec.frame_rate == 3.0
    save_tensors(path, network.state_dict(), {**header, "frame_rates": "fast"})
    with pytest.raises(BadFile, match="field 'frame_rates' of its description is 'fast'"):
        CompactWorld.load(path)
