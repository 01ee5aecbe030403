"""Does the dreamt arm do as it is told, whatever it is told? Agreement with the prompt for actions nobody recorded.

    python benchmarks/following.py --limit 10 --sheet out/following.png

From the first frames of held-out twin episodes: the nominal actions, no motion at all, the same actions in reverse
order, the same actions shuffled, and the joint logs of ten real DROID episodes (folder in VAP_SIM_REAL_DATA, by default
../shared/data), which start from the twin's picture of the log's first pose. Agreement is the overlap of the robot
found in a frame with its silhouette at the prompted joints. "twin" is the agreement of the twin's own pictures of the
same poses, the ceiling: silhouettes know neither objects in front of the arm nor the detector's errors, and strange
poses reach below the table. The record goes to out/following.json.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from harness import (
    Row,
    Tally,
    about,
    arguments,
    as_json,
    begin,
    dream,
    episode_camera,
    held_out_files,
    table,
    twin_pictures,
    write_json,
    write_sheet,
)
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vap_sim.data.twin import TwinEpisode, load_episode
from vap_sim.metrics.trust import PromptAgreement
from vap_sim.robots.control import Controller
from vap_sim.robots.library import RobotModel, load_robot

BAR = 0.9
REAL_LOGS, REAL_FRAMES, RAW_PER_FRAME = 10, 51, 3
SHEET_STEPS = (1, 10, 20, 30, 40, 50)
Joints = NDArray[np.float32]


def real_logs(model: RobotModel) -> tuple[list[tuple[str, Joints]], str]:
    """(name, joints (T, J) at 5 Hz) of real episodes, and why there are none where there are none."""
    folder = Path(os.environ.get("VAP_SIM_REAL_DATA", Path(__file__).resolve().parents[1] / ".." / "shared" / "data"))
    logs = []
    for path in sorted((folder / "droid").glob("*/annotation.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if "observation.state.joint_position" in record:
            arm = np.asarray(record["observation.state.joint_position"], np.float32)[::RAW_PER_FRAME]
            grip = np.asarray(record["observation.state.gripper_position"], np.float32)[::RAW_PER_FRAME]
        elif "joints" in record:
            values = np.asarray(record["joints"], np.float32)
            arm, grip = values[:, :7], values[:, 7]
        else:
            continue
        assert model.gripper is not None
        finger = model.gripper.to_joint(torch.from_numpy(grip.reshape(-1, 1).copy())).numpy()
        joints = model.robot.clamp(torch.from_numpy(np.concatenate([arm, finger], axis=1))).numpy()
        logs.append((path.parent.name, joints[:REAL_FRAMES]))
    reason = "" if logs else f"no recordings with joints in {folder / 'droid'}"
    return logs[:REAL_LOGS], reason


def rolled(model: RobotModel, episode: TwinEpisode, actions: Joints) -> Joints:
    """Nominal joints (T + 1, J) of actions (T, A) from an episode's start."""
    controller = Controller(model, episode.meta["control_mode"], episode.meta["control_dt"])
    state = controller.initial(episode.joints[:1])
    path = [episode.joints[0]]
    for action in actions:
        state, poses = controller.step(state, action[None], 1)
        path.append(poses[0, -1])
    return np.stack(path).astype(np.float32)


def variants(model: RobotModel, episode: TwinEpisode, seed: int) -> dict[str, Joints]:
    """Joint paths (T + 1, J) by name, all from the episode's first pose."""
    actions = episode.actions
    order = np.random.default_rng([seed, 5]).permutation(len(actions))
    return {
        "nominal actions": episode.joints,
        "zero actions": np.repeat(episode.joints[:1], len(episode.joints), axis=0),
        "reversed actions": rolled(model, episode, actions[::-1]),
        "shuffled actions": rolled(model, episode, actions[order]),
    }


def main() -> None:
    parser = arguments(__doc__, "following.json")
    parser.set_defaults(limit=10)
    options = parser.parse_args()
    world, model = begin(options), load_robot("panda_robotiq")
    meter = PromptAgreement(model, world.spec.size)
    files = held_out_files(options.episodes, options.limit)
    logs, reason = real_logs(model)
    dreams: dict[str, Tally] = defaultdict(Tally)
    twins: dict[str, Tally] = defaultdict(Tally)
    sheet: dict[str, tuple[Tensor, Tensor]] = {}

    def judge(name: str, episode: TwinEpisode, joints: Joints) -> None:
        camera, poses = episode_camera(episode), torch.from_numpy(np.ascontiguousarray(joints))
        pictures = twin_pictures(episode, joints)
        start = pictures[0] if name == "real joint logs" else torch.from_numpy(episode.frames[0, 0])
        frames = dream(world, start[None], poses[None], [camera])[0]
        for tallies, shown in ((dreams, frames), (twins, pictures)):
            agreement = meter.all(shown[1:], poses[1:], camera)
            tallies[name].add_mean(agreement.existing(), agreement.undefined)
        sheet.setdefault(name, (pictures, frames))

    for seed, file in enumerate(tqdm(files, desc="dreaming", unit="episode", mininterval=5)):
        episode = load_episode(file)
        for name, joints in variants(model, episode, seed).items():
            judge(name, episode, joints)
    for index, (_, joints) in enumerate(tqdm(logs, desc="real logs", unit="episode", mininterval=5)):
        judge("real joint logs", load_episode(files[index % len(files)]), joints)

    rows = [Row(name, tally.summary(), "", None, {"twin": twins[name].summary()}) for name, tally in dreams.items()]
    print(f"world {world.spec.name} ({world.spec.fingerprint}), {len(files)} starts, {len(logs)} real logs")
    print(table(rows))
    nominal = rows[0].summary
    assert nominal is not None
    relative = {row.name: row.summary.value / nominal.value for row in rows[1:] if row.summary is not None}
    for name, value in relative.items():
        verdict = "pass" if value >= BAR else "FAIL"
        print(f"{name}: {100 * value:.1f} % of the nominal agreement, bar {100 * BAR:.0f} %: {verdict}")
    if reason:
        print(f"real joint logs: skipped, {reason}")
    record = {
        "about": about(world, options),
        "results": as_json(rows),
        "relative": relative,
        "bar": BAR,
        "skipped": reason,
    }
    write_json(options.out, record)
    if options.sheet is not None:
        lines = []
        for name, (pictures, frames) in sheet.items():
            steps = [step for step in SHEET_STEPS if step < len(frames)]
            title = f"{name}, steps {', '.join(map(str, steps))}: twin (objects resting)"
            lines += [(title, [pictures[s].numpy() for s in steps]), ("dream", [frames[s].numpy() for s in steps])]
        write_sheet(options.sheet, lines)


if __name__ == "__main__":
    main()
