"""A policy that runs elsewhere: openpi's websocket protocol for DROID, as its own robot loop speaks it.

What openpi's DROID example does and this follows: 15 Hz, a chunk of actions an answer of which 8 are executed before
the next question, the gripper binarised at 0.5, everything clipped to the action's bounds, pictures padded to 224 by
224, and the names `observation/exterior_image_1_left`, `observation/wrist_image_left`, `observation/joint_position`,
`observation/gripper_position`, `prompt`. The length of a chunk is what the server sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.policies.chunks import ChunkPolicy
from vap_sim.policies.client import PolicyClient, server_address
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.padding import resize_with_pad
from vap_sim.policies.policy import Carry, Observations, PolicyFault, carry_rows

PICTURE = 224
DROID_HZ = 15.0
EXTERIOR, WRIST = "observation/exterior_image_1_left", "observation/wrist_image_left"
JOINTS, GRIPPER, PROMPT = "observation/joint_position", "observation/gripper_position", "prompt"
MEMORY, RESET = "vap_sim/memory", "vap_sim/reset"
"""Keys by which a server of this package hands its policy's memory to the client, which alone keeps it."""
_WRIST_CHOICES = ("required", "black")
_GRIPPER_CLOSES = 0.5


@dataclass(frozen=True, eq=False)
class RemoteSource:
    """Asks a server for chunks, one question a row; see `load_openpi` for the options."""

    client: PolicyClient
    context: PolicyContext
    execute: int
    policy_hz: float | None
    wrist: str

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.client.name

    def begin(self, keys: NDArray[np.int64], instructions: tuple[str, ...]) -> Carry:
        """Nothing, or where the server is one of this package the memory of its policy, which the client keeps."""
        if not self._keeps_memory():
            self._stride()
            return {}
        self._stride()
        rows = [
            self._memory(self.client.ask({RESET: int(key), PROMPT: text}))
            for key, text in zip(keys.tolist(), instructions, strict=True)
        ]
        return _stacked(rows, self.name)

    def decide(
        self, obs: Observations, instructions: tuple[str, ...], memory: Carry
    ) -> tuple[NDArray[np.float32], Carry]:
        """Chunks (b, C, A) at the environment's own rate, and the memory after them."""
        requests = self._requests(obs, instructions)
        chunks, after = [], []
        for row, request in enumerate(requests):
            extra = {MEMORY: carry_rows(memory, [row])} if memory else {}
            answer = self.client.ask({**request, **extra})
            chunks.append(self._chunk(answer))
            if memory:
                after.append(self._memory(answer))
        lengths = {len(chunk) for chunk in chunks}
        if len(lengths) > 1:
            raise PolicyFault(self.name, f"gave chunks of different lengths {sorted(lengths)}")
        return np.stack(chunks), _stacked(after, self.name)

    def _requests(self, obs: Observations, instructions: tuple[str, ...]) -> list[dict[str, Any]]:
        for key in ("image", "joint_position", "gripper_position"):
            if key not in obs:
                raise InvalidInput("observation for an openpi policy", sorted(obs), f"one with {key!r}")
        if "image_wrist" not in obs and self.wrist == "required":
            expected = "one with 'image_wrist' (views with \"wrist\"), or the option wrist='black'"
            raise InvalidInput("observation for an openpi policy", sorted(obs), expected)
        outside = resize_with_pad(obs["image"], PICTURE, PICTURE)
        hand = resize_with_pad(obs["image_wrist"], PICTURE, PICTURE) if "image_wrist" in obs else np.zeros_like(outside)
        return [
            {
                EXTERIOR: outside[row],
                WRIST: hand[row],
                JOINTS: np.asarray(obs["joint_position"][row], np.float32),
                GRIPPER: np.asarray(obs["gripper_position"][row], np.float32),
                PROMPT: text,
            }
            for row, text in enumerate(instructions)
        ]

    def _chunk(self, answer: Mapping[str, Any]) -> NDArray[np.float32]:
        """(C, A): at most `execute` of the server's actions, at the environment's rate."""
        actions = answer.get("actions")
        if not isinstance(actions, np.ndarray) or actions.dtype.kind != "f":
            kind = f"an array of {actions.dtype}" if isinstance(actions, np.ndarray) else type(actions).__name__
            raise PolicyFault(self.name, f"gave {kind} as actions, expected an array of floats")
        size, announced = self.context.size, self.client.metadata().get("action_horizon")
        if actions.ndim != 2 or actions.shape[1] != size or len(actions) < 1:
            raise PolicyFault(self.name, f"gave actions {actions.shape}, expected (C, {size}) with C at least 1")
        if isinstance(announced, int) and announced != len(actions):
            raise PolicyFault(self.name, f"gave a chunk of {len(actions)} actions, but announced {announced}")
        if not np.isfinite(actions).all():
            step, entry = np.argwhere(~np.isfinite(actions))[0]
            given = actions[step, entry]
            raise PolicyFault(self.name, f"gave {given} as entry {entry} of action {step}, expected a finite number")
        return self._resampled(actions)

    def _resampled(self, actions: NDArray[Any]) -> NDArray[np.float32]:
        stride = self._stride()
        usable = max(stride, min(len(actions), self.execute) // stride * stride)
        if usable > len(actions):
            problem = f"gave a chunk of {len(actions)} actions, shorter than one control interval of {stride}"
            raise PolicyFault(self.name, problem)
        groups = actions[:usable].astype(np.float64).reshape(-1, stride, self.context.size)
        # The same motion in fewer, longer actions: speeds are averaged, of places the last one counts.
        out = np.where(self.context.arm & self.context.speeds, groups.mean(axis=1), groups[:, -1])
        out = np.where(self.context.arm, out, out > _GRIPPER_CLOSES)
        return np.clip(out, self.context.low, self.context.high).astype(np.float32)

    def _stride(self) -> int:
        """Actions of the server in one of the environment's control intervals."""
        told = self.client.metadata().get("control_hz", DROID_HZ) if self.policy_hz is None else self.policy_hz
        if not isinstance(told, int | float) or isinstance(told, bool) or not 0 < told <= 1e4:
            raise PolicyFault(self.name, f"announces control_hz {told!r}, expected a rate in Hz")
        stride = round(told / self.context.control_hz)
        if stride < 1 or abs(stride * self.context.control_hz - told) > 1e-6 * told:
            expected = f"{told:g} Hz, the rate of the policy, or a whole fraction of it"
            raise InvalidInput("control_hz for an openpi policy", self.context.control_hz, expected)
        return stride

    def _keeps_memory(self) -> bool:
        ours = self.client.metadata().get("vap_sim")
        return isinstance(ours, dict) and ours.get("memory") is True

    def _memory(self, answer: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        memory = answer.get(MEMORY)
        if not isinstance(memory, dict) or not all(
            isinstance(name, str) and isinstance(value, np.ndarray) and value.shape[:1] == (1,)
            for name, value in memory.items()
        ):
            raise PolicyFault(self.name, f"gave no memory under {MEMORY!r}, although it announced one")
        return memory


def load_openpi(
    target: str,
    context: PolicyContext,
    *,
    execute: int = 8,
    timeout: float = 10.0,
    retries: int = 3,
    token: str | None = None,
    prompt: str = "",
    policy_hz: float | None = None,
    wrist: str = "required",
) -> ChunkPolicy:
    """The policy of a server at "HOST:PORT"; it is reached when an episode begins.

    Args:
        target: the server. context: where the policy acts.
        execute: actions of a chunk to execute before the next question, all of it where it is shorter.
        timeout: seconds to wait for a connection and for each answer. retries: when a connection breaks.
        token: sent as an API key. prompt: for episodes without an instruction.
        policy_hz: rate of the server's actions; 15 Hz, unless the server announces another. The environment's rate must
            be this or a whole fraction of it; then one of its actions stands for several of the server's.
        wrist: "required", or "black" to send a black picture where the environment has no wrist camera.

    Raises:
        InvalidInput: a malformed address or option; at the first act, an observation without what the protocol sends.
        UnknownName: another word for `wrist`. MissingDependency: without the extra remote.
        PolicyFault: later, for all that a server can do wrong.
    """
    if wrist not in _WRIST_CHOICES:
        raise UnknownName("choice for the option 'wrist'", wrist, _WRIST_CHOICES)
    if policy_hz is not None and not 0 < policy_hz <= 1e4:
        raise InvalidInput("option 'policy_hz'", policy_hz, "a positive rate in Hz")
    client = PolicyClient(server_address(target), timeout=timeout, retries=retries, token=token)
    source = RemoteSource(client, context, execute, policy_hz, wrist)
    return ChunkPolicy(source, context.size, execute, default=prompt)


def _stacked(rows: list[dict[str, NDArray[Any]]], name: str) -> Carry:
    """One memory of several, row by row."""
    if not rows:
        return {}
    kinds = {tuple(sorted((key, value.dtype.str, value.shape) for key, value in row.items())) for row in rows}
    if len(kinds) > 1:
        raise PolicyFault(name, "gave memories of different shapes for different rows")
    return {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}
