"""Behaviour cloning: train a small network on demonstrations by the one training loop, and act with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.errors import BadFile, InvalidInput, VAPSimError
from vap_sim.models.checkpoint import fill, load_tensors, save_tensors
from vap_sim.policies.chunks import ChunkPolicy
from vap_sim.policies.clone_network import CloneConfig, CloneNetwork, told, unit, words_of
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.demonstrations import Demonstrations
from vap_sim.policies.padding import resized
from vap_sim.policies.policy import Carry, Observations
from vap_sim.training.loop import LoopSettings, Outcome, plain, train

_LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class CloneTraining:
    """Settings of the recipe: steps in a batch, and how far states are moved at random, in spreads of the data."""

    seed: int = 0
    batch: int = 64
    state_noise: float = 0.02


class CloneRecipe:
    """Feeds `train` with steps of demonstrations; see `vap_sim.training.loop.Recipe`.

    Raises InvalidInput where the demonstrations do not fit the network."""

    def __init__(self, network: CloneNetwork, data: Demonstrations, training: CloneTraining | None = None) -> None:
        config = network.config
        given = (data.image.shape[1], data.state.shape[1], data.actions.shape[1])
        if given != (config.size, config.state, config.actions):
            expected = (config.size, config.state, config.actions)
            raise InvalidInput("demonstrations: picture, state and action sizes", given, expected)
        self.network, self.data, self.training = network, data, training or CloneTraining()
        self._words = told(data.instructions, config.words)
        last = np.append(np.flatnonzero(np.diff(data.episode)), len(data) - 1)
        self._ends = last[data.episode]

    def describe(self) -> Mapping[str, Any]:
        data = {"steps": len(self.data), "episodes": len(self.data.instructions)}
        return dict(plain({**asdict(self.training), "network": asdict(self.network.config), **data}))

    def loss(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        rng, data, network = np.random.default_rng([self.training.seed, step]), self.data, self.network
        rows = rng.integers(len(data), size=self.training.batch)
        ahead = rows[:, None] + np.arange(network.config.chunk)
        inside = torch.from_numpy(ahead <= self._ends[rows, None]).float()[..., None]
        wanted = torch.from_numpy(data.actions[np.minimum(ahead, self._ends[rows, None])])
        wanted = (wanted - network.action_mean) / network.action_std
        state = torch.from_numpy(data.state[rows])
        noise = rng.standard_normal(state.shape, np.float32) * np.float32(self.training.state_noise)
        state = state + torch.from_numpy(noise) * network.state_std
        image = unit(torch.from_numpy(data.image[rows]))
        given = network(image, state, self._words[data.episode[rows]])
        errors = torch.nn.functional.smooth_l1_loss(given, wanted, reduction="none") * inside
        loss = errors.sum() / (inside.sum() * errors.shape[-1])
        return loss, {}

    def preview(self, step: int) -> Mapping[str, Tensor]:
        return {}


def new_network(data: Demonstrations, seed: int = 0, **sizes: int) -> CloneNetwork:
    """An untrained network that fits the demonstrations; sizes: chunk, width, points or hidden of CloneConfig."""
    words = tuple(sorted(set().union(*(words_of(text) for text in data.instructions))))
    config = CloneConfig(data.state.shape[1], data.actions.shape[1], words, data.image.shape[1], looks=True, **sizes)
    network, draws = CloneNetwork(config), torch.Generator().manual_seed(seed)
    for name, value in network.named_parameters():
        if name == "hues":
            continue  # words begin as the colors that they name
        if value.ndim > 1:
            torch.nn.init.kaiming_uniform_(value, a=5**0.5, generator=draws)
        else:
            torch.nn.init.zeros_(value)
    for name, values in (("state", data.state), ("action", data.actions)):
        getattr(network, f"{name}_mean").copy_(torch.from_numpy(values.mean(0)))
        getattr(network, f"{name}_std").copy_(torch.from_numpy(values.std(0).clip(_LEAST_SPREAD)))
    return network


def clone(
    data: Demonstrations, context: PolicyContext, out: Path, settings: LoopSettings,
    training: CloneTraining | None = None, **sizes: int,
) -> Outcome:  # fmt: skip
    """Train a policy from demonstrations and write it to `out`, ready for `load_policy("bc@OUT")`.

    settings.folder holds the checkpoints from which the same call goes on. Raises InvalidInput, BadFile as `train`.
    """
    training = training or CloneTraining()
    network = new_network(data, training.seed, **sizes)
    outcome = train(CloneRecipe(network, data, training), settings)
    fill(network, outcome.weights, "averaged weights")
    record = {"step": outcome.step, "episodes": len(data.instructions), "steps": len(data)}
    save_clone(out, network, context, record)
    return outcome


def save_clone(path: Path, network: CloneNetwork, context: PolicyContext, record: Mapping[str, Any]) -> None:
    """Write a network, its sizes and where it may act into one safetensors file."""
    where = {"robot": str(context.robot), "control": context.control, "control_hz": context.control_hz}
    description = {"policy": "clone", "network": asdict(network.config), "context": where, "record": dict(record)}
    save_tensors(path, network.state_dict(), description)


@dataclass(frozen=True, eq=False)
class CloneSource:
    """Decides by a trained network."""

    network: CloneNetwork
    name: str = "bc"

    def begin(self, keys: NDArray[np.int64], instructions: tuple[str, ...]) -> Carry:
        """Nothing to remember."""
        told(instructions, self.network.config.words)
        return {}

    def decide(
        self, obs: Observations, instructions: tuple[str, ...], memory: Carry
    ) -> tuple[NDArray[np.float32], Carry]:
        """Chunks (b, C, A) for `image` (b, H, W, 3), `joint_position` (b, n) and `gripper_position` (b, 1)."""
        config = self.network.config
        parts = [obs[key] for key in ("joint_position", "gripper_position") if key in obs]
        state = np.concatenate([np.zeros((len(obs["image"]), 0)), *parts], axis=1).astype(np.float32)
        if state.shape[1] != config.state:
            raise InvalidInput("joints and gripper for a cloned policy", state.shape, f"(b, {config.state})")
        image = torch.from_numpy(resized(np.asarray(obs["image"]), config.size, config.size))
        with torch.no_grad():
            chunks = self.network.chunks(image, torch.from_numpy(state), told(instructions, config.words))
        return chunks.numpy(), {}


def load_clone(target: str, context: PolicyContext, *, execute: int | None = None) -> ChunkPolicy:
    """The policy in a file of `clone`; execute: actions of each chunk to play, all of them where None.

    Raises BadFile for a file that is missing, damaged, or trained for another robot, control or rate.
    """
    path = Path(target)
    tensors, header = load_tensors(path)
    if header.get("policy") != "clone":
        raise BadFile(path, f"field 'policy' of its header is {header.get('policy')!r}, expected 'clone'")
    where, sizes = header.get("context"), header.get("network")
    wanted = {"robot": str(context.robot), "control": context.control, "control_hz": context.control_hz}
    if where != wanted:
        raise BadFile(path, f"field 'context' of its header is {where}, the environment has {wanted}")
    try:
        config = CloneConfig(**{**sizes, "words": tuple(sizes["words"])})  # type: ignore[dict-item, index]
    except (TypeError, KeyError, VAPSimError) as error:
        raise BadFile(path, f"field 'network' of its header does not describe one ({error})") from error
    network = CloneNetwork(config)
    fill(network, tensors, path)
    network.eval().requires_grad_(False)
    if config.actions != context.size:
        raise BadFile(path, f"made for actions of {config.actions} numbers, the environment has {context.size}")
    return ChunkPolicy(
        CloneSource(network, f"bc@{path.name}"), context.size, config.chunk if execute is None else execute
    )
