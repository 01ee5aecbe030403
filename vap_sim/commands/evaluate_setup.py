"""What `vap-sim evaluate` makes of its options: environments, judge and logs, all looked at before long work begins."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vap_sim.errors import InvalidInput, MissingDependency, UnknownName

if TYPE_CHECKING:
    from vap_sim.commands.evaluate import Evaluate
    from vap_sim.metrics.trials import TrialTable
    from vap_sim.policies.evaluate import Arena, Evaluation
    from vap_sim.policies.judge import Judge

JUDGES = ("learned", "none")


def check_options(command: Evaluate) -> None:
    """Raises InvalidInput and UnknownName for options that cannot be, MissingDependency for what they need."""
    from vap_sim.models.registry import world_names
    from vap_sim.policies.evaluate import ENGINES

    for option, least in (("episodes", 1), ("steps", 1), ("rows", 1), ("workers", 1), ("seed", 0), ("videos", 0)):
        if getattr(command, option) < least:
            raise InvalidInput(f"--{option}", getattr(command, option), f"{least} or more")
    least_agreement, seconds = command.least_agreement, command.policy_seconds
    if least_agreement is not None and not 0 <= least_agreement <= 1:
        raise InvalidInput("--least-agreement", least_agreement, "0 to 1")
    if least_agreement is not None and not command.trust:
        raise InvalidInput("--least-agreement", least_agreement, "none beside --no-trust, which measures no agreement")
    if seconds is not None and not 0 < seconds < math.inf:
        raise InvalidInput("--policy-seconds", seconds, "a time above 0 [s]")
    if command.engine not in ENGINES:
        raise UnknownName("engine", command.engine, ENGINES)
    if command.judge not in JUDGES:
        raise UnknownName("judge", command.judge, JUDGES)
    for name in command.baselines:
        if name not in world_names():
            raise UnknownName("world for --baselines", name, world_names())
    if len(set(command.baselines)) < len(command.baselines):
        raise InvalidInput("--baselines", " ".join(command.baselines), "each once")
    if find_spec("matplotlib") is None:
        raise MissingDependency("matplotlib", "report")
    if command.engine == "ray" and find_spec("ray") is None:
        raise MissingDependency("ray", "ray")


def make_judge(name: str) -> Judge | None:
    """The judge of that name, None for "none". Raises BadFile for damaged weights."""
    if name == "none":
        return None
    from vap_sim.policies.judge_learned import LearnedJudge

    return LearnedJudge.load()


def make_arenas(command: Evaluate) -> dict[str, Arena]:
    """The dream, the baselines and the reference by name, each with what its log says made its trials.

    Raises UnknownName for ids, arguments and worlds, InvalidInput for malformed arguments, and what making the
    dream's environment raises.
    """
    from vap_sim.policies.environments import check_options, environment_spec
    from vap_sim.policies.evaluate import Arena, Evaluation

    environment_spec(command.reference)
    shown: dict[str, Any] = {"views": list(command.views)} if command.views else {}
    check_options(command.reference, shown)
    options = {**_json_options(command.env_options), **shown}
    about: dict[str, Any] = {
        "steps": command.steps, "judge": _judge_name(command.judge), "least_agreement": command.least_agreement,
    }  # fmt: skip
    # Said only where they are given, so that logs that never heard of them go on.
    about |= {} if command.policy_seconds is None else {"policy_seconds": command.policy_seconds}
    inside = about | {"consecutive": Evaluation.consecutive} | ({"options": options} if options else {})
    arenas = {"dream": _dream(command, command.world, options, inside)}
    for name in command.baselines:
        arenas[name] = _dream(replace(command, weights=None), name, options, inside)
    return arenas | {"reference": Arena(command.reference, shown, {**about, **shown}, at_starts=False)}


def kept_trials(out: Path, evaluation: Evaluation, arenas: Mapping[str, Arena]) -> dict[str, TrialTable]:
    """The trials of the plan that earlier runs left in `out`, by arena.

    Raises InvalidInput for a log that other settings made or that another process writes, BadFile for a damaged one.
    """
    from vap_sim.metrics.trial_log import TrialLog
    from vap_sim.metrics.trials import TrialTable

    tables = {}
    for name, arena in arenas.items():
        path, trials = out / f"{name}.jsonl", TrialTable(())
        if path.is_file():
            with TrialLog(path, arena.about) as log:
                trials = log.table
        plan = set(evaluation.plan(arena.env_id))
        tables[name] = TrialTable(tuple(one for one in trials if one.key in plan), trials.about, out)
    return tables


def _json_options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except ValueError as error:
        raise InvalidInput("--env-options", text, f"a JSON object ({error})") from error
    if not isinstance(options, dict):
        raise InvalidInput("--env-options", text, "a JSON object")
    return options


def _judge_name(name: str) -> str:
    if name == "none":
        return name
    from vap_sim.policies.judge_learned import WEIGHTS

    return f"{name} {hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:16]}"


def _dream(command: Evaluate, world: str | None, more: Mapping[str, Any], about: Mapping[str, Any]) -> Arena:
    """The dream's environment, and which weights it dreams with."""
    import gymnasium

    from vap_sim.policies.environments import check_options, takes
    from vap_sim.policies.evaluate import Arena

    given = {"world": world, "weights": None if command.weights is None else str(command.weights)}
    options = {**more, **{name: value for name, value in given.items() if value is not None}}
    check_options(command.env, options)
    if command.trust and takes(command.env, "trust"):
        options["trust"] = True
    elif command.least_agreement is not None:
        expected = f"none: environment {command.env!r} has no trust meter"
        raise InvalidInput("--least-agreement", command.least_agreement, expected)
    env = gymnasium.make(command.env, **options)
    spec = getattr(env.unwrapped, "world_spec", None)
    env.close()
    made = {} if spec is None else {"world": spec.name, "fingerprint": spec.fingerprint}
    return Arena(command.env, options, {**about, **made})
