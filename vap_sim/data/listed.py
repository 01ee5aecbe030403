"""A dataset that knows where each of its episodes lies; one class for every format of files in folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from vap_sim.data.episode import Episode
from vap_sim.errors import BadFile, UnknownName

Place = TypeVar("Place")


@dataclass(frozen=True, eq=False)
class ListedDataset(Generic[Place]):
    """Episodes by their places; see `vap_sim.data.dataset.Dataset`.

    format: its name in FORMATS; path: the dataset's folder; places: of each episode, by its name, in order; reader:
    makes one from the dataset's folder, its place and its name; notes: what concerns the dataset as a whole.
    """

    format: str
    path: Path
    places: Mapping[str, Place]
    reader: Callable[[Path, Place, str], Episode]
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the episodes, in order."""
        return tuple(self.places)

    def read(self, name: str) -> Episode:
        """One episode; its pictures stay on the disk. Raises BadFile with file, episode and field, UnknownName."""
        if name not in self.places:
            raise UnknownName(f"episode of {self.path}", name, self.places)
        with naming_episode(name):
            return self.reader(self.path, self.places[name], name)


@contextmanager
def naming_episode(name: str) -> Iterator[None]:
    """Errors of files that are read meanwhile name the episode too."""
    try:
        yield
    except BadFile as error:
        if repr(name) in error.problem:
            raise
        raise BadFile(error.path, f"episode {name!r}: {error.problem}") from error
