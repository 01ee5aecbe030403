"""Makes docs/images/replay.png and replay_page.jpg: a frame of a film of `vap-sim replay`, and the page beside it.

    vap-sim record --out out/driven --episodes 2
    vap-sim replay out/driven --worlds kinematic compact --altered mirrored --out out/replay
    python docs/make_replay_pictures.py out/replay

The page is shown by a Chromium through playwright, of the extra dev.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import av
import cv2

IMAGES = Path(__file__).parent / "images"
WIDTH, SHARE = 1280, 0.45
"""Pixels of the frame, and the share of the film at which it is taken."""


def frame(film: Path, path: Path) -> None:
    """Write one frame of a film as PNG."""
    with av.open(str(film)) as container:
        frames = [shown.to_ndarray(format="bgr24") for shown in container.decode(video=0)]
    chosen = frames[round(SHARE * (len(frames) - 1))]
    size = WIDTH, round(chosen.shape[0] * WIDTH / chosen.shape[1])
    if not cv2.imwrite(str(path), cv2.resize(chosen, size, interpolation=cv2.INTER_AREA)):
        raise OSError(f"{path} could not be written")


def screenshot(page: Path, path: Path) -> None:
    """Write a picture of the page, its film stopped by a click on a curve."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        tab.goto(page.resolve().as_uri())
        video = tab.locator("section:not([hidden]) video")
        while video.evaluate("v => v.readyState") < 2:
            tab.wait_for_timeout(100)
        curve = tab.locator("section:not([hidden]) svg").first.bounding_box()
        tab.mouse.click(curve["x"] + curve["width"] * (0.1 + 0.85 * SHARE), curve["y"] + curve["height"] / 2)
        while video.evaluate("v => v.seeking"):
            tab.wait_for_timeout(100)
        tab.screenshot(path=str(path), full_page=True, type="jpeg", quality=88)
        browser.close()


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("out/replay")
    first = json.loads((folder / "replay.json").read_text(encoding="utf-8"))["replays"][0]
    frame(folder / first["files"]["mp4"], IMAGES / "replay.png")
    screenshot(folder / "replay.html", IMAGES / "replay_page.jpg")
