"""The comparison of demonstrations: pairs are just, runs go on after a kill, the judge learns, verdicts are fair."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.benchmark_parts import benchmark_modules
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.training.reference_footage import Footage

OWN = ("films", "judge", "systems", "settings", "runs", "report")
SIDE, FRAMES, CHANNELS = 32, 5, 6
WAYS = {
    "push_left": (4, 0), "push_right": (-4, 0), "push_away": (0, 4), "push_near": (0, -4), "lift": (3, 3),
    "open": (-3, -3), "close": (3, -3), "wave": (0, 0),
}  # fmt: skip


@pytest.fixture(scope="module")
def parts() -> Iterator[SimpleNamespace]:
    """The benchmark's files as modules."""
    names = ("reference_video", *(f"reference_video_{name}" for name in OWN))
    with benchmark_modules(names, needs=("pybullet", "diffusers", "tensorboard")) as modules:
        yield SimpleNamespace(
            main=modules["reference_video"], **{name: modules[f"reference_video_{name}"] for name in OWN}
        )


def footage(action: str, scene: int) -> Footage:
    """A square that moves in the action's way over a ground of the scene's; every action begins alike."""
    source = np.random.default_rng(scene)
    ground, colour = source.integers(0, 128, 3), source.integers(160, 256, 3)
    film = np.tile(ground.astype(np.uint8), (FRAMES, SIDE, SIDE, 1))
    x0, y0 = source.integers(10, 15, 2)
    for frame in range(FRAMES):
        x, y = x0 + WAYS[action][0] * frame // 2, y0 + WAYS[action][1] * frame // 2
        film[frame, y : y + 8, x : x + 8] = colour
    return Footage(torch.from_numpy(film), action, f"scene {scene}", "a square over a table; moves", 5.0)


@pytest.fixture(scope="module")
def films() -> tuple[Footage, ...]:
    return tuple(footage(action, scene) for scene in range(3) for action in WAYS)


@pytest.fixture(scope="module")
def held() -> tuple[Footage, ...]:
    return tuple(footage(action, scene) for scene in range(10, 12) for action in WAYS)


@pytest.fixture(scope="module")
def codec() -> Any:
    from vap_sim.models.cogvideox.codec import TinyCodec

    return TinyCodec(CHANNELS)


class Brightness:
    """Stands for the judge of a run, whose own test is below."""

    def __init__(self, parts: SimpleNamespace) -> None:
        self.parts = parts

    def __call__(self, frames: Tensor) -> Any:
        numbers = frames[:, 1:].double().mean((1, 2, 3, 4)).mul(1e6).long() % 8
        return self.parts.judge.Verdicts(numbers, torch.eye(8)[numbers])


def stage(parts: SimpleNamespace, films: Any, held: Any, codec: Any, folder: Path, **changes: Any) -> Any:
    """Settings that train in a moment."""
    settings = replace(
        parts.runs.RunSettings(), frames=FRAMES, side=SIDE, steps=3, prism_steps=3, expert_steps=3, batch=2, warmup=1,
        channels=CHANNELS, heads=1, head_width=16, blocks=2, words=4, denoising=2, references=1,
        **{"prism_pretraining": 2, "token_steps": 2, **changes})  # fmt: skip
    return parts.runs.Stage(films, parts.films.encoded(films, codec), held, Brightness(parts), settings, folder)


# Films -----------------------------------------------------------------------------------------------------------


def test_a_demonstration_shows_the_action_in_another_scene(parts: SimpleNamespace, films: Any) -> None:
    actions = parts.films.ACTIONS
    assert tuple(WAYS) == actions
    for shift in (0, 3):
        chosen = parts.films.partners(films, 2, shift=shift)
        assert chosen == parts.films.partners(films, 2, shift=shift)
        for film, others in zip(films, chosen, strict=True):
            wanted = actions[(actions.index(film.label) + shift) % 8]
            assert len(set(others)) == 2
            assert all(films[k].label == wanted and films[k].source != film.source for k in others)


def test_no_caption_of_a_pair_names_the_action_and_half_of_the_others_do(
    parts: SimpleNamespace, films: Any, codec: Any
) -> None:
    clips = parts.films.encoded(films, codec)
    plain = [one.load() for one in parts.films.plain_set(films, clips).clips]
    assert len(plain) == 2 * len(films)
    for number, film in enumerate(films):
        named, silent = plain[2 * number], plain[2 * number + 1]
        assert named.caption.startswith(film.label.replace("_", " ")) and named.prompt.text == (named.caption,)
        assert film.label.replace("_", " ") not in silent.caption and silent.prompt.text == (silent.caption,)
        assert torch.equal(named.latents, silent.latents) and torch.equal(
            silent.latents, codec.encode(film.frames[None])[0]
        )
        assert not silent.prompt.skeleton.any() and silent.prompt.reference is None
    paired = [one.load() for one in parts.films.paired_set(films, clips, 2).clips]
    shown = parts.films.partners(films, 2)
    assert len(paired) == 2 * len(films)
    for number, clip in enumerate(paired):
        film, other = films[number // 2], films[shown[number // 2][number % 2]]
        assert clip.caption == film.caption and torch.equal(clip.prompt.reference.frames[0], other.frames)


def test_an_action_is_learned_from_one_clip_by_its_own_tokens(parts: SimpleNamespace, films: Any, codec: Any) -> None:
    settings = stage(parts, films, films, codec, Path(), prism_pretraining=9, token_steps=7).settings
    assert [settings.steps_of(name) for name in parts.systems.SYSTEMS] == [3, 3, 7]
    from vap_sim.models.cogvideox.backbone import Backbone
    from vap_sim.models.cogvideox.config import build_transformer

    system = parts.systems.system_for("flexiact", Backbone(build_transformer(settings.config)), seed=0, tokens=4)
    clips = parts.films.encoded(films, codec)
    found = list(parts.systems.lessons("flexiact", system, films, clips, codec, seed=0, references=1))
    assert [lesson.name for lesson in found] == list(parts.films.ACTIONS)
    for lesson in found:
        loaded = [one.load() for one in lesson.data.clips]
        assert len(loaded) == 12 and all(clip.prompt.motion == (lesson.name,) for clip in loaded)
        assert all(lesson.name.replace("_", " ") not in clip.caption for clip in loaded)
        assert len({clip.latents.sum().item() for clip in loaded}) > 1
        assert lesson.weights[0] is system.tokens.of(lesson.name)
    with pytest.raises(UnknownName, match="Did you mean 'flexiact'"):
        parts.systems.system_for("flexi_act", None, seed=0, tokens=4)


# Runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(parts: SimpleNamespace, films: Any, held: Any, codec: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with the model that all systems stand on."""
    made = stage(parts, films, held, codec, tmp_path_factory.mktemp("base"))
    assert parts.runs.run_one(parts.runs.Run("none", 0), made) is not None
    return made


def copied(base: Any, folder: Path, **changes: Any) -> Any:
    folder.mkdir(parents=True)
    for path in base.folder.glob("none_0*"):
        (folder / path.name).write_bytes(path.read_bytes())
    return replace(base, folder=folder, **changes)


@pytest.mark.parametrize("system", ["action_prism", "video_as_prompt", "flexiact"])
def test_every_system_trains_and_dreams_on_the_frozen_model(
    parts: SimpleNamespace, base: Any, tmp_path: Path, system: str
) -> None:
    from vap_sim.models.checkpoint import load_tensors

    own = copied(base, tmp_path / "run")
    before = load_tensors(parts.runs.base_file(own.folder, 0))[0]
    record = parts.runs.run_one(parts.runs.Run(system, 0), own)
    assert record["parameters"]["system"] > 0 and record["held"] == 16
    assert set(record["found"]) == {"right", "wrong", "against"}
    for trial in record["found"].values():
        assert sum(map(sum, trial["confusion"])) == 16 and 0 <= trial["asked"] <= 1
    after = load_tensors(parts.runs.base_file(own.folder, 0))[0]
    assert all(torch.equal(before[name], after[name]) for name in before)
    dreams = load_tensors(own.folder / f"{system}_0.safetensors")[0]
    assert dreams["right"].shape == (8, FRAMES, SIDE, SIDE, 3)
    firsts = torch.stack([own.held[k].frames[0] for k in parts.runs.on_sheet(own.held)])
    assert torch.equal(dreams["right"][:, 0], firsts)
    assert not torch.equal(dreams["right"], dreams["wrong"])  # what is shown is heard
    assert not (own.folder / "training" / f"{system}_0").exists()
    assert (own.folder / f"{system}_0-weights.safetensors").is_file()


@pytest.mark.parametrize("system", ["none", "flexiact"])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    parts: SimpleNamespace, base: Any, tmp_path: Path, system: str
) -> None:
    run = parts.runs.Run(system, 0)
    if system == "none":
        whole = parts.runs.read_run(base.folder, run, base.settings)
        cut = replace(base, folder=tmp_path / "cut")
    else:
        whole = parts.runs.run_one(run, copied(base, tmp_path / "whole"))
        cut = copied(base, tmp_path / "cut")
    assert parts.runs.run_one(run, cut, minutes=0.0) is None
    assert not (cut.folder / f"{run.name}.json").exists()
    halves = parts.runs.run_one(run, cut)
    assert halves["found"] == whole["found"] and halves["loss"] == whole["loss"]
    stamp = (cut.folder / f"{run.name}.json").stat().st_mtime_ns
    assert parts.runs.run_one(run, cut) == json.loads(json.dumps(halves))
    assert (cut.folder / f"{run.name}.json").stat().st_mtime_ns == stamp
    with pytest.raises(BadFile, match="other settings"):
        parts.runs.run_one(run, replace(cut, settings=replace(cut.settings, batch=9)))


def test_rows_are_dreamt_each_once_whatever_they_are_grouped_by(parts: SimpleNamespace, held: Any) -> None:
    shown = [some[0] for some in parts.films.partners(held, 1)]
    for system in ("flexiact", "action_prism"):
        groups = parts.runs._groups(parts.runs.Run(system, 0), held, shown)
        assert sorted(row for rows in groups for row in rows) == list(range(len(held)))
    for rows in parts.runs._groups(parts.runs.Run("flexiact", 0), held, shown):
        assert len({held[shown[row]].label for row in rows}) == 1


def test_a_system_without_its_model_and_a_damaged_record_are_named(
    parts: SimpleNamespace, base: Any, tmp_path: Path
) -> None:
    alone = replace(base, folder=tmp_path)
    with pytest.raises(BadFile, match="none_0-weights"):
        parts.runs.run_one(parts.runs.Run("action_prism", 0), alone)
    (tmp_path / "flexiact_2.json").write_text("{", encoding="utf-8")
    with pytest.raises(BadFile, match="flexiact_2"):
        parts.runs.read_run(tmp_path, parts.runs.Run("flexiact", 2), base.settings)


def test_the_model_that_others_stand_on_comes_first(parts: SimpleNamespace) -> None:
    runs = " ".join(run.name for run in parts.main.plan(("action_prism", "flexiact"), (0, 1)))
    assert runs == "none_0 action_prism_0 flexiact_0 none_1 action_prism_1 flexiact_1"


# The judge -------------------------------------------------------------------------------------------------------


def test_the_judge_learns_what_moves_how_and_is_read_again(
    parts: SimpleNamespace, films: Any, held: Any, codec: Any, tmp_path: Path
) -> None:
    settings = parts.judge.JudgeSettings(steps=120, batch=8, width=8, damaged=0.0, learning_rate=5e-3)
    # A mirror image is another action only of left and right: the other ways are made upright.
    upright = [film for film in films if film.label in ("push_left", "push_right", "push_away", "push_near", "wave")]
    shown = [film for film in held if film.label in {one.label for one in upright}]
    judge = parts.judge.trained_judge(upright, codec, settings, tmp_path)
    labels = parts.films.labels_of(shown)
    seen = judge(torch.stack([film.frames for film in shown]))
    assert seen.accuracy(labels) >= 0.9
    table = np.array(seen.confusion(labels))
    assert table.sum() == len(shown) and np.diag(table).sum() == round(seen.accuracy(labels) * len(shown))
    mirror = judge(torch.stack([film.frames.flip(2) for film in shown]))
    assert mirror.actions.tolist() == [parts.judge._MIRRORED[k] for k in seen.actions.tolist()]
    again = parts.judge.trained_judge((), codec, settings, tmp_path)  # no film is needed: it is there
    assert torch.equal(again(torch.stack([film.frames for film in shown])).shares, seen.shares)


def test_a_judge_that_is_none_is_refused(parts: SimpleNamespace, held: Any, codec: Any, tmp_path: Path) -> None:
    judge = parts.judge.Judge(parts.judge.ActionNet(4, 0))
    with pytest.raises(InvalidInput, match="accuracy of the judge"):
        parts.main.judged(judge, held, codec, tmp_path)


# Report ----------------------------------------------------------------------------------------------------------


def records(**systems: list[float]) -> list[dict[str, Any]]:
    """Finished runs with these shares of recognised demonstrations."""
    found = []
    for system, shares in systems.items():
        for seed, share in enumerate(shares):
            hits = round(10 * share)
            trial = {"asked": share, "own": 0.1, "confusion": [[hits, 10 - hits] + 6 * [0]] + 7 * [[0] * 7 + [10]]}
            found.append(
                {
                    "run": {"system": system, "seed": seed},
                    "found": {"right": trial, "wrong": {**trial, "asked": share / 2}, "against": trial},
                    "settings": {"steps": 4}, "films": 1, "held": 16, "seconds": {"training": 1.0},
                }
            )  # fmt: skip
    return found


def test_the_bar_asks_for_twice_chance_above_no_demonstration(parts: SimpleNamespace) -> None:
    told = parts.report.verdicts(records(none=[0.1, 0.1, 0.2], flexiact=[0.4, 0.4, 0.5], action_prism=[0.3, 0.3, 0.3]))
    shown = {name.split(",")[0]: verdict for name, verdict in told.items() if "shown its" in name}
    assert shown == {"flexiact": True, "action_prism": False}
    assert all(verdict is False for name, verdict in told.items() if "another" in name)
    few = parts.report.verdicts(records(none=[0.1, 0.1], flexiact=[0.9, 0.9]))
    assert few and all(verdict is None for verdict in few.values())
    assert parts.report.verdicts(records(flexiact=[0.9])) == {}


def test_gains_are_taken_seed_by_seed(parts: SimpleNamespace) -> None:
    gain = parts.report.gains(records(none=[0.1, 0.3], flexiact=[0.5, 0.5, 0.9]))["flexiact"]
    assert gain.values == pytest.approx((0.4, 0.2))


def test_a_table_has_a_line_for_each_system_and_action(parts: SimpleNamespace) -> None:
    some = records(flexiact=[0.4, 0.6], none=[0.1])
    lines = parts.report.table(some).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["none", "flexiact"]
    assert "0.5000 (0.4000 .. 0.6000)" in lines[3]
    by_action = parts.report.by_action(some).splitlines()
    assert by_action[1].split()[:2] == ["flexiact", "0.50"] and by_action[1].split()[-1] == "1.00"


def test_records_of_two_comparisons_are_not_mixed_and_no_run_is_said(
    parts: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parts.report.report(tmp_path, tmp_path / "sheet.png") == {"runs": 0}
    assert "no run is finished" in capsys.readouterr().out
    for record in records(none=[0.1, 0.2]):
        run = record["run"]
        record["settings"]["steps"] += int(run["seed"])
        (tmp_path / f"{run['system']}_{run['seed']}.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(BadFile, match="another comparison"):
        parts.report.read_records(tmp_path)
    (tmp_path / "none_1.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BadFile, match="none_1"):
        parts.report.read_records(tmp_path)


def test_a_report_is_told_and_drawn(parts: SimpleNamespace, base: Any, tmp_path: Path) -> None:
    from vap_sim.models.checkpoint import save_tensors

    own = copied(base, tmp_path / "run")
    parts.runs.run_one(parts.runs.Run("action_prism", 0), own)
    judged = {"accuracy": 1.0, "confusion": [[0] * 8] * 8}
    (own.folder / "judged.json").write_text(json.dumps({"twin": judged, "codec": judged, "films": 16}))
    truth = torch.stack([own.held[k].frames for k in parts.runs.on_sheet(own.held)])
    save_tensors(own.folder / "truth.safetensors", {"right": truth}, {})
    told = parts.report.report(own.folder, tmp_path / "sheet.png")
    assert told["runs"] == 2 and set(told["gains"]) == {"action_prism"} and (tmp_path / "sheet.png").stat().st_size > 0
    assert all(verdict is None for verdict in told["bar"].values())
