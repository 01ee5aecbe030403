"""The detector: a reader that is independent of batch and shape, and the shipped one's own error on true pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vap_sim.envs.scenes import COLORS
from vap_sim.envs.start import load_start, shipped_starts
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.metrics.detector import (
    BODIES,
    BODY_CLASSES,
    CLASSES,
    DETECTED_COLORS,
    ROBOT,
    WEIGHTS,
    Detector,
    DetectorConfig,
    DetectorNet,
    class_labels,
    class_number,
    describe,
    object_masks,
    scene_things,
    score,
)
from vap_sim.models.checkpoint import read_description, save_tensors
from vap_sim.prompts.silhouette import silhouettes
from vap_sim.robots.library import load_robot


@pytest.fixture(scope="module")
def shipped() -> Detector:
    return Detector.load()


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def drawn_scene() -> tuple[torch.Tensor, torch.Tensor]:
    """A grey picture with a red and a blue disc, and its labels."""
    picture = np.full((128, 128, 3), 150, np.uint8)
    labels = np.zeros((128, 128), np.uint8)
    down, across = np.mgrid[:128, :128]
    for color, x, y in (("red", 40, 90), ("blue", 80, 80)):
        disc = np.hypot(across - x, down - y) < 6
        picture[disc] = np.round(np.array(COLORS[color]) * 200)
        labels[disc] = class_number(color)
    return torch.from_numpy(picture), torch.from_numpy(labels)


def test_colors_are_those_of_the_scenes() -> None:
    assert sorted(COLORS) == list(DETECTED_COLORS)


def test_a_picture_alone_reads_as_in_a_batch_and_axes_are_kept(shipped: Detector, pictures: torch.Tensor) -> None:
    together = shipped.labels(pictures)
    assert together.dtype == torch.uint8
    alone = torch.stack([shipped.labels(picture) for picture in pictures])
    assert float((alone != together).float().mean()) < 1e-3  # sums may be grouped otherwise where two classes tie
    assert torch.equal(shipped.labels(pictures[None, :, None])[0, :, 0], together)
    many = shipped.labels(pictures[:1].expand(20, -1, -1, -1))  # more than fit into one pass
    assert many.shape == (20, 64, 64)
    assert torch.equal(many[19], many[0])


def test_known_colors_exclude_all_others(shipped: Detector, pictures: torch.Tensor) -> None:
    labels = shipped.labels(pictures, ("green", "red"))
    assert set(labels.unique().tolist()) <= {0, 1, class_number("green"), class_number("red")}
    assert set(shipped.labels(pictures, ()).unique().tolist()) <= {0, 1}


def test_objects_are_found_where_they_are(shipped: Detector) -> None:
    picture, labels = drawn_scene()
    found = shipped.objects(picture, ("blue", "red"))
    truth = object_masks(labels, ("blue", "red"))
    assert found.shape == truth.shape == (2, 128, 128)
    overlap = (found & truth).sum((1, 2)) / (found | truth).sum((1, 2))
    assert float(overlap.min()) > 0.7
    assert int(shipped.robot(picture).sum()) < 200


@pytest.mark.parametrize(("path", "classes"), [(WEIGHTS, CLASSES), (BODIES, BODY_CLASSES)], ids=["droid", "bodies"])
def test_the_shipped_weights_are_small_and_tell_their_own_error(path: Path, classes: tuple[str, ...]) -> None:
    assert path.stat().st_size < 2**20
    assert Detector.load(path).classes == classes
    own = read_description(path)["validation"]
    assert own["robot_iou"] > 0.9
    assert own["object_iou"] > 0.75
    assert own["missed"] < 0.05


@pytest.mark.parametrize("station", ["DROID", "Bridge", "RT1", "EgoVid"])
def test_the_detector_of_bodies_finds_robots_and_things_in_the_starts_of_every_station(station: str) -> None:
    detector, shared, united = Detector.load(BODIES), 0, 0
    for name in shipped_starts(station=station):
        start = load_start(name)
        assert start.scene is not None
        frame, things = start.frames[:1], scene_things(start.scene)
        labels = detector.labels(frame, things)
        pixels = object_masks(labels, things, detector.classes).sum((-2, -1))
        assert int(pixels.min()) >= 12, (name, things, pixels)
        expected = silhouettes(load_robot(start.robot), start.joints[None, None], start.cameras[:1])[:, 0]
        shared += int(((labels == ROBOT) & expected).sum())
        united += int(((labels == ROBOT) | expected).sum())
    assert shared / united > 0.85


def test_weights_survive_a_round_trip(tmp_path, shipped: Detector, pictures: torch.Tensor) -> None:
    path = tmp_path / "detector.safetensors"
    save_tensors(path, shipped.network.state_dict(), describe(shipped.network))
    assert torch.equal(Detector.load(path).labels(pictures), shipped.labels(pictures))


def test_twin_labels_become_classes_and_masks() -> None:
    raw = np.array([[0, 1], [2, 3]], np.uint8)
    labels = class_labels(raw, ("red", "blue"))
    assert [CLASSES[number] for number in labels.ravel()] == ["other", "robot", "red", "blue"]
    masks = object_masks(torch.from_numpy(labels), ("blue", "red"))
    np.testing.assert_array_equal(masks[0], raw == 3)
    np.testing.assert_array_equal(masks[1], raw == 2)


def test_a_drawer_is_known_to_those_that_learnt_it_alone() -> None:
    scene = {"objects": [{"color": "red"}], "cabinets": [{}]}
    things = scene_things(scene)
    assert things == ("red", "drawer")
    raw = np.array([[0, 1], [2, 3]], np.uint8)
    with pytest.raises(UnknownName, match="unknown thing to detect 'drawer'"):
        class_labels(raw, things)
    labels = torch.from_numpy(class_labels(raw, things, BODY_CLASSES))
    assert [BODY_CLASSES[number] for number in labels.ravel()] == ["other", "robot", "red", "drawer"]
    np.testing.assert_array_equal(object_masks(labels, things, BODY_CLASSES)[1], raw == 3)
    assert score([labels[None]], [labels[None]], [things], least=1, classes=BODY_CLASSES).object_iou == 1
    with pytest.raises(InvalidInput, match="cabinets of a scene to be read: given 2"):
        scene_things({**scene, "cabinets": [{}, {}]})


def test_labels_number_the_classes_of_the_file(tmp_path, pictures: torch.Tensor) -> None:
    config = DetectorConfig((8, 8, 8, 8), ("other", "robot", "drawer", "red"))
    path = tmp_path / "few.safetensors"
    network = DetectorNet(config)
    save_tensors(path, network.state_dict(), describe(network))
    few = Detector.load(path)
    assert few.classes == config.classes
    assert set(few.labels(pictures, ("red",)).unique().tolist()) <= {0, 1, 3}
    torch.testing.assert_close(few.objects(pictures, ("drawer",))[:, 0], few.labels(pictures, ("drawer",)) == 2)
    with pytest.raises(UnknownName, match="unknown thing to detect 'blue'"):
        few.labels(pictures, ("blue",))


def test_score_by_hand() -> None:
    truth = torch.zeros(1, 4, 12, dtype=torch.uint8)
    truth[0, 0, :8] = 1
    truth[0, 1:3, :6] = class_number("red")
    truth[0, 3] = class_number("blue")
    found = truth.clone()
    found[0, 0, 4:8] = 0  # half of the robot
    found[0, 3, 1:] = 0  # a twelfth of the blue object is left
    own = score([found], [truth], [("red", "blue")])
    assert own.robot_iou == pytest.approx(0.5)
    assert own.object_iou == pytest.approx((1 + 1 / 12) / 2)
    assert (own.missed, own.visible) == (0.5, 2)
    assert score([truth], [truth], [("red", "blue")]).missed == 0


def test_wrong_arguments_are_named(shipped: Detector) -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.uint8)
    with pytest.raises(InvalidInput, match=r"frames: given torch.uint8 \(60, 64, 3\), expected .* multiples of 16"):
        shipped.labels(torch.zeros(60, 64, 3, dtype=torch.uint8))
    with pytest.raises(InvalidInput, match=r"frames: given torch.float32"):
        shipped.robot(torch.zeros(64, 64, 3))
    with pytest.raises(UnknownName, match=r"unknown thing to detect 'rad'. Did you mean 'red'"):
        shipped.objects(torch.zeros(64, 64, 3, dtype=torch.uint8), ("rad",))
    with pytest.raises(InvalidInput, match="an object number 1, expected 1 objects"):
        class_labels(np.array([3], np.uint8), ("red",))
    with pytest.raises(InvalidInput, match="1 found, 2 true, 1 lists of things"):
        score([labels], [labels, labels], [()])
    with pytest.raises(InvalidInput, match="0 robot pixels, 0 visible objects"):
        score([labels], [labels], [()])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": "other"}, "field 'classes' is 'other', expected names"),
        ({"classes": ["other"]}, "field 'classes': .* expected other, robot, and different things"),
        (
            {"classes": ["other", "robot", "red", "red"]},
            "field 'classes': .* expected other, robot, and different things",
        ),
        ({"network": {}}, "field 'network' of its description: KeyError"),
        ({"network": {"widths": [8, 8, 8, 8]}}, "expected"),
    ],
)
def test_foreign_weights_are_refused(tmp_path, change: dict, words: str) -> None:
    network = DetectorNet(DetectorConfig((8, 8, 8, 16)))
    path = tmp_path / "detector.safetensors"
    save_tensors(path, network.state_dict(), {**json.loads(json.dumps(describe(network))), **change})
    with pytest.raises(BadFile, match=words):
        Detector.load(path)
