"""The detector's recipe: batches follow from the step, damage keeps shapes, a few steps teach it two flat classes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vap_sim.data.twin import TwinEpisode, save_episode
from vap_sim.errors import BadFile
from vap_sim.metrics.detector import Detector, DetectorConfig, DetectorNet, class_number, describe
from vap_sim.models.checkpoint import save_tensors
from vap_sim.training.detector import (
    DetectorRecipe,
    DetectorTraining,
    Stills,
    damage,
    load_stills,
    score_episodes,
    segmentation_loss,
    train_detector,
    widened,
)
from vap_sim.training.loop import LoopSettings


def flat_episode() -> TwinEpisode:
    """Six frames 32 x 32: a grey robot at the left, a red object at the right."""
    labels = np.zeros((1, 6, 32, 32), np.uint8)
    labels[:, :, :, :12], labels[:, :, 8:24, 20:] = 1, 2
    frames = np.full((1, 6, 32, 32, 3), 20, np.uint8)
    frames[labels == 1], frames[labels == 2] = 200, (220, 30, 30)
    none = np.zeros
    return TwinEpisode(
        frames=frames,
        objects=none((1, 6, 32, 32, 4), np.uint8),
        plate=none((1, 32, 32, 3), np.uint8),
        robot=none((1, 6, 32, 32), np.uint8),
        labels=labels,
        flow=none((1, 6, 2, 16, 16), np.int16),
        joints=none((6, 8), np.float32),
        measured=none((6, 8), np.float32),
        actions=none((5, 8), np.float32),
        object_poses=none((6, 1, 7), np.float32),
        meta={
            "seed": 0,
            "behaviours": ["idle"],
            "robot": "panda_robotiq",
            "control_mode": "joint_velocity",
            "control_dt": 0.2,
            "scene": {"objects": [{"color": "red"}]},
            "cameras": [],
        },
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_episode(tmp_path / "flat.vap.npz", flat_episode())
    return tmp_path


def test_stills_are_every_so_many_frames_with_class_labels(folder: Path) -> None:
    stills = load_stills([folder / "flat.vap.npz"] * 2, 3, progress=False)
    assert stills.frames.shape == (4, 32, 32, 3)
    assert sorted(np.unique(stills.labels)) == [0, 1, class_number("red")]


def test_no_episodes_is_an_error() -> None:
    with pytest.raises(BadFile, match="no episode files"):
        load_stills([], 3)


def test_damage_changes_a_picture_but_not_beyond_recognition() -> None:
    picture = flat_episode().frames[0, 0]
    damaged = [damage(np.random.default_rng(seed), picture) for seed in range(40)]
    assert all(item.shape == picture.shape and item.dtype == np.uint8 for item in damaged)
    changes = [np.abs(item.astype(int) - picture).mean() for item in damaged]
    assert max(changes) > 3
    assert np.mean(changes) < 20
    np.testing.assert_array_equal(damage(np.random.default_rng(3), picture), damaged[3])


def test_the_loss_of_a_sure_and_right_answer_is_zero_and_worse_answers_cost_more() -> None:
    labels = torch.randint(0, 4, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    right = torch.nn.functional.one_hot(labels, 12).permute(0, 3, 1, 2) * 40.0
    assert float(segmentation_loss(right, labels)[0]) == pytest.approx(0, abs=1e-6)
    assert float(segmentation_loss(right * 0, labels)[0]) < float(segmentation_loss(-right, labels)[0])


def test_a_step_sees_the_same_batch_again_and_another_step_another(folder: Path) -> None:
    stills = load_stills([folder / "flat.vap.npz"], 1, progress=False)
    network = DetectorNet(DetectorConfig((8, 8, 8, 8)))
    recipe = DetectorRecipe(network, stills, stills, DetectorTraining(batch=2))
    losses = [float(recipe.loss(step)[0].detach()) for step in (4, 4, 5)]
    assert losses[0] == losses[1] != losses[2]
    assert recipe.preview(0)["labels"].shape == (3, 64, 6 * 32)
    assert all(weight.requires_grad for weight in network.parameters())


def test_training_writes_weights_that_read_what_they_were_shown(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    settings = LoopSettings(tmp_path / "run", steps=40, learning_rate=1e-2, warmup=5, average=0.8, preview_every=40)
    path = train_detector(folder, folder, settings, DetectorTraining(batch=3, every=1, damaged=0.25))
    own = score_episodes(Detector.load(path), [folder / "flat.vap.npz"], every=2)
    assert own.robot_iou > 0.8
    assert own.object_iou > 0.8


def test_a_widened_network_reads_as_before_and_new_classes_start_as_other(folder: Path) -> None:
    narrow = DetectorNet(DetectorConfig((8, 8, 8, 8)))
    wide = widened(narrow, ("other", "robot", "drawer", "red"))
    frames = torch.rand(1, 3, 32, 32)
    old, new = narrow(frames), wide(frames)
    torch.testing.assert_close(new[:, :2], old[:, :2])
    torch.testing.assert_close(new[:, 2], old[:, 0])
    torch.testing.assert_close(new[:, 3], old[:, class_number("red")])


def test_training_goes_on_from_a_file(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    network = DetectorNet(DetectorConfig((8, 8, 8, 8)))
    save_tensors(tmp_path / "start.safetensors", network.state_dict(), describe(network))
    training = DetectorTraining(batch=1, every=5, classes=("other", "robot", "red", "drawer"))
    settings = LoopSettings(tmp_path / "run", steps=1, learning_rate=0.0)
    path = train_detector(folder, folder, settings, training, tmp_path / "start.safetensors")
    grown = Detector.load(path)
    assert grown.classes == training.classes
    frames = torch.from_numpy(flat_episode().frames[0])
    told = Detector(network).labels(frames, ("red",)) == class_number("red")
    assert float(((grown.labels(frames, ("red",)) == 2) != told).float().mean()) < 0.02  # stored as bfloat16


def test_all_views_are_learnt_from(folder: Path) -> None:
    episode = flat_episode()
    twice = {
        name: np.concatenate([getattr(episode, name)] * 2)
        for name in ("frames", "objects", "plate", "robot", "labels", "flow")
    }
    save_episode(folder / "views.vap.npz", replace(episode, **twice))
    assert load_stills([folder / "views.vap.npz"], 3, progress=False).frames.shape == (4, 32, 32, 3)


def test_a_run_goes_on_from_its_checkpoint(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    paths = {}
    for name, stops in (("at once", (2,)), ("in two", (1, 2))):
        for steps in stops:
            settings = LoopSettings(tmp_path / name, steps=steps, warmup=1)
            paths[name] = train_detector(folder, folder, settings, DetectorTraining(batch=1, every=5))
    whole, resumed = (Detector.load(path).network.state_dict() for path in paths.values())
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_flipped_frames_keep_their_labels(folder: Path) -> None:
    stills = Stills(*(np.asarray(part) for part in vars(load_stills([folder / "flat.vap.npz"], 6)).values()))
    recipe = DetectorRecipe(DetectorNet(DetectorConfig((8, 8, 8, 8))), stills, stills, DetectorTraining(damaged=0))
    sides = set()
    for seed in range(12):
        frame, labels = recipe._draw(np.random.default_rng(seed))
        np.testing.assert_array_equal(frame[..., 1] == 200, labels == 1)
        sides.add(bool(labels[0, 0] == 1))
    assert sides == {True, False}
