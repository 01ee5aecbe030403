"""Raw actions: joints as numbers, on every token of their frame and on no other's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.models.cogvideox.conftest import FRAMES, PATCHES, ROWS, SIZE, draw, small_backbone
from tests.models.cogvideox.control_tools import CODEC, JOINTS, noised, prompt, run, wake
from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.lora import freeze_backbone
from vap_sim.models.cogvideox.prepared import carry_of, drop_rows
from vap_sim.models.cogvideox.raw_action import ACTION, ActionVector


@pytest.fixture(scope="module")
def action(backbone: Backbone) -> ActionVector:
    """Do not change it."""
    return wake(ActionVector(backbone, joints=JOINTS, width=8)).requires_grad_(False)


def test_untrained_or_at_scale_zero_it_changes_nothing(backbone: Backbone) -> None:
    fresh, none = (ActionVector(backbone, joints=JOINTS, width=8, scale=scale) for scale in (1, 0))
    with torch.no_grad():
        added = fresh.inject(fresh.prepare(prompt(), CODEC), noised())
        assert added.input_add.shape == (ROWS, FRAMES * PATCHES, 32)
        assert torch.equal(run(backbone, added), run(backbone))
        assert wake(none).inject(none.prepare(prompt(), CODEC), noised()).input_add is None


def test_gradients_reach_all_layers_after_one_step() -> None:
    backbone = small_backbone()
    freeze_backbone(backbone)
    action = ActionVector(backbone, joints=JOINTS, width=8)
    optimiser = torch.optim.SGD(action.parameters(), lr=0.1)

    def moved() -> set[str]:
        optimiser.zero_grad()
        run(backbone, action.inject(action.prepare(prompt(), CODEC), noised())).square().mean().backward()
        return {name.split(".")[0] for name, value in action.named_parameters() if bool(value.grad.any())}

    assert moved() == {"add"}
    optimiser.step()
    assert moved() == {"add", "inner", "read"}


@pytest.mark.parametrize("frame", [0, 1, 4, 5])
def test_a_pose_moves_the_tokens_of_the_frame_that_packs_it(action: ActionVector, frame: int) -> None:
    told = prompt()
    joints = told.joints.clone()
    joints[:, frame] += 1
    before, after = (
        action.inject(action.prepare(one, CODEC), noised()).input_add for one in (told, replace(told, joints=joints))
    )
    differs = (before - after).abs().reshape(ROWS, FRAMES, PATCHES, -1)
    own = -(-frame // 4)
    assert (differs[:, own].amax(-1) > 1e-4).all(), "every token of it"
    assert not differs[:, [other for other in range(FRAMES) if other != own]].any()


def test_parts_equal_the_whole_and_more_frames_are_of_the_newest(action: ActionVector) -> None:
    told = prompt()
    whole = action.prepare(told, CODEC)
    first = action.prepare(told.between(0, 5), CODEC)
    rest = action.prepare(told.between(5, told.pixel_frames), CODEC, carry_of(first))
    assert torch.allclose(torch.cat([first[ACTION], rest[ACTION]], dim=1), whole[ACTION], atol=1e-6)
    newest = noised(latents=draw(ROWS, 1, 4, *SIZE))
    assert torch.equal(action.inject(whole, newest).input_add[:, -1:], action.inject(whole, noised()).input_add[:, -1:])


def test_rows_do_not_leak_and_dropped_ones_get_nothing(action: ActionVector) -> None:
    told = prompt()
    other = replace(told, joints=torch.cat([told.joints[:1], told.joints[1:] + 1]))
    ours, theirs = (action.inject(action.prepare(one, CODEC), noised()).input_add for one in (told, other))
    assert torch.equal(ours[0], theirs[0])
    assert not torch.equal(ours[1], theirs[1])
    dropped = drop_rows(action.prepare(told, CODEC), torch.tensor([True, False]))
    added = action.inject(dropped, noised()).input_add
    assert not added[0].any()
    assert torch.equal(added[1], ours[1])


def test_mean_and_spread_take_the_units_out(backbone: Backbone, action: ActionVector) -> None:
    mean, spread = draw(JOINTS, seed=8), draw(JOINTS, seed=9).abs() + 0.1
    scaled = ActionVector(backbone, joints=JOINTS, width=8, mean=mean, spread=spread).requires_grad_(False)
    scaled.load_state_dict({**action.state_dict(), "mean": mean, "spread": spread})
    told = prompt()
    other = replace(told, joints=told.joints * spread + mean)
    assert torch.allclose(scaled.prepare(other, CODEC)[ACTION], action.prepare(told, CODEC)[ACTION], atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"joints": 0}, r"joints and width of an action vector: given \(0, 512\)"),
        ({"mean": torch.zeros(3)}, r"mean of the joints: given torch.float32 \(3,\), expected 7 finite numbers"),
        ({"spread": torch.zeros(JOINTS)}, "spread of the joints: .* expected positive numbers"),
        ({"scale": -2}, "scale of a conditioner: given -2"),
    ],
)
def test_bad_settings_are_named(backbone: Backbone, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        ActionVector(backbone, **{"joints": JOINTS, **settings})


def test_bad_prompts_are_named(action: ActionVector) -> None:
    told = prompt()
    with pytest.raises(InvalidInput, match=r"VisualPrompt.joints: given None, expected \(b, F, 7\)"):
        action.prepare(replace(told, joints=None), CODEC)
    with pytest.raises(InvalidInput, match="joints of the prompt: given 6, expected 7"):
        action.prepare(replace(told, joints=told.joints[..., :6]), CODEC)
    with pytest.raises(InvalidInput, match="pixel frames that go on from a carry: given 6"):
        action.prepare(told.between(0, 6), CODEC, {})
    with pytest.raises(InvalidInput, match=r"rows and latent frames of the prompt: given \(2, 2\), expected \(2, 4\)"):
        action.inject(action.prepare(told.between(0, 5), CODEC), noised())
    with pytest.raises(InvalidInput, match=r"prepared of an action vector: given \['keep'\], expected 'action'"):
        action.inject(drop_rows({}, torch.tensor([True])), noised())
    with pytest.raises(InvalidInput, match="in_channels of the backbone"):
        action.install(small_backbone("5b"))
