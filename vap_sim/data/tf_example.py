"""The message `tf.train.Example`: named lists of bytes, floats or integers, read from its bytes without protobuf.

    Example  { Features features = 1 }                  Features { map<string, Feature> feature = 1 }
    Feature  { one of BytesList = 1, FloatList = 2, Int64List = 3 }, each with `repeated value = 1`

Source: `example.proto` and `feature.proto` of TensorFlow, and the encoding guide of Protocol Buffers. Every length is
compared with the bytes that are there before it is used; nothing is allocated by a number that the file only claims.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import BadFile

_KINDS = {1: "bytes", 2: "float", 3: "int64"}
_VARINT, _EIGHT, _SIZED, _FOUR = 0, 1, 2, 5
_LONGEST_VARINT = 10


@dataclass(frozen=True, eq=False)
class Feature:
    """A list of values of one kind: "bytes", "float", "int64", or "" for an empty one.

    numbers: (N,) float32 or int64; spans: (N, 2) of byte strings, where each begins and ends in the record.
    """

    kind: str
    numbers: NDArray[np.float32] | NDArray[np.int64]
    spans: NDArray[np.int64]

    @property
    def length(self) -> int:
        """Number of values."""
        return len(self.spans) if self.kind == "bytes" else len(self.numbers)


def parse_example(data: bytes, path: Path, record: int) -> dict[str, Feature]:
    """The features of an Example by their names. `path` and `record` are for errors.

    Raises BadFile naming file and record for bytes that are no Example.
    """
    message = _Message(data, path, record)
    features: dict[str, Feature] = {}
    for start, end in message.children(0, len(data), 1):
        for entry in message.children(start, end, 1):
            name, feature = message.entry(*entry)
            if name in features:
                message.refuse(f"feature {name!r} stands in it twice")
            features[name] = feature
    return features


@dataclass(frozen=True)
class _Message:
    data: bytes
    path: Path
    record: int

    def refuse(self, problem: str) -> NoReturn:
        raise BadFile(self.path, f"record {self.record}: {problem}")

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """An integer and where the next field begins."""
        if at < end and self.data[at] < 0x80:  # as nearly all are
            return self.data[at], at + 1
        value, last = 0, min(end, at + _LONGEST_VARINT)
        for shift, place in enumerate(range(at, last)):
            byte = self.data[place]
            value |= (byte & 0x7F) << 7 * shift
            if byte < 0x80:
                break
        else:
            self.refuse(f"no integer where one must be, at byte {at}")
        return value, place + 1

    def fields(self, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Number, wire type, start and end of the content of every field between two places."""
        while at < end:
            key, at = self.varint(at, end)
            wire, begin = key & 7, at
            if wire == _VARINT:
                _, at = self.varint(at, end)
            elif wire == _SIZED:
                size, begin = self.varint(at, end)
                at = begin + size
            elif wire in (_EIGHT, _FOUR):
                at += 8 if wire == _EIGHT else 4
            else:
                self.refuse(f"a field of unknown type {wire}, at byte {begin}")
            if at > end:
                self.refuse(f"a field of {at - begin} bytes where {end - begin} are left, at byte {begin}")
            yield key >> 3, wire, begin, at

    def children(self, at: int, end: int, number: int) -> Iterator[tuple[int, int]]:
        """Start and end of every message or byte string of a field; other fields are passed over."""
        for field, wire, begin, close in self.fields(at, end):
            if field == number:
                if wire != _SIZED:
                    self.refuse(f"field {number} of type {wire}, expected a message, at byte {begin}")
                yield begin, close

    def entry(self, at: int, end: int) -> tuple[str, Feature]:
        """One pair of the map: its name and its feature."""
        name, feature = "", Feature("", np.zeros(0, np.float32), np.zeros((0, 2), np.int64))
        for field, wire, begin, close in self.fields(at, end):
            if field in (1, 2) and wire != _SIZED:
                self.refuse(f"a feature without a name or content, at byte {begin}")
            if field == 1:
                try:
                    name = self.data[begin:close].decode()
                except UnicodeDecodeError:
                    self.refuse(f"a feature whose name is no text, at byte {begin}")
            elif field == 2:
                feature = self.feature(begin, close)
        return name, feature

    def feature(self, at: int, end: int) -> Feature:
        lists: list[tuple[str, int, int]] = []
        for number, wire, begin, close in self.fields(at, end):
            if number in _KINDS and wire != _SIZED:
                self.refuse(f"a list of type {wire}, expected a message, at byte {at}")
            if number in _KINDS:
                lists.append((_KINDS[number], begin, close))
        none, empty = np.zeros((0, 2), np.int64), np.zeros(0, np.float32)
        if len({kind for kind, *_ in lists}) > 1:
            self.refuse(f"a feature of two kinds, at byte {at}")
        if not lists:
            return Feature("", empty, none)
        kind = lists[0][0]
        if kind == "bytes":
            spans = [span for _, start, stop in lists for span in self.children(start, stop, 1)]
            return Feature(kind, empty, np.array(spans, np.int64).reshape(-1, 2))
        found = [(wire, *span) for _, *part in lists for field, wire, *span in self.fields(*part) if field == 1]
        if kind == "float":
            return Feature(kind, np.concatenate([empty, *(self.floats(*part) for part in found)]), none)
        return Feature(kind, np.concatenate([none.ravel(), *(self.integers(*part) for part in found)]), none)

    def floats(self, wire: int, at: int, end: int) -> NDArray[np.float32]:
        """One float, or packed ones."""
        if wire not in (_FOUR, _SIZED) or (end - at) % 4:
            self.refuse(f"{end - at} bytes of type {wire}, expected floats, at byte {at}")
        return np.frombuffer(self.data, "<f4", (end - at) // 4, at)

    def integers(self, wire: int, at: int, end: int) -> NDArray[np.int64]:
        """One integer, or packed ones; negative ones fill ten bytes."""
        if wire not in (_VARINT, _SIZED):
            self.refuse(f"bytes of type {wire}, expected integers, at byte {at}")
        packed = np.frombuffer(self.data, np.uint8, end - at, at)
        if not len(packed) or packed.max() < 0x80:  # each in a byte of its own
            return packed.astype(np.int64)
        ends = np.flatnonzero(packed < 0x80)
        starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)[: len(ends)]
        lengths = ends - starts + 1
        if not len(ends) or ends[-1] != len(packed) - 1 or lengths.max() > _LONGEST_VARINT:
            self.refuse(f"no integers where some must be, at byte {at}")
        shifts = 7 * (np.arange(len(packed)) - np.repeat(starts, lengths))
        shares = (packed & 0x7F).astype(np.uint64) << shifts.astype(np.uint64)
        return np.bitwise_or.reduceat(shares, starts).view(np.int64)
