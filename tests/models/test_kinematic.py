"""The kinematic world: where the prompt is drawn the frame is the prompt, everywhere else it is the first frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.models.kinematic import KinematicWorld, paste
from vap_sim.models.protocol import WorldModelSpec
from vap_sim.models.rollout import imagine
from vap_sim.prompts import Prompter, VisualPrompt, profile
from vap_sim.robots.library import load_robot
from vap_sim.state import WorldState


def noise(*shape: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=source)


def levels() -> tuple[Tensor, Tensor]:
    """Every pair of a drawn and a pictured level: two pictures (256, 256, 3)."""
    level = torch.arange(256, dtype=torch.uint8)
    return (axis[..., None].expand(256, 256, 3) for axis in torch.meshgrid(level, level, indexing="ij"))  # type: ignore[return-value]


def test_every_pair_of_levels_blends_without_overflow() -> None:
    drawn, picture = levels()
    pasted = paste(drawn, picture).double()
    through = (1 - drawn.double() / 128).clamp_min(0)
    assert float((pasted - (drawn + through * picture)).abs().max()) <= 0.5
    assert bool((pasted[1:] >= pasted[:-1] - 255 / 128)[128:].all())  # brighter drawings never come out darker
    assert bool((pasted[:, 1:] >= pasted[:, :-1]).all())  # nor do brighter pictures


def test_black_shows_the_picture_and_full_colours_hide_it() -> None:
    picture, drawn = noise(6, 7, 3), noise(6, 7, 3, seed=1)
    assert torch.equal(paste(torch.zeros_like(picture), picture), picture)
    drawn[..., 1] |= 128
    assert torch.equal(paste(drawn, picture), drawn)


def test_an_edge_pixel_lies_between_drawing_and_picture() -> None:
    color, picture = torch.tensor([128, 64, 0]), torch.tensor([10, 200, 90], dtype=torch.uint8)
    for covered in (0.25, 0.5, 0.75):
        edge = (color * covered).round().to(torch.uint8)
        wanted = covered * color + (1 - covered) * picture
        assert float((paste(edge, picture).double() - wanted).abs().max()) <= 1


def test_the_drawn_robot_stands_in_every_frame() -> None:
    model = load_robot("panda_robotiq")
    cameras = tuple(camera.resized((128, 128)) for camera in model.cameras.values() if camera.parent_link is None)
    world = KinematicWorld(views=len(cameras))
    assert cameras
    path = model.home + torch.linspace(0, 0.8, 5)[:, None] * torch.tensor([1.0, 0.3, 0, -0.3, 0, 0.5, 0, 0.8])
    prompts = Prompter(model, profile(world.spec.profile), world.spec.size).draw(path[None], cameras)
    picture = noise(1, len(cameras), 128, 128, 3)
    film = world.imagine(world.encode(picture, prompts.between(0, 1), [0]), prompts).frames
    assert film is not None
    bright = prompts.skeleton.amax(-1) >= 128
    assert torch.equal(film[bright], prompts.skeleton[bright]) and bright.any(-1).any(-1).all()
    dark = prompts.skeleton.amax(-1) == 0
    assert torch.equal(film[dark], picture[:, :, None].expand_as(film)[dark])
    assert float((~bright & ~dark).double().mean()) < 0.05  # soft edges are thin


def test_a_frame_depends_on_the_first_picture_and_its_own_prompt_alone() -> None:
    world = KinematicWorld(size=(8, 6), views=3)
    start = world.encode(noise(2, 3, 6, 8, 3), VisualPrompt(noise(2, 3, 1, 6, 8, 3)), [1, 2])
    last = VisualPrompt(noise(2, 3, 1, 6, 8, 3, seed=5))
    wandered = world.imagine(start, VisualPrompt(noise(2, 3, 9, 6, 8, 3, seed=6))).state
    assert torch.equal(world.step(wandered, last)[1], world.step(start, last)[1])
    assert wandered.step.tolist() == [9, 9]


def test_views_do_not_see_each_other() -> None:
    picture, start, drawn = noise(1, 3, 6, 8, 3), noise(1, 3, 1, 6, 8, 3), noise(1, 3, 1, 6, 8, 3, seed=2)
    three, one = KinematicWorld(size=(8, 6), views=3), KinematicWorld(size=(8, 6))
    frames = three.step(three.encode(picture, VisualPrompt(start), [0]), VisualPrompt(drawn))[1]
    for view in range(3):
        state = one.encode(picture[:, view : view + 1], VisualPrompt(start[:, view : view + 1]), [0])
        assert torch.equal(one.step(state, VisualPrompt(drawn[:, view : view + 1]))[1][:, 0], frames[:, view])


def test_a_state_holds_the_first_picture_and_its_skeleton() -> None:
    world = KinematicWorld(size=(8, 6))
    picture, start = noise(2, 1, 6, 8, 3), noise(2, 1, 1, 6, 8, 3, seed=1)
    state = world.encode(picture, VisualPrompt(start), torch.tensor([4, 5]))
    assert torch.equal(state.context["frame"], picture) and torch.equal(state.context["skeleton"], start[:, :, 0])


def test_settings_tell_worlds_apart() -> None:
    worlds = [
        KinematicWorld(),
        KinematicWorld(size=(64, 128)),
        KinematicWorld(views=2),
        KinematicWorld(frames_per_step=4),
        KinematicWorld(frame_rate=15.0),
        KinematicWorld(profile="vap"),
    ]
    assert len({world.spec.fingerprint for world in worlds}) == len(worlds)
    assert KinematicWorld.load(views=2).spec == worlds[2].spec
    assert KinematicWorld(frames_per_step=4, frame_rate=8.0).spec.step_seconds == 0.5
    state = worlds[0].encode(noise(1, 1, 128, 128, 3), VisualPrompt(noise(1, 1, 1, 128, 128, 3)), [0])
    with pytest.raises(
        InvalidInput, match=r"state for world 'kinematic': given a state of model '.*', expected one that this"
    ):
        worlds[4].step(state, VisualPrompt(noise(1, 1, 1, 128, 128, 3)))


def test_imagining_without_frames_uses_the_cheaper_step() -> None:
    world = KinematicWorld(size=(8, 6), frames_per_step=2)
    state = world.encode(noise(1, 1, 6, 8, 3), VisualPrompt(noise(1, 1, 1, 6, 8, 3)), [0])
    plan = VisualPrompt(noise(1, 1, 6, 6, 8, 3, seed=3))
    seen: list[Tensor] = []

    def advance(old: WorldState, prompt: VisualPrompt) -> WorldState:
        seen.append(prompt.skeleton)
        return old.advanced(old.context)

    blind = imagine(world, state, plan, decode=False, advance=advance)
    assert blind.frames is None and blind.state.step.tolist() == [3]
    assert torch.equal(torch.cat(seen, dim=2), plan.skeleton)
    imagine(world, state, plan, advance=advance)
    assert len(seen) == 3


def test_part_of_a_step_cannot_be_imagined() -> None:
    world = KinematicWorld(size=(8, 6), frames_per_step=2)
    state = world.encode(noise(1, 1, 6, 8, 3), VisualPrompt(noise(1, 1, 1, 6, 8, 3)), [0])
    with pytest.raises(InvalidInput, match=r"given 3 pixel frames, expected a multiple of 2 \(frames per step\)"):
        world.imagine(state, VisualPrompt(noise(1, 1, 3, 6, 8, 3)))


def spec(**changes: object) -> WorldModelSpec:
    values = {"size": (8, 6), "views": 1, "frames_per_step": 1, "frame_rate": 5.0, "profile": "vap"} | changes
    return WorldModelSpec(name="mine", fingerprint="f", **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: spec(size=(8, 0)), r"size of world 'mine': given \(8, 0\), expected \(width, height\)"),
        (lambda: spec(size=(8, 8, 3)), "size of world 'mine'"),
        (lambda: spec(views=0), "views of world 'mine': given 0, expected at least 1"),
        (lambda: spec(frames_per_step=0), "frames_per_step of world 'mine': given 0"),
        (lambda: spec(frame_rate=0.0), "frame_rate of world 'mine': given 0.0, expected a positive number"),
        (lambda: spec(frame_rate=float("nan")), "frame_rate of world 'mine': given nan"),
        (lambda: KinematicWorld(views=0), "views of world 'kinematic'"),
        (lambda: KinematicWorld.load(Path("w")), "weights of world 'kinematic': given w, expected None"),
    ],
)
def test_errors(make: Callable[[], object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        make()
