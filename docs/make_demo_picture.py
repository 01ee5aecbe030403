"""Makes docs/images/demo.gif, the README's moving picture, from what `vap-sim demo` wrote (out/demo.mp4, demo.json)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import av
import cv2
import numpy as np


def make(video: Path, picture: Path, *, frames: int, width: int = 624, milliseconds: int = 160) -> None:
    """Write the first `frames` pictures of `video`, scaled to `width`, as an animation that repeats."""
    with av.open(str(video)) as container:
        images = [frame.to_ndarray(format="bgr24") for frame, _ in zip(container.decode(video=0), range(frames))]  # noqa: B905
    height = round(images[0].shape[0] * width / images[0].shape[1])
    animation = cv2.Animation()
    animation.frames = [cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in images]
    animation.durations = np.full(len(images), milliseconds, np.int32)
    picture.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwriteanimation(str(picture), animation):
        raise OSError(f"{picture} could not be written")


if __name__ == "__main__":
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("out/demo.mp4")
    scripted = json.loads(source.with_suffix(".json").read_text(encoding="utf-8"))["episodes"][0]
    make(source, Path(__file__).parent / "images" / "demo.gif", frames=scripted["steps"])
