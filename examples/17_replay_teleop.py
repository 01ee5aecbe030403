"""Recorded driving, its prompt and dreams of it side by side: of what was done, in two worlds, and of what was not.

`vap-sim replay FOLDER --worlds kinematic compact --altered mirrored` does the same with recordings of any known format.
Here one short episode is recorded in the twin first. Writes a film and a page to look through it into out/17_replay/.
"""

import json
import tempfile
from pathlib import Path

from vap_sim.commands.replay import RECORD, Replay
from vap_sim.commands.replay import run as replay
from vap_sim.envs.twin_recorder import RecorderSettings, record_file

SEED = 900_001


def main() -> None:
    out = Path("out") / "17_replay"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "driven"
        folder.mkdir()
        record_file(SEED, folder, RecorderSettings(steps=14))
        told = {"worlds": ("kinematic", "compact"), "altered": ("mirrored",), "views": ("exterior_1",), "threads": 1}
        said = replay(Replay(folder, out, **told))
        print(said.replace(name, "..."))

    record = json.loads((out / RECORD).read_text())
    print("step  PSNR moving: kinematic  compact  first picture   agreement: compact  recording   risk")
    done = {row["dream"]: row["steps"] for row in record["replays"] if row["actions"] == "recorded"}
    for number, (drawn, dreamt) in enumerate(zip(done["kinematic"], done["compact"], strict=True), start=1):
        figures = [drawn["moving"], dreamt["moving"], dreamt["copy"]]
        figures += [dreamt["agreement"], dreamt["agreement_recorded"], dreamt["risk"]]
        print(f"{number:4d}  " + "  ".join("      -" if value is None else f"{value:7.2f}" for value in figures))

    # The same start, the arm driven to the other side: nobody recorded that, so only its own prompt can judge it.
    other = record["mean"]["compact, mirrored"]
    print(f"mirrored: {other['apart']:.1f} grey levels from what was done, agreement {other['agreement']:.2f}")
    film = next(row["files"]["mp4"] for row in record["replays"])
    print(f"written: {out / film}, and {out / 'replay.html'} to look through it")


if __name__ == "__main__":
    main()
