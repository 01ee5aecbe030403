"""The page of replays: one file that asks for nothing from elsewhere, whose curves, slider and keys move the film."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.viewer import teleop_browser
from tests.viewer.replay_scenes import scene
from vap_sim.viewer.replay_film import Film
from vap_sim.viewer.replay_lanes import Scene
from vap_sim.viewer.replay_page import PAGE, page, write_page
from vap_sim.viewer.replay_record import ReplayRecord, file_stem, row_of
from vap_sim.viewer.video import write_mp4

EVIL = '<img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return scene(tmp_path_factory.mktemp("clips"), "zeroed", length=11)


def record_of(shown: Scene, **changes: object) -> ReplayRecord:
    """Two recordings, of one scene under two names, and one that was refused."""
    record = ReplayRecord({})
    for name in ("a", "b c"):
        files = {"mp4": f"{file_stem(shown)}.mp4"}
        rows = [{**row_of(shown, lane, files), "episode": name, **changes} for lane in shown.lanes]
        record = record.with_episode(name, None, rows, {})
    return record.with_refusal("broken", "frame 3 cannot be decoded")


def test_it_asks_for_nothing_from_elsewhere(shown: Scene) -> None:
    text = page(record_of(shown), "Replays of b")
    assert text is not None
    assert not re.search(r"https?://", text)
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text
    assert text.count("<section ") == text.count("<video ") == 2 and text.count("<svg") == 6
    assert "broken: frame 3 cannot be decoded" in text


def test_names_of_users_are_text(shown: Scene) -> None:
    text = page(record_of(shown, dream=EVIL, view=EVIL, instruction=EVIL, files={"mp4": f"{EVIL}.mp4"}), EVIL)
    assert text is not None and "<img" not in text and "onerror=" not in re.sub(r"&lt;img.*?&gt;", "", text)


def test_without_a_film_there_is_no_page(shown: Scene, tmp_path: Path) -> None:
    record = record_of(shown, files={"gif": "a.gif"})
    assert page(record, "t") is None and write_page(tmp_path, record, "t") is None and not list(tmp_path.iterdir())


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something in the page, whose policy forbids to be asked by a script."""
    last = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < last, "it never came"
        time.sleep(0.05)


@pytest.mark.skipif(teleop_browser.missing() is not None, reason=str(teleop_browser.missing()))
def test_a_browser_shows_the_film_and_curves_slider_and_keys_move_it(shown: Scene, tmp_path: Path) -> None:
    film = Film(shown)
    write_mp4(tmp_path / f"{file_stem(shown)}.mp4", film.pictures(), film.rate, key_every=10)
    path = write_page(tmp_path, record_of(shown), "Replays of a")
    assert path == tmp_path / PAGE
    with teleop_browser.browser() as browser:
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        said: list[str] = []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.goto(path.as_uri())
        until(lambda: tab.locator("video").first.evaluate("v => v.readyState") >= 2)
        told = tab.evaluate("(() => {const v=document.querySelector('video');return [v.duration,v.videoWidth]})()")
        assert told == [pytest.approx(11 / 5, abs=0.05), film.plan.width]

        def moment() -> tuple[str, float]:
            section = tab.locator("section:not([hidden])")
            section.locator("video").evaluate("v => new Promise(r => v.seeking ? v.onseeked = r : r())")
            seconds = section.locator("video").evaluate("v => v.currentTime")
            return section.locator("output").inner_text(), seconds

        assert moment()[0] == "step 0 of 10, 0.0 s"
        box = tab.locator("svg").first.bounding_box()
        at = box["width"] * (44 + 504 * 0.7) / 560  # seven tenths of the curve's width
        tab.mouse.click(box["x"] + at, box["y"] + box["height"] / 2)
        assert moment() == ("step 7 of 10, 1.4 s", pytest.approx(7.5 / 5))
        head = tab.locator("svg .head").first.evaluate("line => +line.getAttribute('x1')")
        assert head == pytest.approx(44 + 504 * 0.7, abs=1)
        value = tab.locator("figcaption b i").first.inner_text()
        psnr = shown.lanes[0].steps()[6]["moving"]
        assert psnr is not None and float(value) == pytest.approx(psnr, abs=0.06)
        tab.keyboard.press("ArrowRight")
        assert moment()[0] == "step 8 of 10, 1.6 s"
        tab.locator("section:not([hidden]) input").fill("3")
        assert moment() == ("step 3 of 10, 0.6 s", pytest.approx(3.5 / 5))
        tab.locator("#pick").select_option("1")
        assert (
            moment()[0] == "step 0 of 10, 0.0 s" and "b c" in tab.locator("section:not([hidden]) p").first.inner_text()
        )
        tab.locator("section:not([hidden]) button").click()
        until(lambda: tab.locator("video").nth(1).evaluate("v => v.ended"))
        assert moment()[0] == "step 10 of 10, 2.0 s"
        if folder := os.environ.get("VAP_SIM_SHOTS"):
            tab.screenshot(path=str(Path(folder) / "replay_page.png"), full_page=True)
        assert not said
