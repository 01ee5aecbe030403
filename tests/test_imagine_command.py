"""`vap-sim imagine`: a demonstration or a learned motion in, a film of the dream and what was done out; refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from vap_sim.cli import main
from vap_sim.data.video_file import read_video, video_frame_rate
from vap_sim.viewer.video import write_mp4

pytest.importorskip("diffusers")
CAPTION = ["--demo-caption", "a push"]


@pytest.fixture(scope="module", name="files")
def _files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny world, the weights of all conditioners, a released folder, a video, a photo and a broken one."""
    from tests.models.conditioners.test_opening import shelf

    folder = shelf(tmp_path_factory.mktemp("imagine"))
    source = np.random.default_rng(0)
    write_mp4(folder / "clip.mp4", source.integers(0, 256, (7, 40, 60, 3), np.uint8), 10.0, quality=0)
    cv2.imwrite(str(folder / "photo.png"), source.integers(0, 256, (90, 100, 3), np.uint8))
    (folder / "text.png").write_text("no picture")
    return folder


def imagine(files: Path, system: str, out: Path, *options: str) -> int:
    told = ["--start", "push_00", "--demo", "{}/clip.mp4", "--world", "{}/world", "--out", str(out), "--threads", "1"]
    return main(["imagine", "--with", system, *(word.format(files) for word in [*told, *options])])


def film(path: Path) -> np.ndarray:
    return read_video(path).numpy()


def dream(path: Path) -> np.ndarray:
    """The right half of the film, without its head."""
    return film(path)[:, 32:, -384:]


def about(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.with_suffix(".json").read_text()))


def test_a_demonstration_is_shown_beside_the_dream_it_made(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "out.mp4"
    weights = ["--weights", "{}/prism.safetensors", *CAPTION]
    assert imagine(files, "action_prism", out, *weights, "--frames", "7", "--seed", "3") == 0
    said = capsys.readouterr().out
    assert "dreamt 7 pictures with action_prism" in said and f"written: {out}, {out.with_suffix('.json')}" in said
    assert "note: demonstration resampled from 7 to 17 frames and from 60 x 40 to 48 x 32 pixels" in said
    pictures = film(out)
    assert pictures.shape == (7, 32 + 256, 2 * 384, 3) and video_frame_rate(out) == 5.0
    shown = read_video(files / "clip.mp4").numpy()
    seen = cv2.resize(shown[3], (48, 32), interpolation=cv2.INTER_AREA).repeat(8, 0).repeat(8, 1)
    assert np.abs(pictures[3, 32:, :384].astype(int) - seen).mean() < 25, "the middle of the demonstration"
    told = about(out)
    assert (told["with"], told["caption"], told["frames"], told["seed"]) == ("action_prism", told["caption"], 7, 3)
    assert told["demonstration"]["caption"] == "a push" and told["demonstration"]["frames"] == 7
    assert told["start"] == {"given": "push_00", "size": [128, 128], "fitted_to": [48, 32]}
    assert told["conditioner"]["blocks"] == [0, 1] and "resampled" in told["notes"][0]
    assert {path.name for path in out.parent.iterdir()} == {"out.mp4", "out.json"}
    # The same again is the same, a weaker one is another, and without strength the demonstration is not heard.
    films = {}
    for scale in ("1.0", "0.5", "0"):
        assert imagine(files, "action_prism", out, *weights, "--frames", "7", "--seed", "3", "--scale", scale) == 0
        films[scale] = dream(out)
    assert np.array_equal(films["1.0"], pictures[:, 32:, -384:])
    assert not np.array_equal(films["0.5"], films["1.0"]) and not np.array_equal(films["0"], films["1.0"])


def test_a_photo_and_a_folder_that_brings_its_expert(files: Path, tmp_path: Path) -> None:
    """The released layout, and a picture of one's own, of which the middle is taken."""
    from vap_sim.models.cogvideox.loading import HEADER

    told = {"size": [48, 32], "tiny_codec": 8, "hashed_words": True, "settings": {"steps": 2, "guidance": 1.0}}
    (files / "released" / HEADER).write_text(json.dumps({"world": "cogvideox", "format": 1, **told}))
    options = ["--world", "{}/released", "--start", "{}/photo.png", "--caption", "push it", *CAPTION]
    assert imagine(files, "video_as_prompt", tmp_path / "a.mp4", *options) == 0
    found = about(tmp_path / "a.mp4")
    assert found["weights"] == "the world's own" and found["caption"] == "push it"
    assert found["world"]["settings"]["mode"] == "chunk" and found["start"]["size"] == [100, 90]
    assert found["frames"] == 17, "as many as the clips the model was trained with"
    photo = cv2.imread(str(files / "photo.png"))[11:78, :, ::-1]
    middle = cv2.resize(np.ascontiguousarray(photo), (48, 32), interpolation=cv2.INTER_AREA).repeat(8, 0).repeat(8, 1)
    assert np.abs(dream(tmp_path / "a.mp4")[0].astype(int) - middle).mean() < 12
    assert imagine(files, "video_as_prompt", tmp_path / "b.mp4", *options, "--reference-guidance", "4") == 0
    assert about(tmp_path / "b.mp4")["world"]["settings"]["reference_guidance"] == 4.0
    assert not np.array_equal(dream(tmp_path / "b.mp4"), dream(tmp_path / "a.mp4"))


def test_a_learned_motion_needs_no_demonstration(files: Path, tmp_path: Path) -> None:
    both = ["--weights", "{}/wave.safetensors", "{}/bow.safetensors", "--frames", "9"]
    films = []
    for motion in (["wave"], ["bow"], ["wave", "bow"]):
        assert imagine(files, "flexiact", tmp_path / "m.mp4", *both, "--motion", *motion) == 0
        films.append(dream(tmp_path / "m.mp4"))
        assert about(tmp_path / "m.mp4")["motion"] == motion
    assert about(tmp_path / "m.mp4")["demonstration"]["read"] is False
    assert not np.array_equal(films[0], films[1]) and not np.array_equal(films[1], films[2])
    told = ["imagine", "--with", "flexiact", "--start", "push_00", "--world", f"{files}/world", "--motion", "wave"]
    worn = ["--weights", f"{files}/wave.safetensors", "--adapter", f"{files}/adapter.safetensors", "--threads", "1"]
    assert main([*told, *worn, "--out", str(tmp_path / "alone.mp4")]) == 0
    assert film(tmp_path / "alone.mp4").shape[2] == 384 and about(tmp_path / "alone.mp4")["demonstration"] is None


@pytest.mark.parametrize(
    ("system", "options", "words"),
    [
        ("video_as_prmopt", [], "unknown system for --with 'video_as_prmopt'. Did you mean 'video_as_prompt'?"),
        ("action_prism", [], "--demo-caption: given None, expected what is seen in"),
        ("action_prism", [*CAPTION, "--motion", "wave"], "--motion: given ['wave'], expected none"),
        ("action_prism", [*CAPTION, "--out", "a.avi"], "--out: given a.avi, expected a name that ends in .mp4"),
        ("action_prism", [*CAPTION, "--frames", "1"], "--frames: given 1"),
        ("action_prism", [*CAPTION, "--adapter", "a"], "--adapter: given a, expected none but with flexiact"),
        ("action_prism", [*CAPTION, "--start", "push_0"], "unknown start 'push_0'. Did you mean 'push_0"),
        ("action_prism", [*CAPTION, "--start", "{}/none.png"], "none.png: no such picture"),
        ("action_prism", [*CAPTION, "--start", "{}/text.png"], "text.png: is no picture that can be read"),
        ("action_prism", [*CAPTION, "--demo", "{}/none.mp4"], "none.mp4: no such video file"),
        ("action_prism", CAPTION, "--weights: given None, expected files of action_prism"),
        ("action_prism", [*CAPTION, "--world", "{}/none"], "none: no such folder"),
        ("action_prism", [*CAPTION, "--world", "{}"], "not a CogVideoX folder: it has no transformer/config.json"),
        ("video_as_prompt", [*CAPTION, "--world", "{}/control"], "is no world but a control of Visual Action Prompts"),
        ("video_as_prompt", [*CAPTION, "--weights", "{}/control"],
         "holds a control of Visual Action Prompts, expected an expert of Video-As-Prompt; both papers are called VAP"),
        ("action_prism", [*CAPTION, "--weights", "{}/expert.safetensors"], "holds an expert of Video-As-Prompt"),
        ("action_prism", [*CAPTION, "--weights", "{}/prism.pt"], "prism.pt: is a pickle file"),
        ("flexiact", ["--weights", "{}/wave.safetensors"], "--motion: given None, expected names of learned motions"),
        ("flexiact", ["--weights", "{}/wave.safetensors", "--motion", "wavy"], "unknown learned motion 'wavy'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(
    files: Path, tmp_path: Path, system: str, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "no" / "a.mp4"
    assert imagine(files, system, out, *options) == 1
    shown = capsys.readouterr()
    last = shown.err.splitlines()[-1]
    assert last.startswith("vap-sim: ") and words in last and "Traceback" not in shown.err
    assert shown.out == "" and not out.parent.exists()


def test_a_clip_of_one_frame_shows_no_action(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_mp4(tmp_path / "one.mp4", torch.zeros(1, 32, 48, 3, dtype=torch.uint8).numpy(), 5.0)
    options = ["--weights", "{}/expert.safetensors", "--demo", str(tmp_path / "one.mp4"), *CAPTION]
    assert imagine(files, "video_as_prompt", tmp_path / "a.mp4", *options) == 1
    assert "T at least 2: motion is shown" in capsys.readouterr().err
