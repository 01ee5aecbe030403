"""CRC-32C (Castagnoli), the checksum of TFRecord files, by numpy: quick enough to check every byte that is read.

A checksum is linear in its data, so that the data may be cut into parts of equal width, all parts be summed side by
side two bytes at a time, and neighbours' sums be joined: the sum of a part that is followed by n bytes is the part's
own sum, moved on over n zero bytes. Polynomial and order of bits as in RFC 3720, section 12.1 and appendix B.4.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Sums = NDArray[np.int64]
_POLYNOMIAL = 0x82F63B78
_SHORT = 64
_PARTS = 2**13
_ONES = 0xFFFFFFFF


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """The checksum of `data`, 32 bits."""
    if len(data) < _SHORT:
        return _one_by_one(bytes(data))
    width = 32  # a power of two, so that few tables serve data of every length
    while width * _PARTS < len(data):
        width *= 2
    padded = np.zeros(-(-len(data) // width) * width, np.uint8)
    start = len(padded) - len(data)
    padded[start:] = np.frombuffer(data, np.uint8)
    # To begin at all ones is to begin at zero with the first four bytes inverted; zeros in front change nothing then.
    padded[start : start + 4] ^= 0xFF
    sums = _side_by_side(padded.view("<u2").reshape(-1, width // 2))
    while len(sums) > 1:
        if len(sums) % 2:
            sums = np.concatenate([np.zeros(1, np.int64), sums])
        sums = _moved(sums[0::2], width) ^ sums[1::2]
        width *= 2
    return int(sums[0]) ^ _ONES


def masked_crc32c(data: bytes | bytearray | memoryview) -> int:
    """The checksum as TFRecord files store it: turned by 15 bits and moved on by a constant."""
    value = crc32c(data)
    return (((value >> 15) | (value << 17)) + 0xA282EAD8) & _ONES


def _one_by_one(data: bytes) -> int:
    table, value = _bytes_list(), _ONES
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ _ONES


def _side_by_side(words: NDArray[np.uint16]) -> Sums:
    """Sums of rows of 16-bit words (P, N) -> (P,), each begun at zero."""
    table = _words_table()
    sums, index = np.zeros(len(words), np.int64), np.zeros(len(words), np.int64)
    # Columns are read one after another: in this order each of them lies in one piece.
    for column in np.ascontiguousarray(words.T):
        np.bitwise_xor(sums, column, out=index)
        np.bitwise_and(index, 0xFFFF, out=index)
        np.right_shift(sums, 16, out=sums)
        sums ^= table.take(index, mode="clip")
    return sums


def _moved(sums: Sums, count: int) -> Sums:
    """Sums (P,) moved on over `count` zero bytes, a power of two."""
    tables = _zeros(count)
    out: Sums = tables[0].take(sums & 0xFF, mode="clip")
    for byte in (1, 2, 3):
        out ^= tables[byte].take((sums >> 8 * byte) & 0xFF, mode="clip")
    return out


@lru_cache(maxsize=64)
def _zeros(count: int) -> Sums:
    """What `count` zero bytes, a power of two, make of each value of each of a sum's four bytes: (4, 256)."""
    values = np.arange(256, dtype=np.int64) << 8 * np.arange(4, dtype=np.int64)[:, None]
    if count == 1:
        return _bytes_table().take(values & 0xFF) ^ (values >> 8)
    return _moved(_moved(values.ravel(), count // 2), count // 2).reshape(4, 256)


@lru_cache(maxsize=1)
def _bytes_table() -> Sums:
    """Sum of each single byte, begun at zero."""
    table = np.arange(256, dtype=np.int64)
    for _ in range(8):
        table = np.where(table & 1, _POLYNOMIAL ^ (table >> 1), table >> 1)
    return table


@lru_cache(maxsize=1)
def _bytes_list() -> list[int]:
    return [int(value) for value in _bytes_table()]


@lru_cache(maxsize=1)
def _words_table() -> Sums:
    """Sum of each two bytes, the first in the low bits, begun at zero."""
    word = np.arange(65536, dtype=np.int64)
    for _ in range(2):
        word = _bytes_table().take(word & 0xFF) ^ (word >> 8)
    return word
