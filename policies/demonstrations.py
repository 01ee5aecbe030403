"""Demonstrations to learn from: what was seen and what was done, from recordings or from a policy at work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from vap_sim.data.twin import TwinEpisode, episode_files, load_episode
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.padding import resized
from vap_sim.policies.policy import Policy, as_batch, brief
from vap_sim.robots.library import load_robot


@dataclass(frozen=True, eq=False)
class Demonstrations:
    """N steps of several episodes, one after another.

    image: (N, S, S, 3) uint8; state: (N, J) float32, arm joints [rad], then the gripper's position; actions: (N, A)
    float32, what was done upon each; episode: (N,) int64, which episode a step belongs to; instructions: one an
    episode. Raises InvalidInput where these do not fit together.
    """

    image: NDArray[np.uint8]
    state: NDArray[np.float32]
    actions: NDArray[np.float32]
    episode: NDArray[np.int64]
    instructions: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.image)
        if self.image.ndim != 4 or self.image.shape[1:] != (*self.image.shape[1:2] * 2, 3) or count < 1:
            raise InvalidInput("pictures of demonstrations", self.image.shape, "(N, S, S, 3) with N at least 1")
        if self.image.dtype != np.uint8:
            raise InvalidInput("pictures of demonstrations", self.image.dtype, "uint8")
        for name in ("state", "actions"):
            values = getattr(self, name)
            if values.ndim != 2 or len(values) != count or not np.isfinite(values).all():
                raise InvalidInput(f"{name} of demonstrations", values.shape, f"({count}, n), finite")
        order = self.episode
        if order.shape != (count,) or order[0] != 0 or not np.isin(np.diff(order), (0, 1)).all():
            raise InvalidInput("episode of demonstrations", order.shape, f"({count},), counting up from 0 by ones")
        if len(self.instructions) != int(order[-1]) + 1:
            raise InvalidInput("instructions", len(self.instructions), f"{int(order[-1]) + 1}, one an episode")

    def __len__(self) -> int:
        """N, the number of steps."""
        return len(self.image)


def joined(parts: Sequence[Demonstrations]) -> Demonstrations:
    """All episodes of several demonstrations. Raises InvalidInput for none, or sizes that differ."""
    if not parts or len({(p.image.shape[1:], p.state.shape[1], p.actions.shape[1]) for p in parts}) > 1:
        sizes = [(p.image.shape[1:], p.state.shape[1], p.actions.shape[1]) for p in parts]
        raise InvalidInput("demonstrations to join", sizes, "at least one, and all of one size")
    firsts = np.cumsum([0] + [len(p.instructions) for p in parts[:-1]])
    return Demonstrations(
        np.concatenate([p.image for p in parts]),
        np.concatenate([p.state for p in parts]),
        np.concatenate([p.actions for p in parts]),
        np.concatenate([p.episode + first for p, first in zip(parts, firsts, strict=True)]),
        tuple(text for p in parts for text in p.instructions),
    )


def demonstration(
    image: NDArray[np.uint8],
    joint_position: NDArray[Any],
    gripper_position: NDArray[Any],
    actions: NDArray[Any],
    instruction: str = "",
    size: int = 64,
) -> Demonstrations:
    """One episode of T steps from arrays of observations (T, H, W, 3), (T, n), (T, 1) and actions (T, A)."""
    image = np.asarray(image)
    if image.ndim != 4 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise InvalidInput("pictures of a demonstration", f"{image.dtype} {image.shape}", "uint8 (T, H, W, 3)")
    state = np.concatenate([np.asarray(joint_position), np.asarray(gripper_position)], axis=1).astype(np.float32)
    return Demonstrations(
        resized(image, size, size),
        state,
        np.asarray(actions, np.float32),
        np.zeros(len(image), np.int64),
        (instruction,),
    )


def load_demonstrations(folder: Path, context: PolicyContext, size: int = 64) -> Demonstrations:
    """All recorded twin episodes below a folder; their instruction is "" unless their meta.json has one.

    Raises BadFile where there are none, or for one of another robot, control, rate or length of action."""
    model, parts = load_robot(context.robot), []
    gripper = model.gripper
    index = None if gripper is None else model.robot.joint_index(gripper.joint)
    for path in episode_files(folder):
        episode = load_episode(path, only=("frames", "joints", "actions"))
        _check(path, episode, context)
        joints = episode.joints[:-1]
        closed = np.zeros((len(joints), 0), np.float32)
        if gripper is not None and index is not None:
            travel = gripper.closed_value - gripper.open_value
            closed = ((joints[:, index : index + 1] - gripper.open_value) / travel).clip(0, 1)
            joints = np.delete(joints, index, axis=1)
        text = str(episode.meta.get("instruction", ""))
        parts.append(demonstration(episode.frames[0, :-1], joints, closed, episode.actions, text, size))
    return joined(parts)


def _check(path: Path, episode: TwinEpisode, context: PolicyContext) -> None:
    wanted = {"robot": context.robot, "control_mode": context.control, "control_dt": 1 / context.control_hz}
    for field, expected in wanted.items():
        given = episode.meta[field]
        same = given == expected
        if isinstance(expected, float):
            same = isinstance(given, int | float) and abs(given - expected) < 1e-6
        if not same:
            raise BadFile(path, f"meta.json: field {field!r} is {given!r}, expected {expected!r}")
    if episode.actions.shape[1] != context.size or len(episode.actions) < 1:
        raise BadFile(path, f"actions: shape {episode.actions.shape}, expected (T, {context.size})")


def collect(
    env: gymnasium.Env[Any, Any], policy: Policy, episodes: int, *, seed: int = 0, steps: int = 60, size: int = 64
) -> Demonstrations:
    """Let a policy act for some episodes, of at most `steps` steps, from consecutive seeds; every episode is kept.

    The environment's observations have `image`, `joint_position` and `gripper_position`; infos may have an
    `instruction`. Raises InvalidInput for no episodes or no steps.
    """
    if episodes < 1 or steps < 1:
        raise InvalidInput("demonstrations", f"{episodes} episodes of {steps} steps", "at least one of each")
    parts = []
    for number in range(seed, seed + episodes):
        seen, info = env.reset(seed=number)
        actor = brief(policy, info)
        carry, log = actor.reset(1, number), []
        for _ in range(steps):
            action, carry = actor.act(as_batch(seen), carry)
            log.append((seen, action[0]))
            seen, _, terminated, truncated, _ = env.step(action[0])
            if terminated or truncated:
                break
        keys = ("image", "joint_position", "gripper_position")
        columns = [np.stack([entry[0][key] for entry in log]) for key in keys]
        actions = np.stack([entry[1] for entry in log])
        text = str(info.get("instruction", ""))
        parts.append(demonstration(columns[0], columns[1], columns[2], actions, text, size))
    return joined(parts)
