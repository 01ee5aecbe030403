"""The shipped worlds against the contract, and the contract against worlds that break it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.contracts.world_model import BYTES_A_ROW, MISUSES, WorldModelContract
from vap_sim.errors import InvalidInput
from vap_sim.models.compact.model import CompactWorld
from vap_sim.models.compact.network import CompactConfig, CompactNetwork, UNetConfig
from vap_sim.models.compact.views import CompactViews
from vap_sim.models.kinematic import KinematicWorld, paste
from vap_sim.models.protocol import Rollout, WorldModel, WorldModelSpec
from vap_sim.models.rollout import imagine, start_keys
from vap_sim.models.still import StillWorld
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState


class TestKinematic(WorldModelContract):
    @staticmethod
    def make() -> WorldModel:
        return KinematicWorld()


class TestKinematicManyViews(WorldModelContract):
    """Two views, three frames a step, pictures that are wider than high."""

    long_run = 100

    @staticmethod
    def make() -> WorldModel:
        return KinematicWorld(size=(40, 24), views=2, frames_per_step=3, frame_rate=15.0)


class TestStill(WorldModelContract):
    """Two views and three frames a step, since nothing but shapes can go wrong."""

    @staticmethod
    def make() -> WorldModel:
        return StillWorld(size=(40, 24), views=2, frames_per_step=3, frame_rate=15.0)


class TestCompact(WorldModelContract):
    """Random weights in every layer, so that everything moves; the size and widths that ship."""

    long_run = 25

    @staticmethod
    def make() -> WorldModel:
        return compact(CompactConfig())


class TestCompactSmall(WorldModelContract):
    """Small pictures and narrow layers, so that a thousand steps take little time."""

    @staticmethod
    def make() -> WorldModel:
        return compact(replace(SMALL_AND_TOLD, carry=False))


class TestCompactThatIsToldOfCarrying(WorldModelContract):
    """What moves objects is told where the tool goes."""

    @staticmethod
    def make() -> WorldModel:
        return compact(SMALL_AND_TOLD)


class TestCompactViewsThatAreToldOfCarrying(WorldModelContract):
    """Two cameras, and what moves objects is told where the tool goes."""

    long_run = 25
    bytes_a_row = 2 * BYTES_A_ROW

    @staticmethod
    def make() -> WorldModel:
        return CompactViews(random_network(SMALL_AND_TOLD), views=2)


class TestCompactViewsThatKnowWhatIsTouched(WorldModelContract):
    """Two cameras, and things are moved in space by what is told of bones."""

    long_run = 25
    bytes_a_row = 2 * BYTES_A_ROW

    @staticmethod
    def make() -> WorldModel:
        return CompactViews(random_network(replace(SMALL_AND_TOLD, contact=True)), views=2)


class TestOneCompactViewThatKnowsWhatIsTouched(WorldModelContract):
    long_run = 200

    @staticmethod
    def make() -> WorldModel:
        return CompactViews(random_network(replace(SMALL_AND_TOLD, carry=False, contact=True)), views=1)


class TestCompactViews(WorldModelContract):
    """Three cameras, the last of which moves within a prompt of several frames."""

    long_run = 25
    bytes_a_row = 3 * BYTES_A_ROW

    @staticmethod
    def make() -> WorldModel:
        return CompactViews(random_network(replace(SMALL_AND_TOLD, carry=False)), views=3)


_NET = UNetConfig((8, 8, 8, 8), (1, 1, 1, 1))
SMALL_AND_TOLD = CompactConfig(size=32, scene=_NET, motion=_NET, robot=_NET, carry=True)


def compact(config: CompactConfig) -> CompactWorld:
    """A compact world of random weights."""
    return CompactWorld(random_network(config))


def random_network(config: CompactConfig) -> CompactNetwork:
    """Weights that are random, those that training starts at zero too."""
    network = CompactNetwork(config)
    source = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for value in network.parameters():
            # Small enough that motion, which is fed back, stays a few pixels for a thousand steps.
            spread = 0.8 * value[0].numel() ** -0.5 if value.ndim > 1 else 0.2
            value.copy_(torch.randn(value.shape, generator=source) * spread)
    return network


@pytest.mark.skipif(find_spec("diffusers") is None, reason="diffusers is not installed")
class TestCogVideoXStream(WorldModelContract):
    """Caches, a codec with a carry and a conditioner with one, at a tiny width."""

    long_run = 40

    @staticmethod
    def make() -> WorldModel:
        from tests.models.cogvideox.worlds import CarryingCodec, tiny_world

        return tiny_world(steps=1, history=2, codec=CarryingCodec(8))


@pytest.mark.skipif(find_spec("diffusers") is None, reason="diffusers is not installed")
class TestCogVideoXChunk(WorldModelContract):
    """Clips of nine frames, of which the first is the last of the clip before."""

    long_run = 25

    @staticmethod
    def make() -> WorldModel:
        from tests.models.cogvideox.worlds import tiny_world

        return tiny_world(mode="chunk", steps=1, chunk=9)


class Broken:
    """A world that obeys the contract until a test replaces one of its parts."""

    def __init__(self, **parts: Callable[..., Any]) -> None:
        self.inner = KinematicWorld(size=(16, 12))
        self.calls = 0
        self.parts = parts

    @property
    def spec(self) -> WorldModelSpec:
        return self.inner.spec

    def encode(self, frames: Tensor, prompt: VisualPrompt, seed: Sequence[int] | Tensor) -> WorldState:
        encode: Callable[..., WorldState] = self.parts.get("encode", lambda world, *rest: world.inner.encode(*rest))
        return encode(self, frames, prompt, seed)

    def step(self, state: WorldState, prompt: VisualPrompt) -> tuple[WorldState, Tensor]:
        self.calls += 1
        after, frames = self.inner.step(state, prompt)
        change: Callable[..., tuple[WorldState, Tensor]] = self.parts.get(
            "step", lambda world, old, new, film: (new, film)
        )
        return change(self, state, after, frames)

    def imagine(self, state: WorldState, prompts: VisualPrompt, *, decode: bool = True) -> Rollout:
        plan: Callable[[VisualPrompt], VisualPrompt] = self.parts.get("plan", lambda prompts: prompts)
        rollout = imagine(self, state, plan(prompts), decode=decode)
        after: Callable[[Rollout], Rollout] = self.parts.get("rollout", lambda rollout: rollout)
        return after(rollout)


def put(state: WorldState, **context: Tensor) -> WorldState:
    return replace(state, context={**state.context, **context})


def scribbles(_: Broken, old: WorldState, new: WorldState, frames: Tensor) -> tuple[WorldState, Tensor]:
    old.context["frame"].add_(1)
    return new, frames


def remembers_frames_it_gave_away(
    _: Broken, __: WorldState, new: WorldState, film: Tensor
) -> tuple[WorldState, Tensor]:
    return put(new, frame=film[:, :, 0]), film


def holds(world: Broken, frames: Tensor, prompt: VisualPrompt, seed: Sequence[int] | Tensor) -> WorldState:
    state = world.inner.encode(frames, prompt, seed)
    return put(state, frame=frames)


def listens(world: Broken, frames: Tensor, prompt: VisualPrompt, seed: Any) -> WorldState:
    return world.inner.encode(frames if prompt.text is None else frames ^ len(prompt.text[0]), prompt, seed)


def fat(world: Broken, *given: Any) -> WorldState:
    state = world.inner.encode(*given)
    return put(state, spare=torch.zeros(state.rows, 2**20, dtype=torch.uint8))


def grows(_: Broken, old: WorldState, new: WorldState, frames: Tensor) -> tuple[WorldState, Tensor]:
    past = old.context.get("past", frames[:, :, :0])
    return put(new, past=torch.cat([past, frames], dim=2)), frames


def slows(_: Broken, old: WorldState, new: WorldState, frames: Tensor) -> tuple[WorldState, Tensor]:
    for _step in range(int(old.step[0])):
        frames = frames | 0
    return new, frames


def counts_calls(world: Broken, _: WorldState, new: WorldState, film: Tensor) -> tuple[WorldState, Tensor]:
    return new, film ^ world.calls % 256


def unchecked(world: Broken, frames: Tensor, prompt: VisualPrompt, seed: Any) -> WorldState:
    """A world that takes what it is given."""
    rows = len(frames)
    seed = [int(value) & 2**62 - 1 for value in (seed if isinstance(seed, Sequence | Tensor) else [seed])]
    context = {"frame": frames, "skeleton": prompt.skeleton[:, :, 0].expand(rows, *[-1] * 4)}
    return WorldState(context, *start_keys(rows, (seed * rows)[:rows]), model=world.spec.fingerprint)


class Careless(Broken):
    """Checks nothing at all."""

    def __init__(self) -> None:
        super().__init__(encode=unchecked)

    def step(self, state: WorldState, prompt: VisualPrompt) -> tuple[WorldState, Tensor]:
        picture, drawn = state.context["frame"][:, :1, None], prompt.skeleton[:1, :1, :1]
        return state.advanced(state.context), paste(
            drawn[..., : picture.shape[-2], :], picture[..., : drawn.shape[-2], :]
        )

    def imagine(self, state: WorldState, prompts: VisualPrompt, *, decode: bool = True) -> Rollout:
        return Rollout(*self.step(state, next(iter([prompts])))) if prompts.pixel_frames else Rollout(state, None)


OFFENCES: dict[str, tuple[Callable[[], Broken], str]] = {
    "floats": (lambda: Broken(step=lambda w, s, n, f: (n, f.float())), "shapes_and_counters"),
    "no frame axis": (lambda: Broken(step=lambda w, s, n, f: (n, f[:, :, 0])), "shapes_and_counters"),
    "stands still": (lambda: Broken(step=lambda w, s, n, f: (s, f)), "shapes_and_counters"),
    "loses the model": (lambda: Broken(step=lambda w, s, n, f: (replace(n, model=""), f)), "shapes_and_counters"),
    "other keys": (lambda: Broken(step=lambda w, s, n, f: (replace(n, key=n.key + 1), f)), "shapes_and_counters"),
    "scribbles": (lambda: Broken(step=scribbles), "step_leaves_its_input_untouched"),
    "lends memory": (lambda: Broken(step=remembers_frames_it_gave_away), "step_leaves_its_input_untouched"),
    "holds": (lambda: Broken(encode=holds), "encode_keeps_no_hold_on_its_input"),
    "hidden counter": (lambda: Broken(step=counts_calls), "same_state_and_prompt_same_bits"),
    "leaks": (
        lambda: Broken(step=lambda w, s, n, f: (n, f + (f.float().mean() / 8).to(torch.uint8))),
        "a_row_alone_equals_the_row_in_a_batch",
    ),
    "knows its place": (
        lambda: Broken(step=lambda w, s, n, f: (n, f + torch.arange(len(f)).view(-1, 1, 1, 1, 1, 1).to(torch.uint8))),
        "rows_taken_apart_and_joined_dream_the_same",
    ),
    "counts rows": (lambda: Broken(step=lambda w, s, n, f: (n, f + len(f))), "forks_dream_what_their_parent_dreams"),
    "remembers outside": (
        lambda: Broken(step=lambda w, s, n, f: (n, f + s.context["frame"].data_ptr() // 64 % 251)),
        "saved_and_loaded_states_dream_the_same",
    ),
    "skips": (
        lambda: Broken(plan=lambda p: replace(p, skeleton=p.skeleton.roll(1, dims=2))),
        "imagining_equals_stepping",
    ),
    "forgets the end": (
        lambda: Broken(rollout=lambda r: replace(r, state=replace(r.state, step=r.state.step - 1))),
        "imagining_equals_stepping",
    ),
    "always decodes": (
        lambda: Broken(rollout=lambda r: replace(r, frames=torch.zeros(1) if r.frames is None else r.frames)),
        "imagining_equals_stepping",
    ),
    "listens in secret": (lambda: Broken(encode=listens), "captions_are_heard_where_the_spec_says_so"),
    "grows": (lambda: Broken(step=grows), "a_late_step_costs_what_an_early_one_does"),
    "slows": (lambda: Broken(step=slows), "a_late_step_costs_what_an_early_one_does"),
    "fat": (lambda: Broken(encode=fat), "states_are_small"),
}


class Short(WorldModelContract):
    long_run = 30

    @staticmethod
    def make() -> WorldModel:
        return Broken()


def run(test: str, world: WorldModel, folder: Path, **extra: object) -> None:
    """One test of the contract on one world."""
    contract = Short()
    contract.make = lambda: world  # type: ignore[method-assign]
    check = getattr(contract, f"test_{test}")
    known: dict[str, object] = {"world": world, "rows": 2, "tmp_path": folder, **extra}
    check(**{name: known[name] for name in inspect.signature(check).parameters})


def test_every_law_has_an_offender() -> None:
    laws = {name.removeprefix("test_") for name in vars(WorldModelContract) if name.startswith("test_")}
    assert laws - {test for _, test in OFFENCES.values()} == {"refuses", "two_makes_are_one_world"}


@pytest.mark.parametrize("test", sorted({test for _, test in OFFENCES.values()}))
def test_an_unbroken_world_passes(test: str, tmp_path: Path) -> None:
    run(test, Broken(), tmp_path)


@pytest.mark.parametrize("offence", OFFENCES)
def test_the_contract_catches(offence: str, tmp_path: Path) -> None:
    make, test = OFFENCES[offence]
    with pytest.raises(AssertionError):
        run(test, make(), tmp_path)


@pytest.mark.parametrize("misuse", MISUSES, ids=lambda misuse: misuse.name)
def test_the_contract_catches_a_world_that_takes(misuse: Any, tmp_path: Path) -> None:
    """Whatever a careless world does, it does not refuse with the words that are asked for."""
    try:
        misuse.call(Careless())
    except InvalidInput as error:
        pytest.fail(f"refused: {error}")
    except (RuntimeError, IndexError, ValueError, TypeError):
        return
