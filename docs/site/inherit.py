"""Makes docstrings ready for the site: methods that fulfil a protocol get its words, stars of shapes stay stars."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe

CODE = re.compile(r"(`+.*?`+)", re.DOTALL)
STAR = re.compile(r"(?<![\w*\\])\*(?=\w)(?!\w+\*)")
"""As in "(*batch, 3)", which Markdown would take for the beginning of emphasis; *emphasis* is left."""


class Inherit(griffe.Extension):
    """A method without a docstring shows that of the protocol which its class fulfils; shapes are shown as written."""

    def on_object(self, *, obj: griffe.Object, **others: Any) -> None:
        """Keep the stars of a docstring that was just read."""
        if obj.docstring:
            parts = CODE.split(obj.docstring.value)
            obj.docstring.value = "".join(
                part if number % 2 else STAR.sub(r"\\*", part) for number, part in enumerate(parts)
            )

    def on_package(self, *, pkg: griffe.Module, **others: Any) -> None:
        """Fill in docstrings throughout a package that was just read."""
        classes = list(_classes(pkg))
        protocols = [one for one in classes if any(str(base).startswith("Protocol") for base in one.bases)]
        protocols.sort(key=lambda one: -len(_own(one)))
        for made in classes:
            for name, method in _own(made).items():
                fulfilled = (one for one in protocols if one is not made and name in _own(one) and _fulfils(made, one))
                protocol = None if method.docstring else next(fulfilled, None)
                if protocol is not None and (told := protocol.members[name].docstring) is not None:
                    method.docstring = griffe.Docstring(told.value, parent=method, parser="google")


def _classes(package: griffe.Module) -> Iterator[griffe.Class]:
    for one in package.members.values():
        if isinstance(one, griffe.Class):
            yield one
        elif isinstance(one, griffe.Module):
            yield from _classes(one)


def _own(made: griffe.Class) -> dict[str, Any]:
    """Public methods and properties that a class itself defines."""
    members = {name: one for name, one in made.members.items() if not name.startswith("_") and not one.is_alias}
    return {name: one for name, one in members.items() if one.is_function or "property" in one.labels}


def _fulfils(made: griffe.Class, protocol: griffe.Class) -> bool:
    """Whether a class has all methods of a protocol; what is a property there may be set in a method here."""
    asked = _own(protocol)
    methods = {name for name, one in asked.items() if one.is_function}
    return (methods or set(asked)) <= set(made.members)
