"""Figures and their records: nothing is told without them, and means and intervals are those of the scores."""

import json
import math

import numpy as np
import pytest
import torch

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.metrics.masks import Scores, scores
from vap_sim.metrics.measures import MEASURES
from vap_sim.metrics.report import Clips, Figure, Interval, NetworkCard, Report, figure

CARD = NetworkCard("net", "ab" * 32, "none")


def record(**change: object) -> Clips:
    fields: dict[str, object] = {
        "source": "twin, held out", "camera": "exterior_1", "number": 3, "frames": 5, "given": 1, "width": 64,
        "height": 48, "frame_rate": 2.0, "preprocessing": "none", "seeds": (0, 1, 2),
    }  # fmt: skip
    return Clips(**{**fields, **change})  # type: ignore[arg-type]


def found(values: list[list[float]], what: str = "psnr") -> Scores:
    table = torch.tensor(values, dtype=torch.float64)
    return scores(what, table, ~table.isnan())


def test_a_record_of_clips_is_read_off_the_frames() -> None:
    frames = torch.zeros(3, 5, 48, 64, 3, dtype=torch.uint8)
    told = Clips.of(
        frames, source="twin, held out", camera="exterior_1", frame_rate=2, preprocessing="none", seeds=range(3)
    )
    assert told == record()
    assert told.judged == 4


def test_the_mean_counts_every_score_and_leaves_out_those_that_do_not_exist() -> None:
    told = figure(found([[1, 2, 3, 4], [5, math.nan, 7, 8], [math.nan] * 4]), clips=record())
    assert told.value == pytest.approx(30 / 7)
    assert (told.values, told.undefined) == (7, 5)
    assert told.interval is not None
    assert told.interval.low <= told.value <= told.interval.high
    # At 2 frames a second, second 1 is the second judged frame, second 2 the fourth; 5 and 10 lie beyond the clips.
    assert told.horizon == ((1.0, 2.0), (2.0, 6.0))


def test_one_score_a_clip_or_many_objects_a_clip_are_one_figure() -> None:
    whole = found([[1, 2, 3, 4], [5, 6, 7, 8], [9, 9, 9, 9]])
    rows = [Scores("psnr", whole.values[i], whole.defined[i]) for i in range(3)]
    assert figure(rows, clips=record()) == figure(whole, clips=record())
    objects = [found([[50, 60, 70, 80]] * k, "j_and_f") for k in (1, 2, 3)]
    told = figure(objects, clips=record())
    assert (told.value, told.values) == (65, 24)
    assert figure(found([[0.5], [0.5], [0.2]], "st_iou"), clips=record()).value == pytest.approx(0.4)


def test_the_order_of_clips_moves_no_mean_and_the_interval_shrinks_with_their_number() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for number in (10, 1000):
        table = torch.from_numpy(rng.normal(3, 1, (number, 4)))
        clips = record(number=number, seeds=())
        told = figure(scores("psnr", table, table > -99), clips=clips)
        other = figure(scores("psnr", table.flip(0), table > -99), clips=clips)
        assert other.value == pytest.approx(told.value, rel=1e-12)
        assert told.interval is not None
        widths.append(told.interval.high - told.interval.low)
    assert widths[1] == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(1000), rel=0.1)
    assert widths[0] > 5 * widths[1]


def test_one_clip_has_no_interval_and_says_so() -> None:
    told = figure(found([[1, 2, 3, 4]]), clips=record(number=1, seeds=()))
    assert told.interval is None
    assert told.no_interval == "one clip"
    assert "no interval: one clip" in str(told)


def test_text_and_json_hold_the_whole_record() -> None:
    told = figure(
        found([[0.1, 0.2, 0.3, 0.4]] * 3, "lpips"),
        clips=record(),
        networks=[CARD],
        beside={"copy of frame 0": found([[0.5] * 4] * 3, "lpips")},
        notes=["a note"],
    ).with_note("another")
    text = str(told)
    record_words = ("3 clips of twin, held out (exterior_1)", "4 of 5 frames", "64 x 48", "2 / s")
    own_words = ("lpips 0.25", "95 % interval", "12 values", "net (sha256 abababababab)", "copy of frame 0: 0.5")
    for words in (*record_words, *own_words, "a note; another"):
        assert words in text
    content = json.loads(json.dumps(told.to_json(), allow_nan=False))
    assert content["measure"]["name"] == "lpips"
    assert content["clips"]["seeds"] == [0, 1, 2]
    assert content["networks"][0]["sha256"] == "ab" * 32
    assert content["interval"]["method"].startswith("percentile bootstrap over clips")
    assert content["beside"] == {"copy of frame 0": 0.5}
    assert content["notes"] == ["a note", "another"]
    report = Report("a test", (told, told), {"versions": {"torch": "2"}, "hosts": ("one",)})
    whole = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert whole["figures"] == [content, content]
    assert whole["about"] == {"versions": {"torch": "2"}, "hosts": ["one"]}
    assert str(report).count("lpips 0.25") == 2


def test_every_measure_is_listed_under_its_own_name() -> None:
    assert all(name == measure.name and measure.definition for name, measure in MEASURES.items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": " "}, "source of clips: given nothing, expected words"),
        ({"camera": ""}, "camera of clips: given nothing"),
        ({"preprocessing": ""}, "preprocessing of clips: given nothing"),
        ({"number": 0, "seeds": ()}, "number of clips: given 0, expected at least 1"),
        ({"given": -1}, "given of clips: given -1"),
        ({"given": 5}, "frames of clips: given 5, expected at least 6"),
        ({"height": 0}, "height of clips: given 0"),
        ({"frame_rate": 0.0}, "frame_rate of clips: given 0.0"),
        ({"frame_rate": math.nan}, "frame_rate of clips: given nan"),
        ({"seeds": (1, 2)}, "seeds of clips: given 2, expected none, one for all, or 3"),
    ],
)
def test_records_with_gaps_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        record(**change)


def test_wrong_arguments_are_named() -> None:
    good = found([[1, 2, 3, 4]] * 3)
    with pytest.raises(InvalidInput, match=r"frames: given torch.uint8 \(5, 48, 64, 3\)"):
        Clips.of(torch.zeros(5, 48, 64, 3, dtype=torch.uint8), source="a", camera="b", frame_rate=1,
                 preprocessing="c", seeds=())  # fmt: skip
    with pytest.raises(InvalidInput, match="sha256 of network 'net': given 'abc', expected 64 hexadecimal digits"):
        NetworkCard("net", "abc", "none")
    with pytest.raises(InvalidInput, match="network: given ' ', 'none'"):
        NetworkCard(" ", "ab" * 32, "none")
    with pytest.raises(InvalidInput, match=r"scores: given 3 clips of \['psnr'\], expected one measure of 2 clips"):
        figure(good, clips=record(number=2, seeds=()))
    with pytest.raises(UnknownName, match=r"unknown measure 'pnsr'. Did you mean 'psnr'"):
        figure(found([[1, 2, 3, 4]] * 3, "pnsr"), clips=record())
    with pytest.raises(InvalidInput, match=r"scores of psnr: given \(3,\), expected \(..., 4\) a clip"):
        figure(found([[1, 2, 3]] * 3), clips=record())
    with pytest.raises(InvalidInput, match="psnr: given 12 scores, none defined"):
        figure(found([[math.nan] * 4] * 3), clips=record())
    with pytest.raises(InvalidInput, match="baseline 'copy': given ssim, expected scores of psnr"):
        figure(good, clips=record(), beside={"copy": found([[1]], "ssim")})
    with pytest.raises(InvalidInput, match="networks of lpips: given none"):
        figure(found([[1, 2, 3, 4]] * 3, "lpips"), clips=record())
    with pytest.raises(InvalidInput, match="value of psnr: given nan"):
        Figure(measure=MEASURES["psnr"], value=math.nan, interval=None, clips=record(), values=1, no_interval="x")
    with pytest.raises(InvalidInput, match="interval of psnr: given none, expected an interval, or no_interval"):
        Figure(measure=MEASURES["psnr"], value=1.0, interval=None, clips=record(), values=1)
    bare = Figure(measure=MEASURES["psnr"], value=1.0, interval=Interval(0, 2, 0.9, "guess"), clips=record(), values=1)
    with pytest.raises(InvalidInput, match="record: given set"):
        Report("a", (bare,), {"x": {1}}).to_json()
