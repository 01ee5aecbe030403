"""openpi's message format: msgpack with arrays as maps of data, dtype and shape. Nothing a peer says is trusted.

An array travels as `{b"__ndarray__": True, b"data": bytes, b"dtype": "<f4", b"shape": [2, 3]}`, a numpy scalar as
`{b"__npgeneric__": True, b"data": number, b"dtype": "<f4"}` (openpi-client 0.1.2, `msgpack_numpy`). Kind, item size and
shape are compared with the bytes at hand before any array is built: numpy itself makes an array of objects from any
bytes if a peer's dtype asks for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vap_sim.errors import MissingDependency, VAPSimError

LARGEST_MESSAGE = 2**24
"""Bytes of the longest message that is read or written."""
_ITEM_SIZES = {"b": (1,), "u": (1, 2, 4, 8), "i": (1, 2, 4, 8), "f": (2, 4, 8)}
_DTYPE = re.compile(r"([<>|=]?)([buif])(\d)")
_MOST_AXES = 8
_LONGEST_AXIS = 2**31
_MOST_VALUES = 2**15  # in lists and maps together; numbers in bulk belong into arrays
_LONGEST_TEXT = 2**16


class BadMessage(VAPSimError, ValueError):
    """A message is no message of this format, or asks for what is not allowed."""


def pack(value: object) -> bytes:
    """The message of a value made of maps, lists, text, numbers, booleans, None, bytes and arrays of numbers.

    Raises BadMessage for anything else, or a message above LARGEST_MESSAGE; MissingDependency without msgpack."""
    try:
        message: bytes = _msgpack().packb(value, default=_packed, use_bin_type=True)
    except BadMessage:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise BadMessage(f"cannot be sent ({error})") from error
    if len(message) > LARGEST_MESSAGE:
        raise BadMessage(f"{len(message)} bytes, at most {LARGEST_MESSAGE} are sent")
    return message


def unpack(message: object) -> Any:
    """The value of a message; arrays are new, writable and in this machine's byte order.

    Raises BadMessage for damaged, oversized or hostile ones; MissingDependency without msgpack."""
    if not isinstance(message, bytes | bytearray):
        raise BadMessage(f"{type(message).__name__}, expected a binary message")
    if len(message) > LARGEST_MESSAGE:
        raise BadMessage(f"{len(message)} bytes, at most {LARGEST_MESSAGE} are read")
    msgpack, count = _msgpack(), _Counter()

    def of_map(pairs: list[tuple[Any, Any]]) -> Any:
        count.add(len(pairs))
        return _value(pairs)

    def of_list(values: list[Any]) -> list[Any]:
        count.add(len(values))
        return values

    try:
        return msgpack.unpackb(
            message,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=of_map,
            list_hook=of_list,
            ext_hook=_refused,
            timestamp=0,
            max_str_len=_LONGEST_TEXT,
            max_array_len=_MOST_VALUES,
            max_map_len=1024,
            max_ext_len=0,
        )
    except BadMessage:
        raise
    except (msgpack.exceptions.UnpackException, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BadMessage(f"is no whole msgpack message ({type(error).__name__}: {error})"[:300]) from error


class _Counter:
    """Bounds what a message unpacks to: an empty list takes one byte to send and fifty to hold."""

    def __init__(self) -> None:
        self._values = 0

    def add(self, values: int) -> None:
        self._values += 1 + values
        if self._values > _MOST_VALUES:
            raise BadMessage(f"more than {_MOST_VALUES} values in its lists and maps")


def _packed(value: object) -> dict[bytes, Any]:
    if not isinstance(value, np.ndarray | np.generic):
        raise BadMessage(f"cannot send a {type(value).__name__}")
    if value.dtype.itemsize not in _ITEM_SIZES.get(value.dtype.kind, ()):
        raise BadMessage(f"cannot send an array of {value.dtype}")
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}


def _value(pairs: list[tuple[Any, Any]]) -> Any:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise BadMessage("a map names a key twice")
    if b"__ndarray__" in values:
        return _array(values)
    return _scalar(values) if b"__npgeneric__" in values else values


def _array(values: Mapping[Any, Any]) -> np.ndarray:
    dtype, shape, data = _dtype(values.get(b"dtype")), values.get(b"shape"), values.get(b"data")
    if not isinstance(data, bytes):
        raise BadMessage(f"an array's data is {type(data).__name__}, expected bytes")
    if not isinstance(shape, list) or len(shape) > _MOST_AXES or not all(_is_length(axis) for axis in shape):
        raise BadMessage(f"an array's shape is {str(shape)[:80]}, expected at most {_MOST_AXES} lengths")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise BadMessage(f"an array of {dtype} {tuple(shape)} with {len(data)} bytes")
    if dtype.kind == "b" and data.strip(b"\x00\x01"):
        raise BadMessage("an array of booleans holds other bytes than 0 and 1")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _scalar(values: Mapping[Any, Any]) -> Any:
    dtype, number = _dtype(values.get(b"dtype")), values.get(b"data")
    expected = {"b": bool, "f": float}.get(dtype.kind, int)
    if type(number) is not expected:
        raise BadMessage(f"a scalar of {dtype} is a {type(number).__name__}")
    if expected is int and not np.iinfo(dtype).min <= number <= np.iinfo(dtype).max:
        raise BadMessage(f"a scalar of {dtype} is out of its range")
    return dtype.newbyteorder("=").type(number)


def _dtype(name: object) -> np.dtype[Any]:
    text = name if isinstance(name, str) else ""
    match = _DTYPE.fullmatch(text)
    if match is None or int(match[3]) not in _ITEM_SIZES[match[2]]:
        raise BadMessage(f"an array's dtype is {str(name)[:40]!r}, expected booleans, integers or floats")
    dtype: np.dtype[Any] = np.dtype(text)
    return dtype


def _is_length(axis: object) -> bool:
    return type(axis) is int and 0 <= axis < _LONGEST_AXIS


def _refused(code: int, data: bytes) -> object:
    raise BadMessage(f"msgpack extension {code} is not allowed")


def _msgpack() -> Any:
    try:
        import msgpack
    except ImportError as error:
        raise MissingDependency("msgpack", "remote") from error
    return msgpack
