"""Judged episodes as questions for the learned judge: each moment in each world, asked of its objects and tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vap_sim.commands.judge_episodes import JudgedEpisode, load_judged
from vap_sim.commands.judge_oracle import Shown, label, shown_in_dream, shown_in_twin
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.policies.judge import Evidence
from vap_sim.policies.judge_looking import ask, look
from vap_sim.policies.judge_network import TASKS
from vap_sim.policies.judge_table import TableGrid
from vap_sim.policies.judge_training import Questions
from vap_sim.robots.library import load_robot

SOURCES = ("twin", "dream")


@dataclass(frozen=True)
class Question:
    """What one question was about: seed and policy of its episode, source, task, moment, and whether it is the last;
    truth: whether it is done there; clear: whether that is beyond doubt."""

    seed: int
    policy: str
    source: str
    task: str
    moment: int
    last: bool
    truth: bool
    clear: bool


def evidence_of(episode: JudgedEpisode, source: str) -> Evidence:
    """All moments of an episode as a judge would see them, in the twin's pictures or in the dream's."""
    count = len(episode.steps)
    pictures, joints = (episode.twin, episode.measured) if source == "twin" else (episode.dream, episode.joints)
    return Evidence(
        first=np.repeat(episode.first[None], count, axis=0),
        last=pictures,
        joints=joints[:, 1],
        cameras=(episode.camera,) * count,
        tasks=(episode.task,) * count,
        instructions=(str(episode.meta["instruction"]),) * count,
    )


def shown_in(episode: JudgedEpisode, source: str) -> Shown:
    """The truth of an episode's moments in one source."""
    return shown_in_twin(episode) if source == "twin" else shown_in_dream(episode)


def episode_questions(episode: JudgedEpisode, *, every: bool) -> tuple[Questions, list[Question]]:
    """Questions of one episode about its own object and task, or with `every` about each object and possible task."""
    from vap_sim.envs.scenes import COLORS
    from vap_sim.envs.tasks import get_task

    model, grid, scene = load_robot(episode.meta["robot"]), TableGrid(), episode.meta["scene"]
    objects = scene["objects"] if every else scene["objects"][:1]
    tasks = [name for name in TASKS if name == "reach" or scene["goal"] is not None] if every else [episode.task]
    parts, told = [], []
    for source in SOURCES:
        shown, seen = shown_in(episode, source), look(evidence_of(episode, source), model, grid)
        for index, item in enumerate(objects):
            colors = torch.tensor([COLORS[item["color"]]]).expand(len(seen), 3)
            for task in tasks:
                labels = [label(shown, moment, get_task(task), index) for moment in range(len(seen))]
                asked = ask(seen, colors, [task] * len(seen), grid)
                asked = replace(asked, windows=(asked.windows * 255).round().to(torch.uint8))
                parts.append(
                    Questions(
                        asked=asked,
                        done=torch.tensor([float(item.success) for item in labels]),
                        weight=torch.tensor([float(item.clear) for item in labels]),
                        places=_places(episode, shown, index),
                        top=torch.full((len(seen),), float(item["size"][2])),
                        radius=torch.full((len(seen),), float("nan") if scene["goal"] is None else scene["goal"][2]),
                    )
                )
                told += [
                    Question(
                        int(episode.meta["seed"]), str(episode.meta["policy"]), source, task, moment,
                        moment == len(labels) - 1, item.success, item.clear,
                    )
                    for moment, item in enumerate(labels)
                ]  # fmt: skip
    return Questions.cat(parts), told


def load_questions(files: Sequence[Path], *, every: bool, progress: bool = True) -> tuple[Questions, list[Question]]:
    """Questions of all episodes. Raises BadFile for the first that is no good."""
    if not files:
        raise InvalidInput("episodes for judges", "none", "at least one")
    parts, told = [], []
    for path in tqdm(files, desc="reading episodes", unit="episode", disable=not progress, mininterval=5):
        episode = load_judged(path)
        try:
            questions, facts = episode_questions(episode, every=every)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise BadFile(path, f"its scene, camera or moments cannot be used ({error!r})") from error
        parts.append(questions)
        told += facts
    return Questions.cat(parts), told


def _places(episode: JudgedEpisode, shown: Shown, index: int) -> Tensor:
    """(M, 4, 2) [m] where the object was in the first, the last but one and the last picture, and the goal."""
    scene, count = episode.meta["scene"], len(episode.steps)
    item, goal = scene["objects"][index], scene["goal"]
    begun: NDArray[np.float64] = np.repeat(np.array([[item["x"], item["y"]]]), count, axis=0)
    disc = np.full((count, 2), np.nan) if goal is None else np.repeat(np.array([goal[:2]]), count, axis=0)
    places = np.stack([begun, shown.before[:, index], shown.places[:, index], disc], axis=1)
    return torch.from_numpy(places).float()
