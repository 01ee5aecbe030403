"""The arithmetic of CogVideoX's training: diffusers' loss, and the noise levels that are drawn for it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.models.cogvideox.sampler import PUBLISHED, Schedule, noised, velocity
from vap_sim.training.diffusion import DiffusionTraining
from vap_sim.training.noising import draw_levels, velocity_loss


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_loss_is_that_of_diffusers_training() -> None:
    """Its clean prediction by `get_velocity`, its weights 1 / (1 - alpha), its mean; at each row's own level."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.CogVideoXDPMScheduler(**{k: v for k, v in PUBLISHED.items() if not k.startswith("_")})
    clean, noise, prediction = (draw(3, 4, 2, 6, 6, seed=seed).double() for seed in range(3))
    timesteps = torch.tensor([5, 400, 990])
    noisy = scheduler.add_noise(clean, noise, timesteps)
    taken_for = scheduler.get_velocity(prediction, noisy, timesteps)
    weights = (1 / (1 - scheduler.alphas_cumprod[timesteps]))[:, None, None, None, None]
    expected = (weights * (taken_for - clean) ** 2).reshape(3, -1).mean(1)

    alpha = Schedule.of(PUBLISHED).alpha(timesteps)[:, None].expand(3, 4)
    assert torch.allclose(noised(clean, noise, alpha), noisy, atol=1e-6)
    found = velocity_loss(prediction, velocity(clean, noise, alpha), torch.ones(3, 4, dtype=torch.bool))
    assert torch.allclose(found.double(), expected, rtol=1e-4)


def test_the_loss_counts_learned_frames_alone_and_weights_places() -> None:
    prediction, target = draw(2, 3, 4, 2, 2, seed=1), draw(2, 3, 4, 2, 2, seed=2)
    learned = torch.tensor([[False, True, True], [False, False, True]])
    found = velocity_loss(prediction, target, learned)
    error = (prediction - target) ** 2
    assert torch.allclose(found, torch.stack([error[0, 1:].mean(), error[1, 2:].mean()]))
    other = prediction.clone()
    other[:, 0] += 9
    assert torch.equal(velocity_loss(other, target, learned), found)
    weight = torch.ones(2, 3, 2, 2)
    assert torch.allclose(velocity_loss(prediction, target, learned, 4 * weight), 4 * found)
    weight[0, 1, 0, 1] = 5
    more = velocity_loss(prediction, target, learned, weight) - found
    assert torch.allclose(more, torch.stack([4 * error[0, 1, :, 0, 1].mean() / 8, torch.tensor(0.0)]))


def test_levels_of_each_mode() -> None:
    rng = np.random.default_rng(0)
    rows = {mode: [draw_levels(rng, mode, 5, 1000) for _ in range(400)] for mode in ("chunk", "history", "forcing")}
    assert all(len(set(levels.tolist())) == 1 and learned.all() for levels, learned in rows["chunk"])
    for levels, learned in rows["history"]:
        clean = int((~learned).sum())
        assert 1 <= clean <= 4 and learned.tolist() == [False] * clean + [True] * (5 - clean)
        assert (levels[:clean] == 0).all() and len(set(levels[clean:].tolist())) == 1
    assert len(Counter(int(learned.sum()) for _, learned in rows["history"])) == 4
    for levels, learned in rows["forcing"]:
        assert levels[0] == 0 and learned.tolist() == [False] + [True] * 4
    assert sum(len(set(levels[1:].tolist())) == 4 for levels, _ in rows["forcing"]) > 380
    for mode in rows:
        drawn = torch.stack([levels[-1] for levels, _ in rows[mode]]).double()
        assert 0 <= drawn.min() < 50 and 950 < drawn.max() < 1000 and 450 < drawn.mean() < 550


@pytest.mark.parametrize("mode", ["chunk", "history", "forcing"])
def test_a_shift_draws_noisier_levels(mode: str) -> None:
    """The share u becomes s u / (1 + (s - 1) u): half of all levels are above 3 / 4 for a shift of 3."""
    drawn = {}
    for shift in (1.0, 3.0):
        rng = np.random.default_rng(0)
        rows = [draw_levels(rng, mode, 5, 1000, shift) for _ in range(800)]
        assert all((levels[~learned] == 0).all() and levels.dtype == torch.int64 for levels, learned in rows)
        drawn[shift] = torch.stack([levels[-1] for levels, _ in rows]).double()
    share = (drawn[1.0] + 0.5) / 1000
    assert (drawn[3.0] - 1000 * 3 * share / (1 + 2 * share)).abs().max() <= 1
    assert drawn[3.0].min() >= 0 and drawn[3.0].max() < 1000
    assert 720 < drawn[3.0].median() < 780
    with pytest.raises(InvalidInput, match="shift of noise levels: given 0"):
        DiffusionTraining(shift=0)


def test_levels_that_cannot_be_drawn_are_named() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(UnknownName, match=r"unknown mode of training 'forced'\. Did you mean 'forcing'"):
        draw_levels(rng, "forced", 5, 1000)
    with pytest.raises(InvalidInput, match="latent frames for training in mode 'history': given 1"):
        draw_levels(rng, "history", 1, 1000)
