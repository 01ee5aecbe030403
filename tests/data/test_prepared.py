"""Prepared clips: exact round trips, prompts drawn from them, and every way in which a folder can be wrong."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vap_sim.data.prepared import (
    INDEX,
    ClipEntry,
    LeftOut,
    PreparedClip,
    PreparedSet,
    load_clip,
    open_prepared,
    prompt_of,
    save_clip,
)
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.prompts import Prompter, profile
from vap_sim.prompts.profiles import form_names
from vap_sim.robots.library import load_robot

SIZE = 32
MEMBERS = ("frames", "robot", "joints", "homographies", "kept")


def make_clip(seed: int = 0, length: int = 4, **changes: Any) -> PreparedClip:
    rng, model = np.random.default_rng(seed), load_robot("panda_robotiq")
    cameras = tuple(model.camera(name).resized((SIZE, SIZE)) for name in ("exterior_1", "wrist"))
    moves = np.tile(np.eye(3, dtype=np.float32), (2, length, 1, 1))
    moves[..., :2, 2] = rng.normal(size=(2, length, 2))
    clip = PreparedClip(
        name="kitchen/7",
        frames=rng.integers(0, 256, (2, length, SIZE, SIZE, 3), np.uint8),
        joints=(model.home.numpy() + 0.1 * rng.normal(size=(length, 8))).astype(np.float32),
        cameras=cameras,
        homographies=moves,
        robot=rng.integers(0, 256, (2, length, SIZE, SIZE), np.uint8),
        kept=rng.random((2, length)) < 0.8,
        frame_rate=5.0,
        robot_name="panda_robotiq",
        state_source="logged",
        instruction="lift the cup",
        source="recordings/kitchen",
        notes=("resampled from 15 Hz",),
    )
    return replace(clip, **changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_clip(tmp_path / "a.clip.npz", make_clip())
    return tmp_path / "a.clip.npz"


def test_round_trip_is_exact_and_equal_clips_make_equal_files(path: Path) -> None:
    clip, again = make_clip(), load_clip(path)
    for name in MEMBERS:
        one, other = getattr(again, name), getattr(clip, name)
        assert one.dtype == other.dtype and np.array_equal(one, other), name
    for name in ("name", "frame_rate", "robot_name", "state_source", "instruction", "source", "notes"):
        assert getattr(again, name) == getattr(clip, name)
    assert [camera.to_dict() for camera in again.cameras] == [camera.to_dict() for camera in clip.cameras]
    assert again.length == 4 and again.size == (SIZE, SIZE)
    save_clip(path.with_name("b.clip.npz"), again)
    assert path.with_name("b.clip.npz").read_bytes() == path.read_bytes()


def test_no_damaged_byte_goes_unnoticed(path: Path) -> None:
    whole, rng, noticed = path.read_bytes(), np.random.default_rng(0), 0
    for place in rng.choice(len(whole), 60, replace=False):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            again = load_clip(path)
        except BadFile:
            noticed += 1
        else:
            assert all(np.array_equal(getattr(again, name), getattr(make_clip(), name)) for name in MEMBERS)
    assert noticed > 40
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadFile, match="not a whole clip file"):
        load_clip(path)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("frame_rate", "fast", "field 'frame_rate' is 'fast', expected a number"),
        ("frame_rate", 0, "frame_rate of clip 'kitchen/7': given 0"),
        ("state_source", "guessed", "unknown state source 'guessed'"),
        ("notes", "one", "field 'notes' is not a list of str"),
        ("cameras", [], "cameras of clip 'kitchen/7': given 0 cameras, expected 2"),
        ("cameras", [{"name": "x"}, {}], "camera 'x': given no field 'size'"),
        ("instruction", None, "field 'instruction' is NoneType, expected text"),
        ("format", 2, "this reader knows format 1"),
    ],
)
def test_foreign_descriptions_are_refused(path: Path, field: str, value: object, words: str) -> None:
    def change(meta: dict[str, Any]) -> None:
        meta[field] = value

    rewrite_meta(path, change)
    with pytest.raises(BadFile, match=words):
        load_clip(path)


def rewrite_meta(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    meta = json.loads(members["meta.json"])
    change(meta)
    members["meta.json"] = json.dumps(meta).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frames": np.zeros((2, 4, SIZE, SIZE, 3), np.float32)}, "frames of clip 'kitchen/7': given float32"),
        ({"joints": np.zeros((3, 8), np.float32)}, r"joints .* given float32 \(3, 8\), expected float32 \(4, 8\)"),
        ({"joints": np.full((4, 8), np.nan, np.float32)}, "joints .* not finite"),
        ({"kept": np.ones((2, 4), np.uint8)}, "kept .* given uint8"),
        ({"homographies": np.zeros((2, 4, 3, 3), np.float32)}, "torn or mirrored one at view 0, frame 0"),
        ({"cameras": make_clip().cameras[:1]}, "given 1 cameras, expected 2"),
        ({"cameras": tuple(c.resized((64, 64)) for c in make_clip().cameras)}, r"expected one of \(32, 32\)"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        make_clip(**changes)


@pytest.mark.parametrize("name", ["compact", *form_names()])
def test_prompts_are_what_a_prompter_draws(name: str) -> None:
    clip, model = make_clip(), load_robot("panda_robotiq")
    prompt = prompt_of(clip, profile(name), 1, 3)
    prompter = Prompter(model, profile(name), (SIZE, SIZE))
    moves = torch.from_numpy(clip.homographies[None, :, 1:3])
    drawn = prompter.draw(torch.from_numpy(clip.joints[None, 1:3]), clip.cameras, moves)
    assert prompt.skeleton.shape == (1, 2, 2, SIZE, SIZE, 3)
    assert torch.equal(prompt.skeleton, drawn.skeleton)
    still = replace(clip, homographies=np.tile(np.eye(3, dtype=np.float32), (2, 4, 1, 1)))
    plain = prompter.draw(torch.from_numpy(clip.joints[None]), clip.cameras)
    assert torch.equal(prompt_of(still, profile(name)).skeleton, plain.skeleton)


def test_prompts_of_frames_that_are_not_there() -> None:
    for first, last in ((-1, 2), (2, 2), (0, 5)):
        with pytest.raises(InvalidInput, match="frames of a clip"):
            prompt_of(make_clip(), profile("compact"), first, last)


@pytest.fixture
def folder(path: Path) -> Path:
    entry = ClipEntry("kitchen/7", path.name, 4, ("exterior_1", "wrist"))
    left = (LeftOut("kitchen/8", 0, 12, "the robot is not where the log says", "exterior_1"),)
    PreparedSet(path.parent, {"size": SIZE}, ("kitchen/7", "kitchen/8"), (entry,), left).save()
    return path.parent


def test_an_index_comes_back_and_reads_its_clips(folder: Path) -> None:
    opened = open_prepared(folder)
    assert opened.names == ("kitchen/7",) and opened.finished == ("kitchen/7", "kitchen/8")
    assert opened.left_out[0].view == "exterior_1" and opened.settings == {"size": SIZE}
    assert opened.read("kitchen/7").length == 4 and [clip.name for clip in opened] == ["kitchen/7"]
    before = (folder / INDEX).read_bytes()
    opened.save()
    assert (folder / INDEX).read_bytes() == before
    with pytest.raises(UnknownName, match="Did you mean 'kitchen/7'"):
        opened.read("kitchen/6")
    with pytest.raises(BadFile, match="cannot be read"):
        open_prepared(folder / "none")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update(format=9), "no index of prepared clips of format 1"),
        (lambda r: r.update(clips={}), "field 'clips' is not a list"),
        (lambda r: r.update(settings=[]), "field 'settings' is not an object"),
        (lambda r: r.update(finished=[1]), "field 'finished' is not a list of names"),
        (lambda r: r["clips"][0].update(frames="4"), r"clips\[0\], field 'frames': '4', expected int"),
        (lambda r: r["clips"][0].update(frames=True), r"clips\[0\], field 'frames': True, expected int"),
        (lambda r: r["clips"][0].update(file="../a.clip.npz"), "file '../a.clip.npz', expected a name"),
        (lambda r: r["clips"].append(r["clips"][0]), "clip 'kitchen/7' stands in it more than once"),
        (lambda r: r["left_out"][0].pop("reason"), r"left_out\[0\] has .* expected the fields"),
    ],
)
def test_damaged_indices_name_entry_and_field(
    folder: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    record = json.loads((folder / INDEX).read_text())
    change(record)
    (folder / INDEX).write_text(json.dumps(record))
    with pytest.raises(BadFile, match=words):
        open_prepared(folder)
