"""The forms of a prompt that are not skeletons: a rendered surface, its depth, numbers alone, words alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vap_sim.prompts.profiles import DepthCue, DrawProfile
from vap_sim.prompts.projection import Floats
from vap_sim.prompts.rendering import SAMPLES, render_surface
from vap_sim.prompts.surface import Surface
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel


def draw_form(
    profile: DrawProfile,
    surface: Surface | None,
    model: RobotModel,
    q: Tensor,
    cameras: Sequence[Camera],
    warps: Floats | None = None,
) -> VisualPrompt:
    """The prompt of a profile whose form is not "skeleton", for poses q (b, F, J), cameras and homographies
    (b, V, F, 3, 3) already checked.

    surface: the robot's, where the form shows it. "mesh" and "depth" fill the picture and carry the joints;
    "raw_action" carries the joints beside a black picture, and a caller with another vector of the action may put that
    in their place; "text" is black and carries nothing, so that no action can leak: the caller adds its caption.
    """
    if surface is None:
        width, height = cameras[0].size
        black = torch.zeros(len(q), len(cameras), q.shape[1], height, width, 3, dtype=torch.uint8)
        return VisualPrompt(black, joints=q if profile.form == "raw_action" else None)
    samples = SAMPLES if profile.form == "mesh" else 1
    drawn = render_surface(surface, model, q, cameras, profile.backend, samples, profile.z_near, warps)
    cue = profile.depth_cue
    if profile.form == "mesh" or cue is None:
        return VisualPrompt(drawn.rgb, joints=q)
    return VisualPrompt(depth_picture(drawn.depth, cue), joints=q)


def depth_picture(depth: Tensor, cue: DepthCue) -> Tensor:
    """Grey pictures (..., 3) uint8 of depth (...) in metres: white up to `cue.near`, falling in a line to
    `cue.dimmest` (0..1) at `cue.far` and beyond; black where the depth is infinite.
    """
    distance = depth.detach().cpu().numpy().astype(np.float32)
    share = np.clip((distance - np.float32(cue.near)) / np.float32(cue.far - cue.near), 0, 1)
    grey = np.rint(255 * (1 - np.float32(1 - cue.dimmest) * share)).astype(np.uint8)
    grey[~np.isfinite(distance)] = 0
    return torch.from_numpy(np.repeat(grey[..., None], 3, axis=-1))
