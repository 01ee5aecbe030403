"""Episodes for judges: graded policies in the twin and in a dream of it, kept with all that labels need.

One file an episode. Scene, task and policy follow from the seed. None of the policies looks, and the robot's nominal
motion is the same in both worlds, so every moment exists twice: as the twin made it, with its exact truth, and as the
dream showed it, with the places of the dream's own objects, from which `judge_oracle` tells what the dream shows. The
dream is kept whole, the twin at some moments.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from vap_sim.errors import BadFile, InvalidInput
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.policy import brief
from vap_sim.policies.registry import GRADED, load_policy
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.robots.camera import Camera
from vap_sim.robots.control import Controller
from vap_sim.robots.library import RobotModel, load_robot

if TYPE_CHECKING:
    from vap_sim.envs.scenes import Scene
    from vap_sim.models.protocol import WorldModel

SUFFIX = ".judge.npz"
FORMAT = 2
DEV_SEEDS = range(900_000, 901_000)
"""Seeds by which a judge is calibrated and its band of doubt is chosen; it is trained on those below."""
STEPS, MOMENTS = 40, 6

_CONTROL_DT, _POSES = 0.2, 24
_ROBOT = "panda_robotiq"
_KINDS = {
    "dream": ("u1", 4), "slots": ("f4", 3), "present": ("?", 1), "joints": ("f4", 2), "twin": ("u1", 5),
    "steps": ("i8", 1), "measured": ("f4", 2), "objects": ("f8", 4), "tool": ("f8", 2), "gripper": ("f8", 1),
    "speed": ("f8", 1), "held": ("?", 2), "read": ("f4", 3), "read_present": ("?", 2),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class JudgedEpisode:
    """One episode of T actions, K objects, S slots of the dream; metres and radians in the robot's base frame.

    The dream, whole: dream (T + 1, H, W, 3) uint8, the first picture given; slots (T + 1, S, 2) [px] of its objects,
    present (S,); joints (T + 1, J), nominal. The twin at M moments, after `steps` (M,) actions: twin (M, 2, H, W, 3)
    uint8, the picture before and that of the moment; measured (M, J) joints, objects (M, 2, K, 3) before and then, tool
    (M, 3), gripper (M,), speed (M,) and held (M, K). What the dream's model reads in those pictures: read (M, S, 2)
    [px], read_present (M, S).
    """

    dream: NDArray[np.uint8]
    slots: NDArray[np.float32]
    present: NDArray[np.bool_]
    joints: NDArray[np.float32]
    twin: NDArray[np.uint8]
    steps: NDArray[np.int64]
    measured: NDArray[np.float32]
    objects: NDArray[np.float64]
    tool: NDArray[np.float64]
    gripper: NDArray[np.float64]
    speed: NDArray[np.float64]
    held: NDArray[np.bool_]
    read: NDArray[np.float32]
    read_present: NDArray[np.bool_]
    meta: dict[str, Any]

    @property
    def task(self) -> str:
        """The name of the task."""
        return str(self.meta["task"])

    @property
    def policy(self) -> str:
        """The name of the policy."""
        return str(self.meta["policy"])

    @property
    def seed(self) -> int:
        """What scene, task and policy follow from."""
        return int(self.meta["seed"])

    @property
    def camera(self) -> Camera:
        """Whose pictures these are."""
        return Camera.from_dict(self.meta["camera"])


def task_of(seed: int) -> str:
    """Tasks take turns."""
    return ("reach", "push", "pick_place")[seed % 3]


def policy_of(seed: int) -> str:
    """Policies take turns, each with every task."""
    return GRADED[(seed // 3) % len(GRADED)]


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
    paths = _paths(policy_of(seed), seed, model, task.name, scene, joints)
    with closing(Episode(scene, model, joints)) as episode:
        situations, shots = [episode.situation()], [episode.physics.snapshot()]
        measured = [episode.physics.joints()]
        for path in paths:
            episode.physics.follow(path, _CONTROL_DT)
            situations.append(episode.situation())
            shots.append(episode.physics.snapshot())
            measured.append(episode.physics.joints())
        steps = _moments(rng, np.array([task.success(situation) for situation in situations]))
        pose = np.asarray(camera.T_parent_camera, np.float64)
        wanted = {0, *steps, *(step - 1 for step in steps)}
        pictures = {step: episode.renderer.render(shots[step], camera, pose).rgb for step in sorted(wanted)}
    nominal = np.concatenate([joints[None], paths[:, -1]]).astype(np.float32)
    frames, slots, present = _dreamt(world, pictures[0], nominal, camera)
    read = [_encoded(world, pictures[step], nominal[step], camera) for step in steps]
    chosen = [situations[step] for step in steps]
    return JudgedEpisode(
        dream=frames,
        slots=slots,
        present=present,
        joints=nominal,
        twin=np.stack([[pictures[step - 1], pictures[step]] for step in steps]),
        steps=np.array(steps),
        measured=np.stack([measured[step] for step in steps]).astype(np.float32),
        objects=np.stack([[situations[step - 1].objects, situations[step].objects] for step in steps]),
        tool=np.stack([situation.tool for situation in chosen]),
        gripper=np.array([situation.gripper for situation in chosen]),
        speed=np.array([situation.speed for situation in chosen]),
        held=np.stack([situation.held for situation in chosen]),
        read=np.stack([centre for centre, _ in read]),
        read_present=np.stack([found for _, found in read]),
        meta={
            "seed": seed,
            "task": task.name,
            "policy": policy_of(seed),
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


# What is played and dreamt ----------------------------------------------------------------------------------------


def _paths(
    name: str, seed: int, model: RobotModel, task: str, scene: Scene, joints: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Nominal joint poses (STEPS, _POSES, J) of a policy that does not look."""
    controller = Controller(model, "joint_velocity", _CONTROL_DT)
    policy = load_policy(name, PolicyContext(task=task, control_hz=1 / _CONTROL_DT))
    policy = brief(policy, {"scene": scene.to_dict(), "joints": joints.astype(np.float32)})
    carry, state, paths = policy.reset(1, seed), controller.initial(joints[None]), []
    assert model.gripper is not None
    finger = model.robot.joint_index(model.gripper.joint)
    for _ in range(STEPS):
        here = np.asarray(state.joints)
        closed = model.gripper.to_position(torch.from_numpy(here[:, finger])).numpy()[:, None]
        seen = {"joint_position": np.delete(here, finger, axis=1), "gripper_position": closed}
        action, carry = policy.act({key: value.astype(np.float32) for key, value in seen.items()}, carry)
        state, path = controller.step(state, action, _POSES)
        paths.append(np.asarray(path[0]))
    return np.stack(paths)


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


def _dreamt(
    world: WorldModel, first: NDArray[np.uint8], joints: NDArray[np.float32], camera: Camera
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]]:
    """Frames (T + 1, H, W, 3), centres (T + 1, S, 2) [px] and present (S,) of the dream's objects."""
    prompter = Prompter(load_robot(_ROBOT), profile(world.spec.profile), world.spec.size)
    prompts = prompter.draw(torch.from_numpy(joints)[None], [camera])
    state = world.encode(torch.from_numpy(first)[None, None], prompts.between(0, 1), [0])
    frames, (centre, present) = [first], _objects(state.context)
    centres = [centre]
    for step in range(1, len(joints)):
        state, made = world.step(state, prompts.between(step, step + 1))
        frames.append(made[0, 0, -1].cpu().numpy())
        centres.append(_objects(state.context)[0])
    return np.stack(frames), np.stack(centres), present


def _encoded(
    world: WorldModel, picture: NDArray[np.uint8], joints: NDArray[np.float32], camera: Camera
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where the world reads objects in one picture."""
    prompter = Prompter(load_robot(_ROBOT), profile(world.spec.profile), world.spec.size)
    prompt = prompter.draw(torch.from_numpy(joints)[None, None], [camera])
    state = world.encode(torch.from_numpy(picture)[None, None], prompt, [0])
    return _objects(state.context)


def _objects(context: Any) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Where a dream's objects are (S, 2) [px] and which there are (S,); in its one view, where a state tells them
    apart."""
    if "centre" not in context or "present" not in context:
        raise InvalidInput("world to dream episodes for judges", sorted(context), "one whose state has centre, present")
    centre, present = context["centre"][0].float().cpu().numpy(), context["present"][0].cpu().numpy()
    return (centre[0], present[0]) if centre.ndim == 3 else (centre, present)
