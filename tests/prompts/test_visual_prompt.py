"""The record of a prompt: rows, frames, joining and the checks at its boundary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from vap_sim.errors import InvalidInput
from vap_sim.prompts import ReferenceClip, VisualPrompt


def prompt(rows: int = 3, seed: int = 0, **fields: object) -> VisualPrompt:
    source = torch.Generator().manual_seed(seed)
    pictures = torch.randint(0, 256, (rows, 2, 4, 6, 8, 3), dtype=torch.uint8, generator=source)
    clip = torch.randint(0, 256, (rows, 5, 6, 8, 3), dtype=torch.uint8, generator=source)
    full: dict[str, object] = {
        "joints": torch.rand(rows, 4, 7, generator=source),
        "reference": ReferenceClip(clip, tuple(f"clip {seed}.{i}" for i in range(rows))),
        "motion": ("pour",),
        "text": tuple(f"row {seed}.{i}" for i in range(rows)),
        "projections": torch.rand(rows, 2, 4, 3, 4, generator=source),
        "tool": torch.rand(rows, 4, 4, 4, generator=source),
        "bones": torch.rand(rows, 4, 5, 8, generator=source),
    }
    return VisualPrompt(pictures, **{**full, **fields})  # type: ignore[arg-type]


def same(a: VisualPrompt, b: VisualPrompt) -> bool:
    assert a.joints is not None and b.joints is not None
    assert a.reference is not None and b.reference is not None
    assert a.projections is not None and b.projections is not None
    assert a.tool is not None and b.tool is not None
    assert a.bones is not None and b.bones is not None
    return (
        torch.equal(a.skeleton, b.skeleton)
        and torch.equal(a.projections, b.projections)
        and torch.equal(a.tool, b.tool)
        and torch.equal(a.bones, b.bones)
        and torch.equal(a.joints, b.joints)
        and torch.equal(a.reference.frames, b.reference.frames)
        and (a.reference.text, a.motion, a.text) == (b.reference.text, b.motion, b.text)
    )


def test_sizes() -> None:
    one = prompt()
    assert (len(one), one.views, one.pixel_frames, one.size) == (3, 2, 4, (8, 6))


def test_rows_taken_apart_and_joined_are_the_same() -> None:
    one = prompt()
    assert same(VisualPrompt.cat([one.index([row]) for row in range(3)]), one)
    assert same(one.index(slice(None)), one)
    assert same(one.index(torch.tensor([True, False, True])), one.index([0, -1]))
    assert one.index([2, 0]).text == ("row 0.2", "row 0.0")


def test_joining_keeps_the_order_of_rows() -> None:
    a, b = prompt(2, seed=1), prompt(3, seed=2)
    both = VisualPrompt.cat([a, b])
    assert len(both) == 5
    assert same(both.index([0, 1]), a)
    assert same(both.index([2, 3, 4]), b)


def test_a_bare_prompt_joins_and_indexes() -> None:
    bare = VisualPrompt(prompt().skeleton)
    both = VisualPrompt.cat([bare, bare.index([1])])
    assert (len(both), both.joints, both.reference, both.text, both.projections) == (4, None, None, None, None)
    assert both.tool is None and both.bones is None and both.between(0, 1).bones is None
    assert bare.to("cpu").between(0, 1).joints is None


def test_several_demonstrations_keep_their_rows_and_their_order() -> None:
    first, second = prompt(seed=1).reference, prompt(seed=2).reference
    assert first is not None and second is not None
    one = prompt(reference=replace(first, more=(second,)))
    back = VisualPrompt.cat([one.index([row]) for row in (2, 0)]).to("cpu").reference
    assert back is not None and len(back.each) == 2
    for got, given in zip(back.each, (first, second), strict=True):
        expected = given.index([2, 0])
        assert torch.equal(got.frames, expected.frames) and got.text == expected.text and not got.more


def test_frames_between() -> None:
    one = prompt()
    part = one.between(1, 3)
    assert torch.equal(part.skeleton, one.skeleton[:, :, 1:3])
    assert one.joints is not None and part.joints is not None
    assert torch.equal(part.joints, one.joints[:, 1:3])
    assert one.projections is not None and part.projections is not None
    assert torch.equal(part.projections, one.projections[:, :, 1:3])
    assert one.tool is not None and part.tool is not None and torch.equal(part.tool, one.tool[:, 1:3])
    assert one.bones is not None and part.bones is not None and torch.equal(part.bones, one.bones[:, 1:3])
    assert part.reference is one.reference


def test_moving_to_a_device_keeps_everything() -> None:
    assert same(prompt().to("cpu"), prompt())
    moved = prompt().to("meta")
    assert moved.joints is not None and moved.reference is not None
    assert moved.bones is not None and moved.bones.device.type == "meta"
    assert {moved.skeleton.device.type, moved.joints.device.type, moved.reference.frames.device.type} == {"meta"}


PICTURES = torch.zeros(2, 1, 3, 4, 5, 3, dtype=torch.uint8)
CLIP = torch.zeros(2, 3, 4, 5, 3, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: VisualPrompt(PICTURES.float()), r"VisualPrompt.skeleton: given torch.float32 .* expected torch.uint8"),
        (lambda: VisualPrompt(PICTURES[0]), r"given torch.uint8 \(1, 3, 4, 5, 3\), expected .*\(b, V, F, H, W, 3\)"),
        (lambda: VisualPrompt(PICTURES[..., :1]), "VisualPrompt.skeleton"),
        (lambda: VisualPrompt(PICTURES, joints=torch.zeros(2, 4, 7)), r"joints: .* floats of shape \(2, 3, J\)"),
        (lambda: VisualPrompt(PICTURES, joints=torch.zeros(2, 3, 7).long()), "joints: given torch.int64"),
        (lambda: VisualPrompt(PICTURES, reference=ReferenceClip(CLIP[:1])), "reference: given 1 rows, expected 2 rows"),
        (lambda: VisualPrompt(PICTURES, text=("a",)), "text: given 1 texts, expected a tuple of 2 texts"),
        (lambda: VisualPrompt(PICTURES, text="ab"), "text: given 'ab', expected a tuple of 2 texts"),  # type: ignore[arg-type]
        (
            lambda: VisualPrompt(PICTURES, projections=torch.zeros(2, 3, 3, 4)),
            r"torch.float32 \(2, 1, 3, 3, 4",
        ),
        (lambda: VisualPrompt(PICTURES, projections=torch.zeros(2, 1, 3, 3, 4).double()), "given torch.float64"),
        (
            lambda: VisualPrompt.cat([prompt(), prompt(projections=None)]),
            "no projections, tool, 5 bones, text, expected",
        ),
        (lambda: VisualPrompt.cat([prompt(), prompt(tool=None)]), "projections, no tool, 5 bones, text, expected"),
        (lambda: VisualPrompt.cat([prompt(), prompt(bones=None)]), "projections, tool, no bones, text, expected the"),
        (
            lambda: VisualPrompt.cat([prompt(), prompt(bones=torch.zeros(3, 4, 6, 8))]),
            "tool, 6 bones, text, expected the same as the first: .* tool, 5 bones, text",
        ),
        (
            lambda: VisualPrompt(PICTURES, tool=torch.zeros(2, 3, 3, 4)),
            r"given torch.float32 \(2, 3, 3, 4\), expected torch.float32 \(2, 3, 4, 4\)",
        ),
        (
            lambda: VisualPrompt(PICTURES, tool=torch.zeros(2, 3, 4, 4).double()),
            "VisualPrompt.tool: given torch.fl",
        ),
        (
            lambda: VisualPrompt(PICTURES, bones=torch.zeros(2, 3, 5, 7)),
            r"bones: given torch.float32 \(2, 3, 5, 7\), expected torch.float32 \(2, 3, B, 8\)",
        ),
        (lambda: VisualPrompt(PICTURES, bones=torch.zeros(2, 4, 5, 8)), r"bones: given torch.float32 \(2, 4, 5, 8\)"),
        (lambda: VisualPrompt(PICTURES, bones=torch.zeros(3, 3, 5, 8)), r"bones: given torch.float32 \(3, 3, 5, 8\)"),
        (lambda: VisualPrompt(PICTURES, bones=torch.zeros(2, 3, 8)), r"bones: given torch.float32 \(2, 3, 8\)"),
        (lambda: VisualPrompt(PICTURES, bones=torch.zeros(2, 3, 5, 8).double()), "bones: given torch.float64"),
        (lambda: ReferenceClip(CLIP.bool()), "ReferenceClip.frames: given torch.bool"),
        (lambda: ReferenceClip(CLIP, ("a", "b", "c")), "ReferenceClip.text: given 3 texts"),
        (lambda: ReferenceClip(CLIP, more=(ReferenceClip(CLIP[:1]),)), "ReferenceClip.more: given 1 rows and 0 more"),
        (lambda: ReferenceClip(CLIP, more=(ReferenceClip(CLIP, more=(ReferenceClip(CLIP),)),)), "2 rows and 1 more"),
        (lambda: VisualPrompt.cat([]), "prompts to join: given none"),
        (lambda: VisualPrompt.cat([prompt(), prompt(motion=("push",))]), "motion .'push',."),
        (lambda: VisualPrompt.cat([prompt(), prompt(text=None)]), "no text, expected the same as the first"),
        (lambda: prompt().between(2, 2), "pixel frames: given 2..2, expected 0 <= first < last <= 4"),
        (lambda: prompt().between(0, 5), "pixel frames: given 0..5"),
    ],
)
def test_errors(make: Callable[[], object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        make()
