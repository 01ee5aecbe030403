"""`vap-sim replay`: recorded teleoperation, its prompts and dreams of it side by side, as films, curves and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tqdm import tqdm
from tyro.conf import Positional

from vap_sim.commands.outcome import Outcome
from vap_sim.commands.replay_stages import open_stages, seeing
from vap_sim.errors import BadFile, InvalidInput, UnknownName, Unsupported

if TYPE_CHECKING:
    from vap_sim.metrics.counterfactual import Alteration
    from vap_sim.viewer.replay_lanes import DreamSettings, Scene, Stage
    from vap_sim.viewer.replay_record import ReplayRecord
    from vap_sim.viewer.replay_recorded import Recorded, ReplaySource

RECORD = "replay.json"
SHEET_STEPS = (1, 10, 25, 50)
_GIF_WIDTH = 800


@dataclass(frozen=True)
class Replay:
    """Dream what was recorded, beside the recording. Example: vap-sim replay data/station --cameras cameras.json

    From a recording's first picture on, every world is told the recorded joints and nothing else. OUT gets a film of
    each recording and camera (recorded, recorded under its prompt, dreams, and curves of error and trust below), a page
    to look through them (replay.html), and every figure (replay.json, replay.csv). The same command goes on where it
    was interrupted. What cannot be replayed is named, the rest is done, and the exit status is 1.

    Attributes:
        dataset: Recordings of any known format, or the folder that `vap-sim prepare` wrote.
        out: Folder for films and figures.
        worlds: Names of worlds to dream in, side by side. By default compact, where no weights are given.
        weights: Weights files to dream with, side by side, beside the worlds.
        altered: Other actions from the same start, beside what was done: zeroed, reversed, scaled@FACTOR, shuffled,
            mirrored, episode@NAME.
        episodes: Only these recordings, by name.
        most: At most so many recordings, the first.
        views: Only these cameras, by name; by default all that do not ride on the robot.
        held_out: Only clips that none of the weights were adapted to.
        seconds: At most so much of each recording.
        layout: side-by-side shows dreams as they are, overlay shows them under their prompts.
        files: What is written of each: mp4, gif, rrd (needs the extra rerun).
        sheet: Also a picture of steps 1, 10, 25 and 50 of each.
        format: Format of the recordings, where it is not to be guessed.
        cameras: What `vap-sim calibrate` wrote, for recordings that state no cameras.
        robot: Name or folder of the robot, where the recordings do not say.
        state_source: What prompts are drawn from, see `vap-sim prepare`; prepared clips bring it.
        lag: Time constant of the nominal path [s], see `vap-sim prepare`.
        alignment: The homographies that a prepared clip's prompts are drawn through: the first frame's, which is known
            before a dream begins, each frame's own, or none.
        detector: Finds the robot, for agreement: a file, shipped (knows the twin's pictures), or none. By default what
            `vap-sim adapt` left beside the weights, else the shipped one for recordings of the twin.
        seed: Of dreams and of what is drawn by lot.
        device: Where to dream.
        threads: Of the processor.
    """

    dataset: Positional[Path]
    out: Path = Path("out") / "replay"
    worlds: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()
    episodes: tuple[str, ...] = ()
    most: int | None = None
    views: tuple[str, ...] = ()
    held_out: bool = False
    seconds: float | None = None
    layout: Literal["side-by-side", "overlay"] = "side-by-side"
    files: tuple[Literal["mp4", "gif", "rrd"], ...] = ("mp4",)
    sheet: bool = False
    format: str | None = None
    cameras: Path | None = None
    robot: str | None = None
    state_source: Literal["logged", "target", "nominal"] = "logged"
    lag: float | None = None
    alignment: Literal["first", "each", "none"] = "first"
    detector: str | None = None
    seed: int = 0
    device: str = "cpu"
    threads: int = 2


def run(command: Replay) -> Outcome:
    """Dream, write films, page and figures, and say the means.

    Raises InvalidInput, UnknownName, BadFile, Unsupported, MissingDependency for what concerns all recordings, OSError;
    and BadFile at the end where some of them could not be replayed, which names them and why.
    """
    import torch

    from vap_sim.viewer.replay_page import write_page
    from vap_sim.viewer.replay_record import open_record, stamp_of
    from vap_sim.viewer.replay_source import open_source

    _check(command)
    torch.set_num_threads(command.threads)
    source = open_source(command.dataset, command.format, _log_settings(command))
    stages = open_stages(command)
    names = _chosen(command, source, stages)
    settings, others = _dream_settings(command), _others(command, source)
    record = open_record(command.out, _told(command, source, stages)).only(names)
    known: set[str] = set()
    job: _Job | None = None
    # Films are drawn and encoded while the next recording is dreamt.
    with (
        ThreadPoolExecutor(1, "films") as writer,
        tqdm(names, desc="replaying", unit="episode", dynamic_ncols=True, mininterval=1) as bar,
    ):
        try:
            for name in bar:
                bar.set_postfix_str(name)
                try:
                    recorded = source.read(name, command.views)
                    known |= set(recorded.known)
                    if record.has(name, stamp_of(recorded.source), command.out):
                        continue
                    dreamt = _dreamt(command, recorded, stages, settings, others, writer, bar)
                except (BadFile, InvalidInput, Unsupported) as error:
                    record = record.with_refusal(name, str(error))
                    continue
                record, job = _finished(command, job, record), dreamt
        finally:
            record = _finished(command, job, record)
    _check_results(command, record, known)
    record.save(command.out)
    shown = write_page(command.out, record, f"Replays of {command.dataset.name}")
    return _outcome(command, record, shown)


@dataclass(frozen=True, eq=False)
class _Job:
    """A recording whose dreams are judged and whose files are being written: of each view its rows and its files."""

    recorded: Recorded
    stamp: Any
    views: tuple[tuple[list[dict[str, Any]], Future[dict[str, str]]], ...]


def _dreamt(
    command: Replay,
    recorded: Recorded,
    stages: Sequence[Stage],
    settings: DreamSettings,
    others: Mapping[str, Recorded],
    writer: ThreadPoolExecutor,
    bar: Any,
) -> _Job:
    """Dream all views of a recording, and have their files written."""
    from vap_sim.viewer.replay_lanes import dream_scene
    from vap_sim.viewer.replay_record import row_of, stamp_of

    stamp = stamp_of(recorded.source)
    seen = [seeing(command, stage, recorded.from_twin, recorded.model.name) for stage in stages]
    views: list[tuple[list[dict[str, Any]], Future[dict[str, str]]]] = []
    for view in recorded.views:
        scene = dream_scene(
            recorded, view, seen, settings, others, lambda lane: bar.set_postfix_str(f"{recorded.name}: {lane}")
        )
        wait([files for _, files in views])  # no more than two scenes are held at a time
        rows = [row_of(scene, lane, {}) for lane in scene.lanes]
        views.append((rows, writer.submit(write_scene, command, scene)))
    if not views:
        reasons = "; ".join(f"{view}: {why}" for view, why in recorded.left_out.items())
        reasons = reasons or "it has none of the views asked for"
        raise BadFile(recorded.source, f"episode {recorded.name!r} has no camera to replay ({reasons})")
    return _Job(recorded, stamp, tuple(views))


def _finished(command: Replay, job: _Job | None, record: ReplayRecord) -> ReplayRecord:
    """The record with a recording more, once its files are written; the record itself for none."""
    if job is None:
        return record
    name = job.recorded.name
    try:
        rows = [{**row, "files": files.result()} for told, files in job.views for row in told]
    except (BadFile, InvalidInput, Unsupported) as error:
        return record.with_refusal(name, str(error))
    record = record.with_episode(name, job.stamp, rows, job.recorded.left_out)
    record.save(command.out)
    return record


def write_scene(command: Replay, scene: Scene) -> dict[str, str]:
    """Write what was asked for of a scene; returns the files' names by kind."""
    from vap_sim.viewer.gif import write_gif
    from vap_sim.viewer.replay import replay_sheet, write_picture
    from vap_sim.viewer.replay_film import Film
    from vap_sim.viewer.replay_record import file_stem
    from vap_sim.viewer.video import write_mp4

    command.out.mkdir(parents=True, exist_ok=True)
    stem, files = file_stem(scene), {}
    words = f"{scene.recorded.name}, {scene.view}"
    told = f"{words}: {scene.recorded.instruction}" if scene.recorded.instruction else words
    film = Film(scene, command.layout, told)
    for kind in dict.fromkeys(command.files):
        path = command.out / f"{stem}.{kind}"
        if kind == "mp4":
            write_mp4(
                path, film.pictures(), film.rate, quality=20, key_every=max(1, round(2 * film.rate)), preset="veryfast"
            )
        elif kind == "gif":
            write_gif(path, film.pictures, film.rate, _GIF_WIDTH)
        else:
            from vap_sim.viewer.replay_rerun import write_rrd

            write_rrd(path, scene)
        files[str(kind)] = path.name
    if command.sheet:
        sheet = replay_sheet(scene.lanes[0].replayed, scene.clip.size, SHEET_STEPS)
        write_picture(command.out / f"{stem}.png", sheet)
        files["sheet"] = f"{stem}.png"
    return files


def _check(command: Replay) -> None:
    from vap_sim.metrics.counterfactual import parse_alteration

    if command.seconds is not None and not command.seconds > 0:
        raise InvalidInput("--seconds", command.seconds, "more than 0")
    if command.most is not None and command.most < 1:
        raise InvalidInput("--most", command.most, "at least 1")
    if not command.files:
        raise InvalidInput("--files", "none", "mp4, gif or rrd")
    for text in command.altered:
        parse_alteration(text)
    if "rrd" in command.files:
        from vap_sim.viewer.replay_rerun import need_rerun

        need_rerun()


def _log_settings(command: Replay) -> Any:
    from vap_sim.extraction.cameras_file import read_cameras
    from vap_sim.robots.library import load_robot
    from vap_sim.viewer.replay_logged import LogSettings

    if command.robot is not None and not Path(command.robot).is_dir():
        load_robot(command.robot)  # an unknown name concerns every episode
    cameras = {} if command.cameras is None else read_cameras(command.cameras)
    return LogSettings(cameras, command.robot, command.state_source, command.lag)


def _chosen(command: Replay, source: ReplaySource, stages: Sequence[Stage]) -> tuple[str, ...]:
    """The names of the recordings to replay. Raises UnknownName, InvalidInput where none is left."""
    from vap_sim.viewer.replay_source import check_names

    names = check_names(source, command.dataset, command.episodes)
    learned = {name for stage in stages for name in stage.learned}
    left = tuple(name for name in names if not command.held_out or name not in learned)
    if not left:
        given = f"none of {len(names)}, all others were trained on"
        raise InvalidInput(f"episodes of {command.dataset} to replay", given, "at least one")
    return left[: command.most]


def _alterations(command: Replay) -> tuple[Alteration, ...]:
    from vap_sim.metrics.counterfactual import parse_alteration

    return tuple(dict.fromkeys(parse_alteration(text) for text in command.altered))


def _dream_settings(command: Replay) -> DreamSettings:
    from vap_sim.viewer.replay_lanes import DreamSettings

    return DreamSettings(_alterations(command), command.alignment, command.seconds, command.seed)


def _others(command: Replay, source: ReplaySource) -> dict[str, Recorded]:
    """The recordings whose motions are borrowed. Raises UnknownName, BadFile."""
    names = [alteration.episode for alteration in _alterations(command) if alteration.episode]
    for name in names:
        if name not in source.names:
            raise UnknownName(f"episode of {command.dataset}", name, source.names)
    return {name: source.read(name) for name in names}


def _told(command: Replay, source: ReplaySource, stages: Sequence[Stage]) -> dict[str, Any]:
    """What decides the results, as plain values: a call that was told the same goes on."""
    same = ("views", "altered", "seconds", "layout", "files", "sheet", "robot", "state_source", "lag", "alignment")
    told: dict[str, Any] = {name: getattr(command, name) for name in (*same, "detector", "seed")}
    sizes = {tuple(stage.world.spec.size) for stage in stages}
    judged = " and ".join(f"{wide} x {high}" for wide, high in sorted(sizes))
    return {
        "dataset": str(command.dataset),
        "format": source.format,
        "worlds": [{"dream": stage.name, "given": stage.given, **asdict(stage.world.spec)} for stage in stages],
        **{name: list(value) if isinstance(value, tuple) else value for name, value in told.items()},
        "cameras": None if command.cameras is None else str(command.cameras),
        "judged": f"at {judged} pixels, the world's; frame 0 is given and not judged",
    }


def _check_results(command: Replay, record: ReplayRecord, known: set[str]) -> None:
    """Raises UnknownName for a camera that no recording has, BadFile where nothing could be replayed."""
    for view in command.views:
        if known and view not in known:
            raise UnknownName(f"camera of {command.dataset}", view, sorted(known))
    if not record.rows:
        raise BadFile(command.dataset, f"nothing could be replayed\n{_refusals(record)}")


def _refusals(record: ReplayRecord) -> str:
    return "\n".join(f"  {row['episode']}: {row['reason']}" for row in record.refused)


def _outcome(command: Replay, record: ReplayRecord, shown: Path | None) -> Outcome:
    """Lines for people. Raises BadFile where some recordings could not be replayed."""
    from vap_sim.viewer.replay_record import lines_of

    lines = [*lines_of(record), f"written: {command.out / RECORD}" + (f", {shown}" if shown else "")]
    if record.refused:
        count = f"{len(record.refused)} of {len(record.refused) + len(record.finished)} recordings"
        done = "\n".join(lines)
        raise BadFile(command.dataset, f"{count} could not be replayed\n{_refusals(record)}\nThe others:\n{done}")
    written = [command.out / file for row in record.rows for file in row["files"].values()]
    pages = [command.out / RECORD, *([shown] if shown else [])]
    return Outcome("\n".join(lines), {"mean": record.means(), "written": list(dict.fromkeys([*pages, *written]))})
