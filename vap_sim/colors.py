"""The colors that things have by name, as scenes paint them and as words of an instruction mean them."""

from __future__ import annotations

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.13, 0.12),
    "orange": (0.98, 0.52, 0.06),
    "yellow": (0.97, 0.86, 0.10),
    "lime": (0.60, 0.88, 0.16),
    "green": (0.07, 0.55, 0.20),
    "cyan": (0.10, 0.80, 0.82),
    "blue": (0.12, 0.27, 0.88),
    "purple": (0.50, 0.15, 0.75),
    "pink": (0.98, 0.40, 0.68),
    "brown": (0.42, 0.22, 0.09),
}
"""RGB in [0, 1]."""
