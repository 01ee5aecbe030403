"""How thick a robot is around the bones of its skeleton, measured on its surface.

    python -m vap_sim.robots.limbs FOLDER [FOLDER ...]

writes it into the skeleton.json of robots' folders. Draw profiles with limbs need it; others do not look at it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput, VAPSimError
from vap_sim.robots.library import RobotModel, load_robot
from vap_sim.robots.making import write_json
from vap_sim.robots.skeleton import SkeletonSpec

Points = NDArray[np.float64]

_POSES = 24
_SAMPLES = 6000  # points of the surface a pose
_DIGITS = 4  # of a radius: tenths of a millimetre


def measured_limbs(model: RobotModel, *, share: float = 0.6, seed: int = 0) -> SkeletonSpec:
    """The skeleton with a radius for every bone of the groups arm and gripper that has some surface around it.

    The radius is the distance from the bone that the given share of the surface around it keeps within, over random
    poses within the joints' limits. A point of the surface belongs to the nearest of the bones that reach its link, or
    the nearest link towards the base that any bone reaches. Raises InvalidInput for a robot without visual parts and
    for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise InvalidInput("share of the surface within a limb", share, "a number in (0, 1]")
    bones = [n for n, bone in enumerate(model.skeleton.bones) if bone.group != "plumb"]
    if not bones:
        return model.skeleton
    rng = np.random.default_rng(seed)
    links, points = _surface(model, rng)
    low, high = (limit.double().clamp(-np.pi, np.pi).numpy() for limit in (model.robot.lower, model.robot.upper))
    q = torch.from_numpy(rng.uniform(low, high, (_POSES, len(low))))
    with torch.no_grad():
        T_base_link = model.robot.forward(q)
        ends = model.skeleton.positions(model.robot, T_base_link).numpy()
    poses = T_base_link.numpy()[:, links]
    surface = np.einsum("npij,pj->npi", poses[..., :3, :3], points) + poses[..., :3, 3]
    pairs = [[model.skeleton.point_index(name) for name in (bone.start, bone.end)] for bone in model.skeleton.bones]
    away = np.stack([_distance(surface, *(ends[:, pairs[n][end], None] for end in (0, 1))) for n in bones])
    reached = _reached(model, bones)[:, links]
    nearest = np.where(reached[:, None], away, np.inf).argmin(axis=0)
    radii = {n: away[i][nearest == i] for i, n in enumerate(bones)}
    thick = {n: round(float(np.quantile(found, share)), _DIGITS) for n, found in radii.items() if len(found)}
    return replace(
        model.skeleton,
        bones=tuple(replace(bone, radius=thick.get(n)) for n, bone in enumerate(model.skeleton.bones)),
    )


def _surface(model: RobotModel, rng: np.random.Generator) -> tuple[NDArray[np.intp], Points]:
    """Points (P, 3) [m] spread evenly over the visual parts, in the frames of their links (P,)."""
    visuals = [visual for visual in model.robot.visuals if len(visual.triangles)]
    if not visuals:
        raise InvalidInput(f"visuals of robot {model.name!r}", "none with a surface", "at least one")
    triangles = np.concatenate([visual.triangles for visual in visuals]).astype(np.float64)
    link = np.repeat([visual.link for visual in visuals], [len(visual.triangles) for visual in visuals])
    a, b, c = np.moveaxis(triangles, 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=-1)
    chosen = rng.choice(len(area), _SAMPLES, p=area / area.sum())
    u, v = rng.uniform(size=(2, _SAMPLES, 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    return link[chosen], a[chosen] + u * (b - a)[chosen] + v * (c - a)[chosen]


def _reached(model: RobotModel, bones: Sequence[int]) -> NDArray[np.bool_]:
    """Bool (B, L): whether a bone is for the surface of a link."""
    parents, skeleton = model.robot.parents, model.skeleton
    link = {point.name: model.robot.link_index(point.link) for point in skeleton.points}
    reached = np.zeros((len(bones), len(parents)), dtype=bool)
    for row, n in enumerate(bones):
        ways = [_to_base(link[name], parents) for name in (skeleton.bones[n].start, skeleton.bones[n].end)]
        common = next(one for one in ways[0] if one in ways[1])
        for way in ways:
            reached[row, way[: way.index(common) + 1]] = True
    for number in range(len(parents)):  # parents come before their children
        if not reached[:, number].any() and number:
            reached[:, number] = reached[:, parents[number]]
    return np.asarray(reached | ~reached.any(axis=0))


def _to_base(link: int, parents: Sequence[int]) -> list[int]:
    """The links from one to the base."""
    way = [link]
    while way[-1]:
        way.append(parents[way[-1]])
    return way


def _distance(points: Points, start: Points, end: Points) -> Points:
    """From points (n, P, 3) to the straight piece between start and end (n, 1, 3): (n, P) [m]."""
    along = end - start
    length = np.maximum((along**2).sum(-1), 1e-12)
    share = np.clip(((points - start) * along).sum(-1) / length, 0, 1)
    distance: Points = np.linalg.norm(points - start - share[..., None] * along, axis=-1)
    return distance


def main(folders: Sequence[str]) -> None:
    """Measure robots and write their skeletons again. Raises BadFile, InvalidInput."""
    for folder in folders:
        model = load_robot(Path(folder))
        write_json(model.folder / "skeleton.json", measured_limbs(model).to_dict())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="with robot.urdf, robot.json and skeleton.json")
    try:
        main(parser.parse_args().folders)
    except VAPSimError as error:
        parser.exit(1, f"{error}\n")
