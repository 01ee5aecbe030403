"""`vap-sim inspect`: what is in recordings, what they lack, what is wrong; one bad episode does not hide the others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="the recordings inspected here are LeRobot's, whose tables are Parquet")

from tests.data.episodes import episode, flange_poses, joint_path, pictures
from tests.data.lerobot_folders import write_v21
from vap_sim.cli import main
from vap_sim.commands.inspect import Inspect, run
from vap_sim.commands.outcome import record_of
from vap_sim.data.dataset import open_dataset
from vap_sim.data.film import FilmSettings
from vap_sim.data.footage import ArrayFootage
from vap_sim.data.lerobot_write import LeRobotSettings, write_lerobot
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.viewer.contact_sheet import TILE, ContactSheet

LENGTH = 6


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound episode; one in degrees; one whose log stands 40 mm beside its joints and whose pictures freeze."""
    joints = joint_path(LENGTH, 1)
    degrees = episode(1, LENGTH, joints=np.degrees(joints), joint_targets=None, cameras={}, name="in degrees")
    tool = flange_poses(joint_path(LENGTH, 2))
    tool[:, 0, 3] += 0.04 * np.cos(np.arange(LENGTH))
    frozen = np.repeat(pictures(1, (48, 32), 0), LENGTH, axis=0)
    views = {"exterior_1": ArrayFootage(frozen), "wrist": ArrayFootage(pictures(LENGTH, (32, 40), 0))}
    beside = episode(2, LENGTH, tool=tool, views=views, joint_targets=None, cameras={}, name="beside itself")
    sound = episode(0, LENGTH, joint_targets=None)
    sound.cameras["wrist"] = sound.cameras["exterior_1"]  # type: ignore[index]
    path = tmp_path_factory.mktemp("some recordings") / "a set"
    settings = LeRobotSettings(FilmSettings(lossless=True), episodes_a_file=1)
    return write_lerobot(path, [sound, degrees, beside], settings)


@pytest.fixture(scope="module")
def looked(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Path]:
    out = tmp_path_factory.mktemp("looked") / "at it"
    text = run(Inspect(recordings, out))
    kept = json.loads((out / "inspection.json").read_text())
    assert record_of(text) == {**kept, "written": [str(out / "inspection.json"), str(out / "pictures.png")]}
    return text, kept, out


def test_what_is_in_it(looked: tuple[str, Any, Path]) -> None:
    text, kept, out = looked
    assert kept["format"] == "lerobot" and kept["episodes"] == {"listed": 3, "read": 3, "refused": 0}
    assert kept["frames"] == 3 * LENGTH and kept["rates"] == {"5": 3} and kept["robot"] == "panda_robotiq"
    assert kept["views"]["wrist"] == {"episodes": 3, "sizes": {"32x40": 3}, "cameras": 1}
    assert kept["fields"]["joints"] == 3 and kept["fields"]["joint_targets"] == 0 and kept["fields"]["cameras"] == 1
    assert kept["joint_counts"] == {"7": 3} and kept["succeeded"] == 2
    assert "3 episodes listed, 3 read" in text and "view exterior_1: 48x32 in 3 episodes, camera known in 1" in text
    assert "actions: in 3 of 3 (x, y, z, grip)" in text and str(out / "inspection.json") in text


def test_what_is_missing_and_for_what(looked: tuple[str, Any, Path]) -> None:
    text, kept, _ = looked
    assert kept["usable"] == {"calibrate": 2, "prepare": 1, "adapt": 1}
    assert {"for": "calibrate", "what": "joints in radians", "episodes": 1} in kept["lacking"]
    assert "2 episodes without cameras of exterior_1, wrist: run vap-sim calibrate" in text


def test_what_is_wrong(looked: tuple[str, Any, Path]) -> None:
    text, kept, _ = looked
    found = {finding["kind"]: finding for finding in kept["findings"]}
    assert list(found) == ["degrees", "pose", "frozen"] and all(f["episodes"] == 1 for f in found.values())
    assert found["degrees"]["examples"][0]["episode"] == "in degrees"
    assert found["frozen"]["examples"][0]["field"] == "views/exterior_1"
    assert "findings for panda_robotiq: 2 episodes with errors" in text and "error: beside itself, tool: " in text


def test_the_sheet_has_three_pictures_a_view(looked: tuple[str, Any, Path]) -> None:
    """Where they belong: the first of the first view begins at the left, below two lines of words."""
    sheet = cv2.imread(str(looked[2] / "pictures.png"))[..., ::-1]
    first = next(iter(episode(0, LENGTH).views["exterior_1"].frames()))
    height = round(TILE * first.shape[0] / first.shape[1])
    expected = cv2.resize(first, (TILE, height), interpolation=cv2.INTER_AREA)
    assert np.array_equal(sheet[36 : 36 + height, 4 : 4 + TILE], expected)
    assert sheet.shape[1] == 2 * (3 * TILE + 16) and sheet.shape[0] == 18 + 3 * (18 + 200 + 4)


def test_a_damaged_episode_is_listed_and_the_rest_is_seen(recordings: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(recordings, tmp_path / "a copy")
    film = copy / "videos" / "observation.images.wrist" / "chunk-000" / "file-001.mp4"
    film.write_bytes(film.read_bytes()[:500])
    text = run(Inspect(copy, tmp_path / "out", pictures=False))
    kept = json.loads((tmp_path / "out" / "inspection.json").read_text())
    assert kept["episodes"] == {"listed": 3, "read": 2, "refused": 1}
    assert kept["refused"][0]["episode"] == "in degrees" and "file-001.mp4" in kept["refused"][0]["reason"]
    assert "refused: 1 episode\n  in degrees: " in text and "frozen" not in text


def test_columns_without_a_unit_say_what_to_do(tmp_path: Path) -> None:
    root = write_v21(tmp_path / "v21", (3, 4), names=("a.pos", "b.pos", "gripper.pos"))
    text = run(Inspect(root, tmp_path / "out"))
    assert "2 episodes without joints" in text and "2 episodes without a robot: name one with --robot" in text
    assert "whose meaning and unit nothing states: say so in meta/vap_sim.json" in text
    assert "no findings" in text


def test_a_robot_is_named_or_given_as_a_folder(recordings: Path, tmp_path: Path) -> None:
    from vap_sim.robots.library import load_robot

    folder = load_robot("panda_robotiq").folder
    by_folder = run(Inspect(recordings, tmp_path / "out", robot=str(folder)))
    assert "findings for panda_robotiq" in by_folder
    other = run(Inspect(recordings, tmp_path / "out", robot="widowx"))
    assert "7 joints; widowx" in other and "3 episodes without joints that fit widowx" in other
    with pytest.raises(UnknownName, match="panda_robotiq"):
        run(Inspect(recordings, tmp_path / "out", robot="panda_robotik"))


def test_some_episodes_only(recordings: Path, tmp_path: Path) -> None:
    run(Inspect(recordings, tmp_path / "out", most=2, rows=1))
    kept = json.loads((tmp_path / "out" / "inspection.json").read_text())
    assert kept["episodes"]["read"] == 2 and kept["shortest"][1] != "in degrees" != kept["longest"][1]
    for wrong in (Inspect(recordings, tmp_path / "out", most=0), Inspect(recordings, tmp_path / "out", rows=-1)):
        with pytest.raises(InvalidInput, match="vap-sim inspect"):
            run(wrong)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "no such file or folder"),
        (["."], "is no recording of a known format"),
        ([".", "--format", "lerobott"], "Did you mean 'lerobot'"),
    ],
)
def test_what_cannot_be_opened_is_one_line(
    arguments: Sequence[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", *arguments]) == 1
    assert words in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_command_line_prints_the_report(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(recordings), "--out", str(tmp_path / "out"), "--no-pictures"]) == 0
    assert "3 episodes listed" in capsys.readouterr().out


def test_a_sheet_without_pictures() -> None:
    assert ContactSheet().draw().shape == (1, 1, 3)


def test_a_dataset_of_nothing_readable(tmp_path: Path) -> None:
    root = write_v21(tmp_path / "v21", (3,))
    (root / "data" / "chunk-000" / "episode_000000.parquet").unlink()
    with pytest.raises(BadFile):
        open_dataset(root).read("episode_000000")
    assert "1 episode listed, 0 read" in run(Inspect(root, tmp_path / "out"))
