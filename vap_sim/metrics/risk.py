"""Signals of trust as one probability: a small logistic model, fitted on episodes whose truth is known.

Only as good as the episodes it was fitted on: its file names the world and the robot it speaks of.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped, unused-ignore]
from scipy.special import expit  # type: ignore[import-untyped, unused-ignore]

from vap_sim.errors import BadFile, InvalidInput, UnknownName

WEIGHTS = Path(__file__).parent / "weights" / "risk.json"
Floats = NDArray[np.float64]
_FIRST = "panda_robotiq"  # of files that name no robot


@dataclass(frozen=True)
class Risk:
    """P(event) = expit(bias + sum of weights x (signal - mean) / scale).

    signals: names, in the order of the other tuples; world, robot: whose dreams, and of which body, it was fitted on;
    limit: the probability from which a dream is better stopped; about: how it was fitted.
    """

    signals: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    world: str
    limit: float = 0.5
    about: Mapping[str, Any] = field(default_factory=dict)
    robot: str = _FIRST

    def __post_init__(self) -> None:
        lengths = {len(self.signals), len(self.means), len(self.scales), len(self.weights)}
        numbers = np.array([*self.means, *self.scales, *self.weights, self.bias, self.limit], np.float64)
        good = len(lengths) == 1 and self.signals and np.isfinite(numbers).all() and min(self.scales) > 0
        if not good or not 0 < self.limit < 1:
            given = f"{len(self.signals)} signals, numbers {numbers.tolist()}"
            expected = "at least one signal, finite numbers for each, scales above 0, a limit between 0 and 1"
            raise InvalidInput("risk model", given, expected)

    def __call__(self, values: Mapping[str, float | Floats]) -> Floats:
        """Probabilities of n moments: signals by name, each a number or (n,). NaN where a signal is.

        Raises UnknownName for a signal that is missing.
        """
        for name in self.signals:
            if name not in values:
                raise UnknownName("signal", name, values)
        columns = np.stack(
            np.broadcast_arrays(*(np.asarray(values[name], np.float64) for name in self.signals)), axis=-1
        )
        unit = (columns - np.array(self.means)) / np.array(self.scales)
        return np.asarray(expit(unit @ np.array(self.weights) + self.bias), np.float64)

    @classmethod
    def load(cls, path: Path | str | None = None) -> Risk:
        """From a JSON file, by default the one that ships with the package. Raises BadFile."""
        path = WEIGHTS if path is None else Path(path)
        try:
            content = json.loads(path.read_text("utf-8"))
            tuples = {name: tuple(content[name]) for name in ("signals", "means", "scales", "weights")}
            return cls(
                **tuples,
                bias=float(content["bias"]),
                world=str(content["world"]),
                limit=float(content["limit"]),
                about=dict(content["about"]),
                robot=str(content.get("robot", _FIRST)),
            )
        except FileNotFoundError as error:
            raise BadFile(path, "no such file") from error
        except KeyError as error:
            raise BadFile(path, f"field {error} is missing") from error
        except (OSError, ValueError, TypeError, InvalidInput) as error:
            raise BadFile(path, f"not a risk model ({error})") from error

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        content = {**self.__dict__, "about": dict(self.about)}
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
        os.replace(partial, path)


def fit_risk(
    values: Mapping[str, Sequence[float] | Floats],
    event: Sequence[bool] | NDArray[np.bool_],
    *,
    world: str,
    ridge: float = 1.0,
    rising: bool = True,
    about: Mapping[str, Any] | None = None,
) -> Risk:
    """Fit by maximum likelihood with a ridge on the weights of standardised signals.

    values: signals by name, each (n,) finite; event: (n,); rising: weights are kept at 0 or above, as of signals of
    which each can only raise suspicion. Raises InvalidInput for lengths that differ, numbers that are not finite, a
    signal that never changes, and events that always or never happen.
    """
    names = tuple(values)
    happened = np.asarray(event)
    columns = np.stack([np.asarray(values[name], np.float64) for name in names], axis=-1) if names else np.zeros((0, 0))
    if not names or happened.dtype != bool or columns.shape[:-1] != happened.shape or happened.ndim != 1:
        given = f"signals {columns.shape}, events {happened.dtype} {happened.shape}"
        raise InvalidInput("signals and events", given, "numbers and bools of one length")
    if not np.isfinite(columns).all():
        raise InvalidInput("signals", "values that are no finite numbers", "finite ones")
    if happened.all() or not happened.any():
        raise InvalidInput("events", f"{int(happened.sum())} of {len(happened)}", "some, but not all")
    means, scales = columns.mean(0), columns.std(0)
    if (scales <= 0).any():
        raise InvalidInput("signals", f"{names[int(np.argmin(scales))]!r} always the same", "signals that change")
    unit, sign = (columns - means) / scales, np.where(happened, 1.0, -1.0)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        margin = sign * (unit @ parameters[:-1] + parameters[-1])
        slope = -sign * expit(-margin)
        pull = ridge * np.append(parameters[:-1], 0.0)
        value = np.logaddexp(0, -margin).sum() + 0.5 * float(pull @ parameters)
        return float(value), np.append(unit.T @ slope, slope.sum()) + pull

    bounds = [(0.0 if rising else None, None)] * len(names) + [(None, None)]
    found = minimize(loss, np.zeros(len(names) + 1), jac=True, bounds=bounds, method="L-BFGS-B")
    if not found.success:
        raise InvalidInput("signals and events", f"no fit ({found.message})", "signals that a fit converges on")
    weights = found.x
    return Risk(
        signals=names,
        means=tuple(means.tolist()),
        scales=tuple(scales.tolist()),
        weights=tuple(weights[:-1].tolist()),
        bias=float(weights[-1]),
        world=world,
        about=about or {},
    )
