"""Cloning: what was demonstrated is learned, written, read and refused by name; a broken run goes on to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.policies.test_registry import episode
from vap_sim.colors import COLORS
from vap_sim.data.twin import save_episode
from vap_sim.envs.world_env import WorldEnv
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.checkpoint import load_tensors, save_tensors
from vap_sim.policies.clone_network import CloneConfig, CloneNetwork, told
from vap_sim.policies.cloning import CloneRecipe, CloneTraining, clone, new_network, save_clone
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.demonstrations import Demonstrations, collect, demonstration, joined, load_demonstrations
from vap_sim.policies.plan_policy import ReplayPolicy
from vap_sim.policies.policy import brief
from vap_sim.policies.registry import load_policy
from vap_sim.training.loop import LoopSettings

WHERE = PolicyContext()


def spots(episodes: int = 12, steps: int = 6, seed: int = 0) -> Demonstrations:
    """Pictures with a bright spot; the action is where the spot is, the other way round if told "left"."""
    rng, parts = np.random.default_rng(seed), []
    for number in range(episodes):
        image = np.zeros((steps, 64, 64, 3), np.uint8)
        places = rng.integers(8, 56, (steps, 2))
        for picture, (x, y) in zip(image, places, strict=True):
            picture[y - 3 : y + 4, x - 3 : x + 4] = 255
        actions = np.zeros((steps, 8), np.float32)
        actions[:, :2] = (places - 32) / 32 * (-1 if number % 2 else 1)
        state = rng.normal(0, 0.3, (steps, 8)).astype(np.float32)
        actions[:, 7] = state[:, 0] > 0
        parts.append(demonstration(image, state[:, :7], state[:, 7:], actions, "go left" if number % 2 else "go right"))
    return joined(parts)


def settings(folder: Path, steps: int, **changes: Any) -> LoopSettings:
    return LoopSettings(
        folder, steps, **{"learning_rate": 3e-3, "warmup": 5, "average": 0.9, "checkpoint_every": 3, **changes}
    )


def told_to(policy: Any, text: str, data: Demonstrations, row: int) -> np.ndarray:
    obs = {
        "image": data.image[[row]], "joint_position": data.state[[row], :7], "gripper_position": data.state[[row], 7:]
    }  # fmt: skip
    actor = brief(policy, {"instruction": text})
    return np.asarray(actor.act(obs, actor.reset(1, 0))[0][0])


def test_learns_where_to_look_and_what_it_is_told(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train = spots(40)
    clone(
        train, WHERE, tmp_path / "p.safetensors", settings(tmp_path / "run", 220, cooldown=110),
        chunk=1, width=8, points=8, hidden=64,
    )  # fmt: skip
    policy, shown = load_policy(f"bc@{tmp_path}/p.safetensors"), spots(4, seed=9)
    rows = range(0, len(shown), 2)
    right = np.stack([told_to(policy, "go right", shown, row)[:2] for row in rows])
    left = np.stack([told_to(policy, "go left", shown, row)[:2] for row in rows])
    truth = np.stack([shown.actions[row, :2] * (-1 if shown.episode[row] % 2 else 1) for row in rows])
    assert np.corrcoef(right.ravel(), truth.ravel())[0, 1] > 0.9
    assert np.corrcoef(left.ravel(), truth.ravel())[0, 1] < -0.9


def test_an_interrupted_run_goes_on_to_the_bit(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    data, sizes = spots(3), {"chunk": 2, "width": 4, "points": 4, "hidden": 16}
    whole = clone(data, WHERE, tmp_path / "a", settings(tmp_path / "a.run", 6), **sizes)
    clone(data, WHERE, tmp_path / "b", settings(tmp_path / "b.run", 3), **sizes)
    rest = clone(data, WHERE, tmp_path / "b", settings(tmp_path / "b.run", 6), **sizes)
    assert rest.step == 6 and all(torch.equal(whole.weights[name], rest.weights[name]) for name in whole.weights)
    with pytest.raises(BadFile, match="a checkpoint of"):
        clone(data, WHERE, tmp_path / "b", settings(tmp_path / "b.run", 6), CloneTraining(batch=7), **sizes)


def test_chunks_end_with_their_episode() -> None:
    """What follows an episode's last action is another episode's and teaches nothing."""
    data = spots(3, steps=2)
    network = new_network(data, chunk=5, width=4, points=4, hidden=8)
    recipe = CloneRecipe(network, data, CloneTraining(batch=32, state_noise=0.0))
    other = Demonstrations(data.image, data.state, data.actions.copy(), data.episode, data.instructions)
    first = recipe.loss(0)[0]
    assert torch.equal(CloneRecipe(network, other, recipe.training).loss(0)[0], first)
    inside = Demonstrations(
        data.image, data.state, data.actions, np.zeros(len(data), np.int64), (data.instructions[0],)
    )
    network_words = CloneRecipe(network, inside, recipe.training).loss(0)[0]
    assert not torch.equal(network_words, first)


def test_recordings_become_demonstrations(tmp_path: Path) -> None:
    save_episode(tmp_path / "a.vap.npz", episode(instruction="push the cube"))
    save_episode(tmp_path / "b.vap.npz", episode())
    data = load_demonstrations(tmp_path, WHERE)
    assert len(data) == 6 and data.instructions == ("push the cube", "") and data.image.shape == (6, 64, 64, 3)
    assert data.episode.tolist() == [0, 0, 0, 1, 1, 1] and data.state.shape == (6, 8)
    assert np.array_equal(data.actions[:3], episode().actions)
    for changes, words in (
        ({"robot": "other"}, "field 'robot' is 'other', expected 'panda_robotiq'"),
        ({"control_dt": 0.1}, "field 'control_dt' is 0.1, expected 0.2"),
        ({"control_dt": None}, "field 'control_dt' is None"),
        ({"actions": np.zeros((2, 7), np.float32)}, r"actions: shape \(2, 7\), expected \(T, 8\)"),
    ):
        save_episode(tmp_path / "b.vap.npz", episode(**changes))
        with pytest.raises(BadFile, match=words):
            load_demonstrations(tmp_path, WHERE)


def test_a_policy_at_work_becomes_demonstrations() -> None:
    env = WorldEnv(world="kinematic", start="push_00")
    tape = np.random.default_rng(0).uniform(0, 0.2, (3, 8)).astype(np.float32)
    data = collect(env, ReplayPolicy(tape), 2, steps=3)
    assert len(data) == 6 and len(data.instructions) == 2 and "push" in data.instructions[0]
    assert np.array_equal(data.actions, np.concatenate([tape, tape]))
    first, _ = env.reset(seed=0)
    assert data.state[0] == pytest.approx(np.concatenate([first["joint_position"], first["gripper_position"]]))
    with pytest.raises(InvalidInput, match="demonstrations: given 0 episodes of 3 steps"):
        collect(env, ReplayPolicy(tape), 0, steps=3)


def test_files_are_refused_by_name(tmp_path: Path) -> None:
    data, path = spots(2), tmp_path / "p.safetensors"
    save_clone(path, new_network(data, width=4, points=4, hidden=8), WHERE, {})
    load_policy(f"bc@{path}", execute=2)
    for context in (PolicyContext(control="joint_position"), PolicyContext(control_hz=15.0)):
        with pytest.raises(BadFile, match="field 'context' of its header is"):
            load_policy(f"bc@{path}", context)
    tensors, header = load_tensors(path)
    for changes, words in (
        ({"policy": "another"}, "field 'policy' of its header is 'another', expected 'clone'"),
        ({"network": None}, "field 'network' of its header does not describe one"),
        ({"network": {**header["network"], "chunk": 0}}, "'chunk' of a cloned policy: given 0"),
        ({"network": {**header["network"], "size": 65}}, "'size' of a cloned policy: given 65"),
        ({"network": {**header["network"], "words": ["b", "a"]}}, "'words' of a cloned policy"),
        ({"network": {**header["network"], "depth": 3}}, "does not describe one .*depth"),
        ({"network": {**header["network"], "hidden": 9}}, "tensor 'dense.0.bias' is"),
        ({"network": {**header["network"], "actions": 7}}, "tensor 'action_mean' is"),
    ):
        save_tensors(path, tensors, {**header, **changes})
        with pytest.raises(BadFile, match=words):
            load_policy(f"bc@{path}")
    with pytest.raises(BadFile, match="no such weights file"):
        load_policy(f"bc@{tmp_path}/none.safetensors")


def test_a_named_color_is_seen_where_it_is() -> None:
    """In any light, whatever else is said, and each picture by its own words."""
    words = ("blue", "cube", "push", "red", "the")
    network = CloneNetwork(CloneConfig(8, 8, words, looks=True, width=4))
    image = torch.full((3, 3, 64, 64), 0.2)
    for x, color in ((0, "red"), (32, "blue")):
        image[:, :, 8:24, x : x + 16] = torch.tensor(COLORS[color])[:, None, None] * 2 * 0.7 - 1
    texts = ("push the red cube", "push the blue cube", "push the cube")
    seen = network._likeness(image, told(texts, words))[:, 0]
    assert seen.shape == (3, 64, 64)
    red, blue = seen[:, 8:24, :16], seen[:, 8:24, 32:48]
    assert red[0].min() > 0.9 and blue[1].min() > 0.9
    seen[0, 8:24, :16], seen[1, 8:24, 32:48] = 0, 0
    assert seen.max() < 0.1
    assert not network._likeness(image, told(("push the cube",) * 3, words)).any()
    together = network(image, torch.zeros(3, 8), told(texts, words))
    for row, text in enumerate(texts):
        alone = network(image[row : row + 1], torch.zeros(1, 8), told((text,), words))
        torch.testing.assert_close(alone[0], together[row])


def test_a_policy_from_before_colors_were_shown_is_still_read(tmp_path: Path) -> None:
    network = CloneNetwork(CloneConfig(8, 8, ("go", "left"), width=4))
    save_clone(tmp_path / "old.safetensors", network, WHERE, {})
    tensors, header = load_tensors(tmp_path / "old.safetensors")
    del header["network"]["looks"]
    save_tensors(tmp_path / "older.safetensors", tensors, header)
    data = spots(2)
    one, other = (load_policy(f"bc@{tmp_path}/{name}.safetensors") for name in ("old", "older"))
    assert np.array_equal(told_to(one, "go left", data, 0), told_to(other, "go left", data, 0))


def test_misuse_is_named() -> None:
    data = spots(2)
    with pytest.raises(InvalidInput, match="instruction for a cloned policy: given 'jump', expected one with words"):
        told(("go left", "jump"), ("go", "left"))
    assert told(("anything",), ()).tolist() == [[0.0]]
    assert told(("Go LEFT!",), ("go", "left", "right")).tolist() == [[1.0, 1.0, 0.0]]
    with pytest.raises(InvalidInput, match="demonstrations: picture, state and action sizes"):
        CloneRecipe(
            new_network(spots(2)),
            demonstration(data.image[:2], data.state[:2, :5], data.state[:2, 7:], data.actions[:2]),
        )
    with pytest.raises(InvalidInput, match="demonstrations to join"):
        joined([])
    for changes, words in (
        ({"image": data.image[:, :5]}, "pictures of demonstrations"),
        ({"image": data.image.astype(np.float32)}, "pictures of demonstrations: given float32"),
        ({"state": data.state[:3]}, "state of demonstrations"),
        ({"actions": data.actions * np.nan}, "actions of demonstrations"),
        ({"episode": data.episode[::-1]}, "episode of demonstrations"),
        ({"instructions": ("one",)}, "instructions: given 1, expected 2"),
    ):
        with pytest.raises(InvalidInput, match=words):
            Demonstrations(**{**vars(data), **changes})
    with pytest.raises(InvalidInput, match="pictures of a demonstration"):
        demonstration(data.image[0], data.state, data.state, data.actions)
    assert CloneConfig(8, 8).words == ()
