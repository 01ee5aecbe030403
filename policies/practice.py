"""Practice: episodes that teachers play in a dream or its twin, of which only the successes are kept to learn from.

What succeeded says the environment's truth where it knows it (the twin), else a judge of pictures (the dream). The
teachers may fail most of the time: what they do wrong is not learned.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from vap_sim.errors import BadFile, InvalidInput, VAPSimError
from vap_sim.metrics.trials import Trial
from vap_sim.models.checkpoint import load_tensors, save_tensors
from vap_sim.policies.demonstrations import Demonstrations, demonstration, joined
from vap_sim.policies.episodes import Job, Played, play
from vap_sim.policies.evaluate import Arena, read_starts
from vap_sim.policies.judge import Judge
from vap_sim.policies.judge_reward import Beginning
from vap_sim.policies.registry import parse_policy
from vap_sim.workers import lost_workers_named

_TENSORS = ("image", "state", "actions", "episode")


@dataclass(frozen=True, kw_only=True)
class Practice:
    """What is played, and where. Raises InvalidInput, UnknownName.

    arena: the environment; task; teachers: names as `load_policy` reads them, each of which plays `rows` seeds in turn;
    seeds: consecutive ones. Episodes begin at the starts that `reference` draws by their seeds, or at `starts` in turn
    (seed s at number s modulo their count), or, with neither, where the arena's own seeds say. judge, every,
    consecutive, steps: as in `Job`; where the arena knows the truth it needs no judge. size: pictures are kept at so
    many pixels a side. about: what else makes the episodes (the judge's weights), for the files.
    """

    arena: Arena
    task: str
    teachers: tuple[str, ...]
    seeds: range
    reference: Arena | None = None
    starts: tuple[Beginning, ...] = ()
    judge: Judge | None = None
    every: int = 2
    consecutive: int = 2
    steps: int = 40
    rows: int = 16
    size: int = 64
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.teachers or isinstance(self.teachers, str):
            raise InvalidInput("teachers", self.teachers, "at least one name of a policy")
        for name in self.teachers:
            parse_policy(name)
        if not len(self.seeds) or self.seeds.step != 1 or self.seeds[0] < 0:
            raise InvalidInput("seeds to practise on", self.seeds, "consecutive ones, 0 or more")
        if self.rows < 1:
            raise InvalidInput("rows of a practice", self.rows, "at least 1")
        if self.reference is not None and self.starts:
            raise InvalidInput("reference and starts of a practice", "both", "one of them, or none")
        if self.judge is not None and self.reference is None and not self.starts:
            expected = "one of the two: a judge must know where episodes begin"
            raise InvalidInput("practice with a judge", "neither reference nor starts", expected)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The episodes in blocks of one teacher each, in the order of their seeds."""
        firsts = range(self.seeds[0], self.seeds[-1] + 1, self.rows)
        return tuple(
            Block(self.teachers[place % len(self.teachers)], range(first, min(first + self.rows, self.seeds[-1] + 1)))
            for place, first in enumerate(firsts)
        )


@dataclass(frozen=True)
class Block:
    """Seeds that one teacher plays."""

    teacher: str
    seeds: range


@dataclass(frozen=True, eq=False)
class Harvest:
    """What practice brought: all its trials, and the steps of those that succeeded (None where none did)."""

    trials: tuple[Trial, ...]
    kept: Demonstrations | None

    @property
    def successes(self) -> int:
        """How many episodes are kept."""
        return 0 if self.kept is None else len(self.kept.instructions)


def practise(practice: Practice, folder: Path, *, workers: int = 1, progress: bool = True) -> Harvest:
    """Play what is not yet in the folder, and return all of it.

    Every finished block is a file of its own, and the same call goes on after a kill. workers: blocks at once, in
    processes.

    Raises:
        InvalidInput: nobody can say which episodes succeeded, or the folder was made by another practice.
        BadFile: a damaged file. What environments, judges and the loading of policies raise.
    """
    if workers < 1:
        raise InvalidInput("workers", workers, "at least 1")
    files = {block: folder / f"{block.seeds[0]:08d}.safetensors" for block in practice.blocks}
    missing = [block for block, file in files.items() if not _is_there(practice, block, file)]
    with tqdm(total=len(practice.seeds), unit="episode", desc=practice.arena.env_id, disable=not progress) as bar:
        bar.update(len(practice.seeds) - sum(len(block.seeds) for block in missing))
        for block in _played([(practice, block, files[block]) for block in missing], workers):
            bar.update(len(block.seeds))
    parts = [_load(file) for file in files.values()]
    kept = [data for _, data in parts if data is not None]
    return Harvest(tuple(trial for trials, _ in parts for trial in trials), joined(kept) if kept else None)


def succeeded(trial: Trial) -> bool:
    """Whether an episode is to be learned from: by its truth, else because a judge ended it as done.

    Raises InvalidInput where it has neither truth nor verdict."""
    if trial.success is not None:
        return trial.success
    if trial.verdict is None:
        raise InvalidInput(
            f"success of {trial.key}", "neither truth nor verdict", "a judge, or an environment that knows it"
        )
    return trial.end == "done" and trial.verdict == "yes"


def _played(jobs: Sequence[tuple[Practice, Block, Path]], workers: int) -> Iterator[Block]:
    """The blocks as they are finished."""
    if workers == 1 or len(jobs) < 2:
        yield from map(_play, jobs)
        return
    spawn = multiprocessing.get_context("spawn")
    kept = "Blocks that were finished are kept: the same call goes on, with fewer workers if memory is short."
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_one_thread)
    with lost_workers_named("practice in the dream", kept), pool:
        yield from pool.map(_play, jobs)


def _one_thread() -> None:
    torch.set_num_threads(1)  # the processes are the parallelism


def _play(given: tuple[Practice, Block, Path]) -> Block:
    """Play one block, and write its file."""
    import vap_sim  # noqa: F401 - registers the environments

    practice, block, file = given
    seeds = tuple(block.seeds)
    starts = tuple(practice.starts[seed % len(practice.starts)] for seed in seeds) if practice.starts else ()
    if practice.reference is not None:
        found = read_starts(practice.reference, [practice.task], seeds, progress=False)
        starts = tuple(found[practice.task, seed] for seed in seeds)
    episodes = play(
        Job(
            env_id=practice.arena.env_id,
            policy=block.teacher,
            task=practice.task,
            seeds=seeds,
            starts=starts,
            at_starts=practice.arena.at_starts,
            steps=practice.steps,
            options=practice.arena.options,
            judge=practice.judge,
            every=practice.every,
            consecutive=practice.consecutive,
        )
    )
    kept = [episode for episode in episodes if succeeded(episode.trial) and len(episode.actions)]
    parts = [_learnable(episode, practice.size) for episode in kept]
    trials = [episode.trial.to_json() for episode in episodes]
    description = {
        "made": _made(practice, block),
        "trials": trials,
        "instructions": [episode.instruction for episode in kept],
    }
    save_tensors(file, _tensors(joined(parts)) if parts else {}, description)
    return block


def _tensors(data: Demonstrations) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(getattr(data, name))) for name in _TENSORS}


def _learnable(episode: Played, size: int) -> Demonstrations:
    """The pictures, states and actions of an episode, without its last picture, upon which nothing was done."""
    if episode.states.shape[1] < 1:
        raise InvalidInput("observations to learn from", "no joints", "joint_position or gripper_position")
    none = np.zeros((len(episode.actions), 0), np.float32)
    return demonstration(episode.frames[:-1], episode.states[:-1], none, episode.actions, episode.instruction, size)


def _made(practice: Practice, block: Block) -> dict[str, Any]:
    """Everything that the episodes of a block depend on, as JSON values."""
    reference = practice.reference
    made = {
        "teacher": [block.teacher, _file_mark(block.teacher)],
        "seeds": [block.seeds[0], block.seeds[-1]],
        "arena": _described(practice.arena),
        "reference": None if reference is None else _described(reference),
        "starts": [getattr(start, "name", "") for start in practice.starts],
        "task": practice.task,
        "steps": practice.steps,
        "judged": None if practice.judge is None else [practice.every, practice.consecutive],
        "size": practice.size,
        "about": dict(practice.about),
    }
    return made


def _described(arena: Arena) -> list[Any]:
    options = {name: repr(value) for name, value in sorted(arena.options.items())}
    return [arena.env_id, options, dict(arena.about), arena.at_starts]


def _file_mark(teacher: str) -> str | None:
    """The first digits of the SHA-256 of the file that a policy is loaded from, None where it needs none."""
    target = parse_policy(teacher).target
    path = None if target is None else Path(target)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path is not None and path.is_file() else None


def _is_there(practice: Practice, block: Block, file: Path) -> bool:
    """Whether a block was played. Raises InvalidInput where it was another one."""
    if not file.exists():
        return False
    there, here = load_tensors(file)[1].get("made"), _made(practice, block)
    if there != here:
        other = there if isinstance(there, dict) else {}
        names = [name for name in here if other.get(name) != here[name]]
        raise InvalidInput(
            f"practice in {file}",
            {name: other.get(name) for name in names},
            f"{ {name: here[name] for name in names} }; name another folder",
        )
    return True


def _load(file: Path) -> tuple[tuple[Trial, ...], Demonstrations | None]:
    """Trials and kept steps of one block. Raises BadFile."""
    tensors, description = load_tensors(file)
    try:
        trials = tuple(Trial.from_json(one) for one in description["trials"])
        if not tensors:
            return trials, None
        values = {name: tensors[name].numpy() for name in _TENSORS}
        return trials, Demonstrations(**values, instructions=tuple(map(str, description["instructions"])))
    except (KeyError, TypeError, VAPSimError) as error:
        raise BadFile(file, f"not a block of practice ({error})") from error
