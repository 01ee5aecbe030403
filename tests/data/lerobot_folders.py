"""LeRobot datasets of version 2.1, built by hand from the published layout, for the tests that read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tests.data.episodes import SIZES, pictures
from vap_sim.viewer.video import write_mp4

NAMES = ("joint_a_deg", "joint_b_deg", "gripper")
COLUMN = {"dtype": "int64", "shape": [1], "names": None}


def state(length: int, seed: int) -> np.ndarray:
    """(T, 3) float32: two angles [deg] and a gripper."""
    return np.stack([np.arange(length) * 2 + seed, np.arange(length) - 30, np.full(length, 0.25)], 1).astype(np.float32)


def write_v21(root: Path, lengths: Sequence[int], *, stills: bool = False, names: Sequence[str] = NAMES) -> Path:
    """A dataset of version 2.1 with a film, or stills, from one camera."""
    import pyarrow
    import pyarrow.parquet

    camera, (width, height) = "observation.images.top", SIZES["exterior_1"]
    kind = "image" if stills else "video"
    features = {
        "observation.state": {"dtype": "float32", "shape": [3], "names": {"motors": list(names)}},
        "action": {"dtype": "float32", "shape": [1], "names": ["turn"]},
        camera: {"dtype": kind, "shape": [height, width, 3], "names": ["height", "width", "channel"]},
        "observation.images.far": {"dtype": "image", "shape": [8, 8, 1], "names": None, "info": {"is_depth_map": True}},
        "timestamp": {**COLUMN, "dtype": "float32"},
        **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), COLUMN),
    }
    info = {
        "codebase_version": "v2.1",
        "robot_type": "two_joints",
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "total_tasks": 2,
        "total_videos": len(lengths),
        "total_chunks": 1,
        "chunks_size": 2,
        "fps": 10,
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": features,
    }
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info))
    lines = [{"task_index": k, "task": f"job {k}"} for k in range(2)]
    write_lines(root / "meta" / "tasks.jsonl", lines)
    lines = [{"episode_index": k, "tasks": [f"job {k % 2}"], "length": n} for k, n in enumerate(lengths)]
    write_lines(root / "meta" / "episodes.jsonl", lines)
    for number, length in enumerate(lengths):
        chunk = f"chunk-{number // 2:03d}"
        columns = {
            "observation.state": list(state(length, number)),
            "action": pyarrow.array(np.arange(length, dtype=np.float32)),
            "timestamp": pyarrow.array((np.arange(length) / 10).astype(np.float32)),
            "frame_index": np.arange(length),
            "episode_index": np.full(length, number),
            "index": np.arange(length) + sum(lengths[:number]),
            "task_index": np.full(length, number % 2),
        }
        shown = pictures(length, SIZES["exterior_1"], number)
        if stills:
            encoded = [cv2.imencode(".png", picture[..., ::-1])[1].tobytes() for picture in shown]
            columns[camera] = [{"bytes": content, "path": f"{k}.png"} for k, content in enumerate(encoded)]
        else:
            write_mp4(root / "videos" / chunk / camera / f"episode_{number:06d}.mp4", list(shown), 10.0)
        path = root / "data" / chunk / f"episode_{number:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return root


def write_lines(path: Path, lines: Sequence[object]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
