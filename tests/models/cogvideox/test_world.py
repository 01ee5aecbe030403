"""The world as a whole: its folder, its refusals, out of memory, and the environment on top of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

import vap_sim  # noqa: F401 - registers the environments
from tests.contracts.world_model import next_prompt, pictures, prompts, same_state
from tests.models.cogvideox.worlds import Pooled, tiny_backbone, tiny_parts, tiny_world
from vap_sim.errors import BadFile, InvalidInput, UnknownName, Unsupported, VAPSimError
from vap_sim.models.cogvideox import fitting
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.codec import TinyCodec
from vap_sim.models.cogvideox.config import ModelConfig, build_transformer, full_config, parameter_count, tiny_config
from vap_sim.models.cogvideox.control_form import save_control
from vap_sim.models.cogvideox.fitting import Way, advice, check_offload, need
from vap_sim.models.cogvideox.loading import HEADER, Header, read_header, save_world
from vap_sim.models.cogvideox.lora import Lora, lora_parameters
from vap_sim.models.cogvideox.settings import Settings, defaults
from vap_sim.models.cogvideox.skeleton_control import SkeletonControl
from vap_sim.models.cogvideox.text import HashedWords
from vap_sim.models.cogvideox.world import CogVideoXWorld
from vap_sim.models.registry import load_world
from vap_sim.state import WorldState

HEAD = Header((48, 32), 5.0, "mesh", 17, 8, True, None, {"steps": 2, "history": 2})


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny world, saved. Do not change it."""
    path = tmp_path_factory.mktemp("tiny")
    save_world(path, tiny_backbone(), HEAD)
    return path


def dreamt(world: CogVideoXWorld, steps: int = 2) -> tuple[WorldState, Tensor]:
    state = world.encode(pictures(world, 1), prompts(world, 1, 1), [3])
    plan = prompts(world, steps * world.spec.frames_per_step, 1)
    rollout = world.imagine(state, plan)
    assert rollout.frames is not None
    return rollout.state, rollout.frames


def test_a_saved_world_is_the_same_world(folder: Path) -> None:
    world, again = CogVideoXWorld.load(folder), load_world("cogvideox", weights=folder)
    same = tiny_world(told=False, steps=2, history=2, chunk=17)
    assert isinstance(again, CogVideoXWorld) and world.spec == again.spec == load_world(folder).spec
    assert (world.spec.size, world.spec.frame_rate, world.spec.profile) == ((48, 32), 5.0, "mesh")
    assert (world.settings, world.max_chunk) == (same.settings, 17)
    state, frames = dreamt(world)
    assert torch.equal(dreamt(again)[1], frames)
    assert int((dreamt(same)[1].int() - frames.int()).abs().max()) <= 1
    assert state.model == world.fingerprint


def test_what_is_asked_for_comes_before_what_the_folder_says(folder: Path) -> None:
    options: dict[str, Any] = {
        "mode": "chunk", "steps": 1, "chunk": 9, "guidance": 3.0, "size": (32, 32), "frame_rate": 8.0,
        "profile": "vap", "dtype": "bfloat16", "control": Pooled(32), "rows_at_once": 2, "compiled": False,
    }  # fmt: skip
    world = CogVideoXWorld.load(folder, **options)
    assert (world.spec.size, world.spec.frames_per_step, world.spec.profile) == ((32, 32), 8, "vap")
    assert (world.settings.steps, world.settings.guidance, world.parts.dtype) == (1, 3.0, torch.bfloat16)
    assert len(world.parts.conditioners) == 1
    _, frames = dreamt(world, 1)
    assert frames.shape == (1, 1, 8, 32, 32, 3)


def test_what_a_published_folder_leaves_out_is_as_it_was_trained() -> None:
    config = full_config("5b-i2v")
    chunk = defaults("chunk", config, {"_class_name": "CogVideoXDPMScheduler"})
    assert (chunk["chunk"], chunk["steps"], chunk["guidance"], chunk["solver"]) == (49, 50, 6.0, "dpm")
    stream = Settings(**defaults("stream", config, {}))
    assert (stream.history, stream.window, stream.steps, stream.guidance, stream.solver) == (11, 12, 4, 1.0, "ddim")


def test_a_control_and_its_lora_come_with_the_folder(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    save_world(tmp_path, backbone, replace(HEAD, control="control", profile=None))
    control, lora = SkeletonControl(backbone, blocks=1, channels=4, width=8), Lora(rank=2, alpha=2.0)
    lora.install(backbone)
    with torch.no_grad():
        for value in control.parameters():
            value.add_(0.05)
        for value in lora_parameters(backbone).values():
            value.add_(0.2)
    save_control(tmp_path / "control", backbone, control, profile="depth", lora=lora)
    world = CogVideoXWorld.load(tmp_path)
    assert world.spec.profile == "depth" and not any(v.requires_grad for v in world.parts.backbone.parameters())
    film = dreamt(world)[1]
    bare = CogVideoXWorld.load(tmp_path, control=False)
    other = CogVideoXWorld.load(tmp_path, control=tmp_path / "control")
    assert bare.spec.profile == "skeleton" and world.spec.fingerprint == other.spec.fingerprint
    assert bare.parts.conditioners == () and not torch.equal(dreamt(bare)[1], film)
    same = tiny_world(backbone=backbone, conditioners=(control.eval(),), history=2, chunk=17)
    assert int((dreamt(same)[1].int() - film.int()).abs().max()) <= 1
    off = tiny_world(backbone=tiny_backbone(), conditioners=(control,), history=2, chunk=17)
    assert int((dreamt(off)[1].int() - film.int()).abs().max()) > 1
    with pytest.raises(InvalidInput, match="backbone to save: given one with LoRA on it"):
        save_world(tmp_path / "again", backbone, HEAD)


def test_fingerprints_tell_weights_and_settings_apart() -> None:
    plain = tiny_parts()
    worlds = [
        plain,
        tiny_parts(history=2),
        tiny_parts(mode="chunk"),
        tiny_parts(backbone=tiny_backbone(seed=1)),
        tiny_parts(conditioners=(Pooled(32, seed=4),)),
        tiny_parts(told=False),
    ]
    prints = [CogVideoXWorld(parts).fingerprint for parts in worlds]
    prints += [CogVideoXWorld(plain, frame_rate=5.0).fingerprint, CogVideoXWorld(plain, profile="vap").fingerprint]
    assert len(set(prints)) == len(prints)
    assert CogVideoXWorld(tiny_parts()).fingerprint == prints[0]
    large = tiny_backbone()
    weight = large.transformer.patch_embed.text_proj.weight
    weight.data = torch.zeros(512, 512)
    before = CogVideoXWorld(tiny_parts(backbone=large)).fingerprint
    weight.data[100, 101] = 1e-6  # a number that no sample meets, only the sum
    assert CogVideoXWorld(tiny_parts(backbone=large)).fingerprint != before


def test_a_saved_state_resumes_with_equal_bits(tmp_path: Path) -> None:
    for mode in ("stream", "chunk"):
        world = tiny_world(mode=mode)
        state, _ = dreamt(world)
        state.save(tmp_path / "state.safetensors")
        restored = WorldState.load(tmp_path / "state.safetensors")
        prompt = next_prompt(world, rows=1)
        (one, film), (two, again) = world.step(state, prompt), world.step(restored, prompt)
        assert same_state(one, two) and torch.equal(film, again)


@pytest.mark.parametrize("mode", ["stream", "chunk"])
def test_a_lone_row_shares_no_memory_with_the_frames_it_gave_away(mode: str) -> None:
    world = tiny_world(mode=mode)
    start, plan = prompts(world, 1, 1), next_prompt(world, rows=1)
    picture = pictures(world, 1)
    state = world.encode(picture, start, [3])
    before = copy.deepcopy(state)
    after, frames = world.step(state, plan)
    kept = copy.deepcopy(after)
    for given in (picture, start.skeleton, plan.skeleton, frames):
        given.fill_(1)
    assert same_state(state, before) and same_state(after, kept)


def test_a_world_of_one_mode_refuses_states_of_the_other() -> None:
    stream, chunk = tiny_world(), tiny_world(mode="chunk")
    for world, other in ((stream, chunk), (chunk, stream)):
        with pytest.raises(InvalidInput, match="state for world 'cogvideox': given a state of model"):
            world.step(dreamt(other)[0], next_prompt(world, rows=1))


def memory_ends(*_: object, **__: object) -> object:
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_out_of_memory_says_which_mode_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    world = tiny_world(mode="chunk")
    state, prompt = dreamt(world)[0], next_prompt(world, rows=1)
    monkeypatch.setattr(TinyCodec, "decode", memory_ends)
    words = "48 by 32 pixels .*mode='chunk', chunk=9.* ran out of memory on cpu .*what should fit: mode="
    with pytest.raises(Unsupported, match=words):
        world.step(state, prompt)
    monkeypatch.setattr(fitting, "memory_of", lambda device: 1)
    with pytest.raises(Unsupported, match="no mode should fit; least takes"):
        world.step(state, prompt)


def test_other_errors_are_not_called_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> object:
        raise RuntimeError("something else")

    world = tiny_world()
    monkeypatch.setattr(TinyCodec, "encode", breaks)
    with pytest.raises(RuntimeError, match="something else"):
        dreamt(world)


def test_needs_fall_with_every_step_of_the_advice() -> None:
    config = full_config("5b-i2v")
    weights = parameter_count(build_transformer(config, device="meta"))
    chunk = Settings(**defaults("chunk", config, {}))
    stream = Settings(**defaults("stream", config, {}))
    whole, half = torch.float32, torch.bfloat16
    size = (720, 480)

    def cost(*way: Any) -> int:
        return need(config, Way(*way), size, weights)

    assert cost(chunk, whole) > cost(chunk, half) > cost(chunk, half, "sequential")
    assert cost(stream, half) > cost(replace(stream, history=1), half) > cost(replace(stream, history=1), half, "model")
    assert cost(chunk, half) > 2 * weights
    room = 20 * 2**30
    assert "offload='sequential'" in advice(config, Way(chunk, half), size, room // 2)
    assert "mode='chunk'" in advice(config, Way(chunk, whole), size, 4 * room)
    small = advice(config, Way(replace(stream, history=2), half), (320, 192), room)
    assert small.startswith("what should fit: mode='stream', history=1, dtype='bfloat16', offload=None")


class Shouting(TinyCodec):
    def encode(self, frames: Tensor) -> Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")


def headed(path: Path, **fields: Any) -> Path:
    """A folder whose `world.json` says something wrong."""
    values = {"world": "cogvideox", "format": 1, "size": [48, 32], "tiny_codec": 8, "hashed_words": True, **fields}
    (path / "transformer").mkdir()
    config = {"_class_name": "CogVideoXTransformer3DModel", **tiny_backbone().config.transformer}
    (path / "transformer" / "config.json").write_text(json.dumps(config))
    (path / HEADER).write_text(json.dumps(values))
    return path


def pickled(path: Path) -> Path:
    headed(path)
    (path / "transformer" / "diffusion_pytorch_model.bin").write_bytes(b"?")
    return path


def text(path: Path, words: str) -> Path:
    (path / HEADER).write_text(words)
    return path


@pytest.mark.parametrize(
    ("kind", "words", "call"),
    [
        (InvalidInput, "weights of world 'cogvideox': given None", lambda f: load_world("cogvideox")),
        (BadFile, "no such folder", lambda f: load_world("cogvideox", weights=f / "nowhere")),
        (BadFile, "is a file; the weights of world 'cogvideox' are a folder", lambda f: load_file(f)),
        (BadFile, "not a CogVideoX folder", lambda f: load_world("cogvideox", weights=f)),
        (BadFile, "neither world.json nor transformer/config.json", lambda f: load_world(f)),
        (BadFile, "world.json: is not JSON", lambda f: load_world(text(f, "{"))),
        (BadFile, "field 'world' is None", lambda f: load_world(text(f, "[]"))),
        (BadFile, "world.json: is not JSON", lambda f: read_header(text(f, "{"))),
        (BadFile, "is a list, expected an object", lambda f: read_header(text(f, "[]"))),
        (UnknownName, "unknown world 'cog'", lambda f: load_world(headed(f, world="cog"))),
        (BadFile, "fields 'world' and 'format'", lambda f: load_world(headed(f, format=2))),
        (BadFile, "field 'sise' is unknown; known are", lambda f: load_world(headed(f, sise=3))),
        (BadFile, "setting of a CogVideoX world 'step'. Did", lambda f: load_world(headed(f, settings={"step": 3}))),
        (BadFile, "steps of a CogVideoX world: given 0", lambda f: load_world(headed(f, settings={"steps": 0}))),
        (BadFile, "'int' object is not iterable", lambda f: load_world(headed(f, size=3))),
        (BadFile, "control: given ../up, expected the name", lambda f: load_world(headed(f, control="../up"))),
        (BadFile, "pickle form are refused", lambda f: load_world(pickled(f))),
        (BadFile, "no such weights file", lambda f: load_world(headed(f))),
        (UnknownName, "dtype of the weights 'float8'", lambda f: load_world(headed(f), dtype="float8")),
        (InvalidInput, "offload: given 'disk'", lambda f: load_world("cogvideox", weights=f, offload="disk")),
        (InvalidInput, "offload: given 'model', .* on the CPU", lambda f: load_world(headed(f), offload="model")),
        (UnknownName, "option of world 'cogvideox' 'step'", lambda f: load_world("cogvideox", weights=f, step=3)),
        (UnknownName, "mode of a CogVideoX world 'steam'. Did you mean 'stream'", lambda f: tiny_world(mode="steam")),
        (UnknownName, "solver 'euler'", lambda f: tiny_world(solver="euler")),
        (InvalidInput, "rows_at_once of a CogVideoX world: given 0", lambda f: tiny_world(rows_at_once=0)),
        (InvalidInput, "keep_first of a CogVideoX world: given 1", lambda f: tiny_world(keep_first=1)),
        (InvalidInput, "guidance of text: given 101", lambda f: tiny_world(guidance=101)),
        (InvalidInput, "guidance of control: given 2.0", lambda f: tiny_world(told=False, control_guidance=2.0)),
        (InvalidInput, "size of a CogVideoX world: .*multiples of 16", lambda f: tiny_world(size=(48, 40))),
        (InvalidInput, "codec: given 4 latent channels, expected 8", lambda f: tiny_world(codec=TinyCodec(4))),
        (InvalidInput, "text encoder: given 5 tokens of width 8", lambda f: tiny_world(text=HashedWords(5, 8))),
        (Unsupported, "a CogVideoX with 3 condition channels", lambda f: tiny_world(backbone=odd_backbone())),
        (Unsupported, "ran out of memory on cpu", lambda f: dreamt(tiny_world(codec=Shouting(8)))),
    ],
)  # fmt: skip
def test_bad_input_is_named(
    tmp_path: Path, kind: type[VAPSimError], words: str, call: Callable[[Path], object]
) -> None:
    with pytest.raises(kind, match=words):
        call(tmp_path)


def load_file(path: Path) -> object:
    (path / "weights.bin").write_bytes(b"?")
    return load_world("cogvideox", weights=path / "weights.bin")


def odd_backbone() -> Backbone:
    config = tiny_config(latent_channels=8, blocks=1, heads=2, size=(4, 6), text_length=4, text_width=8)
    return Backbone(build_transformer(ModelConfig({**config.transformer, "in_channels": 11})))


def test_offload_is_for_devices() -> None:
    check_offload(None, torch.device("cpu"))
    check_offload("sequential", torch.device("cuda"))


def test_the_environment_dreams_with_it(tmp_path: Path) -> None:
    """Five pictures a second, four to a step of the model; states fork, and rows equal single environments."""
    backbone = tiny_backbone()
    head = replace(HEAD, size=(128, 128), profile=None, control="control", settings={"steps": 1, "history": 1})
    save_world(tmp_path, backbone, head)
    control = SkeletonControl(backbone, blocks=1, channels=4, width=8)
    with torch.no_grad():
        for value in control.parameters():
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(2)) * 0.05)
    save_control(tmp_path / "control", backbone, control, profile="vap")
    given: dict[str, Any] = {"world": "cogvideox", "weights": tmp_path, "control_hz": 1.25, "video_hz": 5.0}
    env: Any = gymnasium.make("VAPWorld-DROID-v0", **given).unwrapped
    rows = gymnasium.make_vec("VAPWorld-DROID-v0", num_envs=2, **given)
    rows.reset(seed=3)
    env.reset(seed=4)
    actions = np.random.default_rng(0).uniform(-0.2, 0.2, (2, 2, 8)).astype(np.float32)
    states, films = [], []
    for action in actions:
        states.append(env.get_state())
        together, alone = rows.step(action)[0], env.step(action[1])
        assert np.array_equal(together["image"][1], alone[0]["image"])
        assert alone[4]["world"] == "cogvideox"
        films.append(alone[0]["image"])
    env.set_state(states[1])
    assert np.array_equal(env.step(actions[1][1])[0]["image"], films[1])
    env.set_state(states[1])
    assert not np.array_equal(env.step(-actions[1][1])[0]["image"], films[1])
    slow: Any = gymnasium.make("VAPWorld-DROID-v0", **{**given, "control_hz": 5.0}).unwrapped
    slow.reset(seed=4)
    news = [slow.step(np.zeros(8, np.float32))[4]["new_frame"] for _ in range(4)]
    assert news == [False, False, False, True]
