"""`vap-sim completion`: a script for the shell, which completes commands, options and the names that options take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from tyro.conf import Positional


@dataclass(frozen=True)
class Completion:
    """Print what makes a shell complete commands, options and names. Example: vap-sim completion bash

    Keep it in a file that the shell reads: for bash ~/.local/share/bash-completion/completions/vap-sim, for fish
    ~/.config/fish/completions/vap-sim.fish, for zsh any file that ~/.zshrc sources after compinit. Names of robots,
    worlds, tasks and environments are those of now, folders in VAP_SIM_ROBOTS included: print it again when they
    change.

    Attributes:
        shell: The shell that reads it.
    """

    shell: Positional[Literal["bash", "zsh", "fish"]]


@dataclass(frozen=True)
class Option:
    """One option as it is typed, the names that it can take, and whether it takes several."""

    word: str
    names: tuple[str, ...] = ()
    several: bool = False


def run(command: Completion) -> str:
    """The script."""
    listed = options_by_command()
    if command.shell == "fish":
        return _fish(listed)
    zsh = ["autoload -U +X bashcompinit && bashcompinit"] if command.shell == "zsh" else []
    return "\n".join([*zsh, _bash(listed)])


def options_by_command() -> dict[str, tuple[Option, ...]]:
    """What every command can be told. An Option without a leading dash stands for names in a place of their own."""
    from vap_sim.cli import commands

    known = known_names()
    always = (Option("--json"), Option("--help"))
    return {name: (*_options(kind, name, known), *always) for name, (kind, _) in commands().items()}


def known_names() -> Mapping[str, tuple[str, ...]]:
    """The names that options take, by the option's field, or by COMMAND.FIELD where commands differ."""
    import gymnasium

    from vap_sim.commands import imagine, train, train_conditioner
    from vap_sim.commands.replay_stages import NO_DETECTOR, SHIPPED
    from vap_sim.data.dataset import FORMATS
    from vap_sim.envs.stations import get_station, station_names
    from vap_sim.metrics.counterfactual import ALTERATIONS
    from vap_sim.models.registry import world_names
    from vap_sim.policies.registry import GRADED, policy_kinds
    from vap_sim.prompts.profiles import form_names, profile_names
    from vap_sim.robots.actions import MODES
    from vap_sim.robots.library import robot_names

    envs = tuple(sorted(name for name in gymnasium.registry if name.startswith("VAP")))
    tasks = tuple(dict.fromkeys(task for name in station_names() for task in get_station(name).tasks))
    policies = tuple(dict.fromkeys([*GRADED, *policy_kinds()]))
    return {
        "robot": robot_names(),
        "world": world_names(),
        "imagine.world": (),
        "train.world": train.WORLDS,
        "adapt.weights": ("compact",),
        "replay.weights": world_names(),
        "worlds": world_names(),
        "altered": tuple(ALTERATIONS),
        "replay.detector": (SHIPPED, NO_DETECTOR),
        "baselines": world_names(),
        "env": envs,
        "reference": envs,
        "task": tasks,
        "tasks": tasks,
        "station": station_names(),
        "policy": policies,
        "policies": policies,
        "teachers": policies,
        "control": MODES,
        "format": tuple(FORMATS),
        "profile": profile_names(),
        "form": form_names(),
        "imagine.with": imagine.SHOWN + imagine.NAMED,
        "train-conditioner.with": tuple(train_conditioner.SYSTEMS),
        "parts": train.PARTS,
        "judge": ("learned", "none"),
        "engine": ("processes", "ray"),
        "alignment": ("first", "each", "none"),
        "precision": ("fp32", "bf16"),
        "device": ("cpu", "cuda"),
    }


def _options(kind: type, command: str, known: Mapping[str, tuple[str, ...]], prefix: str = "") -> Iterator[Option]:
    hints = get_type_hints(kind, include_extras=True)
    for one in fields(kind):
        hint, name = hints[one.name], one.name.strip("_").replace("_", "-")
        if is_dataclass(hint):
            yield from _options(hint, command, known, f"{prefix}{name}.")  # type: ignore[arg-type]
            continue
        placed = hint is Positional[_bare(hint)]
        names = _literals(hint) or known.get(f"{command}.{name}", known.get(one.name, ()))
        if placed:
            yield Option("", names)
        else:
            yield Option(f"--{prefix}{name}", names, several=get_origin(_bare(hint)) is tuple)
            if _bare(hint) is bool:
                yield Option(f"--{prefix}no-{name}")


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _literals(hint: Any) -> tuple[str, ...]:
    """The words of a Literal, wherever in a type it stands."""
    if get_origin(hint) is Literal:
        return tuple(str(word) for word in get_args(hint))
    return tuple(word for inner in get_args(hint) if not isinstance(inner, str | Path) for word in _literals(inner))


def _bash(listed: Mapping[str, Iterable[Option]]) -> str:
    """One function: which words may stand where the cursor is, by the command and the last option before it."""
    lines = [
        "_vap_sim() {",
        '    local word="${COMP_WORDS[COMP_CWORD]}" command="${COMP_WORDS[1]}" last="" values=0 words="" at',
        "    for ((at = 2; at < COMP_CWORD; at++)); do",
        '        case "${COMP_WORDS[at]}" in',
        '            --*) last="${COMP_WORDS[at]}" values=0 ;; *) values=$((values + 1)) ;;',
        "        esac",
        "    done",
        '    if [ "$COMP_CWORD" -eq 1 ]; then',
        f'        words="{" ".join([*listed, "--help", "--version"])}"',
        "    else",
        '        case "$command" in',
        *(f'            {name}) words="{" ".join(_words(own))}" ;;' for name, own in listed.items()),
        "        esac",
        '        case "$command $last" in',
    ]
    for name, own in listed.items():
        for option in own:
            if option.names and option.word:
                more = ' words="$words ' if option.several else ' [ "$values" -eq 0 ] && words="'
                lines.append(f'            "{name} {option.word}"){more}{" ".join(option.names)}" ;;')
    lines += ["        esac", "    fi", '    COMPREPLY=($(compgen -W "$words" -- "$word"))', "}"]
    return "\n".join([*lines, "complete -o default -F _vap_sim vap-sim"])


def _words(options: Iterable[Option]) -> list[str]:
    return [word for option in options for word in ([option.word] if option.word else option.names)]


def _fish(listed: Mapping[str, Iterable[Option]]) -> str:
    lines = [f"complete -c vap-sim -f -n __fish_use_subcommand -a '{' '.join(listed)}'"]
    for name, own in listed.items():
        here = f"complete -c vap-sim -n '__fish_seen_subcommand_from {name}'"
        for option in own:
            names = f" -a '{' '.join(option.names)}'" if option.names else ""
            lines.append(f"{here} -l {option.word[2:]}{' -x' * bool(names)}{names}" if option.word else here + names)
    return "\n".join(lines)
