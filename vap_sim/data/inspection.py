"""A summary of recordings, gathered episode by episode: what is in them, what they lack and for what, what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vap_sim.data.checks import KINDS, Finding, arm_joints
from vap_sim.data.dataset import Dataset, Refused
from vap_sim.data.episode import Episode
from vap_sim.data.joints_from_tool import with_joints
from vap_sim.errors import VAPSimError
from vap_sim.robots.library import RobotModel

FIELDS = (
    "joints", "gripper", "tool", "joint_targets", "actions", "cameras", "instruction", "success", "robot"
)  # fmt: skip
_EXAMPLES = 5
_DAMAGED_JOINTS = ("joint count", "degrees")

USES: Mapping[str, str] = {
    "calibrate": "find where cameras stand: pictures, joints, a robot",
    "prepare": "draw prompts on pictures: the same, and a camera for every view, given or calibrated",
    "adapt": "fine-tune a model: what prepare gives",
}


@dataclass
class ViewSummary:
    """One camera's pictures: episodes that have it, sizes (width, height) and how often, episodes with its camera."""

    episodes: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    cameras: int = 0


@dataclass
class Inspection:
    """What was seen of a dataset so far; `add` takes an episode more. Counts only, so that its size is not that of the
    dataset; the examples are the first of their kind."""

    path: Path
    format: str
    robot: RobotModel | None
    listed: int
    episodes: int = 0
    frames: int = 0
    seconds: float = 0.0
    shortest: tuple[int, str] | None = None
    longest: tuple[int, str] | None = None
    rates: Counter[float] = field(default_factory=Counter)
    views: dict[str, ViewSummary] = field(default_factory=dict)
    fields: Counter[str] = field(default_factory=Counter)
    joint_counts: Counter[int] = field(default_factory=Counter)
    action_names: Counter[tuple[str, ...]] = field(default_factory=Counter)
    succeeded: int = 0
    instructions: dict[str, int] = field(default_factory=dict)
    further_instructions: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    usable: Counter[str] = field(default_factory=Counter)
    lacking: Counter[tuple[str, str]] = field(default_factory=Counter)
    faulty: int = 0
    found: dict[str, list[tuple[str, Finding]]] = field(default_factory=dict)
    found_in: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[str, str]] = field(default_factory=list)

    def add(self, given: Episode | Refused, findings: tuple[Finding, ...] = ()) -> None:
        """Count one episode, and what was found in it."""
        if isinstance(given, Refused):
            self.refused.append((given.name, str(given.error)))
            return
        self._count(given)
        self._keep(given.name, findings)
        self._judge(given, findings)

    def _count(self, episode: Episode) -> None:
        self.episodes += 1
        self.frames += episode.length
        self.seconds += episode.length / episode.frame_rate
        measured = episode.length, episode.name
        self.shortest = measured if self.shortest is None else min(self.shortest, measured)
        self.longest = measured if self.longest is None else max(self.longest, measured)
        self.rates[episode.frame_rate] += 1
        for name, footage in episode.views.items():
            view = self.views.setdefault(name, ViewSummary())
            view.episodes += 1
            view.sizes[footage.size] += 1
            view.cameras += name in episode.cameras
        for name in FIELDS:
            value = getattr(episode, name)
            self.fields[name] += value is not None and not (isinstance(value, str | dict) and not value)
        if episode.joints is not None:
            self.joint_counts[episode.joints.shape[1]] += 1
        if episode.action_names:
            self.action_names[episode.action_names] += 1
        self.succeeded += episode.success is True
        if episode.instruction in self.instructions or len(self.instructions) < 1000:
            self.instructions[episode.instruction] = self.instructions.get(episode.instruction, 0) + 1
        else:
            self.further_instructions += 1
        self.notes.update(episode.notes)

    def _keep(self, name: str, findings: tuple[Finding, ...]) -> None:
        self.faulty += any(finding.error for finding in findings)
        self.found_in.update({finding.kind for finding in findings})
        for finding in findings:
            examples = self.found.setdefault(finding.kind, [])
            if len(examples) < _EXAMPLES:
                examples.append((name, finding))

    def _judge(self, episode: Episode, findings: tuple[Finding, ...]) -> None:
        """For what the episode can be used, and what it lacks for the rest."""
        kinds = {finding.kind for finding in findings}
        lacks = []
        if not episode.views:
            lacks.append("pictures")
        if _without_joints(episode, self.robot):
            lacks.append("joints")
        elif self.robot is not None and not _fits(episode, self.robot):
            lacks.append(f"joints that fit {self.robot.name}")
        elif kinds & set(_DAMAGED_JOINTS):
            lacks.append("joints in radians")
        if self.robot is None and episode.robot is None:
            lacks.append("a robot: name one with --robot")
        if kinds & {"unreadable", "length"}:
            lacks.append("a video that fits its log")
        without = [view for view in episode.views if view not in episode.cameras]
        cameras = [f"cameras of {', '.join(without)}: run vap-sim calibrate"] if without else []
        for use, missing in (("calibrate", lacks), ("prepare", [*lacks, *cameras]), ("adapt", [*lacks, *cameras])):
            self.usable[use] += not missing
            self.lacking.update((use, what) for what in missing)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "path": str(self.path),
            "format": self.format,
            "robot": None if self.robot is None else self.robot.name,
            "episodes": {"listed": self.listed, "read": self.episodes, "refused": len(self.refused)},
            "frames": self.frames,
            "seconds": self.seconds,
            "shortest": self.shortest,
            "longest": self.longest,
            "rates": {f"{rate:g}": count for rate, count in self.rates.items()},
            "views": {
                name: {
                    "episodes": view.episodes,
                    "sizes": {f"{width}x{height}": count for (width, height), count in view.sizes.items()},
                    "cameras": view.cameras,
                }
                for name, view in self.views.items()
            },
            "fields": {name: self.fields[name] for name in FIELDS},
            "joint_counts": {str(count): episodes for count, episodes in self.joint_counts.items()},
            "action_names": [list(names) for names, _ in self.action_names.most_common(_EXAMPLES)],
            "succeeded": self.succeeded,
            "instructions": dict(sorted(self.instructions.items(), key=lambda pair: -pair[1])),
            "usable": {use: self.usable[use] for use in USES},
            "lacking": [
                {"for": use, "what": what, "episodes": count} for (use, what), count in self.lacking.most_common()
            ],
            "findings": [
                {
                    "kind": kind,
                    "episodes": self.found_in[kind],
                    "examples": [
                        {"episode": name, "field": f.field, "message": f.message, "error": f.error}
                        for name, f in self.found[kind]
                    ],
                }
                for kind in KINDS
                if kind in self.found
            ],
            "refused": [{"episode": name, "reason": reason} for name, reason in self.refused],
            "notes": dict(self.notes.most_common(50)),
        }


def started(dataset: Dataset, robot: RobotModel | None) -> Inspection:
    """An inspection of which nothing is done yet."""
    return Inspection(dataset.path, dataset.format, robot, len(dataset.names))


def _without_joints(episode: Episode, robot: RobotModel | None) -> bool:
    """Whether joints are neither logged nor to be found from the tool."""
    if episode.joints is not None or robot is None:
        return episode.joints is None
    try:
        return with_joints(episode, robot).joints is None
    except VAPSimError:  # a pose that is not reached, a link that is not there: `prepare` will say so
        return True


def _fits(episode: Episode, robot: RobotModel) -> bool:
    return episode.joints is None or episode.joints.shape[1] == len(arm_joints(robot))
