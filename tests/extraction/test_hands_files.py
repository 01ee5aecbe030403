"""Key point files and detection logs: what they carry, and every damage named."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.extraction.hand_figures import Knowing, hand
from vap_sim.errors import BadFile
from vap_sim.extraction.hand_detection import Box, HandDetection
from vap_sim.extraction.hand_files import read_hand_file
from vap_sim.extraction.hand_log import open_log

T = 4
PICTURE = np.zeros((8, 8, 3), np.uint8)
K = np.array([[500.0, 0, 320], [0, 510, 180], [0, 0, 1]])


def points() -> np.ndarray:
    """(T, 2, 21, 2): a left hand in all frames, a right one in all but the second."""
    values = np.stack([np.stack([hand(100 + t, 200, "left").points, hand(400, 200).points]) for t in range(T)])
    values[1, 1] = np.nan
    return values


def placed() -> np.ndarray:
    """(T, 2, 21, 3) [m] in front of the camera."""
    one = np.stack([np.add(hand(0, 0, side).metres, (0.05, 0, 0.6)) for side in ("left", "right")])  # type: ignore[operator]
    return np.repeat(one[None], T, axis=0)


def write(path: Path, values: dict[str, Any]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **values)
    else:
        plain = {name: np.where(np.isnan(v), None, v).tolist() for name, v in values.items()}
        path.write_text(json.dumps(plain))
    return path


@pytest.mark.parametrize("name", ["hands.npz", "hands.json"])
def test_points_come_back_with_sides_and_scores(tmp_path: Path, name: str) -> None:
    score = np.linspace(0.2, 0.9, 2 * T).reshape(T, 2)
    detector = read_hand_file(write(tmp_path / name, {"points": points(), "score": score}))
    for t in range(T):
        found = detector.detect(t, PICTURE)
        assert [one.side for one in found] == (["left"] if t == 1 else ["left", "right"])
        np.testing.assert_array_equal(found[0].points, points()[t, 0])
        assert found[0].score == score[t, 0]
        assert found[0].metres is None
        assert detector.detect(t, PICTURE, Box(0, 0, 500, 500)) == ()
    with pytest.raises(BadFile, match="holds 4 frames; the video has a frame 4"):
        detector.detect(T, PICTURE)


def test_points_in_space_are_projected(tmp_path: Path) -> None:
    detector = read_hand_file(write(tmp_path / "hands.npz", {"metres": placed(), "intrinsics": K}))
    for number, one in enumerate(detector.detect(2, PICTURE)):
        at = placed()[2, number]
        assert one.placed
        assert one.metres is not None
        np.testing.assert_array_equal(one.metres, at)
        np.testing.assert_allclose(one.points, at[:, :2] / at[:, 2:] * (500, 510) + (320, 180))


def test_metres_beside_points_tell_the_shape_alone(tmp_path: Path) -> None:
    detector = read_hand_file(write(tmp_path / "hands.npz", {"points": points()[2:], "metres": placed()[2:]}))
    assert [one.placed for one in detector.detect(0, PICTURE)] == [False, False]
    with pytest.raises(BadFile, match="frame 1, right"):
        read_hand_file(write(tmp_path / "hands.npz", {"points": points(), "metres": placed()}))


def torn(values: np.ndarray, at: tuple[int, ...], value: float) -> np.ndarray:
    values = values.copy()
    values[at] = value
    return values


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "neither 'points' nor 'metres'"),
        ({"points": points()[:, :1]}, r"'points' has shape \(4, 1, 21, 2\), expected \(4, 2, 21, 2\)"),
        ({"points": points()[:0]}, "'points' has shape"),
        ({"points": np.zeros(3)}, "'points' has shape"),
        ({"points": points(), "score": np.ones((T + 1, 2))}, r"'score' has shape \(5, 2\), expected \(4, 2\)"),
        ({"points": points(), "score": np.full((T, 2), 2.0)}, "frame 0, left: score of a hand: given 2.0"),
        ({"points": torn(points(), (2, 1, 7, 0), np.nan)}, "frame 2, right: points of a hand.*1 not finite"),
        ({"points": torn(points(), (0, 0, 7, 0), np.inf)}, "frame 0, left"),
        ({"points": points() * 1e-3}, "frame 0, left: size of a hand"),
        ({"metres": placed()}, "no 'intrinsics'"),
        ({"metres": placed(), "intrinsics": np.eye(2)}, "'intrinsics' has shape"),
        ({"metres": placed(), "intrinsics": -K}, "field 'intrinsics'"),
        ({"metres": torn(placed(), (3, 1, 4, 2), -0.1), "intrinsics": K}, "frame 3, right, point 4 is not in front"),
    ],
)
@pytest.mark.parametrize("name", ["hands.npz", "hands.json"])
def test_damaged_fields_are_named(tmp_path: Path, name: str, values: dict[str, Any], words: str) -> None:
    with pytest.raises(BadFile, match=words) as caught:
        read_hand_file(write(tmp_path / name, values))
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["hands.npz", "hands.json"])
def test_damaged_files_raise_nothing_but_the_named_error(tmp_path: Path, name: str) -> None:
    whole = write(tmp_path / name, {"points": points()}).read_bytes()
    path = tmp_path / f"damaged{Path(name).suffix}"
    rng = np.random.default_rng(0)
    for cut in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(BadFile):
            read_hand_file(path)
    for _ in range(200):
        content = bytearray(whole)
        for at in rng.integers(0, len(whole), 4):
            content[at] = rng.integers(0, 256)
        path.write_bytes(bytes(content))
        try:
            read_hand_file(path)
        except BadFile:
            continue
    with pytest.raises(BadFile, match="cannot be read"):
        read_hand_file(tmp_path / f"nowhere{path.suffix}")


@pytest.mark.parametrize("text", ['{"points": "many"}', '{"points": [[1], [1, 2]]}', "[1]", '{"points": {"a": 1}}'])
def test_json_that_is_no_table(tmp_path: Path, text: str) -> None:
    (tmp_path / "hands.json").write_text(text)
    with pytest.raises(BadFile):
        read_hand_file(tmp_path / "hands.json")


def test_a_pickled_array_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "hands.npz", points=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BadFile, match="allow_pickle"):
        read_hand_file(tmp_path / "hands.npz")


@dataclass(frozen=True)
class Once:
    """A detector that may be asked only so often."""

    inner: Knowing
    budget: list[int]
    name: str = "once"
    asked: list[int] = field(default_factory=list)

    def detect(self, frame: int, picture: np.ndarray, near: Box | None = None) -> tuple[HandDetection, ...]:
        self.asked.append(frame)
        if len(self.asked) > self.budget[0]:
            raise KeyboardInterrupt
        return self.inner.detect(frame, picture, near)


def test_an_interrupted_log_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    truth = [(hand(100 + t / 3, 200), hand(300, 200, "left")) for t in range(6)]
    path, near = tmp_path / "log.jsonl", truth[2][0].box
    first = Once(Knowing(truth, truth), [4])
    log = open_log(path, first, "video")
    with pytest.raises(KeyboardInterrupt):
        for t in range(6):
            log.detect(t, PICTURE)
    with path.open("a") as file:
        file.write('{"frame": 4, "near": null, "ha')  # torn by a crash
    second = Once(Knowing(truth, truth), [100])
    log = open_log(path, second, "video")
    found = [log.detect(t, PICTURE) for t in range(6)] + [log.detect(2, PICTURE, near)]
    assert second.asked == [4, 5, 2]
    third = Once(Knowing(truth), [0])
    again = open_log(path, third, "video")
    for expected, t, box in zip(found, [*range(6), 2], [None] * 6 + [near], strict=True):
        got = again.detect(t, PICTURE, box)
        assert [(one.side, one.score, one.agreed) for one in got] == [
            (one.side, one.score, one.agreed) for one in expected
        ]
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a.points, b.points)
            np.testing.assert_array_equal(a.metres, b.metres)  # type: ignore[arg-type]


@pytest.mark.parametrize(("video", "name"), [("another", "once"), ("video", "other")])
def test_a_log_of_something_else_begins_anew(tmp_path: Path, video: str, name: str) -> None:
    truth = [(hand(100, 200),)]
    path = tmp_path / "log.jsonl"
    open_log(path, Once(Knowing(truth, truth), [9]), "video").detect(0, PICTURE)
    fresh = Once(Knowing(truth, truth), [9], name)
    open_log(path, fresh, video).detect(0, PICTURE)
    assert fresh.asked == [0]
    assert len(path.read_text().splitlines()) == 2


def test_a_damaged_log_names_its_line(tmp_path: Path) -> None:
    truth = [(hand(100, 200),)] * 3
    path = tmp_path / "log.jsonl"
    log = open_log(path, Once(Knowing(truth, truth), [9]), "video")
    for t in range(3):
        log.detect(t, PICTURE)
    lines = path.read_text().splitlines(keepends=True)
    for damaged in (
        "{}\n",
        "nonsense\n",
        lines[2].replace('"right"', '"middle"'),
        lines[2].replace('"score"', '"sure"'),
    ):
        path.write_text("".join([*lines[:2], damaged, *lines[3:]]))
        with pytest.raises(BadFile, match="line 3 is damaged"):
            open_log(path, Once(Knowing(truth), [9]), "video")
