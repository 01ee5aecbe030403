"""Filtered behaviour cloning: clone the successes of practice, let the clone practise, and clone again.

The filter is what turns mostly failing teachers into a policy that succeeds: no reward but a verdict, no gradient but
that of imitation. Imitating one's own successes, round after round, is the self-imitation of Oh et al. 2018
(arXiv:1806.05635) and the grow-and-improve loop of Gulcehre et al. 2023 (arXiv:2308.08998).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vap_sim.errors import InvalidInput, VAPSimError
from vap_sim.policies.cloning import CloneTraining, clone
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.demonstrations import Demonstrations, joined
from vap_sim.policies.practice import Practice, practise
from vap_sim.training.loop import LoopSettings


class NothingLearned(VAPSimError, RuntimeError):
    """Not one episode of a practice succeeded, so there is nothing to imitate."""

    def __init__(self, practice: Practice) -> None:
        self.practice = practice
        super().__init__(
            f"none of {len(practice.seeds)} episodes of {', '.join(practice.teachers)} in {practice.arena.env_id!r} "
            f"succeeded at {practice.task!r}: expected at least one success to imitate; give more episodes or better "
            "teachers"
        )

    def __reduce__(self) -> tuple[type[NothingLearned], tuple[Practice]]:
        return type(self), (self.practice,)


@dataclass(frozen=True)
class Round:
    """One round: episodes played, successes among them, steps learned from in all so far, and the policy's file."""

    episodes: int
    successes: int
    steps: int
    policy: Path


def improve(
    practice: Practice,
    context: PolicyContext,
    out: Path,
    settings: LoopSettings,
    *,
    rounds: int = 1,
    explore: str = "noise=0.02",
    data: Demonstrations | None = None,
    training: CloneTraining | None = None,
    workers: int = 1,
    after: Callable[[Round], None] = lambda _: None,
    **sizes: int,
) -> tuple[Round, ...]:
    """Practise and clone for some rounds, and write the last policy to `out`, ready for `load_policy("bc@OUT")`.

    The first round is played by the practice's teachers; each later one, on as many seeds that follow, by the policy of
    the round before under the variant `explore` (none where empty). Every round clones from the beginning all successes
    so far, and `data` where given: a policy is improved by what it dreamed without forgetting what it was shown.

    Args:
        settings: of a round's cloning; `settings.folder` holds a folder a round, with its episodes, checkpoints and
            policy, from which the same call goes on.
        workers: as in `practise`.
        after: called when a round is finished.
        **sizes: as in `clone`.

    Raises NothingLearned where nothing is there to imitate, and what `practise` and `clone` raise.
    """
    if rounds < 1:
        raise InvalidInput("rounds of improvement", rounds, "at least 1")
    learned, told = ([] if data is None else [data]), list[Round]()
    for number in range(rounds):
        folder = settings.folder / f"round_{number}"
        begun = practice.seeds[0] + number * len(practice.seeds)
        turn = replace(practice, seeds=range(begun, begun + len(practice.seeds)))
        if number:
            turn = replace(turn, teachers=(_exploring(told[-1].policy, explore),))
        harvest = practise(turn, folder / "episodes", workers=workers)
        learned += [] if harvest.kept is None else [harvest.kept]
        if not learned:
            raise NothingLearned(turn)
        whole = joined(learned)
        policy = out if number == rounds - 1 else folder / "policy.safetensors"
        clone(whole, context, policy, replace(settings, folder=folder / "training"), training, **sizes)
        told.append(Round(len(harvest.trials), harvest.successes, len(whole), policy))
        after(told[-1])
    return tuple(told)


def _exploring(policy: Path, variant: str) -> str:
    """The name of a cloned policy under a variant."""
    target = str(policy).replace("%", "%25").replace("+", "%2B")
    return f"bc@{target}" + (f"+{variant}" if variant else "")
