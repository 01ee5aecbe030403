"""The whole way in small: record twin episodes, train both parts of the compact model for three steps, dream with them.

Three steps teach nothing; docs/training.md tells how many do. Everything goes into a temporary folder.
"""

import tempfile
from pathlib import Path

import gymnasium as gym
import numpy as np
from torch import Tensor

import vap_sim
from vap_sim.data.twin import episode_files, load_episode
from vap_sim.envs.twin_recorder import RecorderSettings, record_file
from vap_sim.models.checkpoint import save_tensors
from vap_sim.models.compact.network import CompactConfig, CompactNetwork, UNetConfig
from vap_sim.training.films import load_films
from vap_sim.training.loop import LoopSettings, Recipe, train
from vap_sim.training.motion import MotionRecipe, MotionTraining, Stage
from vap_sim.training.motion_films import load_motion_films
from vap_sim.training.pictures import PictureRecipe, PictureTraining

TINY = UNetConfig(widths=(8, 8, 8, 8), blocks=(1, 1, 1, 1))


def record(folder: Path) -> None:
    """Three episodes of eight actions; `vap-sim record` does the same on all cores."""
    folder.mkdir()
    for seed in range(3):
        episode = load_episode(record_file(seed, folder, RecorderSettings(steps=8)))
        objects = [f"{item['color']} {item['shape']}" for item in episode.meta["scene"]["objects"]]
        print(f"seed {seed}: {episode.length} pictures, {', '.join(episode.meta['behaviours'])}; {', '.join(objects)}")


def fit(data: Path, run: Path) -> Path:
    """Three steps of each recipe on tiny networks; `vap-sim train` takes the full ones, side by side."""
    network, files = CompactNetwork(CompactConfig(scene=TINY, motion=TINY, robot=TINY)), episode_files(data)
    films = load_films(files, "compact", threads=1, progress=False)
    paths = load_motion_films(files, "compact", progress=False)
    short = MotionTraining(stages=(Stage(start=0, length=4, batch=2, jitter=0.5),))
    recipes: dict[str, Recipe] = {
        "pictures": PictureRecipe(network, films[:2], films[2:], PictureTraining(scenes=2, painted=1)),
        "motion": MotionRecipe(network, paths[:2], paths[2:], short),
    }
    weights: dict[str, Tensor] = {}
    for part, recipe in recipes.items():
        outcome = train(recipe, LoopSettings(run / part, steps=2))
        print(f"{part} stopped after step {outcome.step}; {', '.join(sorted(p.name for p in (run / part).iterdir()))}")
        outcome = train(recipe, LoopSettings(run / part, steps=3))
        print(f"{part} resumed from there, stopped after step {outcome.step}")
        weights |= outcome.weights
    path = run / "tiny.safetensors"
    save_tensors(path, weights, {"network": recipe.describe()["network"], "profile": "compact"})
    return path


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        record(Path(folder) / "data")
        weights = fit(Path(folder) / "data", Path(folder) / "run")
        size = weights.stat().st_size
        print(f"{weights.name}: {size / 1e6:.2f} MB, fingerprint {vap_sim.load_world(weights).spec.fingerprint}")
        env = gym.make("VAPWorld-DROID-v0", world=weights, control="ee_delta", trust=True)
        _, info = env.reset(seed=0)
        print(f"agreement at the start {info['prompt_agreement']:.2f}", end=", ")
        for _ in range(6):
            _, _, _, _, info = env.step(np.array([0, 0, -0.2, 0, 0, 0, 1], np.float32))  # the hand goes down
        print(f"after six steps of the dream {info.get('prompt_agreement', 0.0):.2f}")
        env.close()


if __name__ == "__main__":
    main()
