"""What the motion network of the compact model is trained for: carrying objects on, step by step, as they really went.

Objects are moved by the network itself from frame to frame and pulled towards the truth, so that it meets its own
errors; no gradient flows from one step into another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from vap_sim.models.compact.losses import unit
from vap_sim.models.compact.motion import Motion, foresee, surely, view
from vap_sim.models.compact.network import MotionNet
from vap_sim.models.compact.slots import Slots, advance, place


@dataclass(frozen=True)
class Paths:
    """A batch of b objects followed for T frames.

    skeletons (b, T + 2, 3, H, W) uint8, two older ones first; others (b, T, 1, H, W) uint8 alpha of all other objects;
    patches (b, 1, PATCH, PATCH) uint8 alpha of the object's cut-out, as the first frame shows it; start (b, 2) [px] its
    centre there, and velocity (b, 2) [px] its last motion; centres (b, T, 2) [px] of its bounding box; steps (b, T, 4)
    from the frame before: x, y [px], turn [rad], log of growth; frames (b, 2, 2), see `windows.offsets`; carried
    (b, T, 4), by what the camera's own motion carried the object before each step; others of frame t are seen from
    where such a camera is in frame t + 1; planes (b, T, 3, 3), by what the tool would carry it into each frame, see
    `carry.homographies`.
    """

    skeletons: Tensor
    others: Tensor
    patches: Tensor
    start: Tensor
    velocity: Tensor
    centres: Tensor
    steps: Tensor
    frames: Tensor
    carried: Tensor
    planes: Tensor


@dataclass(frozen=True)
class MotionWeights:
    """Shares of the terms."""

    moving: float = 1.0
    shift: float = 1.0
    twist: float = 1.0


MOVED, TURNED = 0.12, 0.02
"""[px], [rad] a frame: less is rest."""
_LOST = 10.0  # [px]
_PULL, _LARGEST_PULL = 0.3, 1.5  # share, and most [px], of a misplacement to mend in one step


def is_moving(steps: Tensor) -> Tensor:
    """Bool (...) of steps (..., 4)."""
    return (steps[..., :2].abs().amax(-1) > MOVED) | (steps[..., 2].abs() > TURNED)


def motion_loss(
    network: MotionNet, paths: Paths, weights: MotionWeights, *, jitter: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch of paths; `jitter` (b, 2) [px] is by how much objects start misplaced.

    Returns the weighted sum, and every term by name (detached)."""
    motions, truths, misses = roll_out(network, paths, jitter=jitter)
    terms = _terms(
        Motion(*(torch.stack([getattr(m, n) for m in motions], 1) for n in ("shift", "twist", "logit"))),
        torch.stack(truths, 1),
        torch.stack(misses, 1),
    )
    total = torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
    return total, {name: value.detach() for name, value in terms.items()}


def roll_out(network: MotionNet, paths: Paths, *, jitter: Tensor) -> tuple[list[Motion], list[Tensor], list[Tensor]]:
    """Each step as foreseen, as it was (b, 4), and by how much the object lay wrong before it (b, 2) [px]."""
    skeletons, others, patches = unit(paths.skeletons), unit(paths.others), unit(paths.patches)
    size = skeletons.shape[-1]
    offset = paths.start - paths.centres[:, 0]
    slots = _as_slots(paths, jitter)
    motions, truths, misses = [], [], []
    for step in range(1, paths.centres.shape[1]):
        history = skeletons[:, step : step + 3].flip(1).flatten(1, 2)
        slots = _carried(slots, paths.carried[:, step])
        before = paths.centres[:, step - 1] + paths.carried[:, step, :2]
        with torch.no_grad():
            own = place(patches, slots.centre[:, 0], slots.turn[:, 0], size)
            alpha = own + others[:, step - 1] * (1 - own)
        pose = {name: getattr(slots, name)[:, 0] for name in ("centre", "turn", "velocity")}
        planes = paths.planes[:, step] if network.told_of_carrying else None
        seen = view(history, alpha, patches, **pose, planes=planes, frames=paths.frames)
        motion = foresee(network, seen, paths.frames)
        motions.append(motion)
        truths.append(paths.steps[:, step])
        misses.append(before + offset - pose["centre"])
        moves = surely(motion.logit[:, None])
        slots = advance(slots, motion.shift[:, None], motion.twist[:, None], moves).detach()
    return motions, truths, misses


def _carried(slots: Slots, motion: Tensor) -> Slots:
    """The slots as a camera sees them after its own motion (b, 4); an object's own last motion stays what it was."""
    every = torch.ones_like(slots.present)
    return replace(advance(slots, motion[:, None, :2], motion[:, None, 2:], every), velocity=slots.velocity)


def _as_slots(paths: Paths, jitter: Tensor) -> Slots:
    """Every object as the only slot of its own row."""
    centre = (paths.start + jitter)[:, None]
    turn = torch.zeros_like(centre)
    turn[..., 0] = 1
    return Slots(paths.patches[:, None], centre, turn, paths.velocity[:, None], torch.ones_like(centre[..., 0]).bool())


def _terms(motion: Motion, truth: Tensor, missed: Tensor) -> dict[str, Tensor]:
    """Terms over steps (b, T - 1, ...)."""
    moving = is_moving(truth).float()
    known = (missed.abs().amax(-1) < _LOST).float()  # an object that is lost has nothing to learn from
    # Only one that moves can be seen to lie wrong: it does not lie where it is held or pushed.
    pulled = truth[..., :2] + (_PULL * missed).clamp(-_LARGEST_PULL, _LARGEST_PULL)
    goal = pulled * moving[..., None]
    count, active = known.sum() + 1, (known * moving).sum() + 1
    twist = (motion.twist - truth[..., 2:]).abs() @ truth.new_tensor([2.0, 4.0])
    # An object at rest has a shift to learn as well, zero: where it is unsure whether it moves, it does not leap.
    off = (motion.shift - goal).abs().sum(-1)
    return {
        "moving": (F.binary_cross_entropy_with_logits(motion.logit, moving, reduction="none") * known).sum() / count,
        "shift": (off * known).sum() / count,
        "twist": (twist * known * moving).sum() / active,
    }
