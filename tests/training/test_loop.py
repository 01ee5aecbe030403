"""The training loop: a run in pieces equals a whole one bit by bit; no accident costs more than the last steps."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from vap_sim.errors import BadFile, InvalidInput, MissingDependency
from vap_sim.models import checkpoint as checkpoint_module
from vap_sim.training.loop import LoopSettings, Outcome, learning_rate, train


class Tiny:
    """Fits a small convolution to a fixed one; the batch follows from the step. `stop_at`: a step that fails."""

    def __init__(
        self, seed: int = 0, stop_at: int | None = None, broken: frozenset[int] = frozenset(), training: bool = False
    ) -> None:
        source = torch.Generator().manual_seed(seed)
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 1, 1))
        with torch.no_grad():
            for value in self.network.parameters():
                value.copy_(torch.randn(value.shape, generator=source) * 0.3)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.train(training)
        self.seed, self.stop_at, self.broken = seed, stop_at, broken
        self.steps: list[int] = []
        self.previews: list[dict[str, Tensor]] = []

    def loss(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        if step == self.stop_at:
            raise KeyboardInterrupt
        assert self.network.training and torch.is_grad_enabled()
        self.steps.append(step)
        source = torch.Generator().manual_seed(1000 * self.seed + step)
        x = torch.randn(4, 3, 6, 6, generator=source)
        error = (self.network(x) - x[:, :1, 1:-1, 1:-1]).square().mean()
        if step in self.broken:
            error = error * float("nan")
        return error, {"error": error.detach()}

    def preview(self, step: int) -> Mapping[str, Tensor]:
        assert not self.network.training and not torch.is_grad_enabled()
        self.previews.append({name: value.clone() for name, value in self.network.state_dict().items()})
        return {"picture": torch.zeros(3, 4, 4, dtype=torch.uint8)}

    def describe(self) -> Mapping[str, Any]:
        return {"seed": self.seed, "sizes": [3, 4]}


def settings(folder: Path, **changes: Any) -> LoopSettings:
    plain = LoopSettings(
        folder, steps=12, warmup=3, cooldown=4, checkpoint_every=5, log_every=3, preview_every=4, learning_rate=0.01
    )
    return replace(plain, **changes)


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def state(recipe: Tiny) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in recipe.network.state_dict().items()}


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Tiny, Outcome]:
    recipe = Tiny()
    return recipe, train(recipe, settings(tmp_path / "whole"))


def test_a_run_learns_and_says_where_it_stopped(whole: tuple[Tiny, Outcome]) -> None:
    recipe, outcome = whole
    assert (outcome.step, outcome.steps) == (12, 12) and recipe.steps == list(range(12))
    assert not equal(outcome.weights, state(Tiny()))
    fresh, taught = (item.loss(99)[0] for item in (Tiny(training=True), recipe))
    assert float(taught.detach()) < 0.9 * float(fresh.detach())


@pytest.mark.parametrize("killed_at", [3, 5, 7, 11])
def test_a_killed_run_goes_on_and_ends_as_an_unbroken_one(
    killed_at: int, whole: tuple[Tiny, Outcome], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(Tiny(stop_at=killed_at), settings(tmp_path / "run"))
    second = Tiny()
    outcome = train(second, settings(tmp_path / "run"))
    assert second.steps[0] == 5 * (killed_at // 5)  # where the last checkpoint was
    assert equal(outcome.weights, whole[1].weights) and equal(state(second), state(whole[0]))


def test_a_run_in_three_pieces_of_time_equals_a_whole_one(
    whole: tuple[Tiny, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = settings(tmp_path / "run")
    recipe = Tiny()
    none = train(recipe, replace(run, minutes=0.0))
    assert none.step == 0 and recipe.steps == [] and equal(none.weights, state(Tiny()))
    assert json.loads((tmp_path / "run" / "checkpoint.json").read_text())["step"] == 0
    ticks = iter(range(1000))
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: float(next(ticks)))
        part = train(Tiny(), replace(run, minutes=4.5 / 60))
    assert part.step == 4
    last = Tiny()
    outcome = train(last, run)
    assert last.steps == list(range(4, 12))
    assert equal(outcome.weights, whole[1].weights) and equal(state(last), state(whole[0]))


def test_a_finished_run_has_nothing_left_to_do(whole: tuple[Tiny, Outcome], tmp_path: Path) -> None:
    again = Tiny()
    outcome = train(again, settings(tmp_path / "whole"))
    assert again.steps == [] and outcome.step == 12 and equal(outcome.weights, whole[1].weights)
    longer = Tiny()
    assert train(longer, settings(tmp_path / "whole", steps=14)).step == 14 and longer.steps == [12, 13]


def test_only_one_checkpoint_is_kept(whole: tuple[Tiny, Outcome], tmp_path: Path) -> None:
    files = sorted(path.name for path in (tmp_path / "whole").iterdir() if path.is_file())
    assert len(files) == 2 and files[1] == "checkpoint.json"


def test_the_average_follows_the_weights(tmp_path: Path) -> None:
    recipe, seen = Tiny(), []
    loss = recipe.loss

    def watched(step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        seen.append(state(recipe))
        return loss(step)

    recipe.loss = watched  # type: ignore[method-assign]
    outcome = train(recipe, settings(tmp_path, average=0.5))
    seen.append(state(recipe))
    expected = seen[0]["0.weight"]
    for step, weights in enumerate(seen[1:], start=1):
        keep = min(0.5, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * weights["0.weight"]
    assert torch.allclose(outcome.weights["0.weight"], expected, atol=1e-7)
    still = train(Tiny(), settings(tmp_path / "b", average=0.0))
    assert equal(still.weights, seen[-1])


def test_previews_show_the_average_and_change_nothing(whole: tuple[Tiny, Outcome], tmp_path: Path) -> None:
    recipe = whole[0]
    assert len(recipe.previews) == 3
    assert equal(recipe.previews[-1], whole[1].weights) and not equal(recipe.previews[-1], state(recipe))
    unseen = Tiny()
    assert equal(train(unseen, settings(tmp_path / "unseen", preview_every=99)).weights, whole[1].weights)
    assert unseen.previews == []


def test_the_learning_rate_rises_stays_and_falls_to_nothing(tmp_path: Path) -> None:
    plan = settings(tmp_path, steps=100, warmup=10, cooldown=20, learning_rate=2.0)
    rates = [learning_rate(plan, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.2) and rates[4] == pytest.approx(1.0)
    assert rates[9:81] == pytest.approx([2.0] * 72)
    assert rates[90] == pytest.approx(1.0) and rates[99] == pytest.approx(0.1)
    flat = settings(tmp_path, warmup=0, cooldown=0, learning_rate=2.0)
    assert {learning_rate(flat, step) for step in range(12)} == {2.0}


@pytest.mark.parametrize("changes", [{"learning_rate": 0.0}, {"warmup": 10**9}, {"clip": 1e-13, "weight_decay": 0.0}])
def test_no_rate_and_no_gradient_change_nothing(changes: dict[str, float], tmp_path: Path) -> None:
    recipe = Tiny()
    train(recipe, settings(tmp_path, **changes))
    for name, value in state(Tiny()).items():
        assert torch.allclose(recipe.network.state_dict()[name], value, atol=1e-6), name


def test_one_broken_batch_does_not_break_the_weights(tmp_path: Path) -> None:
    recipe = Tiny(broken=frozenset({4}))
    outcome = train(recipe, settings(tmp_path))
    assert all(torch.isfinite(value).all() for value in [*outcome.weights.values(), *state(recipe).values()])
    assert outcome.step == 12


def test_losses_and_pictures_are_logged(whole: tuple[Tiny, Outcome], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "whole" / "tensorboard"))
    events.Reload()
    assert {"loss", "gradient_norm", "terms/error"} <= set(events.Tags()["scalars"])
    assert [item.step for item in events.Scalars("loss")] == [3, 6, 9, 12]
    assert [item.step for item in events.Images("picture")] == [4, 8, 12]


def test_checkpoints_of_other_settings_are_refused(whole: tuple[Tiny, Outcome], tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"checkpoint\.json: a checkpoint of .*'seed': 0.*, this recipe is .*'seed': 1"):
        train(Tiny(seed=1), settings(tmp_path / "whole"))


def rewrite(folder: Path, **changes: Any) -> None:
    """Change the tensors of a checkpoint: None removes one."""
    index = json.loads((folder / "checkpoint.json").read_text())
    path = folder / index["files"][0]
    with safetensors.safe_open(path, "pt") as file:
        header = file.metadata()
    tensors = {**safetensors.torch.load_file(path), **changes}
    safetensors.torch.save_file({k: v for k, v in tensors.items() if v is not None}, path, metadata=header)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network/0.bias": None}, r"tensor '0\.bias' is missing"),
        ({"network/0.bias": torch.zeros(5)}, r"tensor '0\.bias' is \(5,\), expected \(4,\)"),
        ({"average/0.bias": None}, r"the average of '0\.bias' is missing or of another shape"),
        ({"average/0.bias": torch.zeros(5)}, r"the average of '0\.bias' is missing or of another shape"),
        ({"optimizer/0/exp_avg": None}, "the optimizer's memory of a weight is not whole"),
        ({"optimizer/0/exp_avg": torch.zeros(5)}, "the optimizer's tensor '0/exp_avg' belongs to no weight"),
        ({"optimizer/9/exp_avg": torch.zeros(4)}, "the optimizer's tensor '9/exp_avg' belongs to no weight"),
        ({"optimizer/x/exp_avg": torch.zeros(4)}, "the optimizer's tensor 'x/exp_avg' belongs to no weight"),
        ({"code": torch.zeros(1)}, "tensor 'code' is neither of network, average, optimizer"),
    ],
)
def test_foreign_tensors_in_a_checkpoint_are_refused(
    changes: dict[str, Tensor | None], words: str, whole: tuple[Tiny, Outcome], tmp_path: Path
) -> None:
    rewrite(tmp_path / "whole", **changes)
    with pytest.raises(BadFile, match=words):
        train(Tiny(), settings(tmp_path / "whole"))


@pytest.mark.parametrize("step", [None, -1, "5"])
def test_a_checkpoint_without_a_step_is_refused(step: object, whole: tuple[Tiny, Outcome], tmp_path: Path) -> None:
    path = tmp_path / "whole" / "checkpoint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "step": step}))
    with pytest.raises(BadFile, match=f"field 'step' is {step!r}, expected a number of steps"):
        train(Tiny(), settings(tmp_path / "whole"))


def test_a_full_disk_leaves_the_last_whole_checkpoint(
    whole: tuple[Tiny, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = safetensors.torch.save_file
    calls = iter(range(100))

    def fills_up(*arguments: Any, **options: Any) -> None:
        if next(calls) > 0:  # the first checkpoint still fits
            raise OSError(28, "No space left on device")
        saved(*arguments, **options)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "save_file", fills_up)
        with pytest.raises(OSError, match="No space left"):
            train(Tiny(), settings(run))
    assert json.loads((run / "checkpoint.json").read_text())["step"] == 5
    assert not list(run.glob("*.partial"))
    second = Tiny()
    assert equal(train(second, settings(run)).weights, whole[1].weights) and second.steps[0] == 5


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of the log
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("cannot mount a small disk here")
    try:
        first = train(Tiny(), settings(disk, steps=5, cooldown=0))
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(1024))
        with pytest.raises(OSError, match=r"cannot be written|No space left"):
            train(Tiny(), settings(disk))
        filler.unlink()
        again = train(Tiny(), settings(disk, steps=5, cooldown=0))
        assert again.step == 5 and equal(again.weights, first.weights)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)  # the log may still be open


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0, "cooldown": 0}, "training steps: given 0 with cooldown 0"),
        ({"cooldown": 13}, "training steps: given 12 with cooldown 13, expected steps >= cooldown"),
        ({"cooldown": -1}, "cooldown and steps between checkpoints"),
        ({"checkpoint_every": 0}, "cooldown and steps between checkpoints"),
        ({"log_every": 0}, "cooldown and steps between checkpoints"),
        ({"preview_every": 0}, "cooldown and steps between checkpoints"),
        ({"average": 1.0}, r"average: given 1\.0"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=words):
        settings(tmp_path, **changes)


def test_a_missing_tensorboard_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependency, match=r"tensorboard is not installed.*vap-sim\[train\]"):
        train(Tiny(), settings(tmp_path))
