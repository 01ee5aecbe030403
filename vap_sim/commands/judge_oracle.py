"""What a dream shows, told from the dream's own memory: a geometric oracle for judges, which no judge may read.

The compact world keeps every object as a cut-out at a place in the picture. Scene and camera are known, so the place of
an object's cut-out at the start calibrates it: later places lead back to the table through the same height, and the
task itself then says whether it is done. `shown_as_read` reads true pictures in the same way, to be compared with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.commands.judge_episodes import JudgedEpisode
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot

if TYPE_CHECKING:
    from vap_sim.envs.scenes import Scene
    from vap_sim.envs.tasks import Situation, Task

Floats = NDArray[np.float64]
MARGIN = 0.005
"""Metres by which an object may stand elsewhere before a label that would change with it is called unclear."""
_FOUND = 9.0  # [px] a cut-out farther from where an object projects belongs to something else
_SAME_COLOR = 0.15  # distance of the chromaticities of one object in two pictures
_LIFTED = 0.012  # [m] above or below where its centre lies when it stands
_FRAME_SECONDS = 0.2


@dataclass(frozen=True, eq=False)
class Shown:
    """What n moments of an episode show, objects in the scene's order.

    situations: what a task sees, with objects at the origin where they are not known; places, before (n, K, 2) [m] of
    all objects now and one picture earlier, NaN where they are not known.
    """

    situations: tuple[Situation, ...]
    places: Floats
    before: Floats


@dataclass(frozen=True)
class Label:
    """Whether a task is done in a situation; `clear` is False where MARGIN decides or the object is not to be found."""

    success: bool
    clear: bool


def to_plane(camera: Camera, pixels: Floats, height: float) -> Floats:
    """Points (n, 2) [m] of the plane z = `height` that a camera fixed in the base frame sees at `pixels` (n, 2)."""
    pose, intrinsics = (np.asarray(t, np.float64) for t in (camera.T_parent_camera, camera.intrinsics))
    rays = np.concatenate([pixels, np.ones_like(pixels[:, :1])], axis=1) @ np.linalg.inv(intrinsics).T @ pose[:3, :3].T
    return np.asarray((pose[:3, 3] + rays * ((height - pose[2, 3]) / rays[:, 2:]))[:, :2])


def shown_in_dream(episode: JudgedEpisode) -> Shown:
    """What all T + 1 pictures of the dream show, the first of them at rest."""
    before = episode.slots[[0, *range(len(episode.slots) - 1)]]
    return _shown(episode, episode.slots, before, episode.joints)


def shown_in_twin(episode: JudgedEpisode) -> Shown:
    """The exact truth at the twin's M moments. Objects that are lifted have no place on the table."""
    from vap_sim.envs.scenes import Scene
    from vap_sim.envs.tasks import Situation

    scene, truth = Scene.from_dict(episode.meta["scene"]), episode
    rows = zip(truth.tool, truth.gripper, truth.objects[:, 1], truth.held, truth.speed, strict=True)
    situations = tuple(
        Situation(scene, tool, float(closed), objects, np.zeros_like(held), held, float(speed))
        for tool, closed, objects, held, speed in rows
    )
    heights = np.array([item.size[2] / 2 for item in scene.objects])
    on_table = np.abs(episode.objects[..., 2] - heights) < _LIFTED
    before, places = np.moveaxis(np.where(on_table[..., None], episode.objects[..., :2], np.nan), 1, 0)
    return Shown(situations, places, before)


def shown_as_read(episode: JudgedEpisode) -> Shown:
    """The oracle on the twin's own pictures, read one by one: to be compared with `shown_in_twin`. It knows no speed,
    because a single picture has none."""
    moved = np.full((len(episode.steps), *episode.slots[0].shape), np.nan)
    for moment, (centres, present) in enumerate(zip(episode.read, episode.read_present, strict=True)):
        found = [_chroma(episode.twin[moment, 1], centre) for centre in centres[present]]
        for slot in np.flatnonzero(episode.present) if found else ():
            off = np.abs(np.stack(found) - _chroma(episode.dream[0], episode.slots[0, slot])).sum(-1)
            if off.min() < _SAME_COLOR:
                moved[moment, slot] = centres[present][off.argmin()]
    return _shown(episode, moved, np.full_like(moved, np.nan), episode.measured)


def label(shown: Shown, moment: int, task: Task, index: int = 0, margin: float = MARGIN) -> Label:
    """Whether `task` is done at a moment, asked of object `index`: the task's own answer, here and `margin` beside."""
    situation = asked_of(shown.situations[moment], index)
    here = bool(task.success(situation))
    if not np.isfinite(shown.places[moment, index]).all():
        return Label(here, False)
    return Label(here, all(bool(task.success(other)) == here for other in _beside(situation, margin)))


def asked_of(situation: Situation, index: int) -> Situation:
    """The same situation with object `index` as the one that the task is about."""
    order = [index, *(k for k in range(len(situation.objects)) if k != index)]
    scene = replace(situation.scene, objects=tuple(situation.scene.objects[k] for k in order))
    return replace(
        situation,
        scene=scene,
        objects=situation.objects[order],
        touched=situation.touched[order],
        held=situation.held[order],
    )


def _shown(
    episode: JudgedEpisode, slots: NDArray[np.floating], before: NDArray[np.floating], joints: NDArray[np.float32]
) -> Shown:
    from vap_sim.envs.scenes import Scene

    scene = Scene.from_dict(episode.meta["scene"])
    owners = _owners(episode, scene)
    now, then = (np.stack([_places(episode, scene, owners, row) for row in rows]) for rows in (slots, before))
    moved = np.linalg.norm(now - then, axis=-1)
    # No object that was seen twice is none that moves.
    speeds = np.where(np.isfinite(moved), moved, 0.0).max(axis=1, initial=0.0) / _FRAME_SECONDS
    return Shown(_situations(scene, np.nan_to_num(now), speeds, joints), now, then)


def _chroma(picture: NDArray[np.uint8], centre: NDArray[np.floating]) -> Floats:
    """Shares of red, green and blue (3,) in the 3 x 3 pixels about `centre` (2,) [px]."""
    x, y = (
        int(np.clip(round(float(value)), 1, side - 2)) for value, side in zip(centre, picture.shape[1::-1], strict=True)
    )
    color = picture[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).mean(0)
    return np.asarray(color / max(color.sum(), 1.0))


def _owners(episode: JudgedEpisode, scene: Scene) -> list[int | None]:
    """The cut-out of each object of the scene, None where the world has none."""
    points = torch.tensor([[item.x, item.y, item.size[2] / 2] for item in scene.objects], dtype=torch.float32)
    expected = episode.camera.project(points)[0].numpy()
    owners: list[int | None] = []
    for pixel in expected:
        distance = np.where(episode.present, np.linalg.norm(episode.slots[0] - pixel, axis=1), np.inf)
        owners.append(int(distance.argmin()) if distance.min() < _FOUND else None)
    return owners


def _places(
    episode: JudgedEpisode, scene: Scene, owners: Sequence[int | None], centres: NDArray[np.floating]
) -> Floats:
    """Table places (K, 2) [m] of all objects by their cut-outs' `centres` (S, 2) [px]; NaN for those without one."""
    out = np.full((len(scene.objects), 2), np.nan)
    for index, (item, slot) in enumerate(zip(scene.objects, owners, strict=True)):
        if slot is not None:
            pixels = np.stack([centres[slot], episode.slots[0, slot]]).astype(np.float64)
            now, begun = to_plane(episode.camera, pixels, item.size[2] / 2)
            out[index] = now - begun + (item.x, item.y)
    return out


def _situations(scene: Scene, places: Floats, speeds: Floats, joints: NDArray[np.float32]) -> tuple[Situation, ...]:
    """What the task sees of n moments: objects lie on the table, and nothing is held by an open gripper."""
    from vap_sim.envs.tasks import Situation

    model = load_robot("panda_robotiq")
    assert model.gripper is not None
    poses = torch.from_numpy(joints).double()
    tools = model.robot.forward(poses)[:, model.robot.link_index(model.tool_link), :3, 3].numpy()
    closed = model.gripper.to_position(poses[:, model.robot.joint_index(model.gripper.joint)]).numpy()
    heights = np.repeat(np.array([[[item.size[2] / 2] for item in scene.objects]]), len(places), axis=0)
    none = np.zeros(len(scene.objects), np.bool_)
    rows = zip(tools, closed, np.concatenate([places, heights], axis=2), speeds, strict=True)
    return tuple(
        Situation(scene, tool, float(gripper), objects, none, none, float(speed))
        for tool, gripper, objects, speed in rows
    )


def _beside(situation: Situation, margin: float) -> list[Situation]:
    """Situations in which object 0 stands `margin` elsewhere."""
    out = []
    for angle in np.arange(8) * np.pi / 4:
        objects = situation.objects.copy()
        objects[0, :2] += margin * np.array([np.cos(angle), np.sin(angle)])
        out.append(replace(situation, objects=objects))
    return out
