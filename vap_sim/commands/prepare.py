"""`vap-sim prepare`: from recordings of any known format to clips with prompts that lie on the real robot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tqdm import tqdm
from tyro.conf import Positional

from vap_sim.commands.outcome import Outcome
from vap_sim.errors import BadFile, InvalidInput, UnknownName

if TYPE_CHECKING:
    from vap_sim.data.dataset import Dataset
    from vap_sim.data.episode import Episode
    from vap_sim.data.prepared import LeftOut, PreparedSet
    from vap_sim.extraction.alignment_clips import PrepareSettings
    from vap_sim.extraction.matching import Matcher
    from vap_sim.robots.camera import Camera
    from vap_sim.robots.library import RobotModel

NO_CAMERA = "no camera is known for it; `vap-sim calibrate` finds cameras"
_LISTED = 4  # parts that are named for each reason; the index has all of them


@dataclass(frozen=True)
class Prepare:
    """Write clips with aligned prompts. Example: vap-sim prepare data/kitchen --out clips --cameras cameras.json

    Where an arm of six joints logged its tool alone, joints are found from that. What is bad is left out, with the
    reason, in OUT/prepared.json. The same command goes on where it was interrupted.

    Attributes:
        path: Recordings of any known format.
        out: Folder for the clips.
        cameras: What `vap-sim calibrate` wrote; without it, cameras that the recordings state are used.
        robot: Name or folder of the robot, where the recordings do not say.
        format: Format of the recordings, where it is not to be guessed.
        views: Only these cameras, by name.
        size: Side of the pictures [px].
        rate: Pictures a second.
        fit: Crop pictures to squares around the robot, or stretch them whole.
        state_source: What prompts are drawn from: the logged joints, the targets, or the nominal path that a controller
            makes of the targets.
        lag: Time constant of that controller [s]; 0.22 if not given, and 0 for the twin, whose targets are that path
            already.
        align: Correct where the robot is drawn by what each picture shows.
        matcher: How: outline, or loftr.
        matcher_weights: Local folder of the weights of loftr.
        shortest: Frames of a clip at least.
        longest: Frames of a clip at most.
        overlays: So many of the first clips are shown as video and as a sheet in OUT/overlays.
    """

    path: Positional[Path]
    out: Path
    cameras: Path | None = None
    robot: str | None = None
    format: str | None = None
    views: tuple[str, ...] = ()
    size: int = 128
    rate: float = 5.0
    fit: Literal["crop", "stretch"] = "crop"
    state_source: Literal["logged", "target", "nominal"] = "logged"
    lag: float | None = None
    align: bool = True
    matcher: Literal["outline", "loftr"] = "outline"
    matcher_weights: Path | None = None
    shortest: int = 12
    longest: int = 120
    overlays: int = 6


def run(command: Prepare) -> Outcome:
    """Prepare what is not yet prepared; returns a table of what became clips and what did not.

    Raises BadFile, InvalidInput, UnknownName for what concerns all episodes; what concerns one goes into the table.
    """
    from vap_sim.data.dataset import open_dataset
    from vap_sim.robots.library import load_robot

    if command.robot is not None and not Path(command.robot).is_dir():
        load_robot(command.robot)  # an unknown name concerns every episode
    dataset = open_dataset(command.path, command.format)
    settings = _settings(command, dataset)
    matcher = _matcher(command)
    calibrated = _calibrated(command.cameras)
    index = _index(command, settings)
    command.out.mkdir(parents=True, exist_ok=True)
    index.save()
    left = [name for name in dataset.names if name not in index.finished]
    for name in tqdm(left, desc="preparing", unit="episode", dynamic_ncols=True):
        index = _prepared(command, dataset, name, calibrated, settings, matcher, index)
        index.save()
    told = {"finished": index.finished, "clips": index.clips, "left_out": index.left_out, "written": [command.out]}
    return Outcome(summary(index), told)


def _prepared(
    command: Prepare,
    dataset: Dataset,
    name: str,
    calibrated: Mapping[tuple[str, str], Camera],
    settings: PrepareSettings,
    matcher: Matcher | None,
    index: PreparedSet,
) -> PreparedSet:
    """The index with an episode more, whose clips are written."""
    from vap_sim.data.joints_from_tool import with_joints
    from vap_sim.data.prepared import ClipEntry, LeftOut, PreparedClip, clip_file, save_clip
    from vap_sim.extraction.alignment_clips import prepare_episode

    clips: list[ClipEntry] = []
    left_out: list[LeftOut] = []
    try:
        episode = dataset.read(name)
        model = _model(command, episode)
        episode = with_joints(episode, model)
        cameras, unknown = _cameras(command, episode, calibrated)
        left_out += unknown
        for item in prepare_episode(episode, model, cameras, settings, matcher) if cameras else ():
            if isinstance(item, PreparedClip):
                file = clip_file(item.name)
                save_clip(command.out / file, item)
                if len(index.clips) + len(clips) < command.overlays:
                    _show(command.out, file, item, model)
                clips.append(ClipEntry(item.name, file, item.length, tuple(c.name for c in item.cameras)))
            else:
                left_out.append(item)
    except BadFile as error:
        # What was cut from an episode before it turned out to be damaged is no part of the result.
        for clip in clips:
            (command.out / clip.file).unlink(missing_ok=True)
        clips, left_out = [], [LeftOut(name, 0, 0, str(error))]
    return replace(
        index,
        finished=(*index.finished, name),
        clips=(*index.clips, *clips),
        left_out=(*index.left_out, *left_out),
    )


def _settings(command: Prepare, dataset: Dataset) -> PrepareSettings:
    from vap_sim.extraction.alignment_clips import PrepareSettings
    from vap_sim.robots.control import DROID_TAU

    lag = (0.0 if dataset.format == "twin" else DROID_TAU) if command.lag is None else command.lag
    return PrepareSettings(
        size=command.size,
        rate=command.rate,
        fit=command.fit,
        state_source=command.state_source,
        lag=lag,
        align=command.align,
        shortest=command.shortest,
        longest=command.longest,
    )


def _matcher(command: Prepare) -> Matcher | None:
    if command.matcher == "outline":
        return None
    from vap_sim.extraction.matching_loftr import LoftrMatcher

    if command.matcher_weights is None:
        raise InvalidInput("--matcher-weights", None, "a local folder with the weights of the matcher 'loftr'")
    return LoftrMatcher.load(command.matcher_weights)


def _calibrated(path: Path | None) -> Mapping[tuple[str, str], Camera]:
    """Cameras by episode and view."""
    if path is None:
        return {}
    from vap_sim.extraction.cameras_file import read_cameras

    return read_cameras(path)


def _cameras(
    command: Prepare, episode: Episode, calibrated: Mapping[tuple[str, str], Camera]
) -> tuple[dict[str, Camera], list[LeftOut]]:
    """The cameras of the views that are wanted, and the views of which none is known. Raises BadFile."""
    from vap_sim.data.prepared import LeftOut

    for view in command.views:
        if view not in episode.views:
            problem = str(UnknownName(f"view of episode {episode.name!r}", view, episode.views))
            raise BadFile(episode.source, problem)
    cameras, unknown = {}, []
    for view in command.views or tuple(episode.views):
        camera = calibrated.get((episode.name, view)) or episode.cameras.get(view)
        if camera is None:
            unknown.append(LeftOut(episode.name, 0, 0, NO_CAMERA, view))
        else:
            cameras[view] = camera
    if not episode.views:
        raise BadFile(episode.source, f"episode {episode.name!r} has no pictures")
    return cameras, unknown


def _model(command: Prepare, episode: Episode) -> RobotModel:
    """The robot of an episode. Raises BadFile where the episode names none, or none that is known."""
    from vap_sim.robots.library import load_robot

    given = command.robot or episode.robot
    if given is None:
        raise BadFile(episode.source, f"episode {episode.name!r} does not say which robot it shows: give --robot")
    try:
        return load_robot(Path(given) if Path(given).is_dir() else given)
    except UnknownName as error:
        raise BadFile(episode.source, f"episode {episode.name!r}: {error}") from error


def _index(command: Prepare, settings: PrepareSettings) -> PreparedSet:
    """The index in the folder, or an empty one. Raises InvalidInput where it was made with other settings."""
    from vap_sim.data.prepared import INDEX, PreparedSet, open_prepared

    wanted: dict[str, Any] = {"source": command.path.name, **asdict(settings)}
    given = ("robot", "views", "matcher")
    wanted |= {name: getattr(command, name) for name in given} | {"cameras": command.cameras and command.cameras.name}
    wanted["views"] = list(command.views)
    if not (command.out / INDEX).exists():
        return PreparedSet(command.out, wanted)
    index = open_prepared(command.out)
    for name, value in wanted.items():
        if index.settings.get(name) != value:
            expected = f"{name} {index.settings.get(name)!r}, with which the clips there were made, or another folder"
            raise InvalidInput(f"--out {command.out}", f"{name} {value!r}", expected)
    return index


def _show(folder: Path, file: str, clip: Any, model: RobotModel) -> None:
    """The overlay video and sheet of a clip."""
    import cv2

    from vap_sim.data.prepared import SUFFIX
    from vap_sim.viewer.overlay import contact_sheet, overlay_frames
    from vap_sim.viewer.video import write_mp4

    shown = folder / "overlays" / file.removesuffix(SUFFIX)
    write_mp4(shown.with_name(f"{shown.name}.mp4"), overlay_frames(clip, model), clip.frame_rate)
    cv2.imwrite(str(shown.with_name(f"{shown.name}.png")), contact_sheet(clip, model)[..., ::-1])


def summary(index: PreparedSet) -> str:
    """A table for people: how much became clips, and what was left out, by reason."""
    frames = sum(clip.frames for clip in index.clips)
    lines = [f"{len(index.clips)} clips with {frames} frames of {len(index.finished)} episodes in {index.folder}"]
    by_reason: dict[str, list[str]] = {}
    for left in index.left_out:
        view = f" {left.view}" if left.view else ""
        part = f" from {left.first} to {left.last}" if left.last else ""
        by_reason.setdefault(left.reason, []).append(f"{left.name}{view}{part}")
    for reason, parts in by_reason.items():
        more = f" and {len(parts) - _LISTED} more" if len(parts) > _LISTED else ""
        lines.append(f"left out: {', '.join(parts[:_LISTED])}{more}: {reason}")
    return "\n".join(lines)
