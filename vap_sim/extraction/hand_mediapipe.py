"""MediaPipe's hand detector as a file for hand_wire.py: it runs in an environment of its own
(requirements/mediapipe.txt).

MediaPipe names sides as for a mirrored picture (a selfie): it calls the right hand of somebody who is filmed as others
see them "Left". Cameras of robots and helmets do not mirror, so the names are exchanged here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

WHEEL = "0.10.21"
"""The last version that carries the models in its wheel."""
# By a variable, since it is no dependency of this package: these lines run where it is installed.
_PACKAGE = "mediapipe"


def open_detector(
    mirrored: bool = False, most_hands: int = 4, confidence: float = 0.3, complexity: int = 1
) -> Callable[[np.ndarray], list[dict[str, Any]]]:
    """A function from a picture (H, W, 3) uint8 RGB to its hands, as hand_wire.py describes them.

    mirrored: the pictures are mirrored, so that sides are as MediaPipe names them; most_hands: found in one picture;
    confidence: of the palm's detection and of the points' presence, 0 to 1; complexity: 0 or 1, of the points' network.
    `score` is how sure MediaPipe is of the side, the only number that it gives a hand; `metres` is about the hand's
    middle. Every picture is looked at on its own.
    """
    found = importlib.import_module(_PACKAGE)
    if not hasattr(found, "solutions"):
        version = getattr(found, "__version__", "of an unknown version")
        raise ImportError(f"mediapipe {version} has no `solutions` and no models in it; install mediapipe=={WHEEL}")
    network = found.solutions.hands.Hands(
        static_image_mode=True,
        max_num_hands=most_hands,
        model_complexity=complexity,
        min_detection_confidence=confidence,
        min_tracking_confidence=confidence,
    )
    swapped = {"Left": "left", "Right": "right"} if mirrored else {"Left": "right", "Right": "left"}

    def detect(picture: np.ndarray) -> list[dict[str, Any]]:
        height, width = picture.shape[:2]
        result = network.process(np.ascontiguousarray(picture))
        hands = []
        parts = (result.multi_handedness, result.multi_hand_landmarks, result.multi_hand_world_landmarks)
        for kind, marks, space in zip(*(part or [] for part in parts), strict=True):
            # Their pixel edges lie at 0 and 1, ours at -0.5 and width - 0.5.
            points = [(mark.x * width - 0.5, mark.y * height - 0.5) for mark in marks.landmark]
            metres = [(mark.x, mark.y, mark.z) for mark in space.landmark]
            side = kind.classification[0]
            hands.append(
                {"side": swapped[side.label], "score": min(side.score, 1.0), "points": points, "metres": metres}
            )
        return hands

    return detect
