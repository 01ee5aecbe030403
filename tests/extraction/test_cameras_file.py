"""cameras.json: what is written is read, refusals are kept apart, and damage is named by entry and field."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.extraction.camera_clips import CAMERA
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.extraction.cameras import Calibration
from vap_sim.extraction.cameras_file import FILE, read_cameras, read_found, write_cameras

GIVEN = Calibration("front", ("a", "b"), CAMERA, std={"place": 0.01}, figures={"residual": np.inf})
REFUSED = Calibration("side", ("a",), None, "still robot", "no key point moves")


def written(folder: Path) -> Path:
    return write_cameras(folder, "panda_robotiq", [("exterior_1", GIVEN), ("exterior_2", REFUSED)])


def test_cameras_come_back_by_episode_and_view(tmp_path: Path) -> None:
    path = written(tmp_path / "new folder")
    assert path.name == FILE
    assert [file.name for file in path.parent.iterdir()] == [FILE]
    for place in (path, path.parent):
        cameras = read_cameras(place)
        assert set(cameras) == {("a", "exterior_1"), ("b", "exterior_1")}
        camera = cameras["b", "exterior_1"]
        np.testing.assert_array_equal(camera.T_parent_camera, CAMERA.T_parent_camera)
        np.testing.assert_array_equal(camera.intrinsics, CAMERA.intrinsics)


def test_a_run_goes_on_from_what_was_found(tmp_path: Path) -> None:
    assert read_found(tmp_path, {"seed": 0}) == {}
    again = replace(GIVEN, vector=np.arange(8.0), looked=2)
    write_cameras(tmp_path, "panda_robotiq", [("exterior_1", again), ("exterior_2", REFUSED)], {"seed": 0})
    found = read_found(tmp_path, {"seed": 0})
    assert list(found) == [("exterior_1", ("a", "b")), ("exterior_2", ("a",))]
    given, refused = found.values()
    assert (given.name, given.looked, given.std, given.figures) == ("front", 2, GIVEN.std, GIVEN.figures)
    assert given.camera is not None and given.camera.to_dict() == CAMERA.to_dict()
    assert given.vector is not None and given.vector.tolist() == list(range(8))
    assert (refused.camera, refused.reason, refused.detail, refused.looked) == (None, REFUSED.reason, REFUSED.detail, 1)
    with pytest.raises(InvalidInput, match="seed 1, expected 0, as before, or another folder"):
        read_found(tmp_path, {"seed": 1})


def test_refusals_and_unmeasured_figures_are_told(tmp_path: Path) -> None:
    record = json.loads(written(tmp_path).read_text())
    assert record["cameras"][1]["refused"] == {"reason": "still robot", "detail": "no key point moves"}
    assert record["cameras"][0]["figures"] == {"residual": None}
    assert record["robot"] == "panda_robotiq"


def _entry(field: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record["cameras"][0].__setitem__(field, value)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda record: record.pop("format"), "is no file of cameras"),
        (lambda record: record.__setitem__("version", 7), "'version' is 7, expected 1"),
        (lambda record: record.__setitem__("cameras", {}), "'cameras' is dict, expected a list"),
        (lambda record: record["cameras"].__setitem__(0, 3), "entry 0 of 'cameras' is int"),
        (_entry("view", None), "entry 0 of 'cameras', field 'view'"),
        (_entry("episodes", "a"), "field 'episodes': expected a list of texts"),
        (_entry("camera", None), "has neither a 'camera' nor a reason"),
        (_entry("camera", {"size": [3, 3]}), "field 'camera': camera"),
        (_entry("camera", []), "field 'camera': list"),
    ],
)
def test_damage_is_named(tmp_path: Path, harm: Callable[[dict[str, Any]], None], message: str) -> None:
    path = written(tmp_path)
    record = json.loads(path.read_text())
    harm(record)
    path.write_text(json.dumps(record))
    with pytest.raises(BadFile, match=message):
        read_cameras(path)


def test_no_file_and_no_json_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="cannot be read"):
        read_cameras(tmp_path)
    (tmp_path / FILE).write_bytes(b"\xff{")
    with pytest.raises(BadFile, match="is not JSON"):
        read_cameras(tmp_path)
