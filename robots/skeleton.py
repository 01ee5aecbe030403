"""Which points of a robot make up its skeleton, which bones join them, and in which colours."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vap_sim.errors import BadFile, InvalidInput, UnknownName, VAPSimError
from vap_sim.robots.kinematics import Robot

GROUPS = ("arm", "gripper", "plumb")


@dataclass(frozen=True)
class KeyPoint:
    """A point fixed to a link at `offset` [m] in its frame. `ground` drops it to z = 0 of the base frame."""

    name: str
    link: str
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ground: bool = False


@dataclass(frozen=True)
class Bone:
    """A line between two key points, by name; `group` is one of arm, gripper, plumb; `color` RGB 0..255; `radius` [m]
    of the limb around it, None where that is not told."""

    start: str
    end: str
    group: str
    color: tuple[int, int, int]
    radius: float | None = None


@dataclass(frozen=True)
class SkeletonSpec:
    """P key points and the bones between them. Raises InvalidInput or UnknownName where the two do not fit."""

    points: tuple[KeyPoint, ...]
    bones: tuple[Bone, ...]
    _cache: dict[object, tuple[Tensor, Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        names = [point.name for point in self.points]
        if not names or len(set(names)) != len(names):
            raise InvalidInput("key points of a skeleton", names, "at least one, with distinct names")
        for point in self.points:
            if len(point.offset) != 3 or not all(math.isfinite(v) for v in point.offset):
                raise InvalidInput(f"offset of key point {point.name!r}", point.offset, "three finite numbers")
        for bone in self.bones:
            for end in (bone.start, bone.end):
                if end not in names:
                    raise UnknownName("key point of a bone", end, names)
            if bone.group not in GROUPS:
                raise UnknownName("bone group", bone.group, GROUPS)
            if len(bone.color) != 3 or not all(isinstance(v, int) and 0 <= v <= 255 for v in bone.color):
                raise InvalidInput(f"color of bone {bone.start}-{bone.end}", bone.color, "three integers 0..255")
            if bone.radius is not None and not 0 < bone.radius < math.inf:
                raise InvalidInput(f"radius of bone {bone.start}-{bone.end}", bone.radius, "metres above 0")

    def point_index(self, name: str) -> int:
        """Position of a key point in `points`. Raises UnknownName."""
        names = [point.name for point in self.points]
        if name not in names:
            raise UnknownName("key point", name, names)
        return names.index(name)

    def positions(self, robot: Robot, T_base_link: Tensor) -> Tensor:
        """Key points in the base frame: T_base_link (*b, L, 4, 4) -> (*b, P, 3) [m].

        Raises UnknownName when a key point sits on a link the robot lacks.
        """
        key = (robot.link_names, T_base_link.dtype, T_base_link.device)
        if key not in self._cache:
            # Tensors born in inference mode could never take part in a gradient later.
            with torch.inference_mode(False):
                self._cache[key] = self._tables(robot, T_base_link)
        links, offsets, keep = self._cache[key]
        poses = T_base_link.index_select(-3, links)
        return ((poses[..., :3, :3] * offsets).sum(-1) + poses[..., :3, 3]) * keep

    def _tables(self, robot: Robot, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        links = torch.tensor([robot.link_index(p.link) for p in self.points], device=like.device)
        offsets = like.new_tensor([p.offset for p in self.points])[:, None]
        return links, offsets, like.new_tensor([(1.0, 1.0, 0.0 if p.ground else 1.0) for p in self.points])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives an equal skeleton back."""
        points = [
            {"name": p.name, "link": p.link, "offset": list(p.offset), **({"ground": True} if p.ground else {})}
            for p in self.points
        ]
        bones: list[dict[str, Any]] = []
        for b in self.bones:
            thick = {} if b.radius is None else {"radius": b.radius}
            bones.append({"start": b.start, "end": b.end, "group": b.group, "color": list(b.color), **thick})
        return {"points": points, "bones": bones}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> SkeletonSpec:
        """A skeleton from JSON values. Raises InvalidInput or UnknownName, naming the entry at fault."""
        points = tuple(_point(v) for v in _entries(values, "points"))
        return SkeletonSpec(points, tuple(_bone(v) for v in _entries(values, "bones")))

    @staticmethod
    def load(path: str | Path) -> SkeletonSpec:
        """A skeleton from a JSON file. Raises BadFile with the entry at fault."""
        try:
            return SkeletonSpec.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except OSError as error:
            raise BadFile(path, f"cannot be read ({error.strerror})") from error
        except json.JSONDecodeError as error:
            raise BadFile(path, f"is not JSON ({error})") from error
        except VAPSimError as error:
            raise BadFile(path, str(error)) from error


def _entries(values: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    entries = values.get(name) if isinstance(values, Mapping) else None
    if not isinstance(entries, list) or not all(isinstance(v, Mapping) for v in entries):
        raise InvalidInput(f"skeleton field {name!r}", type(entries).__name__, "a list of objects")
    return entries


def _point(values: Mapping[str, Any]) -> KeyPoint:
    try:
        x, y, z = (float(v) for v in values.get("offset", (0, 0, 0)))
        return KeyPoint(str(values["name"]), str(values["link"]), (x, y, z), bool(values.get("ground", False)))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput("key point", dict(values), f"name, link, offset of three numbers ({error!r})") from error


def _bone(values: Mapping[str, Any]) -> Bone:
    try:
        r, g, b = values["color"]
        radius = None if values.get("radius") is None else float(values["radius"])
        return Bone(str(values["start"]), str(values["end"]), str(values["group"]), (r, g, b), radius)
    except (KeyError, TypeError, ValueError) as error:
        expected = f"start, end, group, color of three integers, perhaps radius in metres ({error!r})"
        raise InvalidInput("bone", dict(values), expected) from error
