"""The robot of docs/new_body.md: its folder, made by what the page says, and whether the drawing lies on the robot."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from harness import episode_camera
from torch.nn import functional as F

from vap_sim.data.twin import TwinEpisode
from vap_sim.errors import BadFile
from vap_sim.metrics.masks import Scores, scores
from vap_sim.prompts.silhouette import silhouettes
from vap_sim.robots.library import SHELVES_VARIABLE, RobotModel, load_robot

PAGE = Path(__file__).resolve().parents[1] / "docs" / "new_body.md"
NAME = "xarm6"
_SHELF = "my_robots"


@dataclass(frozen=True)
class Page:
    """What a reader copies from the page: the program that makes the folder, and the text of its two data files and of
    a station's cameras."""

    program: str
    robot: str
    skeleton: str
    station: str


def read_page(path: Path = PAGE) -> Page:
    """The blocks of the page. Raises BadFile where it has not one program and three data files."""
    text = path.read_text(encoding="utf-8")
    blocks = {
        kind: re.findall(rf"^```{kind}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) for kind in ("python", "json")
    }
    if (len(blocks["python"]), len(blocks["json"])) != (1, 3):
        given = ", ".join(f"{len(found)} of {kind}" for kind, found in blocks.items())
        raise BadFile(path, f"has blocks of code: {given}; expected 1 of python, 3 of json")
    return Page(blocks["python"][0], *blocks["json"])


def make_folder(place: Path, page: Page) -> Path:
    """Do what the page says in `place`; returns the folder of robots. Raises BadFile where its program fails."""
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([sys.executable, "-c", page.program], cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BadFile(PAGE, f"its program fails: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    shelf = place / _SHELF
    (shelf / NAME / "robot.json").write_text(page.robot, encoding="utf-8")
    (shelf / NAME / "skeleton.json").write_text(page.skeleton, encoding="utf-8")
    return shelf


@contextmanager
def known_by_name(shelf: Path) -> Iterator[RobotModel]:
    """Meanwhile the robots of a shelf are known by name, here and in new processes; gives the page's own."""
    before = os.environ.get(SHELVES_VARIABLE)
    os.environ[SHELVES_VARIABLE] = str(shelf.resolve())
    try:
        yield load_robot(NAME)
    finally:
        if before is None:
            del os.environ[SHELVES_VARIABLE]
        else:
            os.environ[SHELVES_VARIABLE] = before


@dataclass(frozen=True, eq=False)
class Drawn:
    """How well a drawing lies on the robot of an episode, a value a frame: overlap of the outline's inside with the
    robot that is seen; share of that robot inside the outline; share of the key points in the picture on the robot."""

    overlap: Scores
    inside: Scores
    points: Scores


def drawn_over(model: RobotModel, episode: TwinEpisode, every: int = 5) -> Drawn:
    """What `vap-sim preview` draws, against the exact masks of the twin at the joints that physics arrived at.

    The robot is judged where no object hides it. Points on the ground and in mid air, on links without a shape, are not
    judged.
    """
    camera = episode_camera(episode)
    q = torch.from_numpy(np.ascontiguousarray(episode.measured[::every], np.float32))
    labels = torch.from_numpy(episode.labels[0, ::every])
    seen, free = labels == 1, labels < 2
    drawn = silhouettes(model, q[None], [camera])[0, 0] & free
    shared, united, robot = (area.sum((1, 2)) for area in (drawn & seen, drawn | seen, seen))
    on, among = _points_on(model, q, episode, seen, free)
    return Drawn(
        scores("overlap of the outline", shared / united, united > 0),
        scores("robot inside the outline", shared / robot, robot > 0),
        scores("key points on the robot", on / among, among > 0),
    )


def _points_on(
    model: RobotModel, q: torch.Tensor, episode: TwinEpisode, seen: torch.Tensor, free: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """How many key points lie on the robot, or a pixel beside it, and how many could: (F,) each."""
    near = F.max_pool2d(seen.float(), 3, stride=1, padding=1) > 0
    poses = model.robot.forward(q)
    shaped = {model.robot.link_names[visual.link] for visual in model.robot.visuals}
    judged = [index for index, point in enumerate(model.skeleton.points) if not point.ground and point.link in shaped]
    xy, depth = episode_camera(episode).project(model.skeleton.positions(model.robot, poses)[:, judged], poses)
    column, row = xy.round().long().unbind(-1)
    height, width = seen.shape[1:]
    there = (depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    frame = torch.arange(len(q))[:, None].expand_as(row)
    column, row = column.clamp(0, width - 1), row.clamp(0, height - 1)
    there &= free[frame, row, column]
    return (there & near[frame, row, column]).sum(1), there.sum(1)
