"""Consistency of looks and likeness to text by CLIP: laws on a tiny CLIP, and named errors for its files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vap_sim.errors import BadFile, InvalidInput
from vap_sim.metrics.clip_network import ClipNetwork
from vap_sim.metrics.likeness import appearance_consistency, temporal_consistency, text_similarity
from vap_sim.metrics.local_files import read_local
from vap_sim.metrics.report import Clips, figure

transformers: Any = pytest.importorskip("transformers")
LETTERS = [chr(code) for code in range(33, 127)]
SPECIAL = ["<|startoftext|>", "<|endoftext|>"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with random weights that reads letters."""
    place = tmp_path_factory.mktemp("clip")
    words = [*LETTERS, *(letter + "</w>" for letter in LETTERS), *SPECIAL]
    (place / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (place / "merges.txt").write_text("#version: 0.2\n")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    told = {**small, "vocab_size": len(words), "max_position_embeddings": 12}
    told |= {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1}
    config = transformers.CLIPConfig(
        text_config=told, vision_config={**small, "image_size": 16, "patch_size": 8}, projection_dim=8
    )
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        transformers.CLIPModel(config).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def network(folder: Path) -> ClipNetwork:
    return ClipNetwork.load(folder)


@pytest.fixture(scope="module")
def frames() -> Tensor:
    source = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 4, 24, 32, 3), dtype=torch.uint8, generator=source)


def test_the_figures_are_means_of_cosines(network: ClipNetwork, frames: Tensor) -> None:
    seen = torch.stack([network.pictures(clip) for clip in frames])
    told = network.texts(["push it", "lift it"])
    appearance = appearance_consistency(frames, network).values
    temporal = temporal_consistency(frames, network).values
    text = text_similarity(frames, ["push it", "lift it"], network).values
    for row in range(2):
        cosines = seen[row] @ seen[row].T
        assert appearance[row] == pytest.approx(float(cosines[0, 1:].mean()))
        pairs = [float(cosines[i, j]) for i in range(4) for j in range(i)]
        assert temporal[row] == pytest.approx(sum(pairs) / len(pairs))
        assert text[row] == pytest.approx(float((seen[row] @ told[row]).mean()))


def test_a_clip_that_stands_still_looks_like_itself_in_any_order(network: ClipNetwork, frames: Tensor) -> None:
    still = frames[:, :1].expand(-1, 3, -1, -1, -1)
    for measure in (appearance_consistency, temporal_consistency):
        assert measure(still, network).values.tolist() == pytest.approx([1, 1])
    later = frames[:, [0, 3, 1, 2]]
    assert torch.allclose(appearance_consistency(later, network).values, appearance_consistency(frames, network).values)
    mixed = frames[:, [2, 3, 1, 0]]
    assert torch.allclose(temporal_consistency(mixed, network).values, temporal_consistency(frames, network).values)


def test_directions_have_length_one_and_a_row_is_read_as_alone(network: ClipNetwork, frames: Tensor) -> None:
    flat = frames.flatten(0, 1)
    seen = network.pictures(flat, at_once=3)
    assert torch.allclose(seen.norm(dim=1), torch.ones(8, dtype=torch.float64))
    assert torch.allclose(seen[5], network.pictures(flat[5:6])[0], atol=1e-5)
    told = network.texts(["a b", "a b c d e f"])
    assert torch.allclose(told[0], network.texts(["a b"])[0], atol=1e-5)


def test_pictures_are_fitted_as_clip_is_used_to(network: ClipNetwork) -> None:
    """The middle square is what counts, and a picture of the right size is taken as it is."""
    square = torch.randint(0, 256, (1, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    wide = torch.zeros(1, 16, 32, 3, dtype=torch.uint8)
    wide[:, :, 8:24] = square
    assert torch.equal(network.pictures(wide), network.pictures(square))
    model: Any = network._model
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    spread = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    pixels = ((square.float() / 255 - mean) / spread).permute(0, 3, 1, 2)
    features = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output).double()
    assert torch.allclose(network.pictures(square), features / features.norm(), atol=1e-6)


def test_long_texts_are_cut_to_what_the_network_reads(network: ClipNetwork) -> None:
    assert torch.equal(network.texts(["abcdefghijklmnop"]), network.texts(["abcdefghijklmnopqrst"]))


def test_the_figure_names_the_network(network: ClipNetwork, frames: Tensor, folder: Path) -> None:
    about = Clips.of(frames, source="made up", camera="none", frame_rate=5, preprocessing="none", seeds=[0])
    for found in (appearance_consistency(frames, network), text_similarity(frames, ["a", "b"], network)):
        told = figure(found, clips=about, networks=[network.card])
        assert read_local(folder / "model.safetensors").sha256[:12] in str(told) and told.values == 2
        with pytest.raises(InvalidInput, match="networks"):
            figure(found, clips=about)


def test_clips_and_texts_are_checked(network: ClipNetwork, frames: Tensor) -> None:
    for wrong in (frames.float(), frames[0], frames[:, :1]):
        for measure in (appearance_consistency, temporal_consistency):
            with pytest.raises(InvalidInput, match="clips"):
                measure(wrong, network)
    for texts in (["one"], "ab", ["a", "b", "c"]):
        with pytest.raises(InvalidInput, match="texts of clips"):
            text_similarity(frames, texts, network)
    for texts in ([], ["a", " "], "a"):
        with pytest.raises(InvalidInput, match="texts for CLIP"):
            network.texts(texts)
    with pytest.raises(InvalidInput, match="pictures for CLIP"):
        network.pictures(frames)


def test_missing_foreign_and_damaged_files_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"no such folder.*nothing is ever downloaded"):
        ClipNetwork.load(tmp_path / "clip")
    with pytest.raises(BadFile, match=r"model\.safetensors"):
        ClipNetwork.load(tmp_path)
    with pytest.raises(BadFile, match="sha256"):
        ClipNetwork.load(folder, sha256="0" * 64)
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:500])
    with pytest.raises(BadFile, match="copy"):
        ClipNetwork.load(copy)
    shutil.copy(folder / "model.safetensors", copy / "model.safetensors")
    (copy / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(BadFile, match="copy"):
        ClipNetwork.load(copy)
    (copy / "config.json").unlink()
    with pytest.raises(BadFile, match=r"config\.json"):
        ClipNetwork.load(copy)


def test_weights_of_another_network_are_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    tensors = load_file(copy / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadFile, match=r"lacks tensors.*visual_projection"):
        ClipNetwork.load(copy)
