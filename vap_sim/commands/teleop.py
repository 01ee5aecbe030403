"""`vap-sim teleop`: drive a robot in a dream, in the browser."""

from __future__ import annotations

import logging
import os
import time
import warnings
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vap_sim.commands.outcome import Outcome
from vap_sim.errors import InvalidInput

if TYPE_CHECKING:
    from vap_sim.viewer.teleop_journal import EpisodeJournal, Logged
    from vap_sim.viewer.teleop_session import DrivingSession

TOKEN_VARIABLE = "VAP_SIM_TELEOP_TOKEN"
_WORLDS = ("compact", "kinematic", "twin")


@dataclass(frozen=True)
class Teleop:
    """Drive the robot in the browser. Example: vap-sim teleop --world compact

    Prints an address and serves a page there until interrupted: the dream beside the drawn prompt, the robot in 3-D
    with a handle on its tool, keys and gamepad, a timeline to rewind and fork, a button that saves a LeRobot dataset.
    Every step is on disk as soon as it is made; --recover saves what a killed server left.

    Attributes:
        env: Environment whose station is driven, by the id of its dream or its twin.
        world: World to begin in: compact, kinematic, twin, or a file or folder of weights (CogVideoX among them); the
            environment's own if not given.
        task: Task whose starts are drawn; the station's own if not given.
        start: Name or folder of the start to begin from; drawn by the seed if not given.
        seed: Seed of the first episode.
        beside: Do the same in the twin and show it beside the dream.
        trust: Show how well the dream can be trusted.
        out: Folder of journals and saved datasets.
        host: Address to listen at; another than the loopback needs a token in the variable VAP_SIM_TELEOP_TOKEN.
        port: Port to listen at, 0 for a free one.
        pages: Most pages that may be open at a time; one drives, the others watch.
        memory: Megabytes for states to rewind to; beyond that earlier moments are reached by repeating actions.
        open: Open the page in this machine's browser.
        recover: Save every episode that was not saved as a dataset in --out, and serve nothing.
        threads: Threads of the world model; one leaves the others to the browser.
    """

    env: str = "VAPWorld-DROID-v0"
    world: str | None = None
    task: str | None = None
    start: str | None = None
    seed: int = 0
    beside: bool = False
    trust: bool = True
    out: Path = Path("out") / "teleop"
    host: str = "127.0.0.1"
    port: int = 8080
    pages: int = 8
    memory: int = 512
    open: bool = False
    recover: bool = False
    threads: int = 1


def run(command: Teleop) -> Outcome:
    """Serve until interrupted, or recover. Raises InvalidInput, Unsupported, MissingDependency, BadFile, OSError."""
    if command.recover:
        return _recovered(command)
    if min(command.pages, command.memory, command.threads) < 1 or command.seed < 0:
        given = f"pages {command.pages}, memory {command.memory}, threads {command.threads}, seed {command.seed}"
        raise InvalidInput("vap-sim teleop", given, "at least 1 of each, and a seed from 0 on")
    from vap_sim.viewer.teleop_gate import Gate, GateLimits

    gate = Gate(command.host, command.port, os.environ.get(TOKEN_VARIABLE), GateLimits(pages=command.pages))
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    # A page may close between any two messages to it; that is no news.
    warnings.filterwarnings("ignore", message="Queued a .* on a closed connection")
    # The browser loads the page while the rest of this program and the world are loaded.
    gate.open_server("VAPSim")
    print(f"drive at {gate.address} ; interrupt to stop", flush=True)
    if command.open:
        webbrowser.open(gate.address)
    from vap_sim.viewer.teleop_page import TeleopPage

    driver = _Driver(command)
    page = TeleopPage(gate, driver.desk(), driver.session)
    page.serve()
    try:
        while page.loop.alive:
            time.sleep(0.5)
    except KeyboardInterrupt:
        pass
    finally:
        page.close()
        driver.close()
    return _farewell(command)


class _Driver:
    """The session of one run of the command: its worlds, its journal, and what saving means."""

    def __init__(self, command: Teleop) -> None:
        from vap_sim.commands.teleop_worlds import default_world
        from vap_sim.viewer.teleop_journal import EpisodeJournal

        self.command = command
        self.world = default_world(command.env) if command.world is None else command.world
        self.journal: EpisodeJournal = EpisodeJournal(command.out / "journal")

    def desk(self) -> Any:
        """What the page offers."""
        from vap_sim.viewer.teleop_controls import Desk

        given = self.world
        worlds = (given, *(name for name in _WORLDS if name != given))
        return Desk(worlds, ("", *_starts(self.command)), self.begin, self.save)

    def session(self) -> DrivingSession:
        """Open the first world and begin an episode; called in the thread that drives."""
        import torch

        from vap_sim.commands.teleop_worlds import world_opener
        from vap_sim.viewer.teleop_history import MEGABYTE, HistoryLimits
        from vap_sim.viewer.teleop_session import DrivingSession

        command = self.command
        torch.set_num_threads(command.threads)
        opener = world_opener(command.env, task=command.task, beside=command.beside, trust=command.trust)
        limits = HistoryLimits(state_bytes=command.memory * MEGABYTE)
        session = DrivingSession(opener, self.world, limits=limits, journal=self.journal)
        self.begin(session, self.world, command.start or "", command.seed)
        return session

    def begin(self, session: DrivingSession, world: str, start: str, seed: int) -> None:
        """Start an episode."""
        from vap_sim.commands.teleop_worlds import start_options

        session.start_in(world, seed, start_options(start or None))

    def save(self, session: DrivingSession, name: str) -> Path:
        """Save the way to the present moment as a dataset below --out, and return where."""
        from vap_sim.viewer.teleop_journal import read_journal, save_episode

        path = self.journal.path
        assert path is not None, "an episode has begun"
        out = self.command.out / _checked(name) if name else _next(self.command.out)
        number = session.present.number
        saved = save_episode(read_journal(path), number, session.world.model, out)
        self.journal.saved(number, saved)
        return saved

    def close(self) -> None:
        """Close the journal."""
        self.journal.close()


def _starts(command: Teleop) -> tuple[str, ...]:
    from vap_sim.commands.teleop_worlds import shipped

    return shipped(command.env, command.task)


def _checked(name: str) -> str:
    """A dataset's name. Raises InvalidInput for one that is no plain name of a folder."""
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name.startswith("."):
        raise InvalidInput("name of the dataset", name, "letters, digits, '-', '_' and '.', not at the front")
    return name


def _next(out: Path) -> Path:
    number = 1
    while (out / f"dataset_{number:04d}").exists() or (out / f"dataset_{number:04d}.partial").exists():
        number += 1
    return out / f"dataset_{number:04d}"


def _left(command: Teleop) -> tuple[Logged, ...]:
    from vap_sim.viewer.teleop_journal import unsaved_journals

    return unsaved_journals(command.out / "journal")


def _recovered(command: Teleop) -> Outcome:
    """Save what was not saved, up to the moment driven last."""
    import json

    from vap_sim.robots.library import load_robot
    from vap_sim.viewer.teleop_journal import SAVED, save_episode

    written = []
    for logged in _left(command):
        out = save_episode(logged, logged.last, load_robot(str(logged.header["robot"])), _next(command.out))
        note = json.dumps({"number": logged.last, "dataset": str(out)})
        (logged.path / SAVED).write_text(note, encoding="utf-8")
        written.append(str(out))
    text = "\n".join(f"recovered {path}" for path in written) or f"nothing to recover in {command.out / 'journal'}"
    return Outcome(text, {"written": written})


def _farewell(command: Teleop) -> Outcome:
    left = [str(logged.path) for logged in _left(command)]
    text = "the page is closed"
    if left:
        text += f"; {len(left)} unsaved: vap-sim teleop --recover --out {command.out} saves them"
    return Outcome(text, {"unsaved": left})
