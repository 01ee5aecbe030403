"""The report of single and joint training: verdicts are true, and what is not known is said so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.joint_training_parts import benchmark_parts
from vap_sim.errors import BadFile


@pytest.fixture(name="parts", scope="module")
def _parts() -> Iterator[SimpleNamespace]:
    with benchmark_parts() as found:
        yield found


def records(parts: SimpleNamespace, **diets: tuple[float, ...]) -> list[dict[str, Any]]:
    """Finished runs, a seed each: in every exam so large a share of ten moved and ten resting objects is got right."""
    made = []
    for diet, shares in diets.items():
        for seed, share in enumerate(shares):
            right = [k < round(10 * share) for k in range(10)] * 2
            marks = {
                "seeds": [1, 2, 3, 4, 5] * 4, "moved": [True] * 10 + [False] * 10,
                "end": [0.1 if good else 2.0 for good in right], "path": [0.5] * 20, "still": [2.0] * 10 + [0.1] * 10,
                "closed": [float(good) for good in right], "off": [0.1 if good else 0.9 for good in right],
            }  # fmt: skip
            names = parts.diets.JUDGED
            made.append(
                {
                    "run": {"diet": diet, "seed": seed}, "settings": {"steps": 2, "block": "dev"},
                    "marks": dict.fromkeys(names, marks), "seconds": {"training": 1.0, "judging": 1.0},
                }
            )  # fmt: skip
    return made


def test_a_body_may_lose_what_its_seeds_lie_apart(parts: SimpleNamespace) -> None:
    holds = parts.report.holds
    assert holds([0.6, 0.7], [0.55, 0.55]) is True
    assert holds([0.6, 0.7], [0.5, 0.5]) is False
    assert holds([0.6, 0.7], [0.9, 0.9]) is True
    assert holds([0.6], [0.9, 0.9]) is None


def test_the_bar_of_the_unseen_skill(parts: SimpleNamespace) -> None:
    def told(**diets: tuple[float, ...]) -> list[bool | None]:
        return list(parts.report.skill_verdicts(records(parts, **diets)).values())

    assert told(joint=(0.8, 0.8), joint_unseen=(0.4, 0.4), rt1_unseen=(0.1, 0.1)) == [True, True]
    assert told(joint=(0.8, 0.8), joint_unseen=(0.3, 0.4), rt1_unseen=(0.1, 0.3)) == [False, False]
    assert told(joint=(0.8,), joint_unseen=(0.4, 0.4)) == [None, None]
    # Half of nothing is no skill, and to lack what nobody learned is no proof.
    assert told(joint=(0.0, 0.0), joint_unseen=(0.0, 0.0), rt1_unseen=(0.0, 0.0)) == [None, None]


def test_a_report_of_given_runs(parts: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert parts.report.report(tmp_path) == {"runs": 0}
    made = records(parts, joint=(0.8, 0.6), droid=(0.9, 0.9), joint_unseen=(0.5, 0.5), rt1_unseen=(0.0, 0.1))
    for record in made:
        parts.runs.write_json(parts.runs.record_path(tmp_path, parts.runs.Run(**record["run"])), record)
    told = parts.report.report(tmp_path)
    shown = capsys.readouterr().out
    assert told["runs"] == 8 and told["bar"]["droid: joint training loses no more than the seeds lie apart"] is False
    assert told["bar"]["rt1: joint training loses no more than the seeds lie apart"] is None
    assert told["values"]["closing"]["closed"]["joint"] == [0.8, 0.6]
    assert "70.0 (60.0 .. 80.0) [" in shown and "FAIL" in shown and "not known yet" in shown
    low, high = parts.report.interval(made, "joint", "droid", parts.report.found)
    assert low < 0.7 < high
    made[0]["settings"]["steps"] = 3
    parts.runs.write_json(parts.runs.record_path(tmp_path, parts.runs.Run(**made[0]["run"])), made[0])
    with pytest.raises(BadFile, match="another comparison"):
        parts.report.report(tmp_path)


def test_dreams_are_told_beside_the_twins_own_pictures(
    parts: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parts.report.dreams_report(tmp_path, "dev") == {}
    twin = {"seeds": [1, 2], "first": [0.16, 0.16], "last": [0.0, 0.0], "read": [0.0, 0.01]}
    runs = {f"joint-{seed}": {**twin, "read": [0.02, 0.15], "run": {"diet": "joint", "seed": seed}} for seed in (0, 1)}
    path = parts.report.dreams_path(tmp_path, "dev")
    path.write_text(json.dumps({"twin": twin, "runs": runs}), encoding="utf-8")
    told = parts.report.dreams_report(tmp_path, "dev")
    assert told["values"]["closed %"]["joint"] == [0.5, 0.5] and told["twin"]["closed %"] == 1.0
    assert "read off dreamed pictures" in capsys.readouterr().out
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(BadFile, match="no record of dreams"):
        parts.report.dreams_report(tmp_path, "dev")
