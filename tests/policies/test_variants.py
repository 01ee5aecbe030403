"""Variants do to actions what their names say, and to nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vap_sim.envs.start import load_start
from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.policies import effects
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.effects import Effect
from vap_sim.policies.plan_policy import ReplayPolicy, ScriptedPolicy
from vap_sim.policies.policy import Actions, Policy, brief
from vap_sim.policies.registry import load_policy, with_variants
from vap_sim.policies.variants import MisledExpert

WHERE = PolicyContext(task="push")
PLACES = PolicyContext(control="joint_position")
TAPE = np.linspace(-0.5, 0.5, 6 * 8, dtype=np.float32).reshape(6, 8)
TAPE[:, 7] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
HOME = load_start("push_00").joints.numpy()
SEEN = {"joint_position": HOME[None, :7], "gripper_position": np.array([[0.25]], np.float32)}


def played(variants: str, where: PolicyContext = WHERE, steps: int = 6, seed: int = 0) -> Actions:
    """Actions (steps, 8) of the tape under variants "a=1+b"."""
    pairs = [part.partition("=") for part in variants.split("+")] if variants else []
    policy: Policy = ReplayPolicy(TAPE, where.control)
    policy = with_variants(policy, [(name, value if equals else None) for name, equals, value in pairs], where)
    carry, out = policy.reset(1, seed), []
    for _ in range(steps):
        action, carry = policy.act(SEEN, carry)
        out.append(action[0])
    return np.stack(out)


def test_noise_has_the_spread_it_names_and_spares_the_gripper() -> None:
    many = np.stack([played("noise=0.2", seed=seed) for seed in range(60)]) - TAPE
    assert many[..., :7].std() == pytest.approx(0.2, rel=0.05)
    assert abs(many[..., :7].mean()) < 0.02
    assert not many[..., 7].any()
    assert np.abs(np.corrcoef(many[:, 0, :7].ravel(), many[:, 1, :7].ravel())[0, 1]) < 0.15


def test_held_noise_changes_once_a_second_and_bias_never() -> None:
    held, bias = played("held_noise=0.1") - TAPE, played("bias=0.1") - TAPE
    assert held[:5] == pytest.approx(held[:1].repeat(5, 0), abs=1e-6)  # five steps at 5 Hz
    assert np.abs(held[5] - held[4])[:7].min() > 1e-4
    assert bias == pytest.approx(bias[:1].repeat(6, 0), abs=1e-6)
    assert bias[0, 7] == 0 and np.abs(bias[0, :7]).min() > 0


def test_noise_of_noise_is_not_the_same_noise_twice() -> None:
    once, twice = played("noise=0.1") - TAPE, played("noise=0.1+noise=0.1") - TAPE
    assert not np.allclose(twice, 2 * once, atol=1e-3)


def test_noise_is_a_share_of_the_range_of_each_entry() -> None:
    offset = effects.Bias(PLACES, 0.1).begin(np.array([3]))["offset"][0]
    given = ((PLACES.low + PLACES.high) / 2)[None]
    moved, _ = effects.Bias(PLACES, 0.1).apply(given, {"offset": offset[None]}, lambda: given)
    expected = 0.1 * offset * (PLACES.high - PLACES.low) / 2
    assert (moved - given)[0, :7] == pytest.approx(expected[:7], abs=1e-6)


def test_speed_and_mirror_scale_the_arm() -> None:
    assert played("speed=0.5")[:, :7] == pytest.approx(0.5 * TAPE[:, :7])
    mirrored = played("mirror=2")
    assert np.array_equal(mirrored[:, 2], -TAPE[:, 2])
    others = [0, 1, 3, 4, 5, 6, 7]
    assert np.array_equal(mirrored[:, others], TAPE[:, others])
    assert np.array_equal(played("mirror=panda_joint3"), mirrored)
    assert np.array_equal(played("mirror=2+mirror=2"), TAPE)
    assert np.array_equal(played("speed=0.5")[:, 7], TAPE[:, 7])


def test_delay_shifts_and_rests_before() -> None:
    late = played("delay=2")
    assert np.array_equal(late[2:], TAPE[:4])
    assert late[:2, :7] == pytest.approx(0) and late[:2, 7] == pytest.approx(0.25)
    assert np.array_equal(played("delay=1+delay=1"), late)
    at_places = played("delay=2", PLACES)
    assert at_places[:2, :7] == pytest.approx(HOME[None, :7].repeat(2, 0), abs=1e-6)


def test_early_gripper_leads_the_arm() -> None:
    early = played("early_gripper=2")
    assert np.array_equal(early[:, 7], TAPE[:, 7])
    assert np.array_equal(early[2:, :7], TAPE[:4, :7])


def test_gripper_sticks() -> None:
    assert (played("gripper=open")[:, 7] == 0).all()
    assert (played("gripper=closed")[:, 7] == 1).all()
    stuck = played("gripper=0.5")
    assert (stuck[:, 7] == 0.5).all() and np.array_equal(stuck[:, :7], TAPE[:, :7])


def test_frozen_arm_rests_and_keeps_its_grip() -> None:
    frozen = played("freeze=3")
    assert np.array_equal(frozen[:3], TAPE[:3])
    assert not frozen[3:, :7].any() and (frozen[3:, 7] == TAPE[2, 7]).all()
    at_places = played("freeze=3", PLACES)
    assert np.array_equal(at_places[3:], at_places[2:3].repeat(3, 0))
    from_the_start = played("freeze=0", PLACES)
    assert from_the_start[:, :7] == pytest.approx(HOME[None, :7].repeat(6, 0), abs=1e-6)


def test_share_of_random_actions() -> None:
    assert np.array_equal(played("random_share=0"), TAPE)
    changed = np.stack([(played("random_share=0.3", seed=seed) != TAPE).any(axis=1) for seed in range(80)])
    assert changed.mean() == pytest.approx(0.3, abs=0.07)
    drawn = np.concatenate([played("random_share=1", seed=seed) for seed in range(40)])
    assert drawn.mean(0) == pytest.approx((WHERE.low + WHERE.high) / 2, abs=0.15)


def test_actions_stay_within_the_bounds() -> None:
    wild = played("noise=5+bias=5")
    assert (wild >= WHERE.low).all() and (wild <= WHERE.high).all()


# Experts misled ----------------------------------------------------------------------------------------------------


def scene(objects: int = 2, goal: bool = True) -> dict[str, Any]:
    items = [
        {"x": 0.4 + 0.1 * k, "y": 0.1 - 0.15 * k, "yaw": 0.0, "size": [0.04, 0.04, 0.05], "shape": "cube"}
        for k in range(objects)
    ]
    return {"objects": items, "goal": [0.55, 0.2, 0.06] if goal else None}


def plan_of(policy: Policy, told: dict[str, Any]) -> np.ndarray:
    return np.asarray(brief(policy, {"scene": told, "joints": HOME}).reset(1, 5)["plan"])


def test_wrong_object_plans_as_if_the_other_were_meant() -> None:
    right, wrong = ScriptedPolicy("push"), load_policy("scripted+wrong_object", WHERE)
    told, swapped = scene(), scene()
    swapped["objects"].reverse()
    assert np.array_equal(plan_of(wrong, told), plan_of(right, swapped))
    third = MisledExpert(right, other=2)
    rotated = scene(3)
    rotated["objects"] = [rotated["objects"][k] for k in (2, 1, 0)]
    assert np.array_equal(plan_of(third, scene(3)), plan_of(right, rotated))
    assert np.array_equal(plan_of(MisledExpert(right, other=3), scene(3)), plan_of(wrong, scene(3)))
    assert told == scene(), "the scene told is not written to"


def test_wrong_object_in_an_empty_scene_is_a_place_beside() -> None:
    wrong = load_policy("scripted+wrong_object", WHERE)
    beside = scene(1)
    beside["objects"][0]["y"] -= 0.2
    assert np.array_equal(plan_of(wrong, scene(1)), plan_of(ScriptedPolicy("push"), beside))


@pytest.mark.parametrize("task", ["push", "reach"])
def test_wrong_goal_is_off_by_its_distance(task: str) -> None:
    expert = MisledExpert(ScriptedPolicy(task), shift=0.06)
    moved = [expert._changed(scene(goal=task == "push"), seed) for seed in range(20)]
    true = scene()
    if task == "push":
        offsets = np.array([m["goal"][:2] for m in moved]) - true["goal"][:2]
        assert all(m["objects"] == true["objects"] and m["goal"][2] == 0.06 for m in moved)
    else:
        offsets = np.array([[m["objects"][0]["x"], m["objects"][0]["y"]] for m in moved]) - [0.4, 0.1]
        assert all(m["objects"][1] == true["objects"][1] for m in moved)
    assert np.linalg.norm(offsets, axis=1) == pytest.approx(0.06)
    assert np.abs(offsets.mean(0)).max() < 0.03, "in every direction"


# Misuse ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: effects.Noise(WHERE, -0.1), "action noise: given -0.1, expected zero or more"),
        (lambda: effects.Noise(WHERE, 0.1, hold=0), "steps that noise is held: given 0"),
        (lambda: effects.Bias(WHERE, float("nan")), "action bias: given nan"),
        (lambda: effects.Scaled(WHERE, float("inf")), "factor of speeds: given inf"),
        (lambda: effects.Scaled(WHERE, -1, 7), "entry of the action: given 7, expected one of the arm's 7"),
        (lambda: effects.Delayed(WHERE, 0), "steps of delay: given 0"),
        (lambda: effects.GripperStuck(WHERE, 2.0), "position of a stuck gripper: given 2.0"),
        (lambda: effects.Frozen(WHERE, -1), "step to freeze at: given -1"),
        (lambda: effects.RandomShare(WHERE, 1.5), "share of random actions: given 1.5"),
        (lambda: MisledExpert(ScriptedPolicy("push"), other=-1), "wrong object: given -1"),
        (lambda: MisledExpert(ScriptedPolicy("push"), shift=float("nan")), "shift of the goal: given nan"),
    ],
)
def test_bad_settings_are_named(make: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        make()


def test_speeds_are_scaled_where_there_are_speeds() -> None:
    with pytest.raises(Unsupported, match="speeds cannot be scaled under control 'joint_position'"):
        effects.Scaled(PLACES, 0.5)


def test_gripper_effects_need_a_gripper(monkeypatch: pytest.MonkeyPatch) -> None:
    where = PolicyContext()
    object.__setattr__(where, "arm", np.ones(8, bool))
    for make in (lambda: effects.GripperStuck(where, 0.0), lambda: effects.Delayed(where, 1, gripper=False)):
        with pytest.raises(Unsupported, match="robot 'panda_robotiq' has no gripper to act on"):
            make()


def test_effects_are_effects() -> None:
    made: list[Effect] = [effects.Noise(WHERE, 0.1), effects.Frozen(WHERE, 1), effects.Delayed(WHERE, 1)]
    assert all(set(effect.begin(np.arange(2))) for effect in made)
