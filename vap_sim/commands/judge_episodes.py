"""Episodes for judges: graded policies in the twin and in a dream of it, kept as moments with all that labels need.

One file an episode. Scene, task and policy follow from the seed. The robot's nominal motion is the same in both worlds,
so every moment exists twice: as the twin made it, with its exact truth, and as the dream showed it, with the places of
the dream's own objects, from which `judge_oracle` tells what the dream shows.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from vap_sim.errors import BadFile, InvalidInput
from vap_sim.policies import motion_plans
from vap_sim.policies.motion_plans import Target, Waypoint
from vap_sim.policies.scripted import joint_targets
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.robots.camera import Camera
from vap_sim.robots.control import Controller
from vap_sim.robots.library import RobotModel, load_robot

if TYPE_CHECKING:
    from vap_sim.envs.scenes import Scene
    from vap_sim.models.protocol import WorldModel

SUFFIX = ".judge.npz"
FORMAT = 1
DEV_SEEDS = range(800_000, 900_000)
"""Seeds by which a judge is calibrated and its band of doubt is chosen; it is trained on those below."""
STEPS, MOMENTS = 55, 6
POLICIES: dict[str, float] = {
    "expert": 0.20, "noise": 0.42, "near_goal": 0.12, "wrong_goal": 0.06, "wrong_object": 0.07, "stopped": 0.06,
    "random": 0.04, "idle": 0.03,
}  # fmt: skip
"""Shares of the policies. `noise` misses by 1 to 6 cm, `near_goal` aims beside the goal by 3 to 12 cm."""

_CONTROL_DT, _POSES = 0.2, 24
_ROBOT = "panda_robotiq"
_KINDS = {
    "first": ("u1", 3), "twin": ("u1", 5), "dream": ("u1", 5), "steps": ("i8", 1), "joints": ("f4", 3),
    "measured": ("f4", 3), "objects": ("f8", 3), "tool": ("f8", 2), "gripper": ("f8", 1), "speed": ("f8", 1),
    "held": ("?", 2), "success": ("?", 1), "slots": ("f4", 4), "present": ("?", 1), "begun": ("f4", 2),
    "read": ("f4", 3), "read_present": ("?", 2),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class JudgedEpisode:
    """M moments of one episode, K objects, S slots of the dream; metres and radians in the robot's base frame.

    first (H, W, 3) uint8; twin, dream (M, 2, H, W, 3) uint8, the picture before and that of the moment; steps (M,)
    actions taken; joints (M, 2, J) nominal, of both pictures. Truth of the twin: measured (M, 2, J) joints, objects
    (M, K, 3), tool (M, 3), gripper (M,), speed (M,), held (M, K), success (M,). The dream's objects: begun (S, 2),
    present (S,), slots (M, 2, S, 2) [px]; and those that the dream reads in the twin's own pictures: read (M, S, 2),
    read_present (M, S).
    """

    first: NDArray[np.uint8]
    twin: NDArray[np.uint8]
    dream: NDArray[np.uint8]
    steps: NDArray[np.int64]
    joints: NDArray[np.float32]
    measured: NDArray[np.float32]
    objects: NDArray[np.float64]
    tool: NDArray[np.float64]
    gripper: NDArray[np.float64]
    speed: NDArray[np.float64]
    held: NDArray[np.bool_]
    success: NDArray[np.bool_]
    slots: NDArray[np.float32]
    present: NDArray[np.bool_]
    begun: NDArray[np.float32]
    read: NDArray[np.float32]
    read_present: NDArray[np.bool_]
    meta: dict[str, Any]

    @property
    def task(self) -> str:
        """The name of the task."""
        return str(self.meta["task"])

    @property
    def camera(self) -> Camera:
        """Whose pictures these are."""
        return Camera.from_dict(self.meta["camera"])


def task_of(seed: int) -> str:
    """Tasks take turns."""
    return ("reach", "push", "pick_place")[seed % 3]


def record_judged(seed: int, world: WorldModel, *, held_out: bool = False) -> JudgedEpisode:
    """Play one episode in the twin and dream it. Raises InvalidInput for a held-out seed without `held_out`, or the
    reverse, and for a world whose state does not say where its objects are."""
    from vap_sim.envs.tasks import get_task
    from vap_sim.envs.twin_episode import Episode
    from vap_sim.envs.twin_recorder import check_seeds
    from vap_sim.envs.twin_renderer import scene_camera

    check_seeds(range(seed, seed + 1), held_out=held_out)
    rng = np.random.default_rng([seed, 41])
    model, task = load_robot(_ROBOT), get_task(task_of(seed))
    scene = task.scene(rng)
    camera = scene_camera(scene.cameras[0])
    joints = model.home.double().numpy().copy()
    joints[:7] += rng.normal(0, 0.05, 7)
    kind = str(rng.choice(list(POLICIES), p=list(POLICIES.values())))
    controller = Controller(model, "joint_velocity", _CONTROL_DT)
    actions = _actions(kind, rng, model, task.name, scene, joints, controller)
    nominal = [joints]
    with closing(Episode(scene, model, joints)) as episode:
        state = controller.initial(joints[None])
        situations, shots = [episode.situation()], [episode.physics.snapshot()]
        measured = [episode.physics.joints()]
        for action in actions:
            state, path = controller.step(state, action[None], _POSES)
            episode.physics.follow(np.asarray(path[0]), _CONTROL_DT)
            nominal.append(np.asarray(path[0, -1]))
            situations.append(episode.situation())
            shots.append(episode.physics.snapshot())
            measured.append(episode.physics.joints())
        success = np.array([task.success(situation) for situation in situations])
        steps = _moments(rng, success)
        pose = np.asarray(camera.T_parent_camera, np.float64)
        wanted = {0, *steps, *(step - 1 for step in steps)}
        pictures = {step: episode.renderer.render(shots[step], camera, pose).rgb for step in sorted(wanted)}
    path_joints = np.stack(nominal).astype(np.float32)
    dream = _dreamt(world, pictures[0], path_joints, camera)
    pairs = [(step - 1, step) for step in steps]
    read = [_encoded(world, pictures[step], path_joints[step], camera) for step in steps]
    chosen = [situations[step] for step in steps]
    return JudgedEpisode(
        first=pictures[0],
        twin=np.stack([[pictures[a], pictures[b]] for a, b in pairs]),
        dream=np.stack([[dream.frames[a], dream.frames[b]] for a, b in pairs]),
        steps=np.array(steps),
        joints=np.stack([[path_joints[a], path_joints[b]] for a, b in pairs]),
        measured=np.stack([[measured[a], measured[b]] for a, b in pairs]).astype(np.float32),
        objects=np.stack([situation.objects for situation in chosen]),
        tool=np.stack([situation.tool for situation in chosen]),
        gripper=np.array([situation.gripper for situation in chosen]),
        speed=np.array([situation.speed for situation in chosen]),
        held=np.stack([situation.held for situation in chosen]),
        success=success[steps],
        slots=np.stack([[dream.centres[a], dream.centres[b]] for a, b in pairs]),
        present=dream.present,
        begun=dream.centres[0],
        read=np.stack([centre for centre, _ in read]),
        read_present=np.stack([present for _, present in read]),
        meta={
            "seed": seed,
            "task": task.name,
            "policy": kind,
            "instruction": task.instruction(scene),
            "robot": _ROBOT,
            "world": world.spec.fingerprint,
            "scene": scene.to_dict(),
            "camera": camera.to_dict(),
        },
    )


def record_missing(
    seeds: range, folder: Path, world: str, weights: Path | None = None, *, held_out: bool = False
) -> list[Path]:
    """The files of all seeds in `folder`; those that are missing are recorded one after the other, with progress."""
    from vap_sim.models.registry import load_world

    folder.mkdir(parents=True, exist_ok=True)
    files = [_file(folder, seed) for seed in seeds]
    missing = [seed for seed, file in zip(seeds, files, strict=True) if not file.exists()]
    if missing:
        loaded = load_world(world, weights=weights)
        for seed in tqdm(missing, desc="recording", unit="episode", mininterval=5):
            save_judged(_file(folder, seed), record_judged(seed, loaded, held_out=held_out))
    return files


def save_judged(path: Path, episode: JudgedEpisode) -> None:
    """Write `path` whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            text = json.dumps({"format": FORMAT, **episode.meta}).encode()
            arrays = {name: getattr(episode, name) for name in _KINDS}
            np.savez_compressed(file, meta=np.frombuffer(text, np.uint8), **arrays)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_judged(path: Path) -> JudgedEpisode:
    """Read a file of `save_judged`. Raises BadFile naming the member at fault."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            values = {name: archive[name] for name in (*_KINDS, "meta")}
        meta = json.loads(values.pop("meta").tobytes())
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BadFile(path, f"not a whole episode for judges ({error})") from error
    if not isinstance(meta, dict) or meta.pop("format", None) != FORMAT:
        raise BadFile(path, f"meta: this reader knows format {FORMAT}")
    for name, (kind, axes) in _KINDS.items():
        if values[name].dtype != np.dtype(kind) or values[name].ndim != axes:
            given = f"{values[name].dtype} with {values[name].ndim} axes"
            raise BadFile(path, f"{name}: {given}, expected {np.dtype(kind)} with {axes}")
    return JudgedEpisode(**values, meta=meta)


def _file(folder: Path, seed: int) -> Path:
    return Path(folder) / f"judged_{seed:08d}{SUFFIX}"


# What is played ---------------------------------------------------------------------------------------------------


def _actions(
    kind: str,
    rng: np.random.Generator,
    model: RobotModel,
    task: str,
    scene: Scene,
    joints: NDArray[np.float64],
    controller: Controller,
) -> NDArray[np.float32]:
    """Actions (STEPS, A) of one policy."""
    if kind == "random":
        low, high = controller.spec.low, controller.spec.high
        draws = rng.uniform(0.5 * low, 0.5 * high, (STEPS // 5 + 1, len(low)))
        return np.repeat(draws, 5, axis=0)[:STEPS].astype(np.float32)
    if kind == "idle":
        targets = np.repeat(joints[None], STEPS, axis=0)
    else:
        targets = joint_targets(model, joints, _plan(kind, rng, task, scene), _CONTROL_DT, STEPS)
        if kind == "stopped":
            last = int(rng.uniform(0.25, 0.8) * STEPS)
            targets[last:] = targets[last]
    state, actions = controller.initial(joints[None]), []
    for target in targets:
        actions.append(controller.actions_for(state, target[None])[0])
        state, _ = controller.step(state, actions[-1][None], 0)
    return np.stack(actions)


def _plan(kind: str, rng: np.random.Generator, task: str, scene: Scene) -> list[Waypoint]:
    index = int(rng.integers(1, len(scene.objects))) if kind == "wrong_object" and len(scene.objects) > 1 else 0
    item = scene.objects[index]
    square = item.shape in ("cube", "cylinder", "sphere")
    target = Target(item.x, item.y, item.yaw, item.size, square)
    goal = (0.5, 0.0) if scene.goal is None else scene.goal[:2]
    if kind in ("near_goal", "wrong_goal"):
        angle, far = rng.uniform(-np.pi, np.pi), rng.uniform(*((0.03, 0.12) if kind == "near_goal" else (0.15, 0.3)))
        shift = far * np.array([np.cos(angle), np.sin(angle)])
        if task == "reach":
            target = replace(target, x=item.x + shift[0] / 2, y=item.y + shift[1] / 2)
        goal = (float(goal[0] + shift[0]), float(goal[1] + shift[1]))
    if task == "reach":
        high = kind == "near_goal" and rng.uniform() < 0.5
        plan = motion_plans.reach(target, item.size[2] + float(rng.uniform(0.0, 0.12)) if high else None)
    elif np.hypot(goal[0] - target.x, goal[1] - target.y) < 0.02:
        plan = motion_plans.reach(target)
    else:
        plan = (motion_plans.push if task == "push" else motion_plans.pick_place)(target, goal)
    return motion_plans.noisy(plan, rng, float(rng.uniform(0.01, 0.06))) if kind == "noise" else plan


def _moments(rng: np.random.Generator, success: NDArray[np.bool_]) -> list[int]:
    """The last step, those beside changes of the truth, and some drawn, more of them late ones: MOMENTS in all."""
    last = len(success) - 1
    changes = np.flatnonzero(success[1:] != success[:-1]) + 1
    near = [int(step + shift) for step in changes[:2] for shift in (-1, 2)]
    chosen = {last} | {step for step in near if 1 <= step <= last}
    drawn = 1 + np.floor(last * np.sqrt(rng.uniform(size=4 * MOMENTS)))
    for step in drawn.astype(int).tolist():
        if len(chosen) < MOMENTS:
            chosen.add(min(step, last))
    return sorted(chosen)[-MOMENTS:]


# The dream of it --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Dream:
    """frames (T + 1, H, W, 3) uint8, centres (T + 1, S, 2) [px] and present (S,) of its objects."""

    frames: NDArray[np.uint8]
    centres: NDArray[np.float32]
    present: NDArray[np.bool_]


def _dreamt(world: WorldModel, first: NDArray[np.uint8], joints: NDArray[np.float32], camera: Camera) -> _Dream:
    prompter = Prompter(load_robot(_ROBOT), profile(world.spec.profile), world.spec.size)
    prompts = prompter.draw(torch.from_numpy(joints)[None], [camera])
    state = world.encode(torch.from_numpy(first)[None, None], prompts.between(0, 1), [0])
    frames, centres = [first], [_places(state.context)]
    for step in range(1, len(joints)):
        state, made = world.step(state, prompts.between(step, step + 1))
        frames.append(made[0, 0, -1].cpu().numpy())
        centres.append(_places(state.context))
    return _Dream(np.stack(frames), np.stack(centres), state.context["present"][0].cpu().numpy())


def _encoded(
    world: WorldModel, picture: NDArray[np.uint8], joints: NDArray[np.float32], camera: Camera
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where the world reads objects in one picture."""
    prompter = Prompter(load_robot(_ROBOT), profile(world.spec.profile), world.spec.size)
    prompt = prompter.draw(torch.from_numpy(joints)[None, None], [camera])
    state = world.encode(torch.from_numpy(picture)[None, None], prompt, [0])
    return _places(state.context), state.context["present"][0].cpu().numpy()


def _places(context: Any) -> NDArray[np.float32]:
    if "centre" not in context or "present" not in context:
        raise InvalidInput("world to dream episodes for judges", sorted(context), "one whose state has centre, present")
    return np.asarray(context["centre"][0].float().cpu().numpy())
