"""`vap-sim replay` on recordings as they were made: what is written, what is refused and why, and going on."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.data import reader_samples
from tests.data.reader_cases import CASES
from tests.test_prepare_command import LENGTH, record
from vap_sim.cli import main
from vap_sim.commands import replay as command
from vap_sim.data.dataset import open_dataset
from vap_sim.data.twin import save_episode
from vap_sim.robots.camera import Camera
from vap_sim.viewer.gif import write_gif


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes of two views, as the twin writes them, and one that was cut short."""
    folder = tmp_path_factory.mktemp("my station")
    for seed, name in enumerate("abc"):
        record(folder / f"{name}.vap.npz", seed)
    damaged = folder / "b.vap.npz"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    return folder


def replay(dataset: Path, out: Path, *options: str) -> int:
    return main(["replay", str(dataset), "--out", str(out), "--threads", "1", *options])


def told(out: Path) -> Any:
    return json.loads((out / "replay.json").read_text())


def frames_of(path: Path) -> int:
    with av.open(str(path)) as video:
        assert video.streams.video[0].codec_context.pix_fmt == "yuv420p"
        return sum(1 for _ in video.decode(video=0))


def test_what_is_damaged_is_named_and_the_others_are_done(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(recordings, tmp_path, "--worlds", "kinematic", "--seconds", "1") == 1
    said = capsys.readouterr().err
    assert "1 of 3 recordings could not be replayed" in said and "b: " in said and "a left kinematic" not in said
    assert "a left: moving" in said and "mean: moving" in said
    record = told(tmp_path)
    assert [(row["episode"], row["view"]) for row in record["replays"]] == [
        ("a", "left"), ("a", "right"), ("c", "left"), ("c", "right")
    ]  # fmt: skip
    assert [row["episode"] for row in record["refused"]] == ["b"] and record["format"] == "twin"
    assert all(frames_of(tmp_path / row["files"]["mp4"]) == 6 for row in record["replays"])
    assert "b: " in (tmp_path / "replay.html").read_text() and not list(tmp_path.glob("*.partial*"))


def test_recordings_of_the_twin_are_watched_by_the_shipped_meter(recordings: Path, tmp_path: Path) -> None:
    assert replay(recordings, tmp_path, "--worlds", "kinematic", "--episodes", "a", "--views", "left") == 0
    (row,) = told(tmp_path)["replays"]
    assert row["detector"] == "shipped" and len(row["steps"]) == LENGTH - 1
    assert all(0 <= step["agreement"] <= 1 and step["drift"] is not None for step in row["steps"])
    assert replay(recordings, tmp_path, "--worlds", "kinematic", "--episodes", "a", "--detector", "none") == 0
    assert all("agreement" not in row["mean"] and row["detector"] is None for row in told(tmp_path)["replays"])


def test_the_same_command_goes_on(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for name in "ac":
        shutil.copy(recordings / f"{name}.vap.npz", data)
    wanted = ("--worlds", "still", "--views", "left", "--detector", "none")
    assert replay(data, out, *wanted, "--episodes", "a") == 0
    whole = tmp_path / "whole"
    assert replay(data, whole, *wanted) == 0
    dreamt: list[str] = []
    write = command.write_scene
    monkeypatch.setattr(command, "write_scene", lambda told, scene: (dreamt.append(scene.name), write(told, scene))[1])
    assert replay(data, out, *wanted) == 0
    assert dreamt == ["c.left"]
    same = {name: told(out)[name] for name in ("replays", "mean", "worlds", "refused")}
    assert same == {name: told(whole)[name] for name in same}
    os.utime(data / "a.vap.npz", (1, 1))
    assert replay(data, out, *wanted) == 0 and dreamt[1:] == ["a.left"]
    assert replay(data, out, *wanted, "--seed", "3") == 0 and len(dreamt) == 4


def test_worlds_and_altered_actions_stand_in_one_film(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--episodes", "a", "--views", "left", "--worlds", "kinematic", "still", "--detector", "none")
    altered = ("zeroed", "scaled@2", "episode@c")
    files = ("mp4", "gif")
    capsys.readouterr()
    done = replay(
        recordings, tmp_path, *options, "--altered", *altered, "--files", *files, "--layout", "overlay", "--json"
    )
    assert done == 0
    said = json.loads(capsys.readouterr().out)
    names = [row["dream"] for row in told(tmp_path)["replays"]]
    worlds = ("kinematic", "still")
    assert names == [name for world in worlds for name in (world, *(f"{world}, {one}" for one in altered))]
    assert said["mean"]["still, zeroed"]["apart"] == 0 < said["mean"]["kinematic, zeroed"]["apart"]
    assert said["mean"]["kinematic, episode@c"]["apart"] > 0
    assert {Path(name).suffix for name in said["written"]} == {".json", ".html", ".mp4", ".gif"}
    assert all(Path(name).is_file() for name in said["written"])


def test_a_lerobot_dataset_gives_the_figures_of_the_recordings_it_was_made_of(recordings: Path, tmp_path: Path) -> None:
    """It states its cameras as the twin did; its films cost a little of the pictures."""
    pytest.importorskip("pyarrow")
    from vap_sim.data.lerobot_write import write_lerobot

    twin = open_dataset(recordings)
    write_lerobot(tmp_path / "data", [twin.read("a"), twin.read("c")])
    options = ("--worlds", "kinematic", "--views", "left", "--most", "1", "--detector", "none")
    figures = []
    for dataset, out in ((recordings, "twin"), (tmp_path / "data", "lerobot")):
        assert replay(dataset, tmp_path / out, *options) == 0
        (row,) = told(tmp_path / out)["replays"]
        figures.append(row["mean"])
    assert figures[1]["psnr"] == pytest.approx(figures[0]["psnr"], abs=1.0)
    assert figures[1]["gain"] == pytest.approx(figures[0]["gain"], abs=1.0)


@pytest.mark.parametrize("name", ["droid_sample", "droid_raw", "rlds"])
def test_any_dataset_can_be_replayed_with_cameras_from_a_file(name: str, tmp_path: Path) -> None:
    if needs := CASES[name].needs:
        pytest.importorskip(needs)
    CASES[name].build(tmp_path / "data")
    dataset = open_dataset(tmp_path / "data")
    view = next(iter(dataset.read(dataset.names[0]).views))
    camera = Camera.look_at(view, (1.5, -0.9, 0.9), (0.25, 0.0, 0.3), size=reader_samples.SIZE, vertical_fov=0.8)
    entry = {"name": "one", "view": view, "episodes": list(dataset.names), "camera": camera.to_dict()}
    cameras = tmp_path / "cameras.json"
    cameras.write_text(json.dumps({"format": "vap-sim cameras", "version": 1, "robot": "", "cameras": [entry]}))
    robot = ("--robot", "panda_robotiq", "--worlds", "kinematic", "--most", "1", "--cameras", str(cameras))
    assert replay(tmp_path / "data", tmp_path / "out", *robot) == 0
    rows = {row["view"]: row for row in told(tmp_path / "out")["replays"]}
    assert rows[view]["detector"] is None and rows[view]["frame_rate"] == 5
    # Recorded at 5 Hz, or at 15, of which a world that dreams at 5 sees every third.
    assert len(rows[view]["steps"]) in (reader_samples.FRAMES - 1, (reader_samples.FRAMES - 1) // 3)
    left = told(tmp_path / "out")["left_out"]
    assert view not in {one["view"] for one in left}
    assert all("no camera is known" in one["reason"] or "rides on the robot" in one["reason"] for one in left)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--views", "lefd"), "unknown camera of {data} 'lefd'. Did you mean 'left'?"),
        (("--episodes", "x"), "unknown episode of {data} 'x'"),
        (("--worlds", "compakt"), "unknown world 'compakt'. Did you mean 'compact'?"),
        (("--weights", "nowhere.safetensors"), "nowhere.safetensors"),
        (("--worlds", "still", "still"), "'still' twice"),
        (("--altered", "mirored"), "Did you mean 'mirrored'?"),
        (("--altered", "episode@x"), "unknown episode of {data} 'x'"),
        (("--altered", "episode@b"), "episode 'b'"),
        (("--robot", "pandas"), "unknown robot 'pandas'"),
        (("--robot", "widowx"), "7 joints, expected"),
        (("--seconds", "0"), "--seconds: given 0.0"),
        (("--most", "0"), "--most: given 0"),
        (("--format", "lerobbot"), "Did you mean 'lerobot'?"),
        (("--cameras", "none.json"), "none.json: cannot be read"),
        (("--detector", "eye.safetensors"), "eye.safetensors"),
    ],
)
def test_what_cannot_be_replayed_is_named_and_nothing_is_written(
    recordings: Path, tmp_path: Path, options: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    worlds = () if "--worlds" in options or "--weights" in options else ("--worlds", "still")
    assert replay(recordings, tmp_path / "out", *worlds, *options) == 1
    assert words.format(data=recordings) in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.*"))


def test_recordings_without_pictures_or_cameras_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reader_samples.droid_samples(tmp_path / "data")
    assert replay(tmp_path / "data", tmp_path / "out", "--worlds", "still", "--robot", "panda_robotiq") == 1
    assert (
        "has no camera to replay" in (said := capsys.readouterr().err) and "`vap-sim calibrate` finds cameras" in said
    )
    blind = dataclasses.replace(
        reader_samples.twin_episode(0), frames=np.zeros((0, reader_samples.FRAMES, 1, 1, 3), np.uint8)
    )
    (tmp_path / "blind").mkdir()
    save_episode(tmp_path / "blind" / "a.vap.npz", blind)
    assert replay(tmp_path / "blind", tmp_path / "out", "--worlds", "still") == 1
    assert "has no pictures: a replay needs video beside the log" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_no_dataset_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "holiday.txt").write_text("sun")
    for path, words in (
        (tmp_path, "is no recording of a known format; known: lerobot"),
        (tmp_path / "x", "no such file"),
    ):
        assert replay(path, tmp_path / "out", "--worlds", "still") == 1
        assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.txt"]


def test_an_interruption_keeps_what_is_finished(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path, frames: Any, rate: float, width: int | None = None) -> int:
        if path.name.startswith("c"):
            raise KeyboardInterrupt
        return write_gif(path, frames, rate, width)

    monkeypatch.setattr("vap_sim.viewer.gif.write_gif", interrupted)
    options = ("--worlds", "still", "--views", "left", "--detector", "none", "--files", "gif")
    assert replay(recordings, tmp_path, *options) == 130
    record = told(tmp_path)
    assert [row["episode"] for row in record["replays"]] == ["a"] and (tmp_path / "a.left.gif").is_file()
    assert np.isfinite(record["mean"]["still"]["psnr"])
