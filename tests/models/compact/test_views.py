"""Dreams of several cameras: one scene, which all of them show.

What every world must obey is tested in tests/contracts.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.compact.two_views import BLUE, RED, box, cameras, picture, projections, seen_by
from vap_sim.errors import InvalidInput
from vap_sim.models.compact import layers
from vap_sim.models.compact.demonstration import Demonstration
from vap_sim.models.compact.geometry import likeness, responses, see
from vap_sim.models.compact.layers import Reading
from vap_sim.models.compact.network import CompactConfig, CompactNetwork, UNetConfig
from vap_sim.models.compact.views import CompactViews
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt
from vap_sim.robots.camera import Camera
from vap_sim.state import WorldState

SIZE = 64
NET = UNetConfig((8, 12), (1, 1))
CONFIG = CompactConfig(size=SIZE, style=4, scene=NET, motion=NET, robot=NET)
SCENE = (((0.42, 0.1, 0.03), RED), ((0.5, -0.1, 0.03), BLUE))
TABLE = 120


def world(views: int = 2, push: float = 0.0, logit: float = -9.0, **options: object) -> CompactViews:
    """A world whose motion network says of every object the same: right by `push` [px], and whether it moves."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = CompactNetwork(CONFIG)
        network.motion.head.bias.copy_(torch.tensor([push / 8, 0.0, 0.0, 0.0, logit]))
    return CompactViews(network, views=views, dtype=torch.float32, **options)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _read_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures here are read without a network: what is colorful is an object, all else the table."""

    def read(network: CompactNetwork, frame: Tensor, skeleton: Tensor) -> Reading:
        alpha = (frame.amax(1, keepdim=True) - frame.amin(1, keepdim=True) > 0.2).float()
        planes = torch.full((1, 10, SIZE, SIZE), -20.0)
        planes[:, 9] = torch.where(
            (skeleton[:, 0:1] > 0).repeat_interleave(2, 2).repeat_interleave(2, 3)[:, 0], 20, -20
        )
        plate = torch.full_like(frame, TABLE / 255)
        return Reading(plate, torch.cat([frame * alpha, alpha], 1), frame, torch.zeros(1, 4), planes)

    monkeypatch.setattr(layers, "read", read)


def shown(camera: Camera, scene: tuple[object, ...] = SCENE) -> Tensor:
    """(H, W, 3) uint8: boxes on a grey table."""
    layer = picture(camera, scene)  # type: ignore[arg-type]
    return torch.from_numpy(np.where(layer[..., 3:] > 0, layer[..., :3], np.uint8(TABLE)))


def black(views: tuple[Camera, ...], frames: int = 1, rows: int = 1) -> VisualPrompt:
    return seen_by(VisualPrompt(torch.zeros(rows, len(views), frames, SIZE, SIZE, 3, dtype=torch.uint8)), views)


def begun(dream: CompactViews, views: tuple[Camera, ...]) -> WorldState:
    frames = torch.stack([shown(camera) for camera in views])[None]
    return dream.encode(frames, black(views), [0])


def agreed(state: WorldState) -> float:
    """By how much centres in the views miss the objects' places in space, at most [px]."""
    seen = state.context["projections"][0].double().numpy()
    there = state.context["present"][0].numpy()
    xy = see(seen[:, None], state.context["position"][0].double().numpy())[0]
    off = np.linalg.norm(state.context["centre"][0].double().numpy() - xy, axis=-1)
    return float(off[there].max())


def test_objects_are_found_once_and_in_their_places() -> None:
    views = cameras(2, SIZE)
    state = begun(world(), views)
    assert state.context["present"][0].sum(1).tolist() == [2, 2]
    for place, _ in SCENE:
        off = (state.context["position"][0, :2] - torch.tensor(place)).norm(dim=1).min()
        assert float(off) < 0.012
    assert agreed(state) < 2.0


def test_what_all_say_moves_moves_in_space_and_the_views_agree() -> None:
    views = cameras(2, SIZE)
    dream = world(push=0.8, logit=6.0)
    before = begun(dream, views)
    after = dream.imagine(before, black(views, 6), decode=False).state
    gone = (after.context["position"] - before.context["position"])[0, :2]
    assert bool((gone.norm(dim=1) > 0.01).all())
    assert agreed(after) < agreed(before) + 0.1
    assert not torch.equal(after.context["objects"], before.context["objects"])
    assert float(after.context["velocity"][0, :, :2].abs().max()) > 0.1


def test_what_rests_keeps_its_bits() -> None:
    views = cameras(3, SIZE)
    dream = world(3)
    before = begun(dream, views)
    after = dream.imagine(before, black(views, 4), decode=False).state
    for name in before.context:
        assert torch.equal(before.context[name], after.context[name]), name


def test_an_object_that_only_one_view_shows_is_not_made_up_in_the_other() -> None:
    views = cameras(2, SIZE)
    frames = torch.stack([shown(views[0]), shown(views[1], SCENE[:1])])[None]
    state = world().encode(frames, black(views), [0])
    assert sorted(state.context["present"][0].sum(1).tolist()) == [1, 2]


def test_an_object_behind_the_robot_in_one_view_gets_the_cut_out_of_the_other() -> None:
    views = cameras(2, SIZE)
    prompt = black(views)
    xy = views[1].project(torch.from_numpy(box(SCENE[1][0])).float())[0]
    low, high = xy.amin(0).int().tolist(), xy.amax(0).int().tolist()
    hidden = prompt.skeleton.clone()
    hidden[0, 1, 0, low[1] - 4 : high[1] + 4, low[0] - 4 : high[0] + 4] = 255
    frames = torch.stack([shown(views[0]), shown(views[1], SCENE[:1])])[None]
    state = world().encode(frames, VisualPrompt(hidden, projections=prompt.projections), [0])
    assert state.context["present"][0].sum(1).tolist() == [2, 2]
    number = int((state.context["position"][0] - torch.tensor(SCENE[1][0])).norm(dim=1).argmin())
    assert float((state.context["centre"][0, 1, number] - xy.mean(0)).norm()) < 3
    assert torch.equal(state.context["patches"][0, 0, number], state.context["patches"][0, 1, number])


def test_the_order_of_views_does_not_matter() -> None:
    views = cameras(3, SIZE)
    dream, turned = world(3, push=0.7, logit=5.0), [2, 0, 1]
    plain = dream.imagine(begun(dream, views), black(views, 3)).frames
    other = tuple(views[n] for n in turned)
    again = dream.imagine(begun(dream, other), black(other, 3)).frames
    assert plain is not None and again is not None
    assert int((plain[:, turned].int() - again.int()).abs().max()) <= 1


def test_a_camera_that_moves_sees_what_is_there() -> None:
    """Nothing moves but the second camera: places stay, and it shows objects where it now sees them."""
    views = cameras(2, SIZE)
    dream = world()
    moved = (views[0], Camera.look_at("b", (1.0, -0.4, 0.6), (0.45, 0.0, 0.05), size=(SIZE, SIZE), focal_px=90.0))
    state, _ = dream.step(begun(dream, views), black(moved))
    assert state.context["roams"][0].tolist() == [False, True]
    seen = projections(moved).double().numpy()
    for middle, _ in SCENE:
        xy = see(seen[1], np.array(middle))[0]
        off = (state.context["centre"][0, 1] - torch.from_numpy(xy).float()).norm(dim=1).min()
        assert float(off) < 2.5
    size = state.context["turn"][0, 1, 0].norm()
    depth = [see(projections(pair).double().numpy()[1], np.array(SCENE[0][0]))[1] for pair in (views, moved)]
    assert abs(float(size) / (depth[0] / depth[1] * 90.0 / (1.4 * SIZE)) - 1) < 0.1
    assert torch.equal(dream.step(state, black(moved))[0].context["objects"], state.context["objects"])
    back = dream.step(state, black(views))[0]
    assert torch.allclose(back.context["centre"], begun(dream, views).context["centre"], atol=1e-3)


def test_a_camera_that_rolls_turns_its_cut_outs() -> None:
    views = cameras(1, SIZE)
    dream = world(1)
    angle = 0.5
    roll = torch.eye(4)
    roll[:2, :2] = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    rolled = (Camera("r", views[0].intrinsics, views[0].T_parent_camera @ roll, None, (SIZE, SIZE)),)
    state, _ = dream.step(begun(dream, views), black(rolled))
    real, imaginary = state.context["turn"][0, 0, 0].tolist()
    assert abs(np.arctan2(imaginary, real) + angle) < 0.02 and abs(np.hypot(real, imaginary) - 1) < 0.03


@pytest.mark.parametrize("trained", (False, True))
def test_only_a_network_that_knows_moving_cameras_is_asked_about_theirs(trained: bool) -> None:
    views = cameras(1, SIZE)
    dream = world(1, push=1.0, logit=6.0, hears_moving=trained)
    nearer = (Camera.look_at("n", (1.1, 0.6, 0.7), (0.45, 0.0, 0.05), size=(SIZE, SIZE), focal_px=1.4 * SIZE),)
    before = begun(dream, views)
    after = dream.step(before, black(nearer))[0]
    assert torch.equal(before.context["position"], after.context["position"]) != trained


def test_a_camera_that_moves_is_not_asked_about_what_a_still_one_shows() -> None:
    """Seen from the hand, what the hand carries rests: its word would stop what the still camera sees moving."""
    views = cameras(2, SIZE)
    nearer = Camera.look_at("n", (1.1, 0.6, 0.7), (0.45, 0.0, 0.05), size=(SIZE, SIZE), focal_px=1.4 * SIZE)
    told = black((views[0], nearer))
    after = [
        dream.step(begun(dream, views), told)[0].context["position"]
        for dream in (world(2, push=1.0, logit=6.0, hears_moving=trained) for trained in (False, True))
    ]
    assert torch.equal(*after)
    still = begun(world(2, push=1.0, logit=6.0), views).context["position"]
    assert not torch.equal(after[0], still)


def test_one_view_alone_goes_where_it_says() -> None:
    """In space there is one place that fits a shift and a growth: what a flat world would do."""
    views = cameras(1, SIZE)
    dream = world(1, push=0.8, logit=6.0)
    before = begun(dream, views)
    after = dream.step(before, black(views))[0]
    gone = (after.context["centre"] - before.context["centre"])[0, 0, :2]
    assert torch.allclose(gone, torch.tensor([[0.8, 0.0]]).expand(2, 2), atol=0.05)


def test_worlds_of_other_settings_do_not_go_on_from_each_other() -> None:
    marks = {
        world(**settings).spec.fingerprint  # type: ignore[arg-type]
        for settings in ({}, {"views": 3}, {"table_height": 0.1}, {"frame_rate": 3.0}, {"hears_moving": True})
    }
    assert len(marks) == 5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: world(5), "views of the compact world: given 5, expected 1 to 4"),
        (lambda: world(table_height=float("nan")), "table_height of the compact world: given nan"),
        (lambda: begun(world(3), cameras(2, SIZE)), "frames for world"),
    ],
)
def test_what_cannot_be_is_refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        call()


def test_prompts_that_do_not_say_where_their_cameras_are_are_refused() -> None:
    views, dream = cameras(2, SIZE), world()
    bare = VisualPrompt(black(views).skeleton)
    with pytest.raises(InvalidInput, match=r"no projections, expected projections \(1, 2, 1\) \+ \(3, 4\)"):
        dream.step(begun(dream, views), bare)


def test_cut_outs_hang_on_their_objects_as_they_were_cut() -> None:
    state = begun(world(), cameras(2, SIZE))
    seen = state.context["projections"][0].double().numpy()
    answer = responses(seen[:, None], state.context["position"][0].double().numpy())[..., :2, :]
    turn = likeness(answer @ state.context["grain"][0].double().numpy())[:, :2]
    assert np.allclose(turn, [1.0, 0.0], atol=1e-5)


def test_demonstrations_are_heard_in_every_view_by_those_who_are_shown_one() -> None:
    views, source = cameras(2, SIZE), torch.Generator().manual_seed(0)
    watching = Demonstration(CONFIG, frames=4, width=16, heads=2, layers=1, motion=16, tokens=1)
    with torch.no_grad():
        for value in watching.parameters():
            value.add_(torch.randn(value.shape, generator=source) * 0.5)
    dream = world(push=0.6, logit=9.0, demonstration=watching)
    with torch.no_grad():
        dream.network.motion.head.weight.normal_(0, 0.2, generator=source)
    clip = ReferenceClip(torch.randint(0, 256, (2, 4, SIZE, SIZE, 3), dtype=torch.uint8, generator=source))
    frames = torch.stack([shown(camera) for camera in views])[None].repeat(2, 1, 1, 1, 1)

    def gone(reference: ReferenceClip | None, rows: list[int]) -> Tensor:
        told = None if reference is None else reference.index(rows)
        start = replace(black(views, rows=len(rows)), reference=told)
        state = dream.encode(frames[rows], start, rows)
        return dream.step(state, black(views, rows=len(rows)))[0].context["position"][:, :2]

    both = gone(clip, [0, 1])
    assert not torch.equal(both[0], both[1]) and not torch.equal(both, gone(None, [0, 1]))
    for row in range(2):
        assert torch.equal(gone(clip, [row])[0], both[row])


def test_encoding_leaves_the_network_as_it_is() -> None:
    dream = world()
    before = deepcopy(dream.network.state_dict())
    begun(dream, cameras(2, SIZE))
    assert all(torch.equal(value, before[name]) for name, value in dream.network.state_dict().items())
