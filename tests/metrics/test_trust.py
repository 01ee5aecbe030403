"""The trust meter: high where the robot stands on its prompt, low where not, an error where there is neither."""

import pytest
import torch

from vap_sim.errors import InvalidInput
from vap_sim.metrics.detector import Detector, DetectorConfig, DetectorNet
from vap_sim.metrics.trust import PromptAgreement
from vap_sim.prompts.silhouette import silhouettes
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot

MODEL = load_robot("panda_robotiq")
CAMERA = MODEL.camera("exterior_1").resized((128, 128))
AWAY = Camera.look_at("away", (5, 0, 1), (9, 0, 1), size=(128, 128), vertical_fov=0.6)


class Oracle(Detector):
    """Takes white pixels for the robot."""

    def __init__(self) -> None:
        super().__init__(DetectorNet(DetectorConfig((8, 8, 8, 8))))

    def labels(self, frames: torch.Tensor, colors: object = None) -> torch.Tensor:
        return (frames[..., 0] == 255).to(torch.uint8)


def painted(joints: torch.Tensor) -> torch.Tensor:
    """Pictures (n, H, W, 3) of white silhouettes at poses (n, J)."""
    masks = silhouettes(MODEL, joints[:, None], [CAMERA])[:, 0, 0]
    return (masks[..., None] * torch.tensor(255, dtype=torch.uint8)).expand(-1, -1, -1, 3).contiguous()


@pytest.fixture(scope="module")
def poses() -> torch.Tensor:
    shift = torch.zeros(3, len(MODEL.home))
    shift[1, 0], shift[2, 0] = 0.15, 0.6
    return MODEL.robot.clamp(MODEL.home + shift)


def test_a_robot_on_its_prompt_agrees_and_agreement_falls_with_distance(poses: torch.Tensor) -> None:
    meter = PromptAgreement(MODEL, (128, 128), Oracle())
    values = [meter(picture, poses[0], CAMERA) for picture in painted(poses)]
    assert values[0] == 1
    assert 1 > values[1] > values[2] > 0


def test_numpy_pictures_and_joints_serve_as_well(poses: torch.Tensor) -> None:
    meter = PromptAgreement(MODEL, (128, 128), Oracle())
    picture = painted(poses)[1]
    assert meter(picture.numpy(), poses[0].numpy(), CAMERA) == meter(picture, poses[0], CAMERA)


def test_many_at_once_equal_one_by_one_with_one_camera_or_many(poses: torch.Tensor) -> None:
    meter = PromptAgreement(MODEL, (128, 128), Oracle())
    pictures = painted(poses).flip(0)
    one_by_one = [meter(picture, q, CAMERA) for picture, q in zip(pictures, poses, strict=True)]
    assert meter.all(pictures, poses, CAMERA).values.tolist() == one_by_one
    assert meter.all(pictures, poses, Camera.batch([CAMERA] * 3)).values.tolist() == one_by_one


def test_a_picture_without_robot_does_not_agree(poses: torch.Tensor) -> None:
    meter = PromptAgreement(MODEL, (128, 128), Oracle())
    assert meter(torch.zeros(128, 128, 3, dtype=torch.uint8), poses[0], CAMERA) == 0
    assert meter(painted(poses)[0], poses[0], AWAY) == 0


def test_nothing_to_compare_is_an_error_alone_and_undefined_among_others(poses: torch.Tensor) -> None:
    meter = PromptAgreement(MODEL, (128, 128), Oracle())
    black = torch.zeros(128, 128, 3, dtype=torch.uint8)
    with pytest.raises(InvalidInput, match="a picture without robot of a pose out of sight"):
        meter(black, poses[0], AWAY)
    found = meter.all(torch.stack([black, painted(poses)[0]]), poses[:2], AWAY)
    assert found.undefined == 1
    assert found.mean() == 0


def test_wrong_arguments_are_named(poses: torch.Tensor) -> None:
    meter = PromptAgreement(MODEL, (128, 128), Oracle())
    with pytest.raises(InvalidInput, match=r"pictures and poses: given frames \(1, 64, 64, 3\)"):
        meter(torch.zeros(64, 64, 3, dtype=torch.uint8), poses[0], CAMERA)
    with pytest.raises(InvalidInput, match="size of camera 'exterior_1'"):
        meter(painted(poses)[0], poses[0], CAMERA.resized((64, 64)))


def test_the_shipped_detector_trusts_the_twin_and_not_a_shifted_picture() -> None:
    pytest.importorskip("pybullet")
    import numpy as np

    from vap_sim.envs.scenes import sample_scene
    from vap_sim.envs.twin_physics import TwinPhysics
    from vap_sim.envs.twin_renderer import TwinRenderer, scene_camera

    scene = sample_scene(np.random.default_rng(3), 2)
    joints = MODEL.home.numpy()
    physics, renderer = TwinPhysics(scene, MODEL.folder / "robot.urdf", joints), None
    try:
        renderer = TwinRenderer(scene, MODEL.folder / "robot.urdf")
        camera = scene_camera(scene.cameras[0])
        pose = np.asarray(camera.T_parent_camera, np.float64)
        picture = torch.from_numpy(renderer.render(physics.snapshot(), camera, pose).rgb)
    finally:
        physics.close()
        if renderer is not None:
            renderer.close()
    meter = PromptAgreement(MODEL, (128, 128))
    agreement = meter(picture, MODEL.home, camera)
    assert agreement > 0.85
    assert meter(picture.roll(12, 1), MODEL.home, camera) < agreement - 0.2
