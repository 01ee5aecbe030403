"""The commands `adapt` and `replay`: from prepared clips to weights that say what they learned, videos and figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.station_clips import camera, make_clip, write_set
from tests.training.conftest import make_network
from vap_sim.cli import main
from vap_sim.commands.adapt import detector_beside, split_recordings
from vap_sim.commands.replay_stages import learned_clips
from vap_sim.errors import InvalidInput
from vap_sim.models.checkpoint import load_tensors, read_description, save_tensors
from vap_sim.models.compact.contact import ContactNet
from vap_sim.models.registry import load_world

CLIPS = ("a", "b", "c")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    write_set(folder, [make_clip(name, length=6) for name in CLIPS])
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of a small network for pictures of 64 x 64."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    network = make_network()
    shape: dict[str, Any] = {name: {"widths": [8, 8], "blocks": [1, 1]} for name in ("scene", "motion", "robot")}
    save_tensors(path, network.state_dict(), {"network": {"size": 64, "style": 4, **shape}, "profile": "compact"})
    return path


def adapt(clips: Path, out: Path, tiny: Path, *options: str) -> int:
    given = ["--weights", str(tiny), "--threads", "1", "--scenes", "1", "--cooldown", "0", "--detector-steps", "0"]
    return main(["adapt", str(clips), "--out", str(out), *given, *options])


def replay(clips: Path, weights: Path | str, out: Path, *options: str) -> int:
    return main(["replay", str(clips), "--weights", str(weights), "--out", str(out), "--threads", "1", *options])


@pytest.fixture(scope="module")
def adapted(clips: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps on two clips, with a detector, which is small here."""
    from vap_sim.metrics import detector

    out = tmp_path_factory.mktemp("run") / "station.safetensors"
    small = detector.Detector(detector.DetectorNet(detector.DetectorConfig((8, 8))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector.Detector, "load", classmethod(lambda kind, path=None, device="cpu": small))
        assert adapt(clips, out, tiny, "--steps", "2", "--held-out", "1", "--detector-steps", "1") == 0
    return out


def test_weights_say_what_they_learned_and_leave_motion_alone(adapted: Path, tiny: Path) -> None:
    told = read_description(adapted)["adapted"]
    assert told["clips"] == ["a", "b"] and told["held_out"] == ["c"] and (told["step"], told["steps"]) == (2, 2)
    before, after = load_tensors(tiny)[0], load_tensors(adapted)[0]
    assert set(before) == set(after)
    changed = {name for name in before if not torch.equal(before[name].to(torch.bfloat16), after[name])}
    assert changed and not any(name.startswith("motion.") for name in changed)
    assert any(name.startswith("scene.") for name in changed) and any(name.startswith("robot.") for name in changed)
    assert detector_beside(adapted).is_file() and (adapted.with_suffix("") / "pictures" / "checkpoint.json").is_file()


@pytest.mark.parametrize("lora", ["0", "2"])
def test_the_same_command_goes_on(clips: Path, tiny: Path, tmp_path: Path, lora: str) -> None:
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    for out, steps in ((whole, "2"), (broken, "1"), (broken, "2")):
        assert adapt(clips, out, tiny, "--steps", steps, "--lora", lora, "--learning-rate", "0.01") == 0
    one, other = load_tensors(whole)[0], load_tensors(broken)[0]
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not all(torch.equal(one[name], value.to(torch.bfloat16)) for name, value in load_tensors(tiny)[0].items())


def test_it_stops_in_time_and_writes_what_there_is(
    clips: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "station.safetensors"
    assert adapt(clips, out, tiny, "--minutes", "0") == 0
    assert "step 0 of 3000 on 3 views of 3 clips, 0 clips held out" in capsys.readouterr().out
    assert all(torch.equal(v.to(torch.bfloat16), load_tensors(out)[0][n]) for n, v in load_tensors(tiny)[0].items())


def test_a_station_whose_table_is_not_known_moves_things_by_sight(clips: Path, tiny: Path, tmp_path: Path) -> None:
    tensors, description = load_tensors(tiny)
    touch = {f"contact.{name}": value for name, value in ContactNet().state_dict().items()}
    touched, out = tmp_path / "touched.safetensors", tmp_path / "station.safetensors"
    save_tensors(touched, tensors | touch, {**description, "network": {**description["network"], "contact": True}})
    assert adapt(clips, out, touched, "--steps", "1") == 0
    assert set(load_tensors(out)[0]) == set(tensors)
    assert not read_description(out)["network"]["contact"] and not load_world(out).spec.reads_bones


def test_clips_of_one_recording_stay_together() -> None:
    made = [make_clip(name, length=2, source=source) for name, source in (("a", "x"), ("b", "y"), ("c", "y"))]
    learned, held = split_recordings(made, 1)
    assert ([clip.name for clip in learned], [clip.name for clip in held]) == (["a"], ["b", "c"])
    assert split_recordings(made, 0) == (tuple(made), ())
    with pytest.raises(InvalidInput, match="--held-out: given 2, expected 0 or more, and fewer than the 2 recordings"):
        split_recordings(made, 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--lora", "-1"), "--lora: given -1"),
        (("--steps", "0"), "--steps: given 0, expected 1 or more"),
        (("--learning-rate", "0"), "--learning-rate: given 0.0"),
        (("--device", "cudo"), "--device: given cudo"),
        (("--weights", "nowhere.safetensors"), "no such weights file"),
        (("--margin", "0.6"), "margin around the robot: given 0.6"),
    ],
)
def test_what_cannot_be_done_is_named_at_once(
    clips: Path, tiny: Path, tmp_path: Path, options: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adapt(clips, tmp_path / "a.safetensors", tiny, *options) == 1
    assert words in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_replay_writes_videos_and_figures(
    clips: Path, adapted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import av

    assert replay(clips, adapted, tmp_path, "--sheet") == 0
    record = json.loads((tmp_path / "replay.json").read_text())
    assert [(one["episode"], one["view"], one["trained_on"]) for one in record["replays"]] == [
        ("a", "side", True), ("b", "side", True), ("c", "side", False)
    ]  # fmt: skip
    assert record["alignment"] == "first"
    for one in record["replays"]:
        assert len(one["steps"]) == 5 and one["detector"] == str(detector_beside(adapted))
        for name, mean in one["mean"].items():
            found = [step[name] for step in one["steps"] if step[name] is not None]
            assert mean == (pytest.approx(np.mean(found)) if found else None), name
    every = [one["mean"]["psnr"] for one in record["replays"]]
    assert record["mean"]["station"]["psnr"] == pytest.approx(np.mean(every))
    with av.open(str(tmp_path / "b.side.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 6
    assert {path.suffix for path in tmp_path.iterdir()} == {".mp4", ".png", ".json", ".csv", ".html"}
    assert "mean: moving" in capsys.readouterr().out


def test_only_what_is_asked_for_is_replayed(clips: Path, adapted: Path, tmp_path: Path) -> None:
    assert learned_clips(str(adapted)) == ("a", "b") and learned_clips("compact") == ()
    assert replay(clips, adapted, tmp_path / "held", "--held-out", "--seconds", "0.4") == 0
    (one,) = json.loads((tmp_path / "held" / "replay.json").read_text())["replays"]
    assert one["episode"] == "c" and len(one["steps"]) == 2
    assert replay(clips, adapted, tmp_path / "named", "--episodes", "b", "--views", "side") == 0
    (one,) = json.loads((tmp_path / "named" / "replay.json").read_text())["replays"]
    assert one["episode"] == "b" and one["trained_on"]


def test_worlds_without_weights_can_be_replayed_too(tmp_path: Path) -> None:
    """The still world is the baseline: it gains nothing over the first picture; a riding camera is left out."""
    clip = make_clip(length=4, size=(128, 128))
    both = {name: np.concatenate([getattr(clip, name)] * 2) for name in ("frames", "robot", "homographies", "kept")}
    mounted = camera((128, 128), "wrist", "panda_link8")
    write_set(tmp_path / "clips", [replace(clip, **both, cameras=(*clip.cameras, mounted))])
    assert replay(tmp_path / "clips", "still", tmp_path / "out") == 0
    record = json.loads((tmp_path / "out" / "replay.json").read_text())
    assert [(one["view"], one["detector"]) for one in record["replays"]] == [("side", None)]
    assert record["mean"]["still"]["gain"] == 0 and "agreement" not in record["mean"]["still"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--episodes", "d"), "unknown episode of"),
        (("--views", "seide"), "Did you mean 'side'?"),
        (("--seconds", "0"), "--seconds: given 0.0"),
    ],
)
def test_what_cannot_be_replayed_is_named(
    clips: Path, adapted: Path, tmp_path: Path, options: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(clips, adapted, tmp_path / "out", *options) == 1
    assert words in capsys.readouterr().err and not (tmp_path / "out" / "replay.json").exists()


def test_nothing_held_out_leaves_nothing_to_replay(
    clips: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "all.safetensors"
    assert adapt(clips, out, tiny, "--steps", "1") == 0
    assert replay(clips, out, tmp_path / "out", "--held-out") == 1
    assert "all others were trained on" in capsys.readouterr().err
