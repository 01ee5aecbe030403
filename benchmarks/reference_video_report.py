"""What the comparison of demonstrations has found so far: a table, the bar's verdict and a contact sheet.

    python benchmarks/reference_video_report.py --out out/reference_video

The bar, fixed beforehand: for every system, the share of dreams in which the demonstrated action is recognised is at
least two times chance (chance is 1 of 8) above that of the same model without demonstration, in the mean over seeds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import write_sheet
from prompt_forms_report import Spread
from reference_video_films import ACTIONS
from reference_video_runs import TRIALS
from reference_video_systems import BASE

from vap_sim.errors import BadFile
from vap_sim.models.checkpoint import load_tensors

CHANCE = 1 / len(ACTIONS)
BAR = 2 * CHANCE
"""How much more often than without demonstration the action must be recognised."""
SEEDS = 3
"""Seeds without which the bar's verdict is not known."""
JUDGED = "judged.json"
SHEET_ACTIONS = 8
COLUMNS: Mapping[str, tuple[str, str]] = {
    "right": ("right", "asked"),
    "wrong: as shown": ("wrong", "asked"),
    "wrong: own": ("wrong", "own"),
    "against caption: as shown": ("against", "asked"),
    "against caption: as told": ("against", "own"),
}
"""Column by trial and by what counts there: the demonstrated action, or the film's own."""


TRUTH = "truth.safetensors"
"""Held-out films beside the records, for the sheet."""


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The records of all finished runs in a folder. Raises BadFile for a damaged one, or where settings differ."""
    records: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*_*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            run, found = record["run"], record["found"]
            shares = [found[trial][what] for trial in TRIALS for what in ("asked", "own")]
            whole = path.stem == f"{run['system']}_{run['seed']}" and all(0 <= share <= 1 for share in shares)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadFile(path, f"is not the record of a run ({error!r})") from error
        if not whole:
            raise BadFile(path, f"is the record of {run}, or a share in it is none")
        if records and not _alike(record, records[0]):
            raise BadFile(path, "is of another comparison than the records before it: settings or films differ")
        records.append(record)
    return records


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two runs are of one comparison: what both depend on is the same."""
    mine, theirs = one["settings"], other["settings"]
    shared = mine.keys() & theirs.keys()
    return all(mine[name] == theirs[name] for name in shared) and all(
        one[name] == other[name] for name in ("films", "held")
    )


def spreads(records: Sequence[Mapping[str, Any]], trial: str, what: str) -> dict[str, Spread]:
    """A share by system, over seeds."""
    found: dict[str, list[float]] = {}
    for record in records:
        found.setdefault(record["run"]["system"], []).append(float(record["found"][trial][what]))
    return {system: Spread(tuple(values)) for system, values in found.items()}


def gains(records: Sequence[Mapping[str, Any]], trial: str = "right") -> dict[str, Spread]:
    """How much more often the demonstrated action is recognised than without demonstration, seed by seed."""
    shares = {(r["run"]["system"], r["run"]["seed"]): float(r["found"][trial]["asked"]) for r in records}
    found: dict[str, list[float]] = {}
    for (system, seed), share in shares.items():
        if system != BASE and (BASE, seed) in shares:
            found.setdefault(system, []).append(share - shares[BASE, seed])
    return {system: Spread(tuple(values)) for system, values in found.items()}


def verdicts(records: Sequence[Mapping[str, Any]]) -> dict[str, bool | None]:
    """The bar, system by system: True, False, or None where seeds are missing; and the same of wrong demonstrations."""
    told: dict[str, bool | None] = {}
    for trial, words in (("right", "shown its action"), ("wrong", "shown another one")):
        for system, gain in gains(records, trial).items():
            known = len(gain.values) >= SEEDS
            told[f"{system}, {words}: {BAR:.3f} above no demonstration"] = gain.mean >= BAR if known else None
    return told


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """Systems by trials, each share as mean (least .. most) over seeds."""
    cells = [["system", *COLUMNS, "seeds"]]
    found = {column: spreads(records, *where) for column, where in COLUMNS.items()}
    known = list(found["right"])
    for system in sorted(known, key=lambda name: (name != BASE, name)):
        cells.append(
            [system, *(str(found[column][system]) for column in COLUMNS), str(len(found["right"][system].values))]
        )
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def by_action(records: Sequence[Mapping[str, Any]]) -> str:
    """For every system and demonstrated action the share of dreams in which it is recognised, over all seeds."""
    lines = [f"{'recognised by action':24}" + "".join(f"{name:>12}" for name in ACTIONS)]
    for system in dict.fromkeys(record["run"]["system"] for record in records):
        counts = sum(
            np.asarray(record["found"]["right"]["confusion"]) for record in records if record["run"]["system"] == system
        )
        lines.append(f"{system:24}" + "".join(f"{share:12.2f}" for share in np.diag(counts) / np.sum(counts, axis=1)))
    return "\n".join(lines)


def judge_lines(folder: Path) -> list[str]:
    """How far the judge is to be trusted, in words. Raises BadFile."""
    path = folder / JUDGED
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        twin, codec = (told[name]["accuracy"] for name in ("twin", "codec"))
        lines = [
            f"The judge names {twin:.3f} of {told['films']} held-out twin films rightly, {codec:.3f} after the codec."
        ]
        width = max(map(len, ACTIONS))
        return lines + [f"  {name:{width}} {row}" for name, row in zip(ACTIONS, told["twin"]["confusion"], strict=True)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFile(path, f"is no record of the judge ({error!r})") from error


def sheet(folder: Path, records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """For every action a held-out film, and the dream of each system, of its least seed, that was shown the action."""
    films = {"twin": load_tensors(folder / TRUTH)[0]["right"]}
    for system in sorted({record["run"]["system"] for record in records}, key=lambda name: (name != BASE, name)):
        seed = min(record["run"]["seed"] for record in records if record["run"]["system"] == system)
        films[f"{system}, seed {seed}"] = load_tensors(folder / f"{system}_{seed}.safetensors")[0]["right"]
    lines = []
    for number, action in enumerate(ACTIONS):
        lines += [(f"{action}: {name}", list(some[number, ::2].numpy())) for name, some in films.items()]
    write_sheet(path, lines)


def report(folder: Path, picture: Path) -> dict[str, Any]:
    """Print what is known and draw the contact sheet; the same as JSON values. Raises BadFile, OSError."""
    records = read_records(folder)
    if not records:
        print(f"{folder}: no run is finished yet; benchmarks/reference_video.py makes them")
        return {"runs": 0}
    told = verdicts(records)
    seconds = sum(sum(record["seconds"].values()) for record in records)
    print("\n".join(judge_lines(folder)))
    print(f"{len(records)} runs, {seconds / 60:.0f} minutes; {records[0]['held']} dreams a trial; chance {CHANCE:.3f}")
    print(table(records))
    print(by_action(records))
    for name, verdict in told.items():
        print(f"{name}: {({None: 'not known yet', True: 'pass', False: 'FAIL'})[verdict]}")
    if (folder / TRUTH).is_file():
        sheet(folder, records, picture)
    else:  # records that were kept without their pictures
        print(f"{folder} holds no {TRUTH}, so no sheet is drawn")
    return {
        "runs": len(records),
        "seconds": seconds,
        "shares": {
            column: {system: spread.values for system, spread in spreads(records, *where).items()}
            for column, where in COLUMNS.items()
        },
        "gains": {system: spread.values for system, spread in gains(records).items()},
        "bar": told,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out") / "reference_video", help="the comparison's folder")
    parser.add_argument("--sheet", type=Path, help="the contact sheet; OUT/sheet.png if left out")
    args = parser.parse_args()
    report(args.out, args.sheet or args.out / "sheet.png")


if __name__ == "__main__":
    main()
