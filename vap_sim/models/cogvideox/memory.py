"""Ways to fit a large backbone into memory or time: thin switches over torch, diffusers and accelerate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.stock import stock


def checkpoint_blocks(backbone: Backbone, on: bool = True) -> None:
    """Keep only the values between blocks for the gradient and compute the inner ones again; about a third slower."""
    if on:
        backbone.transformer.enable_gradient_checkpointing()
    else:
        backbone.transformer.disable_gradient_checkpointing()


def compile_blocks(backbone: Backbone, **options: Any) -> None:
    """`torch.compile` for every block by itself: one compilation serves all, and the walk between them stays plain.

    options: those of `torch.compile`.
    """
    for block in backbone.blocks:
        block.compile(**options)


def model_offload(modules: Sequence[nn.Module], device: torch.device | str) -> tuple[Any, ...]:
    """Let whole modules share a device: each moves there when it is called and back when the next one is.

    modules: in the order they are called, for example text encoder, `Backbone`, codec's network. Give the `Backbone`,
    not its transformer, whose own call is never made. Returns accelerate's hooks, one a module; `hook.offload()` and
    `hook.remove()` are their verbs. Raises MissingDependency, InvalidInput for no modules.
    """
    if not modules:
        raise InvalidInput("modules to offload", "none", "at least one")
    hook = None
    hooks = []
    for module in modules:
        _, hook = stock("accelerate").cpu_offload_with_hook(module, device, prev_module_hook=hook)
        hooks.append(hook)
    return tuple(hooks)


def sequential_offload(module: nn.Module, device: torch.device | str) -> None:
    """Keep all weights on the CPU and bring each layer's to the device for its call alone: least memory, slowest.

    After it the module's parameters are placeholders; undo with `accelerate.hooks.remove_hook_from_submodules`.
    Raises MissingDependency.
    """
    stock("accelerate").cpu_offload(module, torch.device(device), offload_buffers=False)
