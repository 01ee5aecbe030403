"""Recorded motion as the contact network sees it: bones, tools and things in space, and where cameras see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

from vap_sim.data.twin import TwinEpisode
from vap_sim.models.compact.geometry import facing, see
from vap_sim.models.compact.matching import Piece, stand
from vap_sim.prompts.projection import projection_matrix
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot
from vap_sim.robots.points import plan_points
from vap_sim.training.motion_films import no_good, seen_motion
from vap_sim.training.tracks import Bodies

Floats = NDArray[np.float32]
_MOVED, _TURNED = 0.001, 0.02  # [m], [rad] a frame: less is rest
_NEAR = 0.06  # [m] between a bone and a thing's middle
_FARTHEST = 0.15  # [m] by which a camera may misjudge where a thing is


@dataclass(frozen=True, eq=False)
class ContactFilm:
    """One episode of T frames, K things and B bones, in the base frame [m].

    bones (T, B, 8), nominal, as in `VisualPrompt`; carry (T, 4, 4), what takes the tool from the frame before to where
    it is; places (T, K, 3) and turns (T, K, 3), rotation vectors from the frame before [rad]; guesses (C, K, 3): by how
    much each of C cameras takes a thing to lie elsewhere; sizes (C, K, 2) and away (C, K, 3): as in `contact.Things`;
    shown (C, K) bool; moving, near (T, K) bool: it moved into frame t, a bone is close in frame t."""

    bones: Floats
    carry: Floats
    places: Floats
    turns: Floats
    guesses: Floats
    sizes: Floats
    away: Floats
    shown: NDArray[np.bool_]
    moving: NDArray[np.bool_]
    near: NDArray[np.bool_]

    @property
    def length(self) -> int:
        """The number of frames T."""
        return len(self.bones)

    @classmethod
    def of(cls, episode: TwinEpisode, model: RobotModel, cameras: Sequence[Camera]) -> ContactFilm:
        """The film of an episode as cameras see it in its first frame."""
        bodies = Bodies.of(episode)
        plan = plan_points(model.robot, model.skeleton, model.tool_link)
        points, tool = plan.positions_and_tool(episode.joints.astype(np.float64))
        bones = plan.bones(points.astype(np.float32))
        carry = tool @ np.linalg.inv(np.concatenate([tool[:1], tool[:-1]]))
        places = bodies.boxes.mean(2)
        rotations = Rotation.from_quat(episode.object_poses[..., 3:].reshape(-1, 4).astype(np.float64)).as_matrix()
        rotations = rotations.reshape(*episode.object_poses.shape[:2], 3, 3)
        between = rotations[1:] @ rotations[:-1].swapaxes(-1, -2)
        turns = np.zeros_like(places)
        turns[1:] = Rotation.from_matrix(between.reshape(-1, 3, 3)).as_rotvec().reshape(turns[1:].shape)
        steps = np.zeros(places.shape[:2])
        steps[1:] = np.linalg.norm(np.diff(places, axis=0), axis=2)
        seen = [_seen(bodies, camera, model, episode) for camera in cameras]
        return cls(
            bones=bones,
            carry=carry.astype(np.float32),
            places=places.astype(np.float32),
            turns=turns.astype(np.float32),
            guesses=np.stack([one[0] for one in seen]).astype(np.float32),
            sizes=np.stack([one[1] for one in seen]).astype(np.float32),
            away=np.stack([one[2] for one in seen]).astype(np.float32),
            shown=np.stack([one[3] for one in seen]),
            moving=(steps > _MOVED) | (np.linalg.norm(turns, axis=2) > _TURNED),
            near=_gaps(bones[..., :6].reshape(*bones.shape[:2], 2, 3), places) < _NEAR,
        )


def _seen(
    bodies: Bodies, camera: Camera, model: RobotModel, episode: TwinEpisode
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """By how much a camera takes things (K, 3) to be elsewhere in the first frame, their sizes (K, 2), the direction
    (K, 3) from which it sees them, and whether it does (K,)."""
    with torch.no_grad():
        poses = model.robot.forward(torch.from_numpy(episode.joints[None, :1]).double())
    matrix = projection_matrix(camera, poses, model.robot)[0, 0].astype(np.float64)
    eye = -np.linalg.solve(matrix[:, :3], matrix[:, 3])
    middles = bodies.boxes[0].mean(1).astype(np.float64)
    count, (width, height) = len(middles), camera.size
    guess, sizes, away, shown = np.zeros((count, 3)), np.zeros((count, 2)), np.zeros((count, 3)), np.zeros(count, bool)
    for k, middle in enumerate(middles):
        pixel, depth = see(matrix, middle)
        inside = depth > 0 and (pixel > 0).all() and (pixel < (width - 1, height - 1)).all()
        if not inside:
            continue
        outline, _ = see(matrix, bodies.outlines[k][0].astype(np.float64))
        foot = np.array([pixel[0], outline[:, 1].max()])
        piece = Piece(0, k, pixel, foot, width=float(np.ptp(outline[:, 0])), hue=np.zeros(3), pixels=0.0)
        place = stand(piece, matrix, table=0.0)
        if np.linalg.norm(place - middle) > _FARTHEST:
            continue
        pitch = np.linalg.norm(facing(matrix, place), axis=0)
        guess[k], sizes[k], shown[k] = place - middle, np.ptp(outline, axis=0) * pitch, True
        away[k] = (eye - place) / np.linalg.norm(eye - place)
    return guess, sizes, away, shown


def _gaps(bones: Floats, places: Floats) -> NDArray[np.float64]:
    """The least distance (T, K) [m] of things (T, K, 3) from bones (T, B, 2, 3)."""
    first, along = bones[:, None, :, 0] - places[:, :, None], (bones[:, :, 1] - bones[:, :, 0])[:, None]
    share = -(first * along).sum(-1) / np.maximum(np.square(along).sum(-1), 1e-12)
    return np.asarray(np.linalg.norm(first + np.clip(share, 0, 1)[..., None] * along, axis=-1).min(-1), np.float64)


def load_contact_films(
    files: Sequence[Path], *, views: int = 4, seed: int = 0, progress: bool = True
) -> tuple[ContactFilm, ...]:
    """Films of episodes as seen by their own cameras and, up to `views` of each, by cameras of others of its robot.

    seed: decides which. Raises BadFile for the first file that is no good."""
    films = []
    for path, episode, cameras in seen_motion(files, views=views, seed=seed, progress=progress):
        with no_good(path):
            films.append(ContactFilm.of(episode, load_robot(episode.meta["robot"]), cameras))
    return tuple(films)
