"""Which worlds a replay dreams in, and what finds the robot in their pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vap_sim.errors import InvalidInput

if TYPE_CHECKING:
    from vap_sim.commands.replay import Replay
    from vap_sim.viewer.replay_lanes import Stage

SHIPPED, NO_DETECTOR = "shipped", "none"


def open_stages(command: Replay) -> tuple[Stage, ...]:
    """The worlds to dream in, in the order given, under names that tell them apart."""
    from vap_sim.models.registry import is_path, load_world
    from vap_sim.viewer.replay_lanes import Stage

    given = (*command.worlds, *command.weights) or ("compact",)
    for one in given:
        if given.count(one) > 1:
            raise InvalidInput("--worlds and --weights", f"{one!r} twice", "each once")
    names = [Path(one).stem if is_path(one) else one for one in given]
    stages = []
    for one, name in zip(given, names, strict=True):
        shown = name if names.count(name) == 1 else f"{Path(one).parent.name}/{name}"
        stages.append(Stage(shown, one, load_world(one, device=command.device), learned_clips(one)))
    if len({stage.name for stage in stages}) < len(stages):
        stages = [replace(stage, name=stage.given) for stage in stages]
    return tuple(stages)


def learned_clips(weights: str) -> tuple[str, ...]:
    """The clips that a weights file says it was adapted to; none for a world's name and other files. Raises BadFile."""
    from vap_sim.models.checkpoint import read_description
    from vap_sim.models.registry import is_path

    if not is_path(weights) or not Path(weights).is_file():
        return ()
    adapted = read_description(Path(weights)).get("adapted")
    named = adapted.get("clips") if isinstance(adapted, dict) else None
    return tuple(str(name) for name in named) if isinstance(named, list) else ()


def seeing(command: Replay, stage: Stage, from_twin: bool, robot: str) -> Stage:
    """The stage with what finds a robot in pictures of a recording, and with the meter that goes with it."""
    from vap_sim.commands.adapt import detector_beside
    from vap_sim.metrics.detector import Detector
    from vap_sim.models.registry import is_path

    given = command.detector
    if given is None and is_path(stage.given) and detector_beside(Path(stage.given)).is_file():
        given = str(detector_beside(Path(stage.given)))
    if given is None and from_twin:
        given = SHIPPED
    if given is None or given == NO_DETECTOR:
        return stage
    if given != SHIPPED:
        return replace(stage, detector=(Path(given), Detector.load(Path(given), device=command.device)))
    from vap_sim.envs.trusting import TrustMeter

    found = Detector.load(robot=robot, device=command.device)
    return replace(stage, detector=(SHIPPED, found), meter=lambda model, world: TrustMeter(model, world, found))
