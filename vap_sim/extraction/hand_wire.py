"""How a hand detector in another environment is spoken to: length-checked messages over its standard input and output.

This file also runs inside that environment, as `python hand_wire.py DETECTOR.py OPTIONS`, so it needs Python 3.10 and
numpy alone. DETECTOR.py defines `open_detector(**options)`, which returns a function of one picture (H, W, 3) uint8
RGB; the function returns a list of hands, each a mapping with

    side      "left" or "right": whose hand it is, as seen in a picture that is not mirrored
    score     the detector's own confidence, 0 to 1
    points    (21, 2) [px]: the wrist, then thumb, index, middle, ring and little finger, from root to tip
    metres    (21, 3) [m], or None: the same points in the camera's axes (x right, y down, z forward) about any origin

Every message is a head of 12 bytes (`VAPH`, version, kind, two zeros, length of what follows) and its content. Sizes
are compared with what the kind allows before anything is read or allocated. What the detector prints goes to standard
error.
"""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

VERSION = 1
READY, PICTURE, HANDS, FAILED = 1, 2, 3, 4
POINTS = 21
LARGEST_SIDE = 8192
"""Pixels of a picture along either side."""
MOST_HANDS = 64
LARGEST_TEXT = 2**16
_HEAD = struct.Struct("<4sBBHI")
_SIZE = struct.Struct("<II")
_HAND = struct.Struct("<BBHf")
_COUNT = struct.Struct("<I")
_PIXELS, _METRES = POINTS * 2 * 4, POINTS * 3 * 4
_LARGEST = {
    READY: LARGEST_TEXT,
    PICTURE: _SIZE.size + 3 * LARGEST_SIDE * LARGEST_SIDE,
    HANDS: _COUNT.size + MOST_HANDS * (_HAND.size + _PIXELS + _METRES),
    FAILED: LARGEST_TEXT,
}
SIDES = ("left", "right")
Reader = Callable[[int], bytes]
"""Gives exactly so many bytes, or fewer where the stream ends."""


class BadHandMessage(ValueError):
    """A message is none of this protocol: cut short, too long, or holding what it must not."""


def message(kind: int, content: bytes) -> bytes:
    """The bytes of one message. Raises BadHandMessage for content that is larger than its kind allows."""
    if len(content) > _LARGEST[kind]:
        raise BadHandMessage(f"{len(content)} bytes, at most {_LARGEST[kind]} are sent in a message of kind {kind}")
    return _HEAD.pack(b"VAPH", VERSION, kind, 0, len(content)) + content


def read_message(read: Reader, allowed: Sequence[int]) -> tuple[int, bytes]:
    """Kind and content of the next message, whose kind must be among `allowed`.

    Raises EOFError where the stream ends before a message begins, BadHandMessage for everything else.
    """
    head = read(_HEAD.size)
    if not head:
        raise EOFError("the stream ended")
    if len(head) != _HEAD.size:
        raise BadHandMessage(f"a head of {len(head)} bytes, expected {_HEAD.size}")
    magic, version, kind, zero, length = _HEAD.unpack(head)
    if magic != b"VAPH" or zero:
        raise BadHandMessage(f"begins with {head!r}, expected VAPH")
    if version != VERSION:
        raise BadHandMessage(f"is of version {version}, expected {VERSION}")
    if kind not in allowed:
        raise BadHandMessage(f"is of kind {kind}, expected one of {list(allowed)}")
    if length > _LARGEST[kind]:
        raise BadHandMessage(f"announces {length} bytes, at most {_LARGEST[kind]} are allowed")
    content = read(length)
    if len(content) != length:
        raise BadHandMessage(f"ends after {len(content)} of {length} bytes")
    return kind, content


def pack_picture(picture: np.ndarray) -> bytes:
    """The content that carries a picture (H, W, 3) uint8. Raises BadHandMessage."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise BadHandMessage(f"picture of {picture.dtype} {picture.shape}, expected uint8 (H, W, 3)")
    _check_size(*picture.shape[:2])
    return _SIZE.pack(*picture.shape[:2]) + np.ascontiguousarray(picture).tobytes()


def unpack_picture(content: bytes) -> np.ndarray:
    """The picture (H, W, 3) uint8 of a content. Raises BadHandMessage."""
    if len(content) < _SIZE.size:
        raise BadHandMessage(f"picture in {len(content)} bytes")
    height, width = _SIZE.unpack_from(content)
    _check_size(height, width)
    if len(content) != _SIZE.size + 3 * height * width:
        raise BadHandMessage(f"picture of {width}x{height} in {len(content) - _SIZE.size} bytes")
    return np.frombuffer(content, np.uint8, offset=_SIZE.size).reshape(height, width, 3)


def _check_size(height: int, width: int) -> None:
    if not (0 < height <= LARGEST_SIDE and 0 < width <= LARGEST_SIDE):
        raise BadHandMessage(f"picture of {width}x{height}, expected 1 to {LARGEST_SIDE} pixels a side")


def pack_hands(hands: Sequence[Mapping[str, Any]]) -> bytes:
    """The content that carries what a detector found. Raises BadHandMessage naming the field that does not fit."""
    if len(hands) > MOST_HANDS:
        raise BadHandMessage(f"{len(hands)} hands in one picture, at most {MOST_HANDS} are sent")
    parts = [_COUNT.pack(len(hands))]
    for hand in hands:
        points = _numbers("points", hand["points"], 2)
        metres = None if hand.get("metres") is None else _numbers("metres", hand["metres"], 3)
        score = float(hand["score"])
        if hand["side"] not in SIDES or not 0 <= score <= 1:
            raise BadHandMessage(f"a hand of side {hand['side']!r}, score {score}: expected left or right, 0 to 1")
        parts += [_HAND.pack(SIDES.index(hand["side"]), metres is not None, 0, score), points.tobytes()]
        parts += [] if metres is None else [metres.tobytes()]
    return b"".join(parts)


def unpack_hands(content: bytes) -> list[dict[str, Any]]:
    """What `pack_hands` packed. Raises BadHandMessage."""
    if len(content) < _COUNT.size:
        raise BadHandMessage(f"hands in {len(content)} bytes")
    (count,), at, hands = _COUNT.unpack_from(content), _COUNT.size, []
    if count > MOST_HANDS:
        raise BadHandMessage(f"{count} hands, at most {MOST_HANDS} are allowed")
    for number in range(count):
        if len(content) < at + _HAND.size:
            raise BadHandMessage(f"ends within hand {number} of {count}")
        side, in_space, zero, score = _HAND.unpack_from(content, at)
        at += _HAND.size
        if side > 1 or in_space > 1 or zero or not 0 <= score <= 1:
            raise BadHandMessage(f"hand {number}: side {side}, metres {in_space}, score {score}")
        if len(content) < at + _PIXELS + in_space * _METRES:
            raise BadHandMessage(f"ends within hand {number} of {count}")
        points = np.frombuffer(content, "<f4", POINTS * 2, at).reshape(POINTS, 2)
        at += _PIXELS
        metres = np.frombuffer(content, "<f4", POINTS * 3, at).reshape(POINTS, 3) if in_space else None
        at += in_space * _METRES
        for name, values in (("points", points), ("metres", metres)):
            if values is not None and not np.isfinite(values).all():
                raise BadHandMessage(f"hand {number}: {name} that are not finite")
        hands.append({"side": SIDES[side], "score": float(score), "points": points, "metres": metres})
    if at != len(content):
        raise BadHandMessage(f"{len(content) - at} bytes behind the last hand")
    return hands


def _numbers(name: str, values: Any, axes: int) -> np.ndarray:
    array = np.asarray(values, dtype="<f4")
    if array.shape != (POINTS, axes) or not np.isfinite(array).all():
        raise BadHandMessage(f"{name} {array.shape}, expected ({POINTS}, {axes}), all finite")
    return array


def serve(detect: Callable[[np.ndarray], Sequence[Mapping[str, Any]]], source: Any, sink: Any, name: str) -> None:
    """Answer pictures from the binary stream `source` on `sink` until it ends. A failure is told, and ends it too."""
    sink.write(message(READY, name.encode()[:LARGEST_TEXT]))
    sink.flush()
    while True:
        try:
            _, content = read_message(source.read, [PICTURE])
        except EOFError:
            return
        sink.write(message(HANDS, pack_hands(detect(unpack_picture(content)))))
        sink.flush()


def _opened(path: str, options: dict[str, Any]) -> Callable[[np.ndarray], Any]:
    spec = importlib.util.spec_from_file_location("hand_detector", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    opened: Callable[[np.ndarray], Any] = module.open_detector(**options)
    return opened


def main(arguments: Sequence[str]) -> int:
    """Serve the detector of a file; the exit status is 1 where it failed, which the other side was told."""
    path, options = arguments
    # Whatever else is printed must not come between messages.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        serve(_opened(path, json.loads(options)), sys.stdin.buffer, sink, os.path.basename(path))
    except Exception as error:  # noqa: BLE001 - foreign code raises anything, and nobody else here can be told
        text = f"{type(error).__name__}: {error}"
        try:
            sink.write(message(FAILED, text.encode("utf-8", "replace")[:LARGEST_TEXT]))
            sink.flush()
        except OSError:
            pass  # nobody listens any more
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
