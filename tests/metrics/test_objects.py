"""Objects that are hidden and come back, that are moved, and where they are found: small cases by hand."""

import numpy as np
import pytest

from vap_sim.errors import InvalidInput
from vap_sim.metrics.objects import (
    YARD,
    Move,
    Return,
    amodal_masks,
    moves,
    offset_in_widths,
    returns,
    visible_shares,
    yardsticks,
)

RED, BLUE = (200, 40, 30), (20, 40, 180)


def layer(*pixels: tuple[slice, slice, tuple[int, int, int], float]) -> np.ndarray:
    """An object layer (1, 16, 16, 4): rows, columns, color and brightness of each patch."""
    picture = np.zeros((1, 16, 16, 4), np.uint8)
    for rows, columns, color, light in pixels:
        picture[0, rows, columns, :3] = np.asarray(color) * light
        picture[0, rows, columns, 3] = 255
    return picture


def test_what_the_robot_hides_goes_to_the_object_of_that_hue_at_any_brightness() -> None:
    red, blue = (slice(2, 8), slice(2, 8)), (slice(8, 14), slice(2, 8))
    picture = layer((*red, RED, 1.0), (slice(4, 8), slice(2, 8), RED, 0.4), (*blue, BLUE, 0.8))
    labels = np.zeros((1, 16, 16), np.uint8)
    labels[0][red], labels[0][blue] = 2, 3
    labels[0, 5:11, :] = 1  # the robot lies across both
    masks = amodal_masks(labels=labels, layer=picture, count=2)
    expected = np.zeros((2, 1, 16, 16), np.bool_)
    expected[0, 0][red] = expected[1, 0][blue] = True
    np.testing.assert_array_equal(masks, expected)
    np.testing.assert_allclose(visible_shares(labels=labels, amodal=masks), [[0.5], [0.5]])


def test_an_object_never_seen_has_no_mask_and_no_share() -> None:
    labels = np.ones((1, 16, 16), np.uint8)
    masks = amodal_masks(labels=labels, layer=layer((slice(2, 9), slice(2, 9), RED, 1.0)), count=1)
    assert not masks.any()
    assert np.isnan(visible_shares(labels=labels, amodal=masks)).all()


def still(frames: int, objects: int = 1) -> np.ndarray:
    return np.zeros((frames, objects, 3))


def hidden(*, before: int = 2, gone: int, after: int = 2) -> np.ndarray:
    return np.array([[1.0] * before + [0.0] * gone + [1.0] * after])


def test_a_hidden_object_that_comes_back_is_found_with_its_frames() -> None:
    shares = np.array([[1.0, 0.9, 0.1, 0.0, 0.15, 0.3, 0.6, 1.0]])
    assert returns(shares=shares, positions=still(8)) == (Return(0, 2, 4, 6),)


@pytest.mark.parametrize(("gone", "counts"), [(1, False), (2, True), (10, True), (11, False)])
def test_two_to_ten_frames_hidden_count(gone: int, counts: bool) -> None:
    shares = hidden(gone=gone)
    assert bool(returns(shares=shares, positions=still(shares.shape[1]))) is counts


def test_every_time_an_object_comes_back_counts() -> None:
    shares = np.concatenate([hidden(gone=2), hidden(gone=3)], axis=1)
    assert [item.again for item in returns(shares=shares, positions=still(shares.shape[1]))] == [4, 11]


def test_hidden_again_before_it_was_uncovered_begins_anew() -> None:
    shares = np.array([[1.0, 0.0, 0.0, 0.0, 0.3, 0.0, 0.0, 1.0]])
    assert returns(shares=shares, positions=still(8)) == (Return(0, 5, 6, 7),)


def test_touched_objects_unseen_starts_and_objects_out_of_the_picture_do_not_count() -> None:
    shares = hidden(gone=3)
    pushed = still(7)
    pushed[3:, 0, 0] = 0.006
    assert not returns(shares=shares, positions=pushed)
    for moment in (2, 5):  # while the arm comes, and while it goes
        pushed = still(7)
        pushed[moment:, 0, 1] = 0.006
        assert not returns(shares=shares, positions=pushed)
    before = still(7)
    before[1:, 0, 0] = 0.2
    assert returns(shares=shares, positions=before)
    nudged = still(7)
    nudged[3:, 0, 0] = 0.004
    assert returns(shares=shares, positions=nudged)
    assert not returns(shares=np.array([[0.3, 1, 0, 0, 1.0]]), positions=still(5))
    assert not returns(shares=np.array([[1.0, 0, 0, np.nan, 1.0]]), positions=still(5))
    assert not returns(shares=np.array([[1.0, np.nan, 0, 0, 1.0]]), positions=still(5))


def test_moves_are_told_at_the_last_frame_in_which_the_object_is_uncovered() -> None:
    shares = np.array([[1.0, 1.0, 0.8, 0.4], [1.0, 1.0, 1.0, 1.0], [1.0, 0.1, 0.1, 0.1], [0.2, 1.0, 1.0, 1.0]])
    positions = still(4, 4)
    positions[1:, 0, 0] = 0.2
    positions[2, 1, 2] = 0.05  # lifted in between
    positions[3, 1, 1] = 0.04
    positions[1:, 2:, 0] = 0.3  # moved, but not seen afterwards; and not seen at the start
    found = moves(shares=shares, positions=positions)
    assert found == (Move(0, 2, pytest.approx(0.2), False), Move(1, 3, pytest.approx(0.04), True))


def test_less_than_three_centimetres_is_no_move() -> None:
    positions = still(3)
    positions[2, 0, 0] = 0.029
    assert not moves(shares=np.ones((1, 3)), positions=positions)


def patch(top: int, left: int, height: int = 4, width: int = 4) -> np.ndarray:
    mask = np.zeros((24, 24), np.bool_)
    mask[top : top + height, left : left + width] = True
    return mask


def test_offsets_are_in_widths_of_the_whole_object() -> None:
    truth = patch(8, 8)
    assert offset_in_widths(generated=truth, truth=truth, amodal=truth) == 0
    assert offset_in_widths(generated=patch(8, 12), truth=truth, amodal=truth) == 1
    assert offset_in_widths(generated=patch(11, 12), truth=truth, amodal=patch(8, 8, width=10)) == pytest.approx(0.5)


def test_plates_and_drawers_are_judged_by_less_than_their_width() -> None:
    block, plate = {"shape": "brick", "size": (0.11, 0.06, 0.05)}, {"shape": "plate", "size": (0.12, 0.12, 0.014)}
    drawer = {"size": (0.2, 0.3, 0.2)}
    assert yardsticks({"objects": [block, plate]}) == (1.0, pytest.approx(YARD / 0.12))
    assert yardsticks({"objects": [plate, block], "cabinets": [drawer]})[1:] == (1.0, pytest.approx(YARD / 0.3))
    front = patch(8, 0, width=20)
    slid = patch(12, 0, width=20)  # by a fifth of its width, which is what its picture moves by when it slides open
    assert offset_in_widths(generated=front, truth=slid, amodal=slid) == pytest.approx(0.2)
    assert offset_in_widths(generated=front, truth=slid, amodal=slid, yardstick=0.1) == pytest.approx(2)


def test_a_camera_that_turns_away_and_back_hides_nothing_and_moves_nothing() -> None:
    labels = np.zeros((5, 16, 16), np.uint8)
    picture = np.zeros((5, 16, 16, 4), np.uint8)
    for frame, left in enumerate((2, 6, 12, None, 4)):  # it leaves at the right, is out once, and is back
        if left is not None:
            labels[frame, 4:10, left : left + 6] = 2
            picture[frame, 4:10, left : left + 6] = (*RED, 255)
    picture[2, 4:10, 12:] = (*RED, 255)
    masks = amodal_masks(labels=labels, layer=picture, count=1)
    shares = visible_shares(labels=labels, amodal=masks)
    np.testing.assert_array_equal(shares, [[1, 1, 1, np.nan, 1]])
    assert not returns(shares=shares, positions=still(5))
    assert not moves(shares=shares, positions=still(5))


def test_what_another_object_hides_is_no_hidden_object() -> None:
    """A block on a plate: the plate stays as uncovered as the robot leaves it."""
    labels, picture = np.zeros((2, 16, 16), np.uint8), np.zeros((2, 16, 16, 4), np.uint8)
    labels[:, 2:14, 2:14], picture[:, 2:14, 2:14] = 3, (*BLUE, 255)
    labels[1, 3:13, 3:13], picture[1, 3:13, 3:13] = 2, (*RED, 255)
    masks = amodal_masks(labels=labels, layer=picture, count=2)
    np.testing.assert_array_equal(visible_shares(labels=labels, amodal=masks), [[np.nan, 1], [1, 1]])


def test_a_few_pixels_do_not_make_an_object() -> None:
    truth = patch(8, 8)
    assert offset_in_widths(generated=patch(8, 8, 1, 3), truth=truth, amodal=truth) is None
    assert offset_in_widths(generated=patch(8, 8, 1, 4), truth=truth, amodal=truth) is not None


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(InvalidInput, match="labels and layer"):
        amodal_masks(labels=np.zeros((2, 4, 4), np.uint8), layer=np.zeros((2, 4, 4, 3), np.uint8), count=1)
    for tell in (returns, moves):
        with pytest.raises(InvalidInput, match="shares and positions"):
            tell(shares=np.ones((2, 3)), positions=still(3, 1))
    with pytest.raises(InvalidInput, match="yardstick: given 0"):
        offset_in_widths(generated=patch(0, 0), truth=patch(0, 0), amodal=patch(0, 0), yardstick=0)
    with pytest.raises(InvalidInput, match="a frame in which the object can be seen"):
        offset_in_widths(generated=patch(0, 0), truth=patch(0, 0, 0, 0), amodal=patch(0, 0))
