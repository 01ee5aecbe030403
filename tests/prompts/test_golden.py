"""Pictures that pin what each draw profile looks like. To make them again: python -m tests.prompts.test_golden."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vap_sim.prompts import draw_skeletons, profile, profile_names
from vap_sim.robots.camera import Camera
from vap_sim.robots.skeleton import Bone, KeyPoint, SkeletonSpec

GOLDEN = Path(__file__).parent / "golden"
SIZES = ((128, 128), (160, 96))

# A plain arm and two fingers over the ground, written out so that no change of a robot's files changes the pictures.
ARM = [(0.0, 0.0, 0.0), (0.0, 0.0, 0.33), (0.2, 0.05, 0.6), (0.45, 0.1, 0.55), (0.5, 0.1, 0.35)]
LEFT = [(0.5, 0.16, 0.3), (0.5, 0.14, 0.22)]
RIGHT = [(0.5, 0.04, 0.3), (0.5, 0.06, 0.22)]
PLUMB = [(0.5, 0.1, 0.24), (0.5, 0.1, 0.0)]
POINTS = torch.tensor([*ARM, *LEFT, *RIGHT, *PLUMB])
BONES = [(0, 1, "arm"), (1, 2, "arm"), (2, 3, "arm"), (3, 4, "arm"), (4, 5, "gripper"), (5, 6, "gripper")]
BONES += [(4, 7, "gripper"), (7, 8, "gripper"), (9, 10, "plumb")]
COLORS = [(38, 38, 255), (0, 158, 255), (0, 255, 194), (42, 255, 0), *2 * [(255, 64, 48)], *2 * [(255, 208, 0)]]
COLORS += [(224, 64, 255)]
RADII = {"arm": 0.05, "gripper": 0.014}
SKELETON = SkeletonSpec(
    tuple(KeyPoint(f"p{i}", "base") for i in range(len(POINTS))),
    tuple(
        Bone(f"p{a}", f"p{b}", group, color, RADII.get(group))
        for (a, b, group), color in zip(BONES, COLORS, strict=True)
    ),
)


def sheet(name: str) -> NDArray[np.uint8]:
    """Whole arm, from the side, and from so near that the elbow is behind the camera; in two picture sizes."""
    eyes = (
        ((1.1, 0.9, 0.7), (0.25, 0.05, 0.3), 150.0),
        ((0.4, -1.6, 0.4), (0.25, 0.0, 0.3), 200.0),
        ((0.3, 0.0, 0.55), (0.5, 0.12, 0.25), 90.0),
    )
    rows = []
    for width, height in SIZES:
        row = []
        for eye, target, focal in eyes:
            camera = Camera.look_at("eye", eye, target, size=(width, height), focal_px=focal * height / 128)
            xy, depth = camera.project(POINTS)
            focal_px = float(camera.intrinsics[1, 1])
            picture = draw_skeletons(xy, depth, SKELETON, camera.size, profile(name), focal=focal_px).numpy()
            row.append(np.pad(picture, ((0, 0), (0, 160 - width), (0, 0))))
        rows.append(np.concatenate(row, axis=1))
    return np.concatenate(rows)


@pytest.mark.parametrize("name", profile_names())
def test_looks_as_it_did(name: str) -> None:
    stored = cv2.imread(str(GOLDEN / f"{name}.png"))
    assert stored is not None
    difference = np.abs(sheet(name).astype(int) - stored[..., ::-1])
    assert difference.max() <= 12, "no pixel has changed visibly"
    assert (difference > 3).mean() < 1e-3, "a few grey levels anywhere else"


if __name__ == "__main__":
    for profile_name in profile_names():
        cv2.imwrite(str(GOLDEN / f"{profile_name}.png"), sheet(profile_name)[..., ::-1])
