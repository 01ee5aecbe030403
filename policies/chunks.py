"""Policies that decide on several actions at once: what all of them share, whoever decides.

A `ChunkSource` turns an observation into a chunk of actions; `ChunkPolicy` plays the first of them and asks again. Rows
ask when their own chunk is used up, whatever the other rows do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput
from vap_sim.policies.policy import Actions, Carry, Observations, PolicyFault, carry_rows, info_rows

_OWN = ("chunk", "used", "length", "instruction")


class ChunkSource(Protocol):
    """Who decides on chunks of actions."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    def begin(self, keys: NDArray[np.int64], instructions: tuple[str, ...]) -> Carry:
        """Memory beyond the chunk of episodes that begin, one seed and instruction a row; empty for most."""
        ...

    def decide(
        self, obs: Observations, instructions: tuple[str, ...], memory: Carry
    ) -> tuple[NDArray[np.float32], Carry]:
        """Chunks (b, C, A) for observations with leading axis b, in the environment's own actions, and the memory."""
        ...


@dataclass(frozen=True, eq=False)
class ChunkPolicy:
    """Plays at most `execute` actions (A = `size` numbers) of each chunk that a source decides on, then asks again.

    instructions: one a row, filled in by `briefed` from the info of a reset; "" where none is told. `default` stands in
    for an instruction that is empty.
    """

    source: ChunkSource
    size: int
    execute: int
    instructions: tuple[str, ...] | None = None
    default: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.execute, bool) or not isinstance(self.execute, int) or not 1 <= self.execute <= 1024:
            raise InvalidInput("actions to execute of a chunk", self.execute, "a whole number, 1 to 1024")

    def briefed(self, info: Mapping[str, Any]) -> ChunkPolicy:
        """The same policy, told the instruction of each environment."""
        return replace(self, instructions=tuple(str(row.get("instruction", "")) for row in info_rows(info)))

    def reset(self, num_envs: int, seed: int) -> Carry:
        """No actions yet. Raises InvalidInput where instructions were told for another number of environments."""
        told = ("",) * num_envs if self.instructions is None else self.instructions
        if len(told) != num_envs:
            raise InvalidInput("instructions", f"{len(told)} rows", f"{num_envs}, one an environment")
        texts = tuple(text or self.default for text in told)
        memory = self.source.begin(np.arange(num_envs, dtype=np.int64) + seed, texts)
        return {
            "chunk": np.zeros((num_envs, self.execute, self.size), np.float32),
            "used": np.zeros(num_envs, np.int64),
            "length": np.zeros(num_envs, np.int64),
            "instruction": np.array(texts, np.str_),
            **{f"memory/{name}": value for name, value in memory.items()},
        }

    def act(self, obs: Observations, carry: Carry) -> tuple[Actions, Carry]:
        """The next actions (b, A) of each row's chunk. Raises PolicyFault where the source gives something else."""
        due = np.flatnonzero(carry["used"] >= carry["length"])
        if len(due):
            carry = self._asked(obs, carry, due)
        used = carry["used"]
        actions = carry["chunk"][np.arange(len(used)), used]
        return actions, {**carry, "used": used + 1}

    def _asked(self, obs: Observations, carry: Carry, due: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
        memory = {name.removeprefix("memory/"): value for name, value in carry.items() if name not in _OWN}
        texts = tuple(str(text) for text in carry["instruction"][due])
        chunks, after = self.source.decide(carry_rows(obs, due), texts, carry_rows(memory, due))
        chunks = checked_chunks(chunks, len(due), self.size, self.source.name)[:, : self.execute]
        out = {name: value.copy() for name, value in carry.items()}
        out["chunk"][due] = 0
        out["chunk"][due, : chunks.shape[1]] = chunks
        out["used"][due], out["length"][due] = 0, chunks.shape[1]
        for name, value in after.items():
            out[f"memory/{name}"][due] = value
        return out


def checked_chunks(chunks: object, rows: int, size: int, name: str) -> NDArray[np.float32]:
    """Chunks (rows, C, size) as float32, C at least 1. Raises PolicyFault for another shape, type or not-a-number."""
    if not isinstance(chunks, np.ndarray) or chunks.dtype.kind not in "fiu":
        kind = f"an array of {chunks.dtype}" if isinstance(chunks, np.ndarray) else type(chunks).__name__
        raise PolicyFault(name, f"gave {kind}, expected an array of numbers")
    if chunks.ndim != 3 or len(chunks) != rows or chunks.shape[1] < 1 or chunks.shape[2] != size:
        raise PolicyFault(name, f"gave chunks {chunks.shape}, expected ({rows}, C, {size}) with C at least 1")
    if not np.isfinite(chunks).all():
        row, step, entry = np.argwhere(~np.isfinite(chunks))[0]
        place = f"entry {entry} of action {step} in the chunk of row {row}"
        raise PolicyFault(name, f"gave {chunks[row, step, entry]} as {place}, expected a finite number")
    return chunks.astype(np.float32, copy=False)
