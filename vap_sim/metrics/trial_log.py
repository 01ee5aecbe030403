"""Trials on disk as they happen: JSON lines, each safe once `append` has returned, read again after a kill.

The first line says what made the trials, and a log is continued only by the same. What a kill left of a last line is
dropped and told; a broken line anywhere else is an error. One process at a time writes a log: shards write their own.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.metrics.trials import Trial, TrialKey, TrialTable

FORMAT = "vap-sim trials 1"
HEAD = f'{{"format": "{FORMAT}"'.encode()


class TrialLog:
    """A table of trials that grows on disk; a context manager.

    path: the file, made with its folder if there is none. about: what makes the trials (weights, judge, versions), as
    JSON values; a file that tells otherwise is refused, so that no table mixes two worlds. `torn` holds what was
    dropped of a last line. Raises InvalidInput for another `about` and for a file that another process writes, BadFile
    for a damaged or foreign file, OSError where the disk refuses.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        plain = _plain(about)
        new = not self.path.exists()
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            self._lock()
            if new:
                _sync_folder(self.path.parent)
            content = self.path.read_bytes()
            whole = content.rfind(b"\n") + 1
            table = _parse(self.path, content[:whole]) if whole else TrialTable((), plain, self.path.parent)
            if not whole and not HEAD.startswith(content[: len(HEAD)]):
                raise BadFile(self.path, f"line 1: not the head of a trial log ({FORMAT!r} with 'about')")
            _check_same(self.path, dict(table.about), plain)
            # Only now is the file known to be a log of ours, whose torn end may go.
            self.torn = content[whole:].decode("utf-8", "replace")
            os.ftruncate(self._file, whole)
            if not whole:
                self._write({"format": FORMAT, "about": plain})
        except BaseException:
            os.close(self._file)
            raise
        self.about = table.about
        self._trials: dict[TrialKey, Trial] = {one.key: one for one in table}
        self._open = True

    @property
    def table(self) -> TrialTable:
        """All trials so far."""
        return TrialTable(tuple(self._trials.values()), self.about, self.path.parent)

    def __contains__(self, key: TrialKey) -> bool:
        return key in self._trials

    def __len__(self) -> int:
        return len(self._trials)

    def append(self, trial: Trial) -> None:
        """Write a trial; it is on the disk when this returns.

        Raises InvalidInput for a trial that is there already and for a closed log, OSError where the disk refuses; what
        was written in part is then taken back.
        """
        if not self._open:
            raise InvalidInput(f"trial for {self.path}", trial.key, "a log that is not closed")
        if trial.key in self._trials:
            raise InvalidInput(f"trial for {self.path}", f"{trial.key} a second time", "each trial once")
        self._write(trial.to_json())
        self._trials[trial.key] = trial

    def close(self) -> None:
        """Let go of the file; once more does nothing."""
        if self._open:
            self._open = False
            os.close(self._file)

    def __enter__(self) -> TrialLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidInput("trial log", f"{self.path}, which another process writes", "one of its own") from None

    def _write(self, content: Mapping[str, Any]) -> None:
        line = json.dumps(content, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        size = os.fstat(self._file).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, size)
            raise


def load_trials(path: Path) -> tuple[TrialTable, str]:
    """The whole trials of a log, and what a kill left of a last line ("" if nothing); the file stays as it is.

    Raises BadFile for a missing, damaged or foreign file; names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise BadFile(path, "no such trial log")
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    return _parse(path, content[:whole]), content[whole:].decode("utf-8", "replace")


def _parse(path: Path, content: bytes) -> TrialTable:
    lines = content.split(b"\n")[:-1]
    head = _json_object(path, 1, lines[0]) if lines else {}
    if head.get("format") != FORMAT or not isinstance(head.get("about"), dict):
        raise BadFile(path, f"line 1: not the head of a trial log ({FORMAT!r} with 'about')")
    trials: dict[TrialKey, Trial] = {}
    for number, line in enumerate(lines[1:], start=2):
        try:
            trial = Trial.from_json(_json_object(path, number, line))
        except (InvalidInput, UnknownName) as error:
            raise BadFile(path, f"line {number}: {error}") from error
        if trial.key in trials:
            raise BadFile(path, f"line {number}: {trial.key} a second time")
        trials[trial.key] = trial
    return TrialTable(tuple(trials.values()), head["about"], path.parent)


def _json_object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        content = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadFile(path, f"line {number}: no JSON ({error})") from error
    if not isinstance(content, dict):
        raise BadFile(path, f"line {number}: {type(content).__name__}, expected a JSON object")
    return content


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _check_same(path: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    for name in sorted({*there, *here}):
        if there.get(name) != here.get(name):
            given, expected = f"{name} {here.get(name)!r}", f"{there.get(name)!r}, which made those that are there"
            raise InvalidInput(f"trials for {path}", given, f"{expected}, or another folder")


def _plain(about: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return dict(json.loads(json.dumps(dict(about), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise InvalidInput("what a trial log is about", f"{about!r} ({error})", "JSON values") from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
