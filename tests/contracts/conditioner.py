"""What every conditioner must obey, alone and beside others. A new one adds a `Subject` to test_conditioners.py."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from tests.models.cogvideox.conftest import FRAMES, ROWS, SIZE, WORDS, small_backbone
from tests.models.cogvideox.control_tools import CODEC, noised, prompt, run
from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.injection import Conditioner, Injection, Noised, Prepared, combine
from vap_sim.models.cogvideox.prepared import carry_of, drop_rows
from vap_sim.models.cogvideox.text import HashedWords
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt

TEXT = HashedWords(WORDS, 8)
PIXELS = 1 + 4 * (FRAMES - 1)
FRAME_LEVELS = torch.tensor([[0, 100, 500, 999], [3, 3, 3, 700]])
CLOSE = 2e-5


@dataclass(frozen=True)
class Subject:
    """A conditioner under test.

    make: with a scale if it has one, awake, so that what it adds is heard; told: the fields of a prompt that it is told
    by, of which a dream's start lacks none; scaled: whether it has a scale; inside: what it does, it does inside the
    backbone once it is installed, and it neither drops rows nor lets a scale be set.
    """

    name: str
    make: Callable[..., Conditioner]
    told: tuple[str, ...] = ()
    scaled: bool = True
    inside: bool = False


def demonstration(rows: int = ROWS, seed: int = 0, frames: int = PIXELS) -> ReferenceClip:
    """Noise of the prompts' own size, a caption a row."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, frames, 8 * SIZE[0], 8 * SIZE[1], 3)
    pictures = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return ReferenceClip(pictures, tuple(f"action {seed} {row}" for row in range(rows)))


def whole_prompt(frames: int = PIXELS, seed: int = 3) -> VisualPrompt:
    """A prompt with everything that a conditioner may be told by."""
    return replace(
        prompt(frames, seed=seed), reference=demonstration(seed=seed), motion=("wave",), text=("lift", "push")
    )


def ready(one: Conditioner, told: VisualPrompt | None = None) -> Prepared:
    """What it makes of the whole prompt, or of another."""
    with torch.no_grad():
        return one.prepare(told or whole_prompt(), CODEC, text=TEXT)


@contextmanager
def installed(backbone: Backbone, *conditioners: Conditioner) -> Iterator[None]:
    """The conditioners on the backbone, the last taken off first."""
    undo = [one.install(backbone) for one in conditioners]
    try:
        yield
    finally:
        for take_off in reversed(undo):
            take_off()


def told(
    backbone: Backbone, conditioners: Sequence[Conditioner], given: Noised | None = None, **changes: Any
) -> Tensor:
    """One pass with all of them. changes: `prompt`, or `prepared`, one of each conditioner."""
    given = given or noised()
    prepared = changes.get("prepared") or [ready(one, changes.get("prompt")) for one in conditioners]
    with torch.no_grad():
        said = [one.inject(own, given) for one, own in zip(conditioners, prepared, strict=True)]
        return run(backbone, combine(said), given)


def row_of(given: Noised, row: int) -> Noised:
    """One row of a pass."""
    values = {item.name: getattr(given, item.name) for item in fields(given)}
    rows = {"latents", "timestep", "text", "channels"}
    return Noised(**{name: value[row : row + 1] if name in rows else value for name, value in values.items()})


class ComposedContract:
    """What several that speak at once obey, and one too. Subclass it as Test<...> with `subjects`."""

    subjects: tuple[Subject, ...]

    def made(self, backbone: Backbone, **settings: Any) -> list[Conditioner]:
        return [one.make(backbone, **(settings if one.scaled else {})) for one in self.subjects]

    def test_scale_zero_is_the_bare_backbone(self) -> None:
        if any(one.inside for one in self.subjects):
            return  # one that works inside the backbone has no scale: it is taken off
        backbone = small_backbone()
        silent = self.made(backbone, scale=0.0)
        with installed(backbone, *silent):
            for given in (noised(), noised(timestep=FRAME_LEVELS)):
                said = [one.inject(ready(one), given) for one in silent]
                assert all(_is_empty(one) for one in said)
                assert torch.equal(told(backbone, silent, given), run(backbone, given=given).detach())

    def test_taken_off_all_names_and_outputs_are_as_before(self) -> None:
        backbone = small_backbone()
        before, names = run(backbone).detach(), _names(backbone)
        conditioners = self.made(backbone)
        with installed(backbone, *conditioners):
            told(backbone, conditioners)
        assert _names(backbone) == names
        assert torch.equal(run(backbone).detach(), before)

    def test_the_order_does_not_matter(self) -> None:
        backbone = small_backbone()
        conditioners = self.made(backbone)
        with installed(backbone, *conditioners):
            first, second = told(backbone, conditioners), told(backbone, conditioners[::-1])
        torch.testing.assert_close(first, second, rtol=0, atol=CLOSE)

    def test_a_row_alone_is_the_row_among_others(self) -> None:
        backbone = small_backbone()
        conditioners = self.made(backbone)
        whole = whole_prompt()
        with installed(backbone, *conditioners):
            for given in (noised(), noised(timestep=FRAME_LEVELS)):
                together = told(backbone, conditioners, given)
                for row in range(ROWS):
                    alone = told(backbone, conditioners, row_of(given, row), prompt=whole.index([row]))
                    torch.testing.assert_close(alone, together[row : row + 1], rtol=0, atol=CLOSE)

    def test_rows_that_are_dropped_are_told_nothing(self) -> None:
        if any(one.inside for one in self.subjects):
            return  # its weights are the backbone's own for the time
        backbone = small_backbone()
        conditioners, rows = self.made(backbone), torch.tensor([False, True])
        with installed(backbone, *conditioners):
            bare, whole = run(backbone).detach(), told(backbone, conditioners)
            some = told(backbone, conditioners, prepared=[drop_rows(ready(one), rows) for one in conditioners])
            none = [drop_rows(ready(one), torch.tensor([True, True])) for one in conditioners]
            torch.testing.assert_close(told(backbone, conditioners, prepared=none), bare, rtol=0, atol=CLOSE)
        torch.testing.assert_close(some[0], whole[0], rtol=0, atol=CLOSE)
        torch.testing.assert_close(some[1], bare[1], rtol=0, atol=CLOSE)

    def test_a_later_clip_of_the_dream_hears_what_lasts(self) -> None:
        """Shown nothing again, a demonstration or a learned motion still tells, and what was prepared is untouched."""
        backbone, whole = small_backbone(), whole_prompt()
        conditioners = self.made(backbone)
        with installed(backbone, *conditioners):
            prepared = [ready(one) for one in conditioners]
            kept = [{name: value.clone() for name, value in own.items()} for own in prepared]
            later = replace(whole, reference=None, motion=())
            with torch.no_grad():
                again = [
                    one.prepare(later, CODEC, carry_of(own), text=TEXT)
                    for one, own in zip(conditioners, prepared, strict=True)
                ]
            first, second = (told(backbone, conditioners, prepared=some) for some in (prepared, again))
        torch.testing.assert_close(first, second, rtol=0, atol=CLOSE)
        for own, before in zip(prepared, kept, strict=True):
            assert own.keys() == before.keys() and all(torch.equal(own[name], before[name]) for name in own)


class AloneContract:
    """What one obeys beside `ComposedContract`."""

    subjects: tuple[Subject, ...]

    def made(self, backbone: Backbone, **settings: Any) -> list[Conditioner]:
        return [one.make(backbone, **(settings if one.scaled else {})) for one in self.subjects]

    def test_it_is_heard_and_repeats_its_bits(self) -> None:
        backbone = small_backbone()
        bare, conditioners = run(backbone).detach(), self.made(backbone)
        with installed(backbone, *conditioners):
            state = torch.random.get_rng_state()
            first, again = told(backbone, conditioners), told(backbone, conditioners)
            assert torch.equal(torch.random.get_rng_state(), state), "no number of the global generator is taken"
        assert torch.equal(first, again)
        assert float((first - bare).abs().max()) > 1e-4

    def test_rows_told_otherwise_leave_the_others_alone(self) -> None:
        backbone = small_backbone()
        conditioners = self.made(backbone)
        one, other = whole_prompt(), whole_prompt(seed=8)
        mixed = VisualPrompt.cat([one.index([0]), other.index([1])])
        with installed(backbone, *conditioners):
            first, second = told(backbone, conditioners, prompt=one), told(backbone, conditioners, prompt=mixed)
        torch.testing.assert_close(first[0], second[0], rtol=0, atol=CLOSE)
        if any({"skeleton", "joints", "reference"} & set(subject.told) for subject in self.subjects):
            assert float((first[1] - second[1]).abs().max()) > 1e-4

    def test_what_is_missing_at_the_start_is_named(self) -> None:
        backbone, whole = small_backbone(), whole_prompt()
        for subject, one in zip(self.subjects, self.made(backbone), strict=True):
            for name in subject.told:
                if name == "skeleton":
                    continue  # a prompt without does not exist
                poor = replace(whole, **{name: () if name == "motion" else None})
                try:
                    ready(one, poor)
                except InvalidInput as error:
                    assert f"VisualPrompt.{name}" in str(error)
                else:
                    raise AssertionError(f"{subject.name} did not miss {name}")

    def test_what_is_prepared_leads_with_rows(self) -> None:
        backbone = small_backbone()
        for one in self.made(backbone):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                prepared = ready(one)
            assert all(len(value) == ROWS for value in prepared.values())


def _is_empty(one: Injection) -> bool:
    return all(value is None or (hasattr(value, "__len__") and len(value) == 0) for value in vars(one).values())


def _names(backbone: Backbone) -> list[str]:
    return [name for name, _ in backbone.named_parameters()] + list(backbone.state_dict())
