"""Processes that work for this one: what they bring back, and a name for it when one of them is lost."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager

from vap_sim.errors import WorkerLost


@contextmanager
def lost_workers_named(work: str, advice: str) -> Iterator[None]:
    """Around the use of a pool of processes: raises WorkerLost where one of them ended without a word.

    work: what is under way; advice: what to do then."""
    try:
        yield
    except BrokenExecutor as error:
        raise WorkerLost([work], advice) from error
