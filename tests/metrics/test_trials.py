"""Trials and tables: records that cannot be are refused, nothing is counted twice, plans and pairs are complete."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.metrics.trials import Cell, Trial, TrialKey, TrialTable, plan_trials

TRIAL = Trial(
    policy="expert", task="push", seed=3, env_id="VAPWorld-DROID-v0", steps=40, reward=1.0, end="done", seconds=2.5,
    verdict="yes", probability=0.9, agreement_mean=0.8, agreement_min=0.6, drift=1.5, video="videos/a b.mp4", note="n",
)  # fmt: skip
PLAIN = Trial(policy="p", task="t", seed=0, env_id="e", steps=0, reward=-1.5, end="time limit", seconds=0)


def table(outcomes: dict[tuple[str, str], str], env_id: str = "dream") -> TrialTable:
    """Trials from text: y, n and ? are verdicts, one a seed."""
    words = {"y": "yes", "n": "no", "?": "cannot tell"}
    return TrialTable(
        tuple(
            replace(PLAIN, policy=policy, task=task, seed=seed, env_id=env_id, verdict=words[letter])
            for (policy, task), letters in outcomes.items()
            for seed, letter in enumerate(letters)
        )
    )


@pytest.mark.parametrize("trial", [TRIAL, PLAIN, replace(PLAIN, success=False, verdict="cannot tell")])
def test_a_trial_survives_json(trial) -> None:
    assert Trial.from_json(json.loads(json.dumps(trial.to_json()))) == trial


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"policy": " "}, "policy of a trial: given ' '"),
        ({"seed": -1}, "seed of a trial: given -1"),
        ({"seed": True}, "seed of a trial: given True"),
        ({"seed": np.int64(3)}, r"seed of a trial: given np.int64\(3\)"),
        ({"steps": 1.0}, r"steps of a trial: given 1\.0"),
        ({"end": "timelimit"}, "Did you mean 'time limit'"),
        ({"verdict": "maybe"}, "unknown verdict of a trial 'maybe'"),
        ({"verdict": True}, "unknown verdict of a trial True"),
        ({"success": 1}, "success of a trial: given 1, expected True, False or None"),
        ({"success": 0.01}, r"success of a trial: given 0\.01"),
        ({"reward": float("nan")}, "reward of a trial: given nan"),
        ({"reward": None}, "reward of a trial: given None"),
        ({"seconds": -1}, "seconds of a trial: given -1"),
        ({"agreement_mean": 80}, "agreement_mean of a trial: given 80, expected a finite number from 0 to 1"),
        ({"drift": float("inf")}, "drift of a trial: given inf"),
        ({"note": 3}, "note of a trial"),
        ({"video": "/etc/a.mp4"}, "video of a trial"),
        ({"video": "../a.mp4"}, "video of a trial"),
        ({"video": "javascript:alert(1).mp4"}, "video of a trial"),
        ({"video": "a.exe"}, "video of a trial"),
        ({"video": 3}, "video of a trial"),
    ],
)
def test_what_cannot_be_is_named(change, words) -> None:
    with pytest.raises((InvalidInput, UnknownName), match=words):
        replace(TRIAL, **change)


def test_foreign_json_is_named() -> None:
    with pytest.raises(InvalidInput, match="trial: given list"):
        Trial.from_json([])
    with pytest.raises(UnknownName, match=r"unknown field of a trial 'polcy'\. Did you mean 'policy'"):
        Trial.from_json({**TRIAL.to_json(), "polcy": 1})
    with pytest.raises(InvalidInput, match="no seed, env_id, steps, reward, end, seconds"):
        Trial.from_json({"policy": "a", "task": "b"})


def test_an_outcome_has_one_source_and_silence_is_none() -> None:
    both = replace(TRIAL, success=False)
    assert both.outcome("truth") is False
    assert both.outcome("verdict") is True
    assert replace(TRIAL, verdict="cannot tell").outcome("verdict") is None
    with pytest.raises(InvalidInput, match=r"ground truth of .*: given none"):
        TRIAL.outcome("truth")
    with pytest.raises(InvalidInput, match=r"verdict on .*: given none"):
        PLAIN.outcome("verdict")


def test_the_source_of_a_table_is_never_mixed() -> None:
    true, judged = replace(PLAIN, success=True), replace(PLAIN, seed=1, verdict="no")
    assert TrialTable((true, replace(judged, success=False))).source() == "truth"
    assert TrialTable((replace(true, verdict="yes"), judged)).source() == "verdict"
    with pytest.raises(InvalidInput, match=r"no verdict on .*seed=0.*, and not all trials have a truth"):
        TrialTable((true, judged)).source()
    with pytest.raises(InvalidInput, match="no trials"):
        TrialTable(()).source()


def test_success_is_counted_by_policy_and_task_in_any_order() -> None:
    told = table({("a", "push"): "yyn?", ("a", "reach"): "??", ("b", "push"): "nnnn"})
    cells = {("a", "push"): Cell(2, 1, 1, 3, 2), ("a", "reach"): Cell(0, 0, 2), ("b", "push"): Cell(0, 4, 0, 4)}
    assert told.pivot() == cells
    assert TrialTable(told.trials[::-1]).pivot() == cells
    assert cells["a", "push"].rate == 2 / 3
    with pytest.raises(InvalidInput, match="2 trials, none with an outcome"):
        _ = cells["a", "reach"].rate


def test_where_the_judge_cannot_tell_its_probability_counts() -> None:
    told = table({("a", "push"): "yyn??"})
    yes, *others, silent = told.trials
    hazy = TrialTable((replace(yes, probability=0.75), *others, replace(silent, probability=0.5)))
    assert [one.chance("verdict") for one in hazy] == [1.0, 1.0, 0.0, None, 0.5]
    cell = hazy.pivot()["a", "push"]
    assert (cell.successes, cell.answered, cell.silent, cell.counted) == (2, 3, 2, 4)
    assert cell.rate == pytest.approx(2.5 / 4)
    assert TrialTable(hazy.trials[::-1]).pivot()["a", "push"] == cell
    # A probability beside an answer says nothing more, and the truth needs none.
    assert replace(hazy.trials[0], success=False).chance("truth") == 0


def test_a_table_filters_and_joins() -> None:
    told = table({("a", "push"): "yyn?", ("a", "reach"): "yn", ("b", "push"): "nnnn"})
    assert (told.policies, told.tasks, told.env_ids) == (("a", "b"), ("push", "reach"), ("dream",))
    assert {one.key[1:3] for one in told.where(policy="a", task="push")} == {("a", "push")}
    assert [one.seed for one in told.where(policy="a", task="push", seeds={2, 3, 9})] == [2, 3]
    parts = [told.where(policy=name) for name in told.policies]
    assert parts[0].joined(parts[1]).trials == told.trials
    with pytest.raises(UnknownName, match="unknown policy 'c'"):
        told.where(policy="c")
    with pytest.raises(InvalidInput, match=r"seed=0\) 2 times, expected each once"):
        parts[0].joined(parts[0])
    with pytest.raises(InvalidInput, match="tables to join"):
        parts[0].joined(TrialTable((), {"weights": "other"}))
    with pytest.raises(InvalidInput, match="tables to join"):
        parts[0].joined(TrialTable((), folder=Path("elsewhere")))


def test_a_plan_has_the_same_starts_everywhere_and_what_is_done_is_not_missing() -> None:
    plan = plan_trials(env_ids=("dream", "twin"), policies=("a", "b"), tasks=("push",), seeds=range(2))
    assert len(set(plan)) == 8
    assert {key[1:] for key in plan if key.env_id == "dream"} == {key[1:] for key in plan if key.env_id == "twin"}
    done = table({("a", "push"): "yn"})
    assert done.missing(plan) == tuple(key for key in plan if key[:2] != ("dream", "a"))
    assert TrialTable(()).missing(plan) == plan
    assert plan[0] == TrialKey("dream", "a", "push", 0)
    for change in ({"seeds": (1, 1)}, {"policies": ()}, {"tasks": "push"}):
        fields = {"env_ids": ("dream",), "policies": ("a",), "tasks": ("push",), "seeds": (1,), **change}
        with pytest.raises(InvalidInput, match=f"{next(iter(change))} of a plan"):
            plan_trials(**fields)
