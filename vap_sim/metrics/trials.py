"""Trials of policies: one record an episode, tables of them, and success by policy and task.

A trial is named by environment, policy, task and start seed. The same seed is the same start in every environment, so
trials of a dream and of its reference pair up by (policy, task, seed).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.metrics.verdicts import ANSWERS, Answer

ENDS: Mapping[str, str] = {
    "done": "the environment ended it: task or judge said so",
    "time limit": "all steps were taken",
    "untrusted": "the trust meter stopped it",
    "policy failed": "the policy returned nothing usable, or too late",
}
EARLY = ("untrusted", "policy failed")
"""Ends that cut an episode short before it was decided."""
Source = Literal["truth", "verdict"]
"""Who says whether a trial succeeded: the environment's ground truth, or the judge."""


class TrialKey(NamedTuple):
    """What names a trial."""

    env_id: str
    policy: str
    task: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One episode.

    verdict: the judge's, None where none was asked; probability: that the task is done, as the judge has it; success:
    ground truth, None where the environment knows none; reward: sum over steps; steps: taken; end: one of ENDS, with
    `note` for details; agreement_mean, agreement_min: prompt agreement over the frames (0 to 1); drift: how far the
    dream had left what the world was trained on, higher is worse, in the unit of the meter; dissent: the mean chance,
    as the judge has it, that one of the dream's echoes ended otherwise (0 to 1); video: an MP4 file,
    relative to the table's folder; seconds: wall time. Raises InvalidInput and UnknownName for values that cannot be.
    """

    policy: str
    task: str
    seed: int
    env_id: str
    steps: int
    reward: float
    end: str
    seconds: float
    verdict: Answer | None = None
    success: bool | None = None
    probability: float | None = None
    agreement_mean: float | None = None
    agreement_min: float | None = None
    drift: float | None = None
    dissent: float | None = None
    video: str | None = None
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("policy", "task", "env_id"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise InvalidInput(f"{name} of a trial", repr(value), "a name")
        for name in ("seed", "steps"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise InvalidInput(f"{name} of a trial", repr(value), "a whole number, 0 or more")
        if self.end not in ENDS:
            raise UnknownName("end of a trial", self.end, ENDS)
        if self.verdict is not None and self.verdict not in ANSWERS:
            raise UnknownName("verdict of a trial", self.verdict, ANSWERS)
        if self.success is not None and not isinstance(self.success, bool):
            raise InvalidInput("success of a trial", repr(self.success), "True, False or None")
        for name, low, high in _NUMBERS:
            value = getattr(self, name)
            if value is None and name not in ("reward", "seconds"):
                continue
            if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
                raise InvalidInput(f"{name} of a trial", repr(value), f"a finite number from {low:g} to {high:g}")
        if self.video is not None:
            check_video(self.video)
        if not isinstance(self.note, str):
            raise InvalidInput("note of a trial", repr(self.note), "text")

    @property
    def key(self) -> TrialKey:
        """What names it."""
        return TrialKey(self.env_id, self.policy, self.task, self.seed)

    def outcome(self, by: Source) -> bool | None:
        """Whether it succeeded, as truth or verdict have it; None for a judge that cannot tell.

        Raises InvalidInput where the trial has neither: no judge was asked, or the truth is unknown.
        """
        if by == "truth":
            if self.success is None:
                raise InvalidInput(f"ground truth of {self.key}", "none", "an environment that knows it")
            return self.success
        if self.verdict is None:
            raise InvalidInput(f"verdict on {self.key}", "none", "a judge that was asked")
        return {"yes": True, "no": False}.get(self.verdict)

    def chance(self, by: Source) -> float | None:
        """1 or 0 by its outcome; where the judge cannot tell, its probability of success, None where it gave none.

        Judges are silent where success hangs by a hair, and a rate of the others alone would be of easy episodes.
        Raises as `outcome`."""
        outcome = self.outcome(by)
        return self.probability if outcome is None else float(outcome)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; what is None or empty is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None and value != ""}

    @classmethod
    def from_json(cls, content: object) -> Trial:
        """Undo `to_json`. Raises InvalidInput and UnknownName for anything else."""
        if not isinstance(content, dict):
            raise InvalidInput("trial", type(content).__name__, "a JSON object")
        known = [one.name for one in fields(cls)]
        for name in content:
            if name not in known:
                raise UnknownName("field of a trial", name, known)
        missing = [name for name in _REQUIRED if name not in content]
        if missing:
            raise InvalidInput("trial", f"no {', '.join(missing)}", f"an object with {', '.join(_REQUIRED)}")
        return cls(**content)


_LARGEST = 1e300
_NUMBERS = (
    ("reward", -_LARGEST, _LARGEST), ("seconds", 0, _LARGEST), ("probability", 0, 1), ("agreement_mean", 0, 1),
    ("agreement_min", 0, 1), ("drift", -_LARGEST, _LARGEST), ("dissent", 0, 1),
)  # fmt: skip
_REQUIRED = ("policy", "task", "seed", "env_id", "steps", "reward", "end", "seconds")


def check_video(name: str) -> str:
    """The name of a video beside its table. Raises InvalidInput unless it is an MP4 file in its folder or below."""
    path = PurePosixPath(name) if isinstance(name, str) else PurePosixPath()
    inside = not path.is_absolute() and ".." not in path.parts and "\\" not in str(name) and ":" not in str(name)
    if not inside or path.suffix != ".mp4" or any(ord(letter) < 32 for letter in name):
        raise InvalidInput("video of a trial", repr(name), "an .mp4 file, relative to the table's folder, within it")
    return name


@dataclass(frozen=True)
class Cell:
    """How the trials of one policy in one task ended: successes, failures, and those nobody could tell.

    counted: those whose chance of success is known, see `Trial.chance`; likely: the sum of these chances."""

    successes: int = 0
    failures: int = 0
    silent: int = 0
    counted: int = 0
    likely: float = 0.0

    @property
    def answered(self) -> int:
        """Trials with an outcome."""
        return self.successes + self.failures

    @property
    def rate(self) -> float:
        """The mean chance of success. Raises InvalidInput where none is known."""
        if not self.counted:
            raise InvalidInput("success rate", f"{self.silent} trials, none with an outcome", "at least one")
        return self.likely / self.counted


@dataclass(frozen=True)
class TrialTable:
    """Trials in their order, each key once. about: what made them (weights, judge, versions); folder: where the paths
    of videos begin. Raises InvalidInput for a key that stands twice."""

    trials: tuple[Trial, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    def __post_init__(self) -> None:
        key, count = next(iter(Counter(one.key for one in self.trials).most_common(1)), (None, 0))
        if count > 1:
            raise InvalidInput("trials", f"{key} {count} times", "each once")

    def __len__(self) -> int:
        return len(self.trials)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials)

    @property
    def keys(self) -> frozenset[TrialKey]:
        """The names of all trials."""
        return frozenset(one.key for one in self.trials)

    @property
    def policies(self) -> tuple[str, ...]:
        """In the order in which they first appear."""
        return tuple(dict.fromkeys(one.policy for one in self.trials))

    @property
    def tasks(self) -> tuple[str, ...]:
        """In the order in which they first appear."""
        return tuple(dict.fromkeys(one.task for one in self.trials))

    @property
    def env_ids(self) -> tuple[str, ...]:
        """In the order in which they first appear."""
        return tuple(dict.fromkeys(one.env_id for one in self.trials))

    def where(
        self,
        *,
        env_id: str | None = None,
        policy: str | None = None,
        task: str | None = None,
        seeds: Collection[int] | None = None,
    ) -> TrialTable:
        """The trials that fit. Raises UnknownName for an environment, policy or task that no trial has."""
        for kind, name, names in (
            ("environment", env_id, self.env_ids),
            ("policy", policy, self.policies),
            ("task", task, self.tasks),
        ):
            if name is not None and name not in names:
                raise UnknownName(kind, name, names)
        fit = tuple(
            one
            for one in self.trials
            if (env_id is None or one.env_id == env_id)
            and (policy is None or one.policy == policy)
            and (task is None or one.task == task)
            and (seeds is None or one.seed in seeds)
        )
        return TrialTable(fit, self.about, self.folder)

    def joined(self, *others: TrialTable) -> TrialTable:
        """With the trials of other tables (shards of one evaluation).

        Raises InvalidInput for keys that stand twice, and for tables made by something else or in another folder.
        """
        for other in others:
            if dict(other.about) != dict(self.about) or other.folder != self.folder:
                raise InvalidInput(
                    "tables to join", f"{other.about} in {other.folder}", f"{self.about} in {self.folder}"
                )
        return TrialTable(tuple(one for table in (self, *others) for one in table), self.about, self.folder)

    def missing(self, plan: Iterable[TrialKey]) -> tuple[TrialKey, ...]:
        """The trials of a plan that are not in the table, in the plan's order."""
        keys = self.keys
        return tuple(key for key in plan if key not in keys)

    def source(self) -> Source:
        """Who tells all outcomes: ground truth where every trial has it, else the judge where it saw every trial.

        Raises InvalidInput where neither tells them all, since mixed sources are no success rate; names a trial.
        """
        if not self.trials:
            raise InvalidInput("outcomes", "no trials", "at least one")
        if all(one.success is not None for one in self.trials):
            return "truth"
        unjudged = next((one.key for one in self.trials if one.verdict is None), None)
        if unjudged is not None:
            given = f"no verdict on {unjudged}, and not all trials have a truth"
            raise InvalidInput("outcomes", given, "truth in every trial, or verdicts in all")
        return "verdict"

    def pivot(self, by: Source | None = None) -> dict[tuple[str, str], Cell]:
        """Outcomes counted by (policy, task), for all pairs with a trial; `by` as `source` says unless given."""
        told = by or self.source()
        cells: dict[tuple[str, str], Cell] = {}
        for one in self.trials:
            place, outcome, chance = (one.policy, one.task), one.outcome(told), one.chance(told)
            cell = cells.get(place, Cell())
            cells[place] = Cell(
                successes=cell.successes + (outcome is True),
                failures=cell.failures + (outcome is False),
                silent=cell.silent + (outcome is None),
                counted=cell.counted + (chance is not None),
                likely=cell.likely + (chance or 0.0),
            )
        return cells


def plan_trials(
    *, env_ids: Sequence[str], policies: Sequence[str], tasks: Sequence[str], seeds: Sequence[int]
) -> tuple[TrialKey, ...]:
    """Every policy in every task from every start, with the same starts in all environments: matched by design.

    Raises InvalidInput for an empty list and for names or seeds that stand twice.
    """
    for name, values in (("env_ids", env_ids), ("policies", policies), ("tasks", tasks), ("seeds", seeds)):
        if isinstance(values, str) or not len(values) or len(set(values)) != len(values):
            raise InvalidInput(f"{name} of a plan", values, "at least one, each once")
    return tuple(TrialKey(*parts) for parts in product(env_ids, policies, tasks, (int(seed) for seed in seeds)))
