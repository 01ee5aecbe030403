"""TFRecords and Examples: checksums, damage by record, and messages that claim more than they hold."""

from __future__ import annotations

import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tests.data import rlds_samples as samples
from vap_sim.data.rlds_record import StoredBytes
from vap_sim.data.tf_example import parse_example
from vap_sim.data.tfrecord import iterate_records, masked_crc32c, read_record, record_index
from vap_sim.errors import BadFile, MissingDependency

pytest.importorskip("google_crc32c", reason="TFRecords have checksums of that kind")

RECORDS = [b"", b"short", bytes(range(256)) * 5, b"last"]
FEATURES = {
    "words": [b"one", b"", "zwölf".encode()], "floats": np.array([1.5, -2.0, 3e38]),
    "whole": np.array([0, 1, 127, 128, -1, 2**63 - 1, -(2**63)]), "none": [],
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "some records"
    path.write_bytes(samples.tfrecord(RECORDS))
    return path


def test_checksums_equal_the_definition() -> None:
    """As the files' own description defines them, bit by bit."""
    rng = np.random.default_rng(0)
    for count in (*range(0, 140, 7), 63, 64, 65, 1000, 4099):
        data = rng.bytes(count)
        assert masked_crc32c(data) == samples.checksum(data)


def test_records_are_read_by_number_and_in_order(path: Path) -> None:
    assert record_index(path).length == len(RECORDS) and not record_index(path).problem
    assert list(iterate_records(path)) == RECORDS
    assert [read_record(path, number) for number in (3, 0, 2, 1)] == [RECORDS[k] for k in (3, 0, 2, 1)]
    with pytest.raises(BadFile, match="record 4 cannot be found: the file has 4 records"):
        read_record(path, 4)


def test_a_file_that_was_written_again_is_indexed_again(path: Path) -> None:
    assert record_index(path).length == 4
    path.write_bytes(samples.tfrecord(RECORDS[:2]))
    assert record_index(path).length == 2


def test_any_flipped_byte_is_noticed_and_later_records_are_read(tmp_path: Path) -> None:
    content = samples.tfrecord([b"first record", b"second record", b"third"])
    second = 16 + len(b"first record")
    for place in range(second, second + 16 + len(b"second record")):
        path = tmp_path / f"flipped at {place}"
        changed = bytearray(content)
        changed[place] ^= 0x10
        path.write_bytes(changed)
        assert read_record(path, 0) == b"first record"
        with pytest.raises(BadFile, match=r"record 1 (is damaged|cannot be found: record 1 is)"):
            read_record(path, 1)
        if place >= second + 12:  # what says where the third begins is whole
            assert read_record(path, 2) == b"third"
        else:
            with pytest.raises(BadFile, match="record 2 cannot be found: record 1"):
                read_record(path, 2)


def test_a_file_that_is_cut_short_keeps_what_is_whole(path: Path) -> None:
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        index = record_index(path)
        assert [read_record(path, k) for k in range(index.length)] == RECORDS[: index.length]
        if index.problem:
            with pytest.raises(BadFile, match=f"record {index.length} is cut short"):
                list(iterate_records(path))


def test_a_length_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    length = struct.pack("<Q", 2**60)
    path.write_bytes(length + struct.pack("<I", samples.checksum(length)) + b"data")
    with pytest.raises(BadFile, match=f"cut short: it has {2**60} bytes of data, the file only 16 more"):
        read_record(path, 0)
    with pytest.raises(BadFile, match="no such TFRecord file"):
        record_index(tmp_path / "none")


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path, size, count = tmp_path / "many", 2**17, 60
    data = np.random.default_rng(3).bytes(size)
    head, tail = struct.pack("<Q", size), struct.pack("<I", masked_crc32c(data))
    path.write_bytes((head + struct.pack("<I", masked_crc32c(head)) + data + tail) * count)
    next(iterate_records(path))
    tracemalloc.start()
    try:
        assert sum(len(record) for record in iterate_records(path)) == size * count
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 12 * size


def test_an_example_gives_back_what_was_put_in() -> None:
    data = samples.example(FEATURES)
    found = parse_example(data, Path("x"), 0)
    assert set(found) == set(FEATURES)
    assert [data[a:b] for a, b in found["words"].spans] == FEATURES["words"]
    assert np.array_equal(found["floats"].numbers, FEATURES["floats"].astype(np.float32))
    assert np.array_equal(found["whole"].numbers, FEATURES["whole"]) and found["whole"].numbers.dtype == np.int64
    assert found["none"].length == 0 and found["words"].length == 3


def test_lists_that_are_not_packed_and_fields_that_are_not_known_are_read() -> None:
    single = b"".join(samples.varint(1 << 3) + samples.varint(value) for value in (5, 300))
    floats = b"".join(samples.varint(1 << 3 | 5) + struct.pack("<f", value) for value in (0.5, -4))
    other = samples.varint(9 << 3) + b"\x07" + samples.varint(10 << 3 | 1) + bytes(8) + samples.sized(11, b"?")
    entries = [
        samples.sized(1, b"whole") + samples.sized(2, samples.sized(3, single)) + other,
        samples.sized(1, b"floats") + other + samples.sized(2, samples.sized(2, floats)),
        samples.sized(1, b"nothing") + samples.sized(2, b""),
    ]
    data = other + samples.sized(1, b"".join(samples.sized(1, entry) for entry in entries)) + other
    found = parse_example(data, Path("x"), 0)
    assert found["whole"].numbers.tolist() == [5, 300] and found["floats"].numbers.tolist() == [0.5, -4.0]
    assert found["nothing"].kind == "" and found["nothing"].length == 0


def test_byte_strings_are_found_among_fields_that_are_not_known() -> None:
    strings = [b"a", b"", b"long " * 60, b"z" * 20_000]
    other = samples.varint(9 << 3) + b"\x07"
    plain = b"".join(samples.sized(1, string) for string in strings)
    mixed = b"".join(samples.sized(1, string) + other for string in strings)
    for content in (plain, mixed, other + plain):
        data = samples.sized(1, samples.sized(1, samples.sized(1, b"a") + samples.sized(2, samples.sized(1, content))))
        spans = parse_example(data, Path("x"), 0)["a"].spans
        assert [data[start:end] for start, end in spans] == strings


def test_what_is_missing_to_check_sums_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    with pytest.raises(MissingDependency, match=r"google-crc32c is not installed.*data"):
        masked_crc32c(b"")


def test_stored_pieces_are_the_same_in_any_order_and_lost_ones_alone_are_refused(tmp_path: Path) -> None:
    path, rng = tmp_path / "pieces", np.random.default_rng(5)
    ends = np.cumsum(rng.integers(1, 60_000, 40))
    spans = np.column_stack([np.r_[0, ends[:-1]] + rng.integers(0, 2, 40) * (np.diff(np.r_[0, ends]) > 1), ends])
    content = rng.bytes(int(ends[-1]))
    path.write_bytes(content)
    for order in (range(40), rng.permutation(40), reversed(range(40))):
        pieces = StoredBytes(path, spans[rng.permutation(40)])
        assert all(pieces[k] == content[slice(*pieces.spans[k])] for k in order) and len(pieces) == 40
    path.write_bytes(content[: ends[29]])
    pieces = StoredBytes(path, spans)
    assert [pieces[k] for k in range(30)] == [content[start:end] for start, end in spans[:30]]
    with pytest.raises(BadFile, match="is cut short"):
        pieces[30]


def entry(field: int, content: bytes) -> bytes:
    """An Example of one feature, of whose entry only one field is there."""
    return samples.sized(1, samples.sized(1, samples.sized(field, content)))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x0a\xff\xff\xff\xff\x0f", "a field of 4294967295 bytes where 0 are left"),
        (b"\x0a", "no integer where one must be"),
        (b"\xff" * 12, "no integer where one must be"),
        (b"\x0b\x0c", "a field of unknown type 3"),
        (b"\x08\x01", "expected a message"),
        (entry(1, b"\xff\xfe"), "whose name is no text"),
        (samples.sized(1, samples.sized(1, b"\x08\x01")), "without a name or content"),
        (entry(2, samples.sized(2, samples.sized(1, b"abc"))), "3 bytes of type 2"),
        (entry(2, samples.sized(3, samples.sized(1, b"\x80"))), "no integers where"),
        (entry(2, samples.sized(3, samples.sized(1, b"\x80" * 10 + b"\x01"))), "no integers where"),
        (entry(2, samples.sized(1, b"") + samples.sized(2, b"")), "a feature of two kinds"),
        (entry(2, samples.sized(1, b"\x0a\x01a\x0a\x05b")), "a byte string of 5 bytes where 1 are left"),
        (entry(2, samples.sized(1, b"\x0a\x01a\x08\x05")), "expected a message"),
        (samples.sized(1, samples.sized(1, samples.sized(1, b"a")) * 2), "feature 'a' stands in it twice"),
    ],
)  # fmt: skip
def test_what_is_no_example_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(BadFile, match=f"x: record 7: .*{words}"):
        parse_example(data, Path("x"), 7)


def test_no_cut_or_flip_of_an_example_does_more_than_be_refused() -> None:
    data = samples.example(FEATURES)
    rng = np.random.default_rng(2)
    refusals = 0
    for _ in range(400):
        changed = bytearray(data[: rng.integers(1, len(data) + 1)])
        changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
        try:
            parse_example(bytes(changed), Path("x"), 0)
        except BadFile:
            refusals += 1
    assert refusals > 200
