"""What the comparison of single and joint training has found so far: tables, intervals, and the bar's verdicts.

    python benchmarks/joint_training_report.py --out out/joint_training

The bar, fixed beforehand. Bodies: by the mean of the shares of moved objects found and of resting ones left alone, no
body loses more by joint training than the seeds of its own model lie apart. Skill: the joint model that never saw the
Google robot close a drawer closes it at least half as often as the one that did; and the model of the Google robot
alone that never saw it closes it at most one time in ten.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import RESAMPLES
from joint_training_diets import DIETS
from joint_training_judge import CLOSED

from vap_sim.errors import BadFile

BODIES = ("droid", "bridge", "rt1", "egovid")
NOVEL = {"droid_novel": "droid", "bridge_novel": "bridge"}
SEEN, UNSEEN, ALONE = "joint", "joint_unseen", "rt1_unseen"
HALF, NONE = 0.5, 0.10
LEAST_SEEDS = 2
Record = Mapping[str, Any]
Measure = Callable[[Mapping[str, Any]], list[tuple[int, float]]]
"""Reads (seed of the recording, value) of every object that counts from what a run was graded with."""


def found(marks: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Moved objects that end within their own width of the truth."""
    return [(s, float(end <= 1)) for s, moved, end in _rows(marks) if moved]


def left(marks: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Resting objects that stay within half of their own width."""
    return [(s, float(end <= 0.5)) for s, moved, end in _rows(marks) if not moved]


def path(marks: Mapping[str, Any]) -> list[tuple[int, float]]:
    """How far moved objects lie from the truth, the mean of all frames [their widths]."""
    return [(s, p) for s, moved, p in zip(marks["seeds"], marks["moved"], marks["path"], strict=True) if moved]


def closed(marks: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Drawers that end as near to where the twin's did as the bar asks."""
    return [(s, float(off <= CLOSED)) for s, off in zip(marks["seeds"], marks["off"], strict=True)]


def way(marks: Mapping[str, Any]) -> list[tuple[int, float]]:
    """The share of its way that a drawer went."""
    return [(s, float(np.clip(c, 0, 2))) for s, c in zip(marks["seeds"], marks["closed"], strict=True)]


def _rows(marks: Mapping[str, Any]) -> list[tuple[int, bool, float]]:
    return list(zip(marks["seeds"], marks["moved"], marks["end"], strict=True))


# Reading ---------------------------------------------------------------------------------------------------------


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The records of all finished runs. Raises BadFile for a damaged one, or where settings or recordings differ."""
    records: list[dict[str, Any]] = []
    for file in sorted((folder / "runs").glob("*.json")):
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            run, marks = record["run"], record["marks"]
            whole = file.stem == f"{run['diet']}-{run['seed']}" and run["diet"] in DIETS
            asked = {name: marks[name]["seeds"] for name in marks}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadFile(file, f"is not the record of a run ({error!r})") from error
        if not whole:
            raise BadFile(file, f"is the record of {run}")
        first = records[0] if records else record
        same = {name: first["marks"][name]["seeds"] for name in first["marks"]} == asked
        if not same or record["settings"] != first["settings"]:
            raise BadFile(file, "is of another comparison than the records before it: settings or recordings differ")
        records.append(record)
    return records


def of_diet(records: Sequence[Record], diet: str) -> list[Record]:
    """The runs of a diet, by seed."""
    return sorted((one for one in records if one["run"]["diet"] == diet), key=lambda one: int(one["run"]["seed"]))


def means(records: Sequence[Record], diet: str, exam: str, measure: Measure) -> list[float]:
    """The mean of a measure for each seed of a diet; seeds without a value are left out."""
    values = [measure(record["marks"][exam]) for record in of_diet(records, diet)]
    return [float(np.mean([value for _, value in some])) for some in values if some]


def balanced(records: Sequence[Record], diet: str, exam: str) -> list[float]:
    """The mean of `found` and `left` for each seed."""
    pairs = zip(means(records, diet, exam, found), means(records, diet, exam, left), strict=True)
    return [(first + second) / 2 for first, second in pairs]


def interval(records: Sequence[Record], diet: str, exam: str, measure: Measure) -> tuple[float, float] | None:
    """95 % of the mean over seeds and recordings, both resampled; None where there is nothing."""
    runs = [measure(record["marks"][exam]) for record in of_diet(records, diet)]
    runs = [some for some in runs if some]
    if not runs:
        return None
    seeds = sorted({seed for seed, _ in runs[0]})
    totals, counts = np.zeros((len(runs), len(seeds))), np.zeros((len(runs), len(seeds)))
    for row, some in enumerate(runs):
        for seed, value in some:
            totals[row, seeds.index(seed)] += value
            counts[row, seeds.index(seed)] += 1
    rng = np.random.default_rng(0)
    drawn = [np.ix_(rng.integers(len(runs), size=len(runs)), rng.integers(len(seeds), size=len(seeds)))
             for _ in range(RESAMPLES)]  # fmt: skip
    values = [totals[pick].sum() / counts[pick].sum() for pick in drawn if counts[pick].sum()]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


# Verdicts --------------------------------------------------------------------------------------------------------


def verdicts(records: Sequence[Record]) -> dict[str, bool | None]:
    """The bar: True, False, or None where too few seeds are there to tell."""
    told: dict[str, bool | None] = {}
    for body in BODIES:
        told[f"{body}: joint training loses no more than the seeds lie apart"] = holds(
            balanced(records, body, body), balanced(records, SEEN, body)
        )
    return {**told, **skill_verdicts(records)}


def skill_verdicts(records: Sequence[Record]) -> dict[str, bool | None]:
    """The bar of the skill that was held out, as `verdicts` gives it."""
    seen, unseen, alone = (means(records, diet, "closing", closed) for diet in (SEEN, UNSEEN, ALONE))
    learned = len(seen) >= LEAST_SEEDS and bool(np.mean(seen) > NONE)  # half of nothing is no skill
    half = bool(np.mean(unseen) >= HALF * np.mean(seen)) if learned and len(unseen) >= LEAST_SEEDS else None
    none = bool(np.mean(alone) <= NONE) if learned and len(alone) >= LEAST_SEEDS else None
    return {
        "unseen skill: closed at least half as often as by the model that saw it": half,
        f"unseen skill: the single-body model closes at most {100 * NONE:.0f} %": none,
    }


def holds(single: Sequence[float], joint: Sequence[float]) -> bool | None:
    """Whether a joint model loses no more than single ones lie apart; None with too few seeds."""
    if min(len(single), len(joint)) < LEAST_SEEDS:
        return None
    return bool(np.mean(single) - np.mean(joint) <= max(single) - min(single))


# Words -----------------------------------------------------------------------------------------------------------


def table(records: Sequence[Record], exams: Sequence[str], measures: Mapping[str, tuple[Measure, str]]) -> str:
    """Exams by diets, each measure as mean (least .. most of the seeds) [95 % interval]."""
    cells = [["judged on", "diet", *measures, "seeds"]]
    for exam in exams:
        for diet in DIETS:
            runs = of_diet(records, diet)
            own = "rt1" if exam == "closing" else NOVEL.get(exam, exam)
            if runs and diet.startswith(("joint", own)):
                row = [_cell(records, diet, exam, *measure) for measure in measures.values()]
                cells.append([exam, diet, *row, str(len(runs))])
        if exam != "closing" and records:
            cells.append([exam, "(standing still)", *_standing(records[0]["marks"][exam], measures), ""])
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _cell(records: Sequence[Record], diet: str, exam: str, measure: Measure, unit: str) -> str:
    values, between = means(records, diet, exam, measure), interval(records, diet, exam, measure)
    if between is None:
        return "-"
    mean, least, most, low, high = (
        _number(float(value), unit) for value in (np.mean(values), min(values), max(values), *between)
    )
    return f"{mean} ({least} .. {most}) [{low} .. {high}]"


def _standing(marks: Mapping[str, Any], measures: Mapping[str, tuple[Measure, str]]) -> list[str]:
    """What a network earns that never moves anything."""
    still = {**marks, "end": marks["still"]}
    told = [measure(still) if measure in (found, left) else [] for measure, _ in measures.values()]
    units = [unit for _, unit in measures.values()]
    values = [[value for _, value in some] for some in told]
    return [_number(float(np.mean(some)), unit) if some else "-" for some, unit in zip(values, units, strict=True)]


def _number(value: float, unit: str) -> str:
    return f"{100 * value:.1f}" if unit == "%" else f"{value:.2f}"


FOLLOWED: Mapping[str, tuple[Measure, str]] = {
    "moved, found %": (found, "%"),
    "at rest, left alone %": (left, "%"),
    "path error, widths": (path, ""),
}
SKILL: Mapping[str, tuple[Measure, str]] = {"closed %": (closed, "%"), "share of its way %": (way, "%")}


# Dreams ----------------------------------------------------------------------------------------------------------


def dreams_path(folder: Path, block: str) -> Path:
    """Where what was read off dreams of recordings of a block is."""
    return folder / f"dreams-{block}.json"


def read_dreams(folder: Path, block: str) -> tuple[list[dict[str, Any]], dict[str, Any]] | None:
    """What was read off the dreams of each run, as records of one exam, and off the twin's pictures; None where no
    dream was read. Raises BadFile."""
    file = dreams_path(folder, block)
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        runs = [{"run": one["run"], "marks": {"closing": _as_marks(one)}} for one in content["runs"].values()]
        return runs, {"closing": _as_marks(content["twin"])}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadFile(file, f"is no record of dreams ({error!r})") from error


def _as_marks(one: Mapping[str, Any]) -> dict[str, Any]:
    first, last, read = (np.array(one[name], np.float64) for name in ("first", "last", "read"))
    went = first - last
    return {
        "seeds": one["seeds"],
        "closed": ((first - read) / went).tolist(),
        "off": (np.abs(read - last) / went).tolist(),
    }


def dreams_report(folder: Path, block: str) -> dict[str, Any]:
    """Print what the whole dreams show, if they were looked at; the same as JSON values. Raises BadFile."""
    dreams = read_dreams(folder, block)
    if dreams is None:
        return {}
    runs, twin = dreams
    print("\nThe Google robot closes a drawer, read off dreamed pictures:\n" + table(runs, ("closing",), SKILL))
    own = {name: [value for _, value in measure(twin["closing"])] for name, (measure, _) in SKILL.items()}
    ceiling = {name: float(np.mean(values)) for name, values in own.items()}
    print("the twin's own pictures, read alike: " + ", ".join(f"{name} {100 * v:.1f}" for name, v in ceiling.items()))
    told = skill_verdicts(runs)
    say(told)
    diets = [diet for diet in DIETS if of_diet(runs, diet)]
    values = {name: {d: means(runs, d, "closing", measure) for d in diets} for name, (measure, _) in SKILL.items()}
    return {"values": values, "twin": ceiling, "bar": told}


def say(told: Mapping[str, bool | None]) -> None:
    """Print verdicts."""
    for name, verdict in told.items():
        print(f"{name}: {({None: 'not known yet', True: 'pass', False: 'FAIL'})[verdict]}")


def report(folder: Path) -> dict[str, Any]:
    """Print what is known; the same as JSON values. Raises BadFile."""
    records = read_records(folder)
    if not records:
        print(f"{folder}: no run is finished yet; benchmarks/joint_training.py makes them")
        return {"runs": 0}
    settings = records[0]["settings"]
    seconds = sum(one["seconds"]["training"] + one["seconds"]["judging"] for one in records)
    print(
        f"{len(records)} runs of {settings['steps']} updates, {seconds / 60:.0f} minutes; "
        f"recordings of block {settings['block']}"
    )
    print("mean (least .. most of the seeds) [95 % interval over seeds and recordings]\n")
    print(table(records, BODIES, FOLLOWED), table(records, tuple(NOVEL), FOLLOWED), sep="\n\n")
    print("\nThe Google robot closes a drawer:\n" + table(records, ("closing",), SKILL) + "\n")
    for body in BODIES:
        both = {diet: balanced(records, diet, body) for diet in (body, SEEN) if of_diet(records, diet)}
        words = (
            f"{diet} {_number(float(np.mean(v)), '%')} ({_number(min(v), '%')} .. {_number(max(v), '%')})"
            for diet, v in both.items()
            if v
        )
        if any(both.values()):
            print(f"{body}, mean of found and left alone: {', '.join(words)}")
    told = verdicts(records)
    say(told)
    measures = {"found": found, "left": left, "path": path, "closed": closed, "way": way}
    values = {
        exam: {
            name: {diet: means(records, diet, exam, measure) for diet in DIETS if of_diet(records, diet)}
            for name, measure in measures.items()
        }
        for exam in records[0]["marks"]
    }
    dreams = dreams_report(folder, settings["block"])
    about = {"runs": len(records), "seconds": seconds, "settings": settings}
    return {**about, "values": values, "bar": told, "dreams": dreams}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out") / "joint_training", help="the comparison's folder")
    args = parser.parse_args()
    report(args.out)


if __name__ == "__main__":
    main()
