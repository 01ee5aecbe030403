"""Named errors: what was given, what was expected, and the nearest valid name.

This file imports nothing of the project, so that every room may raise these errors without depending on another room.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class VAPSimError(Exception):
    """Everything this package raises on purpose descends from this class."""


class InvalidInput(VAPSimError, ValueError):
    """A value has the wrong shape, type, unit or range."""

    def __init__(self, what: str, given: object, expected: object) -> None:
        self.what, self.given, self.expected = what, given, expected
        super().__init__(f"{what}: given {given}, expected {expected}")

    def __reduce__(self) -> tuple[type[InvalidInput], tuple[str, object, object]]:
        return type(self), (self.what, self.given, self.expected)


class UnknownName(VAPSimError, LookupError):
    """A name does not exist; the message lists those that do and the nearest of them."""

    def __init__(self, kind: str, given: object, valid: Iterable[str]) -> None:
        self.kind, self.given, self.valid = kind, given, tuple(valid)
        near = get_close_matches(str(given), self.valid, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        known = ", ".join(repr(name) for name in self.valid) or "none"
        super().__init__(f"unknown {kind} {given!r}.{hint} Known: {known}")

    def __reduce__(self) -> tuple[type[UnknownName], tuple[str, object, tuple[str, ...]]]:
        return type(self), (self.kind, self.given, self.valid)


class Unsupported(VAPSimError, NotImplementedError):
    """Valid in general, but not something this package can do; says what and why."""


class BadFile(VAPSimError, ValueError):
    """A file is missing, truncated, foreign or hostile; says which file and which field."""

    def __init__(self, path: object, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path}: {problem}")

    def __reduce__(self) -> tuple[type[BadFile], tuple[object, str]]:
        return type(self), (self.path, self.problem)


class MissingDependency(VAPSimError, ImportError):
    """An optional package is absent; says which extra brings it."""

    def __init__(self, package: str, extra: str, note: str = "") -> None:
        self.package, self.extra, self.note = package, extra, note
        hint = f" {note}" if note else ""
        super().__init__(f"{package} is not installed; it comes with: pip install 'vap-sim[{extra}]'.{hint}")

    def __reduce__(self) -> tuple[type[MissingDependency], tuple[str, str, str]]:
        return type(self), (self.package, self.extra, self.note)


class WorkerLost(VAPSimError, RuntimeError):
    """A process that worked for this one ended without a word, as one does that the system kills for its memory."""

    def __init__(self, under_way: Iterable[str], advice: str) -> None:
        self.under_way, self.advice = tuple(under_way), advice
        work = "; ".join(self.under_way) or "nothing"
        super().__init__(f"a worker process was killed, perhaps for want of memory; under way: {work}. {advice}")

    def __reduce__(self) -> tuple[type[WorkerLost], tuple[tuple[str, ...], str]]:
        return type(self), (self.under_way, self.advice)
