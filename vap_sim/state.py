"""The whole memory of a dream as one frozen record: copyable, forkable, saveable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.checkpoint import load_tensors, save_tensors

KIND = "vap_sim world state"
"""What the header of a state's file says it is."""


@dataclass(frozen=True, eq=False, repr=False)
class WorldState:
    """What a world model remembers of b dreams. Nothing else decides what it dreams next, given a prompt.

    context: tensors by name, each (b, ...), as the model likes them; step: (b,) int64, how often each row was stepped;
    key: (b,) int64, the seed of each row's noise; model: fingerprint of the model that wrote the context.
    Tensors in a state are never written to: verbs may return views of them. Raises InvalidInput where rows disagree.
    """

    context: Mapping[str, Tensor]
    step: Tensor
    key: Tensor
    model: str = ""

    def __post_init__(self) -> None:
        for name, counter in (("step", self.step), ("key", self.key)):
            if counter.dtype != torch.int64 or counter.ndim != 1 or counter.shape != self.step.shape:
                given = f"{counter.dtype} {tuple(counter.shape)}"
                raise InvalidInput(f"WorldState.{name}", given, f"torch.int64 ({self.step.numel()},)")
        rows = self.step.shape[0]
        for name, value in self.context.items():
            if value.ndim == 0 or value.shape[0] != rows:
                raise InvalidInput(f"WorldState.context[{name!r}]", tuple(value.shape), f"({rows}, ...), one a row")
        object.__setattr__(self, "context", MappingProxyType(dict(self.context)))

    def __repr__(self) -> str:
        return f"WorldState(model={self.model!r}, {self.rows} rows, {_signature(self)})"

    def __reduce__(self) -> tuple[type[WorldState], tuple[dict[str, Tensor], Tensor, Tensor, str]]:
        return type(self), (dict(self.context), self.step, self.key, self.model)

    def __len__(self) -> int:
        """The number of rows b."""
        return len(self.step)

    @property
    def rows(self) -> int:
        """The number of rows b."""
        return self.step.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors, as many as a copy takes."""
        tensors = (self.step, self.key, *self.context.values())
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def advanced(self, context: Mapping[str, Tensor]) -> WorldState:
        """The state one step later: new context, step counters one higher, the same keys."""
        return WorldState(context, self.step + 1, self.key, self.model)

    def index(self, rows: Tensor | Sequence[int] | slice) -> WorldState:
        """The chosen rows, in the order given: numbers, a slice, or a boolean mask of length b.

        Raises InvalidInput for rows that do not exist.
        """
        chosen = _row_numbers(rows, self.rows)
        return self._map(lambda value: value.index_select(0, chosen.to(value.device)))

    @staticmethod
    def cat(states: Sequence[WorldState]) -> WorldState:
        """The rows of all states in one. Raises InvalidInput unless one model wrote them all."""
        if not states:
            raise InvalidInput("states to join", "none", "at least one")
        first = states[0]
        for other in states[1:]:
            _check_alike("states to join", other, first)
        context = {name: torch.cat([state.context[name] for state in states]) for name in first.context}
        step, key = (torch.cat([getattr(state, name) for state in states]) for name in ("step", "key"))
        return WorldState(context, step, key, first.model)

    def where(self, mask: Tensor, other: WorldState) -> WorldState:
        """This state's rows where mask (b,) bool is True, else the other's. Raises InvalidInput if they are unlike."""
        if mask.dtype != torch.bool or mask.shape != self.step.shape:
            raise InvalidInput("mask of rows", f"{mask.dtype} {tuple(mask.shape)}", f"torch.bool ({self.rows},)")
        _check_alike("state to choose rows from", other, self)
        if other.rows != self.rows:
            raise InvalidInput("state to choose rows from", f"{other.rows} rows", f"{self.rows} rows")

        def choose(mine: Tensor, theirs: Tensor) -> Tensor:
            return torch.where(mask.to(mine.device).reshape(-1, *[1] * (mine.ndim - 1)), mine, theirs)

        context = {name: choose(value, other.context[name]) for name, value in self.context.items()}
        return WorldState(context, choose(self.step, other.step), choose(self.key, other.key), self.model)

    def repeat(self, n: int) -> WorldState:
        """Every row n times: row r becomes rows r n .. r n + n - 1, keys included, so that equal prompts dream equally.

        A single row is not copied: the rows share its memory. Raises InvalidInput for n < 1.
        """
        if n < 1:
            raise InvalidInput("copies of a state", n, "at least 1")
        return self._map(lambda v: v.unsqueeze(1).expand(len(v), n, *v.shape[1:]).reshape(-1, *v.shape[1:]))

    def to(self, device: torch.device | str) -> WorldState:
        """The same state with its tensors on `device`."""
        return self._map(lambda value: value.to(device))

    def save(self, path: Path | str) -> None:
        """Write the state as one safetensors file, whole or not at all."""
        tensors = {f"context/{name}": value for name, value in self.context.items()}
        save_tensors(Path(path), {**tensors, "step": self.step, "key": self.key}, {"kind": KIND, "model": self.model})

    @staticmethod
    def load(path: Path | str) -> WorldState:
        """The state that `save` wrote, on the CPU. Raises BadFile for a missing, damaged or foreign file."""
        tensors, description = load_tensors(Path(path))
        if description.get("kind") != KIND:
            raise BadFile(path, f"field 'kind' is {description.get('kind')!r}, expected {KIND!r}")
        for name in ("step", "key"):
            if name not in tensors:
                raise BadFile(path, f"tensor {name!r} is missing")
        step, key = tensors.pop("step"), tensors.pop("key")
        context = {name.removeprefix("context/"): value for name, value in tensors.items()}
        if not isinstance(description.get("model"), str):
            raise BadFile(path, f"field 'model' is {description.get('model')!r}, expected a fingerprint")
        try:
            return WorldState(context, step, key, description["model"])
        except InvalidInput as error:
            raise BadFile(path, str(error)) from error

    def _map(self, change: Callable[[Tensor], Tensor]) -> WorldState:
        context = {name: change(value) for name, value in self.context.items()}
        return WorldState(context, change(self.step), change(self.key), self.model)


def _signature(state: WorldState) -> str:
    """What two states must share to be joined row by row."""
    parts = (f"{name} {tuple(value.shape[1:])} {value.dtype}" for name, value in sorted(state.context.items()))
    return ", ".join(parts) or "no context"


def _check_alike(what: str, state: WorldState, like: WorldState) -> None:
    if state.model != like.model:
        raise InvalidInput(what, f"a state of model {state.model!r}", f"one of model {like.model!r}")
    if _signature(state) != _signature(like):
        raise InvalidInput(what, _signature(state), _signature(like))


def _row_numbers(rows: Tensor | Sequence[int] | slice, count: int) -> Tensor:
    every = torch.arange(count)
    if isinstance(rows, slice):
        return every[rows]
    chosen = torch.as_tensor(rows).cpu()
    if chosen.numel() == 0 and chosen.dtype != torch.bool:
        return every[:0]
    try:
        return every[chosen].reshape(-1)
    except IndexError as error:
        raise InvalidInput("rows of a state", rows, f"numbers below {count} or a mask of {count} rows") from error
