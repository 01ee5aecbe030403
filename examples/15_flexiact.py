"""Show it once, by FlexiAct: learn the tokens of one action from one clip, then tell them to an environment by name.

    python examples/15_flexiact.py [STEPS]

By default it takes a handful of steps, in which nothing to speak of is learned: all parts run, and the name moves the
dream a little. The authors take 1500 to 3000 steps for an action. Writes out/15_flexiact.png; everything else goes into
a temporary folder.
"""

import sys
import tempfile
from pathlib import Path

import cv2
import gymnasium as gym
import numpy as np

from vap_sim import photo_start
from vap_sim.commands.learn_action import LearnAction
from vap_sim.commands.learn_action import run as learn_action
from vap_sim.envs.start import Start
from vap_sim.envs.twin_actions import ActionSettings, record_action, record_action_files
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.codec import TinyCodec
from vap_sim.models.cogvideox.config import build_transformer, tiny_config
from vap_sim.models.cogvideox.loading import Header, save_world
from vap_sim.models.cogvideox.sampler import PUBLISHED, Schedule
from vap_sim.models.cogvideox.text import HashedWords
from vap_sim.models.tensor_cache import TensorCache
from vap_sim.training.diffusion import DiffusionRecipe, DiffusionTraining
from vap_sim.training.loop import LoopSettings, train
from vap_sim.training.parallel import settle
from vap_sim.training.reference_clips import PairSettings, open_pairs
from vap_sim.training.reference_pairs import films_in, pairs_of
from vap_sim.viewer.video import write_mp4

SIDE, FRAMES, CHANNELS, WORDS = 64, 9, 24, 12
SEEDS, UNSEEN = range(2), (1_000_003, 1_000_004)  # the latter are kept for evaluation
FILMS = ActionSettings(frames=FRAMES, size=(SIDE, SIDE))  # 5 pictures a second


def model(folder: Path, steps: int) -> Path:
    """A tiny world, trained for a moment on films of two actions."""
    for action in ("wave", "lift"):
        for seed in SEEDS:
            record_action_files(action, seed, folder, FILMS)
    size = (SIDE // 8, SIDE // 8)
    config = tiny_config(latent_channels=CHANNELS, blocks=3, size=size, frames=1 + FRAMES // 4, text_length=WORDS)
    backbone, codec, words = Backbone(build_transformer(config)), TinyCodec(CHANNELS), HashedWords(WORDS, 32)
    pairs = pairs_of(films_in(folder))
    data = open_pairs(pairs, PairSettings(FRAMES, (SIDE, SIDE), images=1), codec, TensorCache(folder / "cache"))
    training = DiffusionTraining(batch=2, control=0.0, noisy_image=False)
    recipe = DiffusionRecipe(backbone, None, codec, words, Schedule.of(PUBLISHED), [data], training)
    loop = LoopSettings(folder / "model", steps, learning_rate=2e-3, warmup=0, average=0.0)
    settle(recipe.denoiser, train(recipe, loop).weights)
    settings = {"mode": "chunk", "chunk": FRAMES, "steps": 6, "guidance": 1.0}
    save_world(folder / "world", backbone, Header((SIDE, SIDE), 5.0, "text", FRAMES, CHANNELS, True, None, settings))
    return folder / "world"


def dream(world: Path, start: Start, conditioners: dict, options: dict) -> list[np.ndarray]:
    """The first picture and the last of each of two clips. No control is there to listen, so actions do nothing."""
    told = {"conditioners": conditioners}
    env = gym.make("VAPWorld-DROID-v0", world=world, world_options=told, control_hz=5 / 8)  # one clip an action
    pictures = [env.reset(seed=0, options={"start": start, **options})[0]["image"]]
    pictures += [env.step(np.zeros(8, np.float32))[0]["image"] for _ in range(2)]
    env.close()
    return pictures


def main(steps: int = 6) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world = model(folder, steps)
        (clip,) = record_action("wave", UNSEEN[1], FILMS, held_out=True)
        write_mp4(folder / "clip.mp4", clip.frames.numpy(), clip.frame_rate)
        few = {"steps": steps, "crops": 2, "tokens": 8, "threads": 1, "preview_every": steps + 1}
        tokens = learn_action(
            LearnAction(folder / "clip.mp4", "wave", str(world), folder / "wave.safetensors", clip.caption, **few)
        )
        (film,) = record_action("lift", UNSEEN[0], FILMS, held_out=True)
        start = photo_start(film.frames[0].numpy(), film.joints[0], film.camera, instruction=film.caption)
        told = dream(world, start, {"flexiact": {"weights": tokens, "scale": 1.0}}, {"motion": "wave"})
        untold = dream(world, start, {}, {})
    apart = float(np.abs(np.stack(told).astype(float) - untold).mean())
    print(
        f"{steps} steps: too few to learn an action; told 'wave', the dream differs by {apart:.3f} grey levels a pixel"
    )
    rows = [np.hstack(list(clip.frames.numpy()[::4])), np.hstack(told), np.hstack(untold)]
    path = Path("out") / "15_flexiact.png"
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.vstack(rows).repeat(3, axis=0).repeat(3, axis=1)[..., ::-1])
    print(f"written: {path} (the clip that was learned from; a dream that was told its name; one that was not)")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
