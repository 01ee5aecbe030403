"""Recorded twin episodes as clips for a video model: latents, a drawn prompt of any form, the robot's place, words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from vap_sim.data.twin import SUFFIX, TwinEpisode, episode_files, load_episode
from vap_sim.errors import BadFile, InvalidInput, VAPSimError
from vap_sim.models.tensor_cache import TensorCache, fingerprint, hash_file, key_of
from vap_sim.noise import standard_normals
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot
from vap_sim.training.parallel import ALONE, Team

if TYPE_CHECKING:
    from vap_sim.models.cogvideox.codec import Codec

CAPTIONS = "captions.json"
_FORMAT = 1
_PACK, _CELL = 4, 8  # pixel frames and pixels a side in a latent pixel
_REGION = "skeleton"  # the robot's place is drawn the same for all forms, so that their losses can be compared


@dataclass(frozen=True)
class ClipSettings:
    """How clips are cut from recordings. Raises InvalidInput, UnknownName.

    form: draw profile or form of the prompt; frames: pixel frames of a clip, 1 + 4 k; video_stride: recorded frames per
    frame of the clip; control_stride: only every so many poses of a clip are told, those between lie on straight lines,
    as when control is slower than video; spacing: recorded frames between the starts of clips; images: encodings of the
    first frame with fresh noise; dilate: how far around the drawn robot its region reaches [px]; seed: of that noise.
    """

    form: str = "skeleton"
    frames: int = 17
    video_stride: int = 1
    control_stride: int = 1
    spacing: int = 8
    images: int = 4
    dilate: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        profile(self.form)
        if self.frames < 5 or self.frames % _PACK != 1:
            raise InvalidInput("frames of a clip", self.frames, f"1 + {_PACK} k, at least 5")
        if min(self.video_stride, self.control_stride, self.spacing, self.images) < 1 or self.dilate < 0:
            given = (self.video_stride, self.control_stride, self.spacing, self.images, self.dilate)
            raise InvalidInput(
                "strides, spacing, images, dilate of clips", given, "four of 1 or more, one of 0 or more"
            )

    @property
    def reach(self) -> int:
        """Recorded frames that a clip spans."""
        return (self.frames - 1) * self.video_stride + 1


@dataclass(frozen=True, eq=False)
class Clip:
    """latents (T, C, h, w) float32 of the frames; images (1 + K, C, h, w): of the first frame alone, then with noise K
    times; region (T, h, w) float32: 1 where the robot is near, else 0; prompt: one row, one view, F pixel frames."""

    latents: Tensor
    images: Tensor
    region: Tensor
    prompt: VisualPrompt
    caption: str


class ClipSource(Protocol):
    """A clip that is read when it is needed."""

    def load(self) -> Clip:
        """Read it. Raises BadFile."""
        ...


@dataclass(frozen=True)
class StoredClip:
    """A clip in a cache, and its caption, which is not kept there."""

    cache: TensorCache
    key: str
    caption: str

    def load(self) -> Clip:
        """Read it. Raises BadFile."""
        tensors = self.cache.get(self.key)
        try:
            drawn = _unpacked(tensors["drawn"], tensors["lengths"])
            joints = tensors.get("joints")
            prompt = VisualPrompt(drawn[None, None], None if joints is None else joints[None], text=(self.caption,))
            return Clip(tensors["latents"].float(), tensors["images"].float(), tensors["region"], prompt, self.caption)
        except (KeyError, ValueError, RuntimeError, cv2.error) as error:
            raise BadFile(self.cache.path(self.key), f"is not a clip ({error!r})") from error


@dataclass(frozen=True)
class DataSet:
    """Clips of one source, which are mixed with others by their number. seeds: of the recordings they were cut from."""

    name: str
    clips: tuple[ClipSource, ...]
    seeds: tuple[int, ...] = ()


def open_data_set(
    folder: Path,
    settings: ClipSettings,
    codec: Codec,
    cache: TensorCache,
    *,
    files: Sequence[Path] | None = None,
    team: Team = ALONE,
    progress: bool = True,
) -> DataSet:
    """Cut the episodes of a folder into clips and encode those that the cache lacks, shared out over the team.

    files: some of the folder's episodes, all if not given. Captions come from the folder's `captions.json`, an object
    from file names without `.vap.npz` to text, and for others from the scene. Raises BadFile for a damaged episode and
    where no episode is long enough for one clip.
    """
    told, coder = _captions(folder / CAPTIONS), fingerprint(codec)
    chosen = episode_files(folder) if files is None else list(files)
    clips: list[StoredClip] = []
    seeds: list[int] = []
    bar = tqdm(chosen, desc="encoding clips", unit="episode", disable=not (progress and team.leads), mininterval=5)
    for number, path in enumerate(bar):
        found, seed = _planned(path, settings, coder, told, cache)
        seeds.append(seed)
        missing = {place: clip for place, clip in found.items() if not cache.has(clip.key)}
        if missing and number % team.size == team.rank:
            _encode(path, missing, settings, codec)
        clips += found.values()
    team.wait()
    if not clips:
        raise BadFile(folder, f"no episode of {settings.reach} frames or more, which a clip spans")
    return DataSet(folder.name, tuple(clips), tuple(seeds))


def caption_of(meta: Mapping[str, Any]) -> str:
    """Words for a twin episode: what lies on the table and what the robot is about."""
    things = [f"a {item['color']} {item['shape']}" for item in meta["scene"]["objects"]]
    if meta["scene"].get("goal") is not None:
        things.append("a round goal")
    acts = ", ".join(dict.fromkeys(str(one).replace("_", " ") for one in meta["behaviours"]))
    return f"a robot arm over a table with {', '.join(things) or 'nothing'}; {acts}"


def path_of(joints: np.ndarray, start: int, settings: ClipSettings) -> np.ndarray:
    """The poses (F, J) that a clip is told, from an episode's joints (T, J)."""
    poses = joints[start : start + settings.reach : settings.video_stride]
    known = np.unique([*range(0, len(poses), settings.control_stride), len(poses) - 1])
    frames = np.arange(len(poses))
    return np.stack([np.interp(frames, known, axis[known]) for axis in poses.T], axis=1).astype(np.float32)


def region_of(drawn: Tensor, dilate: int) -> Tensor:
    """Latent pixels (T, H/8, W/8) near what is drawn in frames (F, H, W, 3) uint8: 1 or 0, float32."""
    lit = drawn.any(-1).float()[:, None]
    near = F.max_pool2d(lit, 2 * dilate + 1, 1, dilate)
    cells = F.max_pool2d(near, _CELL)[:, 0]
    later = cells[1:].reshape(-1, _PACK, *cells.shape[1:]).amax(1)
    return torch.cat([cells[:1], later])


def noised_images(frame: Tensor, count: int, key: int) -> Tensor:
    """A frame (H, W, 3) uint8 `count` times (count, H, W, 3) with the noise that image-to-video is trained with.

    As in diffusers: normal noise on pixels in [-1, 1] of a spread whose logarithm is normal, -3 with spread 0.5; here
    each is rounded to the 8-bit grid.
    """
    keys, draws = torch.full((count,), key), torch.arange(count)
    sigma = (standard_normals(keys, draws, (1,), stream=1) * 0.5 - 3).exp()
    noise = standard_normals(keys, draws, tuple(frame.shape)) * sigma[:, :, None, None]
    pixels = (frame / 127.5 - 1 + noise).clamp(-1, 1)
    return ((pixels + 1) * 127.5).round().to(torch.uint8)


def _planned(
    path: Path, settings: ClipSettings, coder: str, told: Mapping[str, str], cache: TensorCache
) -> tuple[dict[tuple[int, int], StoredClip], int]:
    """The clips of an episode by view and start, encoded or not; and its seed."""
    episode = load_episode(path, only=("joints",))
    source = hash_file(path)
    try:
        caption = told.get(path.name.removesuffix(SUFFIX)) or caption_of(episode.meta)
        views, seed = len(episode.meta["cameras"]), int(episode.meta["seed"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadFile(path, f"meta.json: scene or cameras cannot be used ({error!r})") from error
    starts = range(0, episode.length - settings.reach + 1, settings.spacing)
    look = profile(settings.form).to_dict()
    clips = {
        (view, start): StoredClip(
            cache,
            key_of(
                kind="clip", format=_FORMAT, source=source, codec=coder, view=view, start=start,
                settings={k: v for k, v in asdict(settings).items() if k != "spacing"}, look=look,
            ),
            caption,
        )
        for view in range(views)
        for start in starts
    }  # fmt: skip
    return clips, seed


def _encode(path: Path, missing: Mapping[tuple[int, int], StoredClip], settings: ClipSettings, codec: Codec) -> None:
    episode = load_episode(path, only=("frames", "joints"))
    try:
        cameras = [Camera.from_dict(item) for item in episode.meta["cameras"]]
        model = load_robot(episode.meta["robot"])
        prompters = [Prompter(model, profile(name), cameras[0].size) for name in (settings.form, _REGION)]
    except (VAPSimError, KeyError, TypeError, ValueError) as error:
        raise BadFile(path, f"meta.json: robot or cameras cannot be used ({error!r})") from error
    for (view, start), clip in missing.items():
        q = torch.from_numpy(path_of(episode.joints, start, settings))[None]
        prompt, shown = (prompter.draw(q, cameras[view : view + 1]) for prompter in prompters)
        frames = episode.frames[view, start : start + settings.reach : settings.video_stride]
        clip.cache.put(clip.key, _tensors(episode, frames, prompt, shown, clip.key, settings, codec), source=path.name)


def _tensors(
    episode: TwinEpisode,
    frames: np.ndarray,
    prompt: VisualPrompt,
    shown: VisualPrompt,
    key: str,
    settings: ClipSettings,
    codec: Codec,
) -> dict[str, Tensor]:
    pixels = torch.from_numpy(np.ascontiguousarray(frames))
    number = int(key[:15], 16) ^ settings.seed
    firsts = torch.cat([pixels[:1], noised_images(pixels[0], settings.images, number)])
    drawn, lengths = _packed(prompt.skeleton[0, 0])
    tensors = {
        "latents": codec.encode(pixels[None])[0].to(torch.float32),
        "images": torch.cat([codec.encode(one[None, None])[0] for one in firsts]).to(torch.float32),
        "region": region_of(shown.skeleton[0, 0], settings.dilate),
        "drawn": drawn,
        "lengths": lengths,
    }
    return tensors if prompt.joints is None else {**tensors, "joints": prompt.joints[0].float()}


def _packed(drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Frames (F, H, W, 3) as PNG, one after the other, and their lengths (F,): drawings are mostly black."""
    files = [cv2.imencode(".png", frame)[1].reshape(-1) for frame in drawn.numpy()]
    return torch.from_numpy(np.concatenate(files)), torch.tensor([len(file) for file in files])


def _unpacked(content: Tensor, lengths: Tensor) -> Tensor:
    files = torch.split(content, lengths.tolist())
    pictures = [cv2.imdecode(file.numpy(), cv2.IMREAD_COLOR) for file in files]
    whole = [picture for picture in pictures if picture is not None]
    if len(whole) < len(pictures):
        raise ValueError("a picture of the prompt is damaged")
    return torch.from_numpy(np.stack(whole).astype(np.uint8))


def _captions(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(path, f"is not JSON ({error})") from error
    if not isinstance(told, dict) or not all(isinstance(text, str) for text in told.values()):
        raise BadFile(path, "expected an object from names of episodes to captions")
    return told
