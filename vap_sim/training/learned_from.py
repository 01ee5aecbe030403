"""What weights have seen, as their header says it: rates of pictures, and whether cameras moved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vap_sim.data.twin import load_episode
from vap_sim.errors import BadFile


def learned_from(files: Sequence[Path]) -> dict[str, Any]:
    """Of recordings that weights learn from: frame_rates, pictures a second [Hz], each once and in order, and
    moving_views, whether a camera rides on a link in any of them. Raises BadFile for the first that does not tell."""
    rates, moving = set(), False
    for path in files:
        meta = load_episode(path, ("joints",)).meta
        try:
            rates.add(round(1 / float(meta["control_dt"]), 6))
            moving |= any(camera.get("parent_link") is not None for camera in meta["cameras"])
        except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
            raise BadFile(path, f"meta.json: control_dt or cameras cannot be used ({error!r})") from error
    return {"frame_rates": sorted(rates), "moving_views": moving}
