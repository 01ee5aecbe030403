"""Draw profiles: in which form a prompt comes and how it looks, as frozen data that travels with a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.robots.skeleton import GROUPS

UNITS = ("height_share", "metres")
DISCS = ("all", "tips")
FORMS = ("skeleton", "mesh", "depth", "raw_action", "text")
RENDERERS = ("software", "gl")


@dataclass(frozen=True)
class GroupStyle:
    """How the bones of one group are drawn; lengths are in the profile's unit.

    group: "arm", "gripper" or "plumb"; width: of the line; disc: radius of the discs on its key points, 0 for none;
    discs_on: "all" its points, or "tips", those where the skeleton ends; dashes: 1 draws a solid line, n cuts the bone
    in space into n equal dashes with gaps as long.
    """

    group: str
    width: float
    disc: float
    discs_on: str = "all"
    dashes: int = 1

    def __post_init__(self) -> None:
        if self.group not in GROUPS:
            raise UnknownName("skeleton group", self.group, GROUPS)
        _check_number(f"width of {self.group}", self.width, 0.0, math.inf, open_low=True)
        _check_number(f"disc of {self.group}", self.disc, 0.0, math.inf)
        if self.discs_on not in DISCS:
            raise UnknownName(f"place of discs of {self.group}", self.discs_on, DISCS)
        if isinstance(self.dashes, bool) or not isinstance(self.dashes, int) or self.dashes < 1:
            raise InvalidInput(f"dashes of {self.group}", self.dashes, "an integer of at least 1")


@dataclass(frozen=True)
class DepthCue:
    """Far bones darker: full brightness up to `near` metres, falling in a line to `dimmest` (0..1) at `far` metres."""

    near: float
    far: float
    dimmest: float

    def __post_init__(self) -> None:
        _check_number("depth cue near", self.near, 0.0, math.inf)
        _check_number("depth cue far", self.far, self.near, math.inf, open_low=True)
        _check_number("depth cue dimmest", self.dimmest, 0.0, 1.0)


@dataclass(frozen=True)
class DrawProfile:
    """One way to tell a model the action; a model is trained with one and must be used with the same.

    form: "skeleton" draws lines; "mesh" shows the robot's surface in shaded colour; "depth" shows how far it is, near
    bright; "raw_action" is black and leaves the joints as the only news; "text" is black and carries no joints either.
    Of what follows, skeletons use all but `backend`; the others have no groups; meshes and depth use `z_near` and
    `backend`, and depth needs `depth_cue`, which fixes its grey levels in metres for all pictures alike.

    groups: the groups drawn, each with its style; the others are left out.
    unit: "height_share" makes lengths shares of the image height, equal at every depth; "metres" makes them physical,
    so that a line is focal * length / depth pixels wide and near bones are wider. thinnest, thickest: bounds for line
    widths and disc diameters as shares of the image height. Whatever they say, edges are softened over about one pixel,
    so that no line comes out thinner than about 1.9 pixels. joint_tint: how far discs are mixed from the colour of
    their bone (0) to white (1). limbs: how bright the limbs are that are drawn behind all lines, as thick as the
    skeleton's bones say, as a share of the bones' colours; 0 draws none. depth_cue: darkening with depth, or None.
    z_near: bones are cut where they come nearer to the camera than this, metres. backend: what renders surfaces,
    "software" or "gl" (pyrender).
    """

    name: str
    groups: tuple[GroupStyle, ...]
    unit: str = "height_share"
    thinnest: float = 0.0
    thickest: float = 0.1
    joint_tint: float = 0.5
    depth_cue: DepthCue | None = None
    z_near: float = 0.02
    form: str = "skeleton"
    backend: str = "software"
    limbs: float = 0.0

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise UnknownName("prompt form", self.form, FORMS)
        if self.backend not in RENDERERS:
            raise UnknownName("renderer", self.backend, RENDERERS)
        if self.form == "depth" and self.depth_cue is None:
            raise InvalidInput(f"depth_cue of profile {self.name!r}", None, "near, far and dimmest of a depth picture")
        if self.unit not in UNITS:
            raise UnknownName("length unit of a draw profile", self.unit, UNITS)
        names = [style.group for style in self.groups]
        if self.form != "skeleton":
            if names:
                raise InvalidInput(f"groups of draw profile {self.name!r}", names, f"none in the form {self.form!r}")
        elif not names or len(set(names)) != len(names):
            raise InvalidInput(f"groups of draw profile {self.name!r}", names, f"some of {GROUPS}, each once")
        _check_number("thinnest", self.thinnest, 0.0, 1.0)
        _check_number("thickest", self.thickest, self.thinnest, 1.0, open_low=True)
        _check_number("joint_tint", self.joint_tint, 0.0, 1.0)
        _check_number("z_near", self.z_near, 0.0, math.inf, open_low=True)
        _check_number("limbs", self.limbs, 0.0, 1.0)
        if self.limbs and (self.form, self.unit) != ("skeleton", "metres"):
            given = f"limbs of a profile of form {self.form!r} and unit {self.unit!r}"
            raise InvalidInput(given, self.limbs, "0; limbs have their thickness in metres, behind a skeleton")

    def style(self, group: str) -> GroupStyle | None:
        """The style of a group, or None where this profile leaves the group out."""
        return next((style for style in self.groups if style.group == group), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` gives an equal profile back."""
        plain = asdict(self)
        plain["groups"] = [asdict(style) for style in self.groups]
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DrawProfile:
        """The profile that `to_dict` wrote. Raises InvalidInput or UnknownName that name the field at fault."""
        values = _checked_fields(cls, data)
        groups = values.get("groups")
        if not isinstance(groups, list | tuple):
            raise InvalidInput("groups of a draw profile", type(groups).__name__, "a list of group styles")
        values["groups"] = tuple(GroupStyle(**_checked_fields(GroupStyle, style)) for style in groups)
        if values.get("depth_cue") is not None:
            values["depth_cue"] = DepthCue(**_checked_fields(DepthCue, values["depth_cue"]))
        return cls(**values)


def profile_names() -> tuple[str, ...]:
    """The names of the shipped ways to draw skeletons."""
    return tuple(_PROFILES)


def form_names() -> tuple[str, ...]:
    """The names of the shipped forms of a prompt, one profile each."""
    return tuple(_FORM_PROFILES)


def profile(name: str) -> DrawProfile:
    """A shipped draw profile, or the profile of a shipped form.

    "vap" (constant widths), "compact" (widths and brightness tell depth, plumb line) and "limbs" (the same over dim
    limbs) draw skeletons. The forms that are compared with one another are "skeleton" (as "vap" draws it), "mesh",
    "depth", "raw_action" and "text". Raises UnknownName.
    """
    found = _PROFILES.get(name) or _FORM_PROFILES.get(name)
    if found is None:
        raise UnknownName("draw profile", name, (*_PROFILES, *_FORM_PROFILES))
    return found


def _checked_fields(record: type, data: object) -> dict[str, Any]:
    what = f"fields of {record.__name__}"
    if not isinstance(data, Mapping):
        raise InvalidInput(what, type(data).__name__, "a mapping")
    known = [item.name for item in fields(record)]
    for name in data:
        if name not in known:
            raise UnknownName(f"field of {record.__name__}", name, known)
    missing = [item.name for item in fields(record) if item.default is MISSING and item.name not in data]
    if missing:
        raise InvalidInput(what, sorted(data), f"also {missing}")
    return dict(data)


def _check_number(what: str, value: object, low: float, high: float, *, open_low: bool = False) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high or (open_low and value == low):  # type: ignore[operator]
        bracket = "(" if open_low else "["
        raise InvalidInput(what, value, f"a number in {bracket}{low}, {high}]")


_COMPACT = DrawProfile(
    name="compact",
    groups=(
        GroupStyle("arm", 0.030, 0.024),
        GroupStyle("gripper", 0.016, 0.013, discs_on="tips"),
        GroupStyle("plumb", 0.008, 0.016, discs_on="tips", dashes=4),
    ),
    unit="metres",
    thinnest=2 / 128,
    thickest=12 / 128,
    depth_cue=DepthCue(near=0.4, far=2.0, dimmest=0.55),
)

_PROFILES: Mapping[str, DrawProfile] = MappingProxyType(
    {
        "vap": DrawProfile(
            name="vap",
            groups=(GroupStyle("arm", 4 / 480, 6 / 480), GroupStyle("gripper", 4 / 480, 5 / 480)),
        ),
        "compact": _COMPACT,
        "limbs": replace(_COMPACT, name="limbs", limbs=0.35),
    }
)

_FORM_PROFILES: Mapping[str, DrawProfile] = MappingProxyType(
    {
        "skeleton": replace(_PROFILES["vap"], name="skeleton"),
        "mesh": DrawProfile("mesh", (), form="mesh"),
        "depth": DrawProfile("depth", (), form="depth", depth_cue=DepthCue(near=0.0, far=2.0, dimmest=0.1)),
        "raw_action": DrawProfile("raw_action", (), form="raw_action"),
        "text": DrawProfile("text", (), form="text"),
    }
)
