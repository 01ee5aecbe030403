"""What the comparison of prompt forms has found so far: a table, the bar's verdict and a contact sheet.

    python benchmarks/prompt_forms_report.py --out out/prompt_forms

The bar, fixed beforehand: under random cameras text < raw action < skeleton in the overlap of robot masks, and the
other way round in the distance of video features, outside the seeds' spread: the worst seed of the better form is
better than the best seed of the worse one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from harness import write_sheet
from prompt_forms_runs import BASELINES, DREAMS

from vap_sim.errors import BadFile
from vap_sim.models.checkpoint import load_tensors

BAR_FORMS = ("text", "raw_action", "skeleton")
"""From the worst to the best, as the paper has them."""
MEASURES: Mapping[str, tuple[str, bool]] = {
    "st_iou": ("robot-mask ST-IoU", True),
    "distance": ("video-feature distance", False),
    "motion": ("motion ST-IoU", True),
}
"""Column by measure, and whether more is better; the first two have bars."""
JUDGED = ("st_iou", "distance")
LEAST_SEEDS = 2
SHEET_CLIPS = 3


@dataclass(frozen=True)
class Spread:
    """One measure of one form: its value for each seed."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    def __str__(self) -> str:
        return f"{self.mean:.4f} ({min(self.values):.4f} .. {max(self.values):.4f})"


def apart(worse: Spread, better: Spread, rising: bool) -> bool | None:
    """Whether every seed of one form beats every seed of the other; None where there are too few seeds to tell.

    rising: more is better.
    """
    if min(len(worse.values), len(better.values)) < LEAST_SEEDS:
        return None
    return min(better.values) > max(worse.values) if rising else max(better.values) < min(worse.values)


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The records of all finished runs in a folder. Raises BadFile for a damaged one, or where settings differ."""
    records: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*_*_*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            run, found = record["run"], record["scores"]
            whole = path.stem == f"{run['cameras']}_{run['form']}_{run['seed']}" and all(
                isinstance(found[name], float) for name in MEASURES
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadFile(path, f"is not the record of a run ({error!r})") from error
        if not whole:
            raise BadFile(path, f"is the record of {run}, or one of {list(MEASURES)} is no number")
        if records and any(record[name] != records[0][name] for name in ("settings", "episodes", "clips")):
            raise BadFile(path, "is of another comparison than the records before it: settings or data differ")
        records.append(record)
    return records


def spreads(records: Sequence[Mapping[str, Any]], cameras: str, measure: str) -> dict[str, Spread]:
    """One measure under one kind of camera, by form."""
    found: dict[str, list[float]] = {}
    for record in records:
        if record["run"]["cameras"] == cameras:
            found.setdefault(record["run"]["form"], []).append(float(record["scores"][measure]))
    return {form: Spread(tuple(values)) for form, values in found.items()}


def verdicts(records: Sequence[Mapping[str, Any]]) -> dict[str, bool | None]:
    """The bar, pair by pair: True, False, or None where runs are missing."""
    told: dict[str, bool | None] = {}
    for measure in JUDGED:
        name, rising = MEASURES[measure]
        found = spreads(records, "random", measure)
        for worse, better in pairwise(BAR_FORMS):
            both = worse in found and better in found
            told[f"{name}: {better} better than {worse}"] = apart(found[worse], found[better], rising) if both else None
    return told


def with_one_camera(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether raw action or skeleton wins where there is but one camera, measure by measure, in words."""
    lines = []
    for measure in JUDGED:
        name, rising = MEASURES[measure]
        found = spreads(records, "fixed", measure)
        if "raw_action" not in found or "skeleton" not in found:
            lines.append(f"{name}, fixed camera: not measured yet")
            continue
        raw, drawn = found["raw_action"], found["skeleton"]
        wins = (raw.mean > drawn.mean) == rising
        clear = apart(drawn, raw, rising) if wins else apart(raw, drawn, rising)
        how = {True: "outside the seeds' spread", False: "within the seeds' spread", None: "with too few seeds to tell"}
        lines.append(f"{name}, fixed camera: {'raw action' if wins else 'skeleton'} wins, {how[clear]}")
    return lines


def table(records: Sequence[Mapping[str, Any]], baselines: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Forms by cameras, each measure as mean (least .. most) over seeds; below each kind of camera its baselines."""
    cells = [["cameras", "form", *(name for name, _ in MEASURES.values()), "seeds"]]
    for kind in ("random", "fixed"):
        found = {measure: spreads(records, kind, measure) for measure in MEASURES}
        known = list(found["st_iou"])
        order = [form for form in BAR_FORMS if form in known] + [form for form in known if form not in BAR_FORMS]
        for form in order:
            row = [str(found[measure][form]) for measure in MEASURES]
            cells.append([kind, form, *row, str(len(found["st_iou"][form].values))])
        for name, values in baselines.get(kind, {}).items():
            cells.append([kind, f"({name})", *(f"{values[measure]:.4f}" for measure in MEASURES), ""])
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def read_baselines(folder: Path) -> dict[str, Any]:
    """Baselines by kind of camera, as far as they are there. Raises BadFile."""
    found = {}
    for path in sorted(folder.glob(f"{BASELINES}-*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found[path.stem.removeprefix(f"{BASELINES}-")] = {
                name: {measure: float(values[measure]) for measure in MEASURES} for name, values in content.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadFile(path, f"is no record of baselines ({error!r})") from error
    return found


def sheet(folder: Path, records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Truth and the dreams of every form, of the least seed there is, for a few held-out clips."""
    lines: list[tuple[str, Sequence[np.ndarray]]] = []
    for kind in ("random", "fixed"):
        truth = folder / f"truth-{kind}.safetensors"
        if not truth.is_file():
            continue
        films = {"truth": load_tensors(truth)[0][DREAMS]}
        runs = [record["run"] for record in records if record["run"]["cameras"] == kind]
        for form in [*BAR_FORMS[::-1], "mesh", "depth"]:
            seeds = [run["seed"] for run in runs if run["form"] == form]
            if seeds:
                dreams = load_tensors(folder / f"{kind}_{form}_{min(seeds)}.safetensors")[0][DREAMS]
                films[f"{form}, seed {min(seeds)}"] = dreams
        for clip in range(min(SHEET_CLIPS, *(len(one) for one in films.values()))):
            lines += [(f"{kind} camera, clip {clip}: {name}", list(one[clip].numpy())) for name, one in films.items()]
    if lines:
        write_sheet(path, lines)


def report(folder: Path, picture: Path) -> dict[str, Any]:
    """Print what is known and draw the contact sheet; the same as JSON values. Raises BadFile, OSError."""
    records, baselines = read_records(folder), read_baselines(folder)
    if not records:
        print(f"{folder}: no run is finished yet; benchmarks/prompt_forms.py makes them")
        return {"runs": 0}
    told, one = verdicts(records), with_one_camera(records)
    seconds = sum(sum(record["seconds"].values()) for record in records)
    print(f"{len(records)} runs of {records[0]['settings']['steps']} steps, {records[0]['clips']} held-out clips")
    print(table(records, baselines))
    for name, verdict in told.items():
        print(f"{name}: {({None: 'not known yet', True: 'pass', False: 'FAIL'})[verdict]}")
    print("\n".join(one))
    sheet(folder, records, picture)
    known = {
        kind: {measure: {f: s.values for f, s in spreads(records, kind, measure).items()} for measure in MEASURES}
        for kind in ("random", "fixed")
    }
    return {
        "runs": len(records),
        "seconds": seconds,
        "values": known,
        "bar": told,
        "fixed": one,
        "baselines": baselines,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out") / "prompt_forms", help="the comparison's folder")
    parser.add_argument("--sheet", type=Path, help="the contact sheet; OUT/sheet.png if left out")
    args = parser.parse_args()
    report(args.out, args.sheet or args.out / "sheet.png")


if __name__ == "__main__":
    main()
