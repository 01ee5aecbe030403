"""Messages: exact round trips, openpi's own bytes, and every way in which a peer may lie."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from vap_sim.policies import wire
from vap_sim.policies.wire import LARGEST_MESSAGE, BadMessage, pack, unpack

msgpack = pytest.importorskip("msgpack", reason="msgpack is not installed (extra remote)")

KINDS = ("?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 4), (2, 3, 4)])
def test_arrays_come_back_equal_and_writable(kind: str, shape: tuple[int, ...]) -> None:
    given = np.asarray(np.random.default_rng(0).integers(0, 2, shape)).astype(kind)
    back = unpack(pack({"a": given, "n": given.reshape(-1)[0] if given.size else 0}))
    assert back["a"].dtype == given.dtype and np.array_equal(back["a"], given) and back["a"].flags.writeable
    # A double is a Python float, which needs no wrapping, there as here.
    scalar_kind = type(back["n"]) if isinstance(back["n"], float) else back["n"].dtype if given.size else given.dtype
    assert np.dtype(scalar_kind) == given.dtype and (not given.size or back["n"] == given.reshape(-1)[0])


def test_values_come_back() -> None:
    given = {"text": "ä", "list": [1, 2.5, None, True], "map": {"k": b"\x00"}, "none": None}
    assert unpack(pack(given)) == given


def test_foreign_byte_order_and_rows_are_read() -> None:
    given = np.arange(6, dtype=">f4").reshape(2, 3)
    back = unpack(pack(given))
    assert back.dtype == np.dtype("f4") and np.array_equal(back, given)
    assert np.array_equal(unpack(pack(given.T)), given.T), "columns first in memory"


def test_layout_is_that_of_openpi() -> None:
    raw = msgpack.unpackb(pack(np.zeros((2, 3), np.float32)))
    assert raw == {b"__ndarray__": True, b"data": bytes(24), b"dtype": "<f4", b"shape": [2, 3]}
    raw = msgpack.unpackb(pack(np.float32(1.5)))
    assert raw == {b"__npgeneric__": True, b"data": 1.5, b"dtype": "<f4"}


def array(data: Any = bytes(24), dtype: Any = "<f4", shape: Any = (2, 3)) -> bytes:
    return bytes(msgpack.packb({b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape}))


def scalar(data: Any, dtype: Any) -> bytes:
    return bytes(msgpack.packb({b"__npgeneric__": True, b"data": data, b"dtype": dtype}))


HOSTILE: list[tuple[str, Any, str]] = [
    ("objects", array(bytes(48), "|O"), "dtype is '|O'"),
    ("void", array(bytes(48), "|V8"), "dtype"),
    ("complex", array(bytes(48), "<c8"), "dtype"),
    ("text", array(bytes(24), "<U1"), "dtype"),
    ("dates", array(bytes(48), "<M8[s]"), "dtype"),
    ("fields", array(bytes(24), [["a", "<f4"]]), "dtype"),
    ("python types", array(bytes(24), "float32"), "dtype"),
    ("odd item size", array(bytes(24), "<f3"), "dtype"),
    ("long dtype", array(bytes(24), "<f" + "4" * 50000), "dtype"),
    ("half integers", array(bytes(24), "<f1"), "dtype"),
    ("huge shape", array(bytes(24), "<f4", [2**31 - 1, 2**31 - 1]), "with 24 bytes"),
    ("shape beyond any", array(bytes(24), "<f4", [2**62]), "shape is"),
    ("shape that overflows", array(b"", "<f4", [2**30, 2**30, 2**4, 0, 2**62]), "shape is"),
    ("negative", array(bytes(24), "<f4", [-2, -3]), "shape is"),
    ("shape of truth", array(bytes(4), "<f4", [True]), "shape is"),
    ("shape of floats", array(bytes(24), "<f4", [2.0, 3]), "shape is"),
    ("no shape", array(bytes(24), "<f4", None), "shape is"),
    ("many axes", array(bytes(4), "<f4", [1] * 40), "shape is"),
    ("too few bytes", array(bytes(23)), "with 23 bytes"),
    ("too many bytes", array(bytes(25)), "with 25 bytes"),
    ("text as data", array("x" * 24), "data is str"),
    ("no data", array(None), "data is NoneType"),
    ("booleans of 7", array(b"\x07", "|b1", [1]), "other bytes than 0 and 1"),
    ("scalar object", scalar(0, "|O"), "dtype"),
    ("scalar of text", scalar("1", "<f4"), "a scalar of float32 is a str"),
    ("scalar of truth", scalar(True, "<i4"), "a scalar of int32 is a bool"),
    ("scalar out of range", scalar(2**40, "<i4"), "out of its range"),
    ("no scalar", scalar(None, "<f4"), "a scalar of float32 is a NoneType"),
    ("pickle", pickle.dumps({"a": 1}), "is no whole msgpack message"),
    ("nothing", b"", "is no whole msgpack message"),
    ("text", "hello", "str, expected a binary message"),
    ("number key", bytes(msgpack.packb({1: 2})), "is no whole msgpack message"),
    ("list as key", b"\x81\x90\x01", "is no whole msgpack message"),
    ("same key twice", b"\x82\xa1a\x01\xa1a\x02", "a map names a key twice"),
    ("bad utf-8", b"\xa2\xff\xff", "is no whole msgpack message"),
    ("extension", bytes(msgpack.packb(msgpack.ExtType(5, b""))), "msgpack extension 5 is not allowed"),
    ("extension with data", bytes(msgpack.packb(msgpack.ExtType(5, b"x"))), "is no whole msgpack message"),
    ("a list of 4 billion", b"\xdd\xff\xff\xff\xff", "is no whole msgpack message"),
    ("a map of 4 billion", b"\xdf\xff\xff\xff\xff", "is no whole msgpack message"),
    ("deep", b"\x91" * 3000 + b"\x01", "is no whole msgpack message"),
    ("many empty lists", b"\xdc\xff\xff" + b"\x90" * 65535, "is no whole msgpack message|more than"),
    ("many lists of lists", b"\xdc\x40\x00" + b"\x92\x90\x90" * 2**14, "more than 32768 values"),
    ("long text", bytes(msgpack.packb("x" * (2**16 + 1))), "is no whole msgpack message"),
    ("oversized", bytes(LARGEST_MESSAGE + 1), "bytes, at most"),
]


@pytest.mark.parametrize(("name", "message", "words"), HOSTILE, ids=[name for name, *_ in HOSTILE])
def test_hostile_messages_are_refused(name: str, message: Any, words: str) -> None:
    with pytest.raises(BadMessage, match=words.replace("|O", r"\|O")):
        unpack(message)


def test_nothing_is_built_before_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numpy is not asked for a type, let alone an array, of what is refused."""
    for name in ("dtype", "frombuffer"):
        monkeypatch.setattr(wire.np, name, lambda *a, **k: pytest.fail("numpy was asked"))
    for name, message, _ in HOSTILE:
        if name in ("objects", "void", "fields", "long dtype"):
            with pytest.raises(BadMessage):
                unpack(message)


def test_every_truncation_and_many_flips_are_refused_or_read() -> None:
    whole = pack({"observation/joint_position": np.arange(7, dtype=np.float32), "prompt": "go", "n": np.float32(1)})
    for end in range(len(whole)):
        with pytest.raises(BadMessage):
            unpack(whole[:end])
    rng = np.random.default_rng(0)
    for _ in range(2000):
        flipped = bytearray(whole)
        flipped[int(rng.integers(len(whole)))] = int(rng.integers(256))
        try:
            unpack(bytes(flipped))
        except BadMessage:
            continue


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.array([None]), "cannot send an array of object"),
        (np.zeros(2, np.complex64), "cannot send an array of complex64"),
        (np.array(["a"]), "cannot send an array of <U1"),
        (object(), "cannot send a object"),
        ({"a": 2**70}, "cannot send a int"),
        (np.zeros(LARGEST_MESSAGE, np.uint8), "bytes, at most"),
    ],
)
def test_what_cannot_be_sent_is_named(value: Any, words: str) -> None:
    with pytest.raises(BadMessage, match=words):
        pack(value)
