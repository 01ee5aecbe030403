"""The compact world's doubt: echoes of a dream, its objects moved beside it by the same network in another mood.

An echo sees every object through a mirror, in which a sure network would see the same, or moves objects more readily or
less than the dream does. What is sure stays together; near a contact that might as well be missed they part, and go on
apart: a cube that only the dream has grasped is not carried by its echoes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.models.compact.motion import Motion, apply, foresee, view
from vap_sim.models.compact.network import MotionNet, Told
from vap_sim.models.compact.placing import lay
from vap_sim.models.compact.slots import Slots
from vap_sim.state import WorldState

if TYPE_CHECKING:
    from vap_sim.models.compact.demonstration import Demonstration

Context = Mapping[str, Tensor]


@dataclass(frozen=True)
class Echo:
    """mirrored: whether objects are seen in a mirror; above: by how much more an object's logit must say that it moves
    than in the dream."""

    mirrored: bool
    above: float


ECHOES = (Echo(True, 0.0), Echo(False, -1.5), Echo(False, 1.5))
"""Chosen on development seeds."""

_NEAR = 20.0  # [px] no part of the robot nearer than this to an object's centre: it stays; moved ones were within 9
_DRAWN = 16  # level from which a pixel of a prompt counts as robot
_POSES = ("centre", "turn", "velocity")


def begin_rows(state: WorldState, dreams: Sequence[Context], maker: str) -> WorldState:
    """The memory of doubt of a dream a row, as `maker`'s; dreams: each row's context in the picture that is doubted."""
    return WorldState(_joined([begin(dream) for dream in dreams]), state.step, state.key, maker)


def advance_rows(
    network: MotionNet,
    memory: WorldState,
    before: Sequence[Context],
    after: Sequence[Context],
    told: Sequence[Mapping[bool, Told | None]],
    maker: str,
    planes: Tensor | None,
    away: Tensor,
) -> tuple[WorldState, Tensor]:
    """The memory a step on, and how far echoes are from the dream (b,); see `advance_echoes`. planes: (b, 3, 3); away:
    (b, S). Raises InvalidInput for a memory of another maker or of another number of rows."""
    if memory.model != maker or not len(memory) == len(before) == len(after):
        given = f"{len(memory)} rows of {memory.model!r} for {len(before)} and {len(after)} rows"
        raise InvalidInput("memory of doubt", given, f"as many rows, of {maker!r}")
    rows = []
    for row, (old, new, said) in enumerate(zip(before, after, told, strict=True)):
        own = {name: value[row : row + 1] for name, value in memory.context.items()}
        plane = None if planes is None else planes[row : row + 1]
        rows.append(advance_echoes(network, own, old, new, said, plane, away[row]))
    partings = [parting(echoes, new) for echoes, new in zip(rows, after, strict=True)]
    return memory.advanced(_joined(rows)), torch.cat(partings)


def told_echoes(demonstration: Demonstration | None, before: WorldState) -> list[dict[bool, Told | None]]:
    """What a demonstration says to each row's echoes, in a mirror and without."""
    if demonstration is None:
        return [{} for _ in range(before.rows)]
    both = [demonstration.told(before.context, before.step, mirrored=mirrored) for mirrored in (False, True)]
    return [{False: plain, True: mirrored} for plain, mirrored in zip(*both, strict=True)]


def _joined(rows: Sequence[Context]) -> dict[str, Tensor]:
    return {name: torch.cat([one[name] for one in rows]) for name in rows[0]}


def begin(dream: Context) -> dict[str, Tensor]:
    """The echoes of one row's dream at its start: poses (1, E, S, 2), and what objects cover, alpha (1, E, H, W)."""
    echoes = {name: torch.stack([dream[name]] * len(ECHOES), dim=1) for name in _POSES}
    alpha = (dream["objects"][:, 3] * 255).round().to(torch.uint8)
    return {**echoes, "alpha": torch.stack([alpha] * len(ECHOES), dim=1)}


@torch.no_grad()
def advance_echoes(
    network: MotionNet,
    echoes: Context,
    before: Context,
    after: Context,
    told: Mapping[bool, Told | None] | None = None,
    planes: Tensor | None = None,
    away: Tensor | None = None,
) -> dict[str, Tensor]:
    """The echoes of one row's dream a step on; `before` and `after` are the dream's own context; told: what a
    demonstration says to echoes that see in a mirror and to those that do not, if there is one; planes (1, 3, 3): as in
    `motion.view`; away (S,): what the robot does not reach, see `reach`."""
    skeletons = torch.cat([after["skeletons"][:, :3], before["skeletons"]], dim=1)
    drawn = _points(skeletons[0, :6])
    foreseen: list[tuple[bool, Context, Motion]] = []
    moved: list[Context] = []
    for number, echo in enumerate(ECHOES):
        old = {name: value[:, number] for name, value in echoes.items()}
        # Until they part, echoes that see alike need only look once.
        same = (one for mirrored, seen, one in foreseen if mirrored == echo.mirrored and _equal(seen, old))
        motion = next(same, None)
        if motion is None:
            own = (told or {}).get(echo.mirrored)
            motion = _foresee(network, echo, old, before, skeletons, drawn, own, planes, away)
            foreseen.append((echo.mirrored, old, motion))
        moved.append(_moved(old, before, Motion(motion.shift, motion.twist, motion.logit - echo.above)))
    return {name: torch.stack([one[name] for one in moved], dim=1) for name in echoes}


def parting(echoes: Context, dream: Context) -> Tensor:
    """How far echoes lie from the dream (1,) float64: of the object farthest from them, mean over echoes, in its
    own widths."""
    present = dream["present"]
    if not bool(present.any()):
        return torch.zeros(1, dtype=torch.float64)
    far = (echoes["centre"] - dream["centre"][:, None]).norm(dim=-1).mean(dim=1)
    columns = (dream["patches"][:, :, 3] >= 128).any(dim=2).sum(dim=2)
    widths = (columns * dream["turn"].norm(dim=-1)).clamp_min(1.0)
    return torch.where(present, far / widths, 0).amax(dim=1).double().cpu()


def _foresee(
    network: MotionNet,
    echo: Echo,
    old: Context,
    dream: Context,
    skeletons: Tensor,
    drawn: Tensor,
    told: Told | None = None,
    planes: Tensor | None = None,
    away: Tensor | None = None,
) -> Motion:
    """How the objects (1, S) of an echo will move; those far from the robot have no doubt that they rest."""
    centre = old["centre"][0]
    near = dream["present"][0] & (torch.cdist(centre, drawn) < _NEAR).any(dim=1)
    places = torch.nonzero(near if away is None else near & ~away)[:, 0]
    shift, twist = torch.zeros_like(old["centre"]), torch.zeros_like(old["turn"])
    logit = torch.full_like(shift[..., 0], -torch.inf)
    if len(places):
        mirror = torch.diag(centre.new_tensor([-1.0, 1.0])).expand(len(places), 2, 2)
        frames = mirror if echo.mirrored else None
        views = view(
            skeletons.float() / 255,
            old["alpha"][:, None].float() / 255,
            dream["patches"][0, places, 3:4].float() / 255,
            centre=centre[places],
            turn=old["turn"][0, places],
            velocity=old["velocity"][0, places],
            planes=planes,
            frames=frames,
        )
        motion = foresee(network, views, frames, told)
        shift[0, places], twist[0, places], logit[0, places] = motion.shift, motion.twist, motion.logit
    return Motion(shift, twist, logit)


def _moved(old: Context, dream: Context, motion: Motion) -> Context:
    poses = {name: old[name] for name in _POSES}
    before = Slots(dream["patches"].float() / 255, **poses, present=dream["present"])
    after = apply(before, motion)
    new = {name: getattr(after, name) for name in _POSES}
    if torch.equal(after.centre, before.centre) and torch.equal(after.turn, before.turn):
        return {**new, "alpha": old["alpha"]}
    return {**new, "alpha": (lay(after, old["alpha"].shape[-1])[:, 3] * 255).round().to(torch.uint8)}


def _equal(a: Context, b: Context) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def _points(planes: Tensor) -> Tensor:
    """Where a robot is drawn in planes (C, H, W) uint8: every second row and column of its pixels (n, 2) x, y."""
    ys, xs = torch.nonzero((planes[:, ::2, ::2] >= _DRAWN).any(dim=0), as_tuple=True)
    return 2.0 * torch.stack([xs, ys], dim=1)
