"""What a policy server answers: openpi requests in, chunks of one of our policies out, every field checked first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput, Unsupported, VAPSimError
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.padding import resized
from vap_sim.policies.policy import Carry, Policy, brief, checked_actions
from vap_sim.policies.remote import EXTERIOR, GRIPPER, JOINTS, MEMORY, PROMPT, RESET, WRIST

_LARGEST_SIDE = 2048  # [px]
_LONGEST_PROMPT = 4096


@dataclass(frozen=True)
class Session:
    """One client's episode: what was asked for and what the policy remembers. A new prompt is a new episode."""

    prompt: str | None = None
    memory: Carry | None = None


@dataclass(frozen=True, eq=False)
class ServedPolicy:
    """A policy as a server offers it: `horizon` actions an answer, decided one after another on what was sent.

    A policy that looks at every step wants a horizon of 1. seed: of episodes whose client names none.
    """

    policy: Policy
    context: PolicyContext
    horizon: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.horizon, bool) or not isinstance(self.horizon, int) or not 1 <= self.horizon <= 1024:
            raise InvalidInput("horizon of a policy server", self.horizon, "1 to 1024 actions")
        try:
            self._begin("", self.seed)
        except VAPSimError as error:
            problem = (
                f"this policy cannot be served: a request tells no more than pictures, joints and a prompt ({error})"
            )
            raise Unsupported(problem) from error

    def metadata(self) -> dict[str, Any]:
        """What clients are told on connecting."""
        return {
            "action_horizon": self.horizon,
            "control_hz": float(self.context.control_hz),
            "vap_sim": {"memory": True},
        }

    def answer(self, request: Any, session: Session) -> tuple[dict[str, Any], Session]:
        """The reply and what to remember of this client. Raises InvalidInput naming the field that is wrong."""
        if not isinstance(request, Mapping):
            raise InvalidInput("request", type(request).__name__, "a map")
        prompt = request.get(PROMPT, "")
        if not isinstance(prompt, str) or len(prompt) > _LONGEST_PROMPT:
            raise InvalidInput(PROMPT, type(prompt).__name__, f"text of at most {_LONGEST_PROMPT} signs")
        policy = brief(self.policy, {"instruction": prompt})
        if RESET in request:
            seed = request[RESET]
            if type(seed) is not int or not -(2**63) <= seed < 2**63:
                raise InvalidInput(RESET, type(seed).__name__, "a seed of at most 64 bits")
            return {MEMORY: _sent(policy.reset(1, seed))}, session
        obs = self._observation(request)
        kept = MEMORY in request
        if kept:
            carry = _received(request[MEMORY], policy.reset(1, self.seed))
        elif session.memory is None or session.prompt != prompt:
            carry = policy.reset(1, self.seed)
        else:
            carry = session.memory
        actions = []
        for _ in range(self.horizon):
            action, carry = policy.act(obs, carry)
            actions.append(checked_actions(action, 1, self.context.size, "served")[0])
        reply: dict[str, Any] = {"actions": np.stack(actions)}
        return (reply | {MEMORY: _sent(carry)}, session) if kept else (reply, Session(prompt, carry))

    def _begin(self, prompt: str, seed: int) -> Carry:
        return brief(self.policy, {"instruction": prompt}).reset(1, seed)

    def _observation(self, request: Mapping[Any, Any]) -> dict[str, NDArray[Any]]:
        arm = int(self.context.arm.sum()) if self.context.control.startswith("joint") else None
        obs: dict[str, NDArray[Any]] = {
            "joint_position": _numbers(request, JOINTS, arm),
            "gripper_position": _numbers(request, GRIPPER, 1),
        }
        for key, name in ((EXTERIOR, "image"), (WRIST, "image_wrist")):
            if key in request or name == "image":
                obs[name] = self._picture(request, key, name)
        return {name: value[None] for name, value in obs.items()}

    def _picture(self, request: Mapping[Any, Any], key: str, name: str) -> NDArray[np.uint8]:
        picture = request.get(key)
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3:
            raise InvalidInput(key, _kind(picture), "a picture (H, W, 3) uint8")
        if picture.shape[2] != 3 or not 1 <= min(picture.shape[:2]) <= max(picture.shape[:2]) <= _LARGEST_SIDE:
            raise InvalidInput(key, _kind(picture), f"a picture (H, W, 3) of at most {_LARGEST_SIDE} px")
        space = self.context.observation_space
        shape = None if space is None or name not in space.spaces else space[name].shape
        return picture if shape is None else resized(picture[None], shape[0], shape[1])[0]


def _numbers(request: Mapping[Any, Any], key: str, length: int | None) -> NDArray[np.float32]:
    """(n,) float32; loops in the field send lists, plain numbers and doubles too."""
    given = request.get(key)
    if type(given) in (int, float) or (isinstance(given, list) and all(type(v) in (int, float) for v in given)):
        given = np.array(given, np.float64)
    if not isinstance(given, np.ndarray) or given.dtype.kind not in "fiu" or given.ndim > 1:
        raise InvalidInput(key, _kind(given), "an array of numbers")
    values = np.atleast_1d(given).astype(np.float32)
    if (length is not None and len(values) != length) or not np.isfinite(values).all():
        raise InvalidInput(key, _kind(given), f"{length} finite numbers")
    return values


def _sent(memory: Carry) -> dict[str, NDArray[Any]]:
    """A memory as arrays of numbers: text as code points."""
    return {
        name: value.view(np.uint32).reshape(len(value), -1) if value.dtype.kind == "U" else value
        for name, value in memory.items()
    }


def _received(sent: Any, like: Carry) -> Carry:
    """The memory a client hands back. Raises InvalidInput unless it has the names, types and shapes of `like`."""
    if not isinstance(sent, Mapping) or set(sent) != set(like):
        raise InvalidInput(MEMORY, _kind(sent), f"a map of {sorted(like)}")
    out = {}
    for name, template in like.items():
        value, expected = sent[name], _sent({name: template})[name]
        if not isinstance(value, np.ndarray) or value.dtype != expected.dtype or value.shape != expected.shape:
            raise InvalidInput(f"{MEMORY}, {name}", _kind(value), f"{expected.dtype} {expected.shape}")
        if template.dtype.kind == "U":
            if (value > 0x10FFFF).any():
                raise InvalidInput(f"{MEMORY}, {name}", "a number", "code points")
            value = np.ascontiguousarray(value).view(template.dtype).reshape(template.shape)
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise InvalidInput(f"{MEMORY}, {name}", "a number that is not finite", "finite numbers")
        out[name] = value
    return out


def _kind(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
