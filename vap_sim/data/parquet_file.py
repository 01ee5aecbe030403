"""Reading parts of Parquet files: named columns of some rows, and a named error for whatever is wrong with a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import BadFile, MissingDependency

_LARGEST_TEXT = 2**26
"""Bytes of one text in a file's own description, and as many of its members."""


_KEPT = 4
"""Groups of rows that are remembered: the numbers of an episode and the pictures of three cameras."""


def parquet() -> Any:
    """The module `pyarrow.parquet`. Raises MissingDependency."""
    try:
        import pyarrow.parquet as module
    except ImportError as error:
        raise MissingDependency("pyarrow", "data") from error
    return module


class ParquetRows:
    """A table in a file, opened to be read in parts. Not for several threads."""

    def __init__(self, path: Path) -> None:
        """Opens the file and reads its description. Raises BadFile, MissingDependency."""
        self.path = path
        self._file = _opened(path)
        with _named(path, "its description"):
            self.columns: tuple[str, ...] = tuple(self._file.schema_arrow.names)
            counts = [self._file.metadata.row_group(k).num_rows for k in range(self._file.num_row_groups)]
            if min(counts, default=0) < 0:
                raise BadFile(path, "its description is damaged: it states a negative number of rows")
            self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> ParquetRows:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self._starts[-1])

    def numbers(self, column: str, first: int = 0, last: int | None = None) -> NDArray[np.float64]:
        """Rows of a column of numbers, or of lists of n numbers, as (rows, n). Raises BadFile naming the column."""
        values = self.read((column,), first, last).column(column).combine_chunks()
        return as_numbers(self.path, column, values)

    def read(self, columns: Sequence[str], first: int = 0, last: int | None = None) -> Any:
        """Rows `first` to before `last` of some columns, as a pyarrow table. Raises BadFile naming the column."""
        last = self.rows if last is None else last
        if not 0 <= first <= last <= self.rows:
            raise BadFile(self.path, f"has {self.rows} rows, expected rows {first} to {last}")
        for column in columns:
            self._check(column)
        begin = max(int(np.searchsorted(self._starts, first, side="right")) - 1, 0)
        end = int(np.searchsorted(self._starts, last))
        table = _groups(*_state(self.path), tuple(columns), begin, end)
        start = int(self._starts[begin]) if end else 0
        if table.num_rows != int(self._starts[end]) - start:
            raise BadFile(self.path, f"has {table.num_rows} rows where its description says otherwise")
        return table.slice(first - start, last - first)

    def _check(self, column: str) -> None:
        if column not in self.columns:
            raise BadFile(self.path, f"column {column!r} is missing; it has {', '.join(self.columns)}")


def column_part(path: Path, column: str, first: int, last: int) -> Any:
    """Rows `first` to before `last` of a column, as a pyarrow array; kept for the next question. Raises BadFile."""
    return _part(*_state(path), column, first, last)


@lru_cache(maxsize=_KEPT)
def _part(path: Path, _changed: int, _bytes: int, column: str, first: int, last: int) -> Any:
    with ParquetRows(path) as rows:
        return rows.read((column,), first, last).column(column)


def as_numbers(path: Path, column: str, values: Any) -> NDArray[np.float64]:
    """(rows, n) of a pyarrow array of numbers, truth values, or lists of equal length of them. Raises BadFile."""
    import pyarrow

    count = len(values)
    with _named(path, f"column {column!r}"):
        values = values.combine_chunks() if isinstance(values, pyarrow.ChunkedArray) else values
        while True:
            if isinstance(values, pyarrow.ExtensionArray):
                values = values.storage
            if values.null_count:
                raise BadFile(path, f"column {column!r} lacks {values.null_count} of its values")
            kind = values.type
            if not (pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind) or _is_fixed(kind)):
                break
            if len(values.value_lengths().unique()) > 1:
                raise BadFile(path, f"column {column!r} has rows of different lengths")
            values = values.flatten()
        if not (pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind) or pyarrow.types.is_boolean(kind)):
            raise BadFile(path, f"column {column!r} holds {kind}, expected numbers")
        flat = values.to_numpy(zero_copy_only=False).astype(np.float64)
    if count and len(flat) % count:
        raise BadFile(path, f"column {column!r} has {len(flat)} numbers in {count} rows")
    return flat.reshape(count, -1) if count else np.zeros((0, 0))


def _is_fixed(kind: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_fixed_size_list(kind))


def _opened(path: Path) -> Any:
    module = parquet()
    with _named(path, "its description"):
        if not path.is_file():
            raise BadFile(path, "no such file")
        return module.ParquetFile(
            path,
            thrift_string_size_limit=_LARGEST_TEXT,
            thrift_container_size_limit=_LARGEST_TEXT,
            page_checksum_verification=True,
            pre_buffer=False,
        )


def _state(path: Path) -> tuple[Path, int, int]:
    """What tells one content of a file from another."""
    with _named(path, "the file"):
        status = path.stat()
    return path, status.st_mtime_ns, status.st_size


@lru_cache(maxsize=_KEPT)
def _groups(path: Path, _changed: int, _bytes: int, columns: tuple[str, ...], begin: int, end: int) -> Any:
    """Whole groups of rows, the smallest part that can be unpacked. It may hold many episodes."""
    import pyarrow

    parts = {}
    with _opened(path) as file:
        for column in columns:
            with _named(path, f"column {column!r}"):
                table = file.read_row_groups(list(range(begin, end)), [column], use_threads=False)
                # A name is also the beginning of others: "action" of "action.gripper".
                parts[column] = table.column(column)
                parts[column].validate(full=True)
    with _named(path, "its columns"):
        return pyarrow.table(parts)


@contextmanager
def _named(path: Path, what: str) -> Iterator[None]:
    """Whatever goes wrong while a file is read becomes a BadFile that names it."""
    import pyarrow

    try:
        yield
    except BadFile:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, MemoryError, OverflowError) as error:
        raise BadFile(path, f"{what}: is damaged or of another kind ({_short(error)})") from error


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
