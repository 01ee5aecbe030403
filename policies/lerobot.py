"""LeRobot policies from a local folder, by the lerobot that the user has installed.

No extra brings lerobot: its releases pin versions of torch or Gymnasium that this package cannot live with, so it is
found at run time where somebody has made both fit (read against lerobot 0.4 to 0.6). Nothing is downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.errors import BadFile, MissingDependency, Unsupported
from vap_sim.policies.chunks import ChunkPolicy
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.mapping import NetworkMapping, read_mapping
from vap_sim.policies.policy import Carry, Observations, PolicyFault

_HOME = "lerobot.policies.factory"
_DEFAULT: Mapping[str, Any] = {
    "inputs": [
        {"name": "observation.images.exterior_1", "keys": ["image"], "size": 224, "pad": True},
        {"name": "observation.state", "keys": ["joint_position", "gripper_position"]},
    ],
    "execute": 8,
}


@dataclass(frozen=True, eq=False)
class LeRobotSource:
    """Decides by a LeRobot policy's `predict_action_chunk`, between its own processors."""

    name: str
    policy: Any
    before: Any
    after: Any
    mapping: NetworkMapping

    def begin(self, keys: NDArray[np.int64], instructions: tuple[str, ...]) -> Carry:
        """Nothing to remember."""
        return {}

    def decide(
        self, obs: Observations, instructions: tuple[str, ...], memory: Carry
    ) -> tuple[NDArray[np.float32], Carry]:
        """Chunks (b, C, A), one row at a time. Raises PolicyFault where the policy fails."""
        inputs = {item.name: item.of(obs) for item in self.mapping.inputs}
        chunks = []
        for row, text in enumerate(instructions):
            batch: dict[str, Any] = {name: torch.from_numpy(value[row : row + 1]) for name, value in inputs.items()}
            try:
                with torch.no_grad():
                    chunk = self.after(self.policy.predict_action_chunk(self.before({**batch, "task": [text]})))
            except (RuntimeError, ValueError, KeyError, NotImplementedError) as error:
                raise PolicyFault(self.name, f"failed: {type(error).__name__}: {error}"[:300]) from error
            if not isinstance(chunk, torch.Tensor) or chunk.ndim != 3 or len(chunk) != 1:
                kind = tuple(chunk.shape) if isinstance(chunk, torch.Tensor) else type(chunk).__name__
                raise PolicyFault(self.name, f"gave {kind}, expected a chunk (1, C, A)")
            chunks.append(chunk.detach().float().cpu().numpy())
        return self.mapping.chunks(np.concatenate(chunks)), {}


def load_lerobot(
    target: str, context: PolicyContext, *, mapping: Mapping[str, Any] | str | None = None, execute: int | None = None
) -> ChunkPolicy:
    """The policy in a folder as `save_pretrained` leaves it: config.json, model.safetensors, processors.

    mapping: what it sees under which name (`mapping.py`); by default the first camera as
    `observation.images.exterior_1`, padded to 224 px, and joints with gripper as `observation.state`.

    Raises:
        MissingDependency: lerobot is not installed. BadFile: the folder is not one of a policy.
        Unsupported: a policy that looks at several past observations, whose memory lerobot keeps to itself.
    """
    folder = Path(target)
    kind = _kind(folder)
    try:
        factory = import_module(_HOME)
    except ImportError as error:
        raise MissingDependency("lerobot", "all", "Beyond that, lerobot itself is yours to install.") from error
    what = read_mapping(_DEFAULT if mapping is None else mapping)
    try:
        policy = factory.get_policy_class(kind).from_pretrained(str(folder), local_files_only=True)
        before, after = factory.make_pre_post_processors(policy.config, str(folder))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, NotImplementedError) as error:
        raise BadFile(folder, f"lerobot cannot load it ({type(error).__name__}: {error})"[:300]) from error
    if getattr(policy.config, "n_obs_steps", 1) != 1:
        raise Unsupported(
            f"policy {kind!r} looks at {policy.config.n_obs_steps} past observations; only 1 can be shown"
        )
    policy.eval()
    source = LeRobotSource(f"lerobot@{folder.name}", policy, before, after, what)
    return ChunkPolicy(source, context.size, what.execute if execute is None else execute)


def _kind(folder: Path) -> str:
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadFile(folder, "no folder of a LeRobot policy: it has no config.json") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(path, f"is not JSON ({error})") from error
    kind = values.get("type") if isinstance(values, dict) else None
    if not isinstance(kind, str):
        raise BadFile(path, f"field 'type' is {kind!r}, expected the name of a policy")
    return kind
