"""Are hands found, and are their joints where they are? Judged by marks that people made by hand.

    python benchmarks/hands.py --python hands-env/bin/python

Two figures: of the frames of the egocentric video that show a hand, how many get a skeleton (bar: 80 %); and how far
joints lie from the marks in video and photographs, in the longer side of the marked hand's box (bar: median 3 %).
A mark on a hand that was not found counts as infinitely far. No setting was fitted to the marks.
Needs the real recordings (VAP_SIM_REAL_DATA) and an environment with mediapipe (docs/hands.md); says so where they are
missing. What was found is kept in out/hands, so that a second run takes seconds. Writes out/hands/hands.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from vap_sim.data.footage import VideoFootage
from vap_sim.data.joint_log import real_data_folder
from vap_sim.data.video_file import video_frame_rate
from vap_sim.errors import BadFile
from vap_sim.extraction.hand_detection import Box, HandDetector
from vap_sim.extraction.hand_log import open_log
from vap_sim.extraction.hand_worker import PYTHON_VARIABLE, open_mediapipe
from vap_sim.extraction.hands import HandMotion, join_hands

MARKS = Path(__file__).parent / "marks" / "hand_keypoints.json"
SIDES = ("left", "right")
FINGERS = {
    "thumb": ("cmc", "mcp", "ip", "tip"),
    **dict.fromkeys(("index", "middle", "ring", "pinky"), ("mcp", "pip", "dip", "tip")),
}
JOINTS = ("wrist", *(f"{finger}_{joint}" for finger, joints in FINGERS.items() for joint in joints))


@dataclass(frozen=True)
class Miss:
    """How far a joint lies from its mark. share: of the longer side of the marked box, infinite where the hand was not
    found; spread: how unsure the mark is, in the same unit; side: whether the hand was taken for one of its own
    side."""

    recording: str
    frame: int
    subject: str
    joint: str
    share: float
    spread: float
    side: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, help=f"interpreter with mediapipe; else {PYTHON_VARIABLE} names it")
    parser.add_argument("--out", type=Path, default=Path("out") / "hands")
    options = parser.parse_args()
    data = real_data_folder()
    if data is None:
        sys.exit("skipped: no real recordings; VAP_SIM_REAL_DATA names their folder")
    if options.python is None and not os.environ.get(PYTHON_VARIABLE):
        sys.exit(f"skipped: no environment with mediapipe; --python or {PYTHON_VARIABLE} names it (docs/hands.md)")
    marks = json.loads(MARKS.read_text(encoding="utf-8"))
    options.out.mkdir(parents=True, exist_ok=True)
    with open_mediapipe(options.python) as detector:
        motions = {name: _motion(data / "hands" / name, detector, options.out) for name in _videos(marks)}
        misses = [*_in_videos(marks, motions), *_in_photographs(marks, data / "hands", detector)]
    shown = {name: _shown(marks, name, motion) for name, motion in motions.items()}
    _report(shown, misses)
    record = {"shown": shown, "misses": [asdict(miss) for miss in misses]}
    (options.out / "hands.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _videos(marks: Mapping[str, Any]) -> list[str]:
    return sorted({frame["recording"] for frame in marks["visible"]})


def _motion(path: Path, detector: HandDetector, out: Path) -> HandMotion:
    footage = VideoFootage(path)
    log = open_log(out / f"{path.stem}.detections.jsonl", detector, f"{path.name}, {path.stat().st_size} bytes")
    frames = tqdm(footage.frames(), total=footage.length, unit="frame", desc=path.name, mininterval=5)
    found = [log.detect(number, picture) for number, picture in enumerate(frames)]
    return join_hands(found, footage, video_frame_rate(path), detector=log)


def _shown(marks: Mapping[str, Any], name: str, motion: HandMotion) -> dict[str, list[int]]:
    """Frames that surely show a hand and hands in them, each: how many there are, and how many got a skeleton.

    Also the frames that surely show none, and how many of these got one.
    """
    frames, hands, empty = [], [], []
    for known in (frame for frame in marks["visible"] if frame["recording"] == name):
        got = [bool(side.there[known["frame"]]) for side in motion.sides]
        seen = [known[side] for side in SIDES]
        hands += [there for there, sure in zip(got, seen, strict=True) if sure is True]
        if any(sure is True for sure in seen):
            frames.append(any(there for there, sure in zip(got, seen, strict=True) if sure is True))
        empty += [there for there, sure in zip(got, seen, strict=True) if sure is False]
    return {
        "frames": [len(frames), sum(frames)], "hands": [len(hands), sum(hands)], "absent": [len(empty), sum(empty)],
    }  # fmt: skip


def _in_videos(marks: Mapping[str, Any], motions: Mapping[str, HandMotion]) -> Iterator[Miss]:
    for subject in (one for one in marks["subjects"] if one["recording"] in motions):
        points = motions[subject["recording"]].points()[subject["frame"], SIDES.index(subject["side"])]
        yield from _misses(subject, points if np.isfinite(points).all() else None, True)


def _in_photographs(marks: Mapping[str, Any], folder: Path, detector: HandDetector) -> Iterator[Miss]:
    """Of single pictures: the find that overlaps the marked box best is the marked hand."""
    found: dict[str, Any] = {}
    videos = _videos(marks)
    for subject in (one for one in marks["subjects"] if one["recording"] not in videos):
        name = subject["recording"]
        if name not in found:
            picture = cv2.imread(str(folder / name))
            if picture is None:
                raise BadFile(folder / name, "is not a picture")
            found[name] = detector.detect(0, np.ascontiguousarray(picture[:, :, ::-1]))
        box = Box(*map(float, subject["box"]))
        best = max(found[name], key=lambda hand: hand.box.overlap(box), default=None)
        if best is not None and best.box.overlap(box) < 0.1:
            best = None
        yield from _misses(subject, None if best is None else best.points, best is None or best.side == subject["side"])


def _misses(subject: Mapping[str, Any], points: np.ndarray | None, side: bool) -> Iterator[Miss]:
    left, top, right, bottom = subject["box"]
    size = max(right - left, bottom - top)
    for joint, (x, y, spread, _) in subject["points"].items():
        share = math.inf if points is None else float(np.hypot(*(points[JOINTS.index(joint)] - (x, y)))) / size
        yield Miss(subject["recording"], subject["frame"], subject["subject"], joint, share, spread / size, side)


def _report(shown: Mapping[str, Mapping[str, Sequence[int]]], misses: Sequence[Miss]) -> None:
    texts = {"frames": "frames with a visible hand", "hands": "visible hands", "absent": "hands that are not there"}
    for name, counts in shown.items():
        for what, (total, got) in counts.items():
            share = f" ({got / total:.0%})" if total else ""
            print(f"{name}: {texts[what]}: {total}, with a skeleton: {got}{share}")
    rows = {"all marks": misses}
    for name in sorted({miss.recording for miss in misses}):
        rows[f"  {name}"] = [miss for miss in misses if miss.recording == name]
    heads = ("marks", "lost", "median", "found", "p90", "sides")
    print(f"\n{'distance from marks, share of box':36}" + "".join(f"{head:>8}" for head in heads))
    for title, some in rows.items():
        shares = [miss.share for miss in some]
        found = [share for share in shares if math.isfinite(share)]
        numbers = [statistics.median(shares), math.inf, math.inf]
        if found:
            numbers[1:] = [statistics.median(found), float(np.quantile(found, 0.9))]
        text = "".join(f"{number:8.1%}" if math.isfinite(number) else f"{'lost':>8}" for number in numbers)
        sides = statistics.mean(miss.side for miss in some)
        print(f"{title:36}{len(shares):8d}{len(shares) - len(found):8d}{text}{sides:8.0%}")
    print("`median` counts lost hands as infinitely far; `found` and `p90` leave them out; `sides`: told rightly.")
    print(f"the marks' own spread: median {statistics.median(miss.spread for miss in misses):.1%} of the box")


if __name__ == "__main__":
    main()
