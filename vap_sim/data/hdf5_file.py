"""Tables of numbers in an HDF5 file that a stranger wrote: nothing is followed out of it, nothing allocated blindly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from vap_sim.data.episode import Array
from vap_sim.data.logged import Log
from vap_sim.errors import BadFile, MissingDependency

MOST_ROWS = 2**20
"""Rows of a table; at 15 Hz they last nineteen hours."""
_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError)
"""What h5py raises for damage, which depends on where it is."""


@dataclass(frozen=True, eq=False)
class Hdf5Tables:
    """An open file; `opened_tables` makes one. log: for errors."""

    log: Log
    file: Any

    def names(self, group: str) -> tuple[str, ...]:
        """Names in a group, in order; none where there is no such group. Raises BadFile."""
        found = self._find(group)
        try:
            return tuple(sorted(found.keys())) if found is not None and hasattr(found, "keys") else ()
        except _DAMAGE as error:
            self._refuse(group, error)

    def has(self, name: str) -> bool:
        """Whether there is something of that name. Raises BadFile."""
        return self._find(name) is not None

    def table(self, name: str, width: int, rows: int | None = None) -> Array:
        """A table (T, width), or (T,) as (T, 1), of finite numbers. Raises BadFile naming the field."""
        return self.log.table(self._read(name, (width,), rows), name, width, rows)

    def matrices(self, name: str, shape: tuple[int, int], rows: int | None = None) -> Array:
        """Matrices (T, *shape) of finite numbers, T at least 1. Raises BadFile naming the field."""
        values = self._read(name, shape, rows)
        if not len(values):
            self.log.refuse(name, "is empty")
        return self.log.table(values.reshape(len(values), -1), name, shape[0] * shape[1], rows).reshape(-1, *shape)

    def _read(self, name: str, shape: tuple[int, ...], rows: int | None) -> Any:
        found = self._find(name)
        if found is None:
            self.log.refuse(name, "is missing")
        try:
            given, kind = tuple(found.shape), found.dtype
            if found.is_virtual or found.external:
                self.log.refuse(name, "keeps its numbers in another file, which is not followed")
        except AttributeError:
            self.log.refuse(name, "is a group, expected a table")
        except _DAMAGE as error:
            self._refuse(name, error)
        # Compared before anything is read: a header may claim any shape.
        fits = given[1:] == shape or (len(given) == 1 and shape == (1,))
        if not fits or kind.kind not in "fiub" or (rows is not None and given[0] != rows) or given[0] > MOST_ROWS:
            expected = ("T" if rows is None else rows, *shape)
            self.log.refuse(name, f"is {kind} of shape {given}, expected numbers of shape {expected}")
        try:
            return np.asarray(found[()], np.float64)
        except _DAMAGE as error:
            self._refuse(name, error)

    def _refuse(self, name: str, error: Exception) -> NoReturn:
        if isinstance(error, BadFile):
            raise error
        self.log.refuse(name, f"cannot be read ({error})")

    def attribute(self, name: str) -> Any:
        """An attribute of the file itself, None where there is none. Raises BadFile."""
        try:
            return self.file.attrs.get(name)
        except _DAMAGE as error:
            self._refuse(name, error)

    def _find(self, name: str) -> Any:
        """What a path of names leads to by links inside the file, or None."""
        import h5py

        place = self.file
        for part in name.split("/"):
            try:
                link = place.get(part, getlink=True) if hasattr(place, "keys") else None
                if link is None:
                    return None
                if not isinstance(link, h5py.HardLink):
                    self.log.refuse(name, "is a link to somewhere else, which is not followed")
                place = place[part]
            except _DAMAGE as error:
                self._refuse(name, error)
        return place


@contextmanager
def opened_tables(log: Log) -> Iterator[Hdf5Tables]:
    """The file of `log`, open while it is read. Raises BadFile for one that is no HDF5 file, MissingDependency."""
    try:
        import h5py
    except ImportError as error:
        raise MissingDependency("h5py", "data") from error
    try:
        file = h5py.File(log.path, "r", locking=False)
    except _DAMAGE as error:
        raise BadFile(log.path, f"episode {log.episode!r}: is no HDF5 file that can be read ({error})") from error
    try:
        yield Hdf5Tables(log, file)
    finally:
        file.close()
