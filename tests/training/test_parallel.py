"""Several processes: two learn what one learns with twice the batch, copied or split, killed or not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.training import tiny_diffusion as tiny
from vap_sim.errors import InvalidInput, MissingDependency
from vap_sim.models.checkpoint import load_tensors
from vap_sim.training.loop import Outcome, train
from vap_sim.training.parallel import ALONE, Team, Trainable, join_team, part, settle, whole

ROOT = Path(__file__).resolve().parents[2]
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def test_a_process_alone_is_a_team(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    team = join_team("cpu")
    assert team == ALONE and team.leads and team.any(True) and not team.any(False)
    layer, value = torch.nn.Linear(2, 2), torch.arange(3.0)
    assert team.wrap(layer, [layer]) is layer and team.mean(value) is value and whole(value) is value
    assert part(value, value) is value
    team.wait()
    with pytest.raises(InvalidInput, match="weights split over processes: given 1 process"):
        join_team("cpu", shard=True)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InvalidInput, match="weights split over processes"):
        join_team("cpu")


def test_a_missing_accelerate_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(
        MissingDependency, match=r"accelerate is not installed.*vap-sim\[diffusion\].*several processes"
    ):
        join_team("cpu")


def test_the_size_of_a_team_is_read_where_its_starter_wrote_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def state(*, cpu: bool) -> SimpleNamespace:
        asked.append(cpu)
        return SimpleNamespace(process_index=1, num_processes=2, device="cpu")

    monkeypatch.setitem(sys.modules, "accelerate", SimpleNamespace(PartialState=state))
    for name in SIZES:
        monkeypatch.delenv(name, raising=False)
    for count, name in enumerate(SIZES, 1):
        with monkeypatch.context() as told:
            told.setenv(name, "2")
            assert join_team("cpu") == Team(1, 2, torch.device("cpu")) and asked == [True] * count, name
    assert join_team("cpu") == ALONE
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(InvalidInput, match="environment variable WORLD_SIZE: given 'two', expected a number"):
        join_team("cpu")


def test_accelerate_that_starts_one_of_several_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `accelerate launch --cpu --num_processes 2` does; each would train alone and overwrite the other's files."""
    for name in SIZES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert join_team("cpu") == ALONE, "asked for one"
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(InvalidInput, match=r"`accelerate launch`: given several.* one alone, expected --multi_gpu"):
        join_team("cpu")


def start(*arguments: str) -> str:
    """What a command of two processes says, in one checkout, on two cores."""
    environment = {name: value for name, value in os.environ.items() if name not in SIZES}
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**environment, "OMP_NUM_THREADS": "1"},
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return done.stdout


def free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


STARTERS = {
    "torchrun": ["torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint"],
    "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"],
}


@pytest.mark.parametrize("starter", STARTERS)
def test_the_command_trains_as_one_team_of_two(starter: str, tmp_path: Path) -> None:
    for library in ("diffusers", "accelerate", "tensorboard"):
        pytest.importorskip(library)
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("torch without gloo")
    run = tmp_path / "run"
    last = ["localhost:0"] if starter == "torchrun" else ["--main_process_port", free_port()]
    told = ["--data", str(tiny.record(tmp_path / "films", [1, 2])), "--run", str(run), "--validation", "1"]
    told += ["--steps", "1", "--cooldown", "0", "--threads", "1", "--cogvideox.frames", "5"]
    # Without "--" torchrun takes --run for a beginning of its own --run-path.
    said = start(*STARTERS[starter], *last, "-m", "--", "vap_sim", "train", "--world", "cogvideox", *told)
    assert said.split() == 2 * [str(run / "world")]
    assert "2 processes, " in (run / "world" / "README.md").read_text()
    checkpoint = json.loads((run / "training" / "checkpoint.json").read_text())
    assert checkpoint["step"] == 1 and checkpoint["recipe"]["rows"] == 2
    assert len(list((run / "training" / "tensorboard").iterdir())) == 1, "one of them logs"


def test_trainable_holds_what_takes_gradients_under_its_own_name() -> None:
    first, second, drop = torch.nn.Linear(2, 3), torch.nn.Linear(3, 2), torch.nn.Dropout()
    network = torch.nn.Sequential(first, torch.nn.Sequential(second, drop))
    first.weight.requires_grad_(False)
    view = Trainable(network)
    assert sorted(view.state_dict()) == ["0.bias", "1.0.bias", "1.0.weight"]
    assert view.get_parameter("1.0.weight") is second.weight
    view.eval()
    assert not drop.training
    view.train()
    assert drop.training
    settle(network, {name: value + 1 for name, value in view.state().items()})
    assert torch.equal(second.weight, view.get_parameter("1.0.weight") + 1)
    assert not first.weight.requires_grad and first.bias.requires_grad


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes have run `parallel_job`, as `torchrun` starts them."""
    for library in ("diffusers", "peft", "accelerate"):
        pytest.importorskip(library)
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("torch without gloo")
    folder = tmp_path_factory.mktemp("job")
    tiny.record(folder / "films", [1, 2, 3])
    tiny.data_set(folder / "films", folder / "cache")
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    start += ["--rdzv-endpoint", "localhost:0", "-m", "tests.training.parallel_job", str(folder)]
    done = subprocess.run(start, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-6000:]
    return folder


def told(job: Path, rank: int = 0) -> dict[str, Any]:
    return dict(json.loads((job / f"told{rank}.json").read_text()))


def curve(job: Path, name: str, rank: int = 0) -> list[float]:
    return list(told(job, rank)[name].values())


@pytest.fixture(scope="module")
def first(job: Path) -> Outcome:
    """One process with twice the batch."""
    from tests.training import parallel_job as tasks

    return train(tasks.recipe(job, 2, ALONE), tasks.loop(job / "one"))


@pytest.fixture(scope="module")
def one(job: Path, first: Outcome) -> Outcome:
    """The same, gone on with."""
    from tests.training import parallel_job as tasks

    return train(tasks.recipe(job, 2, ALONE), tasks.loop(job / "one", tasks.MORE))


def test_two_processes_agree(job: Path) -> None:
    for rank in range(2):
        found = told(job, rank)
        assert found["size"] == 2 and found["any"] and not found["none"] and found["mean"] == 0.5 and found["killed"]
        assert all(found[name] == told(job)[name] for name in ("copied", "resumed", "split"))


def test_two_processes_learn_what_one_learns_with_twice_the_batch(job: Path, first: Outcome) -> None:
    assert curve(job, "copied") == pytest.approx([*first.losses.values()], abs=1e-5) and len(first.losses) == 4
    assert tiny.same(load_tensors(job / "copied.safetensors")[0], first.weights, 1e-5)


def test_killed_processes_go_on_with_the_same_curve(job: Path) -> None:
    assert curve(job, "resumed") == pytest.approx(curve(job, "copied"), abs=1e-6)
    parts = [load_tensors(job / f"{name}.safetensors")[0] for name in ("resumed", "copied")]
    assert tiny.same(parts[0], parts[1], 1e-6)


def test_split_weights_learn_the_same_and_are_saved_whole(job: Path, one: Outcome) -> None:
    """They went on from the checkpoint of the copied ones."""
    shares = [told(job, rank)["shares"] for rank in range(2)]
    assert sum(shares) == told(job)["all"] and max(shares) < 0.7 * sum(shares)
    assert curve(job, "split") == pytest.approx([*one.losses.values()], abs=1e-5) and len(one.losses) == 7
    found = load_tensors(job / "split.safetensors")[0]
    assert tiny.same(found, one.weights, 1e-5)
    saved = load_tensors(job / "control" / "control.safetensors")[0]
    assert saved and all(torch.equal(value, found[name]) for name, value in saved.items() if name in found)


def test_one_process_goes_on_where_two_stopped(job: Path, one: Outcome) -> None:
    from tests.training import parallel_job as tasks

    again = train(tasks.recipe(job, 2, ALONE), tasks.loop(job / "copied", tasks.MORE))
    assert [*again.losses.values()] == pytest.approx([*one.losses.values()], abs=1e-5)


def test_only_the_leader_logs(job: Path) -> None:
    runs = 3  # until it was killed, after it, and with split weights
    assert len(list((job / "resumed" / "tensorboard").iterdir())) == runs
