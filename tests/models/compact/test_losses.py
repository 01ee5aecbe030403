"""The picture loss: independent of the order of a batch, felt by scene and robot alone, low where all is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import pytest
import torch

from vap_sim.models.compact.losses import Pictures, PictureWeights, picture_loss, unit
from vap_sim.models.compact.network import CompactNetwork

PAINTING = {"robot_alpha", "robot_color", "frame"}
"""The terms that judge what is painted; the others judge what is read."""


def loss_of(network: CompactNetwork, pictures: Pictures) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    return picture_loss(network, pictures, PictureWeights())


def rows(pictures: Pictures, order: list[int]) -> Pictures:
    return Pictures(**{name: value[order] for name, value in vars(pictures).items()})


def test_every_term_is_weighted_finite_and_detached(lively: CompactNetwork, pictures: Pictures) -> None:
    total, terms = loss_of(lively, pictures)
    assert set(terms) == {field.name for field in fields(PictureWeights)}
    assert all(torch.isfinite(value) and value >= 0 and not value.requires_grad for value in terms.values())
    weights = PictureWeights()
    assert float(total.detach()) == pytest.approx(
        sum(getattr(weights, name) * float(value) for name, value in terms.items())
    )
    more, _ = picture_loss(lively, pictures, replace(weights, frame=2 * weights.frame))
    assert float((more - total).detach()) == pytest.approx(weights.frame * float(terms["frame"]), rel=1e-3)


def test_the_order_of_a_batch_does_not_matter(lively: CompactNetwork, scenes: Callable[..., Pictures]) -> None:
    pictures = scenes(3, count=3, shown=3)
    forth, back = (loss_of(lively, batch)[0].detach() for batch in (pictures, rows(pictures, [2, 0, 1])))
    assert float(forth) == pytest.approx(float(back), rel=1e-5)


def test_the_order_of_what_is_painted_does_not_matter(lively: CompactNetwork, pictures: Pictures) -> None:
    order = [0, 3, 1, 2]
    many = {name: value[:, order] for name, value in vars(pictures).items() if name != "plate"}
    forth, back = (loss_of(lively, item)[0].detach() for item in (pictures, replace(pictures, **many)))
    assert float(forth) == pytest.approx(float(back), rel=1e-5)


def test_the_gradient_reaches_every_weight_of_scene_and_robot_and_no_other(
    lively: CompactNetwork, pictures: Pictures
) -> None:
    loss_of(lively, pictures)[0].backward()  # type: ignore[no-untyped-call]
    felt = {name for name, value in lively.named_parameters() if value.grad is not None and value.grad.any()}
    assert felt == {name for name, _ in lively.named_parameters() if not name.startswith("motion.")}
    assert all(torch.isfinite(value.grad).all() for value in lively.parameters() if value.grad is not None)


def test_a_fresh_network_can_learn_everywhere(network: CompactNetwork, pictures: Pictures) -> None:
    """Layers that start at zero hold back those before them for one step only: their own gradient is not zero."""
    loss_of(network, pictures)[0].backward()  # type: ignore[no-untyped-call]
    for net in (network.scene, network.robot):
        assert net.unet.head.weight.grad is not None and net.unet.head.weight.grad.any()


@pytest.mark.parametrize("frame", [0, 2])
def test_the_first_picture_is_read_and_the_others_are_painted(
    frame: int, lively: CompactNetwork, pictures: Pictures
) -> None:
    """What is painted takes its style from what was read, and nothing flows back."""
    frames = pictures.frames.clone()
    frames[:, frame] = 255 - frames[:, frame]
    before, after = loss_of(lively, pictures)[1], loss_of(lively, replace(pictures, frames=frames))[1]
    changed = {name for name in before if before[name] != after[name]}
    if frame:
        assert changed == {"robot_color", "frame"}
    else:
        assert changed - PAINTING == {"object_alpha", "object_color", "object_unseen", "unseen", "plate"}
        assert changed & PAINTING  # by the style


def test_style_is_taught_by_what_is_painted(lively: CompactNetwork, pictures: Pictures) -> None:
    silent = PictureWeights(**{field.name: float(field.name in PAINTING) for field in fields(PictureWeights)})
    total, _ = picture_loss(lively, pictures, silent)
    total.backward()  # type: ignore[no-untyped-call]
    assert lively.scene.style.weight.grad is not None and lively.scene.style.weight.grad.any()
    assert lively.scene.unet.head.weight.grad is None or not lively.scene.unet.head.weight.grad.any()


def test_a_tiny_network_learns_a_tiny_scene(lesson: tuple[CompactNetwork, dict[str, float], dict[str, float]]) -> None:
    _, first, last = lesson
    for name in ("object_alpha", "object_color", "object_unseen", "robot_alpha", "frame", "unseen"):
        assert last[name] < 0.5 * first[name], name


def test_bytes_become_shares() -> None:
    assert torch.equal(unit(torch.tensor([0, 51, 255], dtype=torch.uint8)), torch.tensor([0.0, 0.2, 1.0]))
