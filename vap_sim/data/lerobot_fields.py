"""What the columns of a LeRobot dataset mean: joints, gripper and tool, in which unit.

LeRobot names columns and keeps their units to itself: joints may be radians, degrees or percent of a range. They are
taken where their names state the unit (`shoulder_rad`), or where `meta/vap_sim.json` in the dataset, or the caller,
says what they are:

    {"robot": "panda_robotiq", "tool_link": "panda_link8", "fields": {
        "joints": {"feature": "observation.state", "columns": [0, 1, 2, 3, 4, 5, 6], "unit": "rad"},
        "gripper": {"feature": "observation.state", "columns": [7], "open": 0, "closed": 1},
        "tool": {"feature": "observation.tool", "form": "xyz rpy"}}}
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

from vap_sim.data.inside import inside
from vap_sim.data.lerobot_info import Feature, LeRobotInfo, read_json
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.robots.rotations import rpy_to_matrix

MAPPING = "meta/vap_sim.json"
UNITS: Mapping[str, float] = {"rad": 1.0, "m": 1.0, "si": 1.0, "deg": math.pi / 180, "mm": 1e-3}
"""Units of joints and what makes radians or metres of them; "si": each in the one that fits how it moves."""
FORMS: Mapping[str, int] = {"matrix": 16, "xyz rpy": 6, "xyz xyzw": 7, "xyz wxyz": 7}
"""Ways to write a pose [m, rad] and their number of columns; rpy turns about the fixed x, then y, then z."""
MEMBERS = ("joints", "gripper", "tool", "joint_targets")
_STATED = re.compile(r"(?:^|[ ._\[(])(rad|radians|deg|degrees)[\])]?$", re.IGNORECASE)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FieldSource:
    """Which columns of a feature fill a member of an episode; all of them where `columns` is None.

    unit: of joints, one of UNITS; form: of a tool's pose, one of FORMS; open, closed: values of the gripper there.
    """

    feature: str
    columns: tuple[int, ...] | None = None
    unit: str | None = None
    form: str | None = None
    open: float = 0.0
    closed: float = 1.0

    def __post_init__(self) -> None:
        if self.columns is not None and (not self.columns or min(self.columns) < 0):
            raise InvalidInput(f"columns of {self.feature!r}", self.columns, "numbers of columns, from 0")
        if self.unit is not None and self.unit not in UNITS:
            raise UnknownName("unit of joints", self.unit, UNITS)
        if self.form is not None and self.form not in FORMS:
            raise UnknownName("form of a pose", self.form, FORMS)
        if self.open == self.closed or not (math.isfinite(self.open) and math.isfinite(self.closed)):
            raise InvalidInput("gripper", f"open {self.open}, closed {self.closed}", "two different numbers")


@dataclass(frozen=True)
class FieldMap:
    """What fills which member of an episode; robot: name of a ready robot; notes: what could not be said."""

    sources: Mapping[str, FieldSource] = field(default_factory=dict)
    robot: str | None = None
    tool_link: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for member, source in self.sources.items():
            if member not in MEMBERS:
                raise UnknownName("member of an episode", member, MEMBERS)
            stated = {"tool": source.form, "gripper": "its ends"}.get(member, source.unit)
            if stated is None:
                what, known = ("form", FORMS) if member == "tool" else ("unit", UNITS)
                raise InvalidInput(f"field {member!r}", f"no {what}", f"one of {', '.join(known)}")


def field_map(info: LeRobotInfo) -> FieldMap:
    """What `meta/vap_sim.json` says, or else what the names of the columns do. Raises BadFile naming the field."""
    path = inside(info.root, MAPPING, "the meaning of columns")
    if path.exists():
        return _checked(info, path, _from_file(path))
    return _from_names(info)


def as_member(path: Path, member: str, source: FieldSource, values: Array) -> Array:
    """Rows (T, n) of a feature as the member of an episode. Raises BadFile where they have too few columns."""
    columns = tuple(range(values.shape[1])) if source.columns is None else source.columns
    if max(columns, default=0) >= values.shape[1]:
        raise BadFile(path, f"feature {source.feature!r} has {values.shape[1]} columns, {member} takes {columns}")
    values = values[:, columns]
    if member == "gripper":
        if len(columns) != 1:
            raise BadFile(path, f"feature {source.feature!r}: {len(columns)} columns for the gripper, expected one")
        position = (values[:, 0] - source.open) / (source.closed - source.open)
        return np.where(np.abs(position - 0.5) < 0.52, position.clip(0, 1), position)
    if member == "tool":
        return _poses(path, source, values)
    return values * UNITS[source.unit or "si"]


def _poses(path: Path, source: FieldSource, values: Array) -> Array:
    """(T, 4, 4) of poses in one of FORMS."""
    form = source.form or "matrix"
    if values.shape[1] != FORMS[form]:
        raise BadFile(path, f"feature {source.feature!r}: {values.shape[1]} columns, {form!r} has {FORMS[form]}")
    if form == "matrix":
        return values.reshape(-1, 4, 4)
    poses = np.tile(np.eye(4), (len(values), 1, 1))
    poses[:, :3, 3] = values[:, :3]
    if form == "xyz rpy":
        poses[:, :3, :3] = rpy_to_matrix(torch.from_numpy(values[:, 3:].copy())).numpy()
        return poses
    turns = values[:, 3:] if form == "xyz xyzw" else values[:, [4, 5, 6, 3]]
    lengths = np.linalg.norm(turns, axis=1)
    if not (lengths > 1e-6).all():
        frame = int(np.flatnonzero(~(lengths > 1e-6))[0])
        raise BadFile(path, f"feature {source.feature!r}: frame {frame} has a quaternion of length {lengths[frame]}")
    poses[:, :3, :3] = Rotation.from_quat(turns).as_matrix()
    return poses


def _from_file(path: Path) -> FieldMap:
    values = read_json(path)
    sources = values.get("fields", {})
    if not isinstance(sources, dict) or not all(isinstance(value, dict) for value in sources.values()):
        raise BadFile(path, "field 'fields' must be an object of objects")
    try:
        found = {str(member): _source(value) for member, value in sources.items()}
        return FieldMap(found, _text(values, "robot"), _text(values, "tool_link"))
    except (InvalidInput, UnknownName) as error:
        raise BadFile(path, f"field 'fields': {error}") from error


def _source(values: Mapping[str, Any]) -> FieldSource:
    known = [f.name for f in fields(FieldSource)]
    for name in values:
        if name not in known:
            raise UnknownName("entry of a field", name, known)
    columns = values.get("columns")
    if columns is not None and not (isinstance(columns, list) and all(type(n) is int for n in columns)):
        raise InvalidInput("columns", columns, "a list of whole numbers")
    ends = {name: values[name] for name in ("open", "closed") if name in values}
    if not all(isinstance(end, int | float) for end in ends.values()):
        raise InvalidInput("gripper", ends, "numbers")
    feature = _text(values, "feature")
    if feature is None:
        raise InvalidInput("field", "no 'feature'", "the name of one")
    columns = None if columns is None else tuple(columns)
    return FieldSource(feature, columns, _text(values, "unit"), _text(values, "form"), **ends)


def _text(values: Mapping[str, Any], name: str) -> str | None:
    value = values.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidInput(f"field {name!r}", value, "a text or nothing")
    return value


def _checked(info: LeRobotInfo, path: Path, found: FieldMap) -> FieldMap:
    for member, source in found.sources.items():
        if source.feature not in info.features:
            raise BadFile(path, f"field {member!r}: {UnknownName('feature', source.feature, info.features)}")
    return found


def _from_names(info: LeRobotInfo) -> FieldMap:
    """Joints from names that state an angle's unit; nothing is said of columns that do not."""
    state = info.features.get("observation.state")
    if state is None:
        return FieldMap(notes=("there is no observation.state: joints are unknown",))
    arm = [k for k, name in enumerate(state.names) if "gripper" not in name.lower()]
    units = {_unit(state.names[k]) for k in arm}
    if len(units) == 1 and None not in units:
        unit = str(units.pop())
        note = f"joints are the columns of observation.state whose names say {unit}; {MAPPING} may say more"
        return FieldMap({"joints": FieldSource(state.key, tuple(arm), unit)}, notes=(note,))
    return FieldMap(notes=(unsaid(state),))


def unsaid(state: Feature) -> str:
    """What is missing before a feature's columns can be taken for joints."""
    names = ", ".join(state.names) or "without names"
    columns = math.prod(state.shape)
    return f"{state.key} has {columns} columns ({names}) whose meaning and unit nothing states: say so in {MAPPING}"


def _unit(name: str) -> str | None:
    found = _STATED.search(name)
    return found[1].lower()[:3] if found else None
