"""Does the robot in whole clips do what it was told? The trust meter, frame by frame, as a measure of clips."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.metrics.detector import WEIGHTS
from vap_sim.metrics.local_files import read_local
from vap_sim.metrics.masks import Scores, scores
from vap_sim.metrics.report import NetworkCard
from vap_sim.metrics.trust import PromptAgreement
from vap_sim.robots.camera import Camera


def prompt_agreement(meter: PromptAgreement, *, generated: Tensor, joints: Tensor, cameras: Sequence[Camera]) -> Scores:
    """How well the robot stands on its prompt in frames 1 to T of n clips -> scores (n, T), from 0 to 1.

    generated: uint8 (n, T + 1, H, W, 3) of the meter's size; joints: (n, T + 1, J) [rad], the prompted ones; cameras:
    one a clip, or one for all. No truth is needed: a perfect dream of the truth scores as the truth itself does, a
    little below 1, so tell the truth's own score beside. Undefined where neither shows a robot. Raises InvalidInput for
    shapes that disagree and for less than two frames.
    """
    if generated.ndim != 5 or joints.ndim != 3 or generated.shape[:2] != joints.shape[:2] or generated.shape[1] < 2:
        given = f"frames {tuple(generated.shape)} with joints {tuple(joints.shape)}"
        raise InvalidInput("clips and poses", given, "(n, T + 1, H, W, 3) with (n, T + 1, J), T of at least 1")
    if len(cameras) not in (1, len(generated)) or not len(generated):
        raise InvalidInput("cameras", f"{len(cameras)} for {len(generated)} clips", "one a clip, or one for all")
    every = list(cameras) * len(generated) if len(cameras) == 1 else list(cameras)
    rows = [meter.all(clip[1:], q[1:], camera) for clip, q, camera in zip(generated, joints, every, strict=True)]
    values, defined = torch.stack([row.values for row in rows]), torch.stack([row.defined for row in rows])
    return scores(rows[0].what, values, defined)


def shipped_detector_card() -> NetworkCard:
    """The record of the detector that `PromptAgreement` uses unless told otherwise."""
    file = read_local(WEIGHTS)
    return NetworkCard("vap-sim detector", file.sha256, "RGB to [-1, 1], no resizing")
