"""The optional libraries this room stands on, imported on first use and named when they are absent."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from vap_sim.errors import MissingDependency


def stock(module: str) -> Any:
    """The module of that dotted name, of a library that the extra `diffusion` brings.

    Raises MissingDependency naming the library. An import that fails for another reason keeps its own error.
    """
    library = module.split(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in (None, library):
            raise
        raise MissingDependency(library, "diffusion", "CogVideoX needs it.") from error
