"""Show it once, by Video-As-Prompt: train a tiny expert, keep it as it is released, and run the command on it.

    python examples/14_video_as_prompt.py [STEPS]

By default it takes a handful of steps, in which nothing to speak of is learned: all parts run. Released weights are
opened in the same way, by `--world FOLDER`. Writes a film, what was done (JSON) and out/14_video_as_prompt.png;
everything else goes into a temporary folder.
"""

import json
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from vap_sim.commands.imagine import Imagine
from vap_sim.commands.imagine import run as imagine
from vap_sim.data.video_file import read_video
from vap_sim.envs.twin_actions import ActionSettings, record_action, record_action_files
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.codec import TinyCodec
from vap_sim.models.cogvideox.config import build_transformer, tiny_config
from vap_sim.models.cogvideox.loading import Header, save_world
from vap_sim.models.cogvideox.sampler import PUBLISHED, Schedule
from vap_sim.models.cogvideox.text import HashedWords
from vap_sim.models.conditioners.video_as_prompt import VideoAsPrompt
from vap_sim.models.conditioners.video_as_prompt_released import save_released
from vap_sim.models.tensor_cache import TensorCache
from vap_sim.training.diffusion import DiffusionRecipe, DiffusionTraining
from vap_sim.training.loop import LoopSettings, train
from vap_sim.training.parallel import settle
from vap_sim.training.reference_clips import PairSettings, open_pairs
from vap_sim.training.reference_pairs import films_in, pairs_of
from vap_sim.training.reference_recipe import ReferenceRecipe
from vap_sim.viewer.video import write_mp4

SIDE, FRAMES, CHANNELS, WORDS = 64, 9, 24, 12
ACTIONS, SEEDS, UNSEEN = ("push_right", "wave"), range(2), (1_000_003, 1_000_004)  # the latter are for evaluation
FILMS = ActionSettings(frames=FRAMES, size=(SIDE, SIDE), stride=4)  # 2.5 pictures a second
OUT = Path("out")


def learn(folder: Path, steps: int) -> Path:
    """A folder with backbone and expert in one transformer, as the authors release theirs, and world.json beside it."""
    for action in ACTIONS:
        for seed in SEEDS:
            record_action_files(action, seed, folder, FILMS)
    size = (SIDE // 8, SIDE // 8)
    config = tiny_config(latent_channels=CHANNELS, blocks=4, size=size, frames=1 + FRAMES // 4, text_length=WORDS)
    backbone, codec, words = Backbone(build_transformer(config)), TinyCodec(CHANNELS), HashedWords(WORDS, 32)
    pairs = pairs_of(films_in(folder))
    data = open_pairs(pairs, PairSettings(FRAMES, (SIDE, SIDE), images=1), codec, TensorCache(folder / "cache"))
    training = DiffusionTraining(batch=2, caption=0.0, control=0.0, image=0.0, noisy_image=False)
    expert = None
    for kind in (DiffusionRecipe, ReferenceRecipe):
        if kind is ReferenceRecipe:  # the expert begins as a copy, so the model is trained first
            expert = VideoAsPrompt(backbone.requires_grad_(False), blocks="first_and_last")
        recipe = kind(backbone, expert, codec, words, Schedule.of(PUBLISHED), [data], training)
        loop = LoopSettings(folder / kind.__name__, steps, learning_rate=1e-3, warmup=0, average=0.0)
        settle(recipe.denoiser, train(recipe, loop).weights)
    settings = {"mode": "chunk", "chunk": FRAMES, "steps": 6, "guidance": 1.0}
    header = Header((SIDE, SIDE), 2.5, "text", FRAMES, CHANNELS, True, None, settings)
    save_world(folder / "world", backbone, header)
    save_released(folder / "world", backbone, expert)
    return folder / "world"


def main(steps: int = 6) -> None:
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world = learn(folder, steps)
        (start,) = record_action(ACTIONS[0], UNSEEN[0], FILMS, held_out=True)
        (shown,) = record_action(ACTIONS[0], UNSEEN[1], FILMS, held_out=True)
        cv2.imwrite(str(folder / "photo.png"), start.frames[0].numpy()[..., ::-1])
        write_mp4(folder / "clip.mp4", shown.frames.numpy(), shown.frame_rate)
        told = {"demo": folder / "clip.mp4", "demo_caption": shown.caption, "caption": start.caption, "threads": 1}
        film = OUT / "14_video_as_prompt.mp4"
        print(imagine(Imagine(str(folder / "photo.png"), str(world), "video_as_prompt", out=film, **told)))
    about = json.loads(film.with_suffix(".json").read_text())
    print(f"{steps} steps: too few to learn an action from a demonstration; expert in blocks", end=" ")
    print(f"{about['conditioner']['blocks']}, {about['world']['settings']['steps']} denoising steps")
    sheet = OUT / "14_video_as_prompt.png"
    cv2.imwrite(str(sheet), np.hstack(list(read_video(film).numpy()[::2]))[::2, ::2, ::-1])
    print(f"written: {sheet} (demonstration and dream side by side, every second picture)")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
