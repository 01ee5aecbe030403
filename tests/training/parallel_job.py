"""What each process of test_parallel.py does: trains with copied weights, is killed, goes on, then with split ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.training import tiny_diffusion as tiny
from vap_sim.models.checkpoint import save_tensors
from vap_sim.models.cogvideox.control_form import save_control
from vap_sim.training.diffusion import DiffusionTraining
from vap_sim.training.loop import LoopSettings, Outcome, train
from vap_sim.training.parallel import Team, join_team, leave_team, settle

STEPS, MORE, KILLED = 4, 7, 3


def training(batch: int) -> DiffusionTraining:
    return DiffusionTraining(batch=batch, control=0.3, mode="forcing")


def loop(folder: Path, steps: int = STEPS, **changes: Any) -> LoopSettings:
    plain = LoopSettings(
        folder, steps, warmup=2, checkpoint_every=2, log_every=1, preview_every=2, learning_rate=1e-3, accumulate=2
    )
    return replace(plain, **changes)


def recipe(folder: Path, batch: int, team: Team) -> Any:
    data = [tiny.data_set(folder / "films", folder / "cache")]
    return tiny.recipe(data, training(batch), team=team, shown=[data[0].clips[0].load()])


class Killed(Exception):
    """Stands for whatever ends a process."""


def kill(made: Any, step: int) -> Any:
    found = made.loss

    def loss(batch: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        if batch == 2 * step:
            raise Killed
        return found(batch)  # type: ignore[no-any-return]

    made.loss = loss
    return made


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    team = join_team("cpu")
    split = replace(team, shard=True)
    told: dict[str, Any] = {"size": team.size, "any": team.any(team.rank == 1), "none": team.any(False)}
    told["mean"] = float(team.mean(torch.tensor(float(team.rank))))

    def kept(name: str, outcome: Outcome) -> None:
        told[name] = {str(step): loss for step, loss in outcome.losses.items()}
        if team.leads:
            save_tensors(folder / f"{name}.safetensors", outcome.weights, {})

    kept("copied", train(recipe(folder, 1, team), loop(folder / "copied"), team))
    try:
        train(kill(recipe(folder, 1, team), KILLED), loop(folder / "resumed"), team)
    except Killed:
        told["killed"] = True
    kept("resumed", train(recipe(folder, 1, team), loop(folder / "resumed"), team))
    made = recipe(folder, 1, split)
    outcome = train(made, loop(folder / "resumed", MORE), split)
    kept("split", outcome)
    told["shares"] = sum(value.to_local().numel() for value in made.network.parameters())
    told["all"] = sum(value.numel() for value in made.network.parameters())
    if team.leads:
        settle(made.denoiser, outcome.weights)
        save_control(folder / "control", made.denoiser.backbone, made.denoiser.control, profile="skeleton")
    (folder / f"told{team.rank}.json").write_text(json.dumps(told))
    leave_team()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
