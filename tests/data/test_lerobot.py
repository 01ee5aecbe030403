"""LeRobot: what was written is read, whatever version wrote it; what is damaged or hostile is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="LeRobot's tables are Parquet")

from tests.data.episodes import SIZES, assert_equal, episode, pictures
from tests.data.lerobot_folders import state, write_v21
from tests.data.lerobot_sets import EXACT, LENGTHS, takes
from vap_sim.data.dataset import Refused, open_dataset, read_all
from vap_sim.data.film import FilmSettings
from vap_sim.data.lerobot import open_lerobot
from vap_sim.data.lerobot_fields import FieldMap, FieldSource
from vap_sim.data.lerobot_write import LeRobotSettings, write_lerobot
from vap_sim.errors import BadFile, InvalidInput, UnknownName


def test_a_round_trip_is_exact(written: Path) -> None:
    dataset = open_dataset(written)
    assert dataset.format == "lerobot" and dataset.path == written
    assert dataset.names == tuple(f"take {k}" for k in range(4))
    for given, expected in zip(read_all(dataset), takes(), strict=True):
        assert not isinstance(given, Refused)
        assert_equal(given, expected)
        assert given.notes == expected.notes and given.source.is_file()


def test_float32_and_films_that_lose_little(tmp_path: Path) -> None:
    path = write_lerobot(tmp_path / "set", takes()[:2], LeRobotSettings(FilmSettings(quality=5)))
    for given, expected in zip(read_all(open_dataset(path)), takes(), strict=False):
        assert not isinstance(given, Refused)
        for member in ("joints", "gripper", "tool", "joint_targets", "actions"):
            assert np.array_equal(getattr(given, member), getattr(expected, member).astype(np.float32)), member
        for view in SIZES:
            close = zip(given.views[view].frames(), expected.views[view].frames(), strict=True)
            assert max(np.abs(a.astype(int) - b).mean() for a, b in close) < 6


def test_what_an_episode_lacks_stays_out(tmp_path: Path) -> None:
    bare = dict.fromkeys(("robot", "joints", "gripper", "tool", "tool_link", "joint_targets", "actions"))
    expected = [episode(k, 3, action_names=(), cameras={}, success=None, notes=(), **bare) for k in range(2)]
    path = write_lerobot(tmp_path / "set", expected, EXACT)
    for given, wanted in zip(read_all(open_dataset(path)), expected, strict=True):
        assert not isinstance(given, Refused)
        assert_equal(given, wanted)


def test_version_2_is_read(older: Path) -> None:
    """One file an episode, in chunks of two; degrees because the names say so, and no gripper because they do not."""
    dataset = open_dataset(older)
    assert dataset.names == tuple(f"episode_{k:06d}" for k in range(4))
    for number, given in enumerate(read_all(dataset)):
        assert not isinstance(given, Refused) and given.length == LENGTHS[number]
        assert np.allclose(given.joints, np.radians(state(given.length, number)[:, :2])) and given.gripper is None
        assert np.array_equal(given.actions, np.arange(given.length)[:, None]) and given.action_names == ("turn",)
        assert given.instruction == f"job {number % 2}" and given.frame_rate == 10.0 and given.success is None
        assert list(given.views) == ["top"]
        shown = pictures(given.length, SIZES["exterior_1"], number)
        assert np.abs(np.stack(list(given.views["top"].frames())).astype(int) - shown).mean() < 8
        assert any("far is a picture of distances" in note for note in given.notes)


def test_stills_in_a_table_are_read(tmp_path: Path) -> None:
    for number, given in enumerate(read_all(open_dataset(write_v21(tmp_path / "v21", LENGTHS, stills=True)))):
        assert not isinstance(given, Refused)
        shown = pictures(given.length, SIZES["exterior_1"], number)
        assert np.array_equal(np.stack(list(given.views["top"].frames())), shown)
        assert np.array_equal(next(given.views["top"].frames(2)), shown[2])


def test_a_unit_is_never_guessed(tmp_path: Path) -> None:
    """Joints of columns without a unit stay out, with a note that says where to state it; a map states it."""
    root = write_v21(tmp_path / "v21", (3,), names=("shoulder.pos", "elbow.pos", "gripper.pos"))
    plain = open_dataset(root).read("episode_000000")
    assert plain.joints is None and plain.gripper is None
    assert any("shoulder.pos, elbow.pos" in note and "meta/vap_sim.json" in note for note in plain.notes)
    arm = FieldSource("observation.state", (0, 1), unit="deg")
    hand = FieldSource("observation.state", (2,), open=0.5, closed=0.0)
    told = open_lerobot(root, FieldMap({"joints": arm, "gripper": hand}, robot="mine")).read("episode_000000")
    assert np.allclose(told.joints, np.radians(state(3, 0)[:, :2])) and told.robot == "mine"
    assert np.allclose(told.gripper, 0.5)
    fields = {
        "joints": {"feature": "observation.state", "columns": [0, 1], "unit": "deg"},
        "gripper": {"feature": "observation.state", "columns": [2], "open": 0.5, "closed": 0},
    }
    (root / "meta" / "vap_sim.json").write_text(json.dumps({"robot": "mine", "fields": fields}))
    assert_equal(open_dataset(root).read("episode_000000"), told)


@pytest.mark.parametrize("form", ["xyz rpy", "xyz xyzw", "xyz wxyz"])
def test_poses_in_any_form(tmp_path: Path, form: str) -> None:
    from scipy.spatial.transform import Rotation

    from vap_sim.data.lerobot_fields import as_member

    turns = Rotation.random(6, random_state=1)
    angles = {
        "xyz rpy": turns.as_euler("xyz"),
        "xyz xyzw": 2 * turns.as_quat(),
        "xyz wxyz": turns.as_quat()[:, [3, 0, 1, 2]],
    }
    values = np.concatenate([np.arange(18.0).reshape(6, 3), angles[form]], axis=1)
    poses = as_member(tmp_path, "tool", FieldSource("pose", form=form), values)
    assert np.allclose(poses[:, :3, :3], turns.as_matrix()) and np.allclose(poses[:, :3, 3], values[:, :3])
    assert np.array_equal(poses[:, 3], np.tile([0, 0, 0, 1], (6, 1)))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"joints": {"feature": "observation.stat", "unit": "rad"}}, "Did you mean 'observation.state'"),
        ({"joints": {"feature": "observation.state"}}, "no unit, expected one of rad"),
        ({"joints": {"feature": "observation.state", "unit": "grad"}}, "unknown unit of joints 'grad'"),
        ({"joint": {"feature": "observation.state", "unit": "rad"}}, "Did you mean 'joints'"),
        ({"tool": {"feature": "observation.state", "form": "xyz"}}, "unknown form of a pose"),
        ({"gripper": {"feature": "observation.state", "open": 1, "closed": 1}}, "two different numbers"),
        ({"gripper": {"feature": "observation.state", "scale": 1}}, "unknown entry of a field 'scale'"),
        ({"joints": {"feature": "observation.state", "columns": [0, -1], "unit": "rad"}}, "numbers of columns"),
        ({"joints": ["observation.state"]}, "an object of objects"),
    ],
)
def test_a_map_that_is_wrong_names_its_field(older_copied: Path, fields: object, words: str) -> None:
    (older_copied / "meta" / "vap_sim.json").write_text(json.dumps({"fields": fields}))
    with pytest.raises(BadFile, match=words):
        open_dataset(older_copied)


def test_a_map_that_asks_too_much_refuses_the_episode(older_copied: Path) -> None:
    fields = {"joints": {"feature": "observation.state", "columns": [0, 7], "unit": "rad"}}
    (older_copied / "meta" / "vap_sim.json").write_text(json.dumps({"fields": fields}))
    with pytest.raises(BadFile, match=r"episode 'episode_000000'.*has 3 columns"):
        open_dataset(older_copied).read("episode_000000")
    with pytest.raises(UnknownName, match="no_such"):
        open_lerobot(older_copied, FieldMap({"joints": FieldSource("no_such", unit="rad")}))


def test_episodes_of_one_table_are_read_apart(written: Path, tmp_path: Path) -> None:
    """Also where another writer put them into one group of rows."""
    import pyarrow.parquet

    root = shutil.copytree(written, tmp_path / "grouped")
    path = root / "data" / "chunk-000" / "file-000.parquet"
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == 3
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(path), path)
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == 1
    for given, expected in zip(read_all(open_dataset(root)), takes(), strict=True):
        assert not isinstance(given, Refused)
        assert_equal(given, expected, films=False)


def test_without_pyarrow_the_extra_is_named(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from vap_sim.errors import MissingDependency

    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency, match=r"vap-sim\[data\]"):
        open_dataset(written)


def test_a_name_that_is_not_there(written: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'take 1'"):
        open_dataset(written).read("takes 1")


def test_settings_that_make_no_sense() -> None:
    for wrong in ({"precision": "float16"}, {"data_megabytes": 0}, {"episodes_a_file": 0}):
        with pytest.raises(InvalidInput):
            LeRobotSettings(**wrong)  # type: ignore[arg-type]
