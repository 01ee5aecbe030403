"""`vap-sim demo`: one scripted episode and one replayed joint log, in the twin and in the dream, side by side."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vap_sim.commands.outcome import Outcome

if TYPE_CHECKING:
    from vap_sim.data.joint_log import JointLog

_SCRIPTED_SEED = 1_000_003  # kept for evaluation: no model was trained on it
_REPLAY_START = "pick_place_00"
_PANEL = 384
_VIEWS = ("exterior_1",)


@dataclass(frozen=True)
class Demo:
    """Dream a scripted pick-and-place and a recorded joint log beside the ground truth. Example: vap-sim demo --out out

    Writes OUT/demo.mp4 (ground truth | drawn prompt | dream) and OUT/demo.json with all figures.

    Attributes:
        out: Folder for film and figures.
        steps: Longest length of an episode.
        world: Name or weights file of the world that dreams.
        replay: Folder of the joint log to replay; by default one of VAP_SIM_REAL_DATA, or of the twin.
    """

    out: Path = Path("out")
    steps: int = 50
    world: str = "compact"
    replay: Path | None = None


@dataclass(frozen=True)
class Episode:
    """One episode in both worlds: pictures (T, H, W, 3), prompt agreement (T,), times of a step [s]."""

    title: str
    truth: np.ndarray
    prompts: np.ndarray
    dream: np.ndarray
    agreement: np.ndarray
    dream_seconds: np.ndarray
    twin_seconds: np.ndarray
    success: bool | None


def run(command: Demo) -> Outcome:
    """Play both episodes, write the files, and return the table to show."""
    from vap_sim.errors import InvalidInput
    from vap_sim.viewer.video import write_mp4

    if command.steps < 1:
        raise InvalidInput("--steps", command.steps, "at least 1")
    command.out.mkdir(parents=True, exist_ok=True)
    log, source = _joint_log(command.replay)
    episodes = [_scripted(command), _replayed(command, log)]
    frames = (frame for episode in episodes for frame in _panels(episode))
    write_mp4(command.out / "demo.mp4", frames, frame_rate=5)
    figures = {"world": command.world, "replay": source, "episodes": [_figures(episode) for episode in episodes]}
    (command.out / "demo.json").write_text(json.dumps(figures, indent=1))
    told = _table(figures["episodes"], source, command.out)  # type: ignore[arg-type]
    return Outcome(told, {**figures, "written": [command.out / "demo.mp4", command.out / "demo.json"]})


def _joint_log(folder: Path | None) -> tuple[JointLog, str]:
    """The log to replay, and a sentence on where it is from."""
    from vap_sim.data.joint_log import read_joint_log, real_joint_logs

    if folder is not None:
        return read_joint_log(folder), f"the joint log in {folder}"
    real = real_joint_logs()
    if real:
        log = read_joint_log(real[0])
        return log, f"a real robot's joint log, DROID sample {log.name}"
    shipped = Path(__file__).parent / "shipped_log"
    return read_joint_log(shipped), "a recording of the twin: no real recordings here (see VAP_SIM_REAL_DATA)"


def _scripted(command: Demo) -> Episode:
    import gymnasium as gym

    from vap_sim.policies.plan_policy import ScriptedPolicy

    twin = gym.make("VAPTwin-DROID-v0", task="pick_place", views=_VIEWS, max_episode_steps=command.steps + 1)
    twin.reset(seed=_SCRIPTED_SEED)
    start = twin.unwrapped.start()  # type: ignore[attr-defined]
    policy = ScriptedPolicy("pick_place")
    actions = policy.plan(start, command.steps)
    return _play(command, "scripted pick and place", twin, start, actions, "joint_velocity")


def _replayed(command: Demo, log: JointLog) -> Episode:
    import gymnasium as gym
    import torch

    from vap_sim.envs.start import load_start
    from vap_sim.robots.library import load_robot

    gripper = load_robot("panda_robotiq").gripper
    assert gripper is not None
    first = torch.as_tensor(log.joints[0])
    joints = torch.cat([first[:7], gripper.to_joint(first[7:8])])
    place = replace(load_start(_REPLAY_START), joints=joints, gripper=float(first[7]))
    options: dict[str, Any] = {"control": "joint_position", "views": _VIEWS}
    twin = gym.make("VAPTwin-DROID-v0", max_episode_steps=command.steps + 1, **options)
    twin.reset(seed=0, options={"start": place})
    start = twin.unwrapped.start()  # type: ignore[attr-defined]
    return _play(command, f"replay: {log.name}", twin, start, log.joints[1 : command.steps + 1], "joint_position")


def _play(command: Demo, title: str, twin: Any, start: Any, actions: Iterable[np.ndarray], control: str) -> Episode:
    """Feed the same actions to the twin and to the dream that begins from the twin's picture, till its task is done."""
    import gymnasium as gym
    from tqdm import tqdm

    dream = gym.make(
        "VAPWorld-DROID-v0", world=command.world, control=control, trust=True, render_mode="rgb_array",
        render_views=("prompt",), views=_VIEWS, max_episode_steps=command.steps + 1,
    )  # fmt: skip
    dream.reset(seed=0, options={"start": start})
    rows: list[tuple[Any, ...]] = []
    success = False
    planned = list(actions)
    with tqdm(total=len(planned), desc=title, unit="step", dynamic_ncols=True) as bar:
        for action in planned:
            (seen, _, success, _, _), twin_time = _timed(twin.step, action)
            (dreamed, _, _, _, info), dream_time = _timed(dream.step, action)
            pictures = seen["image"], dream.render(), dreamed["image"]
            rows.append((*pictures, info["prompt_agreement"], dream_time, twin_time))
            bar.total = len(rows) if success else bar.total
            bar.update()
            if success:
                break
    twin.close()
    dream.close()
    truth, prompts, dreams, agreement, dream_seconds, twin_seconds = (np.stack(c) for c in zip(*rows, strict=True))
    judged = success if control == "joint_velocity" else None
    return Episode(title, truth, prompts, dreams, agreement, dream_seconds, twin_seconds, judged)


def _timed(step: Callable[[np.ndarray], Any], action: np.ndarray) -> tuple[Any, float]:
    began = time.perf_counter()
    return step(action), time.perf_counter() - began


def _panels(episode: Episode) -> Iterable[np.ndarray]:
    """Frames of the video: ground truth | drawn prompt | dream under a caption with step and trust."""
    import cv2

    for step, pictures in enumerate(zip(episode.truth, episode.prompts, episode.dream, strict=True)):
        row = np.hstack([cv2.resize(p, (_PANEL, _PANEL), interpolation=cv2.INTER_NEAREST) for p in pictures])
        head = np.full((48, row.shape[1], 3), 24, np.uint8)
        caption = f"{episode.title}   step {step + 1}   trust {episode.agreement[step]:.2f}"
        cv2.putText(head, caption, (10, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (240, 240, 240), 1, cv2.LINE_AA)
        for column, name in enumerate(("ground truth (twin)", "drawn prompt", "dream")):
            at = (10 + column * _PANEL, 40)
            cv2.putText(head, name, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (150, 190, 255), 1, cv2.LINE_AA)
        yield np.vstack([head, row])


def _figures(episode: Episode) -> dict[str, Any]:
    error = np.square(episode.truth.astype(np.float64) - episode.dream).mean(axis=(1, 2, 3))
    psnr = 10 * np.log10(255**2 / np.maximum(error, 1e-3))
    return {
        "title": episode.title,
        "steps": len(psnr),
        "psnr_db": {str(k): round(float(psnr[k - 1]), 2) for k in (1, 10, 25, 50) if k <= len(psnr)},
        "prompt_agreement_mean": round(float(episode.agreement.mean()), 4),
        "prompt_agreement_lowest": round(float(episode.agreement.min()), 4),
        "dream_steps_per_second_with_trust": round(1 / float(np.median(episode.dream_seconds)), 1),
        "twin_steps_per_second": round(1 / float(np.median(episode.twin_seconds)), 1),
        "twin_success": episode.success,
    }


def _table(episodes: list[dict[str, Any]], source: str, out: Path) -> str:
    lines = [f"{'episode':34} {'steps':>5} {'PSNR 10':>8} {'PSNR last':>9} {'trust':>6} {'dream/s':>8} {'twin/s':>7}"]
    for row in episodes:
        psnr = row["psnr_db"]
        speeds = f"{row['dream_steps_per_second_with_trust']:8.1f} {row['twin_steps_per_second']:7.1f}"
        scores = (
            f"{psnr.get('10', float('nan')):8.1f} {list(psnr.values())[-1]:9.1f} {row['prompt_agreement_mean']:6.2f}"
        )
        lines.append(f"{row['title'][:34]:34} {row['steps']:5d} {scores} {speeds}")
    return "\n".join([*lines, f"replayed: {source}", f"written: {out / 'demo.mp4'}, {out / 'demo.json'}"])
