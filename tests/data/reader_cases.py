"""What can be wrong with the files of each format, beside what can be wrong with any file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.data import reader_samples as samples
from tests.data import rlds_samples as rlds

Change = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """A format's sample of three episodes or more.

    build: writes it to a folder that is not there; victim: the episode that is damaged; log: the file with its numbers;
    video: one of its videos, "" where pictures are not in videos; flip: a byte of the log that matters, from its start;
    wrong: further damage to the log by what it is, with words that the error must have; shared: whether the log belongs
    to other episodes too, which then need not be readable; needs: an optional package without which nothing is read.
    """

    build: Change
    victim: str
    log: str
    video: str = ""
    flip: Callable[[bytes], int] = lambda content: len(content) // 2
    wrong: Mapping[str, tuple[Change, str]] = field(default_factory=dict)
    shared: bool = False
    needs: str = ""


def annotation(change: Callable[[dict], object]) -> Change:
    def changed(path: Path) -> None:
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))

    return changed


def table(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Put another table into an HDF5 file."""

    def changed(path: Path) -> None:
        import h5py

        with h5py.File(path, "r+") as file:
            values = file[name][()]
            del file[name]
            file[name] = change(values)

    return changed


def claims(name: str, shape: tuple[int, ...]) -> Change:
    """A table that claims a size that no machine has, and stores nothing of it."""

    def changed(path: Path) -> None:
        import h5py

        with h5py.File(path, "r+") as file:
            del file[name]
            file.create_dataset(name, shape, "f8", chunks=(1, *shape[1:]))

    return changed


def array(values: np.ndarray) -> Change:
    return lambda path: np.savez(path, values)


def header(shape: tuple[int, ...]) -> Change:
    """An archive whose array claims a shape."""

    def changed(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive, archive.open("arr_0.npy", "w") as member:
            np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": shape})

    return changed


def steps(change: Callable[[dict], object]) -> Change:
    """Write a shard again, its episode changed and its checksums right."""

    def changed(path: Path) -> None:
        features = rlds.droid_steps(1)
        change(features)
        path.write_bytes(rlds.tfrecord([rlds.example(features)]))

    return changed


def row(old: str, new: str) -> Change:
    return lambda path: path.write_text(path.read_text().replace(old, new))


def joints_at(values: dict, k: int, value: float) -> None:
    values["joints"][k][3] = value


def huge_picture(values: dict) -> None:
    """A JPEG whose header claims to be 65535 pixels wide and high."""
    films = values[SEEN + "wrist_image_left"]
    at = films[1].index(b"\xff\xc0") + 5
    films[1] = films[1][:at] + b"\xff" * 4 + films[1][at + 4 :]


def lerobot(root: Path) -> None:
    from tests.data.lerobot_folders import write_v21

    write_v21(root, [samples.FRAMES] * 3)


def in_degrees(values: dict) -> None:
    values["joints"] = [[*np.degrees(row[:7]), row[7]] for row in values["joints"]]


STATE, SEEN = "observation/robot_state/", "steps/observation/"
BROKEN = float("nan")
CASES = {
    "droid_sample": Case(
        samples.droid_samples, "episode_1", "episode_1/annotation.json", "episode_1/1.mp4",
        flip=lambda content: content.index(b'"joints"') - 1,
        wrong={
            "field missing": (annotation(lambda r: r.pop("states")), "field 'states': is missing"),
            "words for numbers": (annotation(lambda r: r.update(joints=[["a"] * 8] * 6)), "expected numbers"),
            "wrong width": (annotation(lambda r: r.update(joints=[[0.0] * 7] * 6)), "shape .6, 7., expected .T, 8."),
            "shorter": (annotation(lambda r: r["joints"].pop()), "field 'video_length': is 6, the joints have 5 rows"),
            "no rows": (annotation(lambda r: r.update(joints=[], states=[], video_length=0)), "joints"),
            "not finite": (annotation(lambda r: joints_at(r, 2, BROKEN)), "row 2 holds a number that is not finite"),
            "joint that moved alone": (annotation(lambda r: joints_at(r, 4, 0.1)), "frame 4 puts the flange"),
            "degrees": (annotation(in_degrees), "its angles are in degrees, expected radians"),
            "gripper too far": (annotation(lambda r: r["joints"][0].__setitem__(7, 3.0)), "0 .open. to 1 .closed."),
            "a list": (lambda path: path.write_text("[1]"), "expected an object"),
            "deep": (lambda path: path.write_text("[" * 100_000), "is not JSON"),
            "success of 7": (annotation(lambda r: r.update(success=7)), "field 'success'"),
            "texts of numbers": (annotation(lambda r: r.update(texts=[3])), "field 'texts'"),
        },
    ),
    "droid_raw": Case(
        samples.droid_raw, "LAB/success/2023-06-11/Sun_Jun_11_15:52:31_2023",
        "LAB/success/2023-06-11/Sun_Jun_11_15:52:31_2023/trajectory.h5",
        "LAB/success/2023-06-11/Sun_Jun_11_15:52:31_2023/recordings/MP4/22008760.mp4", needs="h5py",
        flip=lambda content: content.index(samples.arm(1)[0].astype("<f8").tobytes()[:8]) + 6,
        wrong={
            "field missing": (table("action/joint_velocity", lambda v: v[:, :3]), "joint_velocity.*shape"),
            "another type": (table(STATE + "joint_positions", lambda v: v.astype("S8")), "expected numbers"),
            "shorter": (table(STATE + "cartesian_position", lambda v: v[:-1]), "cartesian_position"),
            "no rows": (table(STATE + "joint_positions", lambda v: v[:0]), "shape"),
            "not finite": (table(STATE + "gripper_position", lambda v: v * BROKEN), "not finite"),
            "degrees": (table(STATE + "joint_positions", np.degrees), "in degrees, expected radians"),
            "absurd size": (claims(STATE + "joint_positions", (2**40, 7)), "expected numbers of shape"),
        },
    ),
    "rlds": Case(
        rlds.rlds, "train_000001", "droid-train.tfrecord-00001-of-00003", needs="google_crc32c",
        wrong={
            "feature missing": (steps(lambda f: f.pop(SEEN + "joint_position")), "joint_position': is missing"),
            "another type": (steps(lambda f: f.update({SEEN + "joint_position": [b"x"] * 6})), "expected numbers"),
            "shorter": (steps(lambda f: f.update({SEEN + "joint_position": np.ones(41)})), "41 numbers"),
            "picture missing": (steps(lambda f: f[SEEN + "wrist_image_left"].pop()), "expected one picture"),
            "absurd picture": (steps(huge_picture), "frame 1 states 65535x65535 pixels"),
            "no picture": (steps(lambda f: f[SEEN + "wrist_image_left"].__setitem__(3, b"x")), "frame 3 is neither"),
            "no steps": (steps(lambda f: f.update({"steps/is_first": np.zeros(0, int)})), "for 0 steps"),
            "not finite": (steps(lambda f: f[SEEN + "gripper_position"].fill(BROKEN)), "not finite"),
            "no message": (lambda path: path.write_bytes(rlds.tfrecord([b"\x0a\xff\xff\x03abc"])), "record 0"),
            "no records": (lambda path: path.write_bytes(rlds.tfrecord([])), "record 0 cannot be found"),
        },
    ),
    "bridge_sample": Case(
        samples.bridge_samples, "000000001", "000000001.npz", "000000001.mp4",
        wrong={
            "wrong width": (array(np.zeros((6, 7))), "expected .T, 10."),
            "another type": (array(np.array([["x"] * 10] * 6)), "expected numbers"),
            "pickle": (array(np.array([[{}] * 10] * 6, object)), "arr_0"),
            "shorter": (array(np.zeros((5, 10))), "its video has 6 frames, the log 5 rows"),
            "no rows": (array(np.zeros((0, 10))), "the log 0 rows"),
            "not finite": (array(np.full((6, 10), BROKEN)), "row 0 holds a number that is not finite"),
            "absurd size": (header((2**50, 10)), "bytes for shape"),
            "two axes less": (array(np.zeros(())), "shape"),
        },
    ),
    "egovid": Case(
        samples.egovid, "aaaa_30_36", "egovid-val.csv", "videos/aaaa_30_36.mp4", shared=True,
        flip=lambda content: 0,
        wrong={
            "column missing": (row("video_id", "clip"), "column 'video_id' is missing"),
            "columns missing": (row("aaaa_30_36.mp4,6,30.0,", "aaaa_30_36.mp4,6,"), "columns, expected 6"),
            "words for numbers": (row("aaaa_30_36.mp4,6,", "aaaa_30_36.mp4,six,"), "field 'frame_num': is 'six'"),
            "more frames than it has": (row("aaaa_30_36.mp4,6,", "aaaa_30_36.mp4,60,"), "field 'frame_num'"),
            "no frames": (row("aaaa_30_36.mp4,6,", "aaaa_30_36.mp4,0,"), "field 'frame_num'"),
            "open quote": (row('opens a drawer."', "opens a drawer."), "byte|columns"),
        },
    ),
    "lerobot": Case(
        lerobot, "episode_000001", "data/chunk-000/episode_000001.parquet",
        "videos/chunk-000/observation.images.top/episode_000001.mp4", needs="pyarrow",
    ),
    "twin": Case(
        samples.twin, "twin_00000001", "twin_00000001.vap.npz",
        wrong={
            "absurd size": (header((2**50, 10)), "meta.json"),
        },
    ),
}  # fmt: skip
