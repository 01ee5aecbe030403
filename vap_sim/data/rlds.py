"""RLDS datasets as TensorFlow Datasets stores them, read without it: `features.json`, `dataset_info.json`, TFRecords.

An episode is one record of one shard. What the features mean is known for some datasets by `rlds_naming`; of any other
one, pictures, texts and actions are read, and its frame rate must be given, because RLDS states none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vap_sim.data.episode import Episode, Footage
from vap_sim.data.folders import enclosed, folders, read_json
from vap_sim.data.listed import ListedDataset
from vap_sim.data.logged import Log
from vap_sim.data.rlds_features import FEATURES, FeatureSpec, read_features
from vap_sim.data.rlds_naming import SEEN, Naming, instruction, naming_of
from vap_sim.data.rlds_record import Record
from vap_sim.data.tfrecord import record_index
from vap_sim.errors import BadFile

INFO = "dataset_info.json"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_LEAST_RECORD = 16
"""Bytes of a record without data."""
_BELIEVED = 2**16
"""Episodes that a shard may claim whatever its size, so that one that is cut short does not keep others back."""


@dataclass(frozen=True)
class Shard:
    """One file of a split: the number of its first episode there, and how many it has by `dataset_info.json`."""

    path: Path
    split: str
    first: int
    length: int


@dataclass(frozen=True, eq=False)
class _Reader:
    """What is known of a dataset's steps. Makes an episode of the record of that number in a shard."""

    features: Mapping[str, FeatureSpec]
    naming: Naming
    frame_rate: float | None

    def __call__(self, root: Path, place: tuple[Shard, int], name: str) -> Episode:
        shard, number = place
        record = Record(Log(enclosed(root, shard.path), name), self.features, number)
        if self.frame_rate is None:
            told = (
                f"episode {name!r}, field 'frame_rate': RLDS states none; give it: rlds.open_dataset(path, frame_rate)"
            )
            raise BadFile(root / FEATURES, told)
        views, notes = _views(record, self.naming)
        members = self.naming.members(record)
        members["notes"] = (*members["notes"], *notes, *_miscounted(shard))
        return Episode(
            name=name, source=shard.path, views=views, length=record.length, frame_rate=self.frame_rate,
            instruction=instruction(record), **members,
        )  # fmt: skip


def recognises(path: Path) -> bool:
    """Whether `path` is a version of a dataset, or a folder of versions."""
    return path.is_dir() and any(True for _ in _versions(path))


def open_dataset(path: Path, frame_rate: float | None = None) -> ListedDataset[tuple[Shard, int]]:
    """The dataset at `path`, the folder of a version or one that holds a single version.

    frame_rate: steps a second, where the dataset is not one whose rate is known. Raises BadFile for a folder without a
    version or with several, and for a damaged description.
    """
    versions = list(_versions(path))
    if len(versions) != 1:
        names = ", ".join(folder.name for folder in versions) or "none"
        raise BadFile(path, f"expected {FEATURES} in it or in one version below it; versions: {names}")
    root = versions[0]
    features, info = read_features(root), read_json(root, root / INFO)
    name = _text(root, info, "name")
    naming = naming_of(name, features)
    shards = [*_shards(root, info, name)]
    missing = [shard.path.name for shard in shards if not shard.path.exists()]
    present = [shard for shard in shards if shard.path.exists()]
    for shard in present:
        if shard.length > max(shard.path.stat().st_size // _LEAST_RECORD, _BELIEVED):
            raise BadFile(root / INFO, f"field 'shardLengths': {shard.path.name} cannot hold {shard.length} episodes")
    places = {f"{shard.split}_{shard.first + k:06d}": (shard, k) for shard in present for k in range(shard.length)}
    notes = (f"{len(missing)} of {len(shards)} shards are not here, such as {missing[0]}",) if missing else ()
    reader = _Reader(features, naming, frame_rate or naming.frame_rate)
    return ListedDataset("rlds", root, places, reader, notes)


def _versions(path: Path) -> Iterator[Path]:
    for folder, inside in folders(path, 1):
        if FEATURES in inside and (folder == path or _VERSION.fullmatch(folder.name)):
            yield folder
            if folder == path:
                return


def _shards(root: Path, info: dict[str, Any], name: str) -> Iterator[Shard]:
    """The shards of all splits as `dataset_info.json` lists them."""
    kind = str(info.get("fileFormat", "tfrecord"))
    if kind != "tfrecord":
        raise BadFile(root / INFO, f"field 'fileFormat': {kind!r}, expected 'tfrecord'")
    splits = info.get("splits")
    if not isinstance(splits, list) or not all(isinstance(split, dict) for split in splits):
        raise BadFile(root / INFO, "field 'splits': expected a list of objects")
    for split in splits:
        label = _text(root, split, "name")
        try:
            lengths = [int(length) for length in split.get("shardLengths", ())]
        except (TypeError, ValueError) as error:
            raise BadFile(root / INFO, f"field 'shardLengths' of split {label!r}: no numbers ({error})") from error
        if min(lengths, default=0) < 0:
            raise BadFile(root / INFO, f"field 'shardLengths' of split {label!r}: {min(lengths)} episodes in a shard")
        template, first = str(split.get("filepathTemplate", _TEMPLATE)), 0
        for index, length in enumerate(lengths):
            yield Shard(root / _file_name(root, template, name, label, index, len(lengths)), label, first, length)
            first += length


def _file_name(root: Path, template: str, dataset: str, split: str, index: int, count: int) -> str:
    number, shards = f"{index:05d}", f"{count:05d}"
    parts = {
        "DATASET": dataset, "SPLIT": split, "FILEFORMAT": "tfrecord", "SHARD_INDEX": number, "NUM_SHARDS": shards,
        "SHARD_X_OF_Y": f"{number}-of-{shards}",
    }  # fmt: skip
    name = re.sub(r"\{(\w+)\}", lambda found: parts.get(found[1], found[0]), template)
    if Path(name).name != name or "{" in name:
        raise BadFile(root / INFO, f"field 'filepathTemplate': {template!r} gives no file name")
    return name


def _views(record: Record, naming: Naming) -> tuple[dict[str, Footage], tuple[str, ...]]:
    """Pictures by the names of their cameras, and what became of those that the dataset calls dummies."""
    views: dict[str, Footage] = {}
    dummies: dict[bool, list[str]] = {True: [], False: []}
    for key, spec in sorted(record.specs.items()):
        if spec.kind != "picture" or not spec.per_step:
            continue
        name = key.removeprefix(SEEN).removeprefix("steps/").replace("/", "_")
        if record.flag(f"episode_metadata/has_{name}") is False:
            still = record.still(key)
            dummies[still].append(name)
            if still:
                continue
        views[naming.views.get(name, name)] = record.pictures(key)
    ends = {True: ", and never change: they are left out", False: ", yet they change: they are read"}
    told = [f"views {', '.join(names)} are dummies by their metadata{ends[k]}" for k, names in dummies.items() if names]
    return views, tuple(told)


def _miscounted(shard: Shard) -> tuple[str, ...]:
    index = record_index(shard.path)
    if index.problem or index.length == shard.length:
        return ()
    return (f"{shard.path.name} has {index.length} records, {INFO} says {shard.length}",)


def _text(root: Path, node: dict[str, Any], field: str) -> str:
    value = node.get(field)
    if not isinstance(value, str) or not value:
        raise BadFile(root / INFO, f"field {field!r}: {value!r}, expected a name")
    return value
