"""The compact world: it dreams what training's own roll-out dreams, and refuses weights that are not its own.

What every world must obey is tested in tests/contracts.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from vap_sim.errors import BadFile
from vap_sim.models.checkpoint import save_tensors
from vap_sim.models.compact.losses import Clip
from vap_sim.models.compact.model import CompactWorld, read_config
from vap_sim.models.compact.network import CompactConfig, CompactNetwork
from vap_sim.models.rollout import imagine
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState
from vap_sim.training.compact import dream


def plain(config: CompactConfig) -> dict[str, Any]:
    """A configuration as a JSON header holds it."""
    values = asdict(config)
    return {
        k: {n: list(v) for n, v in value.items()} if isinstance(value, dict) else value for k, value in values.items()
    }


def picture(clip: Clip) -> torch.Tensor:
    return clip.frames[:, 0].permute(0, 2, 3, 1)[:, None].contiguous()


def prompts(clip: Clip, first: int, last: int) -> VisualPrompt:
    """Prompts of frames first..last-1; two older skeletons come first in a clip."""
    return VisualPrompt(clip.skeletons[:, first + 2 : last + 2].permute(0, 1, 3, 4, 2)[:, None].contiguous())


def start(world: CompactWorld, clip: Clip) -> WorldState:
    return world.encode(picture(clip), prompts(clip, 0, 1), seed=list(range(len(clip.frames))))


@pytest.fixture
def taught(lesson: tuple[CompactNetwork, dict[str, float], dict[str, float]]) -> CompactNetwork:
    """A network that finds the squares; its worlds get a copy, because they keep what they are given."""
    return deepcopy(lesson[0])


def test_a_dream_is_what_training_rolls_out(taught: CompactNetwork, clips: Callable[..., Clip]) -> None:
    """The same weights in the same precision, to one grey level almost everywhere. A world keeps plate and cut-outs in
    8 bits; poses then differ by hundredths of a pixel, which shows on sharp edges."""
    clip = clips(0, count=2, length=6)
    world = CompactWorld(deepcopy(taught), dtype=torch.bfloat16)
    state = start(world, clip)
    after, rolled = (getattr(world.imagine(state, prompts(clip, 1, 6)), name) for name in ("state", "frames"))
    assert bool(state.context["present"].any(dim=1).all())  # objects are found, and they move
    assert float((after.context["centre"] - state.context["centre"]).abs().max()) > 2
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = dream(taught, clip)
    told = (expected * 255).round().permute(0, 1, 3, 4, 2)
    assert rolled.shape == (2, 1, 5, 32, 32, 3)
    error = (told - rolled[:, 0].float()).abs()
    assert error.max() <= 12 and (error > 1).float().mean() < 0.01 and error.mean() < 0.1


def test_weights_survive_a_file(taught: CompactNetwork, clip: Clip, tmp_path: Path) -> None:
    """As training writes them: bfloat16, as they are dreamt with."""
    path = tmp_path / "w.safetensors"
    weights = {name: value.to(torch.bfloat16) for name, value in taught.state_dict().items()}
    save_tensors(path, weights, {"network": plain(taught.config), "profile": "vap"})
    loaded, world = CompactWorld.load(path), CompactWorld(taught)
    assert loaded.spec.profile == "vap" and loaded.spec.size == (32, 32)
    frames = [imagine(w, start(w, clip), prompts(clip, 1, 4)).frames for w in (loaded, world)]
    assert frames[0] is not None and frames[1] is not None and torch.equal(frames[0], frames[1])
    assert CompactWorld.load(path).spec.fingerprint == loaded.spec.fingerprint


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
    networks: Callable[..., CompactNetwork], clip: Clip
) -> None:
    world = CompactWorld(networks(0))  # fresh: says that nothing moves
    state = start(world, clip)
    after = world.imagine(state, prompts(clip, 1, 4)).state
    for name in ("plate", "style", "objects", "patches", "centre", "turn", "present"):
        assert torch.equal(state.context[name], after.context[name]), name
    assert not torch.equal(state.context["skeletons"], after.context["skeletons"])
    # The two newest prompts, the newest first.
    assert torch.equal(after.context["skeletons"][:, :12], start(world, shifted(clip, 3)).context["skeletons"][:, :12])


def shifted(clip: Clip, frame: int) -> Clip:
    return Clip(**{**vars(clip), "skeletons": clip.skeletons[:, frame:]})


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
