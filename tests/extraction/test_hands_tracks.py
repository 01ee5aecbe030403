"""Tracks: who is who through crossings, gaps and a second look."""

from __future__ import annotations

import numpy as np
import pytest

from tests.extraction.hand_figures import Blank, Knowing, hand
from vap_sim.errors import InvalidInput
from vap_sim.extraction.hand_detection import HandDetection
from vap_sim.extraction.hand_following import Following, follow
from vap_sim.extraction.hand_tracks import HandTrack, OverlapTracker

LENGTH = 41


def crossing(step: float = 12.0) -> tuple[list[HandDetection], list[HandDetection]]:
    """A left and a right hand that pass each other, 30 px apart in height, and meet in the middle."""
    places = [(t - LENGTH // 2) * step for t in range(LENGTH)]
    return [hand(320 - x, 200, "left") for x in places], [hand(320 + x, 230, "right") for x in places]


def names(tracks: tuple[HandTrack, ...], truth: tuple[list[HandDetection], ...]) -> list[set[int]]:
    """For each track: which of the true hands it holds."""
    return [
        {number for frame, one in track.seen.items() for number, hands in enumerate(truth) if hands[frame] is one}
        for track in tracks
    ]


@pytest.mark.parametrize("swap", [False, True])
def test_identity_is_kept_through_a_crossing(swap: bool) -> None:
    truth = crossing()
    found = [
        (right, left) if swap and t % 2 else (left, right) for t, (left, right) in enumerate(zip(*truth, strict=True))
    ]
    tracks = OverlapTracker().join(found, Blank(LENGTH))
    assert [len(track.seen) for track in tracks] == [LENGTH, LENGTH]
    assert sorted(map(tuple, names(tracks, truth))) == [(0,), (1,)]


def test_identity_is_kept_through_a_crossing_of_hands_that_look_of_one_side() -> None:
    """By motion alone, where the detector calls every hand a right one."""
    left, right = crossing()
    left = [HandDetection("right", one.score, one.points) for one in left]
    tracks = OverlapTracker().join(list(zip(left, right, strict=True)), Blank(LENGTH))
    assert sorted(map(tuple, names(tracks, (left, right)))) == [(0,), (1,)]


def test_of_two_hands_within_reach_the_nearer_one_is_joined() -> None:
    truth = [hand(200, 200) for _ in range(12)], [hand(250, 200) for _ in range(12)]
    found = [pair if t % 2 else pair[::-1] for t, pair in enumerate(zip(*truth, strict=True))]
    tracks = OverlapTracker().join(found, Blank(12))
    assert sorted(map(tuple, names(tracks, truth))) == [(0,), (1,)]


def test_a_track_outlives_frames_without_a_find_and_no_more_than_its_patience() -> None:
    for missing, count in ((12, 1), (13, 2)):
        found = [[hand(100, 200)] if not 5 <= t < 5 + missing else [] for t in range(30)]
        assert len(OverlapTracker(patience=13).join(found, Blank(30))) == 1
        assert len(OverlapTracker(patience=12).join(found, Blank(30))) == count


def test_what_is_too_far_away_is_another_hand() -> None:
    found = [[hand(100, 200)] if t < 10 else [hand(400, 200)] for t in range(20)]
    first, second = OverlapTracker().join(found, Blank(20))
    assert (first.first, first.last, second.first, second.last) == (0, 9, 10, 19)


def test_expectation_is_exact_between_and_carries_a_fading_speed_on() -> None:
    track = HandTrack({0: hand(100, 200), 4: hand(140, 180)})
    np.testing.assert_allclose(track.expected(1), hand(110, 195).points, atol=1e-9)
    np.testing.assert_array_equal(track.expected(4), hand(140, 180).points)
    ahead = [track.expected(t)[0, 0] - 140 for t in (5, 6, 20)]
    np.testing.assert_allclose(ahead[0], 7.0)  # 10 px a frame, times 0.7
    assert 0 < ahead[0] < ahead[1] < ahead[2] < 10 * 0.7 / 0.3
    back = HandTrack({3: hand(100, 200), 4: hand(110, 200)}).expected(2)
    np.testing.assert_allclose(back[0, 0], 93.0)


def test_votes_weigh_score_and_agreement() -> None:
    sure = hand(0, 0, "left", score=0.8)
    doubtful = HandDetection("right", 0.4, sure.points, agreed=(3, 6))
    track = HandTrack({0: sure, 1: doubtful})
    assert track.votes == pytest.approx((0.8, 0.2))
    assert track.rightness == pytest.approx(0.2)


def test_a_second_look_finds_what_a_track_lost_at_both_ends_and_within() -> None:
    truth = [[hand(100 + 6 * t, 200)] for t in range(60)]
    found = [truth[t] if 20 <= t < 30 or 33 <= t < 40 else [] for t in range(60)]
    footage, detector = Blank(60), Knowing(truth)
    tracks, again = follow(OverlapTracker().join(found, footage), footage, detector)
    (track,) = tracks
    assert list(track.seen) == list(range(60))
    assert all(track.seen[t] is truth[t][0] for t in range(60))
    assert again == {(0, t) for t in range(60) if not found[t]}


def test_a_second_look_stops_where_the_hand_is_gone_and_reads_no_frames_beyond() -> None:
    truth = [[hand(100, 200)] if 20 <= t < 60 else [] for t in range(400)]
    found = [truth[t] if 30 <= t < 50 else [] for t in range(400)]
    footage, detector = Blank(400), Knowing(truth)
    tracks, _ = follow(OverlapTracker().join(found, footage), footage, detector, Following(within=2))
    assert list(tracks[0].seen) == list(range(20, 60))
    assert {frame for frame, _ in detector.asked} == {18, 19, 60, 61} | set(range(20, 30)) | set(range(50, 60))
    assert max(footage.read) < 100


def test_two_tracks_of_one_hand_become_one_where_they_meet() -> None:
    truth = [[hand(100 + 3 * t, 200)] for t in range(60)]
    found = [truth[t] if not 15 <= t < 40 else [] for t in range(60)]
    first = OverlapTracker(patience=5).join(found, Blank(60))
    assert len(first) == 2
    tracks, _ = follow(first, Blank(60), Knowing(truth))
    assert [list(track.seen) for track in tracks] == [list(range(60))]


def test_a_second_look_does_not_take_the_other_hand() -> None:
    left, right = crossing(8.0)
    found = [(left[t], right[t]) if abs(t - 20) > 2 else (right[t],) for t in range(LENGTH)]
    tracks, _ = follow(OverlapTracker().join(found, Blank(LENGTH)), Blank(LENGTH), Knowing([(one,) for one in right]))
    for track, of in zip(tracks, names(tracks, (left, right)), strict=True):
        assert len(of) == 1, (track.first, track.last)


@pytest.mark.parametrize(
    "make",
    [
        lambda: OverlapTracker(reach=0),
        lambda: OverlapTracker(patience=0),
        lambda: Following(within=0),
        lambda: HandTrack({}),
    ],
)
def test_impossible_settings(make: object) -> None:
    with pytest.raises(InvalidInput):
        make()  # type: ignore[operator]
