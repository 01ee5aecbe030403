"""Films of replays: where pictures go, curves with their playhead, and a timeline, in frames that play everywhere."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.viewer.replay_scenes import scene, stage
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.viewer.replay_curves import COLORS, DIM, Curve, Plot, Track, draw_plot, fitted_text, plots_of, text_width
from vap_sim.viewer.replay_curves import ticks as moments
from vap_sim.viewer.replay_film import HIGHEST, WIDEST, Film, lay_out, panel_clip
from vap_sim.viewer.replay_lanes import Scene


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Two worlds, each told what was done and to stand still."""
    return scene(tmp_path_factory.mktemp("clips"), "zeroed", stages=(stage(), stage("still")))


@pytest.mark.parametrize("size", [(128, 128), (640, 480), (1920, 1080), (320, 180), (180, 320)])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 16])
def test_films_have_even_sizes_that_play_everywhere(count: int, size: tuple[int, int]) -> None:
    plan = lay_out(count, size)
    assert plan.width <= WIDEST and plan.height <= HIGHEST and plan.width % 2 == plan.height % 2 == 0
    assert plan.columns * plan.rows >= count and plan.columns * (plan.rows - 1) < count
    wide, high = plan.panel
    assert wide / high == pytest.approx(size[0] / size[1], rel=0.02)


def test_more_than_a_film_holds_is_refused() -> None:
    with pytest.raises(InvalidInput, match="pictures of one film: given 500, expected fewer"):
        lay_out(500, (640, 480))


def test_every_dream_has_its_place(shown: Scene) -> None:
    """Recorded, under its prompt, then the dreams in order; an echo's dream is its prompt."""
    assert [(lane.name, lane.nominal) for lane in shown.lanes] == [
        ("echo", True), ("echo, zeroed", False), ("still", True), ("still, zeroed", False)
    ]  # fmt: skip
    film = Film(shown, title="a, side")
    pictures = list(film.pictures())
    assert len(pictures) == 7 == film.length
    assert {picture.shape for picture in pictures} == {(film.plan.height, film.plan.width, 3)}
    wide, high = film.plan.panel
    for frame, picture in enumerate(pictures):
        panels = [picture[y : y + high, x : x + wide] for x, y in map(film._place, range(6))]
        small = [cv2.resize(panel, (64, 64)).astype(int) for panel in panels]
        recorded = cv2.resize(shown.clip.frames[0, frame], (64, 64)).astype(int)
        assert np.abs(small[0] - recorded).mean() < 4
        for panel, lane in zip(small[2:], shown.lanes, strict=True):
            assert np.abs(panel - lane.replayed.dreamt[frame].numpy()).mean() < 6
    moved = np.abs(pictures[0].astype(int) - pictures[-1])
    assert moved[film.plan.height - 26 :].any(), "the timeline"


def test_an_overlay_shows_dreams_under_their_prompts(shown: Scene) -> None:
    film = Film(shown, "overlay")
    assert film.plan.columns * film.plan.rows >= 5
    picture = list(film.pictures())[3]
    wide, high = film.plan.panel
    x, y = film._place(3)  # the still world's dream of what was done
    dream = cv2.resize(picture[y : y + high, x : x + wide], (64, 64)).astype(int)
    lit = shown.lanes[2].replayed.skeletons[3].numpy().max(-1) > 100
    assert np.abs(dream - shown.lanes[2].replayed.dreamt[3].numpy())[lit].mean() > 30
    with pytest.raises(UnknownName, match="Did you mean 'overlay'"):
        Film(shown, "overlaid")


def test_worlds_of_other_rates_share_a_clock(tmp_path: Path) -> None:
    """A world of half the rate holds each picture for two frames of the film."""
    both = scene(tmp_path, stages=(stage(), replace(stage(frame_rate=2.5), name="slow")), length=9)
    fast, slow = both.lanes
    assert (fast.rate, slow.rate, len(fast.replayed.dreamt), len(slow.replayed.dreamt)) == (5, 2.5, 9, 5)
    film = Film(both)
    assert (film.rate, film.length) == (5, 9)
    assert [film._moment(slow, frame) for frame in range(9)] == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    assert np.allclose(slow.joints, fast.joints[::2])


def test_a_clip_is_shown_at_any_size_with_its_alignment(shown: Scene) -> None:
    """Points land on the same thing: a homography between pictures follows their pixels."""
    moves = np.tile(np.array([[1, 0, 3], [0, 1, -2], [0, 0, 1]], np.float32), (1, shown.clip.length, 1, 1))
    large = panel_clip(replace(shown.clip, homographies=moves), (192, 128))
    assert large.size == (192, 128) and np.allclose(large.homographies[0, 0], [[1, 0, 6], [0, 1, -4], [0, 0, 1]])
    assert large.cameras[0].size == (192, 128) and panel_clip(shown.clip, shown.clip.size) is shown.clip


def tracks() -> list[Track]:
    steps = [{"moving": 10.0 + k, "copy": 9.0, "agreement": None if k == 1 else 0.5} for k in range(4)]
    return [Track("one", True, 5.0, steps), Track("other", False, 5.0, [{"apart": 3.0, "agreement": 0.25}] * 4)]


def test_curves_tell_error_trust_and_how_far_altered_actions_led() -> None:
    error, trust, apart = plots_of(tracks())
    assert [curve.label for curve in error.curves] == ["one", "first picture"]
    assert error.low <= 9 and error.high >= 13 and error.curves[1].dashed and error.curves[1].color == DIM
    assert [curve.label for curve in trust.curves] == ["one", "other"] and (trust.low, trust.high) == (0, 1)
    assert [curve.color for curve in trust.curves] == list(COLORS[:2])
    assert apart.low == 0 and [curve.label for curve in apart.curves] == ["other"]
    assert len(plots_of(tracks()[:1])) == 2
    (_, blind) = plots_of([Track("one", True, 5.0, [{"moving": None, "copy": None}])])
    assert not blind.curves and "no detector" in blind.remark


def test_a_curve_says_what_it_is_worth_at_a_moment() -> None:
    curve = plots_of(tracks())[0].curves[0]
    assert math.isnan(curve.at(0.1))
    assert [curve.at(time) for time in (0.2, 0.39, 0.4, 9.0)] == [10, 10, 11, 13]
    assert math.isnan(plots_of(tracks())[1].curves[0].at(0.4)), "undefined at step 2"


def test_the_playhead_stands_at_its_moment_and_gaps_stay_empty() -> None:
    values = np.array([1.0, 1.0, np.nan, np.nan, 1.0, 1.0])
    curve = Curve("c", (250, 0, 0), np.arange(1, 7) / 5, values)
    drawn = draw_plot(Plot("p", 0.0, 2.0, 1, (curve,)), (300, 150), 1.2)
    red = (drawn.picture[..., 0] > 200) & (drawn.picture[..., 1] < 80)
    columns = np.flatnonzero(red.any(0))
    assert drawn.x(0.2) - 2 <= columns[0] and columns[-1] <= drawn.x(1.2) + 2
    assert not red[:, drawn.x(0.5) : drawn.x(0.9)].any()
    for time in (0.0, 0.6, 1.2):
        target = np.empty_like(drawn.picture)
        drawn.mark(target, time)
        assert (target[30:120, drawn.x(time)] == 235).all(-1).sum() > 60
    assert (drawn.picture != target).any()


def test_words_fit_and_moments_are_round() -> None:
    assert fitted_text("short", 500) == "short" and fitted_text("anything", 5) == ""
    cut = fitted_text("put the green brick onto the purple disc", 120)
    assert cut.endswith("...") and text_width(cut) <= 120
    assert moments(2.0) == [0, 0.5, 1, 1.5, 2] and moments(10.0)[:3] == [0, 1, 2] and len(moments(7200.0)) <= 13
