"""Recorded motion as the motion network sees it: by the recorded cameras and by others, drawn when it is asked for.

Where robot and objects are is known for every frame, and a skeleton and outlines need no renderer. So one recording
gives as many films as one likes, each by another camera, and none of them takes memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from vap_sim.data.twin import TwinEpisode, load_episode
from vap_sim.errors import BadFile, VAPSimError
from vap_sim.models.compact.carry import planes
from vap_sim.models.compact.motion_losses import is_moving
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot
from vap_sim.training.tracks import Bodies, follow, ridden, see

_MEMBERS = ("joints", "object_poses")
_NEAR = 20  # [px] from an object's centre


@dataclass(frozen=True, eq=False)
class MotionFilm:
    """One episode of T frames by one camera. joints (T, J) nominal [rad]; seen: the camera, or where it was in every
    frame; centres (T, S, 2), steps and carried (T, S, 4) as in `tracks.Track`; planes (T, 3, 3): by what the tool would
    carry things into frame t, see `carry.homographies`; moving (T, S): the object moved into frame t; near (T, S): the
    skeleton is close."""

    prompter: Prompter
    camera: Camera
    seen: Camera
    joints: NDArray[np.float32]
    bodies: Bodies
    centres: NDArray[np.float32]
    steps: NDArray[np.float32]
    carried: NDArray[np.float32]
    planes: NDArray[np.float32]
    moving: NDArray[np.bool_]
    near: NDArray[np.bool_]

    @classmethod
    def of(cls, episode: TwinEpisode, camera: Camera, prompter: Prompter, bodies: Bodies | None = None) -> MotionFilm:
        """The film by a camera; bodies: those of the episode, where they are at hand."""
        bodies = Bodies.of(episode) if bodies is None else bodies
        seen = ridden(camera, prompter.model, episode.joints)
        track, prompt = follow(bodies, seen), _told(prompter, camera, episode.joints)
        return cls(
            prompter=prompter,
            camera=camera,
            seen=seen,
            joints=episode.joints,
            bodies=bodies,
            centres=track.centres,
            steps=track.steps,
            carried=track.carried,
            planes=_planes(prompt),
            moving=is_moving(torch.from_numpy(track.steps)).numpy(),
            near=_near(prompt.skeleton[0, 0].numpy(), track.centres),
        )

    @property
    def length(self) -> int:
        """The number of frames T."""
        return len(self.joints)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the pictures [px]."""
        return self.prompter.size

    def skeletons(self, frames: NDArray[np.intp]) -> NDArray[np.uint8]:
        """The prompts (n, H, W, 3) of n frames."""
        drawn: NDArray[np.uint8] = _told(self.prompter, self.camera, self.joints[frames]).skeleton[0, 0].numpy()
        return drawn

    @property
    def rides(self) -> bool:
        """Whether the camera moves."""
        return self.camera.parent_link is not None

    def objects(self, frames: NDArray[np.intp], *, later: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Numbers and alpha (n, H, W) of the objects in n frames, as `tracks.see` gives them; later: seen by the camera
        where it is so many frames on."""
        return see(self.bodies, self.seen, frames, later=later)


def _told(prompter: Prompter, camera: Camera, joints: NDArray[np.float32]) -> VisualPrompt:
    return prompter.draw(torch.from_numpy(joints)[None], [camera])


def _planes(prompt: VisualPrompt) -> NDArray[np.float32]:
    """(T, 3, 3): by what the tool carries things into each frame of a prompt of one row and view."""
    assert prompt.projections is not None and prompt.tool is not None, "a drawn skeleton has both"
    tool = prompt.tool[0]
    found: NDArray[np.float32] = planes(prompt.projections[0, 0], torch.cat([tool[:1], tool[:-1]]), tool).numpy()
    return found


def _near(skeletons: NDArray[np.uint8], centres: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Bool (T, S): whether anything of the skeleton (T, H, W, 3) is drawn within _NEAR of centres (T, S, 2) [px]."""
    height, width = skeletons.shape[1:3]
    found = np.zeros(centres.shape[:2], bool)
    for frame, picture in enumerate(skeletons):
        drawn = cv2.integral(picture.any(-1).astype(np.uint8))
        x, y = np.round(centres[frame]).astype(int).T
        left, right = (np.clip(x + side, 0, width) for side in (-_NEAR, _NEAR + 1))
        top, bottom = (np.clip(y + side, 0, height) for side in (-_NEAR, _NEAR + 1))
        found[frame] = drawn[bottom, right] - drawn[top, right] - drawn[bottom, left] + drawn[top, left] > 0
    return found


def load_motion_films(
    files: Sequence[Path], profile_name: str, *, views: int = 1, seed: int = 0, progress: bool = True
) -> tuple[MotionFilm, ...]:
    """Films of episodes by their own cameras and, up to `views` of each episode, by cameras of others of its robot.

    seed: decides which. Raises BadFile for the first file that is no good."""
    films: list[MotionFilm] = []
    for path, episode, cameras in seen_motion(files, views=views, seed=seed, progress=progress):
        with no_good(path):
            prompter = Prompter(load_robot(episode.meta["robot"]), profile(profile_name), cameras[0].size)
            bodies = Bodies.of(episode)
            films += [MotionFilm.of(episode, camera, prompter, bodies) for camera in cameras]
    return tuple(films)


def seen_motion(
    files: Sequence[Path], *, views: int, seed: int, progress: bool
) -> Iterator[tuple[Path, TwinEpisode, list[Camera]]]:
    """Recorded motion, and the cameras that see it: its own and, up to `views`, some of those of others of its robot.

    seed: decides which. Raises BadFile for the first file that is no good."""
    if not files:
        raise BadFile("the data set", "no episode files")
    episodes = [
        load_episode(path, _MEMBERS) for path in tqdm(files, "reading motion", disable=not progress, mininterval=5)
    ]
    cameras = [_cameras(path, episode) for path, episode in zip(files, episodes, strict=True)]
    pools: dict[str, list[Camera]] = {}
    for episode, own in zip(episodes, cameras, strict=True):
        pools.setdefault(str(episode.meta.get("robot")), []).extend(own)
    bar = tqdm(files, "following objects", disable=not progress, mininterval=5)
    for number, (path, episode, own) in enumerate(zip(bar, episodes, cameras, strict=True)):
        pool = pools[str(episode.meta.get("robot"))]
        others = np.random.default_rng([seed, number]).integers(len(pool), size=max(0, views - len(own)))
        yield path, episode, [*own, *(pool[k] for k in others)]


@contextmanager
def no_good(path: Path) -> Iterator[None]:
    """What goes wrong in here is the recording's fault: raises BadFile."""
    try:
        yield
    except (VAPSimError, KeyError, TypeError, ValueError, IndexError) as error:
        raise BadFile(path, f"meta.json: scene, robot or outlines cannot be used ({error!r})") from error


def _cameras(path: Path, episode: TwinEpisode) -> list[Camera]:
    try:
        cameras = [Camera.from_dict(item) for item in episode.meta["cameras"]]
    except (VAPSimError, KeyError, TypeError, ValueError, IndexError) as error:
        raise BadFile(path, f"meta.json: cameras cannot be used ({error!r})") from error
    if not cameras:
        raise BadFile(path, "meta.json: cameras cannot be used (there are none)")
    return cameras
