"""`vap-sim evaluate`, run for real on worlds without a network and on the twin: what it writes, keeps and refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from vap_sim.cli import main
from vap_sim.commands import evaluate as command
from vap_sim.commands.evaluate import Evaluate, run
from vap_sim.commands.evaluate_films import side_by_side
from vap_sim.commands.outcome import record_of
from vap_sim.errors import InvalidInput, MissingDependency, UnknownName, VAPSimError
from vap_sim.metrics.trial_log import load_trials
from vap_sim.metrics.trials import TrialKey, plan_trials
from vap_sim.policies.judge import Evidence, Verdict
from vap_sim.policies.policy import PolicyFault

pytest.importorskip("pybullet", reason="the twin needs the extra twin")
pytest.importorskip("matplotlib", reason="the report's plots need the extra report")

POLICIES = ("scripted", "idle")


class Moved:
    """Says that a task is done when the picture has changed twice: for an idle policy it changes in its first step at
    most, in which the kinematic world draws the arm, for an expert in every one."""

    def judge(self, evidence: Evidence) -> tuple[Verdict, ...]:
        if evidence.last.shape[1] < 2:
            return (Verdict(False, 0.1),) * len(evidence)
        shown = np.stack([evidence.first, evidence.last[:, -2], evidence.last[:, -1]], axis=1).astype(int)
        change = np.abs(np.diff(shown, axis=1)).max(axis=(2, 3, 4)).min(axis=1)
        return tuple(Verdict(bool(one > 100), 0.9 if one > 100 else 0.1) for one in change)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge without a network."""
    monkeypatch.setattr(command, "make_judge", lambda name: None if name == "none" else Moved())


def small(out: Path, **changes: Any) -> Evaluate:
    made = Evaluate(
        policies=POLICIES, out=out, tasks=("reach",), episodes=2, seed=700_000, steps=2, world="kinematic", trust=False,
        baselines=("still",), workers=1, videos=1,
    )  # fmt: skip
    return replace(made, **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "make_judge", lambda name: Moved())
        out = tmp_path_factory.mktemp("whole")
        yield out, run(small(out))


def test_every_world_plays_every_policy_from_the_same_starts(whole: tuple[Path, str]) -> None:
    out, _ = whole
    tables = {name: load_trials(out / f"{name}.jsonl")[0] for name in ("dream", "still", "reference")}
    keys = {name: {key[1:] for key in table.keys} for name, table in tables.items()}
    assert keys["dream"] == keys["still"] == keys["reference"] and len(keys["dream"]) == 4
    assert {one.seed for one in tables["dream"]} == {700_000, 700_001}
    about = {name: table.about for name, table in tables.items()}
    assert about["dream"]["world"] == "kinematic" and about["still"]["world"] == "still"
    assert all(one["steps"] == 2 and one["judge"].startswith("learned ") for one in about.values())
    assert all(one.success is not None for one in tables["reference"])


def test_what_stands_still_never_succeeds_and_what_follows_the_arm_does(whole: tuple[Path, str]) -> None:
    out, said = whole
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    rates = {one["policy"]: one["sim"]["successes"] for one in report["dream"]["success"]}
    assert rates == {"scripted": 2, "idle": 0}
    (still,) = report["baselines"]
    assert still["name"] == "still" and all(one["sim"]["successes"] == 0 for one in still["success"])
    assert re.search(r"scripted +reach +2/2 +\d+ % +0/2", said) and str(out / "report.html") in said


def test_few_trials_are_told_by_intervals_alone(whole: tuple[Path, str]) -> None:
    out, said = whole
    assert "2 policies; 5 at least" in said and "2 trials of some policy and task; 20 at least" in said
    assert re.search(r"^bias_mean: (too few trials to tell|-?[\d.]+ to -?[\d.]+)$", said, re.MULTILINE)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Too little for bare numbers" in page and re.search(r"2 / 2: \d+ % \(\d+ to \d+\)", page)


def test_the_worst_disagreement_is_one_video_of_both(whole: tuple[Path, str]) -> None:
    import av

    out, _ = whole
    page = (out / "report.html").read_text(encoding="utf-8")
    (video,) = (out / "videos").iterdir()
    assert re.fullmatch(r"1_reach_70000[01]_scripted\.mp4", video.name) and page.count("<video") == 1
    assert f'src="videos/{video.name}"' in page and "Left: dream, right: reference" in page
    with av.open(str(video)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert frames.shape == (3, 256, 256 + 8 + 256, 3)
    left, right = frames[:, :, :256].astype(int), frames[:, :, 264:].astype(int)
    assert np.abs(left[0] - right[0]).mean() < 3, "both begin at one start"
    assert np.abs(left[2] - right[2]).mean() > 3, "the dream is the kinematic one, the reference is not"


def test_a_finished_evaluation_is_only_told_again(
    whole: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, said = whole
    monkeypatch.setattr("vap_sim.policies.evaluate.play", lambda job: pytest.fail("played again"))
    monkeypatch.setattr("vap_sim.policies.episodes.rehearse", lambda job: pytest.fail("rehearsed again"))
    monkeypatch.setattr("vap_sim.policies.evaluate.read_starts", lambda *_, **__: pytest.fail("starts read again"))
    before = (out / "dream.jsonl").read_bytes()
    again = run(small(out, videos=0))
    assert record_of(again)["written"] == [str(out / "report.html"), str(out / "report.json")]
    assert again == said and (out / "dream.jsonl").read_bytes() == before


def test_what_was_stopped_goes_on_and_more_episodes_join(whole: tuple[Path, str], tmp_path: Path) -> None:
    """A log that ends within a line, as a kill may leave it."""
    out, said = whole
    for name in ("dream", "still"):
        (tmp_path / f"{name}.jsonl").write_bytes((out / f"{name}.jsonl").read_bytes()[:-100])
    again = run(small(tmp_path, videos=0))
    assert again.splitlines()[:-1] == said.splitlines()[:-1]
    run(small(tmp_path, episodes=3, policies=("idle",), baselines=(), videos=0))
    seeds = [one.seed for one in load_trials(tmp_path / "dream.jsonl")[0].where(policy="idle")]
    assert sorted(seeds) == [700_000, 700_001, 700_002]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 3}, r"steps 3, expected 2, which made those that are there, or another folder"),
        ({"world": "still"}, r"dream\.jsonl: given fingerprint"),
        ({"env_options": '{"control": "joint_position"}'}, r"dream\.jsonl: given options"),
        ({"policy_seconds": 5.0}, "given policy_seconds 5.0"),
    ],
)
def test_other_settings_need_another_folder(
    changes: dict[str, Any], words: str, whole: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vap_sim.policies.evaluate.read_starts", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(InvalidInput, match=words):
        run(small(whole[0], **changes))


class Bare(gymnasium.Env[Any, Any]):
    """An environment of a user's that shows no picture and takes no task."""

    observation_space, action_space = gymnasium.spaces.Box(0, 1, (2,)), gymnasium.spaces.Box(-1, 1, (8,))

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        return np.zeros(2, np.float32), {}


@pytest.fixture
def bare() -> Iterator[str]:
    gymnasium.register("Bare-v0", entry_point=Bare)
    yield "Bare-v0"
    del gymnasium.registry["Bare-v0"]


REFUSED: tuple[tuple[dict[str, Any], type[VAPSimError], str], ...] = (
    ({"policies": ("skripted",)}, UnknownName, "unknown policy 'skripted'. Did you mean 'scripted'"),
    ({"policies": ("idle", "idle")}, InvalidInput, "policies of a plan: .* each once"),
    ({"policies": ()}, InvalidInput, "policies of a plan: .* at least one"),
    ({"env": "VAPWorl-DROID-v0"}, UnknownName, "Did you mean 'VAPWorld-DROID-v0'"),
    ({"env": "no_such_module:VAPWorld-DROID-v0"}, VAPSimError, "its module 'no_such_module' cannot be imported"),
    ({"reference": "VAPTwin-DROID-v1"}, UnknownName, "Did you mean 'VAPTwin-DROID-v0'"),
    ({"tasks": ("reach", "pusch")}, UnknownName, "unknown task of station 'DROID' 'pusch'. Did you mean 'push'"),
    ({"world": "kinematik"}, UnknownName, "unknown world 'kinematik'. Did you mean 'kinematic'"),
    ({"baselines": ("stil",)}, UnknownName, "unknown world for --baselines 'stil'. Did you mean 'still'"),
    ({"baselines": ("../still",)}, UnknownName, "world for --baselines"),
    ({"baselines": ("still", "still")}, InvalidInput, "--baselines: given still still, expected each once"),
    ({"judge": "lerned"}, UnknownName, "unknown judge 'lerned'. Did you mean 'learned'"),
    ({"judge": "none"}, InvalidInput, "'VAPWorld-DROID-v0' does not tell success itself"),
    ({"engine": "rai"}, UnknownName, "unknown engine 'rai'. Did you mean 'ray'"),
    ({"env_options": "[1]"}, InvalidInput, "--env-options: given \\[1\\], expected a JSON object"),
    ({"env_options": '{"contrl": 1}'}, UnknownName, "Did you mean 'control'"),
    ({"env": "VAPTwin-DROID-v0"}, UnknownName, "argument of environment 'VAPTwin-DROID-v0' 'world'"),
    ({"env": "Bare-v0", "world": None, "baselines": ()}, InvalidInput, "'Bare-v0': given ndarray, expected arrays by"),
    ({"reference": "Bare-v0"}, VAPSimError, "'Bare-v0' cannot record starts"),
    ({"least_agreement": float("nan"), "trust": True}, InvalidInput, "--least-agreement: given nan"),
    ({"least_agreement": 0.5}, InvalidInput, "expected none beside --no-trust"),
    ({"policy_seconds": float("inf")}, InvalidInput, "--policy-seconds: given inf"),
    ({"policies": ("idle", "replay@missing.npy")}, VAPSimError, "missing.npy"),
    ({"policies": ("idle", "scripted+miss=nan")}, InvalidInput, "variant 'miss': given nan"),
    *(({name: value}, InvalidInput, f"--{name}: given {value}") for name, value in {
        "episodes": 0, "steps": 0, "rows": 0, "workers": 0, "seed": -1, "videos": -1}.items()),
)  # fmt: skip


@pytest.mark.parametrize(("changes", "kind", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_work_is_refused_before_anything_is_played(
    changes: dict[str, Any], kind: type[VAPSimError], words: str, bare: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("vap_sim.policies.evaluate.play", lambda job: pytest.fail("played"))
    with pytest.raises(kind, match=words) as stop:
        run(small(tmp_path / "out", **changes))
    assert "\n" not in str(stop.value) and not (tmp_path / "out").exists()


def test_a_server_that_does_not_answer_is_told_before_anything_is_played(tmp_path: Path) -> None:
    pytest.importorskip("websockets", reason="remote policies need the extra remote")
    with pytest.raises(PolicyFault, match=r"policy 'openpi@localhost:1': the server does not answer"):
        run(small(tmp_path / "out", policies=("idle", "openpi@localhost:1")))
    assert not (tmp_path / "out").exists()


def test_a_report_that_could_not_be_drawn_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vap_sim.commands.evaluate_setup.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="matplotlib"):
        run(small(tmp_path))


def test_the_shell_shows_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--policies", "idle", "--engine", "rai", "--out", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1 and shown.err.startswith("vap-sim: unknown engine 'rai'") and shown.out == ""


def test_few_actions_try_every_policy_and_every_task() -> None:
    keys = plan_trials(env_ids=["e"], policies=list("abcd"), tasks=["x", "y", "z"], seeds=[1, 2])
    tried = command._samples(keys, "dream")
    assert [key[1:3] for key in tried] == [("a", "x"), ("b", "y"), ("c", "z"), ("d", "x")]
    assert [key.task for key in command._samples(keys, "still")] == ["x", "y", "z"]
    left: tuple[TrialKey, ...] = (keys[-1], keys[0])
    assert set(command._samples(left, "reference")) == set(left) and command._samples((), "dream") == []


def test_films_of_any_sizes_stand_side_by_side() -> None:
    short, long = np.full((2, 5, 7, 3), 9, np.uint8), np.full((4, 3, 4, 3), 5, np.uint8)
    short[-1] = 200
    film = side_by_side([short, long])
    assert film.shape[0] == 4 and not film.shape[1] % 2 and not film.shape[2] % 2
    assert (film[2:, 0, 0] == 200).all(), "what ended earlier stands still"
    large = side_by_side([np.zeros((1, 301, 401, 3), np.uint8)])
    assert large.shape == (1, 302, 402, 3)
