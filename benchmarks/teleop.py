"""What driving in the browser costs: a real headless Chromium presses keys and waits for pictures.

From the command to the first picture (with a browser that is open already), from a key to the picture that it led to,
from a key to the picture gone back to, and how long rewinding and forking take by themselves. `--soak 600` drives at
random for ten minutes and looks at memory and late steps. The load of the machine is noted, since browser, page and
world share it.

Needs the extras view and dev and a Chromium: pip install -e ".[view,dev]".
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
KEYS = ("w", "s", "a", "d", "r", "f", "q", "e")
WARM_UP = 5
BARS = {
    "first picture [s]": (5.0, 5.0),
    "key to picture [ms]": (150.0, 300.0),
    "rewind [ms]": (50.0, 50.0),
    "fork [ms]": (50.0, 50.0),
}
"""The most that the median and the 95th percentile may be."""


@dataclass(frozen=True)
class Served:
    """A running `vap-sim teleop`: its process, where it serves, and when it was called (time.perf_counter)."""

    process: subprocess.Popen[str]
    address: str
    called: float


@contextmanager
def served(world: str, folder: str) -> Iterator[Served]:
    """The command in a process of its own, interrupted at the end. Raises RuntimeError where it serves nothing."""
    command = [sys.executable, "-m", "vap_sim", "teleop", "--port", "0", "--world", world, "--out", folder]
    called = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"drive at (\S+)", line):
                yield Served(process, found.group(1), called)
                break
        else:
            raise RuntimeError(f"it ended with {process.wait()} and served nothing")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:  # what a shell starts in the background does not hear interrupts
            process.kill()
            process.communicate()


def opened(browser: Any, at: Served) -> tuple[Any, float]:
    """A page that shows the first picture of the world, and the seconds since the command was called."""
    from tests.viewer.teleop_browser import WATCH

    page = browser.new_page(viewport={"width": 1180, "height": 760})
    page.set_default_timeout(120_000)
    page.add_init_script(WATCH)
    page.goto(at.address)
    page.wait_for_function("document.body.innerText.includes('step 0 of') && window.vapShown.length > 0", polling="raf")
    return page, time.perf_counter() - at.called


def taps(page: Any, keys: list[str], rng: np.random.Generator) -> list[float]:
    """Milliseconds from each key to the next new picture; keys come when nothing moves."""
    spans = []
    for number, key in enumerate(keys):
        time.sleep(float(rng.uniform(0.6, 1.0)))
        page.evaluate("() => { window.vapKeys.length = 0; window.vapShown.length = 0; }")
        page.keyboard.press(key, delay=40)
        page.wait_for_function("window.vapShown.length > 0", polling="raf", timeout=20_000)
        key_at, shown_at = page.evaluate("() => [window.vapKeys[0], window.vapShown[0]]")
        if number >= WARM_UP:
            spans.append(shown_at - key_at)
    return spans


def verbs(world: str, steps: int) -> dict[str, list[float]]:
    """Milliseconds that rewinding to random steps and forking there take in the session, without a page."""
    import torch

    from vap_sim.commands.teleop_worlds import world_opener
    from vap_sim.viewer.teleop_session import DrivingSession

    torch.set_num_threads(1)
    session = DrivingSession(world_opener("VAPWorld-DROID-v0"), world)
    session.begin(0)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        rest = session.present.asked
        session.step((rest + rng.normal(0, 0.01, rest.shape)).astype(np.float32))
    spans: dict[str, list[float]] = {"rewind [ms]": [], "fork [ms]": []}
    for _ in range(100):
        for name, act in (
            ("rewind [ms]", lambda: session.rewind(int(rng.integers(steps)))),
            ("fork [ms]", session.fork),
        ):
            began = time.perf_counter()
            act()
            spans[name].append(1e3 * (time.perf_counter() - began))
        session.choose(1)
    return spans


def soak(page: Any, process: subprocess.Popen[str], seconds: float, rng: np.random.Generator) -> dict[str, Any]:
    """Random driving: memory of the server and the page over time [MB], steps, and how many were late."""
    import psutil

    server, began, seen = psutil.Process(process.pid), time.perf_counter(), []
    following = began
    while time.perf_counter() - began < seconds:
        key = str(rng.choice(KEYS))
        page.keyboard.down(key)
        time.sleep(float(rng.uniform(0.2, 2.0)))
        page.keyboard.up(key)
        if rng.random() < 0.2:
            page.keyboard.press(str(rng.choice(["z", "x", "t", "Space"])))
        if time.perf_counter() >= following:
            heap = page.evaluate("() => performance.memory ? performance.memory.usedJSHeapSize : 0")
            seen.append([time.perf_counter() - began, server.memory_info().rss / 2**20, heap / 2**20])
            following += max(seconds / 40, 2.0)
    told = re.search(r"(\d+) of (\d+) steps late", page.inner_text("body"))
    assert told is not None, "the page says how many steps were late"
    late, steps = (int(number) for number in told.groups())
    return {"seconds": seconds, "steps": steps, "late": late, "memory": [[round(v, 1) for v in row] for row in seen]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", default="compact")
    parser.add_argument("--starts", type=int, default=4, help="how often the command is called; the first warms up")
    parser.add_argument("--taps", type=int, default=40)
    parser.add_argument("--steps", type=int, default=100, help="length of the episode to go back in")
    parser.add_argument("--soak", type=float, default=0.0, help="seconds of driving at random")
    parser.add_argument("--picture", type=Path, help="save the page as a PNG file")
    parser.add_argument("--film", type=Path, help="save a short recording of the page as a GIF file")
    parser.add_argument("--out", type=Path, default=Path("out") / "teleop.json")
    options = parser.parse_args()
    if options.taps <= WARM_UP:
        parser.error(f"--taps: given {options.taps}, expected more than the {WARM_UP} that warm up")
    sys.path.insert(0, str(ROOT))
    from tests.viewer.teleop_browser import browser, missing

    if problem := missing():
        raise SystemExit(f"teleop: {problem}")
    rng, load = np.random.default_rng(0), [os.getloadavg()[0]]
    spans: dict[str, list[float]] = {"first picture [s]": []}
    report: dict[str, Any] = {
        "world": options.world,
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        for number in range(options.starts):
            with served(options.world, folder) as at:
                page, seconds = opened(chromium, at)
                if number or options.starts == 1:
                    spans["first picture [s]"].append(seconds)
                if number < options.starts - 1:
                    page.close()
                    continue
                page.wait_for_selector("#vap-sim-seat", state="attached")
                time.sleep(3)
                spans["key to picture [ms]"] = taps(page, [KEYS[n % 4] for n in range(options.taps + WARM_UP)], rng)
                load.append(os.getloadavg()[0])
                spans["key to picture gone back to [ms]"] = taps(page, ["z"] * min(25, options.taps), rng)
                if options.soak > 0:
                    report["soak"] = soak(page, at.process, options.soak, rng)
                if options.picture or options.film:
                    _pictured(page, options.picture, options.film)
                page.close()
    spans |= verbs(options.world, options.steps)
    load.append(os.getloadavg()[0])
    report |= {
        "load": [round(value, 1) for value in load],
        "figures": {name: _figures(values) for name, values in spans.items()},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(_table(report))


def _pictured(page: Any, picture: Path | None, film: Path | None) -> None:
    """The page as a picture and as a film: down to the table, closing, some steps back, and another take from there."""
    close = page.locator(".mantine-Notification-closeButton")
    if close.count():
        close.first.click()
        time.sleep(1)
    frames = []
    for key in ("t", *"wwaffff", "Space", *"rrrzzz", "x", *"dddww"):
        page.evaluate("() => { window.vapShown.length = 0; }")
        page.keyboard.press(key, delay=40)
        if key != "x":  # a fork shows nothing new
            page.wait_for_function("window.vapShown.length > 0", polling="raf")
        time.sleep(0.5)
        if film:
            frames.append(page.screenshot(type="jpeg", quality=92))
    time.sleep(2)
    for path in (picture, film):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
    if picture:
        page.screenshot(path=str(picture))
    if film:
        _write_film(frames, film)


def _write_film(frames: list[bytes], path: Path) -> None:
    import io

    from PIL import Image

    opened = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames]
    small = [one.resize((720, round(720 * one.height / one.width)), Image.Resampling.LANCZOS) for one in opened]
    # One palette for all, so that what stands still costs nothing.
    every = Image.new("RGB", (small[0].width, small[0].height * len(small)))
    for number, one in enumerate(small):
        every.paste(one, (0, number * one.height))
    palette = every.quantize(128, dither=Image.Dither.NONE)
    shown = [one.quantize(palette=palette, dither=Image.Dither.NONE) for one in small]
    shown[0].save(path, save_all=True, append_images=shown[1:], duration=400, loop=0, optimize=True)


def _figures(values: list[float]) -> dict[str, float]:
    return {
        "n": len(values),
        "median": round(float(np.median(values)), 2),
        "p95": round(float(np.percentile(values, 95)), 2),
    }


def _table(report: dict[str, Any]) -> str:
    lines = [f"world {report['world']}, {report['cores']} cores, load {report['load']}", ""]
    lines += ["| figure | n | median | 95th percentile | bars |", "| --- | --- | --- | --- | --- |"]
    for name, found in report["figures"].items():
        bars = " / ".join(f"{bar:g}" for bar in BARS[name]) if name in BARS else ""
        lines.append(f"| {name} | {found['n']} | {found['median']} | {found['p95']} | {bars} |")
    if "soak" in report:
        seen, kept = report["soak"], report["soak"]["memory"]
        lines += [
            "",
            f"driven at random for {seen['seconds']:g} s: {seen['late']} of {seen['steps']} steps late; memory [MB]:",
        ]
        lines += [f"server {kept[0][1]:g} to {kept[-1][1]:g}, of the page's scripts {kept[0][2]:g} to {kept[-1][2]:g}"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
