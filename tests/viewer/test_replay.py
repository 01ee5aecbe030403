"""Pictures of a replay: three panels in the recording's shape, and what is told about each step."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.station_clips import make_clip
from vap_sim.data.fitted_view import fit_view
from vap_sim.metrics.replay import Replay, ReplayFigures, judge, replay
from vap_sim.models.still import StillWorld
from vap_sim.viewer.replay import overlay, replay_pictures, replay_sheet, write_picture


@pytest.fixture(scope="module")
def replayed() -> Replay:
    kept = np.ones((1, 5), np.bool_)
    kept[0, 2] = False
    view = fit_view(make_clip(length=5, size=(96, 64), kept=kept), 0, (64, 64), "compact")
    return replay(StillWorld((64, 64)), view)


@pytest.fixture(scope="module")
def figures(replayed: Replay) -> ReplayFigures:
    return judge(replayed)


def test_panels_have_the_shape_of_the_recording(replayed: Replay, figures: ReplayFigures) -> None:
    pictures = list(replay_pictures(replayed, figures, (96, 64)))
    assert len(pictures) == 5 and {picture.shape for picture in pictures} == {(26 + 288 + 26, 3 * 432, 3)}
    for number, picture in enumerate(pictures):
        row = picture[26:-26]
        recorded, drawn, dream = (cv2.resize(panel, (64, 64)).astype(int) for panel in np.split(row, 3, axis=1))
        frame = replayed.recorded[number].numpy().astype(int)
        assert np.abs(recorded - frame).mean() < 4
        assert np.abs(dream - replayed.recorded[0].numpy()).mean() < 4
        lit = replayed.skeletons[number].numpy().max(-1) > 100
        assert np.abs(drawn - frame)[lit].mean() > 15


def test_every_step_tells_its_own_figures(replayed: Replay, figures: ReplayFigures) -> None:
    feet = [picture[-26:] for picture in replay_pictures(replayed, figures, (96, 64))]
    assert len({foot.tobytes() for foot in feet}) == 5


def test_a_sheet_leaves_out_steps_beyond_the_end(replayed: Replay) -> None:
    sheet = replay_sheet(replayed, (96, 64), (1, 4, 50))
    assert sheet.shape == (3 * 288, 2 * 432, 3)


def test_only_what_is_drawn_lies_over_the_picture() -> None:
    frame, drawn = np.full((4, 4, 3), 100, np.uint8), np.zeros((4, 4, 3), np.uint8)
    drawn[1, 1] = 255, 0, 0
    mixed = overlay(frame, drawn)
    assert mixed[1, 1].tolist() == [255, 0, 0] and (mixed[0] == 75).all()


def test_a_picture_is_written_whole(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    write_picture(tmp_path / "a.png", picture)
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], picture)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
