"""Does the drawer close in the whole dream, too? Trained contact networks in the compact world, read off its pictures.

    python benchmarks/joint_training_dreams.py --out out/joint_training

The picture networks come from a weights file, the contact network from each finished run. Every dream begins with the
twin's picture of an open drawer and is told the Google robot's joints alone. How far the drawer is out at its end is
read by the twin's renderer, which knows nothing of any world: it draws the true end of the episode with the drawer at
every opening, and the drawing that the dreamed picture is most like says where the drawer is. The twin's own last
picture is read in the same way, as a ceiling. Runs that are finished are kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import joint_angles, write_json, write_sheet
from joint_training_diets import BLOCKS, DIETS, JUDGED, PROFILE, RECORDINGS, openings, record_kind, seeds_of
from joint_training_report import dreams_path, dreams_report
from joint_training_runs import Run, weights_path
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from vap_sim.data.twin import TwinEpisode, load_episode
from vap_sim.envs.scenes import Scene
from vap_sim.envs.twin_furniture import drawer_pose
from vap_sim.envs.twin_renderer import Snapshot, TwinRenderer
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.checkpoint import fill, load_tensors
from vap_sim.models.compact.contact import Answer, Bones, ContactNet, Things
from vap_sim.models.compact.model import fingerprint_of, read_weights
from vap_sim.models.compact.network import CompactNetwork
from vap_sim.models.compact.opening import BODIES
from vap_sim.models.compact.touching import ByTouch
from vap_sim.models.compact.views import CompactViews
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot

LEVELS = 17
"""Openings at which the end of an episode is drawn, from shut to where the drawer was at first."""
_APART = 12  # grey levels by which drawings must differ in a pixel that is looked at
_LEAST_WAY = 0.06  # [m] by which the twin's drawer goes in an episode that is asked for
_SHOWN = 6


@dataclass(frozen=True, eq=False)
class Scale:
    """A picture's ruler: drawings (n, H, W, 3) uint8 of openings (n,) [m]; told: pixels (H, W) bool that differ."""

    openings: NDArray[np.float64]
    drawings: NDArray[np.uint8]
    told: NDArray[np.bool_]

    @classmethod
    def of(cls, episode: TwinEpisode) -> Scale:
        """Of the last frame of an episode. Raises InvalidInput where nothing of the drawer can be seen."""
        scene, model = Scene.from_dict(episode.meta["scene"]), load_robot(episode.meta["robot"])
        camera, joints = Camera.from_dict(episode.meta["cameras"][0]), episode.joints[-1]
        poses = model.robot.forward(torch.from_numpy(joints).double())
        T_base_camera = camera.to("cpu", torch.float64).T_base_camera(poses, model.robot).numpy()
        things = [(tuple(row[:3].tolist()), tuple(row[3:].tolist())) for row in episode.object_poses[-1]]
        levels = np.linspace(0.0, float(openings(episode)[0]), LEVELS)
        drawings = []
        with closing(TwinRenderer(scene, model.folder / "robot.urdf")) as renderer:
            for level in levels:
                drawers = (drawer_pose(scene.cabinets[0], float(level)),)
                snapshot = Snapshot(joint_angles(model, joints), tuple(things[: len(scene.objects)]), drawers)
                drawings.append(renderer.render(snapshot, camera, T_base_camera).rgb)
        stacked = np.stack(drawings)
        told = np.ptp(stacked.astype(np.int16), axis=0).max(-1) > _APART
        if not told.any():
            raise InvalidInput(f"last frame of seed {episode.meta['seed']}", "no drawer in it", "one that can be seen")
        return cls(levels, stacked, told)

    def read(self, picture: NDArray[np.uint8]) -> float:
        """How far the drawer is out [m] in a picture (H, W, 3)."""
        away = np.abs(self.drawings[:, self.told].astype(np.float64) - picture[self.told]).mean((1, 2))
        return float(self.openings[int(away.argmin())])


def asked(files: Sequence[Path]) -> list[TwinEpisode]:
    """The episodes in which the twin closes the drawer."""
    episodes = [load_episode(path, ("frames", "joints", "object_poses")) for path in files]
    return [one for one in episodes if openings(one)[0] - openings(one)[-1] > _LEAST_WAY]


class Uncarried(nn.Module):
    """A contact network that is not told what the tool would carry, as none of the comparison is."""

    def __init__(self, network: ContactNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, things: Things, bones: Bones) -> Answer:
        """See `ContactNet`."""
        still = torch.zeros_like(things.carry)
        return self.network(replace(things, carry=still, turn=still), bones)  # type: ignore[no-any-return]


def world_of(contact: Path, pictures: Path) -> CompactViews:
    """The compact world of one camera that moves: a run's contact network among the picture networks of a file.

    Raises BadFile for pictures of another draw profile."""
    made, description, _ = read_weights(pictures)
    if description.get("profile") != PROFILE:
        raise BadFile(pictures, f"reads {description.get('profile')!r}, and the stations here draw {PROFILE!r}")
    network = CompactNetwork(replace(made.config, contact=True))
    network.scene, network.robot, network.motion = made.scene, made.robot, made.motion
    assert network.contact is not None
    fill(network.contact, load_tensors(contact)[0], contact)
    world = CompactViews(network, PROFILE, views=1)
    world.mover = ByTouch(Uncarried(network.contact), world.table, f"{world.fingerprint} doubt")  # type: ignore[arg-type]
    return world


def last_pictures(world: CompactViews, episodes: Sequence[TwinEpisode]) -> list[NDArray[np.uint8]]:
    """What each episode's dream shows at its end (H, W, 3)."""
    found = []
    for episode in tqdm(episodes, desc="dreaming", unit="episode", mininterval=5):
        prompter = Prompter(load_robot(episode.meta["robot"]), profile(world.spec.profile), world.spec.size)
        camera = Camera.from_dict(episode.meta["cameras"][0])
        prompt = prompter.draw(torch.from_numpy(episode.joints)[None], [camera])
        start: Tensor = torch.from_numpy(episode.frames[:1, :1])
        state = world.encode(start, prompt.between(0, 1), [0])
        state = world.imagine(state, prompt.between(1, episode.length - 1), decode=False).state
        frames = world.step(state, prompt.between(episode.length - 1, episode.length))[1]
        found.append(frames[0, 0, 0].cpu().numpy())
    return found


def marks(pictures: Sequence[NDArray[np.uint8]], scales: Sequence[Scale], episodes: Sequence[TwinEpisode]) -> Any:
    """Openings [m] read off last pictures, beside those at first and at last in the twin."""
    first, last = ([round(float(openings(one)[k]), 4) for one in episodes] for k in (0, -1))
    read = [round(scale.read(picture), 4) for scale, picture in zip(scales, pictures, strict=True)]
    return {"seeds": [int(one.meta["seed"]) for one in episodes], "first": first, "last": last, "read": read}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=Path, default=BODIES, help="weights file of the picture networks")
    parser.add_argument("--seed-block", choices=BLOCKS, default="test", help="recordings to be judged by")
    parser.add_argument("--limit", type=int, default=40, help="episodes to dream")
    parser.add_argument("--workers", type=int, default=2, help="processes that record")
    parser.add_argument("--data", type=Path, default=RECORDINGS, help="folder of the recordings, made where missing")
    parser.add_argument("--out", type=Path, default=Path("out") / "joint_training", help="the comparison's folder")
    args = parser.parse_args()
    torch.set_num_threads(1)
    kind = JUDGED["closing"]
    seeds = seeds_of(kind, 1, args.seed_block)
    seeds = range(seeds[0], seeds[0] + args.limit)
    folder = args.data / f"closing_pictures_{args.seed_block}"
    episodes = asked(record_kind(kind, seeds, folder, pictures=True, workers=args.workers, name="closing"))
    scales = [Scale.of(episode) for episode in episodes]
    pictures = fingerprint_of(read_weights(args.world)[0], None)
    told = {"world": pictures, "seeds": [int(one.meta["seed"]) for one in episodes]}
    shown = {"twin": [episode.frames[0, -1] for episode in episodes]}
    found = {"twin": marks(shown["twin"], scales, episodes)}
    path = dreams_path(args.out, args.seed_block)
    kept = _kept(path, told)
    for run in (Run(diet, seed) for seed in range(100) for diet in DIETS):
        contact = weights_path(args.out, run)
        if contact.is_file():
            if run.name not in kept:
                shown[run.name] = last_pictures(world_of(contact, args.world), episodes)
                kept[run.name] = {**marks(shown[run.name], scales, episodes), "run": asdict(run)}
            write_json(path, {**told, "twin": found["twin"], "runs": kept})
    if len(shown) > 1:
        write_sheet(args.out / "dreams.png", [(name, some[:_SHOWN]) for name, some in shown.items()])
    dreams_report(args.out, args.seed_block)


def _kept(path: Path, told: dict[str, Any]) -> dict[str, Any]:
    """What was found before by the same picture networks in the same episodes. Raises BadFile."""
    if not path.is_file():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    if any(record.get(name) != value for name, value in told.items()):
        raise BadFile(path, "is of other picture networks or episodes; remove it, or give another folder by --out")
    return dict(record["runs"])


if __name__ == "__main__":
    main()
