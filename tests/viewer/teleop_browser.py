"""A real browser for tests and benchmarks of the driving page: headless Chromium, and what to look for in the page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_OPTIONS = (
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
)  # fmt: skip

WATCH = """(() => {
  // Before the page's own scripts, which stop the keys that they take.
  window.vapKeys = [];
  window.vapShown = [];
  addEventListener("keydown", (event) => { if (!event.repeat) window.vapKeys.push(performance.now()); }, true);
  addEventListener("DOMContentLoaded", () => {
    new MutationObserver((changes) => {
      const picture = changes.map((one) => one.target).find((node) => node.tagName === "IMG");
      if (!picture) return;
      picture.decode().then(() => requestAnimationFrame(() => window.vapShown.push(performance.now())), () => {});
    }).observe(document.body, { subtree: true, attributes: true, attributeFilter: ["src"] });
  });
})()"""
"""JavaScript to run before the page: notes times of keys and of new pictures in `vapKeys` and `vapShown` [ms]."""


def chromium() -> str | None:
    """Where a Chromium is, or None: the variable VAP_SIM_CHROMIUM, or one on the path."""
    named = os.environ.get("VAP_SIM_CHROMIUM")
    if named:
        return named if Path(named).exists() else None
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


def missing() -> str | None:
    """Why no browser can be driven here, or None."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed (extra dev)"
    return None if chromium() else "no Chromium was found (install it, or name it in VAP_SIM_CHROMIUM)"


@contextmanager
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=chromium(), args=list(_OPTIONS))
        try:
            yield opened
        finally:
            opened.close()


def text(page: Any) -> str:
    """All words of a page."""
    return str(page.inner_text("body"))


def on_screen(page: Any, camera: Any, points: np.ndarray) -> np.ndarray:
    """Where points (n, 3) [m] of the scene are in a page (n, 2) [px]; camera: viser's of that page."""
    from vap_sim.viewer.teleop_scene import pose_of

    pose = pose_of(camera.wxyz, camera.position)
    seen = (points - pose[:3, 3]) @ pose[:3, :3]
    box = page.locator("canvas").first.bounding_box()
    focal = box["height"] / 2 / np.tan(camera.fov / 2)
    middle = np.array([box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])
    return np.asarray(middle + focal * seen[:, :2] / seen[:, 2:])
