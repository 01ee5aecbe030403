"""The training loss: independent of the order of a batch, felt by every weight, and low where everything is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import pytest
import torch

from vap_sim.models.compact.losses import Clip, LossWeights, compact_loss, unit
from vap_sim.models.compact.network import CompactNetwork, UNet
from vap_sim.models.compact.slots import SLOTS

PAINTED = (1, 3)


def bias_of(unet: UNet) -> torch.Tensor:
    assert unet.head.bias is not None
    return unet.head.bias


def loss_of(
    network: CompactNetwork, clip: Clip, jitter: torch.Tensor | None = None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    jitter = torch.zeros(len(clip.frames), SLOTS, 2) if jitter is None else jitter
    return compact_loss(network, clip, LossWeights(), jitter=jitter, painted=PAINTED)


def rows(clip: Clip, order: list[int]) -> Clip:
    return Clip(**{field.name: getattr(clip, field.name)[order] for field in fields(Clip)})


def test_every_term_is_weighted_finite_and_detached(lively: CompactNetwork, clip: Clip) -> None:
    total, terms = loss_of(lively, clip)
    assert set(terms) == {field.name for field in fields(LossWeights)}
    assert all(torch.isfinite(value) and value >= 0 and not value.requires_grad for value in terms.values())
    weights = LossWeights()
    assert float(total.detach()) == pytest.approx(
        sum(getattr(weights, name) * float(value) for name, value in terms.items())
    )
    doubled = replace(weights, frame=2 * weights.frame)
    more, _ = compact_loss(lively, clip, doubled, jitter=torch.zeros(2, SLOTS, 2), painted=PAINTED)
    assert float((more - total).detach()) == pytest.approx(weights.frame * float(terms["frame"]), rel=1e-3)


def test_the_order_of_a_batch_does_not_matter(lively: CompactNetwork, clips: Callable[..., Clip]) -> None:
    clip = clips(3, count=3)
    jitter = torch.randn(3, SLOTS, 2, generator=torch.Generator().manual_seed(0))
    forth, _ = loss_of(lively, clip, jitter)
    back, _ = loss_of(lively, rows(clip, [2, 0, 1]), jitter[[2, 0, 1]])
    assert float(forth.detach()) == pytest.approx(float(back.detach()), rel=1e-5)


def test_the_gradient_reaches_every_weight(lively: CompactNetwork, clip: Clip) -> None:
    total, _ = loss_of(lively, clip)
    total.backward()  # type: ignore[no-untyped-call]
    silent = [name for name, value in lively.named_parameters() if value.grad is None or not value.grad.any()]
    assert silent == []
    assert all(torch.isfinite(value.grad).all() for value in lively.parameters() if value.grad is not None)


def test_a_fresh_network_can_learn_everywhere(network: CompactNetwork, clip: Clip) -> None:
    """Layers that start at zero hold back those before them for one step only: their own gradient is not zero."""
    total, _ = loss_of(network, clip)
    total.backward()  # type: ignore[no-untyped-call]
    for net in (network.scene, network.motion, network.robot):
        assert net.unet.head.weight.grad is not None and net.unet.head.weight.grad.any()


def test_unpainted_frames_leave_no_trace(lively: CompactNetwork, clip: Clip) -> None:
    """Painting is judged in the painted frames only, motion in all."""

    def cost(inverted: int | None) -> float:
        frames = clip.frames.clone()
        if inverted is not None:
            frames[:, inverted] = 255 - frames[:, inverted]
        with torch.no_grad():
            return float(loss_of(lively, replace(clip, frames=frames))[0])

    assert cost(2) == pytest.approx(cost(None)) and cost(3) != pytest.approx(cost(None))


def test_misplaced_slots_are_pulled_back(clip: Clip, networks: Callable[..., CompactNetwork]) -> None:
    """What a network says by its bias alone: it fits best where it says the true step and a part of the way back."""
    network = networks(0)
    jitter = torch.zeros(2, SLOTS, 2)
    jitter[:, 0, 0] = -2.0  # the moving square lies two pixels too far left

    def cost(shift: float) -> float:
        with torch.no_grad():
            bias_of(network.motion.unet).copy_(torch.tensor([shift / 8, 0, 0, 0, 0, 4.0]))
            short = Clip(**{f.name: getattr(clip, f.name) for f in fields(Clip)})
            short = replace(short, frames=clip.frames[:, :2], skeletons=clip.skeletons[:, :4])
            terms = compact_loss(network, short, LossWeights(), jitter=jitter, painted=(1,))[1]
        return float(terms["shift"])

    assert cost(1.6) == pytest.approx(0, abs=1e-3) and cost(1.0) > 0.05 and cost(2.2) > 0.05


def test_a_lost_slot_teaches_nothing(lively: CompactNetwork, clip: Clip) -> None:
    lost = torch.full((2, SLOTS, 2), 15.0)
    terms = loss_of(lively, clip, lost)[1]
    assert terms["moving"] == terms["shift"] == terms["twist"] == 0


def test_a_tiny_network_learns_a_tiny_clip(lesson: tuple[CompactNetwork, dict[str, float], dict[str, float]]) -> None:
    _, first, last = lesson
    for name in ("object_alpha", "object_color", "object_unseen", "moving", "shift", "robot_alpha", "frame", "unseen"):
        assert last[name] < 0.5 * first[name], name


def test_bytes_become_shares() -> None:
    assert torch.equal(unit(torch.tensor([0, 51, 255], dtype=torch.uint8)), torch.tensor([0.0, 0.2, 1.0]))
