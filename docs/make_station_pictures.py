"""Makes images/stations.png: an expert's episode at each station, in the twin and in the dream. Needs the extra twin.

Run from the top of a checkout, about half a minute: python docs/make_station_pictures.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np

import vap_sim  # noqa: F401 - registers the environments
from vap_sim.envs.stations import get_station
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.policy import as_batch, brief
from vap_sim.policies.registry import load_policy

OUT = Path(__file__).parent / "images" / "stations.png"
SEED, STEPS, MOMENTS = 900_004, 32, 6  # a development seed: no model was trained on it
PLAYS = (
    ("Bridge", "put_on_plate", None, "image"),
    ("RT1", "move_near", None, "image"),
    ("EgoVid", "grasp_lift", None, "image"),
    ("DROID", "pick_place", ("exterior_1", "wrist"), "image_wrist"),
)
"""Station, task, cameras, and which of the pictures is shown."""
HEAD = 16


def main() -> None:
    rows = []
    for name, task, views, key in PLAYS:
        twin, dream = played(name, task, views, key)
        picks = np.linspace(0, STEPS, MOMENTS).round().astype(int)
        shown = f"{name}, {task.replace('_', ' ')}{', wrist' if views else ''}, steps {', '.join(map(str, picks))}"
        rows += [titled(f"{shown}: twin", twin[picks]), titled("dream", dream[picks])]
    cv2.imwrite(str(OUT), np.concatenate(rows)[..., ::-1])


def played(name: str, task: str, views: tuple[str, ...] | None, key: str) -> tuple[np.ndarray, np.ndarray]:
    """The expert's episode (T, H, W, 3) in the twin, and the same actions in the dream of its first picture."""
    settings: dict[str, Any] = {"task": task, "max_episode_steps": STEPS + 1} | ({"views": views} if views else {})
    twin: Any = gym.make(f"VAPTwin-{name}-v0", **settings).unwrapped
    dream: Any = gym.make(f"VAPWorld-{name}-v0", **settings).unwrapped
    station = get_station(name)
    context = PolicyContext(station.robot, station.control, station.control_hz, task)
    seen, info = twin.reset(seed=SEED)
    policy = brief(load_policy("scripted", context), info)
    dreamt, _ = dream.reset(seed=0, options={"start": twin.start()})
    carry, true, made = policy.reset(1, SEED), [seen[key]], [dreamt[key]]
    for _ in range(STEPS):
        action, carry = policy.act(as_batch(seen), carry)
        seen, dreamt = twin.step(action[0])[0], dream.step(action[0])[0]
        true.append(seen[key])
        made.append(dreamt[key])
    twin.close()
    dream.close()
    return np.stack(true), np.stack(made)


def titled(words: str, pictures: np.ndarray) -> np.ndarray:
    """Pictures (n, H, W, 3) side by side under a line of words."""
    row = np.concatenate(list(pictures), axis=1)
    head = np.full((HEAD, row.shape[1], 3), 29, np.uint8)
    cv2.putText(head, words, (4, HEAD - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (232, 234, 238), 1, cv2.LINE_AA)
    return np.concatenate([head, row])


if __name__ == "__main__":
    main()
