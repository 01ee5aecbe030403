"""Prompt agreement of clips: the trust meter's own scores, clip by clip, without the given frame."""

import pytest
import torch

from vap_sim.errors import InvalidInput
from vap_sim.metrics.detector import Detector, DetectorConfig, DetectorNet
from vap_sim.metrics.obedience import prompt_agreement, shipped_detector_card
from vap_sim.metrics.report import Clips, figure
from vap_sim.metrics.trust import PromptAgreement
from vap_sim.prompts.silhouette import silhouettes
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot

MODEL = load_robot("panda_robotiq")
SIZE = (64, 48)
CAMERA = MODEL.camera("exterior_1").resized(SIZE)
AWAY = Camera.look_at("away", (5, 0, 1), (9, 0, 1), size=SIZE, vertical_fov=0.6)


class Oracle(Detector):
    """Takes white pixels for the robot."""

    def __init__(self) -> None:
        super().__init__(DetectorNet(DetectorConfig((8, 8, 8, 8))))

    def labels(self, frames: torch.Tensor, colors: object = None) -> torch.Tensor:
        return (frames[..., 0] == 255).to(torch.uint8)


def painted(joints: torch.Tensor) -> torch.Tensor:
    """Pictures (n, T + 1, H, W, 3) of white silhouettes at poses (n, T + 1, J)."""
    masks = silhouettes(MODEL, joints, [CAMERA])[:, 0]
    return (masks[..., None] * torch.tensor(255, dtype=torch.uint8)).expand(-1, -1, -1, -1, 3).contiguous()


@pytest.fixture(scope="module")
def poses() -> torch.Tensor:
    """(2, 4, J): two clips in which the first joint turns."""
    q = MODEL.home.repeat(2, 4, 1)
    q[0, :, 0] += torch.linspace(0, 0.2, 4)
    q[1, :, 0] -= torch.linspace(0, 0.3, 4)
    return MODEL.robot.clamp(q)


@pytest.fixture(scope="module")
def meter() -> PromptAgreement:
    return PromptAgreement(MODEL, SIZE, Oracle())


def test_a_clip_that_does_as_told_agrees_and_one_that_stands_still_ever_less(meter, poses) -> None:
    frames = painted(poses)
    assert prompt_agreement(meter, generated=frames, joints=poses, cameras=[CAMERA]).values.tolist() == [[1] * 3] * 2
    still = frames[:, :1].expand(frames.shape)
    found = prompt_agreement(meter, generated=still, joints=poses, cameras=[CAMERA]).values
    assert bool((found.diff(dim=1) < 0).all())


def test_a_clip_alone_scores_as_among_others_and_each_frame_as_the_meter_says(meter, poses) -> None:
    frames = painted(poses.flip(0))
    found = prompt_agreement(meter, generated=frames, joints=poses, cameras=[CAMERA, CAMERA])
    assert found.what == "prompt agreement"
    assert found.values.shape == (2, 3)
    for row in range(2):
        one = slice(row, row + 1)
        alone = prompt_agreement(meter, generated=frames[one], joints=poses[one], cameras=[CAMERA])
        assert torch.equal(alone.values[0], found.values[row])
        assert [meter(frames[row, t], poses[row, t], CAMERA) for t in (1, 2, 3)] == found.values[row].tolist()


def test_cameras_belong_to_their_clips_and_nothing_against_nothing_is_undefined(meter, poses) -> None:
    frames = painted(poses)
    frames[1] = 0
    found = prompt_agreement(meter, generated=frames, joints=poses, cameras=[CAMERA, AWAY])
    assert found.defined.tolist() == [[True] * 3, [False] * 3]
    clips = Clips.of(frames, source="drawn", camera="two", frame_rate=5, preprocessing="none", seeds=())
    told = figure(found, clips=clips, networks=[shipped_detector_card()])
    assert (told.value, told.undefined) == (1, 3)


def test_wrong_arguments_are_named(meter, poses) -> None:
    frames = painted(poses)
    with pytest.raises(InvalidInput, match=r"clips and poses: given frames \(2, 4, 48, 64, 3\) with joints \(2, 3"):
        prompt_agreement(meter, generated=frames, joints=poses[:, :3], cameras=[CAMERA])
    with pytest.raises(InvalidInput, match="cameras: given 3 for 2 clips, expected one a clip, or one for all"):
        prompt_agreement(meter, generated=frames, joints=poses, cameras=[CAMERA] * 3)
