"""Small made-up recordings and a tiny CogVideoX, for the tests of its training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vap_sim.data.twin import SUFFIX, TwinEpisode, save_episode
from vap_sim.models.tensor_cache import TensorCache
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot
from vap_sim.training.clips import ClipSettings, DataSet, open_data_set

SIZE = (32, 32)
CHANNELS = 4
SETTINGS = ClipSettings(frames=9, spacing=4, images=2)


def episode(seed: int, length: int = 13, views: int = 1) -> TwinEpisode:
    """A robot that moves from home before a background of large coloured cells."""
    rng = np.random.default_rng([seed, 5])
    home = load_robot("panda_robotiq").home.numpy().astype(np.float32)
    joints = home + np.linspace(0, 1, length)[:, None] * rng.normal(0, 0.2, home.shape)
    cells = rng.integers(0, 256, (views, length, 4, 4, 3))
    frames = cells.repeat(SIZE[1] // 4, 2).repeat(SIZE[0] // 4, 3).astype(np.uint8)
    cameras = [
        Camera.look_at(f"exterior_{view + 1}", (1.4, 0.3 * view, 0.8), (0.4, 0.0, 0.3), size=SIZE, vertical_fov=0.9)
        for view in range(views)
    ]
    meta: dict[str, Any] = {
        "seed": seed,
        "behaviours": ["push", "clumsy_push", "push"],
        "robot": "panda_robotiq",
        "control_mode": "joint_velocity",
        "control_dt": 0.1,
        "scene": {"objects": [{"color": "red", "shape": "cube"}, {"color": "blue", "shape": "box"}], "goal": None},
        "cameras": [camera.to_dict() for camera in cameras],
    }
    shape = frames.shape[:4]
    return TwinEpisode(
        frames=frames,
        objects=np.zeros((*shape, 4), np.uint8),
        plate=np.zeros((views, *frames.shape[2:]), np.uint8),
        robot=np.zeros(shape, np.uint8),
        labels=np.zeros(shape, np.uint8),
        flow=np.zeros((views, length, 2, SIZE[1] // 2, SIZE[0] // 2), np.int16),
        joints=joints.astype(np.float32),
        measured=joints.astype(np.float32),
        actions=np.zeros((length - 1, 8), np.float32),
        object_poses=np.zeros((length, 2, 7), np.float32),
        meta=meta,
    )


def record(folder: Path, seeds: Sequence[int], **options: Any) -> Path:
    """Episodes of these seeds in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        save_episode(folder / f"twin_{seed:04d}{SUFFIX}", episode(seed, **options))
    return folder


def data_set(folder: Path, cache: Path, settings: ClipSettings = SETTINGS) -> DataSet:
    from vap_sim.models.cogvideox.codec import TinyCodec

    return open_data_set(folder, settings, TinyCodec(CHANNELS), TensorCache(cache), progress=False)


def backbone(*, image: bool = True, loud: bool = True) -> Any:
    """Two blocks; loud: every weight random, so that zero-initialised parts are heard."""
    from vap_sim.models.cogvideox.backbone import Backbone
    from vap_sim.models.cogvideox.config import build_transformer, tiny_config

    config = tiny_config(
        latent_channels=CHANNELS, blocks=2, heads=2, size=(4, 4), frames=3, text_length=6, text_width=8, image=image
    )
    transformer = build_transformer(config)
    if loud:
        shake(transformer)
    return Backbone(transformer)


def shake(module: torch.nn.Module, seed: int = 0) -> None:
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            value.add_(torch.randn(value.shape, generator=source) * 0.05)


def recipe(
    data: Sequence[DataSet], training: Any = None, *, image: bool = True, lora: bool = True, **options: Any
) -> Any:
    """Frozen backbone, skeleton control and LoRA, as they are trained."""
    from vap_sim.models.cogvideox.codec import TinyCodec
    from vap_sim.models.cogvideox.lora import Lora
    from vap_sim.models.cogvideox.sampler import PUBLISHED, Schedule
    from vap_sim.models.cogvideox.skeleton_control import SkeletonControl
    from vap_sim.models.cogvideox.text import HashedWords
    from vap_sim.training.diffusion import DiffusionRecipe, DiffusionTraining

    body = backbone(image=image)
    control = SkeletonControl(body, channels=4, width=8)
    shake(control, 1)
    if lora:
        Lora(rank=2, alpha=2.0).install(body)
    else:
        body.requires_grad_(False)
    return DiffusionRecipe(
        body,
        control,
        TinyCodec(CHANNELS),
        HashedWords(6, 8),
        Schedule.of(PUBLISHED),
        data,
        training or DiffusionTraining(batch=2, control=0.3, caption=0.3),
        **options,
    )


def same(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 0.0) -> bool:
    return one.keys() == other.keys() and all(
        torch.allclose(one[name], other[name], rtol=0, atol=tolerance) for name in one
    )
