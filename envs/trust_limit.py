"""Stop dreams that are no longer to be believed: wrappers that truncate where a signal of trust passes its limit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.metrics.risk import Risk

REASON = "untrusted"
"""Where `info` says why a dream was stopped."""


@dataclass(frozen=True)
class TrustLimits:
    """What is still believed; None is not asked. Signals as `vap_sim.envs.trusting.SIGNALS` names them.

    agreement: prompt agreement at least; doubt, drift, risk: at most. Raises InvalidInput where nothing is asked, and
    for limits that are no finite numbers, 0 or more.
    """

    agreement: float | None = None
    doubt: float | None = None
    drift: float | None = None
    risk: float | None = None

    def __post_init__(self) -> None:
        asked = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) is not None}
        wrong = [value for value in asked.values() if not math.isfinite(value) or value < 0]
        if not asked or wrong:
            raise InvalidInput("limits of trust", asked or "none", "at least one, each a finite number, 0 or more")

    @classmethod
    def calibrated(cls) -> TrustLimits:
        """The limit on `dream_risk` that was chosen with its weights: it stops few dreams that stay true."""
        return cls(risk=Risk.load().limit)

    def reason(self, info: Mapping[str, Any]) -> str:
        """Why a step is not to be believed, "" if it is. A signal that does not exist in a step says nothing."""
        for name, limit, least in (
            ("prompt_agreement", self.agreement, True),
            ("dream_doubt", self.doubt, False),
            ("dream_drift", self.drift, False),
            ("dream_risk", self.risk, False),
        ):
            if limit is None or name not in info:
                continue
            value = float(info[name])
            if value < limit if least else value > limit:
                return f"{name} {value:.2f}, at {'least' if least else 'most'} {limit:g} is believed"
        return ""


class TrustLimit(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Truncates an episode, with the reason in `info["untrusted"]`, once a signal passes its limit.

        env = TrustLimit(gym.make("VAPWorld-DROID-v0", trust=True))

    limits: by default the calibrated one of `dream_risk`. The environment must have been made with `trust=True` and
    its world must give the signals that are limited; the first reset raises Unsupported if not.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], limits: TrustLimits | None = None) -> None:
        super().__init__(env)
        self.limits = TrustLimits.calibrated() if limits is None else limits

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As the environment's. Raises Unsupported where a limited signal does not exist."""
        observation, info = self.env.reset(seed=seed, options=options)
        check_signals(self.limits, info)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment's, but truncated where it is not to be believed."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        reason = self.limits.reason(info)
        if reason:
            info = {**info, REASON: reason}
        return observation, reward, terminated, truncated or bool(reason), info


class TrustLimitVector(VectorWrapper[Any, Any, Any]):
    """`TrustLimit` for dreams in rows; a row that is stopped begins again as the environment's autoreset mode says.

        envs = TrustLimitVector(gym.make_vec("VAPWorld-DROID-v0", num_envs=8, trust=True))

    Raises Unsupported for an environment without an autoreset mode of its own.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], limits: TrustLimits | None = None) -> None:
        super().__init__(env)
        mode = env.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise Unsupported(f"limits of trust need an environment that tells its autoreset mode; given {mode!r}")
        self.limits = TrustLimits.calibrated() if limits is None else limits
        self._mode = mode
        self._stopped = np.zeros(env.num_envs, np.bool_)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As the environment's. Raises Unsupported where a limited signal does not exist."""
        observations, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        mask = (options or {}).get("reset_mask")
        chosen = np.ones(self.num_envs, np.bool_) if mask is None else np.asarray(mask, np.bool_)
        for row in np.flatnonzero(chosen):
            check_signals(self.limits, row_info(infos, int(row)))
        self._stopped = self._stopped & ~chosen
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """As the environment's, but rows that are not to be believed are truncated."""
        again = self._stopped
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        if again.any():  # in the mode NEXT_STEP: rows stopped in the last call, which the environment knows nothing of
            observations, infos = self._restarted(again, observations, infos)
            rewards, terminated, truncated = (np.where(again, 0, one) for one in (rewards, terminated, truncated))
            terminated, truncated = terminated.astype(np.bool_), truncated.astype(np.bool_)
        over = terminated | truncated
        reasons = [
            "" if again[row] or (over[row] and self._mode == AutoresetMode.SAME_STEP) else
            self.limits.reason(row_info(infos, row))
            for row in range(self.num_envs)
        ]  # fmt: skip
        stopped = np.array([bool(reason) for reason in reasons])
        if not stopped.any():
            self._stopped = np.zeros(self.num_envs, np.bool_)
            return observations, rewards, terminated, truncated, infos
        if self._mode == AutoresetMode.SAME_STEP:
            last = {key: value.copy() for key, value in observations.items()}
            finals = {row: {**row_info(infos, int(row)), REASON: reasons[row]} for row in np.flatnonzero(stopped)}
            observations, infos = self._restarted(stopped, observations, infos)
            for row, final in finals.items():
                shown = {key: value[row] for key, value in last.items()}
                infos = self.env._add_info(infos, {"final_obs": shown, "final_info": final}, int(row))
        else:
            for row in np.flatnonzero(stopped):
                infos = self.env._add_info(infos, {REASON: reasons[row]}, int(row))
        # The environment begins rows that it ended itself again by itself.
        self._stopped = stopped & ~over if self._mode == AutoresetMode.NEXT_STEP else np.zeros_like(stopped)
        return observations, rewards, terminated, truncated | stopped, infos

    def _restarted(
        self, rows: NDArray[np.bool_], observations: Any, infos: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """New dreams in `rows`; what is told of the others stays."""
        fresh, told = self.env.reset(options={"reset_mask": rows})
        kept = [{} if rows[row] else row_info(infos, row) for row in range(self.num_envs)]
        joined: dict[str, Any] = {}
        for row in range(self.num_envs):
            joined = self.env._add_info(joined, row_info(told, row) if rows[row] else kept[row], row)
        return fresh, joined


def row_info(infos: Mapping[str, Any], row: int) -> dict[str, Any]:
    """What a vector environment's infos tell of one row."""
    told: dict[str, Any] = {}
    for name, values in infos.items():
        if name.startswith("_") or not bool(infos.get(f"_{name}", np.zeros(row + 1, np.bool_))[row]):
            continue
        value = row_info(values, row) if isinstance(values, dict) else values[row]
        told[name] = value.item() if isinstance(value, np.generic) else value
    return told


def check_signals(limits: TrustLimits, info: Mapping[str, Any]) -> None:
    """Raise Unsupported unless the signals that are limited exist; a robot may be out of sight for a while."""
    limited = {"dream_doubt": limits.doubt, "dream_drift": limits.drift, "dream_risk": limits.risk}
    missing = [name for name, limit in limited.items() if limit is not None and name not in info]
    if missing or not any(name in info for name in ("prompt_agreement", "dream_drift")):
        world = info.get("world", "this world")
        names = ", ".join(missing) or "signals of trust"
        raise Unsupported(
            f"world {world!r} gives no {names}: make the environment with trust=True, limit other signals"
        )
