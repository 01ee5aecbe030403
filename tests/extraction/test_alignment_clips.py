"""From episodes to clips: log and video in step, cameras that follow crops, states, cuts, reasons, matchers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vap_sim.data.episode import Episode
from vap_sim.data.footage import ArrayFootage
from vap_sim.data.prepared import LeftOut, PreparedClip
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.extraction.alignment_clips import PrepareSettings, bridged, prepare_episode
from vap_sim.extraction.alignment_pictures import PictureFit, clock_ticks, fit_pictures, whole
from vap_sim.extraction.alignment_states import robot_joints
from vap_sim.extraction.matching import Array, DrawnRobot, Matches
from vap_sim.prompts import render_robot
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot

SIZE = (96, 64)
RATE = 15.0


@pytest.fixture(scope="module")
def panda() -> RobotModel:
    return load_robot("panda_robotiq")


@pytest.fixture(scope="module")
def camera() -> Camera:
    return Camera.look_at("side", (1.3, 0.9, 0.8), (0.35, 0.0, 0.4), size=SIZE, focal_px=80)


def motion(panda: RobotModel, length: int) -> Array:
    turn = np.linspace(0, 1, length)[:, None]
    return np.asarray(panda.home.double().numpy() + (turn - 0.5) * np.array([0.9, 0.5, 0.3, 0.6, 0.4, 0.3, 0.2, 0.0]))


def episode(panda: RobotModel, frames: NDArray[np.uint8] | None = None, length: int = 30, **changes: Any) -> Episode:
    joints = motion(panda, length)
    frames = np.zeros((length, SIZE[1], SIZE[0], 3), np.uint8) if frames is None else frames
    made = Episode(
        name="kitchen/a", source=Path("kitchen/a.file"), views={"side": ArrayFootage(frames)}, length=length,
        frame_rate=RATE, robot=panda.name, instruction="lift", joints=joints[:, :7], gripper=np.zeros(length),
        joint_targets=joints[:, :7],
    )  # fmt: skip
    return replace(made, **changes)


def counted(length: int) -> NDArray[np.uint8]:
    """Frames that are as bright as their number."""
    return np.broadcast_to(np.arange(length, dtype=np.uint8)[:, None, None, None], (length, 64, 96, 3)).copy()


@pytest.mark.parametrize(("rate", "expected"), [(5.0, 5.0), (15.0, 15.0), (4.0, 4.0), (60.0, 15.0)])
def test_log_and_video_stay_in_step(panda: RobotModel, camera: Camera, rate: float, expected: float) -> None:
    """Each frame's brightness is its number, and so is what the first joint was logged at."""
    length = 41
    joints = motion(panda, length)
    joints[:, 0] = 0.01 * np.arange(length)
    given = episode(panda, counted(length), length, joints=joints[:, :7])
    settings = PrepareSettings(size=32, rate=rate, align=False, shortest=4, longest=9)
    clips = list(prepare_episode(given, panda, {"side": camera}, settings))
    assert all(isinstance(clip, PreparedClip) for clip in clips) and len(clips) > 1
    shown = np.concatenate([clip.frames[0, :, 5, 5, 0] for clip in clips if isinstance(clip, PreparedClip)])
    told = np.concatenate([clip.joints[:, 0] for clip in clips if isinstance(clip, PreparedClip)])
    assert np.allclose(told * 100, shown, atol=1e-3)
    assert clips[0].frame_rate == expected  # type: ignore[union-attr]
    ticks = np.arange(len(shown)) * RATE / expected
    assert np.abs(shown - ticks).max() <= 0.5 and len(shown) == int((length - 1) * expected / RATE) + 1
    assert any("slower" in note for note in clips[0].notes) == (rate > RATE)  # type: ignore[union-attr]


def test_the_first_and_the_last_tick_lie_on_frames() -> None:
    for length, own, rate in ((2, 30.0, 29.97), (100, 29.97, 5.0), (1, 5.0, 1.0)):
        numbers, kept = clock_ticks(length, own, rate)
        assert numbers[0] == 0 and numbers[-1] < length and (np.diff(numbers) > 0).all() and kept == rate
    with pytest.raises(InvalidInput, match="rate of prepared clips"):
        clock_ticks(3, 5.0, 0.0)


@pytest.mark.parametrize("fit", [PictureFit(SIZE, 20, 0, 64, 64, (128, 128)), whole(SIZE, (32, 32))])
def test_project_then_crop_equals_crop_then_project(camera: Camera, fit: PictureFit) -> None:
    points = torch.tensor([[0.3, 0.1, 0.4], [0.5, -0.2, 0.1], [0.0, 0.0, 0.9]])
    before, after = camera.project(points)[0].numpy(), fit.camera(camera).project(points)[0].numpy()
    rays = np.concatenate([before, np.ones((3, 1))], axis=1) @ fit.matrix.T
    assert np.allclose(rays[:, :2], after, atol=1e-3)


def test_pictures_move_as_their_cameras_do(panda: RobotModel, camera: Camera) -> None:
    """What a cropped camera would draw is what cropping a drawing gives, but for the softness of its edges."""
    pose = panda.home[None, None]
    fit = PictureFit(SIZE, 20, 0, 64, 64, (128, 128))
    drawn = render_robot(panda, pose, [camera]).rgb[0, 0, 0].numpy()
    direct = render_robot(panda, pose, [fit.camera(camera)]).rgb[0, 0, 0].numpy()
    lit, other = (cv2.blur(one.max(-1), (3, 3)) > 40 for one in (fit.picture(drawn), direct))
    assert (lit & other).sum() / (lit | other).sum() > 0.93
    with pytest.raises(InvalidInput, match="size of a recorded picture"):
        fit.picture(direct)


def test_crops_hold_the_robot() -> None:
    right = [np.array([[80.0, 10.0], [90.0, 50.0]])]
    fit = fit_pictures(SIZE, 32, "crop", right)
    assert (fit.left, fit.top, fit.width, fit.height) == (27, 0, 64, 64)
    assert fit_pictures(SIZE, 32, "crop", []).left == 16, "the middle where nothing is drawn"
    tall = fit_pictures((64, 96), 32, "crop", [np.array([[10.0, 5.0]])])
    assert tall.top <= 5 and "rows" in tall.words
    assert fit_pictures(SIZE, 32, "stretch", right).words == "whole pictures, sampled at 32x32"
    with pytest.raises(UnknownName, match="way to fit"):
        fit_pictures(SIZE, 32, "squeeze", [])


def test_states_are_what_their_names_say(panda: RobotModel) -> None:
    given = episode(panda, length=20)
    logged, said = robot_joints(given, panda, "logged")
    assert np.allclose(logged, motion(panda, 20)) and not said
    told = given.joint_targets
    assert told is not None
    target, _ = robot_joints(given, panda, "target")
    assert np.allclose(target[1:, :7], told[:-1]) and np.allclose(target[0], logged[0])
    nominal, said = robot_joints(given, panda, "nominal", lag=0.0)
    assert np.allclose(nominal, target, atol=1e-6) and "lag of 0 s" in said[1]
    lagging, _ = robot_joints(given, panda, "nominal", lag=0.22)
    assert (np.abs(lagging[-1, :4] - told[-1, :4]) > np.abs(nominal[-1, :4] - told[-1, :4]) + 1e-3).all()


def test_states_that_a_recording_lacks_are_named(panda: RobotModel) -> None:
    with pytest.raises(BadFile, match=r"'kitchen/a' states no joint_targets, only: joints"):
        robot_joints(episode(panda, joint_targets=None), panda, "target")
    with pytest.raises(BadFile, match="states no gripper"):
        robot_joints(episode(panda, gripper=None), panda)
    with pytest.raises(BadFile, match="joints: 6 joints, expected 7 of panda_robotiq"):
        robot_joints(episode(panda, joints=motion(panda, 30)[:, :6]), panda)
    with pytest.raises(UnknownName, match="Did you mean 'nominal'"):
        robot_joints(episode(panda), panda, "nominl")


def test_short_gaps_are_bridged_and_short_runs_dropped() -> None:
    usable = np.array([1, 1, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1], bool)
    assert bridged(usable, 1, 3).tolist() == [True] * 5 + [False] * 7 + [True] * 4
    assert bridged(usable, 0, 5).sum() == 0 and bridged(usable, 3, 5).all()
    assert not bridged(np.zeros(3, bool), 3, 1).any()


def filmed(panda: RobotModel, camera: Camera, length: int) -> NDArray[np.uint8]:
    joints = torch.from_numpy(motion(panda, length))[None]
    drawn = render_robot(panda, joints, [camera])
    grey = np.random.default_rng(0).integers(70, 80, (length, SIZE[1], SIZE[0], 3))
    return np.where(drawn.mask[0, 0].numpy()[..., None], drawn.rgb[0, 0].numpy(), grey).astype(np.uint8)


def test_bad_stretches_and_views_are_left_out_with_the_reason(panda: RobotModel, camera: Camera) -> None:
    frames = filmed(panda, camera, 30)
    frames[11:19] = 75
    blind = np.full_like(frames, 75)
    given = episode(panda, length=30, views={"side": ArrayFootage(frames), "blind": ArrayFootage(blind)})
    cameras = {"side": camera, "blind": replace(camera, name="blind")}
    settings = PrepareSettings(size=64, rate=15.0, shortest=6)
    items = list(prepare_episode(given, panda, cameras, settings))
    clips = [item for item in items if isinstance(item, PreparedClip)]
    left = [item for item in items if isinstance(item, LeftOut)]
    assert [(clip.name, clip.length) for clip in clips] == [("kitchen/a_00000", 11), ("kitchen/a_00019", 11)]
    assert [(out.view, out.first, out.last) for out in left] == [("blind", 0, 30), ("", 11, 19)]
    assert all("does not show a robot where its outline is drawn" in out.reason for out in left)
    assert clips[0].instruction == "lift" and clips[0].robot_name == "panda_robotiq"
    drawn = render_robot(panda, torch.from_numpy(clips[0].joints)[None], [clips[0].cameras[0]]).mask[0, 0].numpy()
    assert np.abs(drawn - clips[0].robot[0] / 255).mean() < 0.02


def test_without_alignment_nothing_moves_and_all_is_kept(panda: RobotModel, camera: Camera) -> None:
    settings = PrepareSettings(size=32, rate=5.0, align=False, shortest=4)
    (clip,) = prepare_episode(episode(panda), panda, {"side": camera}, settings)
    assert isinstance(clip, PreparedClip) and clip.kept.all() and clip.length == 10
    assert (clip.homographies == np.eye(3, dtype=np.float32)).all()


@dataclass(frozen=True)
class Footless(ArrayFootage):
    """Footage that ends three frames early."""

    def frames(self, first: int = 0, last: int | None = None) -> Iterator[np.ndarray]:
        return super().frames(first, min(self.length if last is None else last, self.length - 3))


def test_videos_that_end_early_and_cameras_of_another_shape_are_named(panda: RobotModel, camera: Camera) -> None:
    short = episode(panda, views={"side": Footless(np.zeros((30, 64, 96, 3), np.uint8))})
    with pytest.raises(BadFile, match=r"view 'side': ends before frame \d+, which the log has"):
        list(prepare_episode(short, panda, {"side": camera}, PrepareSettings(size=32, align=False)))
    other = replace(camera, size=(64, 64))
    with pytest.raises(BadFile, match=r"a camera of \(64, 64\) for pictures of \(96, 64\)"):
        list(prepare_episode(episode(panda), panda, {"side": other}, PrepareSettings(size=32)))


@dataclass(frozen=True)
class Backdrop:
    """A matcher that finds all of the background perfectly still, and nothing else: the trap."""

    name: str = "backdrop"

    def begin(self, pictures: NDArray[np.uint8], robot: DrawnRobot) -> Backdrop:
        return self

    def match(self, frame: int, homography: Array) -> Matches:
        x, y = np.meshgrid(np.arange(0, 320, 12.0), np.arange(0, 12, 3.0))
        points = np.stack([x.reshape(-1), y.reshape(-1)], axis=1)
        return Matches(points, points + 9.0, np.ones(len(points)))


def test_a_matcher_that_sees_background_alone_moves_nothing(panda: RobotModel, camera: Camera) -> None:
    given = episode(panda, filmed(panda, camera, 20), 20)
    settings = PrepareSettings(size=64, rate=15.0)
    (clip,) = prepare_episode(given, panda, {"side": camera}, settings, Backdrop())
    assert isinstance(clip, PreparedClip) and "aligned by backdrop" in clip.notes[-1]
    assert np.abs(clip.homographies[..., :2, 2]).max() < 1.0, "the clip's own fit, not the backdrop's nine pixels"
