"""From joint angles to prompts: batches, cameras, the gripper, and where drawn bones lie on the robot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.prompts.figures import boxes
from vap_sim.errors import InvalidInput
from vap_sim.prompts import Prompter, draw_skeletons, profile, profile_names, silhouettes
from vap_sim.prompts.profiles import form_names
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot

SIZE = (128, 128)


@pytest.fixture(scope="module")
def panda() -> RobotModel:
    return load_robot("panda_robotiq")


def poses(model: RobotModel, rows: int, frames: int, seed: int = 0) -> Tensor:
    noise = torch.randn(rows, frames, len(model.home), generator=torch.Generator().manual_seed(seed))
    return model.robot.clamp(model.home + 0.4 * noise)


def views(model: RobotModel) -> tuple[Camera, ...]:
    return tuple(model.camera(name) for name in ("exterior_1", "exterior_2", "wrist"))


@pytest.mark.parametrize("name", profile_names())
def test_shapes_and_the_joints_that_were_given(panda: RobotModel, name: str) -> None:
    q = poses(panda, 2, 4)
    prompt = Prompter(panda, profile(name), SIZE).draw(q, views(panda))
    assert prompt.skeleton.shape == (2, 3, 4, 128, 128, 3)
    assert prompt.skeleton.dtype == torch.uint8
    assert prompt.joints is q
    assert prompt.skeleton.flatten(3).amax(-1).min() > 100, "something is drawn in every view and frame"


@pytest.mark.parametrize("name", profile_names())
def test_a_row_alone_equals_the_row_in_a_batch_bit_for_bit(panda: RobotModel, name: str) -> None:
    prompter, cameras = Prompter(panda, profile(name), SIZE), views(panda)
    q = poses(panda, 160, 1)
    together = prompter.draw(q, cameras).skeleton
    for row in range(0, 160, 9):
        assert torch.equal(prompter.draw(q[row : row + 1], cameras).skeleton[0], together[row])
    as_frames = prompter.draw(q.transpose(0, 1), cameras).skeleton
    assert torch.equal(as_frames[0].transpose(0, 1), together[:, :, 0])
    one_view = prompter.draw(q, cameras[2:]).skeleton
    assert torch.equal(one_view[:, 0], together[:, 2])


@pytest.mark.parametrize("name", (*profile_names(), *form_names()))
@pytest.mark.parametrize(("rows", "frames", "cameras"), [(1, 1, 1), (1, 1, 3), (2, 1, 1), (1, 4, 2), (90, 1, 1)])
def test_poses_known_to_be_good_are_drawn_alike(
    panda: RobotModel, name: str, rows: int, frames: int, cameras: int
) -> None:
    if name in ("mesh", "depth"):
        rows = min(rows, 2)  # a surface takes its time
    prompter, seen, q = Prompter(panda, profile(name), SIZE), views(panda)[:cameras], poses(panda, rows, frames)
    drawn, checked = prompter.draw(q, seen), prompter.draw_checked(q.numpy(), seen)
    assert torch.equal(drawn.skeleton, checked.skeleton)
    assert (drawn.joints is None) == (checked.joints is None)


def test_a_camera_a_row(panda: RobotModel) -> None:
    prompter, q = Prompter(panda, profile("compact"), SIZE), poses(panda, 2, 3)
    pair = [panda.camera("exterior_1"), panda.camera("exterior_2")]
    together = prompter.draw(q, [Camera.batch(pair)]).skeleton
    for row, camera in enumerate(pair):
        assert torch.equal(prompter.draw(q[row : row + 1], [camera]).skeleton[0], together[row])
    wrist = Camera.batch([panda.camera("wrist")] * 2)
    assert torch.equal(prompter.draw(q, [wrist]).skeleton, prompter.draw(q, [panda.camera("wrist")]).skeleton)


def test_the_same_as_projecting_with_the_camera_and_drawing(panda: RobotModel) -> None:
    q = poses(panda, 6, 2)
    robot = panda.robot
    T_base_link = robot.forward(q)
    points = panda.skeleton.positions(robot, T_base_link)
    for name in ("exterior_1", "wrist"):
        camera = panda.camera(name)
        xy, depth = camera.project(points, T_base_link, robot)
        drawn = draw_skeletons(xy, depth, panda.skeleton, SIZE, profile("compact"), focal=camera.intrinsics[1, 1])
        prompt = Prompter(panda, profile("compact"), SIZE).draw(q, [camera]).skeleton[:, 0]
        difference = (drawn.int() - prompt.int()).abs()
        # The camera rounds differently, and a corner may fall on the neighbouring 1/256 of a pixel.
        assert difference.max() <= 40
        assert (difference > 0).float().mean() < 1e-3


def test_moving_the_principal_point_moves_the_picture(panda: RobotModel) -> None:
    q, camera = poses(panda, 3, 1), panda.camera("exterior_1")
    moved = replace(camera, intrinsics=camera.intrinsics + torch.tensor([[0, 0, 9.0], [0, 0, -6.0], [0, 0, 0]]))
    prompter = Prompter(panda, profile("vap"), SIZE)
    here, there = (prompter.draw(q, [c]).skeleton[:, 0, 0].int() for c in (camera, moved))
    difference = (here[:, 6:, :-9] - there[:, :-6, 9:]).abs()
    assert here[:, 8:, :-12].any()
    assert difference[:, 2:-2, 2:-2].max() <= 4


@pytest.mark.parametrize("name", profile_names())
def test_the_gripper_opening_is_seen_and_grows(panda: RobotModel, name: str) -> None:
    """At 128 pixels the two fingers move apart with every step of the opening."""
    closed_to_open = torch.linspace(0.8, 0.0, 9)
    q = panda.home.repeat(9, 1, 1)
    q[:, 0, -1] = closed_to_open
    pictures = Prompter(panda, profile(name), SIZE).draw(q, views(panda)[:1]).skeleton[:, 0, 0].int()
    red, green, blue = pictures.unbind(-1)
    fingers = ((red > 120) & (blue < 0.4 * red)).float()
    columns = torch.arange(128.0)
    low = 30  # below this row lie the finger tips of the home pose
    spread = []
    for picture, yellow in zip(fingers, green, strict=True):
        left, right = (picture * which for which in ((yellow > 90).float(), (yellow <= 90).float()))
        weights = [side[low - 12 :].sum(0) for side in (left, right)]
        centres = [float((weight * columns).sum() / weight.sum()) for weight in weights]
        spread.append(abs(centres[0] - centres[1]))
    assert (np.diff(spread) > 0.2).all(), spread
    assert spread[-1] - spread[0] > 5
    changes = [(a != b).any(-1).sum() for a, b in zip(pictures[:-1], pictures[1:], strict=True)]
    assert min(changes) > 8


def test_drawn_arm_lies_on_the_robot(panda: RobotModel) -> None:
    q, cameras = poses(panda, 5, 1), views(panda)[:2]
    thin = replace(profile("vap"), groups=profile("vap").groups[:1])
    drawn = Prompter(panda, thin, SIZE).draw(q, cameras).skeleton.amax(-1) > 128
    on_robot = silhouettes(panda, q, cameras)
    assert (drawn & on_robot).sum() > 0.95 * drawn.sum()


def test_double_precision_and_other_devices_are_taken(panda: RobotModel) -> None:
    q = poses(panda, 1, 2)
    prompter = Prompter(panda, profile("vap"), SIZE)
    single, double = (prompter.draw(values, views(panda)).skeleton for values in (q, q.double()))
    assert torch.equal(single, double)


def test_gradients_do_not_stick_to_a_prompt(panda: RobotModel) -> None:
    q = poses(panda, 1, 1).requires_grad_()
    assert not Prompter(panda, profile("vap"), SIZE).draw(q, views(panda)).skeleton.requires_grad


def test_prompts_say_where_their_cameras_are(panda: RobotModel) -> None:
    """Also one that rides on a link, in every frame, and through a homography."""
    prompter, q, cameras = Prompter(panda, profile("compact"), SIZE), poses(panda, 2, 3), views(panda)
    said = prompter.draw(q, cameras).projections
    assert said is not None and said.shape == (2, 3, 3, 3, 4)
    links = panda.robot.forward(q)
    points = panda.skeleton.positions(panda.robot, links)
    for view, camera in enumerate(cameras):
        rays = torch.einsum("bfij,bfpj->bfpi", said[:, view, :, :, :3], points) + said[:, view, :, None, :, 3]
        xy, depth = camera.project(points, links, panda.robot)
        ahead = depth > 0.02
        assert torch.allclose(rays[..., 2], depth, atol=1e-4)
        assert torch.allclose((rays[..., :2] / rays[..., 2:])[ahead], xy[ahead], atol=0.02)
    turn = torch.tensor([[0.9, 0.1, 3.0], [-0.1, 0.9, 8.0], [0.0, 0.0, 1.0]]).expand(2, 3, 3, 3, 3)
    warped = prompter.draw(q, cameras, turn).projections
    assert warped is not None and torch.allclose(warped, turn @ said, atol=1e-3)


def test_one_pose_by_one_camera_says_the_same_as_many(panda: RobotModel) -> None:
    prompter, q, camera = Prompter(panda, profile("compact"), SIZE), poses(panda, 1, 2), views(panda)[0]
    alone, together = (prompter.draw(part, [camera]).projections for part in (q[:, :1], q))
    assert alone is not None and together is not None and torch.equal(alone[:, :, 0], together[:, :, 1])


def test_prompts_say_where_the_tool_is(panda: RobotModel) -> None:
    """Few poses before cameras that stand still go another way than many, or than cameras that ride."""
    prompter, q = Prompter(panda, profile("compact"), SIZE), poses(panda, 2, 3)
    expected = panda.robot.forward(q.double())[:, :, panda.robot.link_index(panda.tool_link)].float()
    for cameras in (views(panda)[:1], views(panda)):
        tool = prompter.draw(q, cameras).tool
        assert tool is not None and tool.dtype == torch.float32
        torch.testing.assert_close(tool, expected, rtol=0, atol=1e-6)
    checked = prompter.draw_checked(q[:1, :1].numpy(), views(panda)[:1]).tool
    assert checked is not None and torch.equal(checked[0, 0], prompter.draw(q, views(panda)[:1]).tool[0, 0])  # type: ignore[index]


def test_prompts_say_where_the_bones_are(panda: RobotModel) -> None:
    """Few poses before cameras that stand still go another way than many, or than cameras that ride."""
    prompter, q, skeleton = Prompter(panda, profile("compact"), SIZE), poses(panda, 2, 3), panda.skeleton
    bones = [bone for bone in skeleton.bones if bone.group != "plumb"]
    ends = [[skeleton.point_index(end) for end in (bone.start, bone.end)] for bone in bones]
    points = skeleton.positions(panda.robot, panda.robot.forward(q.double())).float()
    for cameras in (views(panda)[:1], views(panda)):
        said = prompter.draw(q, cameras).bones
        assert said is not None and said.shape == (2, 3, len(bones), 8) and said.dtype == torch.float32
        torch.testing.assert_close(said[..., :6], points[:, :, ends].flatten(3), rtol=0, atol=1e-6)
        assert torch.equal(said[..., 7], torch.tensor([float(b.group == "gripper") for b in bones]).expand(2, 3, -1))
    alone = prompter.draw(q[:1, :1], views(panda)[:1]).bones
    checked = prompter.draw_checked(q[:1, :1].numpy(), views(panda)[:1]).bones
    many = prompter.draw(q[:1, :1].expand(90, 1, -1), views(panda)[:1]).bones
    assert alone is not None and checked is not None and many is not None
    assert torch.equal(checked, alone)
    torch.testing.assert_close(many, alone.expand(90, -1, -1, -1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ("raw_action", "text"))
def test_prompts_that_hide_the_action_do_not_tell_it_by_their_cameras(panda: RobotModel, name: str) -> None:
    drawn = Prompter(panda, profile(name), SIZE).draw(poses(panda, 1, 1), views(panda))
    assert drawn.projections is None and drawn.tool is None and drawn.bones is None


def test_pictures_need_not_be_square(tmp_path: Path) -> None:
    model = boxes(tmp_path)
    camera = Camera.look_at("wide", (0.2, -1.5, 0.3), (0.2, 0.0, 0.1), size=(160, 90), focal_px=120.0)
    picture = Prompter(model, profile("vap"), (160, 90)).draw(torch.zeros(1, 1, 1), [camera]).skeleton
    assert picture.shape == (1, 1, 1, 90, 160, 3)
    assert picture.any()


def test_errors_say_what_is_wrong(panda: RobotModel) -> None:
    prompter, q, cameras = Prompter(panda, profile("vap"), SIZE), poses(panda, 2, 3), views(panda)
    with pytest.raises(InvalidInput, match=r"q: given torch.float32 \(2, 8\), expected floats of shape \(b, F, 8\)"):
        prompter.draw(q[:, 0], cameras)
    with pytest.raises(InvalidInput, match=r"q: given torch.float32 \(2, 3, 7\)"):
        prompter.draw(q[..., :7], cameras)
    with pytest.raises(InvalidInput, match=r"q: given torch\.int64"):
        prompter.draw(q.long(), cameras)
    with pytest.raises(InvalidInput, match="q: given values that are not finite"):
        prompter.draw(q / 0, cameras)
    with pytest.raises(InvalidInput, match="cameras: given none, expected at least one"):
        prompter.draw(q, ())
    with pytest.raises(
        InvalidInput, match=r"size of camera 'wrist': given \(64, 64\), expected \(128, 128\), as camera"
    ):
        prompter.draw(q, [cameras[0], cameras[2].resized((64, 64))])
    with pytest.raises(InvalidInput, match=r"leading axis of camera '.*': given \(3,\), expected none or \(2,\)"):
        prompter.draw(q, [Camera.batch([cameras[0]] * 3)])
    with pytest.raises(InvalidInput, match="picture size"):
        Prompter(panda, profile("vap"), (128, 0))
