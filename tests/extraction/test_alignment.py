"""Alignment by law: known homographies and cameras are recovered, right ones left alone, background is refused."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput
from vap_sim.extraction.alignment import Alignment, align
from vap_sim.extraction.alignment_fit import Fit, Freedom, fit, ransac, smooth, to_homography, to_parameters
from vap_sim.extraction.matching import Array, DrawnRobot, Matches, draw_robot, move_points, on_robot
from vap_sim.prompts import render_robot
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot

SIZE = (160, 120)
FRAMES = 10
MOVE = np.array([[1.03, -0.02, 3.0], [0.03, 0.98, -4.0], [1e-4, -1e-4, 1.0]])
"""A homography with something of everything, in pixels of the pictures here."""


@pytest.fixture(scope="module")
def panda() -> RobotModel:
    return load_robot("panda_robotiq")


@pytest.fixture(scope="module")
def camera(panda: RobotModel) -> Camera:
    return Camera.look_at("side", (1.3, 0.9, 0.8), (0.35, 0.0, 0.4), size=SIZE, focal_px=150)


@pytest.fixture(scope="module")
def joints(panda: RobotModel) -> Array:
    turn = np.linspace(0, 1, FRAMES)[:, None]
    swing = np.array([[0.9, 0.5, 0.3, 0.6, 0.4, 0.3, 0.2, 0.3]])
    return np.asarray(panda.home.double().numpy() + (turn - 0.5) * swing)


@pytest.fixture(scope="module")
def scene() -> NDArray[np.uint8]:
    """A cluttered background: blots of colour."""
    rough = np.random.default_rng(3).integers(30, 226, (9, 12, 3), np.uint8)
    return np.asarray(cv2.resize(rough, SIZE, interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.fixture(scope="module")
def film(panda: RobotModel, camera: Camera, joints: Array, scene: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The robot before the scene, with noise: (T, H, W, 3)."""
    drawn = render_robot(panda, torch.from_numpy(joints)[None], [camera])
    shown = np.where(drawn.mask[0, 0].numpy()[..., None], drawn.rgb[0, 0].numpy(), scene).astype(np.float64)
    return np.clip(shown + np.random.default_rng(0).normal(0, 4, shown.shape), 0, 255).astype(np.uint8)


def warped(film: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Every picture moved by MOVE."""
    moved = [cv2.warpPerspective(picture, MOVE, SIZE, borderMode=cv2.BORDER_REFLECT) for picture in film]
    return np.asarray(np.stack(moved), np.uint8)


def outline_error(robot: DrawnRobot, found: Alignment, truth: Array) -> Array:
    """How far (T,) the outlines are from where they belong, in the mean [px of the pictures]."""
    moves = zip(robot.outlines, found.homographies, strict=True)
    gaps = [move_points(one.points, move) - move_points(one.points, truth) for one, move in moves]
    return np.array([np.linalg.norm(gap, axis=1).mean() for gap in gaps])


def test_the_right_camera_is_left_alone(
    panda: RobotModel, camera: Camera, joints: Array, film: NDArray[np.uint8]
) -> None:
    found = align(film, panda, joints, camera)
    assert found.kept.all() and set(found.reasons) == {""}
    assert outline_error(draw_robot(panda, joints, camera), found, np.eye(3)).max() < 0.4


def test_a_known_homography_is_recovered(
    panda: RobotModel, camera: Camera, joints: Array, film: NDArray[np.uint8]
) -> None:
    moved = warped(film)
    found = align(moved, panda, joints, camera)
    robot = draw_robot(panda, joints, camera)
    before = np.mean([np.linalg.norm(move_points(o.points, MOVE) - o.points, axis=1).mean() for o in robot.outlines])
    assert before > 4
    assert found.kept.mean() > 0.8
    assert np.median(outline_error(robot, found, MOVE)) < 0.5


def test_a_camera_that_is_off_is_made_up_for(
    panda: RobotModel, camera: Camera, joints: Array, film: NDArray[np.uint8]
) -> None:
    """Turned by two degrees, moved by two centimetres, zoomed by 3 %: no homography is exact."""
    turn = torch.from_numpy(cv2.Rodrigues(np.deg2rad([1.2, -1.4, 0.8]))[0]).float()
    pose = camera.T_parent_camera.clone()
    pose[:3, :3] = pose[:3, :3] @ turn
    pose[:3, 3] += torch.tensor([0.012, -0.012, 0.01])
    off = replace(camera, T_parent_camera=pose, intrinsics=camera.intrinsics * torch.tensor([[1.03], [1.03], [1.0]]))
    found = align(film, panda, joints, off)
    T_base_link = panda.robot.forward(torch.from_numpy(joints))
    points = panda.skeleton.positions(panda.robot, T_base_link)[:, : panda.robot.num_joints]
    true, drawn = (
        c.to("cpu", torch.float64).project(points, T_base_link, panda.robot)[0].numpy() for c in (camera, off)
    )
    after = np.stack([move_points(xy, move) for xy, move in zip(drawn, found.homographies, strict=True)])
    before, after = (np.median(np.linalg.norm(xy - true, axis=-1)) for xy in (drawn, after))
    assert before > 3 and after < 0.8, (before, after)
    assert found.kept.mean() > 0.8


def test_background_alone_is_refused(
    panda: RobotModel, camera: Camera, joints: Array, scene: NDArray[np.uint8]
) -> None:
    """Rich texture that stands still, or slides along, gives edges everywhere and no robot."""
    rng = np.random.default_rng(1)
    texture = np.asarray(cv2.resize(rng.integers(0, 256, (60, 80, 3), np.uint8), SIZE), np.uint8)
    for pictures in (np.stack([texture] * FRAMES), np.stack([np.roll(texture, 4 * t, 1) for t in range(FRAMES)])):
        found = align(pictures, panda, joints, camera)
        assert not found.kept.any() and all(found.reasons)
        assert (found.homographies == np.eye(3)).all()
    assert not align(np.stack([scene] * FRAMES), panda, joints, camera).kept.any()


def test_a_log_of_other_motion_is_refused(
    panda: RobotModel, camera: Camera, joints: Array, film: NDArray[np.uint8]
) -> None:
    other = joints.copy()
    other[:, 0] += 1.2
    assert align(film, panda, other, camera).kept.mean() < 0.4, "less than a view must keep"


def test_frames_without_the_robot_follow_their_neighbours(
    panda: RobotModel, camera: Camera, joints: Array, film: NDArray[np.uint8], scene: NDArray[np.uint8]
) -> None:
    moved = warped(film)
    moved[4:6] = warped(scene[None])
    found = align(moved, panda, joints, camera)
    assert not found.kept[4:6].any() and found.kept.sum() >= 6
    assert outline_error(draw_robot(panda, joints, camera), found, MOVE)[4:6].max() < 1.5


def test_a_robot_out_of_the_picture_says_so(panda: RobotModel, joints: Array, film: NDArray[np.uint8]) -> None:
    away = Camera.look_at("away", (1.3, 0.9, 0.8), (2.5, 2.0, 0.8), size=SIZE, focal_px=150)
    found = align(film, panda, joints, away)
    assert set(found.reasons) == {"too little of the robot is in the picture"}
    assert np.allclose(found.homographies, np.eye(3), atol=1e-6)


def test_what_does_not_fit_is_named(panda: RobotModel, camera: Camera, joints: Array, film: NDArray[np.uint8]) -> None:
    with pytest.raises(InvalidInput, match="pictures to align"):
        align(film, panda, joints, camera.resized((80, 60)))
    with pytest.raises(InvalidInput, match="joints to align: given 9 rows, expected 10"):
        align(film, panda, joints[1:], camera)
    with pytest.raises(InvalidInput, match="joints of the drawn robot"):
        align(film, panda, joints[:, :7], camera)


def test_homographies_and_parameters_are_one_to_one() -> None:
    again = to_homography(to_parameters(MOVE, SIZE), SIZE)
    assert np.allclose(again / again[2, 2], MOVE, atol=1e-9)
    assert np.allclose(to_parameters(np.eye(3), SIZE), 0)


def grid(noise: float = 0.0) -> Matches:
    rng = np.random.default_rng(0)
    drawn = rng.uniform((10, 10), (150, 110), (80, 2))
    return Matches(drawn, move_points(drawn, MOVE) + noise * rng.normal(size=(80, 2)), np.ones(80))


FREE = Freedom(1.0, 1.0, 1.0)


def test_fits_are_exact_where_matches_are() -> None:
    exact = fit(grid(), np.zeros(8), np.zeros(8), FREE, SIZE, tolerance=8.0)
    again = fit(grid(), exact.parameters, np.zeros(8), Freedom(1e3, 1e3, 1e3), SIZE, tolerance=8.0)
    gap = move_points(grid().drawn, to_homography(again.parameters, SIZE)) - grid().seen
    assert np.abs(gap).max() < 1e-3


def test_edges_tell_only_what_is_across_them() -> None:
    """Matches with normals that have slid along their edges give the same fit as those that have not."""
    rng, plain = np.random.default_rng(1), grid()
    angle = rng.uniform(0, 2 * np.pi, len(plain))
    normals = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    slid = plain.seen + rng.uniform(-2, 2, (len(plain), 1)) * np.stack([-normals[:, 1], normals[:, 0]], axis=1)
    start = to_parameters(MOVE, SIZE) * 0.8
    found = fit(Matches(plain.drawn, slid, plain.weight, normals), start, start, FREE, SIZE, tolerance=8.0)
    found = fit(Matches(plain.drawn, slid, plain.weight, normals), found.parameters, start, FREE, SIZE, tolerance=8.0)
    gap = move_points(plain.drawn, to_homography(found.parameters, SIZE)) - plain.seen
    assert np.abs(gap).max() < 0.05


def test_false_matches_are_found_by_ransac() -> None:
    matches = grid(noise=0.2)
    false = np.zeros(len(matches), bool)
    false[::3] = True
    seen = matches.seen + np.where(false[:, None], np.random.default_rng(2).uniform(-30, 30, (len(matches), 2)), 0)
    kept = ransac(Matches(matches.drawn, seen, matches.weight), tolerance=1.0)
    places = {tuple(point) for point in kept.drawn.round(6)}
    assert not places & {tuple(point) for point in matches.drawn[false].round(6)} or len(kept) >= 50
    assert len(places & {tuple(point) for point in matches.drawn[~false].round(6)}) > 45
    assert len(ransac(Matches(matches.drawn[:5], seen[:5], matches.weight[:5]), tolerance=1.0)) == 0


def test_matches_beside_the_robot_are_dropped() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:10, 5:10] = True
    drawn = np.array([[7.0, 7.0], [11.4, 7.0], [13.0, 7.0], [-4.0, 7.0], [29.0, 19.0]])
    kept = on_robot(Matches(drawn, drawn, np.ones(5), drawn), mask)
    assert kept.drawn.tolist() == drawn[:2].tolist() and kept.normals is not None and len(kept.normals) == 2


def test_smoothing_keeps_what_is_constant_and_fills_what_is_missing() -> None:
    around = np.linspace(-0.02, 0.02, 8)
    sure, unsure = 1e8 * np.eye(8), np.zeros((8, 8))
    shifted = around + 0.01
    fits = [Fit(shifted, sure), Fit(around + 5, unsure), Fit(shifted, sure)]
    freedom, pace = Freedom(0.05, 0.05, 0.05), Freedom(0.002, 0.002, 0.002)
    found = smooth(fits, around, freedom, pace)
    assert np.allclose(found, shifted, atol=2e-4)
    nothing = smooth([Fit(around + 5, unsure)] * 3, around, freedom, pace)
    assert np.allclose(nothing, around)
    dense = np.zeros((24, 24))
    right = np.zeros(24)
    for t in range(3):
        block = slice(8 * t, 8 * t + 8)
        dense[block, block] += fits[t].information + freedom.precision
        right[block] += fits[t].information @ (fits[t].parameters - around)
        if t:
            before = slice(8 * t - 8, 8 * t)
            for a, b, sign in ((block, block, 1), (before, before, 1), (block, before, -1), (before, block, -1)):
                dense[a, b] += sign * pace.precision
    assert np.allclose(found - around, np.linalg.solve(dense, right).reshape(3, 8), atol=1e-8)


def test_a_camera_on_a_link_is_aligned_by_edges(panda: RobotModel, joints: Array) -> None:
    """The scene moves past it, and the gripper opens before it; its mount is off by a shift of the picture."""
    camera = panda.camera("wrist").resized((160, 120))
    opening = joints.copy()
    opening[:, -1] = np.linspace(0.0, 0.7, FRAMES)
    drawn = render_robot(panda, torch.from_numpy(opening)[None], [camera])
    rough = np.random.default_rng(4).integers(90, 140, (24, 60, 3), np.uint8)
    wide = np.asarray(cv2.resize(rough, (360, 120), interpolation=cv2.INTER_CUBIC), np.uint8)
    behind = np.stack([wide[:, 12 * t : 12 * t + 160] for t in range(FRAMES)])
    film = np.where(drawn.mask[0, 0].numpy()[..., None], drawn.rgb[0, 0].numpy(), behind).astype(np.uint8)
    shift = torch.tensor([[0.0, 0.0, 5.0], [0.0, 0.0, -3.0], [0.0, 0.0, 0.0]])
    found = align(film, panda, opening, replace(camera, intrinsics=camera.intrinsics + shift))
    truth = np.array([[1, 0, -5], [0, 1, 3], [0, 0, 1.0]])
    robot = draw_robot(panda, opening, replace(camera, intrinsics=camera.intrinsics + shift))
    assert found.kept.mean() > 0.7
    assert np.median(outline_error(robot, found, truth)) < 1.0
