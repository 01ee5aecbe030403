"""One episode of an RLDS dataset: a record of a TFRecord file, its numbers read, its pictures left where they are."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vap_sim.data.episode import Array
from vap_sim.data.footage import ImageFootage
from vap_sim.data.logged import Log
from vap_sim.data.rlds_features import FeatureSpec
from vap_sim.data.tf_example import Feature, parse_example
from vap_sim.data.tfrecord import read_record, record_index
from vap_sim.errors import BadFile

_EACH = ("steps/is_first", "steps/is_last", "steps/is_terminal", "steps/reward")
"""Features with exactly one number a step, by which steps are counted."""
_AT_ONCE = 2**18
"""Bytes of neighbouring pictures that are fetched together."""


@dataclass(frozen=True, eq=False)
class Record:
    """An episode's record. log: shard and name, for errors; specs: what the dataset says it holds; number: its own."""

    log: Log
    specs: Mapping[str, FeatureSpec]
    number: int

    @cached_property
    def _data(self) -> bytes:
        return read_record(self.log.path, self.number)

    @cached_property
    def _features(self) -> dict[str, Feature]:
        return parse_example(self._data, self.log.path, self.number)

    @cached_property
    def length(self) -> int:
        """Number of steps T. Raises BadFile."""
        counted = [key for key in _EACH if key in self.specs and key in self._features]
        if not counted:
            self.log.refuse(_EACH[0], "is missing, so that steps cannot be counted")
        return self._features[counted[0]].length

    def numbers(self, key: str) -> Array:
        """A feature of numbers: (T, width) where it has one value a step, else (1, width). Raises BadFile."""
        spec, feature = self.specs[key], self._feature(key)
        rows = self.length if spec.per_step else 1
        values: NDArray[Any] = feature.numbers
        if spec.encoding != "none":
            values = np.concatenate([self._unpacked(key, spec, span) for span in feature.spans.tolist()] or [values])
        elif feature.kind == "bytes":
            self.log.refuse(key, "holds byte strings, expected numbers")
        if values.size != rows * spec.width:
            self.log.refuse(key, f"has {values.size} numbers, expected {rows} times {spec.width}")
        return self.log.table(values.reshape(rows, spec.width), key, spec.width, rows)

    def flag(self, key: str) -> bool | None:
        """A single truth value of the whole episode, None where it is not there. Raises BadFile."""
        spec = self.specs.get(key)
        if spec is None or spec.kind != "numbers" or spec.per_step or spec.width != 1 or key not in self._features:
            return None
        return bool(self.numbers(key)[0, 0])

    def text(self, key: str) -> str:
        """A text, that of the first step where there is one a step; "" where there is none. Raises BadFile."""
        spec = self.specs.get(key)
        if spec is None or spec.kind != "text" or key not in self._features:
            return ""
        feature = self._features[key]
        if feature.kind != "bytes" or not feature.length:
            return ""
        start, end = feature.spans[0].tolist()
        try:
            return self._data[start:end].decode().strip()
        except UnicodeDecodeError as error:
            self.log.refuse(key, f"is no text ({error})")

    def pictures(self, key: str) -> ImageFootage:
        """The pictures of one camera, which stay in the file. Raises BadFile where there is not one a step."""
        feature = self._feature(key)
        if feature.kind != "bytes" or feature.length != self.length:
            kind = feature.kind or "empty"
            self.log.refuse(key, f"has {feature.length} values ({kind}), expected one picture for {self.length} steps")
        first = int(record_index(self.log.path).starts[self.number])
        name = f"episode {self.log.episode!r}, field {key!r}"
        return ImageFootage(StoredBytes(self.log.path, feature.spans + first), self.log.path, name)

    def still(self, key: str) -> bool:
        """Whether all pictures of a camera are the same, byte for byte."""
        spans = self._feature(key).spans.tolist()
        return all(self._data[start:end] == self._data[slice(*spans[0])] for start, end in spans[1:])

    def _feature(self, key: str) -> Feature:
        if key not in self._features:
            self.log.refuse(key, "is missing")
        return self._features[key]

    def _unpacked(self, key: str, spec: FeatureSpec, span: Sequence[int]) -> NDArray[Any]:
        """The numbers of one value that is stored as a byte string."""
        kind = np.dtype(spec.dtype).newbyteorder("<")
        content, size = self._data[span[0] : span[1]], spec.width * kind.itemsize
        if spec.encoding == "zlib":
            unpacker = zlib.decompressobj()
            try:
                content = unpacker.decompress(content, size + 1)
            except zlib.error as error:
                self.log.refuse(key, f"cannot be unpacked ({error})")
        if len(content) != size:
            self.log.refuse(key, f"has a value of {len(content)} bytes or more, expected {size}")
        return np.frombuffer(content, kind)


@dataclass(eq=False)
class StoredBytes(Sequence[bytes]):
    """Pieces of a file, read when they are asked for: each from `spans` (N, 2), begin and end [bytes].

    With a piece its next neighbours are fetched, and kept until one is asked for that is not among them."""

    path: Path
    spans: NDArray[np.int64]
    _kept: tuple[int, bytes] = field(default=(0, b""), init=False, repr=False)

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, number: Any) -> Any:
        start, end = self.spans[number].tolist()
        first, content = self._kept
        if not first <= start <= end <= first + len(content):
            first, content = self._kept = start, self._fetched(start, self._neighbours_end(number))
        piece = content[start - first : end - first]
        if len(piece) != end - start:
            raise BadFile(self.path, f"is cut short: {end - start} bytes from byte {start} are not all there")
        return piece

    def _neighbours_end(self, number: int) -> int:
        """Where the last of the pieces ends that follow one another from this one on and are fetched with it."""
        spans = self.spans[number:]
        far = np.flatnonzero((spans[1:, 0] < spans[:-1, 1]) | (spans[1:, 1] - spans[0, 0] > _AT_ONCE))
        return int(spans[far[0] if len(far) else -1, 1])

    def _fetched(self, start: int, end: int) -> bytes:
        """As much of these bytes as the file has."""
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(start)
                return file.read(end - start) or b""
        except OSError as error:
            raise BadFile(self.path, f"cannot be read ({error.strerror})") from error
