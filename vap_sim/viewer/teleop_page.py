"""The page: pictures and the robot for everybody, the wheel for one, and who has it.

Everything a page can change belongs to that page alone (client-scoped in viser), so those who watch have nothing to
press but the request for the wheel; what all see holds no inputs.
"""

from __future__ import annotations

import asyncio
import hmac
import io
import logging
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from vap_sim.errors import VAPSimError
from vap_sim.viewer.teleop_controls import Controls, Desk
from vap_sim.viewer.teleop_gate import Gate
from vap_sim.viewer.teleop_history import Moment
from vap_sim.viewer.teleop_input import LARGEST, STALE, InputReader
from vap_sim.viewer.teleop_loop import DrivingLoop, Timing
from vap_sim.viewer.teleop_scene import RobotScene, panels
from vap_sim.viewer.teleop_session import DrivingSession

_LOG = logging.getLogger(__name__)
_WIDTH = 560
_WORDS_STAY = 12.0


class TeleopPage:
    """Ties a gate, a loop and the widgets together. `serve` opens the page at once; the world follows when loaded."""

    def __init__(self, gate: Gate, desk: Desk, open_session: Callable[[], DrivingSession]) -> None:
        self.gate, self.desk = gate, desk
        self.loop = DrivingLoop(lambda: self._opened(open_session()), self._on_moment, self.say)
        self._lock = threading.RLock()
        self._driver: int | None = None
        self._seat = ""
        self._controls: dict[int, Controls] = {}
        self._scene: RobotScene | None = None
        self._words, self._said = "", 0.0
        self._shown: tuple[Moment, Timing] | None = None
        self._trip: float | None = None
        self._session: DrivingSession | None = None
        self._cameras_of = self._content = ""

    def serve(self) -> None:
        """Open the page and begin to load the world. Raises what the gate's `open_server` raises."""
        self._server = server = self.gate.server or self.gate.open_server("VAPSim")
        self.gate.on_input = self._listen
        server.gui.configure_theme(show_logo=False, show_share_button=False)
        server.gui.main_panel.dock_right()
        # Without a graphics card a picture of the robot costs a third of what it does with shadows and reflections.
        server.scene.configure_default_lights(enabled=True, cast_shadow=False)
        server.scene.configure_environment_map(hdri=None)
        server.scene.add_light_hemisphere(
            "/light", sky_color=(255, 255, 255), ground_color=(170, 165, 160), intensity=1.5
        )
        waiting = np.full((128, 128, 3), 48, np.uint8)
        panel = server.gui.add_panel()
        with panel.add_tab("Pictures"):
            self._picture = server.gui.add_image(
                panels({"the world is loading": waiting, "": waiting}), format="jpeg", jpeg_quality=92
            )
            self._status = server.gui.add_markdown("Loading the world ...")
        panel.dock_left()
        panel.set_width(_WIDTH)
        server.on_client_connect(self._entered)
        server.on_client_disconnect(self._left)
        self.loop.start()

    def close(self) -> None:
        """End the loop and the server."""
        self.loop.stop()
        with redirect_stdout(io.StringIO()):  # viser says good-bye
            self._server.stop()

    def say(self, words: str) -> None:
        """Show words to everybody for a while."""
        with self._lock:
            if words != self._words or time.monotonic() - self._said > 1:
                _LOG.info("%s", words)
            self._words, self._said = words, time.monotonic()
            self._describe()

    # What happens in the loop's thread ----------------------------------------------------------------------------

    def _on_moment(self, moment: Moment, timing: Timing) -> None:
        with self._lock:
            self._shown = (moment, timing)
            with self._server.atomic():
                shown = {moment.world if name == "image" else name: one for name, one in moment.seen.pictures.items()}
                self._picture.image = panels(shown)
                self._describe()
            self._server.flush()
            session = self.session
            if self._scene is None:
                self._scene = RobotScene(self._server, session.world.model)
            root = f"{moment.world} {id(session.history)}"
            if root != self._cameras_of:
                self._scene.set_cameras(session.world.cameras())
                self._cameras_of = root
            # Later than the pictures, which the page would otherwise paint only when the robot is drawn.
            with self._server.atomic():
                self._scene.show(moment.seen)
            driver = self._controls.get(-1 if self._driver is None else self._driver)
            if driver is not None:
                driver.show(session)

    @property
    def session(self) -> DrivingSession:
        """The session that the loop opened; to be used in its thread alone."""
        assert self._session is not None
        return self._session

    def _opened(self, session: DrivingSession) -> DrivingSession:
        self._session = session
        return session

    # Who drives ----------------------------------------------------------------------------------------------------

    def _entered(self, client: Any) -> None:
        with self._lock:
            self._controls[client.client_id] = Controls(client, self)
            if self._driver is None:
                self._seated(client.client_id)
            self._arranged()

    def _left(self, client: Any) -> None:
        with self._lock:
            self._controls.pop(client.client_id, None)
            if self._driver == client.client_id:
                self._driver, self._seat = None, ""
                self.loop.release()
                self.loop.let_time_run(False)
                self.say("Who drove has left; the episode is kept, and the wheel is free.")
            self._arranged()

    def request_wheel(self, number: int) -> bool:
        """A page asks to drive; False, and it is told, while another one does."""
        with self._lock:
            controls = self._controls.get(number)
            if controls is None:
                return False
            if self._driver not in (None, number):
                controls.tell("Another page drives. Its driver can hand the wheel over, or close the page.")
                return False
            self._seated(number)
            self._arranged()
            return True

    def hand_over(self, number: int) -> None:
        """The page that drives lets go of the wheel."""
        with self._lock:
            if self._driver == number:
                self._driver, self._seat = None, ""
                self.loop.release()
                self._arranged()

    def drives(self, number: int) -> bool:
        """Whether a page drives."""
        return self._driver == number

    def _seated(self, number: int) -> None:
        self._driver, self._seat, self._trip = number, secrets.token_urlsafe(18), None
        self.loop.release()

    def _arranged(self) -> None:
        """Give every page what belongs to it: controls to the driver, a request to the others."""
        for number, controls in list(self._controls.items()):
            if number == self._driver:
                controls.drive(self._seat)
                self.loop.ask(f"show {number}", controls.show)
            else:
                controls.watch(free=self._driver is None)
        self._describe()

    # Keys and gamepads ---------------------------------------------------------------------------------------------

    async def _listen(self, connection: Any) -> None:
        """One page's input connection; ends when the page leaves, loses the wheel, or sends nonsense."""
        from websockets.exceptions import ConnectionClosed

        seat = parse_qs(urlsplit(connection.request.path).query).get("seat", [""])[0]
        reader = InputReader()
        moving = False
        try:
            while self._seat and hmac.compare_digest(seat.encode(), self._seat.encode()):
                try:
                    message = await asyncio.wait_for(connection.recv(), STALE if moving else 30.0)
                except TimeoutError:
                    # Nothing is heard of keys that were held: they count as released.
                    if moving:
                        self.loop.move(np.zeros(6))
                        moving = False
                    continue
                if not isinstance(message, str) or len(message) > LARGEST:
                    await connection.close(1009, "too large")
                    return
                held = reader.read(message)
                self._trip = held.trip
                moving = bool(np.any(held.motion))
                self.loop.move(held.motion)
                controls = self._controls.get(-1 if self._driver is None else self._driver)
                for event in held.events:
                    if controls is not None:
                        controls.act(event)
                await connection.send(repr(held.sent))
            await connection.close(1008, "another page has the wheel")
        except ConnectionClosed:
            pass
        except VAPSimError as error:
            _LOG.warning("a page's keys could not be read: %s", error)
            await connection.close(1008, "not understood")
        finally:
            if moving:
                self.loop.move(np.zeros(6))

    # Words ---------------------------------------------------------------------------------------------------------

    def _describe(self) -> None:
        if not hasattr(self, "_status"):
            return
        words = self._words if time.monotonic() - self._said < _WORDS_STAY else ""
        seats = f"{len(self._controls)} page{'s' if len(self._controls) != 1 else ''} open"
        lines = []
        if self._shown is None:
            lines.append("Loading the world ...")
        else:
            moment, timing = self._shown
            take = self.session.take
            lines.append(f"**{self.session.world.instruction() or 'no task'}**")
            lines.append(
                f"world **{moment.world}**, step **{moment.step}** of {len(self.session.line) - 1}, "
                f"take **{take.number}** of {len(self.session.history.takes)}"
            )
            told = [f"{name} {_short(value)}" for name, value in moment.seen.signals.items()]
            lines.append(", ".join(told) or "this world tells nothing of itself")
            trip = "" if self._trip is None else f", page and back {1e3 * self._trip:.0f} ms"
            lines.append(
                f"step {1e3 * timing.step:.0f} ms, asked to sent {1e3 * timing.shown:.0f} ms{trip}, "
                f"{timing.late} of {timing.steps} steps late"
            )
        lines.append(f"{seats}, {'the wheel is free' if self._driver is None else 'one drives'}.")
        if words:
            lines.append(f"> {words}")
        content = "\n\n".join(lines)
        if content != self._content:
            self._content = content
            self._status.content = content


def _short(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
