"""TFRecord files: records one after another, each with checksums, found by number or streamed; no TensorFlow.

A record is its length (8 bytes, little endian), the masked CRC-32C of these 8 bytes, the data, and the masked CRC-32C
of the data. Source: the header `record_writer.h` of TensorFlow. Every checksum is verified before its bytes are used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import BadFile, MissingDependency

_HEADER, _FOOTER = struct.Struct("<QI"), struct.Struct("<I")
_MOST = 0xFFFFFFFF
_KEPT = 64
"""Files whose index is remembered."""


@dataclass(frozen=True, eq=False)
class RecordIndex:
    """Where the N records of a file lie: the data of each from `starts` (N,), of `sizes` (N,) bytes.

    problem: what keeps the rest of the file from being read, "" where there is no rest.
    """

    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    problem: str

    @property
    def length(self) -> int:
        """Number of records that can be found."""
        return len(self.starts)


def masked_crc32c(data: bytes) -> int:
    """The checksum as these files store it: CRC-32C, turned by 15 bits and moved on by a constant. Raises
    MissingDependency."""
    try:
        from google_crc32c import value
    except ImportError as error:
        raise MissingDependency("google-crc32c", "data") from error
    plain: int = value(data)
    return (((plain >> 15) | (plain << 17)) + 0xA282EAD8) & _MOST


def record_index(path: Path) -> RecordIndex:
    """The index of a file, from its headers alone; read again only where the file has changed.

    Raises BadFile for a file that cannot be read. One that is cut short or has a damaged header keeps the records
    before it.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise BadFile(path, f"no such TFRecord file ({error.strerror})") from error
    return _index(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=_KEPT)
def _index(path: Path, _changed: int, size: int) -> RecordIndex:
    starts: list[int] = []
    sizes: list[int] = []
    problem, place = "", 0
    try:
        with path.open("rb", buffering=0) as file:
            while place < size and not problem:
                file.seek(place)
                length, problem = _header(file.read(_HEADER.size), size - place)
                if not problem:
                    starts.append(place + _HEADER.size)
                    sizes.append(length)
                    place += _HEADER.size + length + _FOOTER.size
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from error
    return RecordIndex(np.array(starts, np.int64), np.array(sizes, np.int64), problem)


def _header(header: bytes, left: int) -> tuple[int, str]:
    """Length of the record's data, and what is wrong with it; `left` bytes of the file remain."""
    if len(header) < _HEADER.size:
        return 0, f"is cut short: {left} bytes where a record begins"
    length, checksum = _HEADER.unpack(header)
    if masked_crc32c(header[:8]) != checksum:
        return 0, "is damaged: the checksum of its length does not fit"
    if length > left - _HEADER.size - _FOOTER.size:
        return 0, f"is cut short: it has {length} bytes of data, the file only {left} more in all"
    return length, ""


def read_record(path: Path, number: int) -> bytes:
    """The data of record `number`, from 0. Raises BadFile naming the record where it is missing or damaged."""
    index = record_index(path)
    if not 0 <= number < index.length:
        problem = index.problem if index.problem and number >= index.length else ""
        at = f"record {index.length} {problem}" if problem else f"the file has {index.length} records"
        raise BadFile(path, f"record {number} cannot be found: {at}")
    try:
        with path.open("rb") as file:
            file.seek(int(index.starts[number]))
            return _data(file, path, number, int(index.sizes[number]))
    except OSError as error:
        raise BadFile(path, f"record {number} cannot be read ({error.strerror})") from error


def iterate_records(path: Path) -> Iterator[bytes]:
    """The data of every record in order, one in memory at a time. Raises BadFile naming the record that is damaged."""
    index = record_index(path)
    for number in range(index.length):
        yield read_record(path, number)
    if index.problem:
        raise BadFile(path, f"record {index.length} {index.problem}")


def _data(file: BinaryIO, path: Path, number: int, size: int) -> bytes:
    content, footer = file.read(size), file.read(_FOOTER.size)
    if len(content) + len(footer) < size + _FOOTER.size:
        raise BadFile(path, f"record {number} is cut short")
    if masked_crc32c(content) != _FOOTER.unpack(footer)[0]:
        raise BadFile(path, f"record {number} is damaged: the checksum of its data does not fit")
    return content
