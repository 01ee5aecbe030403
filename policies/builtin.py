"""Loads the policies that need no network: scripted experts, random and idle ones, replays of recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vap_sim.data.twin import SUFFIX, load_episode
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.plan_policy import IdlePolicy, RandomPolicy, ReplayPolicy, ScriptedPolicy

_LARGEST = 2**28  # bytes of recorded actions


def load_scripted(context: PolicyContext) -> ScriptedPolicy:
    """The expert of the context's task. Raises InvalidInput where the context has none."""
    if context.task is None:
        raise InvalidInput("task of policy 'scripted'", None, "a context with the task whose expert is meant")
    return ScriptedPolicy(context.task, context.robot, context.control, context.control_hz)


def load_random(context: PolicyContext, hold: int = 1) -> RandomPolicy:
    """Even between the action's bounds, each drawn action held for `hold` steps."""
    if isinstance(hold, bool) or not isinstance(hold, int) or hold < 1:
        raise InvalidInput("option 'hold' of policy 'random'", hold, "a whole number of steps, 1 or more")
    return RandomPolicy(context.low, context.high, hold)


def load_idle(context: PolicyContext) -> IdlePolicy:
    """Stays where it is."""
    return context.idle


def load_replay(target: str, context: PolicyContext) -> ReplayPolicy:
    """The actions of a recorded twin episode (*.vap.npz), or of a numpy file (*.npy) of shape (T, A) or (b, T, A).

    Raises BadFile for a file that is missing, damaged, or of another control, rate or action length.
    """
    path = Path(target)
    if path.name.endswith(SUFFIX):
        episode = load_episode(path, only=("actions",))
        mode, step = episode.meta["control_mode"], episode.meta["control_dt"]
        if mode != context.control:
            raise BadFile(path, f"recorded under control {mode!r}, the environment has {context.control!r}")
        if not isinstance(step, int | float) or abs(step * context.control_hz - 1) > 1e-6:
            raise BadFile(path, f"recorded with an action each {step} s, the environment has {context.control_hz:g} Hz")
        actions = episode.actions
    else:
        actions = _numpy_file(path)
    if actions.ndim not in (2, 3) or actions.shape[-1] != context.size or not actions.size:
        expected = f"(T, {context.size}) or (b, T, {context.size})"
        raise BadFile(path, f"recorded actions of shape {actions.shape}, expected {expected}")
    if not np.isfinite(actions).all():
        raise BadFile(path, "recorded actions hold numbers that are not finite")
    return ReplayPolicy(actions.astype(np.float32), context.control)


def _numpy_file(path: Path) -> NDArray[np.float32]:
    if path.suffix != ".npy":
        raise BadFile(path, f"is neither a recorded episode (*{SUFFIX}) nor a numpy file (*.npy)")
    try:
        if path.stat().st_size > _LARGEST:
            raise BadFile(path, f"larger than {_LARGEST} bytes")
        # Mapped, not read: a header may claim any size, and then the file is too short for it.
        actions = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise BadFile(path, "no such file") from error
    except (OSError, ValueError, EOFError) as error:
        raise BadFile(path, f"not a whole numpy file of numbers ({error})") from error
    if actions.dtype.kind not in "fiu":
        raise BadFile(path, f"holds {actions.dtype}, expected numbers")
    return np.array(actions, dtype=np.float32)
