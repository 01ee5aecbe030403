"""Films for the comparison of prompt forms: twin episodes seen again, small, by one fixed camera or each by its own.

Nothing is simulated anew: robot and objects stand where a recording says they
stood, and only the picture is drawn again, so both kinds of camera see the very same motion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from harness import joint_angles
from torch import Tensor
from tqdm import tqdm

from vap_sim.data.twin import TwinEpisode, load_episode
from vap_sim.envs.scenes import CameraPose, Scene
from vap_sim.envs.twin_renderer import Snapshot, TwinRenderer, scene_camera
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.models.cogvideox.codec import Codec
from vap_sim.models.tensor_cache import TensorCache, hash_file, key_of
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot
from vap_sim.training.clips import Clip, DataSet, caption_of, region_of

CAMERAS = ("random", "fixed")
_APART = 0.17
"""How far cameras of episodes' own are from the one, as a share of where cameras may be. From 63 degrees to either side
(a share of a half) what raw actions mean is not learned in as many steps: they tell no more than a caption."""
REGION_REACH = 2
"""How far around the drawn robot errors weigh more [px]."""
_FORMAT = 1


@dataclass(frozen=True)
class FilmSettings:
    """side: of the square pictures [px]; stride: recorded steps from one picture to the next; frames: pictures of a
    clip, 1 + 4 k. Clips of an episode follow each other, one beginning with the picture the last one ended with."""

    side: int = 64
    stride: int = 2
    frames: int = 9

    def __post_init__(self) -> None:
        if self.side < 32 or self.side % 16 or self.stride < 1 or self.frames < 5 or self.frames % 4 != 1:
            given = f"side {self.side}, stride {self.stride}, {self.frames} frames"
            raise InvalidInput(
                "films", given, "a side of 32, 48, ...; a stride of 1 or more; 1 + 4 k frames, 5 or more"
            )


@dataclass(frozen=True, eq=False)
class Film:
    """One episode by one camera: frames (T, H, W, 3) uint8, robot (T, H, W) bool, nominal joints (T, J) float32."""

    frames: Tensor
    robot: Tensor
    joints: Tensor
    camera: Camera
    caption: str
    seed: int

    def clips(self, frames: int) -> Iterator[Film]:
        """The film in pieces of so many frames, each beginning with the last frame of the one before."""
        for first in range(0, len(self.frames) - frames + 1, frames - 1):
            part = slice(first, first + frames)
            yield Film(self.frames[part], self.robot[part], self.joints[part], self.camera, self.caption, self.seed)


@dataclass(frozen=True, eq=False)
class KeptClip:
    """A clip in memory, for a `DataSet` that is small enough; `load` as of `clips.StoredClip`."""

    clip: Clip

    def load(self) -> Clip:
        return self.clip


def camera_of(kind: str, seed: int, side: int) -> Camera:
    """The camera by which an episode is seen: the one at the robot's left, or one of its own, which its seed decides.

    The others stand up to 21 degrees farther around the robot than the one, or less far, 4 degrees higher or lower,
    and differ a little in distance, aim and angle of view. Raises UnknownName.
    """
    if kind not in CAMERAS:
        raise UnknownName("cameras", kind, CAMERAS)
    # The one camera looks from the side: head-on, how far the arm reaches could hardly be seen.
    share = np.array([0.75] + [0.5] * 6)
    if kind != "fixed":
        share = share + np.random.default_rng([seed, 17]).uniform(-_APART, _APART, size=7)
    low = np.array([-1.1, 0.30, 0.95, 0.60, 0.39, -0.05, 0.10])
    high = np.array([1.1, 0.75, 1.20, 0.75, 0.49, 0.05, 0.20])
    azimuth, elevation, distance, view, *target = (low + share * (high - low)).tolist()
    flat = distance * np.cos(elevation)
    eye = (flat * np.cos(azimuth), flat * np.sin(azimuth), distance * np.sin(elevation))
    pose = CameraPose(kind, tuple(a + float(b) for a, b in zip(target, eye, strict=True)), tuple(target), view)
    return scene_camera(pose, (side, side))


def seen_again(episode: TwinEpisode, camera: Camera, stride: int = 1) -> tuple[Tensor, Tensor]:
    """Every `stride`-th moment of an episode by a camera that stands still: frames (T, H, W, 3) uint8, robot masks
    (T, H, W) bool. It needs measured joints and object poses; of the fingers a recording keeps the mean angle alone.
    """
    model, pose = load_robot(episode.meta["robot"]), np.asarray(camera.T_parent_camera, np.float64)
    renderer = TwinRenderer(Scene.from_dict(episode.meta["scene"]), model.folder / "robot.urdf")
    frames, robot = [], []
    try:
        for q, objects in zip(episode.measured[::stride], episode.object_poses[::stride], strict=True):
            poses = tuple((tuple(row[:3].tolist()), tuple(row[3:].tolist())) for row in objects)
            picture = renderer.render(Snapshot(joint_angles(model, q), poses), camera, pose)
            frames.append(picture.rgb)
            robot.append(picture.robot_mask)
    finally:
        renderer.close()
    return torch.from_numpy(np.stack(frames)), torch.from_numpy(np.stack(robot))


def film_of(path: Path, kind: str, settings: FilmSettings, cache: TensorCache) -> Film:
    """The film of a recording, drawn if the cache lacks it. Raises BadFile."""
    episode = load_episode(path, ("joints", "measured", "object_poses"))
    seed, kept = int(episode.meta["seed"]), slice(None, None, settings.stride)
    camera = camera_of(kind, seed, settings.side)
    key = key_of(kind="film", format=_FORMAT, source=hash_file(path), camera=camera.to_dict(), stride=settings.stride)

    def drawn() -> dict[str, Tensor]:
        frames, robot = seen_again(episode, camera, settings.stride)
        return {"frames": frames, "robot": robot.to(torch.uint8)}

    tensors = cache.made(key, drawn, source=path.name)
    joints = torch.from_numpy(np.ascontiguousarray(episode.joints[kept]))
    things, _, acts = caption_of(episode.meta).rpartition("; ")
    # What the robot is about comes first, for encoders that hear few words.
    return Film(tensors["frames"], tensors["robot"].bool(), joints, camera, f"{acts}; {things}", seed)


def films_of(
    files: Sequence[Path], kind: str, settings: FilmSettings, folder: Path, *, workers: int = 1
) -> tuple[Film, ...]:
    """The films of recordings, in their order; drawn ones are kept in a folder. Raises BadFile."""
    one = partial(_film_of, kind=kind, settings=settings, folder=folder)
    bar = partial(tqdm, total=len(files), desc=f"films, {kind} camera", unit="episode", mininterval=5)
    if workers > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            return tuple(bar(pool.map(one, files)))
    return tuple(bar(map(one, files)))


def _film_of(path: Path, *, kind: str, settings: FilmSettings, folder: Path) -> Film:
    torch.set_num_threads(1)
    return film_of(path, kind, settings, TensorCache(folder))


def data_set(films: Sequence[Film], name: str, form: str, settings: FilmSettings, codec: Codec) -> DataSet:
    """All clips of films with their prompts in one form, in memory. Raises InvalidInput where there is none."""
    model = load_robot("panda_robotiq")
    size = (settings.side, settings.side)
    prompter, robot = (Prompter(model, profile(look), size) for look in (form, "skeleton"))
    kept = []
    for film in tqdm(films, desc=f"drawing {form}", unit="episode", mininterval=5):
        for part in film.clips(settings.frames):
            prompt = prompter.draw(part.joints[None], [part.camera])
            near = robot.draw(part.joints[None], [part.camera]).skeleton[0, 0]
            kept.append(
                KeptClip(
                    Clip(
                        latents=codec.encode(part.frames[None])[0],
                        images=codec.encode(part.frames[None, :1])[0],
                        region=region_of(near, REGION_REACH),
                        prompt=prompt,
                        caption=part.caption,
                    )
                )
            )
    if not kept:
        raise InvalidInput("films", f"{len(films)} without a clip of {settings.frames} frames", "longer recordings")
    return DataSet(name, tuple(kept), tuple(film.seed for film in films))
