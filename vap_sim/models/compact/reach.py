"""What the robot does not reach does not begin to move.

A gripper before an object is drawn like one at it, and a network that sees only the picture pushes now and then what an
arm merely passes. But what nobody has touched yet lies on the table, so its place in space is known, roughly, and the
tool's is. Where both are far from each other the network's word does not count. What has moved once is free of this: it
may hang in a hand, or lie on something.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from vap_sim.models.compact.geometry import Floats, rays_of
from vap_sim.prompts.visual_prompt import VisualPrompt

REACH = 0.15
"""[m] from the tool, or from a thing that moves, within which things begin to move: of 562 that did in 260 development
episodes of four bodies, no moving thing near, four were farther from the tool, by 7 cm at most."""
MIDDLE, UNSURE = 0.02, 0.06
"""[m] above the table are middles of things, and by how much that, and the height of a table, may be wrong."""
_SEEN_AT = 0.06
"""[m] between the tool and the line of sight to a thing: it may be held, and then does not lie on the table."""
_HEIGHTS = np.linspace(-1.0, 1.0, 5)


def begun(prompt: VisualPrompt, present: Tensor, centre: Tensor, table: float = 0.0) -> dict[str, Tensor]:
    """What a state keeps from the beginning: `tool` (b, 4, 4), where the tool is, and `lies` (b, S), which of things
    surely lie on the table: those that the tool is not seen at, or is so near that it reaches them there. Nothing where
    the prompt does not say where tool and cameras are."""
    if prompt.tool is None or prompt.projections is None:
        return {}
    places, tool = _places(prompt.projections, centre, table), _at(prompt.tool[:, 0])
    line = places[:, :, -1] - places[:, :, 0]
    along = line / np.maximum(np.linalg.norm(line, axis=-1, keepdims=True), 1e-9)
    away = tool[:, None] - places[:, :, 0]
    beside = np.linalg.norm(away - (away * along).sum(-1, keepdims=True) * along, axis=-1)
    sure = (beside > _SEEN_AT) | (_farness(places, tool, tool) <= REACH)
    return {"tool": prompt.tool[:, 0].to(present.device), "lies": present & torch.from_numpy(sure).to(present.device)}


def told(old: Mapping[str, Tensor], prompt: VisualPrompt) -> dict[str, Tensor]:
    """Where a prompt says that the tool is, if it does and the state wants to know."""
    return {"tool": prompt.tool[:, 0].to(old["tool"].device)} if "tool" in old and prompt.tool is not None else {}


def beyond(old: Mapping[str, Tensor], prompt: VisualPrompt, table: float = 0.0) -> Tensor:
    """Which things (b, S) of a context cannot begin to move in the step to a prompt's first frame, seen by its first
    view: those that lie on the table, far from the tool on its way and from everything that moved in the step before.
    """
    centre = old["centre"]
    if "lies" not in old or prompt.tool is None or prompt.projections is None:
        return torch.zeros_like(old["present"])
    places = _places(prompt.projections, centre, table)
    far = _farness(places, _at(old["tool"]), _at(prompt.tool[:, 0])) > REACH
    went = (old["velocity"] != 0).any(-1).cpu().numpy()
    middles = places[:, :, len(_HEIGHTS) // 2]
    apart = np.linalg.norm(middles[:, :, None] - middles[:, None], axis=-1)
    free = far & (np.where(went[:, None], apart, np.inf).min(axis=-1) > REACH)
    return old["lies"] & torch.from_numpy(free).to(centre.device)


def _at(tools: Tensor) -> Floats:
    """Where tools (b, 4, 4) are, (b, 3) [m]."""
    return np.asarray(tools.cpu().double().numpy()[:, :3, 3])


def _places(projections: Tensor, centre: Tensor, table: float) -> Floats:
    """Where things at pixels (b, S, 2) of the first view may be, (b, S, 5, 3) [m], if they lie on the table; under
    projections (b, V, F, 3, 4). Not-a-number for things above its horizon."""
    seen = projections[:, 0, 0].cpu().double().numpy()
    eyes, along = rays_of(seen[:, None], centre.cpu().double().numpy())
    heights = table + MIDDLE + UNSURE * _HEIGHTS
    down = np.where(along[..., 2] < 0, along[..., 2], np.nan)
    far = (heights - eyes[..., 2:]) / down[..., None]
    return eyes[..., None, :] + np.where(far > 0, far, np.nan)[..., None] * along[..., None, :]


def _farness(places: Floats, before: Floats, now: Floats) -> Floats:
    """Least distance (b, S) [m] of places (b, S, n, 3) from the way of the tool from before (b, 3) to now."""
    start, way = before[:, None, None], (now - before)[:, None, None]
    share = ((places - start) * way).sum(-1) / np.maximum((way * way).sum(-1), 1e-12)
    away = places - start - np.clip(share, 0.0, 1.0)[..., None] * way
    return np.asarray(np.linalg.norm(away, axis=-1).min(-1))
