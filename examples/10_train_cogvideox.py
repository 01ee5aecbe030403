"""CogVideoX in small: record twin episodes, train one of two million weights on a CPU, dream an unseen episode.

    python examples/10_train_cogvideox.py [EPISODES [STEPS]]

The defaults, 24 episodes and 2000 steps, take about six minutes of one core. With few steps all parts run and nothing
is learned: the printed agreement tells. Everything but out/10_train_cogvideox.png goes into a temporary folder.
"""

import sys
import tempfile
from pathlib import Path

import cv2
import gymnasium as gym
import numpy as np
import torch

import vap_sim
from vap_sim.commands.train import Train
from vap_sim.commands.train import run as train
from vap_sim.commands.train_cogvideox import CogVideoX
from vap_sim.data.twin import TwinEpisode, load_episode
from vap_sim.envs.start import Start, photo_start
from vap_sim.envs.twin_recorder import RecorderSettings, record_file
from vap_sim.metrics.trust import PromptAgreement
from vap_sim.robots.camera import Camera
from vap_sim.training.clips import caption_of

SIDE, ACTIONS, CLIP = 64, 24, 9
UNSEEN, ANOTHER = 1_000_003, 1_000_004  # seeds from 1,000,000 on are kept for evaluation
METER = 128  # pixels a side of the pictures that the trust meter knows


def record(folder: Path, episodes: int) -> list[TwinEpisode]:
    """Episodes to learn from go into the folder; two others are returned."""
    settings = RecorderSettings(steps=ACTIONS, size=(SIDE, SIDE))
    for part in ("train", "test"):
        (folder / part).mkdir()
    for seed in range(episodes):
        record_file(seed, folder / "train", settings)
    return [load_episode(record_file(s, folder / "test", settings, held_out=True)) for s in (UNSEEN, ANOTHER)]


def dream(world: Path, start: Start, actions: np.ndarray) -> list[np.ndarray]:
    """Prompt over picture (2 H, W, 3), at the start and whenever a clip of eight new pictures has been dreamt."""
    views = ("prompt", "image")
    env = gym.make("VAPWorld-DROID-v0", world="cogvideox", weights=world, render_mode="rgb_array", render_views=views)
    env.reset(seed=0, options={"start": start})
    shown = [env.render()]
    for action in actions:
        _, _, _, _, info = env.step(action)
        shown += [env.render()] if info["new_frame"] else []
    env.close()
    return [np.vstack(np.split(np.asarray(picture), 2, axis=1)) for picture in shown]


def main(episodes: int = 24, steps: int = 2000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        unseen, another = record(Path(folder), episodes)
        small = CogVideoX(model="small", frames=CLIP, spacing=4, batch=8, learning_rate=2e-3, control_dropout=0.0)
        data, run = Path(folder) / "train", Path(folder) / "run"
        command = Train(
            data, run, steps, cooldown=steps // 3, validation=1, threads=1, world="cogvideox", cogvideox=small
        )
        world = train(command)

        camera = Camera.from_dict(unseen.meta["cameras"][0])
        start = photo_start(unseen.frames[0, 0], unseen.joints[0], camera, instruction=caption_of(unseen.meta))
        idle = np.zeros_like(unseen.actions)
        idle[:, -1] = start.gripper
        told = {"its own": unseen.actions, "another episode's": another.actions, "idle": idle}
        dreams = {name: dream(world, start, actions) for name, actions in told.items()}

    moments = range(0, ACTIONS + 1, CLIP - 1)
    truth = [unseen.frames[0, moment] for moment in moments]
    joints = torch.from_numpy(unseen.joints[list(moments)])
    meter = PromptAgreement(vap_sim.load_robot("panda_robotiq"), (METER, METER))

    def agreement(pictures: list[np.ndarray]) -> float:
        large = [cv2.resize(picture, (METER, METER), interpolation=cv2.INTER_CUBIC) for picture in pictures[1:]]
        scores = meter.all(torch.from_numpy(np.stack(large)), joints[1:], camera.resized((METER, METER)))
        return float(np.mean(scores.existing()))

    print(f"{steps} steps on {episodes - 1} episodes; agreement with the joints of an episode that was kept away:")
    print(f"twin {agreement(truth):.2f}")
    for name, pictures in dreams.items():
        print(f"dream, told {name} actions {agreement([picture[SIDE:] for picture in pictures]):.2f}")

    rows = [np.hstack(truth), np.hstack(dreams["its own"]), np.hstack([p[SIDE:] for p in dreams["idle"]])]
    path = Path("out") / "10_train_cogvideox.png"
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.vstack(rows).repeat(3, axis=0).repeat(3, axis=1)[..., ::-1])
    print(f"written: {path} (twin; prompt and dream; dream of an idle robot; every {CLIP - 1} actions)")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
