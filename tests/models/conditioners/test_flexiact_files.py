"""Motions and adapters on disk: ours and the released ones load to the same, and all that is wrong is named."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.cogvideox.conftest import small_backbone
from tests.models.cogvideox.control_tools import CODEC, noised, small_control
from tests.models.conditioners.flexiact_tools import COUNTS, small_flexiact, told
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.checkpoint import save_tensors
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.control_form import FILE, save_control
from vap_sim.models.conditioners.flexiact import FlexiAct
from vap_sim.models.conditioners.flexiact_adapter import RefAdapter
from vap_sim.models.conditioners.flexiact_files import (
    load_adapter,
    load_flexiact,
    load_motions,
    save_adapter,
    save_motions,
)
from vap_sim.models.conditioners.flexiact_released import adapter_names

pytest.importorskip("peft")
Change = Callable[[dict[str, Any]], object]
BLOCKS, WIDTH, RANK = 3, 32, 4
V1 = "transformer_blocks.1.attn1.processor."


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """Do not change it."""
    return small_backbone().requires_grad_(False)


def released(kind: str, width: int = WIDTH, blocks: int = BLOCKS, count: int = 6) -> dict[str, Tensor]:
    """Tensors in the exact layout that FlexiAct's authors released, with random values."""
    source, found = torch.Generator().manual_seed(2), {}
    for block in range(blocks):
        place = f"transformer_blocks.{block}.attn1.processor"
        if kind == "motion":
            found[f"{place}.motion_inversion_tokens"] = torch.randn(1, count, width, generator=source)
            continue
        for layer in ("lora_q", "lora_k", "lora_v", "lora_proj"):
            found[f"{place}.{layer}.down.weight"] = torch.randn(RANK, width, generator=source)
            found[f"{place}.{layer}.up.weight"] = torch.randn(width, RANK, generator=source) * 0.1
    return found


def written(path: Path, tensors: Any) -> Path:
    torch.save(tensors, path)
    return path


def test_the_released_layout_has_the_published_names() -> None:
    names = adapter_names(42)
    assert len(names) == 336 and len(set(names.values())) == 336
    assert names["transformer_blocks.41.attn1.processor.lora_proj.up.weight"] == (
        "transformer_blocks.41.attn1.to_out.0.lora_B.weight"
    )
    assert names.keys() >= released("adapter").keys() and len(released("motion")) == BLOCKS


# Load, save, load


def test_a_released_motion_is_the_same_after_saving(backbone: Backbone, tmp_path: Path) -> None:
    path = written(tmp_path / "wave.pt", released("motion"))
    found = load_motions(path, backbone)
    assert list(found) == ["wave"] and found["wave"].shape == (BLOCKS, 6, WIDTH)
    assert torch.equal(found["wave"][1], released("motion")[f"{V1}motion_inversion_tokens"][0])
    save_motions(tmp_path / "ours.safetensors", found)
    again = load_motions(tmp_path / "ours.safetensors", backbone)
    assert again.keys() == found.keys() and torch.equal(again["wave"], found["wave"])
    for file in (path, tmp_path / "ours.safetensors"):
        assert list(load_motions(file, backbone, "hello")) == ["hello"]


@torch.no_grad()
def test_a_released_adapter_is_the_same_after_saving(tmp_path: Path) -> None:
    backbone, low = small_backbone().requires_grad_(False), released("adapter")
    path = written(tmp_path / "refnetlora.pt", {name: value.bfloat16() for name, value in low.items()})
    one = load_adapter(path, backbone)
    assert (one.rank, one.alpha, one.weight) == (RANK, 32.0, 0.7) and one.weights is not None
    save_adapter(tmp_path / "ours.safetensors", one)
    again = load_adapter(tmp_path / "ours.safetensors", backbone)
    assert again.weights is not None and again.weights.keys() == one.weights.keys()
    assert all(torch.equal(again.weights[name], value) for name, value in one.weights.items())
    assert (again.rank, again.alpha, again.weight) == (RANK, 32.0, 0.7)
    attention, bare = backbone.blocks[1].attn1, small_backbone().blocks[1].attn1
    shown = torch.randn(1, 3, WIDTH, generator=torch.Generator().manual_seed(1))
    undo = again.install(backbone)
    for layer, name in (("to_v", "lora_v"), ("to_out.0", "lora_proj")):
        down, up = (low[f"{V1}{name}.{side}.weight"].bfloat16().float() for side in ("down", "up"))
        expected = bare.get_submodule(layer)(shown) + 0.7 * 32 / RANK * shown @ down.T @ up.T
        torch.testing.assert_close(attention.get_submodule(layer)(shown), expected, rtol=0, atol=1e-4)
    undo()


@torch.no_grad()
def test_everything_at_once(tmp_path: Path) -> None:
    backbone = small_backbone().requires_grad_(False)
    one = small_flexiact(backbone)
    save_motions(tmp_path / "a.safetensors", {name: one.tokens.of(name) for name in ("wave", "turn")}, {"steps": 3})
    save_motions(tmp_path / "b.safetensors", {"lift": one.tokens.of("lift")})
    adapter = written(tmp_path / "refnetlora.pt", released("adapter"))
    both = load_flexiact(
        backbone, [tmp_path / "a.safetensors", tmp_path / "b.safetensors"], adapter, weight=0.2, fused=True, alpha=2.0
    )
    assert both.motions == ("wave", "turn", "lift") and not any(value.requires_grad for value in both.parameters())
    assert isinstance(both.adapter, RefAdapter) and (both.adapter.weight, both.adapter.fused) == (0.2, True)
    assert both.bias.alpha == 2.0 and both.settings["motions"] == {name: COUNTS[name] for name in both.motions}
    found, given = both.inject(both.prepare(told("lift"), CODEC), noised()), noised()
    expected = one.inject(one.prepare(told("lift"), CODEC), given)
    assert all(torch.equal(found.tokens[block], value) for block, value in expected.tokens.items())
    with pytest.raises(
        InvalidInput, match=r"motion of .*b\.safetensors: given lift, expected a name that none of the f"
    ):
        load_flexiact(backbone, [tmp_path / "b.safetensors", tmp_path / "b.safetensors"])
    with pytest.raises(InvalidInput, match=r"name of the motion in .*: given x, expected none: it holds"):
        load_motions(tmp_path / "a.safetensors", backbone, "x")


# What is wrong is named


def refused(path: Path, load: Callable[..., object], backbone: Backbone) -> str:
    with pytest.raises(BadFile) as caught:
        load(path, backbone)
    assert str(caught.value).startswith(str(path))
    return caught.value.problem


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("motion", lambda t: t.pop(f"{V1}motion_inversion_tokens"), [f"1 tensor is missing: {V1}motion_inversion_t"]),
        ("motion", lambda t: t.update({"more": torch.zeros(1)}), ["1 tensor is unknown: more"]),
        ("adapter", lambda t: t.pop(f"{V1}lora_q.up.weight"), [f"1 tensor is missing: {V1}lora_q.up.weight"]),
        (
            "adapter",
            lambda t: (
                t.pop(f"{V1}lora_v.down.weight"),
                t.pop(f"{V1}lora_k.down.weight"),
                t.update(extra=torch.ones(2)),
            ),
            [f"2 tensors are missing: {V1}lora_k.down.weight, {V1}lora_v.down.weight", "1 tensor is unknown: extra"],
        ),
        (
            "adapter",
            lambda t: t.update({f"{V1}lora_q.up.weight": torch.zeros(WIDTH, 5)}),
            [f"1 tensors do not fit the backbone, the first {V1}lora_q.up.weight: (32, 5), expected (32, 4)"],
        ),
        ("motion", lambda t: t.update({f"{V1}motion_inversion_tokens": 3}), ["is a int, expected a tensor"]),
        (
            "motion",
            lambda t: t.update({f"{V1}motion_inversion_tokens": torch.zeros(1, 6, 32, dtype=torch.int64)}),
            ["is torch.int64 torch.strided, expected plain floats"],
        ),
    ],
)
def test_each_tensor_that_is_wrong_is_named(
    kind: str, change: Change, words: list[str], backbone: Backbone, tmp_path: Path
) -> None:
    tensors: dict[str, Any] = released(kind)
    change(tensors)
    problem = refused(written(tmp_path / "x.pt", tensors), LOADERS[kind], backbone)
    assert all(one in problem for one in words), problem


LOADERS: dict[str, Callable[..., object]] = {"motion": load_motions, "adapter": load_adapter}


@pytest.mark.parametrize("kind", ["motion", "adapter"])
def test_weights_of_another_size_are_named(kind: str, backbone: Backbone, tmp_path: Path) -> None:
    wide = refused(written(tmp_path / "w.pt", released(kind, width=48)), LOADERS[kind], backbone)
    assert "48" in wide and "32" in wide and f"{3 if kind == 'motion' else 24} tensors do not fit the backbone" in wide
    long = refused(written(tmp_path / "l.pt", released(kind, blocks=5)), LOADERS[kind], backbone)
    assert "it is of 5 blocks, the backbone has 3" in long
    assert "transformer_blocks.3.attn1" in long and "transformer_blocks.4.attn1" in long


def test_what_a_file_holds_instead_is_said(backbone: Backbone, tmp_path: Path) -> None:
    motion, adapter = (written(tmp_path / f"{kind}.pt", released(kind)) for kind in ("motion", "adapter"))
    assert (
        refused(adapter, load_motions, backbone) == "holds weights of FlexiAct's RefAdapter, expected a FlexiAct motion"
    )
    assert (
        refused(motion, load_adapter, backbone) == "holds weights of a FlexiAct motion, expected FlexiAct's RefAdapter"
    )
    other = written(tmp_path / "v.pt", {"transformer_blocks.0.attn1_mot_ref.to_q.weight": torch.zeros(2, 2)})
    assert "holds weights of Video-As-Prompt" in refused(other, load_motions, backbone)
    assert "AICL" in refused(written(tmp_path / "e.pt", {"module": {"a": torch.zeros(1)}}), load_adapter, backbone)
    for number, system in enumerate(("video_as_prompt", "action_prism")):
        path = tmp_path / f"{number}.safetensors"
        save_tensors(path, {"a": torch.zeros(1)}, {"system": system})
        assert (
            refused(path, load_motions, backbone) == f"holds weights of {system}, expected learned motions of flexiact"
        )
    save_control(tmp_path / "c", backbone, small_control(backbone), profile="vap")
    found = refused(tmp_path / "c" / FILE, load_adapter, backbone)
    assert found == "holds weights of visual_action_prompt, expected a RefAdapter of flexiact"
    save_motions(tmp_path / "m.safetensors", {"wave": torch.zeros(3, 2, 32)})
    assert refused(tmp_path / "m.safetensors", load_adapter, backbone) == "holds learned motions, expected a RefAdapter"


class Evil:
    """Runs something when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (Path.touch, (Path("touched"),))  # type: ignore[return-value]


def test_code_in_a_file_is_not_run(backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "evil.pt", {f"{V1}motion_inversion_tokens": Evil()})
    for load in LOADERS.values():
        assert "cannot be opened with weights_only=True, and is not opened otherwise" in refused(path, load, backbone)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damage_is_named(suffix: str, backbone: Backbone, tmp_path: Path) -> None:
    path = tmp_path / f"m{suffix}"
    if suffix == ".pt":
        written(path, released("motion"))
    else:
        save_motions(path, {"wave": torch.ones(3, 2, 32)})
    whole = path.read_bytes()
    for content in (b"", b"junk" * 50, whole[: len(whole) // 2], whole[:-7]):
        path.write_bytes(content)
        for load in LOADERS.values():
            refused(path, load, backbone)
    path.unlink()
    assert refused(path, load_motions, backbone) == "no such weights file"
    path.mkdir()
    assert refused(path, load_motions, backbone) == "no such weights file"


def test_what_is_packed_or_no_tensors_is_refused(backbone: Backbone, tmp_path: Path) -> None:
    path = written(tmp_path / "m.pt", released("motion"))
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for one in old.infolist():
            new.writestr(one.filename, old.read(one))
    assert "is packed" in refused(packed, load_motions, backbone)
    for values in ({}, [torch.zeros(1)], torch.zeros(1)):
        assert "of no tensors, expected" in refused(written(tmp_path / "n.pt", values), load_motions, backbone)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"format": 2}, "field 'format' of its header is 2, expected 1"),
        ({"tokens": None}, "field 'tokens' of its header is None"),
        ({"tokens": {"wave": 3}}, r"tensor 'wave' is torch.float32 (3, 2, 32), expected floats (3, 3, 32)"),
        ({"tokens": {"lift": 2}}, "1 tensor is missing: lift; 1 tensor is unknown: wave"),
        ({"part": "things"}, "holds 'things', expected learned motions"),
    ],
)
def test_headers_that_lie_are_named(header: dict[str, Any], words: str, backbone: Backbone, tmp_path: Path) -> None:
    plain = {"system": "flexiact", "part": "motions", "format": 1, "blocks": 3, "width": 32, "tokens": {"wave": 2}}
    save_tensors(tmp_path / "m.safetensors", {"wave": torch.zeros(3, 2, 32)}, {**plain, **header})
    assert words in refused(tmp_path / "m.safetensors", load_motions, backbone)


def test_adapters_that_lie_are_named(backbone: Backbone, tmp_path: Path) -> None:
    one = load_adapter(written(tmp_path / "a.pt", released("adapter")), backbone)
    assert one.weights is not None
    plain = {"system": "flexiact", "part": "adapter", "format": 1, "blocks": 3, "width": 32, "rank": 4, "alpha": 32.0}
    for change, words in (
        ({"rank": 5}, "expected floats (5, 32)"),
        ({"rank": "4"}, "fields 'rank' and 'alpha' of its header describe no adapter"),
        ({"alpha": 0}, "fields 'rank' and 'alpha' of its header describe no adapter"),
        ({"rank": None}, "describe no adapter"),
    ):
        save_tensors(tmp_path / "a.safetensors", dict(one.weights), {**plain, **change})
        assert words in refused(tmp_path / "a.safetensors", load_adapter, backbone)
    with pytest.raises(InvalidInput, match="weights of the adapter to save: given None"):
        save_adapter(tmp_path / "b.safetensors", RefAdapter())


def test_other_backbones_are_refused(backbone: Backbone, tmp_path: Path) -> None:
    save_motions(tmp_path / "m.safetensors", {"wave": torch.zeros(3, 2, 48)})
    with pytest.raises(InvalidInput, match=r"width of the backbone for .*: given 32, expected 48, as it was trained"):
        load_motions(tmp_path / "m.safetensors", backbone)
    save_motions(tmp_path / "m.safetensors", {"wave": torch.zeros(4, 2, 32)})
    with pytest.raises(InvalidInput, match=r"blocks of the backbone for .*: given 3, expected 4"):
        load_motions(tmp_path / "m.safetensors", backbone)


@pytest.mark.parametrize(
    ("motions", "words"),
    [
        ({}, "motions to save: given {}"),
        ({"wave": torch.zeros(3, 32)}, r"motions to save: given {'wave': \(3, 32\)}"),
        ({"wave": torch.zeros(3, 2, 32), "lift": torch.zeros(3, 2, 16)}, "of the same blocks and D"),
        ({"a/b": torch.zeros(3, 2, 32)}, "name of a motion: given 'a/b'"),
    ],
)
def test_what_cannot_be_saved_is_named(motions: dict[str, Tensor], words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=words):
        save_motions(tmp_path / "m.safetensors", motions)
    assert not list(tmp_path.iterdir())


def test_a_file_whose_name_cannot_be_told_asks_for_one(backbone: Backbone, tmp_path: Path) -> None:
    path = written(tmp_path / "my wave.pt", released("motion"))
    with pytest.raises(InvalidInput, match="name of a motion: given 'my wave'"):
        load_motions(path, backbone)
    assert isinstance(load_flexiact(backbone), FlexiAct)
