"""The learned matcher, with a tiny network of random weights saved here: it runs, its matches have the shapes that are
promised, and folders that hold something else are named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vap_sim.errors import BadFile
from vap_sim.extraction.alignment import align
from vap_sim.extraction.matching import draw_robot, on_robot
from vap_sim.extraction.matching_loftr import LoftrMatcher
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot

transformers: Any = pytest.importorskip("transformers", reason="transformers comes with the extra 'cogvideox'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("loftr")
    torch.manual_seed(0)
    config = transformers.EfficientLoFTRConfig(
        stage_num_blocks=[1, 1, 1, 1], out_features=[16, 16, 16, 32], hidden_size=32, num_attention_heads=8,
        num_attention_layers=1, coarse_matching_threshold=0.0,
    )  # fmt: skip
    transformers.EfficientLoFTRForKeypointMatching(config).save_pretrained(place)
    return place


def test_it_matches_and_aligns(folder: Path) -> None:
    panda = load_robot("panda_robotiq")
    camera = Camera.look_at("side", (1.3, 0.9, 0.8), (0.35, 0.0, 0.4), size=(96, 64), focal_px=90)
    joints = np.repeat(panda.home.double().numpy()[None], 2, axis=0)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    matcher = replace(LoftrMatcher.load(folder), longer=96)
    robot = draw_robot(panda, joints, camera)
    found = matcher.begin(pictures, robot).match(1, np.eye(3))
    assert found.normals is None and found.drawn.shape == found.seen.shape == (len(found), 2)
    assert np.isfinite(found.drawn).all() and np.isfinite(found.seen).all()
    assert ((found.weight > 0) & (found.weight <= 1)).all()
    kept = on_robot(found, robot.masks[1])
    assert len(kept) <= len(found)
    aligned = align(pictures, panda, joints, camera, matcher=matcher)
    assert aligned.homographies.shape == (2, 3, 3) and not aligned.kept.any()


@pytest.mark.parametrize("damage", ["config", "kind", "weights", "half"])
def test_folders_that_hold_something_else_are_named(folder: Path, tmp_path: Path, damage: str) -> None:
    weights, config = (folder / "model.safetensors").read_bytes(), json.loads((folder / "config.json").read_text())
    if damage == "kind":
        config["model_type"] = "superglue"
    if damage != "config":
        (tmp_path / "config.json").write_text(json.dumps(config))
    if damage != "weights":
        (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // (2 if damage == "half" else 1)])
    words = {
        "config": "no config.json that can be read", "kind": "'superglue', expected 'efficientloftr'",
        "weights": "has no model.safetensors", "half": "weights cannot be loaded",
    }  # fmt: skip
    with pytest.raises(BadFile, match=words[damage]):
        LoftrMatcher.load(tmp_path)
