"""Begin a dream from your own photo: a picture, the joints in it, a calibrated camera. Writes out/05_your_photo.png.

The photo here is a stand-in, drawn by the twin and saved to out/05_photo.png; replace `take_photo` with your own.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import torch

from vap_sim import Camera, photo_start

OUT = Path("out")
Photo = tuple[np.ndarray, np.ndarray, Camera]


def take_photo() -> Photo:
    """RGB (480, 640, 3) uint8, joints (8,) [rad], and the camera: intrinsics [px], and its pose in the robot's base."""
    twin: Any = gym.make("VAPTwin-DROID-v0", size=(640, 480)).unwrapped
    twin.reset(seed=1_000_007)
    moment = twin.start()
    twin.close()
    OUT.mkdir(exist_ok=True)
    cv2.imwrite(str(OUT / "05_photo.png"), moment.frames[0].numpy()[..., ::-1])
    photo = np.asarray(cv2.imread(str(OUT / "05_photo.png")))[..., ::-1]  # OpenCV keeps BGR, VAPSim wants RGB
    T_base_camera, intrinsics = moment.cameras[0].T_parent_camera, moment.cameras[0].intrinsics
    return photo, moment.joints.numpy(), Camera("phone", intrinsics, T_base_camera, None, (640, 480))


def middle_square(photo: np.ndarray, camera: Camera) -> tuple[np.ndarray, Camera]:
    """The middle of a wide photo and its camera: cropping moves the principal point, and nothing else."""
    height, width = photo.shape[:2]
    left = (width - height) // 2
    shift = torch.tensor([[0.0, 0.0, left], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    cropped = replace(camera, intrinsics=camera.intrinsics - shift, size=(height, height))
    return photo[:, left : left + height], cropped


def main() -> None:
    photo, joints, camera = take_photo()
    photo, camera = middle_square(photo, camera)
    shown = {"render_mode": "rgb_array", "render_views": ("image", "prompt")}
    env: Any = gym.make("VAPWorld-DROID-v0", views=("phone",), control="ee_delta", trust=True, **shown)

    # Is the calibration right? The skeleton, drawn from joints and camera, must lie on the robot in the photo.
    askew = camera.T_parent_camera.clone()
    askew[0, 3] += 0.10
    for words, tried in (("as calibrated", camera), ("10 cm off", replace(camera, T_parent_camera=askew))):
        start = photo_start(photo, joints, tried, size=(128, 128), instruction="push the object away")
        _, info = env.reset(seed=0, options={"start": start})
        print(f"camera {words}: the robot in the photo agrees with its joints by {info['prompt_agreement']:.2f}")

    start = photo_start(photo, joints, camera, size=(128, 128), instruction="push the object away")
    _, info = env.reset(seed=0, options={"start": start})
    pictures = [env.render()]
    lower = np.array([0.1, 0.05, -0.12, 0.0, 0.0, 0.0, 1.0], np.float32)  # the hand's speeds, and the gripper closed
    for step in range(9):
        _, _, _, _, info = env.step(lower)
        if step % 3 == 2:
            pictures.append(env.render())
            print(f"step {info['steps']:2d}: agreement {info['prompt_agreement']:.2f}, task: {info['instruction']}")
    env.close()

    columns = []
    for picture in pictures:
        image, prompt = np.split(picture, 2, axis=1)
        columns.append(np.vstack([image, np.maximum(image, prompt)]))
    cv2.imwrite(str(OUT / "05_your_photo.png"), np.hstack(columns)[..., ::-1])
    print(
        f"written: {OUT / '05_your_photo.png'} (above the photo and the dream of it, below with the skeleton laid on)"
    )


if __name__ == "__main__":
    main()
