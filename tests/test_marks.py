"""Marks in real recordings: what is read is what was marked, damage is named, distances are distances."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.benchmark_parts import FOLDER, benchmark_modules
from vap_sim.data.joint_log import real_data_folder
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.robots.library import load_robot

FILES = ("droid_joints.json", "hand_keypoints.json")
FINGERS = [
    f"{finger}_{joint}" for finger in ("index", "middle", "ring", "pinky") for joint in ("mcp", "pip", "dip", "tip")
]
HAND = ("wrist", "thumb_cmc", "thumb_mcp", "thumb_ip", "thumb_tip", *FINGERS)


@pytest.fixture(scope="module")
def marks() -> Iterator[ModuleType]:
    """The benchmark's file as a module."""
    with benchmark_modules(["marks_check"]) as modules:
        yield modules["marks_check"]


def small() -> dict[str, Any]:
    """Content of a file with three points on two bodies, the second without a box."""
    return {
        "about": {"repeatability": {"median": 1.0, "p90": 1.8}},
        "sizes": {"clip.mp4": [40, 30]},
        "subjects": [
            {"recording": "clip.mp4", "view": None, "frame": 2, "subject": "left", "box": [4, 5, 24, 15],
             "points": {"wrist": [10.0, 10.0, 2.0, 0.0], "thumb_tip": [20.0, 8.0, 2.0, 1.0]}},
            {"recording": "clip.mp4", "view": None, "frame": 3, "subject": "left",
             "points": {"wrist": [0.0, 29.0, 1.0, 2.0]}},
        ],
        "visible": [{"recording": "clip.mp4", "frame": 2, "left": True, "right": None}],
    }  # fmt: skip


def written(folder: Path, content: object) -> Path:
    path = folder / "marks.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", FILES)
def test_shipped_marks_are_whole_and_name_points_that_exist(marks: ModuleType, name: str) -> None:
    robot = tuple(point.name for point in load_robot("panda_robotiq").skeleton.points)
    marked = marks.read_marks(FOLDER / "marks" / name, robot if name == FILES[0] else HAND)
    least, frames = (100, 30) if name == FILES[0] else (60, 9)
    assert len(marked.marks) >= least
    assert len({key[:3] for key in marked.bodies}) >= frames
    if name == FILES[0]:
        assert len(marked.sizes) >= 8 and {key.view for key in marked.bodies} == {"0.mp4", "1.mp4"}
    else:
        assert len(marked.visible) >= 30 and all(mark.box is not None for mark in marked.marks)
        assert all(key.frame == 0 for key in marked.bodies if key.recording.endswith(".jpg"))


def test_predicting_the_marks_themselves_gives_zero_and_a_shift_gives_its_length(
    marks: ModuleType, tmp_path: Path
) -> None:
    marked = marks.read_marks(written(tmp_path, small()))
    exact = {key: {m.point: (m.x, m.y) for m in marked.marks if m.key == key} for key in marked.bodies}
    assert marks.distances(marked.marks, exact).pixels.tolist() == [0, 0, 0]
    shifted = {key: {name: (x + 3, y - 4) for name, (x, y) in own.items()} for key, own in exact.items()}
    found = marks.distances(marked.marks, shifted)
    np.testing.assert_allclose(found.pixels, 5)
    assert found.quantile(0.5) == pytest.approx(5) and not found.missing
    with pytest.raises(InvalidInput, match="box"):
        found.relative()
    np.testing.assert_allclose(marks.distances(marked.marks[:2], shifted).relative(), 5 / 20)


def test_what_was_not_predicted_is_missing_and_no_number_hides_a_failure(marks: ModuleType, tmp_path: Path) -> None:
    marked = marks.read_marks(written(tmp_path, small()))
    first = marked.marks[0]
    found = marks.distances(marked.marks, {first.key: {"wrist": (first.x + 1, first.y)}})
    assert found.compared == (first,) and found.missing == marked.marks[1:]
    with pytest.raises(InvalidInput, match="not finite for wrist"):
        marks.distances(marked.marks, {first.key: {"wrist": (float("nan"), 0.0)}})
    with pytest.raises(InvalidInput, match="at least one"):
        marks.distances(marked.marks, {}).quantile(0.5)


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (("sizes",), {}, "no such recording"),
        (("subjects", 0, "points", "wrist"), [41.0, 10.0, 2.0, 0.0], "outside 40 x 30"),
        (("subjects", 0, "points", "wrist"), [float("nan"), 10.0, 2.0, 0.0], "outside 40 x 30"),
        (("subjects", 0, "points", "wrist"), [10.0, 10.0, 2.0], "not a file of marks"),
        (("subjects", 0, "points", "wrist"), [10.0, 10.0, 0.0, 0.0], "spread"),
        (("subjects", 0, "box"), [12, 5, 24, 15], "box"),
        (("subjects", 1, "frame"), 2, "marked twice"),
        (("subjects",), [], "none is marked"),
        (("about", "repeatability", "median"), 0.5, "0.5 px stated"),
        (("visible", 0), {"recording": "clip.mp4", "frame": 2}, "left"),
    ],
)
def test_damage_is_named(marks: ModuleType, tmp_path: Path, at: tuple[Any, ...], value: object, said: str) -> None:
    content: Any = small()
    place = content
    for step in at[:-1]:
        place = place[step]
    place[at[-1]] = value
    with pytest.raises(BadFile, match=said):
        marks.read_marks(written(tmp_path, content))


def test_a_file_that_is_no_json_and_a_point_that_nobody_knows_are_named(marks: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "torn.json").write_text('{"about": ', encoding="utf-8")
    with pytest.raises(BadFile, match=r"torn\.json"):
        marks.read_marks(tmp_path / "torn.json")
    with pytest.raises(UnknownName, match="thumb_tip"):
        marks.read_marks(written(tmp_path, small()), ("wrist", "thumb_top"))


def test_a_drawn_mark_lies_on_its_pixel_and_nothing_else_changes(marks: ModuleType, tmp_path: Path) -> None:
    marked = marks.read_marks(written(tmp_path, small()))
    picture = np.zeros((30, 40, 3), np.uint8)
    drawn = marks.draw_marks(picture, marked.marks[:1], enlarge=4)
    rows, columns = np.nonzero(drawn.any(2))
    assert drawn.shape == (120, 160, 3) and not picture.any()
    assert (rows.mean(), columns.mean()) == pytest.approx(
        (42, 42), abs=0.5
    )  # the middle of pixel 10, four times as large
    line = marks.draw_marks(picture, marked.marks[:1], {"wrist": (30.0, 10.0)}, enlarge=4)
    assert (line[42, 60:120] == (255, 220, 0)).all()
    corner = marks.draw_marks(picture, marked.marks[2:], enlarge=2)
    assert corner[58:, :2].any()


@pytest.mark.parametrize("name", FILES)
def test_marked_pictures_exist_in_the_size_that_the_file_states(marks: ModuleType, name: str) -> None:
    folder = real_data_folder()
    if folder is None:
        pytest.skip("no real recordings here; VAP_SIM_REAL_DATA names their folder")
    marked = marks.read_marks(FOLDER / "marks" / name)
    for key in {key.recording: key for key in marked.bodies if key.frame < 60}.values():
        width, height = marked.sizes[key.recording]
        assert marks.read_picture(folder, key).shape == (height, width, 3)
    with pytest.raises(BadFile, match="no frame 9999"):
        marks.read_picture(folder, marked.bodies[-1]._replace(frame=9999))
