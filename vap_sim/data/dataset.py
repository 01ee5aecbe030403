"""Folders of recordings of any known format, opened by what lies in them, and read episode by episode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from vap_sim.data.episode import Episode
from vap_sim.errors import BadFile, UnknownName

FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "lerobot": "vap_sim.data.lerobot",
        "rlds": "vap_sim.data.rlds",
        "egovid": "vap_sim.data.egovid",
        "droid_sample": "vap_sim.data.droid_sample",
        "bridge_sample": "vap_sim.data.bridge_sample",
        "twin": "vap_sim.data.twin_dataset",
        "droid_raw": "vap_sim.data.droid_raw",
    }
)
"""Module of each format, in the order in which a folder is tried. A module has `recognises(path) -> bool`, which looks
at names only, and `open_dataset(path) -> Dataset`."""


class Dataset(Protocol):
    """Recordings of one format. path: where they are; names: of its episodes, in order, without reading them."""

    @property
    def format(self) -> str:
        """The name of the format, as in FORMATS."""
        ...

    @property
    def path(self) -> Path:
        """Where the recordings are."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The episodes' names in order, found without reading them."""
        ...

    def read(self, name: str) -> Episode:
        """One episode; its pictures stay on the disk. Raises BadFile with file, episode and field, UnknownName."""
        ...


@dataclass(frozen=True)
class Refused:
    """An episode that could not be read, and the error that says why."""

    name: str
    error: BadFile


def open_dataset(path: Path | str, format: str | None = None) -> Dataset:
    """The recordings at `path`, of a named format or of the first that recognises it.

    Raises BadFile where nothing is there, no format fits, or the folder's own index is damaged; UnknownName.
    """
    path = Path(path)
    if not path.exists():
        raise BadFile(path, "no such file or folder")
    if format is not None and format not in FORMATS:
        raise UnknownName("format of recordings", format, FORMATS)
    for name in FORMATS if format is None else (format,):
        module = import_module(FORMATS[name])
        if format is not None or module.recognises(path):
            dataset: Dataset = module.open_dataset(path)
            return dataset
    raise BadFile(path, f"is no recording of a known format; known: {', '.join(FORMATS)}")


def read_all(dataset: Dataset) -> Iterator[Episode | Refused]:
    """Every episode in order, or why it cannot be read; one that is damaged does not keep the others back."""
    for name in dataset.names:
        try:
            yield dataset.read(name)
        except BadFile as error:
            yield Refused(name, error)
