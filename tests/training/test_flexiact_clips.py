"""Windows of a film: where they lie, what is encoded of them, once, and what is said of a film that is resampled."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from vap_sim.data.video_file import read_video
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.tensor_cache import TensorCache
from vap_sim.training.clips import DataSet
from vap_sim.training.flexiact_clips import CropSettings, open_crops, windows
from vap_sim.training.reference_footage import resized
from vap_sim.viewer.video import write_mp4

pytest.importorskip("diffusers")
SMALL = CropSettings(frames=9, size=(32, 32), frame_rate=8.0, crops=3)


def film(path: Path, frames: int = 12, rate: float = 8.0, size: tuple[int, int] = (48, 40)) -> Path:
    """A square that moves over a soft ground."""
    down, across = np.mgrid[: size[1], : size[0]]
    pictures = []
    for number in range(frames):
        picture = np.stack([60 + across, 200 - 2 * down, 0 * across + 90], axis=-1).astype(np.uint8)
        picture[10:20, 2 * number : 2 * number + 8] = (220, 40, 40)
        pictures.append(picture)
    write_mp4(path, pictures, rate, quality=5)
    return path


def opened(path: Path, cache: Path, settings: CropSettings = SMALL, caption: str = "it moves") -> DataSet:
    from vap_sim.models.cogvideox.codec import TinyCodec

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_crops(
            [path], [caption], settings, TinyCodec(4), TensorCache(cache), motion=("wave",), progress=False
        )


@pytest.mark.parametrize("size", [(64, 48), (48, 64), (30, 20), (720, 480)])
@pytest.mark.parametrize("frames", [5, 9, 40])
def test_windows_lie_inside_and_have_the_models_shape(size: tuple[int, int], frames: int) -> None:
    settings = CropSettings(frames=9, size=(48, 32), crops=40, pictures=3)
    found = windows(frames, size, settings)
    largest = min(size[0] / 48, size[1] / 32)
    assert len(found) == 40
    for number, one in enumerate(found):
        x, y, wide, high = one.box
        assert x >= 0 and y >= 0 and x + wide <= size[0] and y + high <= size[1]
        assert abs(wide / 48 - high / 32) < 1 / 32, "of the model's shape to the pixel"
        assert 0.75 * largest - 0.1 <= wide / 48 <= largest + 1e-6
        assert len(one.frames) == 9 and one.frames[0] >= 0 and one.frames[-1] < frames
        assert len(one.pictures) == 3 and all(0 <= picture < frames for picture in one.pictures)
        steps = np.diff(one.frames)
        if frames > 9:
            assert (steps == 1).all()
        else:
            assert (steps >= 0).all() and set(one.frames) == set(range(frames)), "all of it, in order"
        if not number:
            assert one.box[2] == int(48 * largest) and abs(2 * x + wide - size[0]) <= 1 and one.frames[0] == 0
    assert len({one.box for one in found}) > 20 and (frames <= 9 or len({one.frames[0] for one in found}) > 10)
    assert windows(frames, size, settings) == found
    assert windows(frames, size, CropSettings(frames=9, size=(48, 32), crops=40, seed=1))[1:] != found[1:]


def test_a_window_is_encoded_as_it_is_seen(tmp_path: Path) -> None:
    from vap_sim.models.cogvideox.codec import TinyCodec

    path, codec = film(tmp_path / "wave.mp4"), TinyCodec(4)
    settings = CropSettings(frames=9, size=(32, 32), frame_rate=8.0, crops=3, pictures=2)
    data = opened(path, tmp_path / "cache", settings)
    assert data.name == "wave" and len(data.clips) == 3
    whole = read_video(path)
    for one, window in zip(data.clips, windows(12, (48, 40), settings), strict=True):
        x, y, wide, high = window.box
        seen = resized(whole[:, y : y + high, x : x + wide].contiguous(), (32, 32))
        clip = one.load()
        assert torch.equal(clip.latents, codec.encode(seen[None, list(window.frames)])[0])
        for image, number in zip(clip.images, (window.frames[0], *window.pictures), strict=True):
            assert torch.equal(image, codec.encode(seen[None, number : number + 1])[0, 0])
        assert clip.caption == "it moves" and clip.prompt.motion == ("wave",) and clip.prompt.text == ("it moves",)
        assert clip.prompt.skeleton.shape == (1, 1, 9, 32, 32, 3) and not clip.prompt.skeleton.any()
        assert clip.region.shape == (3, 4, 4) and not clip.region.any()


def test_it_is_encoded_once(tmp_path: Path) -> None:
    path, cache = film(tmp_path / "wave.mp4"), tmp_path / "cache"
    opened(path, cache)
    before = {file.name: file.stat().st_mtime_ns for file in cache.iterdir()}
    opened(path, cache, caption="other words")
    assert {file.name: file.stat().st_mtime_ns for file in cache.iterdir()} == before and len(before) == 3
    opened(film(tmp_path / "other.mp4", frames=13), cache)
    assert len(list(cache.iterdir())) == 6, "another film has windows of its own"
    first = next(iter(before))
    (cache / first).write_bytes(b"damage")
    assert opened(path, cache).clips[0].load().latents.shape == (3, 4, 4, 4), "made again"


def test_what_is_resampled_is_said(tmp_path: Path) -> None:
    from vap_sim.models.cogvideox.codec import TinyCodec

    def note(path: Path, settings: CropSettings) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            open_crops([path], [""], settings, TinyCodec(4), TensorCache(tmp_path / path.stem), progress=False)
        return [str(one.message) for one in caught]

    (said,) = note(film(tmp_path / "a.mp4", frames=5, rate=16.0), SMALL)
    assert said == (
        f"{tmp_path / 'a.mp4'} is resampled: from 16 to 8 frames a second; from 3 to 9 frames, evenly; "
        "from windows of 48 x 40 to 32 x 32 pixels"
    )
    assert note(film(tmp_path / "b.mp4", frames=9, size=(32, 32)), SMALL) == []


def test_films_that_show_no_action_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"frames of .*one\.mp4 at 8 Hz: given 1, expected 2 or more"):
        opened(film(tmp_path / "one.mp4", frames=1), tmp_path / "cache")
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(BadFile, match=r"text\.mp4: is no video that can be read"):
        opened(tmp_path / "text.mp4", tmp_path / "cache")
    with pytest.raises(BadFile, match=r"none\.mp4: cannot be read"):
        opened(tmp_path / "none.mp4", tmp_path / "cache")


def test_a_damaged_window_is_named(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path / "cache")
    data = opened(film(tmp_path / "wave.mp4"), tmp_path / "cache")
    cache.put(data.clips[0].key, {"latents": torch.zeros(3, 4, 4, 4)})  # type: ignore[attr-defined]
    with pytest.raises(BadFile, match=r"is not a window of a film \(KeyError\('images'\)\)"):
        data.clips[0].load()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"frames": 8}, r"frames of a window: given 8, expected 1 \+ 4 k"),
        ({"size": (30, 32)}, r"size of a window: given \(30, 32\)"),
        ({"crops": 0}, r"crops, pictures and smallest window: given \(0, 0, 0\.75\)"),
        ({"smallest": 1.5}, r"given \(12, 0, 1\.5\)"),
    ],
)
def test_settings_that_make_no_window_are_named(settings: dict[str, int], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        CropSettings(**settings)  # type: ignore[arg-type]
