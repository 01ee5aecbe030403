"""What is kept of tracks: sides, rejects, gaps, pieces, and a reason for every frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.extraction.hand_figures import hand
from vap_sim.errors import InvalidInput
from vap_sim.extraction.hand_cleaning import STATES, Cleaning, HandSeries, clean
from vap_sim.extraction.hand_detection import HandDetection
from vap_sim.extraction.hand_tracks import HandTrack

SIZE = (640, 360)


def moving(
    frames: list[int], side: str = "right", *, x: float = 200, speed: float = 5, score: float = 0.9
) -> HandTrack:
    return HandTrack({t: hand(x + speed * t, 200, side, score=score) for t in frames})


def right(*tracks: HandTrack, length: int = 40, settings: Cleaning | None = None) -> HandSeries:
    return clean(tracks, length, SIZE, settings)[1]


def test_gaps_of_linear_motion_are_filled_exactly_and_said_so() -> None:
    track = moving([t for t in range(40) if t not in (7, 8, 9, 10, 11, 20)])
    series = right(track)
    for t in range(40):
        expected = hand(200 + 5 * t, 200)
        np.testing.assert_allclose(series.points[t], expected.points, atol=1e-9)
        np.testing.assert_allclose(series.metres[t], expected.metres, atol=1e-12)
    assert [fate.state for fate in series.fates] == ["filled" if t not in track.seen else "kept" for t in range(40)]
    assert series.fates[8].reason == "between frames 6 and 12"
    assert series.pieces == ((0, 40),)


def test_a_gap_one_frame_longer_splits() -> None:
    series = right(moving([*range(10), *range(16, 40)]))
    assert series.pieces == ((0, 10), (16, 40))
    assert not np.isfinite(series.points[10:16]).any()
    assert {series.fates[t].state for t in range(10, 16)} == {"absent"}
    assert right(moving([*range(10), *range(16, 40)]), settings=Cleaning(fill=6)).pieces == ((0, 40),)
    assert right(moving([*range(10), *range(11, 40)]), settings=Cleaning(fill=0)).pieces == ((0, 10), (11, 40))


def test_short_pieces_are_dropped_with_their_length() -> None:
    series = right(moving([*range(4), *range(15, 40)]))
    assert series.pieces == ((15, 40),)
    assert series.fates[2].state == "dropped"
    assert "4 frames" in series.fates[2].reason


def test_the_side_is_the_majority_of_the_track_and_disagreement_is_told() -> None:
    track = moving(list(range(20)))
    wrong = {t: replace(track.seen[t], side="left") for t in (3, 4, 11)}
    left, found = clean([track.with_frames(wrong)], 20, SIZE)
    assert not left.there.any()
    assert found.there.all()
    assert found.fates[4].reason == "found, by its looks a left one, by its track right"


@pytest.mark.parametrize("person", [True, False])
def test_two_unsure_hands_at_once_are_a_left_and_a_right_one_where_there_is_one_person(person: bool) -> None:
    sure = moving(list(range(20)), x=50)
    looks = {t: replace(one, side="left") for t, one in moving(list(range(0, 20, 3)), x=400).seen.items()}
    unsure = moving(list(range(20)), x=400).with_frames(looks)
    left, found = clean([unsure, sure], 20, SIZE, Cleaning(person=person))
    assert left.there.all() == person
    np.testing.assert_array_equal(found.points, right(sure, length=20).points)


def test_of_two_surely_right_hands_the_longer_track_stays() -> None:
    series = right(moving(list(range(10, 18)), x=400), moving(list(range(40))), length=40)
    np.testing.assert_allclose(series.points[12], hand(260, 200).points)
    lonely = right(moving(list(range(10, 30)), x=400), moving(list(range(12))), length=40)
    assert lonely.pieces == ((0, 10), (10, 30))
    np.testing.assert_allclose(lonely.points[11], hand(455, 200).points)


def test_a_jump_is_rejected_and_filled_and_its_neighbours_stay() -> None:
    track = moving(list(range(30)))
    jumped = track.with_frames({12: hand(500, 100)})
    series = right(jumped, length=30)
    np.testing.assert_allclose(series.points[12], track.seen[12].points, atol=1e-9)
    assert series.fates[12].state == "filled"
    assert "hand sizes from where the frames around it put it" in series.fates[12].reason
    assert [fate.state for fate in series.fates].count("kept") == 29


def test_rejected_for_score_for_size_and_for_lying_outside() -> None:
    track = moving(list(range(30)), speed=0)
    odd = {
        5: hand(200, 200, score=0.1),
        10: hand(200, 200, size=300.0),
        29: HandDetection("right", 0.9, np.add(track.seen[0].points, (600, 0))),
    }
    series = right(track.with_frames(odd), length=30)
    assert "10% sure" in series.fates[5].reason
    assert "3.00 times as large" in series.fates[10].reason
    assert series.fates[29].state == "dropped"
    assert "in the picture" in series.fates[29].reason
    assert series.there.tolist() == [True] * 29 + [False]


def test_nothing_is_filled_between_two_places() -> None:
    """A find on the background, then the hand elsewhere: two tracks, and no hand that flies from one to the other."""
    series = right(moving(list(range(6)), x=20, speed=0), moving(list(range(8, 30)), x=500, speed=0), length=30)
    assert series.pieces == ((0, 6), (8, 30))
    assert not series.there[6:8].any()
    near = right(moving(list(range(6)), speed=0), moving(list(range(8, 30)), speed=0), length=30)
    assert near.pieces == ((0, 30),)


def test_second_looks_and_views_are_told() -> None:
    track = moving(list(range(10)))
    seen = {t: replace(one, agreed=(4, 6)) for t, one in track.seen.items()}
    _, series = clean([HandTrack(seen)], 10, SIZE, again={(0, 3)})
    assert series.fates[3].reason == "found on a second look by 4 of 6 views"
    assert series.fates[4].reason == "found by 4 of 6 views"


def test_every_frame_and_side_has_a_known_state_and_a_reason() -> None:
    rng = np.random.default_rng(3)
    tracks = [
        HandTrack(
            {
                int(t): hand(*rng.uniform(0, 360, 2), str(rng.choice(["left", "right"])), score=float(rng.uniform()))
                for t in rng.choice(50, 20, replace=False)
            }
        )
        for _ in range(4)
    ]
    for series in clean(tracks, 50, SIZE):
        assert len(series.fates) == 50
        assert all(fate.state in STATES and fate.reason for fate in series.fates)
        there = [fate.state in ("kept", "filled") for fate in series.fates]
        assert series.there.tolist() == there
        assert there == [any(first <= t < last for first, last in series.pieces) for t in range(50)]


def test_no_tracks_are_no_hands() -> None:
    for series in clean([], 3, SIZE):
        assert not series.there.any()
        assert [fate.reason for fate in series.fates] == ["no hand was found"] * 3


@pytest.mark.parametrize("values", [{"score": 2.0}, {"jump": 0.0}, {"growth": 1.0}, {"fill": -1}, {"shortest": 0}])
def test_impossible_settings(values: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        Cleaning(**values)  # type: ignore[arg-type]
