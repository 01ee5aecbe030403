"""Processes that train one network together: who leads, what they agree on, and weights that are split over them.

Started by `torchrun`, `accelerate launch --multi_gpu` (on CPUs too), or MPI through accelerate; started plainly, a
process is a team of its own. Every process runs the same command. Rows are dealt by number (`mixing.Mixture`), so a
team of two sees in a step what one process with twice the batch sees, and gradients are averaged over processes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vap_sim.errors import InvalidInput, MissingDependency

_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""What tells the number of processes: torchrun and accelerate, then kinds of MPI, in the order accelerate asks them."""


@dataclass(frozen=True)
class Team:
    """Process `rank` of `size`, on `device`. shard: whether weights are split over the processes (FSDP) or copied to
    each (DDP)."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")
    shard: bool = False

    @property
    def leads(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def wrap(self, module: nn.Module, units: Sequence[nn.Module] = ()) -> nn.Module:
        """The module whose calls train with the team: its gradients are the mean over the processes.

        units: parts of it that are gathered one at a time where weights are split, such as blocks. They and the module
        are changed in place then, and parameters must be looked up after this. Collective.
        """
        if self.size == 1:
            return module
        if not self.shard:
            places = [self.device.index] if self.device.type == "cuda" else None
            # Buffers are constants here, and large ones.
            return nn.parallel.DistributedDataParallel(module, device_ids=places, forward_sync_buffers=False)
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.device.type, (self.size,))
        # Split again after every call: what a preview with other weights has gathered must not stay.
        for unit in (*units, module):
            fully_shard(unit, mesh=mesh, reshard_after_forward=True)
        wrapped: nn.Module = module
        return wrapped

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process. Collective."""
        if self.size == 1:
            return flag
        found = torch.tensor(float(flag), device=self.device)
        torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MAX)
        return bool(found > 0)

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a number () over the processes. Collective."""
        if self.size == 1:
            return value
        total = value.detach().to(self.device, torch.float64)
        torch.distributed.all_reduce(total)
        return total / self.size

    def wait(self) -> None:
        """Return when all processes have come here. Collective."""
        if self.size > 1:
            torch.distributed.barrier()


ALONE = Team()
"""One process."""


def join_team(device: str = "cpu", *, shard: bool | None = None) -> Team:
    """The team that this process was started in, by `torchrun` or `accelerate launch`, or by itself.

    device: "cpu", or "cuda", of which each process takes the one with its local number; shard: split weights over the
    processes; not given, as `accelerate launch --use_fsdp` says, else not. Raises InvalidInput for weights split over
    one process and where accelerate was asked for several and has started one, MissingDependency where there are
    several and accelerate is absent.
    """
    if shard is None:
        shard = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if _team_size() == 1:
        if shard:
            raise InvalidInput("weights split over processes", "1 process", "several: start them with torchrun")
        return Team(device=torch.device(device))
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise MissingDependency("accelerate", "diffusion", "Training in several processes needs it.") from error
    state: Any = PartialState(cpu=device == "cpu")
    return Team(int(state.process_index), int(state.num_processes), torch.device(state.device), shard)


def _team_size() -> int:
    """How many processes were started together. Raises InvalidInput."""
    for name in _SIZES:
        if name in os.environ:
            told = os.environ[name]
            if not told.isdecimal() or not int(told):
                raise InvalidInput(f"environment variable {name}", repr(told), "a number of processes, 1 or more")
            return int(told)
    # accelerate says where the others would meet, and starts none of them: for CPUs it leaves that to MPI.
    if "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ:
        expected = "--multi_gpu in place of --cpu (CPUs too: the command's --device decides), or torchrun"
        raise InvalidInput("processes of `accelerate launch`", "several, of which it has started one alone", expected)
    return 1


def leave_team() -> None:
    """End the process group, at the end of a command."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def whole(value: Tensor) -> Tensor:
    """All of a tensor that is split over the team; any other as it is. Collective."""
    return value.full_tensor() if _is_split(value) else value  # type: ignore[attr-defined]


def part(value: Tensor, like: Tensor) -> Tensor:
    """What a process holds of a whole tensor where `like` is split; else the tensor as it is, and so where it does not
    fit or is a lone number."""
    if not _is_split(like) or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    split: Any = like
    # Every process has the whole tensor, so each cuts its own part and nothing is sent.
    return distribute_tensor(value.to(like.device), split.device_mesh, split.placements, src_data_rank=None)


def _is_split(value: Tensor) -> bool:
    # Asked this way because importing the class takes long, and most runs are of one process.
    return hasattr(value, "full_tensor")


def settle(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put whole weights, named as `Trainable` names them, into a module, in place of split ones too, to be saved."""
    for name, value in weights.items():
        path, _, leaf = name.rpartition(".")
        module.get_submodule(path).register_parameter(leaf, nn.Parameter(value.detach().cpu().clone()))


class Trainable(nn.Module):
    """A module's parameters that take gradients, under their own names; nothing else is in its state dict.

    Training and evaluation mode are passed on to the module, which is not a part of this one.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._switch = [module]  # in a list, so that torch does not take it for a part
        for name, value in module.named_parameters():
            if value.requires_grad:
                *path, leaf = name.split(".")
                self._place(path).register_parameter(leaf, value)
        if next(self.parameters(), None) is None:
            raise InvalidInput("weights to train", "none that take gradients", "a control, LoRA or both")

    def train(self, mode: bool = True) -> Trainable:
        """As `nn.Module.train`."""
        super().train(mode)
        self._switch[0].train(mode)
        return self

    def state(self) -> Mapping[str, Tensor]:
        """The parameters by name, whole. Collective."""
        return {name: whole(value.detach()) for name, value in self.named_parameters()}

    def _place(self, path: Sequence[str]) -> nn.Module:
        place: nn.Module = self
        for name in path:
            if name not in place._modules:
                place.add_module(name, nn.Module())
            place = place.get_submodule(name)
        return place
