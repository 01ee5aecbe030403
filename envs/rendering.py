"""Pictures for people: views side by side, and a window for them that needs nothing but the standard library."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import Unsupported

RENDER_MODES = ("human", "rgb_array")
PROMPT, OVERLAY = "prompt", "overlay"
"""Names of rendered views: the visual action prompt of the first camera, and its picture under that prompt. Those of
another camera end as its picture's key does: `prompt_wrist` beside `image_wrist`."""
INSTEAD = "use render_mode='rgb_array', or drive it in a browser with `vap-sim teleop`"
"""What to do where no window can be opened."""
_SMALLEST_WINDOW = 480  # [px] pictures are enlarged to about this height

Picture = NDArray[np.uint8]


def render_names(image_keys: Sequence[str]) -> tuple[str, ...]:
    """The views that can be rendered: the pictures, then their prompts, then the pictures under them."""
    others = tuple(f"{kind}{key.removeprefix('image')}" for kind in (PROMPT, OVERLAY) for key in image_keys)
    return (*image_keys, *others)


def composed(
    names: Sequence[str],
    image_keys: Sequence[str],
    pictures: Sequence[Picture],
    prompts: Callable[[], Sequence[Picture]],
) -> Picture:
    """The named views side by side, a new picture (H, sum of W, 3).

    pictures: one a camera, in the order of image_keys; prompts: draws as many, and is asked only where they are shown.
    """
    known = render_names(image_keys)
    places = [divmod(known.index(name), len(image_keys)) for name in names]
    drawn = prompts() if any(kind for kind, _ in places) else ()
    shown = []
    for kind, view in places:
        if kind == 2:
            from vap_sim.viewer.replay import overlay

            shown.append(overlay(pictures[view], drawn[view]))
        else:
            shown.append(drawn[view] if kind else pictures[view])
    return side_by_side(shown)


def side_by_side(pictures: Sequence[Picture]) -> Picture:
    """One new picture (H, sum of W, 3) of pictures (H, W, 3) of equal height."""
    return np.concatenate(list(pictures), axis=1)


def window_problem() -> str | None:
    """Why no window can be opened here, or None where nothing speaks against it."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    try:
        import tkinter  # noqa: F401
    except ImportError as error:
        return f"Python's tkinter is missing ({error})"
    return None


class Window:
    """A window that shows one picture after the other. Raises Unsupported where none can be opened."""

    def __init__(self, title: str) -> None:
        problem = window_problem()
        if problem is not None:
            raise Unsupported(f"render_mode 'human' opens a window, but {problem}; {INSTEAD}")
        import tkinter

        try:
            self._root: Any = tkinter.Tk()
        except tkinter.TclError as error:
            raise Unsupported(f"render_mode 'human' cannot open a window ({error}); {INSTEAD}") from error
        self._root.title(title)
        self._root.protocol("WM_DELETE_WINDOW", self.close)
        self._label: Any = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._image: Any = None

    def show(self, picture: Picture) -> None:
        """Show a picture (H, W, 3); does nothing once the window is closed."""
        if self._root is None:
            return
        import tkinter

        # Tk drops a picture that nothing refers to, so the window keeps it.
        self._image = tkinter.PhotoImage(master=self._root, data=window_data(picture), format="PPM")
        self._label.configure(image=self._image)
        self._root.update()

    def close(self) -> None:
        """Close the window; harmless when called twice."""
        if self._root is not None:
            self._root.destroy()
            self._root = self._label = self._image = None


def window_data(picture: Picture) -> bytes:
    """The picture as a binary PPM file, enlarged by a whole number."""
    factor = max(1, _SMALLEST_WINDOW // picture.shape[0])
    large = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    return b"P6 %d %d 255\n" % (large.shape[1], large.shape[0]) + large.tobytes()
