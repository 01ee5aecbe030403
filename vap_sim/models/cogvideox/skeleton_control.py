"""Visual action prompts: a trainable copy of the first blocks looks at the drawn video and corrects the backbone's."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.models.cogvideox.attention import Keys
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.block import Shared, Tokens, walk
from vap_sim.models.cogvideox.cache import KeyValueCache, Past
from vap_sim.models.cogvideox.codec import SIDE, Carry, Codec
from vap_sim.models.cogvideox.config import ModelConfig, build_transformer
from vap_sim.models.cogvideox.control_encoder import ControlEncoder
from vap_sim.models.cogvideox.injection import Injection, Noised, Prepared, Uninstall
from vap_sim.models.cogvideox.prepared import goes_on, strength, with_carry
from vap_sim.models.cogvideox.text import TextEncoder
from vap_sim.prompts.visual_prompt import VisualPrompt

CONTROL = "control"


class SkeletonControl(nn.Module):
    """The conditioner of drawn prompts of any form: skeleton, mesh or depth.

    Its encoder brings the drawing to latent resolution, C channels. From there two paths lead to the backbone, both
    through layers that are zero at first, so that an untrained control changes nothing:

    - the branch: copies of the backbone's first blocks, with a patch embedding of their own that takes what the
      backbone's takes (noisy latents, and the first image's where the model has them) and after it the C channels,
      whose weights start at zero. It hears the same words, levels and positions. What comes out of copy i is added,
      after a projection, to the backbone's video tokens after block i;
    - the input path: a projection of the C channels, added to the backbone's video tokens before the first block.

    backbone: what is copied, before LoRA or offload hooks are on it; it is not kept. blocks: how many are copied, a
    third of all, rounded up, if not given; channels, width: of the encoder; branch, input_path: False leaves that path
    out; scale: multiplies what is added, and 0 adds nothing at all; seed: of the encoder's first weights.

    `branch` is a `Backbone` of the copied blocks alone, so `checkpoint_blocks` and `compile_blocks` work on it; it has
    no head. Raises InvalidInput.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        blocks: int | None = None,
        channels: int = 48,
        width: int = 128,
        branch: bool = True,
        input_path: bool = True,
        scale: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        config = backbone.config
        count = -(-config.blocks // 3) if blocks is None else blocks
        if not 1 <= count <= config.blocks:
            raise InvalidInput("blocks to copy", count, f"1 .. {config.blocks}")
        if not (branch or input_path):
            raise InvalidInput("paths of a skeleton control", "none", "its branch, its input path or both")
        self.config: ModelConfig = config
        self.scale = checked_scale(scale)
        weight = backbone.transformer.patch_embed.proj.weight
        place = {"device": weight.device, "dtype": weight.dtype}
        self.encoder = ControlEncoder(channels, width, seed=seed).to(**place)
        self.branch = copied_branch(backbone, range(count), channels) if branch else None
        self.projections = nn.ModuleList(
            _silent(nn.Linear(config.width, config.width, **place)) for _ in range(count if branch else 0)
        )
        patch = config.patch
        self.input_projection = (
            _silent(nn.Conv2d(channels, config.width, patch, stride=patch, **place)) if input_path else None
        )
        self.requires_grad_(True)

    @property
    def settings(self) -> dict[str, Any]:
        """What it was made with, as plain data: `SkeletonControl(backbone, **settings)` has the same tensors."""
        return {
            "blocks": len(self.projections) if self.branch is not None else None,
            "channels": self.encoder.channels,
            "width": self.encoder.width,
            "branch": self.branch is not None,
            "input_path": self.input_projection is not None,
            "scale": self.scale,
        }

    def install(self, backbone: Backbone) -> Uninstall:
        """Nothing has to live inside the backbone. Raises InvalidInput for one of other sizes."""
        check_backbone(self.config, backbone)
        return _nothing

    def prepare(
        self, prompt: VisualPrompt, codec: Codec, carry: Carry | None = None, *, text: TextEncoder | None = None
    ) -> Prepared:
        """The drawing at latent resolution, for every pass of these frames; gradients flow to the encoder.

        prompt: of one view; see `Conditioner.prepare`. Nothing lasts, and `text` is not asked. Raises InvalidInput, and
        Unsupported for several views.
        """
        if codec.latent_channels != self.config.latent_channels:
            raise InvalidInput("latent channels of the codec", codec.latent_channels, self.config.latent_channels)
        drawn = one_view(prompt)
        cell = SIDE * self.config.patch
        if drawn.shape[2] % cell or drawn.shape[3] % cell:
            raise InvalidInput("size (H, W) of the prompt", tuple(drawn.shape[2:4]), f"multiples of {cell} pixels")
        control, carry = self.encoder(drawn, carry if goes_on(prompt, carry) else None)
        return with_carry({CONTROL: control}, carry)

    def inject(self, prepared: Prepared, noised: Noised) -> Injection:
        """What both paths add in this pass. noised.past and noised.collect are of the branch's own cache (`past`).

        A prompt may describe more latent frames than the pass has: the pass is of the newest, those before are there
        for the encoder, which looks back `control_encoder.HISTORY` of them. Raises InvalidInput for a prompt of other
        rows, another size or fewer latent frames than the latents.
        """
        if self.scale == 0:
            return Injection()
        control = self._fitting(prepared, noised)
        factor = strength(prepared, self.scale, noised.latents)
        added = None
        if self.input_projection is not None:
            added = _weighed(self._tokens(control), factor, noised.latents)
        if self.branch is None:
            return Injection(input_add=added)
        residuals: dict[int, Tensor] = {}
        keys: list[Keys] = []
        tokens, shared = self._entrance(self.branch, control, noised)
        for step in walk(self.branch.blocks, tokens, shared, checkpoint=self.branch.checkpoint):
            out = self.projections[step.index](step.tokens.video)
            residuals[step.index] = _weighed(out, factor, noised.latents)
            keys += [step.keys] if step.keys is not None else []
        cache = None
        if noised.collect:
            length = 0 if noised.text is None else noised.text.shape[1]
            cache = self.branch.cache_of(keys, length, (control.shape[3], control.shape[4]))
        return Injection(input_add=added, residuals=residuals, cache=cache)

    def past(
        self,
        cache: KeyValueCache,
        positions: Sequence[int] | Tensor,
        size: tuple[int, int],
        visible: Tensor | None = None,
    ) -> Past | None:
        """The branch's cache placed in time, for `Noised.past`: as `Backbone.past`. None without a branch."""
        return None if self.branch is None else self.branch.past(cache, positions, size, visible)

    def _entrance(self, branch: Backbone, control: Tensor, noised: Noised) -> tuple[Tokens, Shared]:
        kind = control.dtype
        text, past = noised.text, noised.past
        if (text is None) == (past is None or not past.text):
            given = "neither in `text` nor in `past`" if text is None else "in `text` and in `past`"
            raise InvalidInput("text of a skeleton control's branch", given, "it in one of them")
        if past is not None and past.keys.shape[1] != branch.config.blocks:
            raise InvalidInput("blocks of the branch's past", past.keys.shape[1], branch.config.blocks)
        parts = [noised.latents, control] if noised.channels is None else [noised.latents, noised.channels, control]
        joined = torch.cat([part.to(kind) for part in parts], dim=2)
        if joined.shape[2] != branch.config.in_channels:
            missing = self.config.condition_channels
            expected = f"{self.config.latent_channels} in `latents`, {missing} of a condition in `channels`"
            given = f"{noised.latents.shape[2]} and {0 if noised.channels is None else noised.channels.shape[2]}"
            raise InvalidInput("channels that a skeleton control's branch is shown", given, expected)
        size = (control.shape[3], control.shape[4])
        tokens = branch.embed(joined, None if text is None else text.to(kind), noised.positions)
        levels = branch.levels(noised.timestep, kind, noised.text_timestep)
        rotary = branch.rotary(size, control.shape[1], noised.positions, control.device)
        return tokens, Shared(levels, rotary, noised.mask, past, noised.collect)

    def _tokens(self, control: Tensor) -> Tensor:
        assert self.input_projection is not None
        patches: Tensor = self.input_projection(control.flatten(0, 1))
        return patches.flatten(2).transpose(1, 2).reshape(len(control), -1, self.config.width)

    def _fitting(self, prepared: Prepared, noised: Noised) -> Tensor:
        control = prepared.get(CONTROL)
        if control is None:
            raise InvalidInput("prepared of a skeleton control", sorted(prepared), f"{CONTROL!r}, from its `prepare`")
        latents = noised.latents
        if len(control) != len(latents):
            raise InvalidInput("rows of the prompt", len(control), f"{len(latents)}, as of the noisy latents")
        if control.shape[1] < latents.shape[1]:
            expected = f"at least {latents.shape[1]}, as of the noisy latents"
            raise InvalidInput("latent frames of the prompt", control.shape[1], expected)
        if control.shape[3:] != latents.shape[3:]:
            expected = f"{tuple(latents.shape[3:])}, as of the noisy latents"
            raise InvalidInput("latent size (h, w) of the prompt", tuple(control.shape[3:]), expected)
        return control[:, -latents.shape[1] :]


def one_view(prompt: VisualPrompt) -> Tensor:
    """The drawn frames (b, F, H, W, 3) of a prompt of one view. Raises Unsupported for more."""
    if prompt.views != 1:
        raise Unsupported(f"a prompt of {prompt.views} views: CogVideoX is told of one view; give it one at a time")
    return prompt.skeleton[:, 0]


def checked_scale(scale: float) -> float:
    """The scale, finite and no negative number. Raises InvalidInput."""
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 <= scale < math.inf:
        raise InvalidInput("scale of a conditioner", scale, "a number of at least 0")
    return float(scale)


def check_backbone(config: ModelConfig, backbone: Backbone) -> None:
    """Raise InvalidInput unless the backbone has the sizes of `config` that a conditioner depends on."""
    for name in ("width", "blocks", "patch", "in_channels", "latent_channels"):
        given, expected = getattr(backbone.config, name), getattr(config, name)
        if given != expected:
            raise InvalidInput(f"{name} of the backbone", given, f"{expected}, that of the conditioner's")


def check_plain(backbone: Backbone) -> None:
    """Raise InvalidInput if LoRA or offload hooks are on the backbone's layers."""
    for name, module in backbone.transformer.named_modules():
        if hasattr(module, "_hf_hook") or "lora_" in name:
            found = "LoRA" if "lora_" in name else "offload hooks"
            raise InvalidInput("backbone", f"one with {found}", "a plain one: make or load the control first")


def copied_branch(backbone: Backbone, blocks: Sequence[int], channels: int = 0) -> Backbone:
    """The backbone's blocks of these numbers and what leads to the first, copied; `channels` more go in, at first
    unheard. It has no head. Raises InvalidInput if LoRA or offload hooks are on the backbone."""
    own = backbone.transformer
    chosen = [backbone.blocks[number] for number in blocks]
    check_plain(backbone)
    sizes = {**backbone.config.transformer, "num_layers": len(chosen)}
    sizes["in_channels"] = backbone.config.in_channels + channels
    # Built without memory, for its wiring; every part that is used is then put in.
    copied = build_transformer(ModelConfig(sizes), device="meta")
    copied.transformer_blocks = nn.ModuleList(copy.deepcopy(block) for block in chosen)
    copied.time_embedding = copy.deepcopy(own.time_embedding)
    copied.patch_embed.text_proj = copy.deepcopy(own.patch_embed.text_proj)
    copied.patch_embed.proj = _widened(own.patch_embed.proj, channels)
    if getattr(own.patch_embed, "pos_embedding", None) is not None:
        # Shared and left out of the state dict: nobody trains it, and it is large.
        copied.patch_embed.register_buffer("pos_embedding", own.patch_embed.pos_embedding, persistent=False)
    copied.norm_final = copied.norm_out = copied.proj_out = None
    return Backbone(copied)


def _widened(proj: nn.Conv2d, channels: int) -> nn.Conv2d:
    weight = proj.weight.detach()
    more = weight.new_zeros(weight.shape[0], channels, *weight.shape[2:])
    wide = nn.Conv2d(
        proj.in_channels + channels,
        proj.out_channels,
        (weight.shape[2], weight.shape[3]),
        stride=(weight.shape[2], weight.shape[3]),
        bias=proj.bias is not None,
        device="meta",
    )
    wide.weight = nn.Parameter(torch.cat([weight, more], dim=1))
    if proj.bias is not None:
        wide.bias = nn.Parameter(proj.bias.detach().clone())
    return wide


def _silent(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    for value in layer.parameters():
        nn.init.zeros_(value)
    return layer


def _weighed(value: Tensor, factor: Tensor | None, like: Tensor) -> Tensor:
    value = value.to(like.dtype)
    return value if factor is None else value * factor


def _nothing() -> None:
    """What undoes an install that did nothing."""
