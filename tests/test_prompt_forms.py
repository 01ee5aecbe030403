"""The comparison of prompt forms: all else is equal, films are true, runs go on after a kill, verdicts are just."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.benchmark_parts import benchmark_modules
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.robots.camera import Camera

FORMS = ("text", "raw_action", "skeleton", "mesh", "depth")
MOVING_SEED = 1
NAMES = ("harness", "prompt_forms_films", "prompt_forms_runs", "prompt_forms_report", "prompt_forms")


@pytest.fixture(scope="module")
def parts() -> Iterator[SimpleNamespace]:
    """The benchmark's files as modules."""
    with benchmark_modules(NAMES, needs=("pybullet", "diffusers")) as modules:
        yield SimpleNamespace(**{name.removeprefix("prompt_forms_"): one for name, one in modules.items()})


@pytest.fixture(scope="module")
def episode(parts: SimpleNamespace) -> Any:
    """Short, of a seed whose fingers move and whose arm does."""
    from vap_sim.envs.twin_recorder import RecorderSettings, record_episode

    return record_episode(MOVING_SEED, RecorderSettings(steps=8, size=(32, 32)))


@pytest.fixture
def films(parts: SimpleNamespace, episode: Any, tmp_path: Path) -> tuple[Any, ...]:
    from vap_sim.data.twin import save_episode

    save_episode(tmp_path / "twin.vap.npz", episode)
    settings = small(parts).films
    return tuple(parts.films.films_of([tmp_path / "twin.vap.npz"], "random", settings, tmp_path / "films"))


def small(parts: SimpleNamespace) -> Any:
    """Settings that train in a moment."""
    films = parts.films.FilmSettings(side=32, stride=1, frames=5)
    return replace(
        parts.runs.RunSettings(), films=films, steps=4, batch=2, warmup=1, channels=6, heads=1, head_width=16, blocks=2,
        words=4, reader=4, denoising=2,
    )  # fmt: skip


class EveryTruth:
    """Stands for the judge of a run, whose own test is below."""

    def __init__(self, parts: SimpleNamespace, films: Any, settings: Any) -> None:
        self.films = [part for film in films for part in film.clips(settings.films.frames)]
        self.scores = lambda frames: parts.runs.Scores(float(frames.float().mean()), 0.0, 0.0, 0)


# Films -----------------------------------------------------------------------------------------------------------


def test_an_episode_seen_again_by_its_own_camera_is_what_was_recorded(parts: SimpleNamespace, episode: Any) -> None:
    own = Camera.from_dict(episode.meta["cameras"][0])
    frames, robot = parts.films.seen_again(episode, own)
    apart = (frames.int() - torch.from_numpy(episode.frames[0]).int()).abs().amax(-1)
    assert float((apart > 8).float().mean()) < 2e-3  # fingers that differ are drawn at their mean angle
    assert float((robot != torch.from_numpy(episode.robot[0] >= 128)).float().mean()) < 2e-3
    every_other, _ = parts.films.seen_again(episode, own, 2)
    assert torch.equal(every_other, frames[::2])


def test_one_camera_for_all_or_one_for_each(parts: SimpleNamespace) -> None:
    def pose(kind: str, seed: int) -> list[float]:
        return [float(value) for value in parts.films.camera_of(kind, seed, 64).T_parent_camera.flatten()]

    assert pose("fixed", 0) == pose("fixed", 7)
    assert pose("random", 5) == pose("random", 5)
    assert pose("random", 5) != pose("random", 6) != pose("fixed", 6)
    with pytest.raises(UnknownName, match="random"):
        parts.films.camera_of("fix", 0, 64)


def test_a_film_is_drawn_once_and_cut_without_a_gap(parts: SimpleNamespace, films: Any, tmp_path: Path) -> None:
    (film,) = films
    first, second = film.clips(5)
    assert torch.equal(first.frames[-1], second.frames[0])
    assert torch.equal(torch.cat([first.joints, second.joints[1:]]), film.joints)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "films").iterdir()}
    again = parts.films.film_of(
        tmp_path / "twin.vap.npz", "random", small(parts).films, parts.films.TensorCache(tmp_path / "films")
    )
    assert torch.equal(again.frames, film.frames) and torch.equal(again.robot, film.robot)
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "films").iterdir()}


@pytest.mark.parametrize("wrong", [{"side": 40}, {"frames": 8}, {"stride": 0}])
def test_films_of_impossible_sizes_are_refused(parts: SimpleNamespace, wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match="films"):
        parts.films.FilmSettings(**wrong)


def test_too_short_films_are_refused(parts: SimpleNamespace, films: Any) -> None:
    from vap_sim.models.cogvideox.codec import TinyCodec

    settings = replace(small(parts).films, frames=13)
    with pytest.raises(InvalidInput, match="without a clip of 13 frames"):
        parts.films.data_set(films, "few", "text", settings, TinyCodec(6))


# Runs ------------------------------------------------------------------------------------------------------------


def test_forms_differ_in_nothing_but_what_tells_the_action(parts: SimpleNamespace, films: Any) -> None:
    """Before training every form predicts the same for the same rows, from the same clips, levels and noise."""
    from vap_sim.models.cogvideox.codec import TinyCodec

    settings, found = small(parts), {}
    for form in FORMS:
        run = parts.runs.Run(form, "random", 1)
        backbone, control = parts.runs.networks(run, settings, films)
        recipe = parts.runs.recipe_of(run, settings, films, backbone, control, TinyCodec(6))
        batch = recipe.batch(range(3))
        with torch.no_grad():
            loss = float(recipe.loss(0)[0])
        found[form] = (batch.clean, batch.noise, batch.levels.float(), batch.weight, batch.text, loss)
        assert (batch.prompt.joints is None) == (form == "text")
        assert bool(batch.prompt.skeleton.any()) == (form not in ("text", "raw_action"))
    for form in FORMS[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[form][:-1], found["text"][:-1], strict=True)), form
        assert found[form][-1] == pytest.approx(found["text"][-1], abs=1e-6), form


def test_a_run_that_was_stopped_ends_as_one_that_was_not(parts: SimpleNamespace, films: Any, tmp_path: Path) -> None:
    settings, run = small(parts), parts.runs.Run("skeleton", "random", 0)
    judge = EveryTruth(parts, films, settings)
    whole = parts.runs.run_one(run, settings, films, judge, tmp_path / "whole")
    assert parts.runs.run_one(run, settings, films, judge, tmp_path / "cut", minutes=0.0) is None
    assert not parts.runs.record_path(tmp_path / "cut", run).exists()
    halves = parts.runs.run_one(run, settings, films, judge, tmp_path / "cut")
    assert halves["scores"] == whole["scores"] and halves["loss"] == whole["loss"]
    stamp = parts.runs.record_path(tmp_path / "cut", run).stat().st_mtime_ns
    assert parts.runs.run_one(run, settings, films, judge, tmp_path / "cut") == halves
    assert parts.runs.record_path(tmp_path / "cut", run).stat().st_mtime_ns == stamp
    with pytest.raises(BadFile, match="other settings"):
        parts.runs.run_one(run, replace(settings, steps=5), films, judge, tmp_path / "cut")


def test_a_damaged_record_is_named(parts: SimpleNamespace, films: Any, tmp_path: Path) -> None:
    run = parts.runs.Run("text", "fixed", 2)
    parts.runs.record_path(tmp_path, run).write_text("{", encoding="utf-8")
    with pytest.raises(BadFile, match="fixed_text_2"):
        parts.runs.read_run(tmp_path, run, small(parts))


def test_the_judge_knows_the_truth_from_a_standstill(parts: SimpleNamespace) -> None:
    """A red square that moves, and a detector of red in place of the network's."""
    frames = torch.zeros(60, 9, 32, 32, 3, dtype=torch.uint8)
    for clip in range(60):
        for step in range(9):
            frames[clip, step, clip % 20 : clip % 20 + 10, 2 * step : 2 * step + 10, 0] = 255
    camera = parts.films.camera_of("fixed", 0, 32)
    film = [parts.films.Film(one, one[..., 0] > 0, torch.zeros(9, 8), camera, "", 0) for one in frames]
    settings = replace(small(parts), films=parts.films.FilmSettings(side=32, frames=9))
    judge = parts.runs.Judge(film, settings, "fixed")
    judge.detector = SimpleNamespace(robot=lambda pictures: pictures[..., 0] > 127)
    true, still = judge.scores(frames), judge.scores(frames[:, :1].expand_as(frames).contiguous())
    assert true.st_iou > 0.99 and true.motion == 1 and true.distance == pytest.approx(0, abs=1e-9)
    assert still.st_iou < 0.5 and still.motion < 0.5 and still.distance > 1e-4
    assert judge.read(frames).shape == frames.shape[:-1]


def test_what_the_bar_rests_on_comes_first(parts: SimpleNamespace) -> None:
    runs = list(
        parts.prompt_forms.plan(("text", "raw_action", "skeleton", "mesh", "depth"), ("random", "fixed"), (0, 1, 2))
    )
    assert len(set(runs)) == len(runs) == 30
    assert [(run.form, run.cameras, run.seed) for run in runs[:4]] == [
        ("skeleton", "random", 0), ("raw_action", "random", 0), ("text", "random", 0), ("skeleton", "random", 1)
    ]  # fmt: skip
    assert {run.form for run in runs[:18]} == {"text", "raw_action", "skeleton"}
    assert {run.cameras for run in runs[:9]} == {"random"}


# Report ----------------------------------------------------------------------------------------------------------


def records(**forms: list[float]) -> list[dict[str, Any]]:
    """Finished runs under both kinds of cameras; a distance falls as the overlap rises."""
    return [
        {
            "run": {"form": form, "cameras": kind, "seed": seed},
            "scores": {"st_iou": value, "distance": 1 - value, "motion": value, "undefined": 0},
            "settings": {"steps": 4}, "episodes": 1, "clips": 2, "seconds": {"training": 1.0},
        }
        for kind in ("random", "fixed") for form, values in forms.items() for seed, value in enumerate(values)
    ]  # fmt: skip


def test_the_bar_asks_every_seed_to_beat_every_seed(parts: SimpleNamespace) -> None:
    clear = parts.report.verdicts(records(text=[0.1, 0.2], raw_action=[0.3, 0.4], skeleton=[0.5, 0.6]))
    assert len(clear) == 4 and all(value is True for value in clear.values())
    mixed = parts.report.verdicts(records(text=[0.1, 0.35], raw_action=[0.3, 0.4], skeleton=[0.5, 0.6]))
    assert sorted(mixed.values()) == [False, False, True, True]
    single = parts.report.verdicts(records(text=[0.1], raw_action=[0.3, 0.4], skeleton=[]))
    assert all(value is None for value in single.values())


def test_the_report_says_who_wins_with_one_camera(parts: SimpleNamespace) -> None:
    raw = parts.report.with_one_camera(records(raw_action=[0.5, 0.6], skeleton=[0.3, 0.4]))
    assert all("raw action wins, outside" in line for line in raw)
    drawn = parts.report.with_one_camera(records(raw_action=[0.3, 0.5], skeleton=[0.4, 0.6]))
    assert all("skeleton wins, within" in line for line in drawn)
    assert all("not measured" in line for line in parts.report.with_one_camera(records(text=[0.1])))


def test_records_of_two_comparisons_are_not_mixed(parts: SimpleNamespace, tmp_path: Path) -> None:
    for record in records(text=[0.1, 0.2]):
        run = record["run"]
        record["settings"]["steps"] += int(run["seed"])
        path = tmp_path / f"{run['cameras']}_{run['form']}_{run['seed']}.json"
        path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(BadFile, match="another comparison"):
        parts.report.read_records(tmp_path)


def test_a_report_without_runs_says_so(
    parts: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parts.report.report(tmp_path, tmp_path / "sheet.png") == {"runs": 0}
    assert "no run is finished" in capsys.readouterr().out


def test_a_table_has_a_line_for_each_form_and_baseline(parts: SimpleNamespace) -> None:
    baselines = {"random": {"copy": {"st_iou": 0.5, "distance": 0.1, "motion": 0.2}}}
    lines = parts.report.table(records(text=[0.1, 0.2], mesh=[0.7]), baselines).splitlines()
    assert [line.split()[1] for line in lines[2:]] == ["text", "mesh", "(copy)", "text", "mesh"]
    assert "0.1500 (0.1000 .. 0.2000)" in lines[2]
