"""Worlds whose conditioners are named: by their folder, by the caller, or by a released folder; and what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.cogvideox.control_tools import wake
from tests.models.cogvideox.worlds import tiny_backbone, tiny_parts
from vap_sim.errors import BadFile, InvalidInput, UnknownName, Unsupported, VAPSimError
from vap_sim.models.cogvideox.control_form import save_control
from vap_sim.models.cogvideox.loading import HEADER, Header, brings, save_world
from vap_sim.models.cogvideox.skeleton_control import SkeletonControl
from vap_sim.models.cogvideox.world import CogVideoXWorld
from vap_sim.models.conditioners.action_prism import ActionPrism
from vap_sim.models.conditioners.action_prism_file import save_action_prism
from vap_sim.models.conditioners.flexiact import FlexiAct
from vap_sim.models.conditioners.flexiact_adapter import RefAdapter, adapter_weights
from vap_sim.models.conditioners.flexiact_files import save_adapter, save_motions
from vap_sim.models.conditioners.opening import SYSTEMS, system_in
from vap_sim.models.conditioners.video_as_prompt import VideoAsPrompt
from vap_sim.models.conditioners.video_as_prompt_file import save_video_as_prompt
from vap_sim.models.conditioners.video_as_prompt_released import save_released
from vap_sim.models.registry import load_world
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt

HEAD = Header((48, 32), 5.0, None, 9, 8, True, None, {"mode": "chunk", "chunk": 9, "steps": 2, "guidance": 1.0})
MOTION = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(4))


def shelf(folder: Path) -> Path:
    """A tiny world without conditioners, and the weights of all four beside it; the folder to open is its `world`."""
    backbone = tiny_backbone()
    save_world(folder / "world", backbone, HEAD)
    save_control(folder / "control", backbone, control(backbone), profile="depth")
    save_action_prism(folder / "prism.safetensors", prism(backbone))
    save_video_as_prompt(folder / "expert.safetensors", expert(backbone))
    save_motions(folder / "wave.safetensors", {"wave": MOTION})
    save_motions(folder / "bow.safetensors", {"bow": -2 * MOTION})
    save_released(folder / "released", backbone, expert(backbone))
    save_adapter(folder / "adapter.safetensors", adapter())
    for name in ("prism.pt", "expert.bin"):
        torch.save({"weight": torch.zeros(1)}, folder / name)
    return folder


def control(backbone: Any) -> SkeletonControl:
    return wake(SkeletonControl(backbone, blocks=1, channels=4, width=8))


def prism(backbone: Any) -> ActionPrism:
    return wake(ActionPrism(backbone, preset="tiny", blocks=(0, 1)))


def expert(backbone: Any) -> VideoAsPrompt:
    return wake(VideoAsPrompt(backbone, blocks="first_and_last"))


def adapter() -> RefAdapter:
    backbone = tiny_backbone()
    undo = RefAdapter(rank=2, weight=1.0).install(backbone)
    weights = {name: torch.randn(value.shape, generator=torch.Generator().manual_seed(8)) / 4
               for name, value in adapter_weights(backbone).items()}  # fmt: skip
    undo()
    return RefAdapter(weights, rank=2, weight=1.0)


@pytest.fixture(scope="module", name="files")
def _files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shelf(tmp_path_factory.mktemp("shelf"))


def loaded(files: Path, **conditioners: Any) -> CogVideoXWorld:
    return CogVideoXWorld.load(files / "world", conditioners=conditioners)


def dreamt(world: CogVideoXWorld, *, shown: bool = True, motion: tuple[str, ...] = ("wave",)) -> Tensor:
    """Eight pictures from one start, told everything."""
    source = torch.Generator().manual_seed(1)
    drawn = torch.randint(0, 256, (1, 1, 9, 32, 48, 3), dtype=torch.uint8, generator=source)
    film = torch.randint(0, 256, (1, 17, 32, 48, 3), dtype=torch.uint8, generator=source)
    prompt = VisualPrompt(drawn[:, :, :1], reference=ReferenceClip(film, ("a push",)) if shown else None, motion=motion)
    state = world.encode(film[:, None, 0], prompt, [3])
    return world.step(state, VisualPrompt(drawn[:, :, 1:]))[1]


def near(one: Tensor, other: Tensor) -> bool:
    return int((one.int() - other.int()).abs().max()) <= 1


def test_weights_of_all_are_known_by_what_they_hold(files: Path) -> None:
    held = {"control": SYSTEMS[0], "prism.safetensors": SYSTEMS[1], "expert.safetensors": SYSTEMS[2],
            "released": SYSTEMS[2], "wave.safetensors": SYSTEMS[3], "adapter.safetensors": SYSTEMS[3],
            "released/transformer/diffusion_pytorch_model.safetensors": SYSTEMS[2]}  # fmt: skip
    assert {name: system_in(files / name) for name in held} == held
    assert [system_in(files / name) for name in ("world", "prism.pt", "nothing.safetensors")] == [None] * 3


def test_named_conditioners_are_those_that_were_saved(files: Path) -> None:
    backbone = tiny_backbone()
    flexi = FlexiAct(backbone, {"wave": 3})
    with torch.no_grad():
        flexi.tokens.of("wave").copy_(MOTION)
    made = {SYSTEMS[0]: control(backbone), SYSTEMS[1]: prism(backbone), SYSTEMS[2]: expert(backbone), SYSTEMS[3]: flexi}
    named = dict(zip(SYSTEMS, ("control", "prism.safetensors", "expert.safetensors", "wave.safetensors"), strict=True))
    bare = dreamt(CogVideoXWorld.load(files / "world"))
    for name in SYSTEMS:
        world = loaded(files, **{name: files / named[name]})
        same = tiny_parts(mode="chunk", backbone=tiny_backbone(), conditioners=(made[name],))
        film = dreamt(world)
        assert near(film, dreamt(CogVideoXWorld(same))) and not near(film, bare), name
        assert not any(value.requires_grad for value in world.parts.conditioners[0].parameters())
        assert world.spec.profile == ("depth" if name == SYSTEMS[0] else "skeleton")
        assert world.spec.reads_reference == (name in SYSTEMS[1:3])
        assert world.spec.motions == (("wave",) if name == SYSTEMS[3] else ())
    together = loaded(files, **{name: files / named[name] for name in reversed(SYSTEMS)})
    assert [type(one) for one in together.parts.conditioners] == [type(made[name]) for name in SYSTEMS]
    given = CogVideoXWorld.load(files / "world", conditioners={name: made[name] for name in SYSTEMS})
    assert near(dreamt(together), dreamt(given))


def test_a_folder_names_its_own_and_the_caller_decides(files: Path, tmp_path: Path) -> None:
    backbone = tiny_backbone()
    named = {"action_prism": {"weights": "p.safetensors", "scale": 0.5}, "flexiact": ["w.safetensors", "b.safetensors"]}
    save_world(tmp_path, backbone, replace(HEAD, conditioners=named, control="control"))
    for source, name in (("prism", "p"), ("wave", "w"), ("bow", "b")):
        (tmp_path / f"{name}.safetensors").write_bytes((files / f"{source}.safetensors").read_bytes())
    save_control(tmp_path / "control", backbone, control(backbone), profile="depth")
    kinds = [SkeletonControl, ActionPrism, FlexiAct]
    world = load_world(tmp_path)
    assert isinstance(world, CogVideoXWorld)
    assert [type(one) for one in world.parts.conditioners] == kinds and world.spec.motions == ("wave", "bow")
    assert world.parts.conditioners[1].scale == 0.5
    weak = CogVideoXWorld.load(tmp_path, conditioners={"action_prism": {"scale": 0.2}})
    assert weak.parts.conditioners[1].scale == 0.2 and len(weak.parts.conditioners) == 3
    assert brings(tmp_path) == (SYSTEMS[0], SYSTEMS[1], SYSTEMS[3]) and brings(files / "world") == ()
    without = CogVideoXWorld.load(tmp_path, conditioners={"action_prism": False, "flexiact": None})
    assert [type(one) for one in without.parts.conditioners] == [kinds[0], kinds[2]]
    other = CogVideoXWorld.load(tmp_path, conditioners={"flexiact": files / "wave.safetensors"})
    assert other.spec.motions == ("wave",) and len(other.parts.conditioners) == 3
    assert [type(one) for one in CogVideoXWorld.load(tmp_path, conditioners=False).parts.conditioners] == kinds[:1]
    assert CogVideoXWorld.load(tmp_path, control=False, conditioners=False).parts.conditioners == ()


def test_strengths_are_told_and_are_part_of_what_a_state_is_of(files: Path) -> None:
    bare = dreamt(CogVideoXWorld.load(files / "world"))
    for name, weights in zip(SYSTEMS, ("control", "prism.safetensors", "expert.safetensors", "wave.safetensors"),
                             strict=True):  # fmt: skip
        worlds = [loaded(files, **{name: {"weights": files / weights, "scale": scale}}) for scale in (0, 0.5, 1.0)]
        films = [dreamt(world) for world in worlds]
        assert torch.equal(films[0], bare), name
        assert not torch.equal(films[0], films[1]) and not torch.equal(films[1], films[2]), name
        assert len({world.fingerprint for world in worlds}) == 3, name


def test_an_adapter_becomes_part_of_the_weights(files: Path) -> None:
    motion = {"weights": files / "wave.safetensors", "adapter": files / "adapter.safetensors", "weight": 1.0}
    worn = loaded(files, flexiact=motion)
    backbone = tiny_backbone()
    conditioner = FlexiAct(backbone, {"wave": 3}, adapter=adapter())
    with torch.no_grad():
        conditioner.tokens.of("wave").copy_(MOTION)
    same = CogVideoXWorld(tiny_parts(mode="chunk", backbone=backbone, conditioners=(conditioner,)))
    assert near(dreamt(worn), dreamt(same)) and not near(
        dreamt(worn), dreamt(loaded(files, flexiact=motion["weights"]))
    )
    silent = loaded(files, flexiact={**motion, "scale": 0.0})
    assert torch.equal(dreamt(silent), dreamt(CogVideoXWorld.load(files / "world")))


def test_a_released_folder_is_a_world_with_its_expert(files: Path, tmp_path: Path) -> None:
    backbone = tiny_backbone()
    save_released(tmp_path, backbone, expert(backbone))
    told = {"size": (48, 32), "tiny_codec": 8, "hashed_words": True, "settings": {"steps": 2, "guidance": 1.0}}
    (tmp_path / HEADER).write_text(json.dumps({"world": "cogvideox", "format": 1, **told}))
    world = CogVideoXWorld.load(tmp_path, chunk=9)
    assert world.settings.mode == "chunk" and world.spec.reads_reference and brings(tmp_path) == SYSTEMS[2:3]
    weak = CogVideoXWorld.load(tmp_path, chunk=9, conditioners={"video_as_prompt": {"scale": 0.5}})
    assert weak.parts.conditioners[0].scale == 0.5 and weak.fingerprint != world.fingerprint
    assert near(dreamt(world), dreamt(loaded(files, video_as_prompt=files / "expert.safetensors")))
    bare = CogVideoXWorld.load(tmp_path, chunk=9, conditioners={"video_as_prompt": False})
    assert near(dreamt(bare), dreamt(CogVideoXWorld.load(files / "world")))
    with pytest.raises(Unsupported, match="VideoAsPrompt in stream mode"):
        CogVideoXWorld.load(tmp_path, mode="stream")


BOTH = "; both papers are called VAP"


@pytest.mark.parametrize(
    ("kind", "words", "given"),
    [
        (BadFile, f"control: holds a control of Visual Action Prompts, expected an expert of Video-As-Prompt{BOTH}",
         {"video_as_prompt": "control"}),
        (BadFile, f"holds an expert of Video-As-Prompt, expected a control of Visual Action Prompts{BOTH}",
         {"skeleton_control": "expert.safetensors"}),
        (BadFile, f"holds an expert of Video-As-Prompt, expected a control of Visual Action Prompts{BOTH}",
         {"skeleton_control": "released"}),
        (BadFile, "wave.safetensors: holds FlexiAct, expected an action prism (AICL)",
         {"action_prism": "wave.safetensors"}),
        (BadFile, "holds an expert of Video-As-Prompt, expected an action prism",
         {"action_prism": "released/transformer/diffusion_pytorch_model.safetensors"}),
        (BadFile, "released: is a released folder, with the backbone of its expert in it",
         {"video_as_prompt": "released"}),
        (BadFile, "prism.pt: is a pickle file", {"action_prism": "prism.pt"}),
        (BadFile, "expert.bin: is a pickle file", {"video_as_prompt": "expert.bin"}),
        (BadFile, "is not a FlexiAct motion for this backbone", {"flexiact": "prism.pt"}),
        (BadFile, "none.safetensors: no such weights file", {"action_prism": "none.safetensors"}),
        (BadFile, "holds a RefAdapter, expected learned motions", {"flexiact": "adapter.safetensors"}),
        (UnknownName, "unknown conditioner 'action_prsim'. Did you mean 'action_prism'?", {"action_prsim": "x"}),
        (UnknownName, "unknown setting of conditioner 'action_prism' 'sclae'. Did you mean 'scale'?",
         {"action_prism": {"weights": "prism.safetensors", "sclae": 2}}),
        (InvalidInput, "conditioner 'flexiact': given {'scale': 1}, expected also 'weights'",
         {"flexiact": {"scale": 1}}),
        (InvalidInput, "scale of a conditioner: given -1", {"flexiact": {"weights": "wave.safetensors", "scale": -1}}),
        (InvalidInput, "weights of conditioner 'action_prism': given ['", {"action_prism": ["a", "b"]}),
        (InvalidInput, "weights of conditioner 'action_prism': given [], expected a path", {"action_prism": []}),
        (InvalidInput, "given True, expected a path, paths, or a conditioner", {"action_prism": {"weights": True}}),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(files: Path, kind: type[VAPSimError], words: str, given: dict[str, Any]) -> None:
    def placed(told: Any) -> Any:
        if isinstance(told, dict):
            return {name: placed(value) if name == "weights" else value for name, value in told.items()}
        return [files / one for one in told] if isinstance(told, list) else told if told is True else files / told

    with pytest.raises(kind, match=re.escape(words)):
        loaded(files, **{name: placed(told) for name, told in given.items()})


def test_what_cannot_stand_together_is_named(files: Path) -> None:
    with pytest.raises(InvalidInput, match="None, because conditioners have a 'skeleton_control'"):
        CogVideoXWorld.load(files / "world", control=files / "control", conditioners={"skeleton_control": "x"})
    with pytest.raises(InvalidInput, match="conditioners that bring a second stream"):
        experts = {name: expert(tiny_backbone()) for name in ("action_prism", "video_as_prompt")}
        CogVideoXWorld.load(files / "world", conditioners=experts)
    with pytest.raises(InvalidInput, match="conditioners: given prism, expected a mapping"):
        CogVideoXWorld.load(files / "world", conditioners="prism")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="at most 'scale': it is already made"):
        open_one = {"weights": prism(tiny_backbone()), "alpha": 1.0}
        CogVideoXWorld.load(files / "world", conditioners={"action_prism": open_one})


def test_weights_of_another_width_are_named(files: Path, tmp_path: Path) -> None:
    save_world(tmp_path, tiny_backbone(blocks=3), HEAD)
    for name, place in (("action_prism", "prism"), ("video_as_prompt", "expert"), ("flexiact", "wave")):
        with pytest.raises(InvalidInput, match=r"blocks of the backbone for .* given 3, expected 2, as it was trained"):
            CogVideoXWorld.load(tmp_path, conditioners={name: files / f"{place}.safetensors"})


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"action_prism": "../p.safetensors"}, "names of files inside this folder"),
        ({"action_prism": {"weights": "/p.safetensors"}}, "names of files inside this folder"),
        ({"flexiact": {"weights": "w", "adapter": "a/b"}}, "names of files inside this folder"),
        ({"flexiact": []}, "names of files inside this folder"),
        ({"skeleton_control": "control"}, "the field 'control' names a folder's control"),
        ({"prism": "p"}, "unknown conditioner 'prism'"),
        (["p.safetensors"], "an object from systems to names of files"),
    ],
)
def test_a_header_that_leaves_its_folder_is_refused(told: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(VAPSimError, match=words):
        save_world(tmp_path, tiny_backbone(), replace(HEAD, conditioners=told))
    save_world(tmp_path, tiny_backbone(), HEAD)
    values = json.loads((tmp_path / HEADER).read_text())
    (tmp_path / HEADER).write_text(json.dumps({**values, "conditioners": told}))
    with pytest.raises(BadFile, match=words):
        CogVideoXWorld.load(tmp_path)
