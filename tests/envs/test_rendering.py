"""Pictures for people: side by side, in a window, and a named error where no window can be opened."""

from __future__ import annotations

import sys
import types

import cv2
import numpy as np
import pytest

from vap_sim.envs import rendering
from vap_sim.envs.rendering import Window, composed, render_names, side_by_side, window_data, window_problem
from vap_sim.errors import Unsupported


def test_side_by_side_is_a_new_picture() -> None:
    left, right = np.zeros((2, 3, 3), np.uint8), np.full((2, 1, 3), 9, np.uint8)
    both = side_by_side([left, right])
    assert both.shape == (2, 4, 3)
    assert (both[:, 3] == 9).all()
    assert not np.shares_memory(side_by_side([left]), left)


def test_pictures_prompts_and_both_are_composed_for_every_camera() -> None:
    keys = ("image", "image_wrist")
    assert render_names(keys) == ("image", "image_wrist", "prompt", "prompt_wrist", "overlay", "overlay_wrist")
    pictures = [np.full((2, 2, 3), value, np.uint8) for value in (100, 200)]
    prompts = [np.zeros((2, 2, 3), np.uint8) for _ in keys]
    prompts[1][0, 0] = 0, 255, 0
    asked: list[int] = []

    def drawn() -> list[np.ndarray]:
        asked.append(1)
        return prompts

    assert np.array_equal(composed(("image_wrist", "image"), keys, pictures, drawn), side_by_side(pictures[::-1]))
    assert not asked, "prompts cost time and are drawn where they are shown"
    shown = composed(("prompt_wrist", "overlay_wrist", "overlay"), keys, pictures, drawn)
    assert np.array_equal(shown[:, :2], prompts[1]) and len(asked) == 1
    assert shown[0, 2].tolist() == [0, 255, 0] and (shown[1, 2:4] == 150).all() and (shown[:, 4:] == 75).all()


def test_window_data_is_an_enlarged_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)
    large = cv2.cvtColor(
        cv2.imdecode(np.frombuffer(window_data(picture), np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
    )
    assert large.shape == (480, 800, 3)
    assert np.array_equal(large[1::4, 2::4], picture)


def test_display_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert window_problem() == "there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    with pytest.raises(Unsupported, match=r"opens a window, but there is no display.*use render_mode='rgb_array'"):
        Window("title")
    monkeypatch.setenv("DISPLAY", ":7")
    monkeypatch.setitem(sys.modules, "tkinter", None)
    assert "tkinter is missing" in str(window_problem())


class FakeTk(types.SimpleNamespace):
    """As much of tkinter as a window uses."""

    class TclError(Exception):
        pass

    def __init__(self, works: bool) -> None:
        self.log: list[object] = []
        self.works = works

    def Tk(self) -> FakeTk:
        if not self.works:
            raise self.TclError("couldn't connect to display")
        return self

    def Label(self, *_: object, **__: object) -> FakeTk:
        return self

    def PhotoImage(self, data: bytes, **__: object) -> str:
        self.log.append(data[:2])
        return "image"

    def configure(self, image: str) -> None:
        self.log.append(image)

    def title(self, text: str) -> None:
        self.log.append(text)

    def pack(self) -> None: ...

    def protocol(self, name: str, verb: object) -> None: ...

    def update(self) -> None:
        self.log.append("update")

    def destroy(self) -> None:
        self.log.append("destroy")


def test_window_shows_and_closes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tk = FakeTk(works=True)
    monkeypatch.setitem(sys.modules, "tkinter", tk)
    monkeypatch.setattr(rendering, "window_problem", lambda: None)
    window = Window("dream")
    window.show(np.zeros((8, 8, 3), np.uint8))
    window.close()
    window.close()
    window.show(np.zeros((8, 8, 3), np.uint8))
    assert tk.log == ["dream", b"P6", "image", "update", "destroy"]


def test_display_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tkinter", FakeTk(works=False))
    monkeypatch.setattr(rendering, "window_problem", lambda: None)
    with pytest.raises(Unsupported, match=r"cannot open a window \(couldn't connect to display\)"):
        Window("dream")
