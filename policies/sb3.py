"""Stable-Baselines3 models as policies."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vap_sim.errors import BadFile, InvalidInput, MissingDependency, UnknownName
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.policy import Actions, Carry, Observations, PolicyFault

_ALGORITHMS = ("PPO", "A2C", "SAC", "TD3", "DDPG")


@dataclass(frozen=True, eq=False)
class Sb3Policy:
    """The deterministic action of a Stable-Baselines3 model; it remembers nothing."""

    model: Any
    name: str

    def reset(self, num_envs: int, seed: int) -> Carry:
        """Nothing to remember."""
        return {}

    def act(self, obs: Observations, carry: Carry) -> tuple[Actions, Carry]:
        """Actions (b, A). Raises PolicyFault for observations that the model was not trained on."""
        space = self.model.observation_space
        spaces = getattr(space, "spaces", None)
        if spaces is None:
            raise PolicyFault(self.name, f"was trained on {space}, expected observations by name (Dict)")
        missing = [key for key in spaces if key not in obs]
        if missing:
            raise PolicyFault(self.name, f"was trained on {sorted(spaces)}, the environment does not show {missing}")
        try:
            actions, _ = self.model.predict({key: np.asarray(obs[key]) for key in spaces}, deterministic=True)
        except ValueError as error:
            raise PolicyFault(self.name, f"does not fit the observations ({error})"[:300]) from error
        return np.asarray(actions, np.float32), carry


def load_sb3(target: str, context: PolicyContext, *, trust: bool = False, algorithm: str = "PPO") -> Sb3Policy:
    """The model in a ZIP file that Stable-Baselines3 saved.

    trust: must be True. Such a file holds pickled Python objects, and reading it runs whatever code they carry: pass it
    for files that you wrote yourself, or whose author you would let run a program on this machine. algorithm: the class
    that saved it.

    Raises:
        InvalidInput: without trust. UnknownName: another algorithm. MissingDependency: without the extra rl.
        BadFile: missing or damaged, or for actions of another length.
    """
    path = Path(target)
    if algorithm not in _ALGORITHMS:
        raise UnknownName("option 'algorithm' of policy 'sb3'", algorithm, _ALGORITHMS)
    if trust is not True:
        expected = "trust=True, because reading this file runs code that it carries (it holds pickled objects)"
        raise InvalidInput(f"option 'trust' for {path.name}", trust, expected)
    try:
        with zipfile.ZipFile(path) as archive:
            lacking = {"data", "policy.pth"} - set(archive.namelist())
    except FileNotFoundError as error:
        raise BadFile(path, "no such file") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise BadFile(path, f"not a whole ZIP file ({error})") from error
    if lacking:
        raise BadFile(path, f"not a model of Stable-Baselines3: it lacks {sorted(lacking)}")
    try:
        import stable_baselines3
    except ImportError as error:
        raise MissingDependency("stable-baselines3", "rl") from error
    try:
        model = getattr(stable_baselines3, algorithm).load(path, device="cpu")
    except (KeyError, ValueError, TypeError, RuntimeError, AttributeError, EOFError, ImportError) as error:
        raise BadFile(path, f"{algorithm} cannot read it ({type(error).__name__}: {error})"[:300]) from error
    if model.action_space.shape != (context.size,):
        raise BadFile(path, f"made for actions {model.action_space.shape}, the environment has ({context.size},)")
    return Sb3Policy(model, f"sb3@{path.name}")
