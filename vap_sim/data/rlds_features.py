"""What `features.json` of an RLDS dataset says that a record holds: every feature's key, kind, shape and type.

Written by TensorFlow Datasets 4.4 and later; read here without it. A feature of steps is stored once for all steps of
an episode, value after value, under a key such as `steps/observation/state`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vap_sim.data.folders import read_json
from vap_sim.errors import BadFile

FEATURES = "features.json"
_LARGEST = 2**24
_DEEPEST = 16
_NUMBERS = frozenset(
    ("bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
)
_ENCODINGS = ("none", "bytes", "zlib")


@dataclass(frozen=True)
class FeatureSpec:
    """One feature of a record.

    kind: "numbers", "text", "picture", or "other" for what this reader does not know; shape: of one value, without the
    axis of steps, where known in full; dtype: of its numbers; encoding: "none", or "bytes" and "zlib" for numbers that
    are stored as byte strings; per_step: whether there is one value a step; description: by the dataset's author.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str = ""
    encoding: str = "none"
    per_step: bool = False
    description: str = ""

    @property
    def width(self) -> int:
        """Numbers in one value."""
        return math.prod(self.shape)


def read_features(root: Path) -> Mapping[str, FeatureSpec]:
    """The features of the dataset at `root` by their keys. Raises BadFile for a description that cannot be read."""
    path = root / FEATURES
    found = dict(_walk(path, read_json(root, path, _LARGEST), "", False, 0))
    if not any(spec.per_step for spec in found.values()):
        raise BadFile(path, "field 'steps' is missing: these are no episodes")
    return found


def _walk(path: Path, node: Any, key: str, per_step: bool, depth: int) -> Iterator[tuple[str, FeatureSpec]]:
    if not isinstance(node, dict) or depth > _DEEPEST:
        raise BadFile(path, f"field {key!r}: no description of a feature")
    if "pythonClassName" not in node:
        raise BadFile(path, f"field {key!r}: has no 'pythonClassName'; this reader knows TFDS 4.4 and later")
    inner = _get(node, "featuresDict", "features")
    if isinstance(inner, dict):
        for name, child in inner.items():
            yield from _walk(path, child, f"{key}/{name}" if key else name, per_step, depth + 1)
    elif str(node["pythonClassName"]).endswith(".Dataset") and key == "steps" and not per_step:
        yield from _walk(path, _get(node, "sequence", "feature"), key, True, depth + 1)
    else:
        yield key, _leaf(path, node, key, per_step)


def _leaf(path: Path, node: dict[str, Any], key: str, per_step: bool) -> FeatureSpec:
    about = str(node.get("description", ""))
    kind = str(node["pythonClassName"]).rsplit(".", 1)[-1]
    if kind == "Text":
        return FeatureSpec("text", (), per_step=per_step, description=about)
    content = node.get("image" if kind == "Image" else "tensor")
    if kind not in ("Image", "Tensor", "Scalar") or not isinstance(content, dict):
        return FeatureSpec("other", (), per_step=per_step, description=about)
    shape, dtype = _shape(path, content, key), str(content.get("dtype", ""))
    if kind == "Image":
        return FeatureSpec("picture" if dtype == "uint8" else "other", (), dtype, "none", per_step, about)
    if dtype in ("string", "object") and shape == ():
        return FeatureSpec("text", (), per_step=per_step, description=about)
    encoding = str(content.get("encoding", "none")).lower()
    known = dtype in _NUMBERS and encoding in _ENCODINGS and shape is not None
    return FeatureSpec("numbers" if known else "other", shape or (), dtype, encoding, per_step, about)


def _shape(path: Path, content: dict[str, Any], key: str) -> tuple[int, ...] | None:
    """The shape of one value, None where an axis is left open."""
    given = _get(content, "shape", "dimensions") or []
    try:
        shape = tuple(int(length) for length in given)
    except (TypeError, ValueError) as error:
        raise BadFile(path, f"field {key!r}: shape {given!r} is none") from error
    return shape if all(length >= 0 for length in shape) else None


def _get(node: Any, *keys: str) -> Any:
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node
