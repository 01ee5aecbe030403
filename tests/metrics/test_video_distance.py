"""Features of clips and the distance of sets of them: FVD only by the network of FVD, nothing without a record."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from vap_sim.errors import BadFile, InvalidInput
from vap_sim.metrics.extractors import I3d, NamedExtractor
from vap_sim.metrics.fixed_filters import DIMENSION, FixedFilters
from vap_sim.metrics.frechet import frechet_distance
from vap_sim.metrics.report import Clips
from vap_sim.metrics.video_distance import ClipFeatures, clip_features, together, video_distance


class LikeI3d(torch.nn.Module):
    """Called as I3D is: 400 numbers a clip, that tell scale, mean color and motion."""

    def __init__(self, outputs: int = 400, nan: bool = False) -> None:
        super().__init__()
        self.outputs = outputs
        self.nan = nan
        self.register_buffer("mix", torch.linspace(-1, 1, 6 * outputs).view(6, outputs))

    def forward(
        self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> torch.Tensor:
        assert x.dtype == torch.uint8
        assert x.shape[1] == 3
        assert rescale
        assert resize
        assert return_features
        y = x.float() / 127.5 - 1
        means = y.mean(dim=[2, 3, 4])
        change = (y[:, :, 1:] - y[:, :, :-1]).abs().mean(dim=[2, 3, 4])
        found = torch.cat([means, change], 1) @ self.mix
        return found * float("nan") if self.nan else found


def saved(module: torch.nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and what FVD's network comes in
        torch.jit.script(module).save(str(path))
    return path


@pytest.fixture(scope="module")
def i3d(tmp_path_factory) -> I3d:
    return I3d.load(saved(LikeI3d(), tmp_path_factory.mktemp("i3d") / "i3d.pt"), trust_code=True)


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def drifting(seed: int, n: int, frames: int = 6, side: int = 32) -> torch.Tensor:
    """Clips of a colored pattern that moves."""
    rng = np.random.default_rng(seed)
    phase, speed, angle = rng.uniform(0, 6, (n, 1, 1, 1, 3)), rng.normal(0, 0.6, (n, 1, 1, 1, 1)), rng.uniform(0, 3, n)
    y, x = np.mgrid[:side, :side] / side * 9
    along = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
    t = np.arange(frames)[None, :, None, None, None]
    return torch.from_numpy((127 + 90 * np.sin(along[:, None, :, :, None] + phase + speed * t)).astype(np.uint8))


def record(frames: torch.Tensor, **change: object) -> Clips:
    words: dict[str, object] = {"source": "test", "camera": "none", "frame_rate": 5.0, "preprocessing": "none",
                                "seeds": (), **change}  # fmt: skip
    return Clips.of(frames, **words)  # type: ignore[arg-type]


def of(extractor, frames: torch.Tensor, at_once: int = 8, **change: object) -> ClipFeatures:
    return clip_features(extractor, frames, clips=record(frames, **change), at_once=at_once)


# Fixed filters ---------------------------------------------------------------------------------------------------


def test_fixed_filters_are_the_same_everywhere() -> None:
    assert FixedFilters().card == FixedFilters(0).card
    assert FixedFilters().card.sha256 == "0f07c05c5485a418fff3731dd0604f25e93ae408378e74aebcc9875f5ada3fd2"
    assert FixedFilters(1).card.sha256 != FixedFilters(0).card.sha256
    assert "not FVD" in FixedFilters(0).card.name


def test_a_clip_alone_has_the_features_it_has_among_others_to_the_bit() -> None:
    clips = noise(0, 3, 6, 20, 30, 3)
    found = FixedFilters()(clips)
    assert found.shape == (3, DIMENSION)
    assert found.dtype == torch.float64
    assert torch.equal(torch.cat([FixedFilters()(clip[None]) for clip in clips]), found)


def test_even_clips_answer_with_nothing_and_still_ones_with_half() -> None:
    even = torch.full((1, 6, 32, 32, 3), 200, dtype=torch.uint8)
    assert float(FixedFilters()(even).abs().max()) < 1e-5
    still = noise(0, 1, 1, 32, 32, 3).expand(1, 6, 32, 32, 3)
    first = FixedFilters()(still)[0, :8]
    assert float(first[:4].max()) < 1e-5
    assert float(first[4:].min()) > 0.01


def test_time_run_backwards_is_another_clip() -> None:
    clips = drifting(0, 2)
    assert float((FixedFilters()(clips) - FixedFilters()(clips.flip(1))).abs().max()) > 1e-3


# FVD's network ---------------------------------------------------------------------------------------------------


def test_the_network_of_fvd_is_called_as_stylegan_v_calls_it(i3d: I3d) -> None:
    clips = noise(0, 3, 12, 20, 24, 3)
    found = i3d(clips)
    video = clips.permute(0, 4, 1, 2, 3)
    expected = LikeI3d()(video, rescale=True, resize=True, return_features=True)
    torch.testing.assert_close(found, expected.double(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(i3d(clips[1:2]), found[1:2], rtol=1e-6, atol=1e-6)


def test_code_in_a_file_runs_only_where_trust_is_said(tmp_path) -> None:
    path = saved(LikeI3d(), tmp_path / "i3d.pt")
    for said in (False, 1, "yes"):
        with pytest.raises(InvalidInput, match=f"trust_code: given {said}, expected True: a TorchScript file is a"):
            I3d.load(path, trust_code=said)  # type: ignore[arg-type]
    card = I3d.load(path, trust_code=True).card
    assert I3d.load(path, trust_code=True, sha256=card.sha256).card == card
    with pytest.raises(BadFile, match="its sha256 is"):
        I3d.load(path, trust_code=True, sha256="0" * 64)


def test_missing_damaged_and_foreign_networks_give_no_number(tmp_path) -> None:
    with pytest.raises(BadFile, match="no such network file"):
        I3d.load(tmp_path / "nowhere.pt", trust_code=True)
    bad = tmp_path / "bad.pt"
    bad.write_bytes(b"no archive")
    with pytest.raises(BadFile, match="not a whole TorchScript file"):
        I3d.load(bad, trust_code=True)
    torch.save({"a": torch.zeros(2)}, bad)
    with pytest.raises(BadFile, match="not a TorchScript file"):
        I3d.load(bad, trust_code=True)
    clips = noise(0, 2, 10, 16, 16, 3)
    for module, words in (
        (LikeI3d(outputs=512), r"gives \(2, 512\) for 2 clips, expected \(n, 400\)"),
        (LikeI3d(nan=True), "gives logits that are not finite"),
        (torch.nn.Conv3d(3, 4, 1), r"cannot be called as \(video, rescale, resize, return_features\)"),
    ):
        with pytest.raises(BadFile, match=words):
            I3d.load(saved(module, bad), trust_code=True)(clips)


# Distances -------------------------------------------------------------------------------------------------------


def test_the_distance_is_that_of_the_features_and_zero_for_equal_sets() -> None:
    a, b = (of(FixedFilters(), drifting(seed, 60)) for seed in (0, 1))
    told = video_distance(generated=a, truth=b)
    assert told.value == frechet_distance(generated=a.values, truth=b.values).value
    assert told.measure.name == "video_feature_distance"
    assert told.interval is not None
    assert told.interval.low <= told.value <= told.interval.high
    assert video_distance(generated=a, truth=a).value < 1e-9
    assert video_distance(generated=b, truth=a).value == pytest.approx(told.value, rel=1e-9)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    shuffled = of(FixedFilters(), drifting(0, 60)[order], at_once=7)
    assert video_distance(generated=shuffled, truth=b).value == pytest.approx(told.value, rel=1e-9)


def test_it_grows_with_noise_with_blur_and_as_motion_is_lost() -> None:
    truth = drifting(0, 60)
    wanted = of(FixedFilters(), truth)

    def distance(frames: torch.Tensor) -> float:
        return video_distance(generated=of(FixedFilters(), frames), truth=wanted).value

    unrest = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    noisy = [distance((truth + level * unrest).clamp(0, 255).to(torch.uint8)) for level in (0, 8, 25, 70)]
    assert noisy == sorted(noisy)
    blurred, now = [0.0], truth.float()
    for _ in range(2):
        for _ in range(4):
            now = (now + now.roll(1, 2) + now.roll(1, 3) + now.roll((1, 1), (2, 3))) / 4
        blurred.append(distance(now.to(torch.uint8)))
    assert blurred == sorted(blurred)
    still = truth[:, :1].expand(truth.shape)
    half = truth[:, [0, 0, 1, 1, 2, 2]]
    assert 0 < distance(half) < distance(still)


def test_only_the_network_of_fvd_makes_an_fvd_and_its_record_is_whole(i3d: I3d) -> None:
    a, b = (drifting(seed, 24, frames=11, side=16) for seed in (0, 1))
    with pytest.raises(InvalidInput, match="clips: given 24 generated and 24 true, expected more than 400"):
        video_distance(generated=of(i3d, a), truth=of(i3d, b))
    told = video_distance(generated=of(i3d, a, seeds=range(24)), truth=of(i3d, b, source="true"), few=True)
    assert told.measure.name == "fvd"
    content = json.loads(json.dumps(told.to_json(), allow_nan=False))
    assert content["networks"][0]["sha256"] == i3d.card.sha256
    assert content["networks"][0]["preprocessing"].startswith("StyleGAN-V")
    assert content["reference"]["source"] == "true"
    assert content["clips"]["seeds"] == list(range(24))
    text = str(told)
    assert "24 clips for features of length 400: biased upwards" in text
    assert "2048 clips are usual" in text
    assert "16 frames are usual, these clips have 10" in text
    small = video_distance(generated=of(i3d, a[:5]), truth=of(i3d, b[:5]), few=True)
    assert small.interval is None
    assert "too few clips to leave some out" in str(small)


def test_given_frames_are_not_judged() -> None:
    frames = drifting(0, 3, frames=7)
    changed = frames.clone()
    changed[:, :2] = 0
    assert torch.equal(of(FixedFilters(), frames, given=2).values, of(FixedFilters(), changed, given=2).values)
    assert not torch.equal(of(FixedFilters(), frames).values, of(FixedFilters(), changed).values)


def test_parts_join_to_the_whole() -> None:
    frames = drifting(0, 6)
    parts = [of(FixedFilters(), frames[i : i + 2], seeds=(i, i + 1), source=f"part {i}") for i in (0, 2, 4)]
    whole = together(*parts)
    assert torch.equal(whole.values, of(FixedFilters(), frames).values)
    assert whole.clips.seeds == (0, 1, 2, 3, 4, 5)
    assert whole.clips.source == "part 0 + part 2 + part 4"
    assert whole.clips.number == 6
    assert together(*[of(FixedFilters(), frames[:2], seeds=(9,))] * 3).clips.seeds == (9,)
    with pytest.raises(InvalidInput, match="parts: given none"):
        together()
    with pytest.raises(InvalidInput, match=r"parts: given features of .*, expected one network"):
        together(parts[0], of(FixedFilters(1), frames))


def test_any_function_serves_under_a_name_and_hash_of_its_own() -> None:
    mean = NamedExtractor(
        lambda clips: clips.float().mean((1, 2, 3)), name="mean color", sha256="0" * 64, preprocessing="none"
    )
    a, b = drifting(0, 30), drifting(1, 30)
    told = video_distance(generated=of(mean, a), truth=of(mean, b))
    assert told.measure.name == "video_feature_distance"
    assert told.networks[0].name == "mean color"
    flat = NamedExtractor(lambda clips: clips.float().flatten(), name="flat", sha256="0" * 64, preprocessing="none")
    with pytest.raises(InvalidInput, match=r"features of flat: given \(\d+,\) for 8 clips, expected \(n, D\), finite"):
        of(flat, a)
    with pytest.raises(InvalidInput, match="sha256 of network 'mean color'"):
        NamedExtractor(lambda clips: clips, name="mean color", sha256="", preprocessing="none")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frame_rate": 4.0}, "frame_rate 4.0 and 5.0"),
        ({"preprocessing": "mp4"}, "preprocessing mp4 and none"),
        ({"given": 0}, "judged 6 and 5"),
    ],
)
def test_sets_of_different_kinds_have_no_distance(change: dict[str, object], words: str) -> None:
    a, b = of(FixedFilters(), drifting(0, 3), **change), of(FixedFilters(), drifting(1, 3))
    with pytest.raises(InvalidInput, match=f"sets of clips: given {words}, expected equal ones"):
        video_distance(generated=a, truth=b)


def test_wrong_clips_are_named(i3d: I3d) -> None:
    with pytest.raises(InvalidInput, match="clips: given 9 frames, expected at least 10 for I3D"):
        i3d(noise(0, 1, 9, 16, 16, 3))
    with pytest.raises(InvalidInput, match="clips: given 4 frames, expected at least 5"):
        FixedFilters()(noise(0, 1, 4, 16, 16, 3))
    with pytest.raises(InvalidInput, match=r"clips: given torch.float32 \(1, 6, 16, 16, 3\)"):
        FixedFilters()(torch.zeros(1, 6, 16, 16, 3))
    frames = drifting(0, 3)
    with pytest.raises(InvalidInput, match=r"frames: given \(2, 6, 32, 32, 3\), expected \(3, 6, 32, 32, 3\), as the"):
        clip_features(FixedFilters(), frames[:2], clips=record(frames))
