"""Records of replays: figures as JSON and CSV, and a call that goes on from what is there and still true."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.viewer.replay_scenes import scene
from vap_sim.viewer.replay_lanes import Scene
from vap_sim.viewer.replay_record import (
    FIGURES,
    RECORD,
    TABLE,
    ReplayRecord,
    file_stem,
    open_record,
    row_of,
    stamp_of,
    track_of,
)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return scene(tmp_path_factory.mktemp("clips"), "zeroed")


def record_of(shown: Scene, settings: dict[str, object] | None = None) -> ReplayRecord:
    rows = [row_of(shown, lane, {"mp4": "a.mp4"}) for lane in shown.lanes]
    return ReplayRecord(settings or {"seed": 0}).with_episode("a", [1, 2], rows, {"wrist": "it rides"})


def test_json_and_csv_tell_the_same(shown: Scene, tmp_path: Path) -> None:
    record_of(shown).save(tmp_path)
    told = json.loads((tmp_path / RECORD).read_text())
    assert told["figures"] == dict(FIGURES) and told["left_out"] == [
        {"episode": "a", "view": "wrist", "reason": "it rides"}
    ]
    nominal, zeroed = told["replays"]
    assert (nominal["dream"], nominal["actions"], zeroed["dream"]) == ("echo", "recorded", "zeroed")
    assert "psnr" not in zeroed["mean"] and zeroed["mean"]["apart"] > 0 and "apart" not in nominal["mean"]
    assert told["mean"]["echo"]["psnr"] == pytest.approx(nominal["mean"]["psnr"])
    lines = list(csv.DictReader((tmp_path / TABLE).open()))
    assert len(lines) == len(nominal["steps"]) + len(zeroed["steps"]) == 12
    for line, step in zip(lines, [*nominal["steps"], *zeroed["steps"]], strict=True):
        for name in FIGURES:
            value = step.get(name)
            assert line[name] == "" if value is None else float(line[name]) == pytest.approx(value, rel=1e-4)
    assert [float(line["seconds"]) for line in lines[:2]] == [0.2, 0.4]
    assert {path.name for path in tmp_path.iterdir()} == {RECORD, TABLE}
    assert track_of(nominal) == shown.lanes[0].track()


def test_it_goes_on_where_settings_file_and_films_are_the_same(shown: Scene, tmp_path: Path) -> None:
    record_of(shown).save(tmp_path)
    again = open_record(tmp_path, {"seed": 0})
    assert not again.has("a", [1, 2], tmp_path), "its film is not there"
    (tmp_path / "a.mp4").touch()
    assert again.has("a", [1, 2], tmp_path) and again.rows == record_of(shown).rows
    assert not again.has("a", [1, 3], tmp_path) and not again.has("b", None, tmp_path)
    assert not open_record(tmp_path, {"seed": 1}).rows
    assert not again.only(["b"]).rows and not again.only(["b"]).finished and again.only(["a", "b"]).rows
    (tmp_path / RECORD).write_text('{"seed": 0, "replays": [1]}')
    assert not open_record(tmp_path, {"seed": 0}).rows
    (tmp_path / RECORD).write_text("{")
    assert not open_record(tmp_path, {"seed": 0}).rows


def test_a_recording_stands_in_it_once(shown: Scene) -> None:
    record = record_of(shown)
    assert record.with_episode("a", None, record.rows, {}).rows == record.rows
    refused = record.with_refusal("a", "is damaged")
    assert not refused.rows and not refused.finished and refused.refused == ({"episode": "a", "reason": "is damaged"},)
    assert refused.with_refusal("a", "again").refused == ({"episode": "a", "reason": "again"},)


def test_means_are_over_replays_that_have_one() -> None:
    row = {"dream": "x", "episode": "a", "mean": {"psnr": 10.0, "gain": None}}
    other = {**row, "episode": "b", "mean": {"psnr": 20.0, "gain": None}}
    assert ReplayRecord({}, (row, other)).means() == {"x": {"psnr": 15.0, "gain": None}}


def test_names_of_files_hold_nothing_that_leads_elsewhere(shown: Scene, tmp_path: Path) -> None:
    from dataclasses import replace

    assert file_stem(shown) == "a.side"
    for view in ("../x", "a/b", "~"):
        stem = file_stem(replace(shown, view=view))
        assert "/" not in stem and not stem.startswith(("~", "."))
    assert stamp_of(tmp_path) is None
    (tmp_path / "f").write_bytes(b"123")
    assert stamp_of(tmp_path / "f")[0] == 3  # type: ignore[index]
