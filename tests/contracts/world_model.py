"""What every world model must obey. A new world adds a class of a few lines to test_world_models.py."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vap_sim.errors import InvalidInput
from vap_sim.models.protocol import WorldModel
from vap_sim.prompts.visual_prompt import BONE, VisualPrompt
from vap_sim.robots.camera import Camera
from vap_sim.state import WorldState

ROWS = 3
BYTES_A_ROW = 2**20


def pictures(world: WorldModel, rows: int = ROWS, seed: int = 0) -> Tensor:
    """Smooth random pictures (rows, V, H, W, 3) uint8."""
    source = torch.Generator().manual_seed(seed)
    width, height = world.spec.size
    coarse = torch.rand(rows * world.spec.views, 3, 8, 8, generator=source) * 255
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return smooth.permute(0, 2, 3, 1).reshape(rows, world.spec.views, height, width, 3).to(torch.uint8)


def prompts(world: WorldModel, pixel_frames: int, rows: int = ROWS, seed: int = 0) -> VisualPrompt:
    """Bright bars on black, another one in every row, view and frame, with the softened edge that drawings have."""
    source = torch.Generator().manual_seed(1000 + seed)
    width, height = world.spec.size
    lead = (rows, world.spec.views, pixel_frames)
    middle = torch.rand(*lead, 1, 1, 1, 2, generator=source) * 0.8 + 0.1
    reach = torch.tensor([0.3, 0.05]) * (0.5 + torch.rand(*lead, 1, 1, 1, 2, generator=source))
    across = torch.linspace(0, 1, width).view(1, width, 1)
    down = torch.linspace(0, 1, height).view(height, 1, 1)
    inside = torch.minimum(
        reach[..., 0] - (across - middle[..., 0]).abs(), reach[..., 1] - (down - middle[..., 1]).abs()
    )
    color = 140 + 115 * torch.rand(*lead, 1, 1, 3, generator=source)
    drawn = ((inside * height).clamp(0, 1) * color).to(torch.uint8)
    return VisualPrompt(
        drawn,
        projections=_projections(lead, (width, height)) if world.spec.reads_cameras else None,
        tool=_tool(rows, pixel_frames, source) if world.spec.reads_tool else None,
        bones=_bones(rows, pixel_frames, source) if world.spec.reads_bones else None,
    )


def _tool(rows: int, frames: int, source: torch.Generator) -> Tensor:
    """Poses (rows, frames, 4, 4) of a tool that wanders over a table."""
    out = torch.eye(4).repeat(rows, frames, 1, 1)
    out[..., :3, 3] = torch.tensor([0.45, 0.0, 0.1]) + 0.02 * torch.randn(rows, frames, 3, generator=source)
    return out


def _bones(rows: int, frames: int, source: torch.Generator) -> Tensor:
    """Bones (rows, frames, 6, BONE) of four limbs of an arm and two of a gripper that wander over a table."""
    out = torch.zeros(rows, frames, 6, BONE)
    ends = torch.tensor([0.45, 0.0, 0.1]) + 0.08 * torch.randn(rows, frames, 6, 2, 3, generator=source)
    out[..., :6] = ends.flatten(3)
    out[..., 6] = 0.01 + 0.03 * torch.rand(rows, 1, 6, generator=source)
    out[..., 4:, 7] = 1
    return out


def _projections(lead: tuple[int, int, int], size: tuple[int, int]) -> Tensor:
    """Cameras side by side that look at one place from a metre away; those after the first two go forward, frame by
    frame: (*lead, 3, 4)."""
    rows, views, frames = lead
    out = torch.zeros(views, frames, 3, 4)
    for view in range(views):
        eye = (1.1, 0.6 - 0.8 * view, 0.6)
        camera = Camera.look_at(f"view {view}", eye, (0.45, 0.0, 0.05), size=size, focal_px=1.4 * size[1])
        turn = camera.T_parent_camera[:3, :3].T
        for frame in range(frames):
            ahead = camera.T_parent_camera[:3, 2] * (0.01 * frame if view > 1 else 0.0)
            eye_now = camera.T_parent_camera[:3, 3:] + ahead[:, None]
            out[view, frame] = camera.intrinsics @ torch.cat([turn, -turn @ eye_now], dim=1)
    return out[None].repeat(rows, 1, 1, 1, 1)


def begin(world: WorldModel, rows: int = ROWS, steps: int = 2) -> WorldState:
    """The state of a dream that has gone on for some steps."""
    state = world.encode(pictures(world, rows), prompts(world, 1, rows), list(range(7, 7 + rows)))
    for number in range(steps):
        state, _ = world.step(state, next_prompt(world, number, rows))
    return state


def next_prompt(world: WorldModel, number: int = 50, rows: int = ROWS) -> VisualPrompt:
    return prompts(world, world.spec.frames_per_step, rows, seed=number)


def same_state(a: WorldState, b: WorldState) -> bool:
    """Whether two states are equal bit by bit."""
    return (
        a.model == b.model
        and torch.equal(a.step, b.step)
        and torch.equal(a.key, b.key)
        and a.context.keys() == b.context.keys()
        and all(value.dtype == b.context[name].dtype for name, value in a.context.items())
        and all(torch.equal(value, b.context[name]) for name, value in a.context.items())
    )


def assert_same_step(world: WorldModel, a: WorldState, b: WorldState, prompt: VisualPrompt) -> None:
    """Both states must dream the same next frame and remember the same."""
    (after_a, frames_a), (after_b, frames_b) = world.step(a, prompt), world.step(b, prompt)
    assert torch.equal(frames_a, frames_b)
    assert same_state(after_a, after_b)


class Work(TorchFunctionMode):
    """Counts tensor operations and the elements they return."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.elements = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        self.elements += out.numel() if isinstance(out, Tensor) else 0
        return out


@dataclass(frozen=True)
class Misuse:
    """A call that must be refused, and words of the refusal."""

    name: str
    words: str
    call: Callable[[WorldModel], object]


def _encode(world: WorldModel, **changes: Any) -> object:
    given = {"frames": pictures(world), "prompt": prompts(world, 1), "seed": [1, 2, 3], **changes}
    return world.encode(given["frames"], given["prompt"], given["seed"])


def _step(world: WorldModel, change: Callable[[Tensor], Tensor]) -> object:
    return world.step(begin(world, steps=0), VisualPrompt(change(next_prompt(world).skeleton)))


def _foreign(world: WorldModel) -> WorldState:
    return replace(begin(world, steps=0), model="another")


MISUSES = (
    Misuse("narrow frames", "frames for world", lambda w: _encode(w, frames=pictures(w)[..., :-1, :])),
    Misuse("low frames", "frames for world", lambda w: _encode(w, frames=pictures(w)[..., :-2, :, :])),
    Misuse("float frames", "given torch.float32", lambda w: _encode(w, frames=pictures(w).float())),
    Misuse("channels first", "frames for world", lambda w: _encode(w, frames=pictures(w).movedim(-1, 2))),
    Misuse("no batch axis", "frames for world", lambda w: _encode(w, frames=pictures(w)[0])),
    Misuse("no rows", "b >= 1", lambda w: _encode(w, frames=pictures(w)[:0], prompt=prompts(w, 1, 0), seed=[])),
    Misuse("a view more", "frames for world", lambda w: _encode(w, frames=pictures(w)[:, :1].repeat(1, 9, 1, 1, 1))),
    Misuse("two start poses", "2 pixel frames, expected 1", lambda w: _encode(w, prompt=prompts(w, 2))),
    Misuse("one start pose for all", "1 rows, expected 3", lambda w: _encode(w, prompt=prompts(w, 1, 1))),
    Misuse("too few seeds", "seed: .*3 integers", lambda w: _encode(w, seed=[1, 2])),
    Misuse("a number as seed", "seed: given 5", lambda w: _encode(w, seed=5)),
    Misuse("float seeds", "seed: given torch.float32", lambda w: _encode(w, seed=torch.zeros(3))),
    Misuse("a large seed", "seed: given 9223372036854775808", lambda w: _encode(w, seed=[0, 1, 2**63])),
    Misuse("prompt too long", "pixel frames, expected", lambda w: _step(w, lambda s: torch.cat([s, s], 2))),
    Misuse("prompt of other rows", "2 rows, expected 3", lambda w: _step(w, lambda s: s[:2])),
    Misuse("prompt of other views", "views, expected", lambda w: _step(w, lambda s: torch.cat([s, s], 1))),
    Misuse("prompt too small", "prompt for world .*size", lambda w: _step(w, lambda s: s[..., :-2, :])),
    Misuse("stepping a foreign state", "state of model 'another'", lambda w: w.step(_foreign(w), next_prompt(w))),
    Misuse("imagining from one", "state of model 'another'", lambda w: w.imagine(_foreign(w), next_prompt(w))),
    Misuse("imagining nothing", "0 pixel frames, expected a multiple", lambda w: w.imagine(begin(w), prompts(w, 0))),
    Misuse("imagining other rows", "2 rows, expected 3", lambda w: w.imagine(begin(w), next_prompt(w, rows=2))),
)


class WorldModelContract:
    """Subclass it as Test<World> with `make`. A slow world may check the cost of fewer steps than 1000."""

    grey_levels: ClassVar[int] = 0  # by which a row alone may differ from the same row in a batch; 1 is the most
    long_run: ClassVar[int] = 1000
    bytes_a_row: ClassVar[int] = BYTES_A_ROW

    @staticmethod
    def make() -> WorldModel:
        raise NotImplementedError("a contract class says how its world is made")

    @pytest.fixture(scope="class", name="world")
    @classmethod
    def _world(cls) -> WorldModel:
        return cls.make()

    def test_shapes_and_counters(self, world: WorldModel) -> None:
        spec, state = world.spec, begin(world, steps=0)
        assert (state.rows, state.model) == (ROWS, spec.fingerprint) and spec.fingerprint
        assert state.step.tolist() == [0] * ROWS
        assert state.key.tolist() == [7, 8, 9]
        after, frames = world.step(state, next_prompt(world))
        width, height = spec.size
        assert frames.shape == (ROWS, spec.views, spec.frames_per_step, height, width, 3)
        assert frames.dtype == torch.uint8
        assert after.step.tolist() == [1] * ROWS
        assert torch.equal(after.key, state.key) and after.model == state.model

    def test_two_makes_are_one_world(self, world: WorldModel) -> None:
        assert self.make().spec == world.spec

    def test_step_leaves_its_input_untouched(self, world: WorldModel) -> None:
        state, prompt = begin(world), next_prompt(world)
        before, drawn = copy.deepcopy(state), prompt.skeleton.clone()
        after, frames = world.step(state, prompt)
        world.imagine(state, prompt)
        assert same_state(state, before) and torch.equal(prompt.skeleton, drawn)
        frames.zero_()
        assert_same_step(world, after, world.step(before, prompt)[0], prompt)

    def test_encode_keeps_no_hold_on_its_input(self, world: WorldModel) -> None:
        frames, prompt = pictures(world), prompts(world, 1)
        seed = torch.tensor([7, 8, 9])
        state = world.encode(frames, prompt, seed)
        before = copy.deepcopy(state)
        for given in (frames, prompt.skeleton, seed):
            given.fill_(1)
        assert same_state(state, before)

    def test_same_state_and_prompt_same_bits(self, world: WorldModel) -> None:
        state = begin(world)
        first = world.step(state, next_prompt(world))
        begin(world, rows=1)  # dreaming something else in between leaves no trace
        second = world.step(state, next_prompt(world))
        assert torch.equal(first[1], second[1]) and same_state(first[0], second[0])
        assert same_state(begin(world), state)
        another = self.make()
        assert torch.equal(another.step(state, next_prompt(another))[1], first[1])

    @pytest.mark.parametrize("rows", [2, 7])
    def test_a_row_alone_equals_the_row_in_a_batch(self, world: WorldModel, rows: int) -> None:
        frames, start = pictures(world, rows), prompts(world, 1, rows)
        together = world.encode(frames, start, list(range(rows)))
        alone = {
            row: world.encode(frames[row : row + 1], start.index([row]), [row]) for row in (0, rows // 2, rows - 1)
        }
        for number in range(3):
            prompt = next_prompt(world, number, rows)
            together, batch = world.step(together, prompt)
            for row in alone:
                alone[row], frame = world.step(alone[row], prompt.index([row]))
                assert int((frame[0].int() - batch[row].int()).abs().max()) <= self.grey_levels
                if self.grey_levels == 0:
                    assert same_state(alone[row], together.index([row]))

    def test_rows_taken_apart_and_joined_dream_the_same(self, world: WorldModel) -> None:
        state, prompt = begin(world), next_prompt(world)
        joined = WorldState.cat([state.index([row]) for row in range(ROWS)])
        assert same_state(joined, state)
        assert_same_step(world, joined, state, prompt)
        order = [2, 0, 1]
        frames = world.step(state, prompt)[1][order]
        assert torch.equal(world.step(state.index(order), prompt.index(order))[1], frames)

    def test_forks_dream_what_their_parent_dreams(self, world: WorldModel) -> None:
        state, prompt = begin(world), next_prompt(world)
        after, frames = world.step(state, prompt)
        forks = [0, 0, 1, 1, 2, 2]
        forked, copies = world.step(state.repeat(2), prompt.index(forks))
        assert torch.equal(copies, frames[forks]) and same_state(forked, after.index(forks))
        one, twins = state.index([1]), prompt.index([1, 1])
        assert torch.equal(world.step(one.repeat(2), twins)[1], frames[[1, 1]])
        assert_same_step(world, state.where(torch.tensor([True, False, True]), state), state, prompt)

    def test_saved_and_loaded_states_dream_the_same(self, world: WorldModel, tmp_path: Path) -> None:
        state, prompt = begin(world), next_prompt(world)
        state.save(tmp_path / "state.safetensors")
        for restored in (WorldState.load(tmp_path / "state.safetensors"), pickle.loads(pickle.dumps(state))):
            assert same_state(restored, state)
            assert_same_step(world, restored, state, prompt)

    def test_imagining_equals_stepping(self, world: WorldModel) -> None:
        state, each = begin(world), world.spec.frames_per_step
        plan = prompts(world, 3 * each, seed=9)
        rollout = world.imagine(state, plan)
        blind = world.imagine(state, plan, decode=False)
        film = []
        for first in range(0, 3 * each, each):
            state, frames = world.step(state, plan.between(first, first + each))
            film.append(frames)
        assert rollout.frames is not None and torch.equal(rollout.frames, torch.cat(film, dim=2))
        assert same_state(rollout.state, state)
        assert blind.frames is None and same_state(blind.state, state)

    def test_captions_are_heard_where_the_spec_says_so(self, world: WorldModel) -> None:
        """And from the start on: a step that does not repeat them dreams as one that does."""
        frames, start, prompt, films = pictures(world), prompts(world, 1), next_prompt(world), []
        for words in ("push the red cube to the goal", "lift the ball"):
            told = (words,) * ROWS
            state = world.encode(frames, replace(start, text=told), [7, 8, 9])
            films.append(world.step(state, prompt)[1])
            assert torch.equal(world.step(state, replace(prompt, text=told))[1], films[-1])
        assert torch.equal(*films) is not world.spec.reads_text

    def test_a_late_step_costs_what_an_early_one_does(self, world: WorldModel) -> None:
        state = begin(world, rows=1, steps=0)
        plan = [next_prompt(world, number, rows=1) for number in range(7)]
        costs = {}
        for number in range(1, self.long_run + 1):
            prompt = plan[number % 7]
            if number not in (20, self.long_run):
                state, _ = world.step(state, prompt)
                continue
            with Work() as work:
                state, _ = world.step(state, prompt)
            shapes = {name: (tuple(value.shape), value.dtype) for name, value in state.context.items()}
            costs[number] = (work.operations, work.elements, state.nbytes, shapes)
        early, late = costs[20], costs[self.long_run]
        assert early[0] > 0 and late[2:] == early[2:]
        # Some work follows what is seen, such as the places of objects; it may not grow.
        assert late[0] <= 1.05 * early[0] and late[1] <= 1.05 * early[1]

    def test_states_are_small(self, world: WorldModel) -> None:
        assert begin(world).nbytes <= ROWS * self.bytes_a_row

    @pytest.mark.parametrize("misuse", MISUSES, ids=lambda misuse: misuse.name)
    def test_refuses(self, world: WorldModel, misuse: Misuse) -> None:
        with pytest.raises(InvalidInput, match=misuse.words):
            misuse.call(world)
