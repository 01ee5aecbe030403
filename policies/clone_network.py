"""The small network of a cloned policy: a picture, joints and words in, a chunk of actions out."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vap_sim.colors import COLORS
from vap_sim.errors import InvalidInput
from vap_sim.policies.judge_finding import color_likeness


@dataclass(frozen=True)
class CloneConfig:
    """Sizes of the network: pictures of `size` px a side, `state` numbers, `actions` numbers in each of `chunk` steps.

    words: those that an instruction may be told apart by, sorted; looks: whether the network is shown where a picture
    looks as the words say. Raises InvalidInput for sizes that do not work.
    """

    state: int
    actions: int
    words: tuple[str, ...] = ()
    size: int = 64
    chunk: int = 4
    width: int = 32
    points: int = 32
    hidden: int = 256
    looks: bool = False

    def __post_init__(self) -> None:
        for name in ("state", "actions", "chunk", "width", "points", "hidden"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 4096:
                raise InvalidInput(f"{name!r} of a cloned policy", value, "a whole number, 1 to 4096")
        if self.size not in (64, 96, 128):
            raise InvalidInput("'size' of a cloned policy", self.size, "64, 96 or 128 px")
        if any(not isinstance(word, str) for word in self.words) or tuple(sorted(set(self.words))) != self.words:
            raise InvalidInput("'words' of a cloned policy", self.words, "different words in order")


class CloneNetwork(nn.Module):
    """Convolutions whose channels the words weigh, the places where each channel is strongest, and three dense layers.

    Where the picture has the color of a word is a plane of its own: words that name colors begin as those, so that from
    the first step on an instruction tells something in the picture from everything else.

    Places are a spatial softmax (Finn et al. 2016, arXiv:1509.06113), weighing is FiLM (Perez et al. 2018,
    arXiv:1709.07871). Means and spreads of states and actions are part of the weights.
    """

    state_mean: Tensor
    state_std: Tensor
    action_mean: Tensor
    action_std: Tensor

    def __init__(self, config: CloneConfig) -> None:
        super().__init__()
        self.config = config
        w, words = config.width, max(1, len(config.words))
        self.first = nn.Conv2d(5 + config.looks, w, 5, 2, 2)
        self.second = nn.Conv2d(w, 2 * w, 3, 1, 1)
        self.weigh = nn.Linear(words, 4 * w)
        self.third = nn.Conv2d(2 * w, 2 * w, 3, 1, 1)
        self.find = nn.Conv2d(2 * w, config.points, 1)
        self.dense = nn.Sequential(
            nn.Linear(2 * config.points + config.state + words, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.chunk * config.actions),
        )
        if config.looks:
            self._named = [n for n, word in enumerate(config.words) if word in COLORS]
            hues = [COLORS[config.words[n]] for n in self._named]
            self.hues = nn.Parameter(torch.tensor(hues).reshape(len(hues), 3))
        for name, count in (("state", config.state), ("action", config.actions)):
            self.register_buffer(f"{name}_mean", torch.zeros(count))
            self.register_buffer(f"{name}_std", torch.ones(count))

    def forward(self, image: Tensor, state: Tensor, words: Tensor) -> Tensor:
        """Pictures (b, 3, S, S) in [-1, 1], states (b, J), words (b, W) -> chunks (b, C, A), of mean 0 and spread 1."""
        side = torch.linspace(-1, 1, image.shape[-1], device=image.device)
        down, across = torch.meshgrid(side, side, indexing="ij")
        places = torch.stack([across, down]).expand(len(image), -1, -1, -1)
        seen = [image, places, self._likeness(image, words)] if self.config.looks else [image, places]
        x = torch.relu(self.first(torch.cat(seen, dim=1)))
        scale, shift = self.weigh(words)[..., None, None].chunk(2, dim=1)
        x = torch.relu(self.second(x) * (1 + scale) + shift)
        x = self.find(torch.relu(self.third(x)))
        share = torch.softmax(x.flatten(2), dim=-1)
        grid = torch.linspace(-1, 1, x.shape[-1], device=image.device)
        rows, columns = torch.meshgrid(grid, grid, indexing="ij")
        found = torch.cat([share @ columns.flatten(), share @ rows.flatten()], dim=1)
        normal = (state - self.state_mean) / self.state_std
        out: Tensor = self.dense(torch.cat([found, normal, words], dim=1))
        return out.view(len(image), self.config.chunk, self.config.actions)

    def _likeness(self, image: Tensor, words: Tensor) -> Tensor:
        """How much each pixel (b, 3, S, S) has a color that the words (b, W) name: (b, 1, S, S), 0 to 1."""
        said, which = words[:, self._named].sort(dim=1, descending=True)
        most = int((said > 0).sum(1).max()) if self._named else 0
        if not most:
            return torch.zeros_like(image[:, :1])
        rgb, hues = image / 2 + 0.5, self.hues[which[:, :most]]
        seen = [color_likeness(rgb, hues[:, n]) * said[:, n, None, None] for n in range(most)]
        return torch.stack(seen, dim=1).amax(1, keepdim=True)

    def chunks(self, image: Tensor, state: Tensor, words: Tensor) -> Tensor:
        """The same for uint8 pictures (b, S, S, 3), in units of the actions."""
        normal: Tensor = self(unit(image), state, words)
        return normal * self.action_std + self.action_mean


def unit(image: Tensor) -> Tensor:
    """uint8 (b, S, S, 3) -> float32 (b, 3, S, S) in [-1, 1]."""
    return image.permute(0, 3, 1, 2).float() / 127.5 - 1


def words_of(text: str) -> set[str]:
    """The words of an instruction, in small letters."""
    return set(re.findall(r"[a-z0-9]+", text.lower()))


def told(texts: tuple[str, ...], words: tuple[str, ...]) -> Tensor:
    """(b, max(1, W)) float32: 1 where an instruction has a word.

    Raises InvalidInput for an instruction without any of the words, where there are some: the policy knows none of it.
    """
    rows = torch.zeros(len(texts), max(1, len(words)))
    for row, text in enumerate(texts):
        known = words_of(text) & set(words)
        if words and not known:
            raise InvalidInput("instruction for a cloned policy", repr(text[:80]), f"one with words like {words[:8]}")
        for word in known:
            rows[row, words.index(word)] = 1
    return rows
