"""What would have been dreamt had the robot done something else: recorded motions altered, and what can be told of it.

A motion is what a joint does from one frame to the next. Altered ones begin at the recorded pose and stay within the
robot's limits, or the recording's own where it went beyond them. There is no recording of what they lead to, so that a
dream of them is judged by its own prompts, by the meter of trust, and by how far it is from the dream of what was done.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.metrics.detector import Detector
from vap_sim.metrics.masks import Scores, scores
from vap_sim.metrics.replay import Replay, found_robot, overlap, signals
from vap_sim.robots.library import RobotModel

ALTERATIONS: Mapping[str, str] = MappingProxyType(
    {
        "zeroed": "the robot stays where it stood",
        "reversed": "the recorded motions in reverse order",
        "scaled": "every motion of the arm times a factor, scaled@0.5 half as far; the gripper as recorded",
        "shuffled": "the recorded motions in an order drawn by the seed",
        "mirrored": "left for right, about the upright plane through base and tool",
        "episode": "the motions of another recording of the same robot, as in episode@NAME",
    }
)
"""What can be done to recorded motions, and what it means."""
DEFAULT_FACTOR = 0.5
_LARGEST = 10.0
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Alteration:
    """One of ALTERATIONS with its factor or the name of the other recording, where it has one."""

    kind: str
    factor: float = 1.0
    episode: str = ""

    @property
    def name(self) -> str:
        """As it is given: kind, or kind@argument."""
        argument = f"{self.factor:g}" if self.kind == "scaled" else self.episode
        return f"{self.kind}@{argument}" if argument else self.kind


def parse_alteration(text: str) -> Alteration:
    """Read `zeroed`, `scaled@2` or `episode@NAME`. Raises UnknownName for a kind, InvalidInput for its argument."""
    kind, _, argument = text.partition("@")
    if kind not in ALTERATIONS:
        raise UnknownName("alteration of actions", kind, ALTERATIONS)
    if kind == "episode":
        if not argument:
            raise InvalidInput("alteration of actions", text, "the other recording's name, as in episode@NAME")
        return Alteration(kind, episode=argument)
    if kind == "scaled":
        try:
            factor = float(argument) if argument else DEFAULT_FACTOR
        except ValueError:
            factor = math.nan
        if not abs(factor) <= _LARGEST:
            raise InvalidInput("alteration of actions", text, f"a factor of at most {_LARGEST:g}, as in scaled@0.5")
        return Alteration(kind, factor)
    if argument:
        raise InvalidInput("alteration of actions", text, f"{kind} alone: it takes no argument")
    return Alteration(kind)


def alter(
    alteration: Alteration,
    joints: Floats,
    model: RobotModel,
    frame_rate: float,
    *,
    seed: int = 0,
    other: Floats | None = None,
) -> NDArray[np.float32]:
    """Altered joints (T + 1, J) [rad or m], which begin as the recorded ones `joints` (T + 1, J) do.

    frame_rate: of the joints [Hz]; other: (T' + 1, J), joints of the other recording, of the same robot and rate; where
    it is shorter the robot stays at its end. Raises InvalidInput where that is missing or of another robot.
    """
    path = np.asarray(joints, np.float64)
    motions = _altered(alteration, path, model, seed, other)
    robot = model.robot
    low = np.minimum(robot.lower.double().numpy(), path.min(0))
    high = np.maximum(robot.upper.double().numpy(), path.max(0))
    fastest = np.maximum(robot.max_speed.double().numpy() / frame_rate, np.abs(np.diff(path, axis=0)).max(0, initial=0))
    out = [path[0]]
    for motion in motions:
        out.append(np.clip(out[-1] + np.clip(motion, -fastest, fastest), low, high))
    result = np.stack(out)
    gripper = None if model.gripper is None else robot.joint_index(model.gripper.joint)
    if alteration.kind == "scaled" and gripper is not None:
        result[:, gripper] = path[:, gripper]
    return result.astype(np.float32)


def _altered(
    alteration: Alteration, path: NDArray[np.float64], model: RobotModel, seed: int, other: Floats | None
) -> NDArray[np.float64]:
    """The motions (T, J) to be made."""
    motions = np.diff(path, axis=0)
    if alteration.kind == "zeroed":
        return np.zeros_like(motions)
    if alteration.kind == "reversed":
        return motions[::-1]
    if alteration.kind == "scaled":
        return motions * alteration.factor
    if alteration.kind == "shuffled":
        return np.random.default_rng(seed).permutation(motions)
    if alteration.kind == "mirrored":
        return motions * mirror_signs(model, path[0])
    if other is None or other.ndim != 2 or other.shape[1] != path.shape[1]:
        given = "none" if other is None else f"{other.shape[1]} joints"
        raise InvalidInput(f"recording {alteration.episode!r}", given, f"{path.shape[1]} joints, as of {model.name}")
    theirs = np.diff(np.asarray(other, np.float64), axis=0)[: len(motions)]
    return np.concatenate([theirs, np.zeros((len(motions) - len(theirs), path.shape[1]))])


def mirror_signs(model: RobotModel, q: Floats) -> NDArray[np.float64]:
    """Which joints turn the other way in a mirror, (J,) of 1 and -1, for a robot that stands at q (J,).

    The mirror is upright and holds the base and the tool. A turning joint goes on as it does where its axis stands on
    the mirror, a sliding one where its axis lies in it; of joints in between the nearer is taken, so that a robot that
    is not the same on both sides of the mirror does about the mirrored thing. What does not move the tool stays.
    """
    pose, jacobian = model.robot.pose_and_jacobian(torch.as_tensor(np.asarray(q, np.float64)), model.tool_link)
    across, along = float(pose[0, 3]), float(pose[1, 3])
    reach = math.hypot(across, along)
    normal = np.array([-along, across, 0.0]) / reach if reach > 1e-3 else np.array([0.0, 1.0, 0.0])
    linear, axes = jacobian[:3].numpy(), jacobian[3:].numpy()
    signs = np.ones(model.robot.num_joints)
    for joint in range(len(signs)):
        turns = float(np.linalg.norm(axes[:, joint])) > 0
        direction = axes[:, joint] if turns else linear[:, joint]
        size = float(np.linalg.norm(direction))
        if size > 0:
            stands_on_it = bool((direction @ normal / size) ** 2 > 0.5)
            signs[joint] = 1.0 if stands_on_it == turns else -1.0
    return signs


def judge_altered(altered: Replay, nominal: Replay, detector: Detector | None = None) -> dict[str, Scores]:
    """Figures of a dream of altered motions, of steps 1 to T, by name.

    apart: mean difference to the pictures of the nominal dream [grey levels of 255]; agreement of the robot in the
    dream with its own prompts, without a detector not told; doubt, drift and risk, where a meter told them. Raises
    InvalidInput for dreams of different lengths or sizes.
    """
    if altered.dreamt.shape != nominal.dreamt.shape:
        raise InvalidInput("dream of altered motions", tuple(altered.dreamt.shape), tuple(nominal.dreamt.shape))
    difference = (altered.dreamt[1:].short() - nominal.dreamt[1:].short()).abs().double().mean((-3, -2, -1))
    found = {"apart": scores("apart", difference, torch.ones(len(difference), dtype=torch.bool))}
    if detector is not None:
        found["agreement"] = overlap(found_robot(detector, altered.dreamt), altered.expected)
    return found | signals(altered)
