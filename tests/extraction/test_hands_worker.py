"""A detector in another process: the protocol against damage, the process against every way to fail."""

from __future__ import annotations

import io
import os
import signal
import struct
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.extraction.hand_figures import hand
from vap_sim.data.joint_log import real_data_folder
from vap_sim.extraction import hand_wire
from vap_sim.extraction.hand_wire import HANDS, PICTURE, READY, BadHandMessage
from vap_sim.extraction.hand_worker import (
    PYTHON_VARIABLE,
    HandWorker,
    HandWorkerError,
    mediapipe_python,
    open_mediapipe,
)

PICTURES = np.random.default_rng(0).integers(0, 256, (2, 30, 40, 3), dtype=np.uint8)
CENTRE = """
import numpy as np

def open_detector(side="left", metres=False):
    print("this goes to standard error")
    def detect(picture):
        print("so does this")
        level = float(picture.mean())
        points = np.arange(42.0).reshape(21, 2) + level
        return [{"side": side, "score": 0.5, "points": points, "metres": points[:, [0, 1, 1]] if metres else None}]
    return detect
"""


def file(folder: Path, text: str) -> Path:
    path = folder / "detector.py"
    path.write_text(text)
    return path


def found(count: int = 2) -> list[dict[str, object]]:
    hands = [hand(10 * k, 20, ("left", "right")[k % 2]) for k in range(count)]
    return [
        {"side": one.side, "score": one.score, "points": one.points, "metres": one.metres if k % 2 else None}
        for k, one in enumerate(hands)
    ]


def test_pictures_and_hands_survive_the_wire() -> None:
    np.testing.assert_array_equal(hand_wire.unpack_picture(hand_wire.pack_picture(PICTURES[0])), PICTURES[0])
    for sent, got in zip(found(5), hand_wire.unpack_hands(hand_wire.pack_hands(found(5))), strict=True):
        assert (got["side"], got["score"]) == (sent["side"], pytest.approx(sent["score"]))
        np.testing.assert_array_equal(got["points"], np.float32(sent["points"]))
        assert (got["metres"] is None) == (sent["metres"] is None)
    assert hand_wire.unpack_hands(hand_wire.pack_hands([])) == []


@pytest.mark.parametrize("kind", [PICTURE, HANDS])
def test_every_truncation_is_refused(kind: int) -> None:
    content = hand_wire.pack_picture(PICTURES[0]) if kind == PICTURE else hand_wire.pack_hands(found())
    whole = hand_wire.message(kind, content)
    assert hand_wire.read_message(io.BytesIO(whole).read, [kind]) == (kind, content)
    for cut in [*range(1, 40), *range(40, len(whole), 97)]:
        with pytest.raises(BadHandMessage):
            hand_wire.read_message(io.BytesIO(whole[:cut]).read, [kind])
    unpack = hand_wire.unpack_picture if kind == PICTURE else hand_wire.unpack_hands
    for other in (content[:-1], content + b"\0", content[: len(content) // 2], b""):
        with pytest.raises(BadHandMessage):
            unpack(other)
    with pytest.raises(EOFError):
        hand_wire.read_message(io.BytesIO(b"").read, [kind])


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (struct.pack("<4sBBHI", b"VAPX", 1, HANDS, 0, 0), "expected VAPH"),
        (struct.pack("<4sBBHI", b"VAPH", 2, HANDS, 0, 0), "version 2"),
        (struct.pack("<4sBBHI", b"VAPH", 1, PICTURE, 0, 0), "kind 2"),
        (struct.pack("<4sBBHI", b"VAPH", 1, 9, 0, 0), "kind 9"),
        (struct.pack("<4sBBHI", b"VAPH", 1, HANDS, 7, 0), "expected VAPH"),
        (struct.pack("<4sBBHI", b"VAPH", 1, HANDS, 0, 2**32 - 1), "4294967295 bytes"),
    ],
)
def test_heads_that_lie(head: bytes, words: str) -> None:
    asked: list[int] = []

    def read(count: int) -> bytes:
        asked.append(count)
        return head if len(asked) == 1 else b"\0" * count

    with pytest.raises(BadHandMessage, match=words):
        hand_wire.read_message(read, [HANDS, READY])
    assert asked == [12], "nothing beyond the head is read"


def test_garbage_is_refused_and_never_anything_else() -> None:
    rng = np.random.default_rng(1)
    good = hand_wire.pack_hands(found())
    for _ in range(300):
        damaged = bytearray(good)
        for at in rng.integers(0, len(good), 3):
            damaged[at] = rng.integers(0, 256)
        try:
            for one in hand_wire.unpack_hands(bytes(damaged)):
                assert np.isfinite(one["points"]).all()
                assert 0 <= one["score"] <= 1
        except BadHandMessage:
            pass
        with pytest.raises(BadHandMessage):
            hand_wire.unpack_hands(rng.bytes(int(rng.integers(0, 200))) + b"\xff")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"side": "middle"}, "side 'middle'"),
        ({"score": 1.5}, "score 1.5"),
        ({"points": np.zeros((20, 2))}, "points"),
        ({"points": np.full((21, 2), np.nan)}, "points"),
        ({"metres": np.zeros((21, 2))}, "metres"),
    ],
)
def test_what_a_detector_must_not_say(change: dict[str, object], words: str) -> None:
    with pytest.raises(BadHandMessage, match=words):
        hand_wire.pack_hands([{**found(1)[0], **change}])


def test_too_much_is_refused_before_it_is_sent() -> None:
    with pytest.raises(BadHandMessage, match="at most 64"):
        hand_wire.pack_hands(found(1) * 65)
    with pytest.raises(BadHandMessage, match="9000x1"):
        hand_wire.pack_picture(np.zeros((1, 9000, 3), np.uint8))
    with pytest.raises(BadHandMessage, match="uint8"):
        hand_wire.pack_picture(np.zeros((4, 4), np.uint8))


def test_a_worker_looks_at_what_it_is_shown(tmp_path: Path) -> None:
    with HandWorker(sys.executable, file(tmp_path, CENTRE), {"side": "right", "metres": True}) as worker:
        for picture in PICTURES:
            (seen,) = worker.look(picture)
            np.testing.assert_allclose(seen.points[0, 0], picture.mean(), rtol=1e-6)
            assert seen.side == "right"
            assert seen.metres is not None
        assert worker.name == 'detector {"metres": true, "side": "right"}'
    with pytest.raises(HandWorkerError, match="was closed"):
        worker.look(PICTURES[0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import no_such_package", "No module named 'no_such_package'"),
        ("x = 1", "open_detector"),
        ("def open_detector(): raise RuntimeError('no weights')", "RuntimeError: no weights"),
        ("def open_detector(:", "SyntaxError"),
        (
            "def open_detector():\n    import os\n    print('dying')\n    os._exit(3)",
            r"ended \(exit status 3\).*\n.*dying",
        ),
    ],
)
def test_a_detector_that_cannot_be_opened(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(HandWorkerError, match=f"(?s){words}"):
        HandWorker(sys.executable, file(tmp_path, text))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise ValueError('blurred')", "failed with ValueError: blurred"),
        ("return [{'side': 'left', 'score': 7, 'points': []}]", "failed with BadHandMessage"),
        ("import os; os.kill(os.getpid(), 9)", "ended"),
        ("time.sleep(60)", "did not answer within 1 s"),
        ("sink(b'VAPH' + bytes([1, 3, 0, 0]) + b'\\xff' * 4); time.sleep(60)", "announces 4294967295 bytes"),
        ("sink(b'what is printed by a library'); time.sleep(60)", "expected VAPH"),
    ],
)
def test_a_worker_that_fails_while_it_looks(tmp_path: Path, body: str, words: str) -> None:
    text = f"""
import gc, io, time

def sink(data):
    pipes = [item for item in gc.get_objects() if isinstance(item, io.BufferedWriter) and item.fileno() > 2]
    pipes[0].write(data)
    pipes[0].flush()

def open_detector():
    def detect(picture):
        {body}
    return detect
"""
    worker = HandWorker(sys.executable, file(tmp_path, text), looking=1.0 if "sleep" in body else 60.0)
    with pytest.raises(HandWorkerError, match=words):
        worker.look(PICTURES[0])
    with pytest.raises(HandWorkerError, match="was closed"):
        worker.look(PICTURES[0])


def test_a_worker_that_was_killed_between_two_looks(tmp_path: Path) -> None:
    worker = HandWorker(sys.executable, file(tmp_path, CENTRE))
    worker.look(PICTURES[0])
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(HandWorkerError, match="ended"):
        worker.look(np.zeros((2000, 2000, 3), np.uint8))


def test_a_worker_leaves_when_its_owner_does(tmp_path: Path) -> None:
    worker = HandWorker(sys.executable, file(tmp_path, CENTRE))
    process = worker._process
    started = time.monotonic()
    worker.close()
    worker.close()
    assert process.returncode == 0
    assert time.monotonic() - started < 60


def test_missing_interpreters_and_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HandWorkerError, match=r"no Python interpreter at .*nowhere"):
        HandWorker(tmp_path / "nowhere")
    with pytest.raises(HandWorkerError, match=r"no detector file at .*missing\.py"):
        HandWorker(sys.executable, tmp_path / "missing.py")
    (tmp_path / "python").write_text("not executable")
    with pytest.raises(HandWorkerError, match="cannot be run"):
        HandWorker(tmp_path / "python", file(tmp_path, CENTRE))
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    with pytest.raises(HandWorkerError, match=r"(?s)python3.11 -m venv.*pip install --no-deps"):
        mediapipe_python()
    monkeypatch.setenv(PYTHON_VARIABLE, "/some/python")
    assert mediapipe_python() == Path("/some/python")
    assert mediapipe_python(Path("mine")) == Path("mine")


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """A woman who faces the camera, both hands before her face: her right hand is on the left of the picture."""
    data = real_data_folder()
    if not os.environ.get(PYTHON_VARIABLE):
        pytest.skip(f"{PYTHON_VARIABLE} names no environment with mediapipe")
    if data is None:
        pytest.skip("no real recordings (VAP_SIM_REAL_DATA)")
    import cv2

    picture = cv2.imread(str(data / "hands" / "hand5.jpg"))
    return np.ascontiguousarray(picture[:, :, ::-1])


def test_mediapipe_tells_left_from_right_in_a_photograph(photograph: np.ndarray) -> None:
    with HandWorker(mediapipe_python()) as worker:
        first, second = sorted(worker.look(photograph), key=lambda one: one.box.centre[0])
        assert (first.side, second.side) == ("right", "left")
        assert first.metres is not None
        assert 0.1 < np.linalg.norm(first.metres[12] - first.metres[0]) < 0.25
    with HandWorker(mediapipe_python(), options={"mirrored": True}) as worker:
        first, second = sorted(worker.look(photograph[:, ::-1].copy()), key=lambda one: one.box.centre[0])
        assert (first.side, second.side) == ("left", "right")


def test_mediapipe_looks_at_every_picture_on_its_own_and_views_agree(photograph: np.ndarray) -> None:
    other = np.ascontiguousarray(photograph[300:1100, 100:900])
    with open_mediapipe() as detector:
        before = detector.look(photograph)
        assert len(detector.look(other)) == 2
        after = detector.look(photograph)
        assert len(before) == len(after) == 2
        for a, b in zip(before, after, strict=True):
            np.testing.assert_allclose(a.points, b.points, atol=1e-3)
        found = detector.detect(0, photograph)
    assert sorted(one.side for one in found) == ["left", "right"]
    assert all(one.agreed[0] == one.agreed[1] for one in found)
