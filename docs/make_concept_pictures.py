"""Makes the pictures of docs/concepts/ from episodes that are dreamt while it runs. Needs the extras twin and report.

Run from the top of a checkout, about a minute: python docs/make_concept_pictures.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

import vap_sim
from vap_sim.metrics.fidelity import psnr
from vap_sim.policies.plan_policy import ScriptedPolicy
from vap_sim.prompts import render_robot

IMAGES = Path(__file__).parent / "images"
PAPER, INK, FAINT, ACCENT, BOX = "#1d2129", "#e8eaee", "#8a93a3", "#6fc3df", "#272d38"
STEPS = 30
Place = tuple[float, float]
SEED, DOUBTED = 900_003, range(900_010, 900_016)  # development seeds: no model was trained on them


@dataclass(frozen=True, eq=False)
class Played:
    """One episode: pictures (T, H, W, 3) and what the infos told, a step each."""

    pictures: np.ndarray
    prompts: np.ndarray
    infos: tuple[dict[str, Any], ...]


def main() -> None:
    mpl.rcParams.update({"font.size": 9, "font.family": "DejaVu Sans", "svg.hashsalt": "vap_sim"})
    twin, start, actions = scripted("pick_place", SEED)
    dreams = {world: dreamt(world, start, actions) for world in ("still", "kinematic", "compact")}
    pipeline()
    prompt(start, dreams["compact"])
    worlds({**dreams, "twin": twin})
    views(SEED)
    trust()
    fork(start, actions)


def scripted(task: str, seed: int, *, shut: bool = True) -> tuple[Played, Any, np.ndarray]:
    """An episode of the scripted expert in the twin, the start it began from, and its actions; without `shut` the
    gripper stays open whatever the plan says."""
    env: Any = gym.make("VAPTwin-DROID-v0", task=task, max_episode_steps=STEPS + 1).unwrapped
    env.reset(seed=seed)
    start = env.start()
    policy: Any = ScriptedPolicy(task)
    actions = np.stack(list(policy.plan(start, STEPS)))
    actions[:, -1] *= shut
    seen = [env.step(action) for action in actions]
    env.close()
    pictures = np.stack([one[0]["image"] for one in seen])
    return Played(pictures, np.empty(0), tuple(one[4] for one in seen)), start, actions


def dreamt(world: str, start: Any, actions: np.ndarray, trust: bool = False) -> Played:
    """The same actions in a dream that begins from the same picture."""
    options = {"render_mode": "rgb_array", "render_views": ("prompt",), "trust": trust}
    env: Any = gym.make("VAPWorld-DROID-v0", world=world, max_episode_steps=STEPS + 1, **options)
    env.reset(seed=0, options={"start": start})
    pictures, prompts, infos = [], [], []
    for action in actions:
        observation, _, _, _, info = env.step(action)
        pictures.append(observation["image"])
        prompts.append(env.render())
        infos.append(info)
    env.close()
    return Played(np.stack(pictures), np.stack(prompts), tuple(infos))


# Pictures ------------------------------------------------------------------------------------------------------------


def pipeline() -> None:
    """From an action to the next picture, as boxes."""
    boxes = [
        ("action", "joint speeds, poses,\nend-effector steps"),
        ("controller", "nominal joint path"),
        ("kinematics", "URDF: joints to links"),
        ("prompter", "skeleton as the\ncamera sees it"),
        ("world model", "sees pictures\nand prompts only"),
        ("picture", "the next observation"),
    ]
    figure, axes = sheet(11, 2.0)
    axes.set(xlim=(0, 11), ylim=(-0.25, 1.75))
    for number, (title, told) in enumerate(boxes):
        left, strong = 0.1 + number * 1.83, title in ("prompter", "world model")
        colour = ACCENT if strong else FAINT
        axes.add_patch(FancyBboxPatch((left, 0.4), 1.5, 0.95, boxstyle="round,pad=0.04", fc=BOX, ec=colour, lw=1.4))
        axes.text(left + 0.75, 1.12, title, ha="center", color=INK, weight="bold")
        axes.text(left + 0.75, 0.72, told, ha="center", va="center", color=FAINT, fontsize=7.5)
        if number:
            axes.add_patch(arrow((left - 0.28, 0.87), (left - 0.05, 0.87)))
    axes.add_patch(arrow((9.95, 0.33), (8.2, 0.33), curve=-0.22))
    axes.text(9.08, -0.12, "remembered in the state", ha="center", color=FAINT, fontsize=7)
    save(figure, "concept_pipeline")


def prompt(start: Any, dream: Played) -> None:
    """What is known (geometry), what is told (the prompt), what is dreamt, at two moments."""
    model, columns = vap_sim.load_robot("panda_robotiq"), (6, 17)
    figure, grid = tiles(len(columns), 4, ["the robot's geometry", "the prompt", "prompt over the dream", "the dream"])
    for row, step in enumerate(columns):
        joints = torch.from_numpy(dream.infos[step]["joints"])
        drawn = render_robot(model, joints[None, None], [start.cameras[0]]).rgb[0, 0, 0].numpy()
        told, seen = dream.prompts[step], dream.pictures[step]
        over = np.where(told.max(-1, keepdims=True) > 0, told, (seen * 0.55).astype(np.uint8))
        for axes, picture in zip(grid[row], (drawn, told, over, seen), strict=True):
            axes.imshow(picture)
        grid[row][0].set_ylabel(f"step {step + 1}", color=FAINT)
    save(figure, "concept_prompt")


def worlds(played: dict[str, Played]) -> None:
    """The same actions in every world."""
    steps = (1, 8, 14, 20, 29)
    figure, grid = tiles(len(played), len(steps), [f"step {step + 1}" for step in steps])
    for row, (name, one) in enumerate(played.items()):
        for axes, step in zip(grid[row], steps, strict=True):
            axes.imshow(one.pictures[step])
        grid[row][0].set_ylabel(name, color=INK, weight="bold")
    save(figure, "concept_worlds")


def views(seed: int) -> None:
    """What the twin can show of one moment."""
    names = ("exterior_1", "exterior_2", "wrist")
    env: Any = gym.make("VAPTwin-DROID-v0", task="pick_place", views=names, size=(192, 192)).unwrapped
    observation, _ = env.reset(seed=seed)
    for action in ScriptedPolicy("pick_place").plan(env.start(), 9):
        observation, *_ = env.step(action)
    env.close()
    pictures = [observation[key] for key in ("image", "image_exterior_2", "image_wrist")]
    figure, grid = tiles(1, len(names), list(names), side=2.2)
    for axes, picture in zip(grid[0], pictures, strict=True):
        axes.imshow(picture)
    save(figure, "concept_twin")


def trust() -> None:
    """Of pushes with an open gripper those that the meter believes most and least: signals, and how they end."""
    found = []
    for seed in DOUBTED:
        truth, start, actions = scripted("push", seed, shut=False)
        dream = dreamt("compact", start, actions, trust=True)
        found.append((max(info.get("dream_risk", 0.0) for info in dream.infos), truth, dream))
    found.sort(key=lambda one: one[0])
    chosen = (("believed", found[0]), ("doubted", found[-1]))
    figure = Figure(figsize=(11, 4.6), facecolor=PAPER)
    for row, (name, (_, truth, dream)) in enumerate(chosen):
        axes = figure.add_axes((0.06, 0.57 - 0.48 * row, 0.5, 0.36))
        plain(axes)
        for key, colour in (("prompt_agreement", ACCENT), ("dream_risk", "#ef8a62"), ("dream_doubt", "#c2a5cf")):
            axes.plot([info.get(key, np.nan) for info in dream.infos], label=key, color=colour, lw=1.6)
        axes.set_ylim(0, 1.05)
        axes.set_title(f"a dream that is {name}", color=INK, loc="left", fontsize=9)
        both = (torch.from_numpy(one.pictures) for one in (dream, truth))
        error = float(psnr(generated=next(both), truth=next(both)).values[-1])
        for column, (title, picture) in enumerate((("twin", truth.pictures[-1]), ("dream", dream.pictures[-1]))):
            small = figure.add_axes((0.62 + 0.19 * column, 0.55 - 0.48 * row, 0.17, 0.4))
            bare(small)
            small.imshow(picture)
            small.set_xlabel(title if column == 0 else f"dream, {error:.1f} dB", color=FAINT, fontsize=8)
        if row:
            axes.set_xlabel("step", color=FAINT)
            axes.legend(loc="center right", fontsize=7.5, facecolor=PAPER, labelcolor=INK, edgecolor=FAINT)
    save(figure, "concept_trust")


def fork(start: Any, actions: np.ndarray) -> None:
    """One dream, forked at step 8 into three futures: as planned, a hand that never lets go, an arm turned away."""
    env: Any = gym.make("VAPWorld-DROID-v0", max_episode_steps=STEPS + 1).unwrapped
    env.reset(seed=0, options={"start": start})
    trunk = [env.step(action)[0]["image"] for action in actions[:9]]
    state = env.get_state()
    away, shut = actions.copy(), actions.copy()
    away[:, 0], shut[:, -1] = -0.07, 1.0
    futures = {"as planned": actions, "never lets go": shut, "turned away": away}
    figure = Figure(figsize=(11, 5.15), facecolor=PAPER)
    whole = figure.add_axes((0, 0, 1, 1))
    bare(whole)
    whole.set(xlim=(0, 11), ylim=(0, 5.15))
    for column, step in enumerate((0, 4, 8)):
        place(figure, trunk[step], (0.25 + 1.6 * column, 1.8), f"step {step + 1}")
    for row, (name, told) in enumerate(futures.items()):
        env.set_state(state)
        seen = [env.step(action)[0]["image"] for action in told[9:26]]
        low = 3.55 - 1.62 * row
        whole.add_patch(arrow((4.95, 2.5), (5.75, low + 0.7), colour=ACCENT))
        for column, step in enumerate((4, 10, 16)):
            place(figure, seen[step], (5.85 + 1.6 * column, low), f"step {step + 10}" if row == 2 else "")
        whole.text(5.85, low + 1.43, name, color=INK, fontsize=9)
    whole.text(3.45, 3.3, "get_state()", color=ACCENT, fontsize=9, family="monospace")
    env.close()
    save(figure, "concept_fork")


# Drawing -------------------------------------------------------------------------------------------------------------


def sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty sheet, in inches."""
    figure = Figure(figsize=(width, height), facecolor=PAPER)
    axes = figure.add_axes((0, 0, 1, 1))
    bare(axes)
    return figure, axes


def tiles(rows: int, columns: int, titles: Sequence[str], side: float = 1.9) -> tuple[Figure, list[list[Axes]]]:
    """Places for pictures with titles above."""
    figure = Figure(figsize=(columns * side + 0.4, rows * side + 0.35), facecolor=PAPER)
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"wspace": 0.04, "hspace": 0.04})
    figure.subplots_adjust(0.4 / (columns * side + 0.4), 0.01, 0.995, 1 - 0.3 / (rows * side + 0.35))
    for row in grid:
        for axes in row:
            bare(axes)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, color=INK, fontsize=9, pad=4)
    return figure, [list(row) for row in grid]


def place(figure: Figure, picture: np.ndarray, corner: Place, told: str) -> None:
    """A picture of 1.35 inches with its lower left corner there."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((corner[0] / width, corner[1] / height, 1.35 / width, 1.35 / height))
    bare(axes)
    axes.imshow(picture)
    axes.set_xlabel(told, color=FAINT, fontsize=8)


def bare(axes: Axes) -> None:
    """Without ticks and frame."""
    axes.set_facecolor(PAPER)
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)


def plain(axes: Axes) -> None:
    """For curves, on dark paper."""
    axes.set_facecolor("#232833")
    axes.tick_params(colors=FAINT, labelsize=8)
    for side in axes.spines.values():
        side.set_color("#3a4150")


def arrow(a: Place, b: Place, *, colour: str = FAINT, curve: float = 0.0) -> FancyArrowPatch:
    """From a to b."""
    style = f"arc3,rad={curve}"
    return FancyArrowPatch(a, b, arrowstyle="-|>", mutation_scale=11, color=colour, lw=1.3, connectionstyle=style)


def save(figure: Figure, name: str) -> None:
    """Write the picture, at 110 dots an inch and 256 colours, which keeps a checkout small."""
    import io

    import cv2

    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=110, facecolor=PAPER)
    picture = cv2.imdecode(np.frombuffer(written.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    cv2.imwrite(str(IMAGES / f"{name}.png"), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
