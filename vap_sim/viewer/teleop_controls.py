"""What one page has to press: the driver's controls, or for those who watch the request for the wheel."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from vap_sim.errors import VAPSimError
from vap_sim.robots.kinematics import Robot
from vap_sim.viewer.teleop_input import KEYS
from vap_sim.viewer.teleop_loop import DrivingLoop
from vap_sim.viewer.teleop_scene import Gizmo
from vap_sim.viewer.teleop_session import DrivingSession
from vap_sim.viewer.teleop_steering import Array, Steering

_LOG = logging.getLogger(__name__)
OTHER = "by its path below"
_NAME_LONGEST = 200
_TURN = 6.283  # [rad] where a joint has no limits


@dataclass(frozen=True, eq=False)
class Desk:
    """What the driver can choose, and what saving means. worlds: names; starts: names of starts, "" for one drawn by
    the seed; begin(session, world, start, seed) starts an episode; save(session, name) writes the way to the present
    moment and returns where."""

    worlds: tuple[str, ...]
    starts: tuple[str, ...]
    begin: Callable[[DrivingSession, str, str, int], object]
    save: Callable[[DrivingSession, str], Path]


class Wheel(Protocol):
    """What controls need of the page as a whole."""

    loop: DrivingLoop
    desk: Desk

    def request_wheel(self, number: int) -> bool:
        """Ask to drive."""
        ...

    def hand_over(self, number: int) -> None:
        """Drive no longer."""
        ...

    def drives(self, number: int) -> bool:
        """Whether this page drives."""
        ...

    def say(self, words: str) -> None:
        """Tell everybody."""
        ...


class Controls:
    """The widgets of one page; `drive` and `watch` change what it has."""

    def __init__(self, client: Any, wheel: Wheel) -> None:
        self.client, self.wheel, self.number = client, wheel, int(client.client_id)
        self._things: list[Any] = []
        self._gizmo: Gizmo | None = None
        self._parts: dict[str, Any] = {}
        self._single: Any = None
        self._sliders: dict[str, Any] = {}

    def watch(self, free: bool) -> None:
        """This page looks on; `free` tells whether it could drive."""
        self._clear()
        gui = self.client.gui
        words = "**The wheel is free.**" if free else "**You watch.** Another page drives."
        self._things.append(gui.add_markdown(words))
        button = gui.add_button("Drive", disabled=not free)
        self._heard(button.on_click, lambda: self.wheel.request_wheel(self.number))
        self._things.append(button)

    def drive(self, seat: str) -> None:
        """This page drives; `seat` is the secret by which its keys are let in."""
        self._clear()
        gui = self.client.gui
        self._things.append(gui.add_html(f'<span id="vap-sim-seat" data-seat="{seat}"></span>'))
        for build in (self._driving, self._timeline, self._episode):
            self._things.append(build(gui))
        self._single = gui.add_folder("Single joints", expand_by_default=False)
        self._things.append(self._single)
        help_ = gui.add_folder("Keys", expand_by_default=False)
        with help_:
            gui.add_markdown(KEYS)
        self._things.append(help_)
        hand = gui.add_button("Hand the wheel over")
        self._heard(hand.on_click, lambda: self.wheel.hand_over(self.number))
        self._things.append(hand)

    def tell(self, words: str) -> None:
        """Words for this page alone."""
        self.client.add_notification("VAPSim", words, auto_close_seconds=8.0)

    def act(self, event: str) -> None:
        """What a key or a button of a gamepad asks for: "grip", "back", "fork", "again"."""
        if not self.wheel.drives(self.number):
            return
        if event == "grip":
            self.wheel.loop.ask("grip", self._toggle)
        elif event == "back":
            self._ask("back", lambda session: session.rewind(max(0, session.present.step - 1)))
        elif event == "fork":
            self._ask("fork", lambda session: session.fork())
        elif event == "again":
            self._ask("try again", lambda session: session.again())

    def show(self, session: DrivingSession) -> None:
        """Bring sliders, takes and gizmo up to the present moment; called in the loop's thread."""
        if not self._parts:
            return
        parts, present, tip = self._parts, session.present, len(session.line) - 1
        _set(parts["step"], "max", max(tip, 1))
        _set(parts["step"], "value", present.step)
        takes = tuple(f"{take.number} {take.world}" for take in session.history.takes)
        _set(parts["take"], "options", takes)
        _set(parts["take"], "value", takes[session.take.number - 1])
        if self.wheel.loop.wish.gripper is None and session.world.model.gripper is not None:
            _set(parts["gripper"], "value", round(float(present.asked[-1]), 2))
        names = self.wheel.desk.worlds
        if session.world.name in names:
            _set(parts["world"], "value", session.world.name)
        steering = Steering(session.world.model, session.world.dt)
        self._show_joints(steering, steering.joints(present.asked))
        pose = steering.tool(session.present.seen.joints)
        if self._gizmo is None:
            self._gizmo = Gizmo(self.client, pose, self._dragged)
        elif self.wheel.loop.wish.goal is None:
            self._gizmo.follow(pose)

    def _show_joints(self, steering: Steering, joints: Array) -> None:
        """A slider for each joint that can be asked for singly, where the robot was last asked to have it."""
        robot = steering.model.robot
        if set(self._sliders) != set(steering.singly):
            for slider in self._sliders.values():
                slider.remove()
            with self._single:
                self._sliders = {name: self._slider(robot, name) for name in steering.singly}
        asked = self.wheel.loop.wish.joints
        for name, slider in self._sliders.items():
            if name not in asked:
                place = float(joints[robot.joint_index(name)])
                _set(slider, "value", round(min(max(place, slider.min), slider.max), 3))

    def _slider(self, robot: Robot, name: str) -> Any:
        index = robot.joint_index(name)
        low, high = max(float(robot.lower[index]), -_TURN), min(float(robot.upper[index]), _TURN)
        slider = self.client.gui.add_slider(
            name, round(low, 3), round(high, 3), 0.001, round(min(max(0.0, low), high), 3)
        )
        self._heard(slider.on_update, lambda: self.wheel.loop.bend(name, float(slider.value)))
        return slider

    def _driving(self, gui: Any) -> Any:
        folder = gui.add_folder("Drive")
        with folder:
            slider = gui.add_slider("gripper", 0.0, 1.0, 0.01, 0.0, hint="0 open, 1 closed")
            toggle = gui.add_button("Open or close")
            runs = gui.add_checkbox("time runs on", False, hint="the world goes on while nothing is asked for")
        self._heard(slider.on_update, lambda: self.wheel.loop.grip(float(slider.value)))
        self._heard(toggle.on_click, lambda: self.act("grip"))
        self._heard(runs.on_update, lambda: self.wheel.loop.let_time_run(bool(runs.value)))
        self._parts["gripper"] = slider
        return folder

    def _timeline(self, gui: Any) -> Any:
        folder = gui.add_folder("Timeline")
        with folder:
            step = gui.add_slider("step", 0, 1, 1, 0)
            back, fork, again = (gui.add_button(name) for name in ("A step back", "Fork here", "Try again"))
            take = gui.add_dropdown("take", ("1",))
        self._heard(step.on_update, lambda: self._ask("rewind", _rewinds(int(step.value))))
        for button, event in ((back, "back"), (fork, "fork"), (again, "again")):
            self._heard(button.on_click, partial(self.act, event))
        self._heard(take.on_update, lambda: self._ask("take", _chooses(str(take.value))))
        self._parts |= {"step": step, "take": take}
        return folder

    def _episode(self, gui: Any) -> Any:
        desk = self.wheel.desk
        folder = gui.add_folder("Episode")
        with folder:
            world = gui.add_dropdown("world", (*desk.worlds, OTHER))
            path = gui.add_text("world's path", "", hint="a folder or file of weights, cogvideox among them")
            switch = gui.add_button("Go on in this world")
            start = gui.add_dropdown("start", tuple(name or "drawn by the seed" for name in desk.starts))
            seed = gui.add_number("seed", 0, min=0, max=2**31 - 1, step=1)
            begin = gui.add_button("Start anew")
            name = gui.add_text("dataset", "", hint="name of the folder; empty for the next free one")
            save = gui.add_button("Save the episode")

        def chosen() -> str:
            return str(path.value).strip()[:_NAME_LONGEST] if world.value == OTHER else str(world.value)

        def begins() -> None:
            place, first = chosen(), "" if start.value == "drawn by the seed" else str(start.value)
            number = int(seed.value)
            self._ask("start", lambda session: desk.begin(session, place, first, number))

        def saves() -> None:
            wanted = str(name.value).strip()[:_NAME_LONGEST]
            self._ask("save", lambda session: self.wheel.say(f"saved as {desk.save(session, wanted)}"))

        def switches() -> None:
            place = chosen()
            self._ask("world", lambda session: session.switch(place))

        for button, act in ((switch, switches), (begin, begins), (save, saves)):
            self._heard(button.on_click, act)
        self._parts["world"] = world
        return folder

    def _toggle(self, session: DrivingSession) -> None:
        self.wheel.loop.grip(0.0 if float(session.present.asked[-1]) > 0.5 else 1.0)

    def _dragged(self, pose: Array) -> None:
        if self.wheel.drives(self.number):
            self.wheel.loop.aim(pose)

    def _ask(self, name: str, act: Callable[[DrivingSession], object]) -> None:
        if not self.wheel.loop.ask(name, act):
            self.tell("Too much is waiting already; wait a moment.")

    def _heard(self, register: Callable[[Callable[[Any], None]], Any], act: Callable[[], object]) -> None:
        """Have a widget do `act` when the person at this page used it, not when the server set it."""

        def callback(event: Any) -> None:
            if event.client_id is None or (not self.wheel.drives(self.number) and self._parts):
                return
            try:
                act()
            except (VAPSimError, ArithmeticError, LookupError, TypeError, ValueError) as error:
                _LOG.warning("a page's control sent what cannot be used: %r", error)

        register(callback)

    def _clear(self) -> None:
        for thing in self._things:
            thing.remove()
        if self._gizmo is not None:
            self._gizmo.remove()
        self._things, self._parts, self._gizmo, self._sliders = [], {}, None, {}


def _rewinds(step: int) -> Callable[[DrivingSession], object]:
    return lambda session: session.rewind(min(max(step, 0), len(session.line) - 1))


def _chooses(label: str) -> Callable[[DrivingSession], object]:
    number = int(label.split(" ")[0])
    return lambda session: None if session.take.number == number else session.choose(number)


def _set(widget: Any, name: str, value: Any) -> None:
    """Set only what differs: every setting is a message to the page."""
    if getattr(widget, name) != value:
        setattr(widget, name, value)
