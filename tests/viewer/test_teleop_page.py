"""The page in a real browser: it loads, is driven by keys, gizmo and buttons, goes back, forks, saves, is shared."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.viewer.teleop_browser import browser, missing, on_screen, text
from tests.viewer.teleop_toy import ToyWorld, toy_session
from vap_sim.viewer.teleop_controls import Desk
from vap_sim.viewer.teleop_gate import Gate, GateLimits
from vap_sim.viewer.teleop_history import MEGABYTE
from vap_sim.viewer.teleop_journal import EpisodeJournal, read_journal, save_episode
from vap_sim.viewer.teleop_page import TeleopPage
from vap_sim.viewer.teleop_session import DrivingSession
from vap_sim.viewer.teleop_steering import Steering

pytest.importorskip("viser", reason="viser is not installed (extra view)")
pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.filterwarnings("ignore:Queued a .* on a closed connection"),
]

PATIENCE = 40.0


@dataclass
class _Place:
    """A served page over a toy world, and one browser page that drives it."""

    teleop: TeleopPage
    session: DrivingSession
    world: ToyWorld
    browser: Any
    page: Any
    out: Path

    @property
    def step(self) -> int:
        return self.session.present.step

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)

    def drive(self, steps: int) -> None:
        """Forward with a held key until so many further steps are made."""
        goal = self.step + steps
        self.page.keyboard.down("s")
        until(lambda: self.step >= goal)
        self.page.keyboard.up("s")
        until(lambda: not self.teleop.loop.wish.linear.any())
        time.sleep(0.3)

    def click(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()


@pytest.fixture(name="place", scope="module")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Place]:
    out = tmp_path_factory.mktemp("teleop")
    journal = EpisodeJournal(out / "journal")
    session, made = toy_session(journal=journal)

    def opened() -> DrivingSession:
        session.begin(0)
        return session

    def save(session: DrivingSession, name: str) -> Path:
        assert journal.path is not None
        return save_episode(
            read_journal(journal.path), session.present.number, session.world.model, out / (name or "set")
        )

    desk = Desk(("toy", "other", "missing"), ("", "here"), lambda session, *a: session.start_in(a[0], a[2]), save)
    teleop = TeleopPage(Gate(port=0, limits=GateLimits(pages=3)), desk, opened)
    teleop.serve()
    with browser() as chromium:
        page = _opened(chromium, teleop)
        yield _Place(teleop, session, made["toy"], chromium, page, out)
    teleop.close()
    journal.close()


def _opened(chromium: Any, teleop: TeleopPage) -> Any:
    page = chromium.new_page(viewport={"width": 1180, "height": 760})
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(teleop.gate.address)
    page.wait_for_function("document.body.innerText.includes('go about')")
    return page


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_the_page_loads_with_pictures_robot_and_controls(place: _Place) -> None:
    place.page.get_by_role("button", name="Try again", exact=True).wait_for()
    words = text(place.page)
    for expected in ("go about", "world toy, step 0 of 0, take 1 of 1", "1 page open, one drives", "gripper", "Keys"):
        assert expected in words
    assert place.page.locator("img").count() >= 1 and place.page.locator("canvas").count() >= 1


def test_held_keys_drive_the_tool_and_space_closes_the_gripper(place: _Place) -> None:
    place.page.wait_for_selector("#vap-sim-seat", state="attached")
    until(lambda: place.teleop._trip is not None)
    before = place.session.present.seen.joints
    place.drive(2)
    after = place.session.present.seen.joints
    steering = Steering(place.world.model, place.world.dt)
    move = steering.tool(after)[:3, 3] - steering.tool(before)[:3, 3]
    assert move[0] < -0.05 and abs(move[1:]).max() < 0.01, "S moves back, the 3-D view stays where it is"
    place.press("Space")
    until(lambda: place.session.present.asked[-1] == 1.0)
    place.page.wait_for_function(f"document.body.innerText.includes('step {place.step} of {place.step}')")


def test_the_gizmo_is_dragged_and_the_arm_follows(place: _Place) -> None:
    steering = Steering(place.world.model, place.world.dt)
    time.sleep(0.5)
    tool = steering.tool(place.session.present.seen.joints)
    (client,) = place.teleop._server.get_clients().values()
    # The arrow along the tool's z axis, from where it can be gripped to where it shall go.
    points = tool[:3, 3] + np.outer([0.16, 0.08], tool[:3, 2])
    (x0, y0), (x1, y1) = on_screen(place.page, client.camera, points)
    mouse = place.page.mouse
    mouse.move(x0, y0)
    time.sleep(0.3)
    mouse.down()
    for share in np.linspace(0, 1, 6):
        mouse.move(x0 + share * (x1 - x0), y0 + share * (y1 - y0))
        time.sleep(0.05)
    mouse.up()
    time.sleep(0.5)
    until(lambda: place.teleop.loop.wish.goal is None)
    move = steering.tool(place.session.present.seen.joints)[:3, 3] - tool[:3, 3]
    assert -0.2 < move @ tool[:3, 2] < -0.03 and np.linalg.norm(np.cross(move, tool[:3, 2])) < 0.02


def test_a_single_joint_follows_its_slider_and_no_other_moves(place: _Place) -> None:
    robot = place.world.model.robot
    place.page.get_by_text("Single joints", exact=True).click()
    last = steering_names(place)[-1]
    place.page.get_by_text(last, exact=True).first.wait_for()
    before, index = place.session.present.seen.joints.copy(), robot.joint_index(last)
    slider = place.page.get_by_role("slider").last
    slider.focus()
    place.page.keyboard.press("End")
    until(lambda: abs(place.session.present.seen.joints[index] - float(robot.upper[index])) < 5e-3)
    until(lambda: not place.teleop.loop.wish.joints)
    others = np.arange(robot.num_joints) != index
    assert np.abs(place.session.present.seen.joints - before)[others].max() < 1e-5
    place.press("z")  # the slider goes back with the robot
    until(lambda: abs(place.session.present.seen.joints[index] - float(robot.upper[index])) > 5e-3)
    place.page.get_by_text("Single joints", exact=True).click()


def steering_names(place: _Place) -> tuple[str, ...]:
    return Steering(place.world.model, place.world.dt).singly


def test_going_back_forking_trying_again_and_choosing_takes(place: _Place) -> None:
    tip, takes = place.step, len(place.session.history.takes)
    place.press("z")
    until(lambda: place.step == tip - 1)
    place.click("A step back")
    until(lambda: place.step == tip - 2)
    place.click("Fork here")
    until(lambda: len(place.session.history.takes) == takes + 1)
    place.drive(1)
    fork = place.session.take.number
    place.press("t")
    until(lambda: place.session.take.number == fork + 1 and place.step == tip - 2)
    place.page.get_by_label("take").or_(place.page.locator("input[value^='3']")).first.wait_for()
    slider = place.page.get_by_role("slider").nth(1)
    slider.focus()
    place.page.keyboard.press("Home")
    until(lambda: place.step == 0)
    place.page.wait_for_function("document.body.innerText.includes('step 0 of')")


def test_saving_writes_a_dataset_and_says_where_and_a_wrong_world_is_told(place: _Place) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra data)")
    place.drive(2)
    place.click("Save the episode")
    place.page.wait_for_function("document.body.innerText.includes('saved as')")
    assert (place.out / "set" / "meta" / "info.json").exists()
    place.click("Save the episode")
    place.page.wait_for_function("document.body.innerText.includes('where nothing is')")
    place.teleop.loop.ask("world", lambda session: session.switch("missing"))
    place.page.wait_for_function("document.body.innerText.includes('missing')")
    assert place.teleop.loop.alive and place.session.world.name == "toy"


def test_a_second_page_watches_is_told_so_and_may_drive_when_the_first_is_gone(place: _Place) -> None:
    second = _opened(place.browser, place.teleop)
    second.wait_for_function("document.body.innerText.includes('You watch')")
    assert second.get_by_role("button", name="Drive", exact=True).is_disabled()
    assert second.locator("#vap-sim-seat").count() == 0
    before = place.step
    second.keyboard.down("w")
    time.sleep(0.5)
    second.keyboard.up("w")
    assert place.step == before, "keys of a page that watches go nowhere"
    place.page.bring_to_front()
    place.drive(1)
    second.wait_for_function(f"document.body.innerText.includes('step {place.step} of')")
    place.page.keyboard.down("s")
    until(lambda: place.step > before + 1)
    place.page.close()  # in the middle of a step, with a key held
    second.bring_to_front()
    second.wait_for_function("document.body.innerText.includes('wheel is free')")
    until(lambda: not place.teleop.loop.wish.linear.any())
    second.get_by_role("button", name="Drive", exact=True).click()
    second.wait_for_selector("#vap-sim-seat", state="attached")
    place.page = second
    until(lambda: place.teleop._trip is not None)
    place.drive(1)
    place.click("Hand the wheel over")
    second.wait_for_function("document.body.innerText.includes('wheel is free')")
    second.get_by_role("button", name="Drive", exact=True).click()
    until(lambda: place.teleop._trip is not None)


def test_driving_at_random_for_ten_seconds_loses_no_step_and_does_not_grow(place: _Place) -> None:
    import psutil

    place.session.present  # the page that drives is the one that is left
    rng = np.random.default_rng(0)
    process, started, steps = psutil.Process(), time.monotonic(), len(place.session.history)
    memory = process.memory_info().rss
    while time.monotonic() - started < 10:
        key = rng.choice(["w", "s", "a", "d", "r", "f", "q", "e"])
        place.page.keyboard.down(key)
        time.sleep(float(rng.uniform(0.1, 0.6)))
        place.page.keyboard.up(key)
        if rng.random() < 0.3:
            place.press(str(rng.choice(["z", "x", "t", "Space"])))
    until(lambda: not place.teleop.loop.wish.linear.any())
    assert len(place.session.history) - steps > 10 and place.teleop.loop.alive
    assert place.teleop.gate.pages == 1 and process.memory_info().rss - memory < 120 * MEGABYTE
    assert re.search(r"step \d+ of \d+, take", text(place.page))
