"""Films of labelled actions and their pairs: exact files, other sources, the layout of VAP-Data, named errors."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.tiny_diffusion import record
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.models.checkpoint import load_tensors, save_tensors
from vap_sim.robots.camera import Camera
from vap_sim.training.reference_footage import (
    Footage,
    evenly,
    footage_files,
    load_footage,
    packed,
    resized,
    save_footage,
    unpacked,
)
from vap_sim.training.reference_pairs import Film, films_in, of_labels, pairs_of
from vap_sim.training.reference_vap_data import BENCHMARK_COLUMNS, COLUMNS, vap_benchmark_pairs, vap_data_pairs
from vap_sim.viewer.video import write_mp4


def footage(number: int = 0, label: str = "wave", length: int = 5) -> Footage:
    frames = torch.from_numpy(np.random.default_rng(number).integers(0, 256, (length, 16, 24, 3), np.uint8))
    camera = Camera.look_at("front", (1.0, 0.0, 0.5), (0.0, 0.0, 0.0), size=(24, 16), vertical_fov=0.9)
    joints = torch.linspace(0, 1, length * 8).reshape(length, 8)
    return Footage(frames, label, f"scene {number}", "a caption", 5.0, joints, camera)


def film(number: int, label: str, source: str | None = None) -> Film:
    return Film(Path(f"{number}.mp4"), label, source or f"scene {number}", "a caption")


# Footage ---------------------------------------------------------------------------------------------------------


def test_footage_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    made = footage()
    read = load_footage(save_footage(tmp_path / "one.footage.safetensors", made))
    assert torch.equal(read.frames, made.frames) and torch.equal(read.joints, made.joints)  # type: ignore[arg-type]
    assert (read.label, read.source, read.caption, read.frame_rate) == ("wave", "scene 0", "a caption", 5.0)
    bare = Footage(made.frames, "wave", "scene", "", 5.0)
    read = load_footage(save_footage(tmp_path / "two.footage.safetensors", bare))
    assert read.joints is None and read.camera is None


def test_pictures_pack_without_loss_and_damage_is_named() -> None:
    frames = footage().frames
    assert torch.equal(unpacked(packed(frames), len(frames)), frames)
    with pytest.raises(ValueError, match="no picture"):
        unpacked(packed(frames)[:40], len(frames))
    with pytest.raises(ValueError, match="of 7 frames"):
        unpacked(packed(frames), 7)


def test_foreign_and_damaged_footage_is_refused(tmp_path: Path) -> None:
    path = save_footage(tmp_path / "one.footage.safetensors", footage())
    tensors, about = load_tensors(path)
    for wrong in ({**about, "frames": 3}, {**about, "footage": 9}, {"footage": 1}, {**about, "label": ""}):
        save_tensors(path, tensors, wrong)
        with pytest.raises(BadFile, match=r"one\.footage"):
            load_footage(path)
    save_tensors(path, {}, about)
    with pytest.raises(BadFile, match="film"):
        load_footage(path)
    with pytest.raises(BadFile, match="no footage"):
        footage_files(tmp_path / "nowhere")


def test_footage_checks_what_it_is_given() -> None:
    frames = footage().frames
    for wrong in (
        {"frames": frames.float()}, {"frames": frames[:1]}, {"label": ""}, {"frame_rate": 0.0},
        {"joints": torch.zeros(3, 8)},
    ):  # fmt: skip
        values = {"frames": frames, "label": "wave", "source": "s", "caption": "", "frame_rate": 5.0, **wrong}
        with pytest.raises(InvalidInput, match="footage"):
            Footage(**values)


def test_films_are_shown_evenly_from_their_first_frame_to_their_last() -> None:
    assert evenly(9, 5).tolist() == [0, 2, 4, 6, 8] and evenly(5, 5).tolist() == [0, 1, 2, 3, 4]
    assert evenly(2, 5).tolist() == [0, 0, 0, 1, 1]
    with pytest.raises(InvalidInput):
        evenly(1, 5)
    made = footage(length=9)
    assert torch.equal(made.shown(5, (24, 16)), made.frames[::2])
    flat = torch.full((2, 16, 24, 3), 77, dtype=torch.uint8)
    for size in ((8, 8), (48, 40), (24, 16)):
        assert torch.equal(resized(flat, size), torch.full((2, size[1], size[0], 3), 77, dtype=torch.uint8))


# Films in a folder -----------------------------------------------------------------------------------------------


def test_a_folder_of_footage_episodes_and_videos_is_read_with_its_labels(tmp_path: Path) -> None:
    save_footage(tmp_path / "one.footage.safetensors", footage())
    record(tmp_path / "push", [1], views=2)
    (tmp_path / "lift").mkdir()
    write_mp4(tmp_path / "lift" / "mine.mp4", [np.full((16, 16, 3), 40 * k, np.uint8) for k in range(5)], 5)
    (tmp_path / "notes.txt").write_text("no film")
    films = films_in(tmp_path)
    assert [(one.label, one.view) for one in films] == [("lift", 0), ("wave", 0), ("push", 0), ("push", 1)]
    assert films[2].source == films[3].source != films[0].source
    lift, wave, push, other = (one.read() for one in films)
    assert lift.frames.shape == (5, 16, 16, 3) and lift.caption == "lift" and lift.frame_rate == 5
    assert torch.equal(wave.frames, footage().frames)
    assert push.joints is not None and push.frames.shape[0] == 13 and not torch.equal(push.frames, other.frames)
    assert push.frame_rate == 10 and "a red cube" in push.caption


def test_labels_and_captions_of_a_folder_come_from_its_files(tmp_path: Path) -> None:
    record(tmp_path, [1, 2])
    (tmp_path / "labels.json").write_text(json.dumps({"twin_0001": "push", "twin_0002": "lift"}))
    (tmp_path / "captions.json").write_text(json.dumps({"twin_0002": "it is lifted"}))
    one, two = films_in(tmp_path)
    assert (one.label, two.label, two.caption) == ("push", "lift", "it is lifted")
    (tmp_path / "labels.json").write_text(json.dumps({"twin_0001": "push"}))
    with pytest.raises(BadFile, match=r"twin_0002.*which action"):
        films_in(tmp_path)
    for wrong in ('{"a": 1}', "[]", "{"):
        (tmp_path / "labels.json").write_text(wrong)
        with pytest.raises(BadFile, match=r"labels\.json"):
            films_in(tmp_path)
    with pytest.raises(BadFile, match="no films"):
        films_in(tmp_path / "nowhere")


def test_a_film_that_is_gone_or_has_no_such_view_is_named(tmp_path: Path) -> None:
    record(tmp_path / "push", [1])
    (one,) = films_in(tmp_path)
    with pytest.raises(BadFile, match="view 3"):
        Film(one.path, "push", "s", "", 3).read()
    for name in ("gone.mp4", "gone.footage.safetensors", "gone.vap.npz"):
        with pytest.raises(BadFile, match="gone"):
            Film(tmp_path / name, "push", "s", "").read()
    with pytest.raises(BadFile, match="gone"):
        _ = Film(tmp_path / "gone.mp4", "push", "s", "").stamp


# Pairs -----------------------------------------------------------------------------------------------------------


def test_pairs_share_the_action_and_never_the_source() -> None:
    films = [film(n, label, f"scene {n // 2}") for n, label in enumerate(["push", "lift"] * 6)]
    pairs = pairs_of(films, references=3, seed=1)
    assert len(pairs) == 3 * len(films) and len(set(pairs)) == len(pairs)
    assert all(pair.target.label == pair.reference.label for pair in pairs)
    assert all(pair.target.source != pair.reference.source for pair in pairs)
    assert pairs == pairs_of(films, references=3, seed=1) != pairs_of(films, references=3, seed=2)
    assert len(pairs_of(films, references=99)) == len(films) * 5


def test_an_action_of_one_source_cannot_be_paired() -> None:
    films = [film(0, "push"), film(1, "push"), film(2, "lift", "here"), film(3, "lift", "here")]
    with pytest.raises(InvalidInput, match="'lift' of 'here' alone"):
        pairs_of(films)
    with pytest.raises(InvalidInput, match="references of a target"):
        pairs_of(films, references=0)
    assert of_labels(films, ["push"]) == tuple(films[:2])
    with pytest.raises(UnknownName, match="Did you mean 'push'"):
        of_labels(films, ["pushed"])


# VAP-Data --------------------------------------------------------------------------------------------------------


def table(folder: Path, rows: list[dict[str, object]], columns: tuple[str, ...] = COLUMNS, name: str = "t.csv") -> Path:
    for row in rows:
        for column in ("video_paths", "ref_video_path"):
            if row.get(column):
                (folder / str(row[column])).touch()
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return folder / name


def row(
    name: str, kind: str = "melt", score: object = 90, references: object = "[]", **more: object
) -> dict[str, object]:
    fields = (name, kind, "train", f'caption, of "{name}"', references, score)
    return {**dict(zip(COLUMNS, fields, strict=True)), **more}


def names(pairs: tuple[object, ...]) -> list[tuple[str, str]]:
    return [(pair.target.path.name, pair.reference.path.name) for pair in pairs]  # type: ignore[attr-defined]


def test_listed_references_are_taken_and_badly_aligned_ones_are_not(tmp_path: Path) -> None:
    rows = [
        row("a", references='["b", "c", "d", "a"]'),
        row("b", references='["c"]'),
        row("c", score=10, references='["a"]'),
        row("d", references='["c", "unknown"]'),
        row("e", kind="grow", references='["c"]'),
    ]
    pairs = vap_data_pairs(table(tmp_path, rows))
    assert names(pairs)[:2] == [("a", "b"), ("a", "d")]  # c scores no more than 10, and a is no reference of itself
    taken = dict(names(pairs)[2:])
    assert taken["b"] in "ad" and taken["d"] in "ab"  # another of the kind for references that all fell away
    assert "c" not in taken and "e" not in taken  # left out, and alone of its kind
    assert pairs[0].target.caption == 'caption, of "a"' and pairs[0].target.label == "melt"
    assert pairs == vap_data_pairs(tmp_path / "t.csv")
    assert ("b", "c") in names(vap_data_pairs(tmp_path / "t.csv", least_score=5))


def test_splits_validity_and_the_number_of_references_count(tmp_path: Path) -> None:
    listed = json.dumps([f"v{k}" for k in range(12)])
    rows = [row(f"v{k}", references=listed) for k in range(12)]
    rows += [row("w", split="test"), row("x", split="test")]
    path = table(tmp_path, rows)
    assert len(vap_data_pairs(path)) == 12 * 10 and len(vap_data_pairs(path, references=2)) == 24
    assert names(vap_data_pairs(path, split="test")) == [("w", "x"), ("x", "w")]
    with pytest.raises(UnknownName, match=r"'tset'.*Did you mean 'test'"):
        vap_data_pairs(path, split="tset")
    rows = [row("a", _valid="True"), row("b", _valid="1"), row("c", _valid="False"), row("d", _valid="0")]
    path = table(tmp_path, rows, (*COLUMNS, "_valid"))
    assert names(vap_data_pairs(path)) == [("a", "b"), ("b", "a")]


def test_what_is_wrong_with_a_table_is_named(tmp_path: Path) -> None:
    good = row("b")
    for wrong, words in (
        (row("a", score="much"), "line 2: 'reference_alignment_score' is 'much'"),
        (row("a", score=101), "line 2: 'reference_alignment_score'"),
        (row("a", references="b, c"), "line 2: 'ref_video_paths'"),
        (row("a", references="[1]"), "line 2: 'ref_video_paths'"),
        (row("a", kind=""), "line 2: 'video_paths' or 'kind'"),
    ):
        with pytest.raises(BadFile, match=words):
            vap_data_pairs(table(tmp_path, [wrong, good]))
    columns = tuple(name for name in COLUMNS if name not in ("kind", "split"))
    short = table(tmp_path, [{name: good[name] for name in columns}], columns)
    with pytest.raises(BadFile, match="no column 'kind', 'split'; found: video_paths"):
        vap_data_pairs(short)
    with (tmp_path / "t.csv").open("a") as file:
        file.write("only,two\n")
    with pytest.raises(BadFile, match="no column"):
        vap_data_pairs(tmp_path / "t.csv")
    path = table(tmp_path, [row("a"), row("b")])
    path.write_text(path.read_text() + "only,two\n")
    with pytest.raises(BadFile, match="line 4: has fewer fields"):
        vap_data_pairs(path)
    with pytest.raises(BadFile, match="no such file"):
        vap_data_pairs(tmp_path / "none.csv")
    with pytest.raises(InvalidInput, match="without a pair"):
        vap_data_pairs(table(tmp_path, [row("a")]))
    path = table(tmp_path, [row("a"), row("b")])
    (tmp_path / "b").unlink()
    with pytest.raises(BadFile, match="b: no such video"):
        vap_data_pairs(path)


def test_the_benchmark_of_the_data_set_has_its_own_columns(tmp_path: Path) -> None:
    rows = [dict(zip(BENCHMARK_COLUMNS, (f"t{k}", f"r{k}", f"target {k}", f"shown {k}"), strict=True)) for k in (0, 1)]
    pairs = vap_benchmark_pairs(table(tmp_path, rows, BENCHMARK_COLUMNS))
    assert names(pairs) == [("t0", "r0"), ("t1", "r1")]
    assert (pairs[1].target.caption, pairs[1].reference.caption) == ("target 1", "shown 1")
    with pytest.raises(BadFile, match="line 2: 'video_paths' or"):
        vap_benchmark_pairs(table(tmp_path, [{**rows[0], "ref_video_path": ""}], BENCHMARK_COLUMNS))
    with pytest.raises(BadFile, match="no row"):
        vap_benchmark_pairs(table(tmp_path, [], BENCHMARK_COLUMNS))
