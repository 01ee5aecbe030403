"""An inspection of recordings as a page of text."""

from __future__ import annotations

from collections.abc import Iterator

from vap_sim.data.checks import KINDS
from vap_sim.data.inspection import FIELDS, USES, Inspection

_SHOWN = 5


def report(seen: Inspection) -> str:
    """What is in the recordings, what is missing and for what, what is wrong, what was refused."""
    return "\n".join([*_contents(seen), *_uses(seen), *_findings(seen), *_refused(seen), *_notes(seen)])


def _contents(seen: Inspection) -> Iterator[str]:
    yield f"{seen.path}: {seen.format}, {_count(seen.listed, 'episode')} listed, {seen.episodes} read"
    if not seen.episodes or seen.shortest is None or seen.longest is None:
        return
    rates = ", ".join(f"{rate:g} Hz" for rate in sorted(seen.rates))
    yield f"  {_count(seen.frames, 'frame')}, {seen.seconds:.0f} s at {rates}"
    yield f"  shortest {seen.shortest[0]} frames ({seen.shortest[1]}), longest {seen.longest[0]} ({seen.longest[1]})"
    for name, view in seen.views.items():
        sizes = ", ".join(f"{width}x{height}" for width, height in sorted(view.sizes))
        known = f"camera known in {view.cameras}" if view.cameras else "camera unknown"
        yield f"  view {name}: {sizes} in {_count(view.episodes, 'episode')}, {known}"
    for name in FIELDS:
        count = seen.fields[name]
        if name == "joints":
            widths = ", ".join(map(str, sorted(seen.joint_counts)))
            more = f" ({widths} of them)" if count else ""
        elif name == "actions" and seen.action_names:
            more = f" ({', '.join(seen.action_names.most_common(1)[0][0])})"
        else:
            more = f" ({seen.succeeded} succeeded)" if name == "success" and count else ""
        yield f"  {name}: in {count} of {seen.episodes}{more}"
    told = sorted(((text, count) for text, count in seen.instructions.items() if text), key=lambda pair: -pair[1])
    for text, count in told[:_SHOWN]:
        yield f"    {text!r} in {count}"
    if len(told) + seen.further_instructions > _SHOWN:
        yield f"    and {len(told) + seen.further_instructions - _SHOWN} others"


def _uses(seen: Inspection) -> Iterator[str]:
    yield "what it is good for"
    told: set[str] = set()  # each use needs what the one before does
    for use, purpose in USES.items():
        yield f"  {use} ({purpose}): {seen.usable[use]} of {_count(seen.listed, 'episode')}"
        for (what, missing), count in seen.lacking.most_common():
            if what == use and missing not in told:
                told.add(missing)
                yield f"    {_count(count, 'episode')} without {missing}"


def _findings(seen: Inspection) -> Iterator[str]:
    whose = "" if seen.robot is None else f" for {seen.robot.name}"
    if not seen.found:
        yield f"no findings{whose}"
        return
    yield f"findings{whose}: {_count(seen.faulty, 'episode')} with errors"
    for kind in (kind for kind in KINDS if kind in seen.found):
        yield f"  {kind}, in {_count(seen.found_in[kind], 'episode')}"
        for name, finding in seen.found[kind]:
            yield f"    {'error' if finding.error else 'warning'}: {name}, {finding.field}: {finding.message}"


def _refused(seen: Inspection) -> Iterator[str]:
    if not seen.refused:
        return
    yield f"refused: {_count(len(seen.refused), 'episode')}"
    for name, reason in seen.refused[: 4 * _SHOWN]:
        yield f"  {name}: {reason}"
    if len(seen.refused) > 4 * _SHOWN:
        yield f"  and {len(seen.refused) - 4 * _SHOWN} others, all of them in the JSON file"


def _notes(seen: Inspection) -> Iterator[str]:
    if seen.notes:
        yield "notes"
    for note, count in seen.notes.most_common(2 * _SHOWN):
        yield f"  {note} ({_count(count, 'episode')})"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
