"""`vap-sim inspect`: what is in recordings of any known format, what is missing and for what, and what is wrong."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm
from tyro.conf import Positional

from vap_sim.commands.outcome import Outcome
from vap_sim.errors import InvalidInput

if TYPE_CHECKING:
    from vap_sim.data.dataset import Dataset
    from vap_sim.data.episode import Episode
    from vap_sim.robots.library import RobotModel


@dataclass(frozen=True)
class Inspect:
    """Look into recordings before anything is done with them. Example: vap-sim inspect data/kitchen --out looked

    Writes OUT/inspection.json, and OUT/pictures.png with the first, middle and last frame of some episodes.

    Attributes:
        path: Recordings of any known format.
        out: Folder for what was found.
        robot: Name or folder of the robot that joints, limits, speeds and poses are checked against, where the
            recordings do not say.
        format: Format of the recordings, where it is not to be guessed.
        pictures: Decode every picture, to find frozen ones; without it lengths only are looked at, much faster.
        most: Read only so many episodes, evenly spread.
        rows: Episodes in the picture.
    """

    path: Positional[Path]
    out: Path = Path("inspection")
    robot: str | None = None
    format: str | None = None
    pictures: bool = True
    most: int | None = None
    rows: int = 8


def run(command: Inspect) -> Outcome:
    """Inspect, and return the report. Raises BadFile where the recordings as a whole cannot be read, UnknownName."""
    from vap_sim.data.checks import check_episode
    from vap_sim.data.dataset import Refused, open_dataset
    from vap_sim.data.inspection import started
    from vap_sim.data.inspection_text import report
    from vap_sim.errors import BadFile
    from vap_sim.viewer.contact_sheet import ContactSheet

    if command.rows < 0 or (command.most is not None and command.most < 1):
        raise InvalidInput("vap-sim inspect", f"{command.rows} rows, at most {command.most} episodes", "0, 1 or more")
    dataset = open_dataset(command.path, command.format)
    named = None if command.robot is None else _robot(command.robot)
    names = _spread(dataset, command.most)
    seen, sheet = started(dataset, named), ContactSheet()
    shown = set(_spread(dataset, command.rows)) if command.most is None else set(names[: command.rows])
    for name in tqdm(names, desc="inspecting", unit="episode", dynamic_ncols=True):
        try:
            episode = dataset.read(name)
            model = named or _model(episode)
            found = check_episode(episode, model, pictures=command.pictures)
        except BadFile as error:
            seen.add(Refused(name, error))
            continue
        seen.robot = seen.robot or model
        seen.add(episode, found)
        if name in shown:
            sheet.add(episode)
    command.out.mkdir(parents=True, exist_ok=True)
    figures, written = seen.to_dict(), [command.out / "inspection.json", command.out / "pictures.png"]
    _write(written[0], json.dumps(figures, indent=2, ensure_ascii=False).encode())
    _write(written[1], _png(sheet.draw()))
    return Outcome(f"{report(seen)}\nwritten: {written[0]}, {written[1]}", {**figures, "written": written})


def _spread(dataset: Dataset, most: int | None) -> list[str]:
    """At most so many names, evenly spread over the dataset."""
    names = dataset.names
    if most is None or most >= len(names):
        return list(names)
    return [names[k] for k in np.linspace(0, len(names) - 1, most).round().astype(int)]


def _robot(given: str) -> RobotModel:
    from vap_sim.robots.library import load_robot

    return load_robot(Path(given)) if Path(given).is_dir() else load_robot(given)


def _model(episode: Episode) -> RobotModel | None:
    """The ready robot that the episode names."""
    from vap_sim.robots.library import load_robot, robot_names

    return load_robot(str(episode.robot)) if episode.robot in robot_names() else None


def _png(picture: np.ndarray) -> bytes:
    import cv2

    return bytes(cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))[1])


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
