"""cameras.json: what calibration found of every camera, and why it gives none where it does not."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vap_sim.errors import BadFile, InvalidInput
from vap_sim.extraction.cameras import REASONS, Calibration
from vap_sim.robots.camera import Camera

FILE = "cameras.json"
_FORMAT, _VERSION = "vap-sim cameras", 1
_NUMBERS = ("std", "figures")


Found = Sequence[tuple[str, Calibration]]
"""Of every camera the view's name in its recordings and what is known of it; its `clips` name the episodes."""


def write_cameras(folder: Path, robot: str, found: Found, asked: Mapping[str, Any] | None = None) -> Path:
    """Write `cameras.json` into a folder, whole or not at all; returns its path.

    asked: what was asked for, as plain JSON values, so that `read_found` knows whether to go on from here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    partial = path.with_name(f"{FILE}.partial")
    record = {
        "format": _FORMAT,
        "version": _VERSION,
        "robot": robot,
        "asked": dict(asked or {}),
        "cameras": [_entry(view, calibration) for view, calibration in found],
    }
    partial.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, path)
    return path


def _entry(view: str, found: Calibration) -> dict[str, Any]:
    # A number that is not finite says that something was not measured, and JSON has no word for it.
    numbers = {name: _finite(values) for name, values in (("std", found.std), ("figures", found.figures))}
    return {
        "name": found.name,
        "view": view,
        "episodes": list(found.clips),
        "camera": None if found.camera is None else found.camera.to_dict(),
        "refused": None if found.reason is None else {"reason": found.reason, "detail": found.detail},
        **numbers,
        "vector": None if found.vector is None else [float(value) for value in found.vector],
        "looked": found.looked,
    }


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: round(value, 6) if abs(value) < float("inf") else None for name, value in values.items()}


def read_cameras(path: Path | str) -> dict[tuple[str, str], Camera]:
    """Cameras by (episode, view), without those that were refused; `path`: the file, or the folder that holds it.

    Raises BadFile naming the entry and the field.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    cameras: dict[tuple[str, str], Camera] = {}
    for number, entry in enumerate(_entries(path)["cameras"]):
        cameras |= _read_entry(path, number, entry)
    return cameras


def read_found(folder: Path, asked: Mapping[str, Any]) -> dict[tuple[str, tuple[str, ...]], Calibration]:
    """What an earlier run into this folder found, by view and episodes; nothing where there was none.

    Raises InvalidInput where it was asked for something else, BadFile naming the entry and the field.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    record = _entries(path)
    for name, value in asked.items():
        before = record.get("asked", {}).get(name)
        if before != value:
            raise InvalidInput(f"--out {folder}", f"{name} {value!r}", f"{before!r}, as before, or another folder")
    found = {}
    for number, entry in enumerate(record["cameras"]):
        cameras = _read_entry(path, number, entry)
        try:
            key = entry["view"], tuple(entry["episodes"])
            found[key] = _calibration(entry, next(iter(cameras.values()), None))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadFile(path, f"entry {number} of 'cameras' cannot be used ({error!r})") from error
    return found


def _calibration(entry: Mapping[str, Any], camera: Camera | None) -> Calibration:
    refused, vector = entry["refused"] or {}, entry["vector"]
    std, figures = ({k: float("inf") if v is None else float(v) for k, v in entry[n].items()} for n in _NUMBERS)
    return Calibration(
        name=str(entry["name"]),
        clips=tuple(entry["episodes"]),
        camera=camera,
        reason=refused.get("reason"),
        detail=str(refused.get("detail", "")),
        std=std,
        figures=figures,
        vector=None if vector is None else np.asarray(vector, np.float64),
        looked=int(entry["looked"]),
    )


def _entries(path: Path) -> dict[str, Any]:
    """The record of a file, whose cameras are a list."""
    record = _read(path)
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise BadFile(path, f"is no file of cameras: expected an object with format {_FORMAT!r}")
    if record.get("version") != _VERSION:
        raise BadFile(path, f"field 'version' is {record.get('version')!r}, expected {_VERSION}")
    entries = record.get("cameras")
    if not isinstance(entries, list):
        raise BadFile(path, f"field 'cameras' is {type(entries).__name__}, expected a list")
    return record


def _read_entry(path: Path, number: int, entry: Any) -> dict[tuple[str, str], Camera]:
    where = f"entry {number} of 'cameras'"
    if not isinstance(entry, dict):
        raise BadFile(path, f"{where} is {type(entry).__name__}, expected an object")
    view, episodes, camera = (entry.get(field) for field in ("view", "episodes", "camera"))
    if not isinstance(view, str):
        raise BadFile(path, f"{where}, field 'view': {view!r}, expected a text")
    if not isinstance(episodes, list) or not all(isinstance(episode, str) for episode in episodes):
        raise BadFile(path, f"{where}, field 'episodes': expected a list of texts")
    if camera is None:
        refused = entry.get("refused")
        if not isinstance(refused, dict) or refused.get("reason") not in REASONS:
            raise BadFile(
                path, f"{where} has neither a 'camera' nor a reason in 'refused'; known: {', '.join(REASONS)}"
            )
        return {}
    if not isinstance(camera, dict):
        raise BadFile(path, f"{where}, field 'camera': {type(camera).__name__}, expected an object")
    try:
        found = Camera.from_dict(camera)
    except InvalidInput as error:
        raise BadFile(path, f"{where}, field 'camera': {error}") from error
    return {(episode, view): found for episode in episodes}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFile(path, f"is not JSON ({error})") from error
