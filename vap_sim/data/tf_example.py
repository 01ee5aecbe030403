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
_STRING = 1 << 3 | _SIZED


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


_EMPTY = Feature("", np.zeros(0, np.float32), np.zeros((0, 2), np.int64))
_NOTHING = {"float": np.zeros(0, np.float32), "int64": np.zeros(0, np.int64)}


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
        data = self.data
        # Nearly all fill one byte, or two: lengths of small pictures.
        if at < end and data[at] < 0x80:
            return data[at], at + 1
        if at + 1 < end and data[at + 1] < 0x80:
            return data[at] & 0x7F | data[at + 1] << 7, at + 2
        value, last = 0, min(end, at + _LONGEST_VARINT)
        for shift, place in enumerate(range(at, last)):
            byte = data[place]
            value |= (byte & 0x7F) << 7 * shift
            if byte < 0x80:
                break
        else:
            self.refuse(f"no integer where one must be, at byte {at}")
        return value, place + 1

    def fields(self, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Number, wire type, start and end of the content of every field between two places."""
        data = self.data
        while at < end:
            key, at = data[at], at + 1
            if key >= 0x80:
                key, at = self.varint(at - 1, end)
            wire, begin = key & 7, at
            if wire == _SIZED:
                size, begin = self.varint(at, end)
                at = begin + size
            elif wire == _VARINT:
                _, at = self.varint(at, end)
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
        name, feature = "", _EMPTY
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
        lists: list[tuple[int, int]] = []
        kind = ""
        for number, wire, begin, close in self.fields(at, end):
            if number not in _KINDS:
                continue
            if wire != _SIZED:
                self.refuse(f"a list of type {wire}, expected a message, at byte {at}")
            if kind not in ("", _KINDS[number]):
                self.refuse(f"a feature of two kinds, at byte {at}")
            kind = _KINDS[number]
            lists.append((begin, close))
        if not kind:
            return _EMPTY
        if kind == "bytes":
            spans = [string for span in lists for string in self.strings(*span)]
            return Feature(kind, _EMPTY.numbers, np.array(spans, np.int64).reshape(-1, 2))
        read = self.floats if kind == "float" else self.integers
        values = (value for span in lists for value in self.fields(*span))
        parts = [read(wire, begin, close) for number, wire, begin, close in values if number == 1]
        numbers = parts[0] if len(parts) == 1 else np.concatenate([_NOTHING[kind], *parts])
        return Feature(kind, numbers, _EMPTY.spans)

    def strings(self, at: int, end: int) -> list[tuple[int, int]]:
        """Start and end of every byte string of a list: `children`, in a third of the time where there are many."""
        first, data, spans = at, self.data, []
        while at < end:
            if data[at] != _STRING:
                return list(self.children(first, end, 1))
            size, begin = self.varint(at + 1, end)
            at = begin + size
            spans.append((begin, at))
        if at > end:
            self.refuse(f"a byte string of {size} bytes where {end - begin} are left, at byte {begin}")
        return spans

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
