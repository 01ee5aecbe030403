"""The recipe of the detector: single twin frames, many of them damaged the way generated frames are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from vap_sim.data.twin import episode_files, load_episode
from vap_sim.errors import BadFile
from vap_sim.metrics.detector import (
    CLASSES,
    OTHER,
    Detector,
    DetectorConfig,
    DetectorNet,
    DetectorScore,
    class_labels,
    describe,
    scene_things,
    score,
)
from vap_sim.models.checkpoint import save_tensors
from vap_sim.models.compact.packed import fast_cast
from vap_sim.training.loop import LoopSettings, train

Picture = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Stills:
    """Frames (N, H, W, 3) uint8 and their labels (N, H, W) uint8, numbers into a detector's classes."""

    frames: Picture
    labels: Picture


@dataclass(frozen=True)
class DetectorTraining:
    """Settings of the recipe. `every`: one frame in so many is used; `damaged`: share of frames that are damaged;
    `classes`: what is learnt to be told apart."""

    seed: int = 0
    batch: int = 16
    every: int = 3
    damaged: float = 0.75
    classes: tuple[str, ...] = CLASSES


class DetectorRecipe:
    """Feeds `train` with the detector's batches; see `vap_sim.training.loop.Recipe`."""

    def __init__(self, network: DetectorNet, stills: Stills, shown: Stills, training: DetectorTraining) -> None:
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.stills, self.shown, self.training = stills, shown, training

    def describe(self) -> Mapping[str, Any]:
        config = self.network.config
        return {**asdict(self.training), "widths": list(config.widths), "classes": list(config.classes)}

    def loss(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        rng = np.random.default_rng([self.training.seed, step])
        rows = [self._draw(rng) for _ in range(self.training.batch)]
        frames, labels = (torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))
        x = (frames.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        with fast_cast("cpu", "bf16"):
            logits = self.network(x)
        return segmentation_loss(logits.float(), labels.long())

    def preview(self, step: int) -> Mapping[str, Tensor]:
        frames = torch.from_numpy(self.shown.frames[:: max(1, len(self.shown.frames) // 8)][:8])
        labels = Detector(self.network).labels(frames)
        self.network.requires_grad_(True)
        shades = (labels * (255 // (len(self.network.config.classes) - 1)))[..., None].expand(-1, -1, -1, 3)
        sheet = torch.cat([torch.cat([frames, shades], dim=1)[i] for i in range(len(frames))], dim=1)
        return {"labels": sheet.permute(2, 0, 1)}

    def _draw(self, rng: np.random.Generator) -> tuple[Picture, Picture]:
        index = int(rng.integers(len(self.stills.frames)))
        frame, labels = self.stills.frames[index], self.stills.labels[index]
        if rng.uniform() < 0.5:
            frame, labels = frame[:, ::-1], labels[:, ::-1]
        if rng.uniform() < self.training.damaged:
            frame = damage(rng, frame)
        return np.ascontiguousarray(frame), np.ascontiguousarray(labels)


def segmentation_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Cross-entropy, and one minus the soft overlap of each class that occurs, so that small objects count.

    logits (b, classes, H, W), labels (b, H, W) int64.
    """
    entropy = F.cross_entropy(logits, labels)
    share = logits.softmax(1)
    truth = F.one_hot(labels, logits.shape[1]).permute(0, 3, 1, 2).to(share.dtype)
    both, size = (share * truth).sum((0, 2, 3)), (share + truth).sum((0, 2, 3))
    occurs = truth.sum((0, 2, 3)) > 0
    overlap = (both / (size - both))[occurs].mean()
    return entropy + 0.5 * (1 - overlap), {"entropy": entropy.detach(), "overlap": overlap.detach()}


def damage(rng: np.random.Generator, frame: Picture) -> Picture:
    """Some of: other gain and tint, blur, loss of resolution, noise, block artefacts. (H, W, 3) uint8 -> the same."""
    image: NDArray[np.float32] = frame.astype(np.float32)
    height, width = frame.shape[:2]
    if rng.uniform() < 0.5:
        gain = 1 + rng.normal(0, 0.05) + rng.normal(0, 0.025, 3)
        image = (image * gain + rng.normal(0, 5)).astype(np.float32)
    if rng.uniform() < 0.45:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, 1.3))), np.float32)
    if rng.uniform() < 0.3:
        share = rng.uniform(0.5, 0.95)
        small = cv2.resize(image, (int(width * share), int(height * share)), interpolation=cv2.INTER_AREA)
        image = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    if rng.uniform() < 0.4:
        image = (image + rng.normal(0, rng.uniform(1, 7), image.shape)).astype(np.float32)
    damaged = image.round().clip(0, 255).astype(np.uint8)
    if rng.uniform() < 0.3:
        written = cv2.imencode(".jpg", damaged, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 95))])[1]
        damaged = np.asarray(cv2.imdecode(written, cv2.IMREAD_COLOR), np.uint8)
    return damaged


def load_stills(
    files: Sequence[Path], every: int, classes: Sequence[str] = CLASSES, *, progress: bool = True
) -> Stills:
    """Every so many frames of each view of each episode. Raises BadFile for the first file that is not whole,
    UnknownName where a scene holds what is none of the classes."""
    frames, labels = [], []
    for path in tqdm(files, desc="reading episodes", unit="episode", disable=not progress, mininterval=5):
        episode = load_episode(path, only=("frames", "labels", "joints"))
        things = scene_things(episode.meta["scene"])
        for pictures, shown in zip(episode.frames, episode.labels, strict=True):
            frames.append(pictures[::every].copy())
            labels.append(class_labels(shown[::every], things, classes))
    if not frames:
        raise BadFile("the data set", "no episode files")
    return Stills(np.concatenate(frames), np.concatenate(labels))


def score_episodes(detector: Detector, files: Sequence[Path], every: int = 5) -> DetectorScore:
    """The detector's own error on true frames: one in `every` of each view, with what the scene holds known."""
    found, truth, things = [], [], []
    for path in files:
        episode = load_episode(path, only=("frames", "labels", "joints"))
        names = scene_things(episode.meta["scene"])
        for pictures, labels in zip(episode.frames, episode.labels, strict=True):
            found.append(detector.labels(torch.from_numpy(pictures[::every].copy()), names))
            truth.append(torch.from_numpy(class_labels(labels[::every], names, detector.classes)))
            things.append(names)
    return score(found, truth, things, classes=detector.classes)


def train_detector(
    data: Path, validation: Path, settings: LoopSettings, training: DetectorTraining, start: Path | None = None
) -> Path:
    """Train from the episodes of `data`, and write RUN/detector.safetensors once the run has ended.

    start: weights to go on from, with `training.classes` instead of their own; what they do not know begins as other.
    The file's description holds the score on the episodes of `validation`. Raises BadFile for damaged episodes.
    """
    files, held = episode_files(data), episode_files(validation)
    classes = training.classes
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(training.seed)
        network = DetectorNet(DetectorConfig(classes=classes))
    if start is not None:
        network = widened(Detector.load(start).network, classes)
    shown = load_stills(held[:4], 10, classes)
    recipe = DetectorRecipe(network, load_stills(files, training.every, classes), shown, training)
    outcome = train(recipe, settings)
    network.load_state_dict(outcome.weights)
    own = score_episodes(Detector(network), held)
    path = settings.folder / "detector.safetensors"
    facts = {"step": outcome.step, "seed": training.seed, "episodes": len(files), "validation": asdict(own)}
    tensors = {name: value.to(torch.bfloat16) for name, value in outcome.weights.items()}
    save_tensors(path, tensors, describe(network, **facts))
    return path


def widened(network: DetectorNet, classes: Sequence[str]) -> DetectorNet:
    """The network with other classes: those that it knows keep their weights, new ones begin as likely as other."""
    known = network.config.classes
    wide = DetectorNet(replace(network.config, classes=tuple(classes)))
    sources = torch.tensor([known.index(name) if name in known else OTHER for name in classes])
    weights = dict(network.state_dict())
    for name in ("head.weight", "head.bias"):
        values = weights[name]
        blocks = values.reshape(len(known), 4, *values.shape[1:])[sources]
        weights[name] = blocks.reshape(-1, *values.shape[1:])
    wide.load_state_dict(weights)
    return wide
