"""A small dataset of each format, written by the published layouts, without the readers that are tested on them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from vap_sim.data.twin import TwinEpisode, save_episode
from vap_sim.robots.library import load_robot

COUNT, FRAMES, SIZE = 3, 6, (64, 48)
SERIALS = {"exterior_1": "22008760", "exterior_2": "24400334", "wrist": "18026681"}


def pictures(number: int, frames: int = FRAMES) -> np.ndarray:
    """A bar that wanders over a slope of an episode's own colour, (T, H, W, 3) uint8."""
    down, across = np.mgrid[: SIZE[1], : SIZE[0]]
    films = np.stack([np.stack([across * 3, down * 4, 0 * down + 60 * number], -1)] * frames).astype(np.uint8)
    for k, frame in enumerate(films):
        frame[:, 8 * k : 8 * k + 8] = 255
    return films


def write_film(path: Path, films: np.ndarray, rate: int = 5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt, stream.options = (
            films.shape[2],
            films.shape[1],
            "yuv420p",
            {"g": "3"},
        )
        for picture in films:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())


def arm(number: int, rows: int = FRAMES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joints (T, 7) [rad], gripper (T,), and x y z [m], roll pitch yaw [rad] of the flange (T, 6), which agree."""
    time = np.arange(rows)[:, None] / max(rows - 1, 1)
    start = np.array([0.1, -0.4, 0.2, -2.2, 0.1, 1.9, 0.3]) + 0.05 * number
    joints = start + 0.2 * np.sin(time * np.arange(1, 8))
    model = load_robot("panda_robotiq")
    poses = model.robot.forward(torch.from_numpy(np.c_[joints, np.zeros(rows)]))
    flange = poses[:, model.robot.link_index("panda_link8")].numpy()
    turns = Rotation.from_matrix(flange[:, :3, :3]).as_euler("xyz")
    return joints, np.linspace(0, 0.8, rows), np.c_[flange[:, :3, 3], turns]


def write_json(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


# Formats ---------------------------------------------------------------------------------------------------------


def droid_samples(root: Path) -> None:
    """Two episodes with `joints` and one with the 15 Hz log alone."""
    for number in range(COUNT):
        folder = root / f"episode_{number}"
        for file in ("0.mp4", "1.mp4", "2.mp4"):
            write_film(folder / file, pictures(number))
        write_json(folder / "annotation.json", droid_annotation(number, raw=number == 2))


def droid_annotation(number: int, *, raw: bool = False) -> dict[str, Any]:
    rows = 3 * FRAMES - 1 if raw else FRAMES
    joints, gripper, flange = arm(number, rows)
    record: dict[str, Any] = {"texts": [f"task {number}"], "success": number % 2, "video_length": FRAMES}
    if not raw:
        return record | {"states": np.c_[flange, gripper].tolist(), "joints": np.c_[joints, gripper].tolist()}
    return record | {
        "raw_length": rows, "states": np.c_[flange, gripper][::3].tolist(),
        "observation.state.joint_position": joints.tolist(), "observation.state.gripper_position": gripper.tolist(),
        "observation.state.cartesian_position": flange.tolist(), "action.joint_position": (joints + 0.01).tolist(),
    }  # fmt: skip


def droid_raw(root: Path) -> None:
    for number, outcome in enumerate(("success", "success", "failure")):
        write_raw(root / "LAB" / outcome / "2023-06-11" / f"Sun_Jun_11_15:52:3{number}_2023", number)


def write_raw(folder: Path, number: int, frames: int = FRAMES, rows: int = FRAMES, *, intrinsics: bool = True) -> None:
    """An episode as the platform's recorder and post-processing write it; one video is of both eyes."""
    import h5py

    joints, gripper, flange = arm(number, rows)
    folder.mkdir(parents=True)
    with h5py.File(folder / "trajectory.h5", "w") as file:
        file.attrs["success"], file.attrs["user"] = True, "First Last"

        def put(name: str, values: Any) -> None:
            file.create_dataset(name, data=values, maxshape=(None, *np.shape(values)[1:]))

        state = "observation/robot_state/"
        put(state + "joint_positions", joints)
        put(state + "gripper_position", gripper)
        put(state + "cartesian_position", flange)
        put(state + "joint_velocities", np.gradient(joints, axis=0))
        for name, values in (("joint_position", joints + 0.01), ("joint_velocity", joints * 0 + 0.1)):
            put("action/" + name, values)
        put("action/gripper_position", gripper)
        put("action/cartesian_position", flange)
        put("observation/controller_info/movement_enabled", np.ones(rows, bool))
        for view, serial in SERIALS.items():
            put(f"observation/camera_type/{serial}", np.full(rows, 0 if view == "wrist" else 1))
            received = 1000 * (np.arange(rows) + 1)
            put(f"observation/timestamp/cameras/{serial}_frame_received", received)
            pose = np.tile([0.4, 0.5, 0.6, -2.0, 0.1, 1.5], (rows, 1))
            for eye in ("left", "right"):
                put(f"observation/camera_extrinsics/{serial}_{eye}", flange if view == "wrist" else pose)
                if view == "wrist":
                    put(f"observation/camera_extrinsics/{serial}_{eye}_gripper_offset", pose * 0.1)
                if intrinsics:
                    matrix = [[730.0, 0, 640], [0, 730, 360], [0, 0, 1]]
                    put(f"observation/camera_intrinsics/{serial}_{eye}", np.tile(matrix, (rows, 1, 1)))
    uuid = f"LAB+abcd1234+2023-06-11-15h-52m-3{number}s"
    serials = dict(zip(("ext1", "ext2", "wrist"), SERIALS.values(), strict=True))
    metadata = {"uuid": uuid, "lab": "LAB", "current_task": "Open or close", "trajectory_length": rows}
    metadata |= {f"{name}_cam_serial": serial for name, serial in serials.items()}
    write_json(folder / f"metadata_{uuid}.json", metadata | {"success": folder.parts[-3] == "success"})
    for view, serial in SERIALS.items():
        both = view == "exterior_2"
        films = np.concatenate([pictures(number, frames)] * 4, axis=2) if both else pictures(number, frames)
        write_film(folder / "recordings" / "MP4" / f"{serial}{'-stereo' if both else ''}.mp4", films, 60)


def bridge_samples(root: Path) -> None:
    for number in range(COUNT):
        write_film(root / f"{number:09d}.mp4", pictures(number), 20)
        actions = np.zeros((FRAMES, 10), np.float32)
        actions[:, :7] = 0.1 * number
        np.savez(root / f"{number:09d}.npz", actions)


def egovid(root: Path) -> None:
    """Two clips with videos of their own, one within a longer video, and one whose video is not there."""
    root.mkdir(parents=True, exist_ok=True)
    names = ["aaaa_0_6", "aaaa_30_36", "bbbb_2_8"]
    for number, name in enumerate(names[:2]):
        write_film(root / "videos" / f"{name}.mp4", pictures(number), 30)
    write_film(root / "v2" / "video_540ss" / "bbbb.mp4", pictures(2, 12), 30)
    with (root / "egovid-val.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video_id", "frame_num", "fps", "llava_cap", "name", "gyro_x"])
        for name in (*names, "cccc_0_6"):
            writer.writerow([f"{name}.mp4", 6, 30.0, 'A hand, "left",\nopens a drawer.', "open drawer", [0.1] * 6])
    folder = root / "poses" / names[0]
    folder.mkdir(parents=True)
    np.save(folder / "intri.npy", np.array([[480.0, 0, 360], [0, 480, 270], [0, 0, 1]]))
    np.save(folder / "fused_pose.npy", np.tile(np.eye(4), (5, 1, 1)))
    (folder / "cost.txt").write_text("0.25")


def twin(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for number in range(COUNT):
        save_episode(root / f"twin_{number:08d}.vap.npz", twin_episode(number))


def twin_episode(number: int, views: Sequence[str] = ("exterior_1", "exterior_2")) -> TwinEpisode:
    joints, gripper, _ = arm(number)
    width, height = SIZE
    films = np.stack([pictures(number)] * len(views)) if views else np.zeros((0, FRAMES, height, width, 3), np.uint8)
    camera = {"size": list(SIZE), "eye": [1.0, 0.5, 0.5], "target": [0.0, 0.0, 0.3], "focal_px": 60.0}
    nominal = np.c_[joints, 0.8 * gripper].astype(np.float32)
    return TwinEpisode(
        frames=films, objects=np.zeros((*films.shape[:4], 4), np.uint8), plate=films[:, 0], robot=films[..., 0],
        labels=films[..., 0], flow=np.zeros((len(views), FRAMES, 2, height // 2, width // 2), np.int16),
        joints=nominal, measured=nominal + np.float32(0.001) * (gripper > 0)[:, None],
        actions=np.full((FRAMES - 1, 8), 0.5, np.float32), object_poses=np.zeros((FRAMES, 1, 7), np.float32),
        meta={
            "seed": number, "behaviours": ["push"], "robot": "panda_robotiq", "control_mode": "joint_velocity",
            "control_dt": 0.2, "scene": {}, "cameras": [camera | {"name": view} for view in views],
        },
    )  # fmt: skip
