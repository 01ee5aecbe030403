"""Small RLDS datasets, written byte by byte from the definitions of TFRecord, `tf.train.Example` and TFDS."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.data.reader_samples import COUNT, FRAMES, SIZE, arm, pictures, write_json


def checksum(data: bytes) -> int:
    """CRC-32C bit by bit, masked as in TFRecord files."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0x82F63B78 * (value & 1)
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def tfrecord(records: Sequence[bytes]) -> bytes:
    out = b""
    for data in records:
        length = struct.pack("<Q", len(data))
        out += length + struct.pack("<I", checksum(length)) + data + struct.pack("<I", checksum(data))
    return out


def varint(value: int) -> bytes:
    value %= 2**64
    out = b""
    while value >= 128:
        out, value = out + bytes([value % 128 + 128]), value // 128
    return out + bytes([value])


def sized(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def feature(values: Any) -> bytes:
    """A `tf.train.Feature`: of byte strings, of integers, or of floats."""
    if isinstance(values, list):
        return sized(1, b"".join(sized(1, value) for value in values))
    if values.dtype.kind == "f":
        return sized(2, sized(1, values.astype("<f4").tobytes()))
    return sized(3, sized(1, b"".join(varint(int(value)) for value in values.ravel())))


def example(features: Mapping[str, Any]) -> bytes:
    entries = (sized(1, name.encode()) + sized(2, feature(values)) for name, values in features.items())
    return sized(1, b"".join(sized(1, entry) for entry in entries))


def still(picture: np.ndarray, kind: str = ".jpg") -> bytes:
    return cv2.imencode(kind, picture[..., ::-1])[1].tobytes()


def droid_steps(number: int, frames: int = FRAMES) -> dict[str, Any]:
    """The features of an episode as the DROID builder names them."""
    joints, gripper, flange = arm(number, frames)
    seen, commands = "steps/observation/", "steps/action_dict/"
    films = [still(picture) for picture in pictures(number, frames)]
    return {
        "steps/is_first": (np.arange(frames) == 0).astype(int),
        "steps/language_instruction": [b""] * frames, "steps/language_instruction_2": [b"open it"] * frames,
        seen + "joint_position": joints, seen + "gripper_position": gripper, seen + "cartesian_position": flange,
        seen + "exterior_image_1_left": films, seen + "exterior_image_2_left": films, seen + "wrist_image_left": films,
        commands + "joint_position": joints + 0.01, commands + "joint_velocity": joints * 0,
        commands + "gripper_position": gripper, "episode_metadata/file_path": [b"/data/LAB/success/2023/x.h5"],
    }  # fmt: skip


_SHAPES = {
    "joint_position": 7, "gripper_position": 1, "cartesian_position": 6, "joint_velocity": 7, "state": 7, "action": 7,
    "base_pose_tool_reached": 7, "gripper_closed": 1, "world_vector": 3, "rotation_delta": 3,
}  # fmt: skip


def describe(names: Sequence[str]) -> dict[str, Any]:
    """`features.json` for features of these names, by what the names say."""
    tree: dict[str, Any] = {}
    for name in names:
        place = tree
        *parents, leaf = name.split("/")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = _leaf(leaf)
    steps = {"pythonClassName": "tfds.Dataset", "sequence": {"feature": _node(tree.pop("steps")), "length": "-1"}}
    return _node(tree | {"steps": steps})


def _node(children: dict[str, Any]) -> dict[str, Any]:
    if "pythonClassName" in children:
        return children
    inner = {name: _node(child) for name, child in children.items()}
    return {"pythonClassName": "tfds.features.FeaturesDict", "featuresDict": {"features": inner}}


def _leaf(name: str) -> dict[str, Any]:
    if "image" in name and not name.startswith("has_"):
        shape = {"dimensions": [str(SIZE[1]), str(SIZE[0]), "3"]}
        return {"pythonClassName": "tfds.Image", "image": {"shape": shape, "dtype": "uint8", "encodingFormat": "jpeg"}}
    if name.startswith(("is_", "has_", "success", "episode_id")):
        return {"pythonClassName": "tfds.Scalar", "tensor": {"shape": {}, "dtype": "bool", "encoding": "none"}}
    if name not in _SHAPES:
        return {"pythonClassName": "tfds.Text", "text": {}}
    tensor = {"shape": {"dimensions": [str(_SHAPES[name])]}, "dtype": "float64", "encoding": "none"}
    return {"pythonClassName": "tfds.Tensor", "tensor": tensor}


def write_rlds(root: Path, name: str, episodes: Sequence[Mapping[str, Any]], shards: int = 1) -> None:
    root.mkdir(parents=True, exist_ok=True)
    write_json(root / "features.json", describe(list(episodes[0])))
    parts = [list(part) for part in np.array_split(np.arange(len(episodes)), shards)]
    split = {"name": "train", "shardLengths": [str(len(part)) for part in parts]}
    split["filepathTemplate"] = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    write_json(root / "dataset_info.json", {"name": name, "fileFormat": "tfrecord", "splits": [split]})
    for index, part in enumerate(parts):
        content = tfrecord([example(episodes[k]) for k in part])
        (root / f"{name}-train.tfrecord-{index:05d}-of-{shards:05d}").write_bytes(content)


def rlds(root: Path) -> None:
    write_rlds(root, "droid", [droid_steps(number) for number in range(COUNT)], shards=COUNT)
