"""What a prism and its listeners are made of: attention that may know distances in time, and gated feed-forwards."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention of tokens to themselves, or to a context of another width.

    width: of the tokens; heads: their widths are inner / heads; context: width of what is looked at, by default the
    tokens'; inner: width of queries, keys and values in all heads together, by default the tokens'.
    """

    def __init__(self, width: int, heads: int, *, context: int | None = None, inner: int | None = None) -> None:
        super().__init__()
        self.heads, inner = heads, width if inner is None else inner
        context = width if context is None else context
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_k = nn.Linear(context, inner, bias=False)
        self.to_v = nn.Linear(context, inner, bias=False)
        self.to_out = nn.Linear(inner, width)

    def forward(self, tokens: Tensor, context: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """tokens (n, L, width), context (n, M, its width), bias (1 or n, heads, 1 or L, M) added to the logits
        -> (n, L, width)."""
        return self.ask(tokens, *self.offer(tokens if context is None else context), bias)

    def offer(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a context (n, M, its width), each (n, heads, M, inner / heads)."""
        return self._split(self.to_k(context)), self._split(self.to_v(context))

    def ask(self, tokens: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
        """What tokens find among keys and values that were offered; shapes as above."""
        bias = None if bias is None else bias.to(keys.dtype)
        mixed = F.scaled_dot_product_attention(self._split(self.to_q(tokens)), keys, values, attn_mask=bias)
        out: Tensor = self.to_out(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, values: Tensor) -> Tensor:
        return values.reshape(*values.shape[:2], self.heads, -1).transpose(1, 2)


class RelativeTime(nn.Module):
    """A learned number for each head and each distance in time, to be added to logits.

    Distances beyond `reach` count as `reach`. At first each head prefers what is near, the first two most and every
    next two half as much, so that heads begin unlike and frames begin by looking at their own moment; for the one of
    two what comes later counts as twice as far, for the other what was before, so that time has a direction.
    """

    def __init__(self, heads: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        later, head = torch.arange(-reach, reach + 1)[:, None], torch.arange(heads)
        behind = torch.where(head % 2 == 0, -later, later) > 0
        steepness = 0.5 ** (head // 2)
        self.table = nn.Parameter(-later.abs() * steepness * torch.where(behind, 2.0, 1.0))

    def forward(self, distance: Tensor) -> Tensor:
        """distance (n, L, M) int64, how much later the one that looks is -> (n, heads, L, M)."""
        near = distance.clamp(-self.reach, self.reach) + self.reach
        return F.embedding(near, self.table).permute(0, 3, 1, 2)


class GatedFeed(nn.Module):
    """A feed-forward layer whose inner numbers are gated by others (GEGLU)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, 2 * inner)
        self.leave = nn.Linear(inner, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        values, gate = self.enter(tokens).chunk(2, dim=-1)
        out: Tensor = self.leave(values * F.gelu(gate))
        return out


class FrameListener(nn.Module):
    """A zero-initialised temporal cross-attention: each token listens to all moments of a demonstration.

    Every place of every frame asks by itself, and what it hears depends on how far in time its frame is from each
    moment. In the released code of AICL the references of a batch reach wrong rows, because queries count rows first
    and what is repeated for them counts rows last; here both count rows first.

    width: of the tokens; motion: of a moment; reach: see `RelativeTime`; heads, inner: see `Attention`.
    """

    def __init__(self, width: int, motion: int, *, heads: int, reach: int, inner: int | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, context=motion, inner=inner)
        self.time = RelativeTime(heads, reach)
        for value in self.attention.to_out.parameters():
            nn.init.zeros_(value)

    def forward(self, tokens: Tensor, motion: Tensor, distance: Tensor) -> Tensor:
        """tokens (b, T P, width), T frames of P places; motion (b, M, its width); distance (b, T, M) int64, from each
        moment to each frame -> what to add (b, T P, width)."""
        rows, frames, moments = distance.shape
        placed = self.norm(tokens).reshape(rows * frames, -1, tokens.shape[2])
        keys, values = (part.repeat_interleave(frames, dim=0) for part in self.attention.offer(motion))
        bias = self.time(distance).transpose(1, 2).reshape(rows * frames, -1, 1, moments)
        return self.attention.ask(placed, keys, values, bias).reshape(tokens.shape)
