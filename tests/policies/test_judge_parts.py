"""What the learned judge is made of: calibration, the table map, proposals on it, the network and its recipe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.policies.judge_calibration import Calibration, calibrate
from vap_sim.policies.judge_finding import RING_HOLE, color_likeness, crop, find_object, find_ring
from vap_sim.policies.judge_network import CHANNELS, TASKS, WINDOW, Asked, JudgeConfig, JudgeNet
from vap_sim.policies.judge_table import TableGrid, parallax, table_maps
from vap_sim.policies.judge_training import JudgeRecipe, JudgeTraining, Questions, as_seen, varied
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


# Maps and proposals -----------------------------------------------------------------------------------------------


def test_a_map_shows_what_lies_on_the_table_where_it_lies() -> None:
    """A picture whose pixels hold their own coordinates: the map must hold the projection of its cells."""
    xs, ys = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="xy")
    eyes = (camera(), camera(-0.4))
    maps = table_maps(torch.stack([xs, ys])[None].repeat(2, 1, 1, 1), eyes, GRID)
    points = torch.nn.functional.pad(GRID.points().reshape(-1, 2), (0, 1))
    for row, eye in enumerate(eyes):
        xy, _ = eye.project(points)
        inside = ((xy > 1) & (xy < 126)).all(-1)
        assert inside.float().mean() > 0.6
        assert torch.allclose(maps[row].flatten(1).T[inside], xy[inside], atol=1e-3)


def test_parallax_leads_from_a_raised_point_to_the_cell_that_shows_it() -> None:
    eye, height = camera(), 0.02
    point = torch.tensor([[0.45, 0.1, height]])
    shown = point[0, :2] + height * (point[0, :2] - eye.T_parent_camera[:2, 3]) / eye.T_parent_camera[2, 3]
    row, column = ((shown - torch.tensor([GRID.x0, GRID.y0])) / GRID.cell).round().long().tolist()
    lean = parallax([eye], GRID)[0, :, row, column]
    flat, _ = eye.project(torch.cat([point[0, :2] + height * lean, torch.zeros(1)])[None])
    raised, _ = eye.project(point)
    assert torch.allclose(flat, raised, atol=0.4)


def test_a_camera_on_the_arm_is_refused() -> None:
    with pytest.raises(Unsupported, match="rides on 'hand'"):
        table_maps(torch.zeros(1, 3, 128, 128), [replace(camera(), parent_link="hand")], GRID)


def field(color: tuple[float, float, float] = (0.6, 0.62, 0.58)) -> torch.Tensor:
    return torch.tensor(color)[None, :, None, None].expand(1, 3, GRID.rows, GRID.columns).clone()


@pytest.mark.parametrize("light", [0.4, 1.0])
def test_the_named_color_is_found_in_any_light_and_another_is_not(light: float) -> None:
    table = field()
    table[:, :, 20:26, 30:36] = RED[0, :, None, None] * light
    table[:, :, 50:58, 60:68] = torch.tensor([0.12, 0.27, 0.88])[:, None, None]
    likeness = color_likeness(table, RED)
    found = find_object(likeness)
    assert (found.cell - torch.tensor([[22, 32]])).abs().max() <= 1
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


# Network and recipe -----------------------------------------------------------------------------------------------


def questions(count: int, seed: int = 0) -> Questions:
    """Random windows; done where the tool is low, which `asked` tells directly."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.random((count, *shape)).astype(np.float32))

    tool = draw(3)
    asked = Asked(
        windows=(draw(4, CHANNELS, WINDOW, WINDOW) * 255).to(torch.uint8),
        middles=draw(4, 2) * 0.3,
        strength=draw(4),
        lean=draw(4, 2),
        tool=tool * 0.3,
        gripper=draw(),
        task=torch.from_numpy(rng.integers(len(TASKS), size=count)),
    )
    places = draw(4, 2)
    places[::2, 3] = torch.nan
    done = (asked.gripper < 0.5).float()
    return Questions(asked, done, torch.ones(count), places, draw(), torch.full((count,), torch.nan))


def fresh() -> JudgeNet:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return JudgeNet(JudgeConfig(widths=(8, 8, 8), hidden=16))


def test_a_row_is_read_as_it_would_be_alone() -> None:
    network, asked = fresh().eval(), as_seen(questions(5).asked)
    whole = network(asked)
    for row in range(5):
        one = network(asked.rows(torch.tensor([row])))
        assert torch.allclose(one.logit, whole.logit[row : row + 1], atol=1e-5)
        assert torch.allclose(one.places, whole.places[row : row + 1], atol=1e-6)


def test_the_recipe_learns_and_unclear_answers_do_not_count() -> None:
    network = fresh()
    recipe = JudgeRecipe(network, questions(64), JudgeTraining(batch=24))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for step in range(20):
        optimizer.zero_grad()
        loss, terms = recipe.loss(step)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(terms["answer"]))
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    unclear = replace(questions(64), weight=torch.zeros(64))
    assert float(JudgeRecipe(network, unclear, JudgeTraining(batch=24)).loss(0)[1]["answer"]) == 0
    assert torch.equal(recipe.loss(3)[0], recipe.loss(3)[0]), "a step's batch follows from its number"


def test_mirrored_questions_keep_lengths_and_sides_agree() -> None:
    own = questions(64)
    changed = varied(own, np.random.default_rng(0))
    turned = changed.asked.tool[:, 1] == -own.asked.tool[:, 1]
    assert 0.2 < turned.float().mean() < 0.8
    for name in ("middles", "lean"):
        assert torch.equal(getattr(changed.asked, name).abs(), getattr(own.asked, name).abs())
    gap = (own.asked.middles[:, 2] - own.asked.middles[:, 3]).norm(dim=-1)
    assert torch.allclose((changed.asked.middles[:, 2] - changed.asked.middles[:, 3]).norm(dim=-1), gap)
    centre = WINDOW // 2
    shown, kept = changed.asked.windows[:, :, 3:, :, centre], own.asked.windows[:, :, 3:, :, centre].float() / 255
    assert torch.allclose(shown, kept), "the middle column stays in the middle"
