"""Raw actions: the joints as numbers, added to every token of their frame; what drawn prompts are compared with."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.codec import FRAMES, Carry, Codec
from vap_sim.models.cogvideox.config import ModelConfig
from vap_sim.models.cogvideox.control_encoder import check_count
from vap_sim.models.cogvideox.injection import Injection, Noised, Prepared, Uninstall
from vap_sim.models.cogvideox.prepared import goes_on, strength
from vap_sim.models.cogvideox.skeleton_control import check_backbone, checked_scale
from vap_sim.models.cogvideox.text import TextEncoder
from vap_sim.prompts.visual_prompt import VisualPrompt

ACTION = "action"
_MOST = 4096
"""Most joints and largest width that are believed: a hostile file shall not make us fill the memory."""


class ActionVector(nn.Module):
    """The conditioner of the form "raw_action": no picture, no camera, one vector a latent frame.

    A latent frame's vector is the joints of its four pixel frames in a row, those of the first frame four times. Two
    layers read it; a third, zero at first, adds the result to every token of the frame before the first block.

    joints: numbers of a pixel frame, J; width: of the layers; scale: multiplies what is added, and 0 adds nothing at
    all; mean, spread: (J,) of the training data, so that a gripper's centimetres count as much as an arm's radians;
    they are saved with the weights; seed: of the first weights. Raises InvalidInput.
    """

    mean: Tensor
    spread: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        joints: int,
        width: int = 512,
        scale: float = 1.0,
        mean: Tensor | None = None,
        spread: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not (1 <= joints <= _MOST and 1 <= width <= _MOST):
            raise InvalidInput("joints and width of an action vector", (joints, width), f"two of 1 .. {_MOST}")
        self.joints, self.width = joints, width
        self.config: ModelConfig = backbone.config
        self.scale = checked_scale(scale)
        self.register_buffer("mean", _vector("mean", mean, joints, torch.zeros(joints)))
        self.register_buffer("spread", _vector("spread", spread, joints, torch.ones(joints)))
        if not bool((self.spread > 0).all()):
            raise InvalidInput("spread of the joints", self.spread.tolist(), "positive numbers")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.read = nn.Linear(FRAMES * joints, width)
            self.inner = nn.Linear(width, width)
            self.add = nn.Linear(width, backbone.config.width)
        for value in self.add.parameters():
            nn.init.zeros_(value)
        weight = backbone.transformer.patch_embed.proj.weight
        self.to(device=weight.device, dtype=weight.dtype)

    @property
    def settings(self) -> dict[str, Any]:
        """What it was made with, as plain data: `ActionVector(backbone, **settings)` has the same tensors' shapes."""
        return {"joints": self.joints, "width": self.width, "scale": self.scale}

    def install(self, backbone: Backbone) -> Uninstall:
        """Nothing has to live inside the backbone. Raises InvalidInput for one of other sizes."""
        check_backbone(self.config, backbone)
        return lambda: None

    def prepare(
        self, prompt: VisualPrompt, codec: Codec, carry: Carry | None = None, *, text: TextEncoder | None = None
    ) -> Prepared:
        """What is added to each latent frame (b, T, D). The drawn frames of the prompt are not looked at.

        See `Conditioner.prepare`; the carry is empty, since a frame's vector needs no others. Raises InvalidInput,
        naming joints that are missing.
        """
        if prompt.joints is None:
            raise InvalidInput("VisualPrompt.joints", None, f"(b, F, {self.joints}): this model is told joints alone")
        if prompt.joints.shape[2] != self.joints:
            raise InvalidInput("joints of the prompt", prompt.joints.shape[2], f"{self.joints}, as it was trained")
        started = goes_on(prompt, carry)
        check_count(prompt.pixel_frames, started=started)
        weight = self.read.weight
        poses = (prompt.joints.to(weight) - self.mean) / self.spread
        if not started:
            poses = torch.cat([poses[:, :1].expand(-1, FRAMES - 1, -1), poses], dim=1)
        vectors = poses.reshape(len(poses), -1, FRAMES * self.joints)
        return {ACTION: self.add(F.silu(self.inner(F.silu(self.read(vectors)))))}

    def inject(self, prepared: Prepared, noised: Noised) -> Injection:
        """Each frame's vector, on every one of its tokens; of more frames than the pass has, the newest.

        Raises InvalidInput for a prompt of other rows or fewer latent frames than the latents.
        """
        if self.scale == 0:
            return Injection()
        action, latents = prepared.get(ACTION), noised.latents
        if action is None:
            raise InvalidInput("prepared of an action vector", sorted(prepared), f"{ACTION!r}, from its `prepare`")
        if len(action) != len(latents) or action.shape[1] < latents.shape[1]:
            expected = f"{tuple(latents.shape[:2])}, as of the noisy latents, or more frames"
            raise InvalidInput("rows and latent frames of the prompt", tuple(action.shape[:2]), expected)
        patches = latents.shape[3] * latents.shape[4] // self.config.patch**2
        added = action[:, -latents.shape[1] :].to(latents.dtype).repeat_interleave(patches, dim=1)
        factor = strength(prepared, self.scale, latents)
        return Injection(input_add=added if factor is None else added * factor)


def _vector(name: str, given: Tensor | None, joints: int, default: Tensor) -> Tensor:
    if given is None:
        return default
    if tuple(given.shape) != (joints,) or not bool(given.isfinite().all()):
        raise InvalidInput(f"{name} of the joints", f"{given.dtype} {tuple(given.shape)}", f"{joints} finite numbers")
    return given.detach().clone().float()
