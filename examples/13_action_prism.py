"""Show it once, by AICL: a tiny CogVideoX learns from pairs of twin films what demonstrations mean, then is shown one.

    python examples/13_action_prism.py [STEPS]

By default it takes a handful of steps, in which nothing to speak of is learned: all parts run, and what is shown moves
the dream a little. benchmarks/reference_video.py trains for hours and asks which action is recognised. Writes
out/13_action_prism.png; everything else goes into a temporary folder.
"""

import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch

import vap_sim
from vap_sim.envs.twin_actions import ActionSettings, record_action, record_action_files
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.codec import TinyCodec
from vap_sim.models.cogvideox.config import build_transformer, tiny_config
from vap_sim.models.cogvideox.loading import Header, save_world
from vap_sim.models.cogvideox.sampler import PUBLISHED, Schedule
from vap_sim.models.cogvideox.text import HashedWords
from vap_sim.models.conditioners.action_prism import ActionPrism
from vap_sim.models.conditioners.action_prism_file import save_action_prism
from vap_sim.models.tensor_cache import TensorCache
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt
from vap_sim.training.diffusion import DiffusionRecipe, DiffusionTraining
from vap_sim.training.loop import LoopSettings, train
from vap_sim.training.motion_contrast import ContrastTraining, MotionContrast
from vap_sim.training.parallel import settle
from vap_sim.training.reference_clips import PairSettings, open_pairs
from vap_sim.training.reference_footage import Footage
from vap_sim.training.reference_pairs import films_in, pairs_of
from vap_sim.training.reference_recipe import ReferenceRecipe

SIDE, FRAMES, CHANNELS, WORDS = 64, 9, 24, 12
ACTIONS, SEEDS, UNSEEN = ("push_left", "lift"), range(2), (1_000_003, 1_000_004)  # the latter are kept for evaluation
FILMS = ActionSettings(frames=FRAMES, size=(SIDE, SIDE), stride=4)  # 2.5 pictures a second


def learn(folder: Path, steps: int) -> Path:
    """A world that brings its prism: first a model without demonstrations, then, on it frozen, the prism."""
    for action in ACTIONS:
        for seed in SEEDS:
            record_action_files(action, seed, folder, FILMS)
    size = (SIDE // 8, SIDE // 8)
    config = tiny_config(latent_channels=CHANNELS, blocks=3, size=size, frames=1 + FRAMES // 4, text_length=WORDS)
    backbone, codec = Backbone(build_transformer(config)), TinyCodec(CHANNELS)
    pairs = pairs_of(films_in(folder))  # every film with a demonstration of its action in another scene
    data = open_pairs(pairs, PairSettings(FRAMES, (SIDE, SIDE), images=1), codec, TensorCache(folder / "cache"))
    training = DiffusionTraining(batch=2, caption=0.0, control=0.0, image=0.0, noisy_image=False)
    prism, words = None, HashedWords(WORDS, config.text_width)
    for kind in (DiffusionRecipe, ReferenceRecipe):
        if kind is ReferenceRecipe:
            prism = ActionPrism(backbone.requires_grad_(False), preset="tiny", blocks=range(config.blocks))
            first = MotionContrast(prism, codec, words, data, ContrastTraining(pairs=4))  # which films show the same?
            loop = LoopSettings(folder / "pairs", steps, learning_rate=2e-3, warmup=0, average=0.0)
            prism.encoder.load_state_dict(train(first, loop).weights)
            prism.encoder.requires_grad_(False)  # as it is while what listens to it learns
        recipe = kind(backbone, prism, codec, words, Schedule.of(PUBLISHED), [data], training)
        loop = LoopSettings(folder / kind.__name__, steps, learning_rate=2e-3, warmup=0, average=0.0)
        settle(recipe.denoiser, train(recipe, loop).weights)
    world, name = folder / "world", "prism.safetensors"
    settings, brought = {"mode": "chunk", "chunk": FRAMES, "steps": 6, "guidance": 1.0}, {"action_prism": name}
    save_world(world, backbone, Header((SIDE, SIDE), 2.5, "text", FRAMES, CHANNELS, True, None, settings, brought))
    save_action_prism(world / name, prism)
    return world


def dream(world: vap_sim.WorldModel, start: Footage, shown: Footage) -> np.ndarray:
    """What follows the first picture (H, W, 3) of one film, shown another: (T, H, W, 3) with the first."""
    clip = ReferenceClip(shown.frames[None], (shown.caption,))
    black = torch.zeros(1, 1, FRAMES, SIDE, SIDE, 3, dtype=torch.uint8)  # nothing is drawn
    state = world.encode(start.frames[None, :1], VisualPrompt(black[:, :, :1], None, clip, (), (start.caption,)), [0])
    frames = world.step(state, VisualPrompt(black[:, :, 1:]))[1][0, 0]
    return torch.cat([start.frames[:1], frames]).numpy()


def main(steps: int = 6) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = vap_sim.load_world(learn(Path(folder), steps))
        (start,) = record_action(ACTIONS[0], UNSEEN[0], FILMS, held_out=True)
        shown = [record_action(action, UNSEEN[1], FILMS, held_out=True)[0] for action in ACTIONS]
        films = [dream(world, start, one) for one in shown]
    apart = np.abs(films[0].astype(float) - films[1]).mean()
    print(f"{steps} steps on {len(ACTIONS) * len(SEEDS)} films: too few to learn an action from a demonstration")
    print(f"shown {ACTIONS[0]} or {ACTIONS[1]}, the same dream differs by {apart:.3f} grey levels a pixel")
    rows = [np.hstack(film[::2]) for one, film in zip(shown, films, strict=True) for film in (one.frames.numpy(), film)]
    path = Path("out") / "13_action_prism.png"
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.vstack(rows).repeat(2, axis=0).repeat(2, axis=1)[..., ::-1])
    print(f"written: {path} (a demonstration and the dream that was shown it; then another)")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
