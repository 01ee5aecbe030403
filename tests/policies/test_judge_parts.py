"""What the learned judge is made of: calibration, proposals, eyes and their recipe, margins of success."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.policies.judge_calibration import Calibration, calibrate
from vap_sim.policies.judge_finding import RING_HOLE, color_likeness, crop, find_object, find_ring
from vap_sim.policies.judge_looking import goal_views, object_views, seen
from vap_sim.policies.judge_margins import ABOVE, REACH, TASKS, Moments, margins
from vap_sim.policies.judge_network import WINDOW, JudgeConfig, JudgeNet, Sighting, Views, to_table
from vap_sim.policies.judge_table import TableGrid, table_maps
from vap_sim.policies.judge_training import SHIFT, WIDE, JudgeRecipe, JudgeTraining, Lessons, sighting_loss
from vap_sim.robots.camera import Camera

GRID = TableGrid()
RED = torch.tensor([[0.86, 0.13, 0.12]])


def camera(side: float = 0.6, name: str = "c") -> Camera:
    return Camera.look_at(name, (1.3, side, 0.65), (0.45, 0.0, 0.1), size=(128, 128), vertical_fov=0.66)


# Calibration ------------------------------------------------------------------------------------------------------


def scores(count: int, sharp: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `sharp` times too sure, and truths drawn by what they should have said."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 2, count)
    return sharp * honest + 0.5, rng.random(count) < 1 / (1 + np.exp(-honest))


def test_calibration_finds_the_scale_and_shift_that_scores_were_spoilt_by() -> None:
    logits, truth = scores(20000, 4.0)
    found = calibrate(logits, truth, accuracy=0.9, abstention=0.5)
    assert found.scale == pytest.approx(0.25, rel=0.06)
    assert found.shift == pytest.approx(-0.125, abs=0.05)
    probability = found.probability(logits)
    for low in (0.1, 0.4, 0.8):
        here = (probability > low) & (probability < low + 0.1)
        assert truth[here].mean() == pytest.approx(low + 0.05, abs=0.03)


def test_the_band_is_the_narrowest_that_is_accurate_enough() -> None:
    logits, truth = scores(4000, 1.0)

    def rates(wanted: float, most: float) -> tuple[float, float]:
        found = calibrate(logits, truth, accuracy=wanted, abstention=most)
        answers = [found.answer(float(value)) for value in found.probability(logits)]
        given = [answer == true for answer, true in zip(answers, truth, strict=True) if answer is not None]
        return float(np.mean(given)), 1 - len(given) / len(truth)

    loose, strict = rates(0.5, 0.9), rates(0.93, 0.9)
    assert loose[1] == 0
    assert strict[0] == pytest.approx(0.93, abs=0.002)
    assert rates(0.999, 0.1)[1] == pytest.approx(0.1, abs=0.002), "where both cannot be had, abstention is kept"


def test_perfect_scores_need_no_band_and_stay_finite() -> None:
    truth = np.arange(40) < 10
    found = calibrate(np.where(truth, 3.0, -3.0), truth, accuracy=0.97, abstention=0.1)
    assert (found.low, found.high) == (0.5, 0.5)
    assert np.isfinite(found.scale)
    doubtful = np.where(truth, 3.0, -3.0) + np.linspace(0, 0.1, 40)
    careful = calibrate(doubtful, truth, accuracy=0.97, abstention=0.1, least=0.2)
    assert sum(careful.answer(float(p)) is None for p in careful.probability(doubtful)) == 8


@pytest.mark.parametrize(
    ("logits", "truth", "words"),
    [
        (np.array([0.0, np.nan]), np.array([True, False]), "finite"),
        (np.zeros((2, 2)), np.zeros((2, 2), bool), "scores"),
        (np.zeros(3), np.zeros(2, bool), "scores"),
        (np.zeros(3), np.zeros(3, bool), "some of each kind"),
        (np.zeros(0), np.zeros(0, bool), "some of each kind"),
    ],
)
def test_calibration_refuses(logits: np.ndarray, truth: np.ndarray, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        calibrate(logits, truth, accuracy=0.95, abstention=0.1)


def test_answers_in_and_outside_of_the_band() -> None:
    own = Calibration(1.0, 0.0, 0.3, 0.8)
    assert [own.answer(value) for value in (0.0, 0.3, 0.31, 0.79, 0.8, 1.0)] == [False, False, None, None, True, True]
    with pytest.raises(InvalidInput, match="probability"):
        own.answer(float("nan"))
    for wrong in ({"scale": -1.0}, {"low": 0.9}, {"shift": float("nan")}):
        with pytest.raises(InvalidInput, match="calibration"):
            Calibration(**{"low": 0.3, "high": 0.8, **wrong})


# Proposals -----------------------------------------------------------------------------------------------


def test_a_map_shows_what_lies_on_the_table_where_it_lies() -> None:
    """A picture whose pixels hold their own coordinates: the map must hold the projection of its cells."""
    xs, ys = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="xy")
    eyes = (camera(), camera(-0.4))
    maps = table_maps(torch.stack([xs, ys])[None].repeat(2, 1, 1, 1), Camera.batch(eyes), GRID)
    points = torch.nn.functional.pad(GRID.points().reshape(-1, 2), (0, 1))
    for row, eye in enumerate(eyes):
        xy, _ = eye.project(points)
        inside = ((xy > 1) & (xy < 126)).all(-1)
        assert inside.float().mean() > 0.6
        assert torch.allclose(maps[row].flatten(1).T[inside], xy[inside], atol=1e-3)


@pytest.mark.parametrize("height", [0.0, 0.04])
def test_pixels_lead_back_to_the_plane_they_came_from(height: float) -> None:
    points = torch.tensor([[0.4, -0.2, height], [0.55, 0.2, height], [0.45, 0.0, height]])
    eyes = Camera.batch([camera(), camera(-0.4), camera(0.1)])
    pixels, _ = eyes.project(points[:, None])
    back = to_table(pixels[:, 0], points[:, 2], eyes.intrinsics, eyes.T_parent_camera)
    assert torch.allclose(back, points[:, :2], atol=1e-5)
    sky = to_table(torch.tensor([[64.0, -500.0]] * 3), points[:, 2], eyes.intrinsics, eyes.T_parent_camera)
    assert torch.isfinite(sky).all()


def test_a_camera_on_the_arm_is_refused() -> None:
    with pytest.raises(Unsupported, match="rides on 'hand'"):
        seen(np.zeros((1, 128, 128, 3), np.uint8), [replace(camera(), parent_link="hand")])


@pytest.mark.parametrize("size", [(128, 128), (320, 256)])
def test_windows_show_object_and_ring_in_pictures_of_any_size(size: tuple[int, int]) -> None:
    eye = Camera.look_at("c", (1.3, 0.6, 0.65), (0.45, 0.0, 0.1), size=size, vertical_fov=0.66)
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    rays = np.stack([columns, rows], axis=-1).reshape(-1, 2)
    count = len(rays)
    poses, intrinsics = (t.expand(count, -1, -1) for t in (eye.T_parent_camera, eye.intrinsics))
    table = to_table(torch.from_numpy(rays).float(), torch.zeros(count), intrinsics, poses).numpy()
    picture = np.full((count, 3), 150, np.uint8)
    far = np.hypot(*(table - (0.5, 0.15)).T)
    picture[(far < 0.06) & (far > 0.06 * RING_HOLE)] = 250
    picture[np.hypot(*(table - (0.45, -0.12)).T) < 0.03] = (220, 33, 30)
    rgb, own = seen(picture.reshape(1, size[1], size[0], 3), [eye])
    for views, place in ((object_views(rgb, own, RED), (0.45, -0.12)), (goal_views(rgb, own), (0.5, 0.15))):
        here = to_table(views.middles, torch.zeros(1), views.intrinsics, views.poses)
        assert np.hypot(*(here[0].numpy() - place)) < 0.015
        assert views.windows.shape == (1, 4, WINDOW, WINDOW)
        assert float(views.windows[0, 3].max()) > 0.7


def field(color: tuple[float, float, float] = (0.6, 0.62, 0.58)) -> torch.Tensor:
    return torch.tensor(color)[None, :, None, None].expand(1, 3, GRID.rows, GRID.columns).clone()


@pytest.mark.parametrize("light", [0.4, 1.0])
def test_the_named_color_is_found_in_any_light_and_another_is_not(light: float) -> None:
    table = field()
    table[:, :, 20:32, 30:42] = RED[0, :, None, None] * light
    table[:, :, 50:58, 60:68] = torch.tensor([0.12, 0.27, 0.88])[:, None, None]
    likeness = color_likeness(table, RED)
    found = find_object(likeness)
    assert (found.cell - torch.tensor([[25, 35]])).abs().max() <= 1
    assert found.strength > 0.9
    assert find_object(color_likeness(field(), RED)).strength < 0.01


@pytest.mark.parametrize("cell", [(30, 40), (12, 14), (55, 70)])
@pytest.mark.parametrize("radius", [6.9, 8.7])
def test_the_ring_is_found_half_hidden_and_beside_a_bright_spot(cell: tuple[int, int], radius: float) -> None:
    table = field()
    rows, columns = torch.meshgrid(torch.arange(GRID.rows), torch.arange(GRID.columns), indexing="ij")
    far = ((rows - cell[0]).square() + (columns - cell[1]).square()).sqrt()
    table[:, :, (far <= radius) & (far >= RING_HOLE * radius)] = 0.95
    table[:, :, 40:44, 20:24] = 0.98
    table[:, :, cell[0] + 4 : cell[0] + 10, cell[1] : cell[1] + 10] = RED[0, :, None, None]
    found = find_ring(table)
    assert (found.cell - torch.tensor([cell])).abs().max() <= 1
    noise = 0.01 * torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    assert found.strength > find_ring(field() + noise).strength


def test_windows_lie_about_their_cell_and_are_empty_outside() -> None:
    planes = torch.arange(GRID.rows * GRID.columns).float().reshape(1, 1, GRID.rows, GRID.columns) + 1
    window = crop(planes, torch.tensor([[10, 20]]), WINDOW)
    assert window[0, 0, WINDOW // 2, WINDOW // 2] == planes[0, 0, 10, 20]
    assert (crop(planes, torch.tensor([[0, 0]]), WINDOW)[0, 0, : WINDOW // 2] == 0).all()


# Eyes and their recipe --------------------------------------------------------------------------------------------


def lessons(count: int, seed: int = 0) -> Lessons:
    """Windows with a red square that is to be measured, seen by one camera; every fifth place is not known."""
    rng = np.random.default_rng(seed)
    eye = camera()
    wide = torch.full((count, 3, WIDE, WIDE), 150, dtype=torch.uint8)
    middles = torch.from_numpy(rng.uniform(50, 80, (count, 2)).round() - 0.5).float()
    sides = rng.integers(-5, 6, (count, 2))
    for row, (x, y) in enumerate(sides):
        part = wide[row, :, WIDE // 2 + y - 5 : WIDE // 2 + y + 5, WIDE // 2 + x - 5 : WIDE // 2 + x + 5]
        part[:] = (RED[0] * 255)[:, None, None]
    pixels = middles + torch.from_numpy(sides).float()
    poses, intrinsics = (t.expand(count, -1, -1) for t in (eye.T_parent_camera, eye.intrinsics))
    size = torch.full((count,), 0.06)
    places = to_table(pixels, size / 2, intrinsics, poses)
    places[::5] = torch.nan
    return Lessons(wide, middles, torch.ones(count), intrinsics, poses, RED.expand(count, -1), places, size)


def fresh() -> JudgeNet:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return JudgeNet(JudgeConfig(widths=(8, 8, 16), hidden=32))


def test_a_window_is_measured_as_it_would_be_alone() -> None:
    eye = fresh().object_eye
    views = lessons(5).views(flat=False)
    whole = eye(views)
    for row in range(5):
        one = eye(lessons(5).rows(torch.tensor([row])).views(flat=False))
        assert torch.allclose(one.places[0], whole.places[row], atol=1e-5)
        assert torch.allclose(one.spread[0], whole.spread[row], atol=1e-6)


def test_a_mirror_changes_the_view_and_not_what_is_meant() -> None:
    """The eye is shown a window and its mirror image: what it says of one, mirrored, is what it says of the other."""
    eye = fresh().object_eye
    views = lessons(4).views(flat=False)
    turned = replace(views, windows=views.windows.flip(-1))
    plain, mirrored = eye(views), eye(turned, torch.ones(4, dtype=torch.bool))
    assert torch.equal(plain.size, mirrored.size)
    shown = [_pixels(views, own) - views.middles for own in (plain, mirrored)]
    assert torch.allclose(shown[0] * torch.tensor([-1.0, 1.0]), shown[1], atol=2e-3)


def _pixels(views: Views, sighting: Sighting) -> torch.Tensor:
    points = torch.cat([sighting.places, sighting.size[:, None] / 2], dim=1)
    return camera().project(points)[0]


def test_a_window_moved_aside_shows_the_same_elsewhere() -> None:
    own = lessons(3)
    shift = torch.tensor([[SHIFT, -SHIFT], [0, 0], [-1, 2]])
    moved, plain = own.views(shift, flat=False), own.views(flat=False)
    assert torch.equal(moved.middles, plain.middles + shift)
    assert torch.equal(moved.windows[2, :, :-2, 1:], plain.windows[2, :, 2:, :-1])
    assert torch.equal(moved.windows[1], plain.windows[1])


def test_the_recipe_learns_to_measure_and_what_is_not_known_does_not_count() -> None:
    network = fresh()
    recipe = JudgeRecipe(network, [lessons(64)], lessons(16, 1), JudgeTraining(objects=32, goals=8))
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for step in range(40):
        optimizer.zero_grad()
        loss, terms = recipe.loss(step)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(terms["objects"]))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:3])
    assert torch.equal(recipe.loss(3)[0], recipe.loss(3)[0]), "a step's batch follows from its number"
    own = lessons(5)
    sighting = network.object_eye(own.views(flat=False))
    unknown = replace(own, places=torch.full_like(own.places, torch.nan), size=torch.full_like(own.size, torch.nan))
    assert float(sighting_loss(sighting, unknown, 0.5).detach()) == 0


def test_spread_is_what_the_eye_expects_to_be_wrong_by() -> None:
    """Of all spreads, the loss likes the mean error best."""
    rng = np.random.default_rng(0)
    own = replace(lessons(400), places=torch.zeros(400, 2), size=torch.full((400,), torch.nan))
    places = torch.from_numpy(rng.normal(0, 0.004, (400, 2))).float()
    spreads = np.linspace(0.001, 0.012, 56)
    losses = [
        float(sighting_loss(Sighting(places, torch.ones(400), torch.full((400,), float(spread))), own, 0.5))
        for spread in spreads
    ]
    assert spreads[int(np.argmin(losses))] == pytest.approx(float(places.norm(dim=1).mean()), abs=3e-4)


# Margins ----------------------------------------------------------------------------------------------------------


def moments(
    now: tuple[float, float] = (0.5, 0.1),
    before: tuple[float, float] | None = None,
    tool: tuple[float, float, float] = (0.5, 0.1, 0.09),
    gripper: float = 0.0,
    spread: float = 0.002,
) -> Moments:
    """An object 6 cm high that began at (0.5, 0.1), and a disc of 6 cm about (0.6, 0.1)."""

    def at(place: tuple[float, float], size: float = 0.06) -> Sighting:
        return Sighting(torch.tensor([place]), torch.tensor([size]), torch.tensor([spread]))

    return Moments(
        at((0.5, 0.1)), at(before or now), at(now), at((0.6, 0.1)), torch.tensor([tool]), torch.tensor([gripper])
    )


def margin(task: str, **changes: Any) -> float:
    return float(margins(moments(**changes), (task,))[0])


def test_margins_change_sign_where_the_tasks_do() -> None:
    assert margin("reach") > 5
    for off, done in ((0.029, True), (0.031, False)):
        assert (margin("reach", tool=(0.5, 0.1 + off, 0.06 + ABOVE)) > 0) is done
        assert (margin("reach", tool=(0.5, 0.1, 0.06 + ABOVE + off)) > 0) is done
    assert abs(margin("reach", tool=(0.5 + REACH, 0.1, 0.06 + ABOVE))) < 0.01
    for x, done in ((0.541, True), (0.539, False), (0.659, True), (0.661, False)):
        assert (margin("push", now=(x, 0.1)) > 0) is done
    assert margin("push", now=(0.6, 0.1)) > 3
    assert margin("push", now=(0.6, 0.1), before=(0.585, 0.1)) < 0, "it still moves"
    assert margin("pick_place", now=(0.6, 0.1), gripper=0.1) > 3
    assert margin("pick_place", now=(0.6, 0.1), gripper=0.9) < -3, "it is not let go of"
    assert margin("push", now=(0.6, 0.1), gripper=0.9) > 3


def test_the_less_is_known_the_smaller_is_a_margin() -> None:
    for task, changes in (("reach", {"tool": (0.5, 0.15, 0.09)}), ("push", {"now": (0.6, 0.1)})):
        sizes = [abs(margin(task, spread=spread, **changes)) for spread in (0.002, 0.01, 0.05)]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-1] < 1.5


def test_a_reached_object_is_where_it_went() -> None:
    assert margin("reach", now=(0.55, 0.1), tool=(0.55, 0.1, 0.09)) > 5
    assert margin("reach", now=(0.55, 0.1)) < -1
    hidden = Sighting(torch.tensor([[0.58, 0.2]]), torch.tensor([0.06]), torch.tensor([0.08]))
    assert float(margins(replace(moments(), now=hidden), ("reach",))[0]) > 3, "hidden, it is thought to have stayed"


def test_rows_have_tasks_of_their_own() -> None:
    one = moments(now=(0.6, 0.1), tool=(0.6, 0.1, 0.09), gripper=0.9)
    rows = [getattr(one, name) for name in ("first", "before", "now", "goal")]
    several = Moments(*(Sighting.cat([row] * 3) for row in rows), one.tool.repeat(3, 1), one.gripper.repeat(3))
    assert margins(several, TASKS).tolist() == pytest.approx([float(margins(one, (task,))[0]) for task in TASKS])
