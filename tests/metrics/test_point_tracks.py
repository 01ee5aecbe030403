"""Motion fidelity: laws of the comparison of tracks, and that Lucas-Kanade follows what moves."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.metrics.point_tracks import LucasKanade, Tracks, motion_fidelity, track_likeness
from vap_sim.metrics.report import Clips, NetworkCard, figure

SIDES = (100, 100)


def tracks(*paths: Any, followed: Tensor | None = None) -> Tracks:
    places = torch.stack([torch.as_tensor(path, dtype=torch.float64) for path in paths])
    return Tracks(places, torch.ones(places.shape[:2], dtype=torch.bool) if followed is None else followed)


def walk(seed: int, steps: int = 9) -> Tensor:
    """A path whose steps are all long enough."""
    source = np.random.default_rng(seed)
    angles, lengths = source.uniform(0, 2 * np.pi, steps), source.uniform(1, 5, steps)
    moves = np.stack([np.cos(angles), np.sin(angles)], 1) * lengths[:, None]
    return torch.from_numpy(np.concatenate([np.zeros((1, 2)), np.cumsum(moves, 0)]))


def line(x: float, y: float, steps: int = 9) -> Tensor:
    return torch.arange(steps + 1)[:, None] * torch.tensor([x, y], dtype=torch.float64)


def clip(seed: int = 0, move: tuple[float, float] = (2.0, 0.0), frames: int = 6, side: int = 64) -> Tensor:
    """A textured square that moves over a textured ground which stands still."""
    source = np.random.default_rng(seed)
    ground = cv2.GaussianBlur(source.integers(0, 256, (side, side, 3)).astype(np.uint8), (0, 0), 1.5)
    patch = cv2.GaussianBlur(source.integers(0, 256, (24, 24, 3)).astype(np.uint8), (0, 0), 1.5)
    film = []
    for frame in range(frames):
        picture = ground.copy()
        x, y = (round(20 + frame * step) for step in move)
        picture[y : y + 24, x : x + 24] = patch
        film.append(picture)
    return torch.from_numpy(np.stack(film))


# The comparison of tracks ----------------------------------------------------------------------------------------


def test_tracks_are_as_like_themselves_as_can_be() -> None:
    some = tracks(*(walk(seed) for seed in range(5)))
    assert track_likeness(some, some, SIDES) == pytest.approx(1, abs=1e-12)


def test_the_opposite_motion_is_the_opposite_likeness() -> None:
    there, back = tracks(line(3, 1), line(3, 1)), tracks(line(-3, -1))
    assert track_likeness(there, back, SIDES) == pytest.approx(-1)
    assert track_likeness(tracks(line(1, 0)), tracks(line(0, 2)), SIDES) == pytest.approx(0)


def test_where_things_are_how_large_they_are_and_how_fast_is_all_the_same() -> None:
    ours, theirs = [walk(seed) for seed in (1, 2)], [walk(seed) for seed in (3, 4, 5)]
    found = track_likeness(tracks(*ours), tracks(*theirs), SIDES)
    moved = tracks(*(path + torch.tensor([40.0, -7.0]) for path in ours))
    assert track_likeness(moved, tracks(*theirs), SIDES) == pytest.approx(found)
    doubled = tracks(*(2 * path for path in theirs))
    assert track_likeness(tracks(*ours), doubled, (100, 200)) == pytest.approx(found)
    assert track_likeness(tracks(*ours), doubled, SIDES) == pytest.approx(found)


def test_each_track_is_compared_with_the_one_that_is_most_like_it() -> None:
    ours = tracks(line(2, 0), line(0, 2))
    assert track_likeness(ours, tracks(line(1, 0), line(0, 5)), SIDES) == pytest.approx(1)
    assert track_likeness(ours, tracks(line(1, 0)), SIDES) == pytest.approx(0.5)
    # The other way round nothing is missed: the measure looks from the generated clip alone.
    assert track_likeness(tracks(line(1, 0)), ours, SIDES) == pytest.approx(1)
    shuffled = tracks(line(0, 5), line(1, 0))
    assert track_likeness(ours, shuffled, SIDES) == pytest.approx(1)


def test_a_step_of_one_beside_a_rest_of_the_other_counts_nothing() -> None:
    half = line(2, 0)
    half[5:] = half[4]  # four steps of nine
    assert track_likeness(tracks(half), tracks(line(2, 0)), SIDES) == pytest.approx(4 / 9)
    assert track_likeness(tracks(half), tracks(half), SIDES) == pytest.approx(1)
    tremble = half + 0.05 * walk(0) / walk(0).norm(dim=1).max()
    assert track_likeness(tracks(tremble), tracks(half), SIDES) == pytest.approx(1, abs=0.01)


def test_what_rests_tells_nothing_and_a_dream_that_rests_scores_zero() -> None:
    still, moving = line(0, 0), line(2, 1)
    assert track_likeness(tracks(still, moving), tracks(still, moving), SIDES) == pytest.approx(1)
    assert track_likeness(tracks(still), tracks(moving), SIDES) == 0
    assert track_likeness(tracks(moving), tracks(still), SIDES) is None


def test_steps_that_were_not_followed_are_left_out_and_lost_tracks_too() -> None:
    path = line(2, 0)
    broken = path.clone()
    broken[7:] = torch.nan
    seen = torch.ones(1, 10, dtype=torch.bool)
    seen[:, 7:] = False
    assert track_likeness(tracks(broken, followed=seen), tracks(path), SIDES) == pytest.approx(1)
    seen[:, 4:] = False
    assert track_likeness(tracks(broken, followed=seen), tracks(path), SIDES) == 0
    assert track_likeness(tracks(path), tracks(broken, followed=seen), SIDES) is None


def test_tracks_check_what_they_are_given() -> None:
    places = torch.zeros(2, 5, 2)
    everywhere = torch.ones(2, 5, dtype=torch.bool)
    for wrong in (
        (places.long(), everywhere),
        (places[0], everywhere),
        (places, everywhere[:1]),
        (places * torch.nan, everywhere),
    ):
        with pytest.raises(InvalidInput, match="of tracks"):
            Tracks(*wrong)
    with pytest.raises(InvalidInput, match="frames of tracks"):
        track_likeness(tracks(line(1, 0, 3)), tracks(line(1, 0, 4)), SIDES)


# Clips -----------------------------------------------------------------------------------------------------------


def test_lucas_kanade_follows_what_moves_and_what_rests() -> None:
    found = LucasKanade(grid=16)(clip(move=(2.0, 1.0)))
    assert found.places.shape == (256, 6, 2)
    inside = ((found.places[:, 0] > 26) & (found.places[:, 0] < 38)).all(1) & found.followed.all(1)
    outside = ((found.places[:, 0] < 12) | (found.places[:, 0] > 58)).any(1) & found.followed.all(1)
    assert inside.sum() >= 4 and outside.sum() >= 40
    moved = found.places[:, -1] - found.places[:, 0]
    assert (moved[inside].median(0).values - torch.tensor([10.0, 5.0])).abs().max() < 0.5
    assert moved[outside].norm(dim=1).median() < 0.05


def test_a_clip_is_like_itself_and_like_others_that_move_so() -> None:
    one, other = clip(), clip(seed=3)  # other pictures, the same motion
    found = motion_fidelity(generated=torch.stack([one, one]), reference=torch.stack([one, other])).values
    assert float(found[0]) == pytest.approx(1, abs=1e-9) and float(found[1]) > 0.7


def test_a_view_that_pans_back_is_the_opposite() -> None:
    """All of the picture moves, so no track of the reference goes the other way by chance."""
    wide = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8), (0, 0), 1.5)
    pan = torch.from_numpy(np.stack([wide[:, 2 * k : 2 * k + 64] for k in range(6)]))
    track = LucasKanade(grid=8)
    there = motion_fidelity(generated=pan[None], reference=pan[None], tracker=track)
    back = motion_fidelity(generated=pan.flip(0)[None], reference=pan[None], tracker=track)
    assert float(there.values[0]) == pytest.approx(1, abs=1e-9) and float(back.values[0]) < -0.7


def test_a_row_is_scored_as_alone_and_sizes_may_differ() -> None:
    large = torch.from_numpy(
        np.stack([cv2.resize(frame.numpy(), (128, 128), interpolation=cv2.INTER_CUBIC) for frame in clip()])
    )
    found = motion_fidelity(generated=clip()[None], reference=large[None])
    assert float(found.values[0]) > 0.7
    both = motion_fidelity(generated=torch.stack([clip(), clip(2)]), reference=torch.stack([clip(1), clip()]))
    alone = motion_fidelity(generated=clip(2)[None], reference=clip()[None])
    assert both.values[1] == alone.values[0]


def test_a_still_reference_has_no_score_and_a_still_dream_none_of_the_motion() -> None:
    moving, still = clip(), clip()[:1].expand(6, -1, -1, -1)
    found = motion_fidelity(generated=torch.stack([moving, still]), reference=torch.stack([still, moving]))
    assert found.defined.tolist() == [False, True] and float(found.values[1]) == 0 and found.undefined == 1


def test_any_tracker_may_be_given_and_the_figure_names_it() -> None:
    class Fixed:
        card = NetworkCard("fixed", "0" * 64, "none")

        def __call__(self, _frames: Tensor, /) -> Tracks:
            return tracks(line(1, 0, 5))

    frames = torch.stack([clip(), clip(1)])
    found = motion_fidelity(generated=frames, reference=frames.flip(1), tracker=Fixed())
    assert found.values.tolist() == pytest.approx([1, 1])
    about = Clips.of(frames, source="made up", camera="none", frame_rate=5, preprocessing="none", seeds=[0])
    told = figure(found, clips=about, networks=[LucasKanade().card])
    assert "motion_fidelity 1" in str(told) and "Lucas-Kanade" in str(told)
    assert LucasKanade().card == LucasKanade().card != LucasKanade(grid=8).card


def test_clips_and_settings_are_checked() -> None:
    frames = clip()[None]
    for wrong in (frames.float(), frames[0], frames[:, :1]):
        with pytest.raises(InvalidInput, match="generated"):
            motion_fidelity(generated=wrong, reference=frames)
    with pytest.raises(InvalidInput, match="rows and frames"):
        motion_fidelity(generated=frames, reference=frames[:, :4])
    with pytest.raises(InvalidInput, match="clip to track"):
        LucasKanade()(frames[0, :1])
    for settings in ({"grid": 1}, {"window": 1}, {"levels": -1}, {"apart": 0.0}):
        with pytest.raises(InvalidInput, match="Lucas-Kanade"):
            LucasKanade(**settings)  # type: ignore[arg-type]
