"""Teach a model your station: clips of a robot become layers, a network learns them, and recorded actions are dreamt.

Here the station is made up and the network tiny, so that all of it takes seconds; `vap-sim prepare`, `vap-sim adapt`
and `vap-sim replay` do the same with your recordings and the embedded model (docs/your-own-robot.md).
"""

import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch

from vap_sim.commands.adapt import Adapt
from vap_sim.commands.adapt import run as adapt
from vap_sim.commands.replay import RECORD, Replay
from vap_sim.commands.replay import run as replay
from vap_sim.data.prepared import SUFFIX, ClipEntry, PreparedClip, PreparedSet, save_clip
from vap_sim.models.checkpoint import save_tensors
from vap_sim.models.compact.network import CompactConfig, CompactNetwork, UNetConfig
from vap_sim.prompts.silhouette import silhouettes
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot

SIZE, FRAMES = (96, 64), 16
CAMERA = Camera.look_at("side", (1.5, -0.9, 0.9), (0.25, 0.0, 0.3), size=SIZE, vertical_fov=0.8)
WIDTHS = UNetConfig(widths=(8, 12, 16), blocks=(1, 1, 1))
SHAPE = {"size": 64, "style": 8, "scene": WIDTHS, "motion": WIDTHS, "robot": WIDTHS}


def filmed(number: int) -> PreparedClip:
    """One recording: an orange arm swings over a patterned table."""
    rng, model = np.random.default_rng(number), load_robot("panda_robotiq")
    joints = np.tile(model.home.numpy().astype(np.float32), (FRAMES, 1))
    joints[:, 0] = rng.uniform(0.6, 1.0) * np.sin(np.linspace(0, 2 * np.pi, FRAMES) + rng.uniform(0, 6))
    robot = silhouettes(model, torch.from_numpy(joints)[None], [CAMERA])[0, 0].numpy()
    table = cv2.resize(np.random.default_rng(0).integers(60, 160, (8, 12, 3), np.uint8), SIZE)
    frames = np.where(robot[..., None], np.array([225, 120, 40], np.uint8), table)
    return PreparedClip(
        name=f"recording_{number}",
        frames=frames[None],
        joints=joints,
        cameras=(CAMERA,),  # what `vap-sim calibrate` finds
        homographies=np.tile(np.eye(3, dtype=np.float32), (1, FRAMES, 1, 1)),  # and `vap-sim prepare` refines
        robot=robot[None] * np.uint8(255),
        kept=np.ones((1, FRAMES), np.bool_),
        frame_rate=5.0,
        robot_name=model.name,
        state_source="logged",
        source=f"recording_{number}",
    )


def prepared(folder: Path) -> None:
    """Three recordings, as `vap-sim prepare` leaves them."""
    folder.mkdir()
    entries = []
    for clip in map(filmed, range(3)):
        save_clip(folder / f"{clip.name}{SUFFIX}", clip)
        entries.append(ClipEntry(clip.name, f"{clip.name}{SUFFIX}", clip.length, (CAMERA.name,)))
    PreparedSet(folder, clips=tuple(entries)).save()


def main() -> None:
    out = Path("out")
    out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder, start, weights = Path(name), Path(name) / "tiny.safetensors", Path(name) / "station.safetensors"
        prepared(folder / "clips")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            network = CompactNetwork(CompactConfig(**SHAPE))
        shape = {**SHAPE, **{part: vars(WIDTHS) for part in ("scene", "motion", "robot")}}
        save_tensors(start, network.state_dict(), {"network": shape, "profile": "compact"})
        more = {"held_out": 1, "steps": 40, "cooldown": 10, "learning_rate": 4e-3, "scenes": 1, "detector_steps": 0}
        print(adapt(Adapt(folder / "clips", weights, str(start), threads=1, **more)).replace(name, "..."))
        for words, file in (("before", start), ("after", weights)):
            told = {"weights": (str(file),), "episodes": ("recording_2",), "sheet": True, "threads": 1}
            replay(Replay(folder / "clips", folder / words, **told))
            (mean,) = json.loads((folder / words / RECORD).read_text())["mean"].values()
            print(f"{words}: moving pixels {mean['moving']:.1f} dB, {mean['gain']:+.1f} dB over the first picture")
        sheets = [cv2.imread(str(folder / words / "recording_2.side.png")) for words in ("before", "after")]
    below = np.vstack([sheets[0], sheets[1][2 * len(sheets[1]) // 3 :]])  # recorded, skeleton, dream before and after
    cv2.imwrite(str(out / "16_adapt_to_your_station.png"), below)
    print(f"written: {out / '16_adapt_to_your_station.png'}, four steps of a recording that was not learned from")


if __name__ == "__main__":
    main()
