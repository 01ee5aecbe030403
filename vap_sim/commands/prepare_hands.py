"""`vap-sim prepare-hands`: from a video of hands to clips with prompts, as `vap-sim prepare` makes them of a
robot's.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tqdm import tqdm
from tyro.conf import Positional

from vap_sim.errors import InvalidInput

if TYPE_CHECKING:
    from vap_sim.data.footage import VideoFootage
    from vap_sim.data.prepared import PreparedSet
    from vap_sim.extraction.hand_clips import ClipSettings
    from vap_sim.extraction.hand_detection import Box, HandDetection, HandDetector, Picture
    from vap_sim.extraction.hands import HandMotion

MEDIAPIPE = "mediapipe"


@dataclass(frozen=True)
class PrepareHands:
    """Find hands in a video and write clips with prompts. Example: vap-sim prepare-hands a.mp4 --out hands

    What was found is kept beside the clips: the same command goes on where it was interrupted.

    Attributes:
        video: Film of a person's hands.
        out: Folder for the clips.
        detector: mediapipe, which runs in an environment of its own; a file NAME.npz or NAME.json of key points that
            something else found; or a file NAME.py that lets another detector speak (docs/hands.md).
        python: Interpreter of the detector's environment, by default that of VAP_SIM_MEDIAPIPE_PYTHON.
        size: Width and height of the clips [px].
        frame_rate: Of the clips [Hz], the video's own if not given.
        shortest: Frames of a clip at least.
        longest: Frames of a clip at most.
        focal: Of the video's camera [px]; assumed, and said so, if not given.
        mirrored: The video is a mirror image, as selfies are.
        second_look: Look again where a hand was lost.
        people: More than one person's hands are seen, so that two may be of one side.
    """

    video: Positional[Path]
    out: Path
    detector: str = MEDIAPIPE
    python: Path | None = None
    size: tuple[int, int] = (320, 192)
    frame_rate: float | None = None
    shortest: int = 8
    longest: int = 300
    focal: float | None = None
    mirrored: bool = False
    second_look: bool = True
    people: bool = False


def run(command: PrepareHands) -> Path:
    """Write clips, index, overlay, sheet and reasons, and return the folder.

    Raises BadFile, InvalidInput, HandWorkerError, OSError.
    """
    from vap_sim.data.footage import VideoFootage
    from vap_sim.data.video_file import video_frame_rate
    from vap_sim.extraction.hand_cleaning import Cleaning
    from vap_sim.extraction.hand_clips import ClipSettings
    from vap_sim.extraction.hands import HandSettings, join_hands

    form = ClipSettings(command.size, command.frame_rate, command.shortest, command.longest)
    footage, rate, name = VideoFootage(command.video), video_frame_rate(command.video), command.video.stem
    length = footage.length  # an error of the file comes before anything is written or started
    index = _index(command, form, name)
    settings = HandSettings(
        cleaning=Cleaning(person=not command.people), focal=command.focal, second_look=command.second_look
    )
    command.out.mkdir(parents=True, exist_ok=True)
    with _opened(command, footage, name) as detector:
        frames = tqdm(footage.frames(), total=length, unit="frame", desc="finding hands", dynamic_ncols=True)
        found = [detector.detect(frame, picture) for frame, picture in enumerate(frames)]
        with tqdm(unit="look", desc="looking again", dynamic_ncols=True) as bar:
            motion = join_hands(found, footage, rate, settings, _Counted(detector, bar))
        title = detector.name
    _write_clips(command, footage, motion, rate, form, index, name)
    _write_pictures(command, footage, motion, rate, name)
    video = {"file": command.video.name, "frames": length, "frame_rate": rate, "size": list(footage.size)}
    told = {"video": video, "detector": title, **motion.told()}
    _write(command.out / f"{name}.hands.json", json.dumps(told, indent=1) + "\n")
    return command.out


def _index(command: PrepareHands, form: ClipSettings, name: str) -> PreparedSet:
    """The folder's index without this video. Raises InvalidInput where the folder was made with other settings."""
    from vap_sim.data.prepared import INDEX, PreparedSet, open_prepared

    kept = {"kind": "hands", **json.loads(json.dumps(asdict(form)))}
    if not (command.out / INDEX).exists():
        return PreparedSet(command.out, kept)
    index = open_prepared(command.out)
    if dict(index.settings) != kept:
        raise InvalidInput("--out", f"{command.out}, made with {dict(index.settings)}", f"another folder for {kept}")
    return replace(
        index,
        finished=tuple(other for other in index.finished if other != name),
        clips=tuple(clip for clip in index.clips if clip.name.rpartition("_")[0] != name),
        left_out=tuple(part for part in index.left_out if part.name != name),
    )


@contextmanager
def _opened(command: PrepareHands, footage: VideoFootage, name: str) -> Iterator[HandDetector]:
    """The detector that the command names, with its log beside the clips."""
    from vap_sim.extraction.hand_files import read_hand_file
    from vap_sim.extraction.hand_log import open_log
    from vap_sim.extraction.hand_search import PlainDetector
    from vap_sim.extraction.hand_worker import HandWorker, open_mediapipe

    file = Path(command.detector)
    if command.mirrored and command.detector != MEDIAPIPE:
        raise InvalidInput(
            "--mirrored", command.detector, f"the detector {MEDIAPIPE!r}; others must know it themselves"
        )
    if file.suffix in (".npz", ".json"):
        yield read_hand_file(file)
        return
    if command.detector != MEDIAPIPE and file.suffix != ".py":
        raise InvalidInput("--detector", command.detector, f"{MEDIAPIPE!r}, or a file .npz, .json or .py")
    log = command.out / f"{name}.detections.jsonl"
    size = command.video.stat().st_size
    video = f"{command.video.name}, {size} bytes, {footage.length} frames of {footage.size}"
    if command.detector == MEDIAPIPE:
        with open_mediapipe(command.python, mirrored=command.mirrored) as detector:
            yield open_log(log, detector, video)
        return
    if command.python is None:
        raise InvalidInput("--python", None, f"the interpreter of the environment in which {file.name} runs")
    with HandWorker(command.python, file) as worker:
        yield open_log(log, PlainDetector(worker.look, worker.name), video)


@dataclass(frozen=True, eq=False)
class _Counted:
    """A detector whose looks move a progress bar."""

    detector: HandDetector
    bar: Any

    @property
    def name(self) -> str:
        return self.detector.name

    def detect(self, frame: int, picture: Picture, near: Box | None = None) -> tuple[HandDetection, ...]:
        self.bar.update()
        return self.detector.detect(frame, picture, near)


def _write_clips(
    command: PrepareHands,
    footage: VideoFootage,
    motion: HandMotion,
    rate: float,
    form: ClipSettings,
    index: PreparedSet,
    name: str,
) -> None:
    from vap_sim.data.prepared import SUFFIX, ClipEntry, save_clip
    from vap_sim.extraction.hand_clips import hand_clips, left_out

    entries = []
    for clip in hand_clips(footage, motion, rate, name, command.video.name, form):
        file = f"{quote(clip.name, safe='+=@')}{SUFFIX}"
        entry = ClipEntry(clip.name, file, clip.length, tuple(camera.name for camera in clip.cameras))
        save_clip(command.out / entry.file, clip)
        entries.append(entry)
    ours = re.compile(rf"{re.escape(quote(name, safe='+=@'))}_\d+{re.escape(SUFFIX)}")
    for stale in {path.name for path in command.out.iterdir()} - {entry.file for entry in entries}:
        if ours.fullmatch(stale):
            (command.out / stale).unlink()
    replace(
        index,
        finished=(*index.finished, name),
        clips=(*index.clips, *entries),
        left_out=(*index.left_out, *left_out(motion, rate, name, form)),
    ).save()


def _write_pictures(command: PrepareHands, footage: VideoFootage, motion: HandMotion, rate: float, name: str) -> None:
    import cv2
    import numpy as np

    from vap_sim.extraction.hand_overlay import contact_sheet, overlays, sheet_frames
    from vap_sim.viewer.video import write_mp4

    shown: list[np.ndarray] = []
    wanted = set(sheet_frames(footage.length))

    def passing() -> Iterator[np.ndarray]:
        for number, picture in enumerate(overlays(footage.frames(), motion)):
            if number in wanted:
                shown.append(picture)
            yield picture

    write_mp4(command.out / f"{name}.overlay.mp4", passing(), rate)
    written, png = cv2.imencode(".png", contact_sheet(shown)[:, :, ::-1])
    assert written
    _write(command.out / f"{name}.sheet.png", png.tobytes())


def _write(path: Path, content: str | bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(content if isinstance(content, bytes) else content.encode())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
