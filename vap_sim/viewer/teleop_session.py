"""A driving session: one present moment, worlds that can be put back to any earlier one, and takes to choose from.

Nothing here knows a browser. A world is anything that resets, steps, and gives and takes its state; every verb of the
session returns the present moment, and each step is handed to a journal before it is shown, so that what was driven
outlives the program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput, UnknownName, Unsupported
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel
from vap_sim.viewer.teleop_history import History, HistoryLimits, Moment, Seen, Take


class World(Protocol):
    """What a session drives: a dream or the ground truth."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def dt(self) -> float:
        """Seconds that an action lasts."""
        ...

    @property
    def model(self) -> RobotModel:
        """The robot."""
        ...

    def cameras(self) -> Mapping[str, Camera]:
        """The cameras of the pictures by name, where known; after a start."""
        ...

    def instruction(self) -> str:
        """The task in words, "" for none; after a start."""
        ...

    def begin(self, seed: int, options: Mapping[str, Any]) -> Seen:
        """Start an episode."""
        ...

    def begun(self) -> Mapping[str, Any]:
        """Options with which another world begins where this one did."""
        ...

    def step(self, action: NDArray[np.float32]) -> Seen:
        """One control interval under `action` (A,)."""
        ...

    def state(self) -> tuple[Any, int]:
        """The present state, to be given back to `restore`, and its size [bytes]."""
        ...

    def restore(self, state: Any) -> None:
        """Go on from a state."""
        ...

    def resting(self, seen: Seen) -> NDArray[np.float32]:
        """The action (A,) that asks the robot to stay where it is seen."""
        ...


class Journal(Protocol):
    """What hears of every moment as soon as it exists."""

    def begin(self, world: World, seed: int, options: Mapping[str, Any], moment: Moment) -> None:
        """A new episode begins in a world; what came before is complete."""
        ...

    def add(self, moment: Moment) -> None:
        """One more moment."""
        ...


OpenWorld = Callable[[str], World]
"""Makes a world of its name; may take long, and raises VAPSimError for one that cannot be had."""


class DrivingSession:
    """Drives one world at a time. Every verb either returns the new present or raises and changes nothing."""

    def __init__(
        self,
        open_world: OpenWorld,
        world: str,
        *,
        limits: HistoryLimits | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._open, self._limits, self._journal = open_world, limits, journal
        self._worlds: dict[str, World] = {}
        self._chosen = self._opened(world)
        self._history = History(limits)
        self._take: Take | None = None
        self._present: Moment | None = None
        self._seed, self._options = 0, dict[str, Any]()
        # Where each world's dynamics stand now; unknown after a failed step.
        self._standing: dict[str, int | None] = {}
        self.replayed = 0

    @property
    def world(self) -> World:
        """The world that is driven."""
        return self._chosen

    @property
    def history(self) -> History:
        """Everything since the last start."""
        return self._history

    @property
    def present(self) -> Moment:
        """The moment that is shown. Raises InvalidInput before the first start."""
        if self._present is None:
            raise InvalidInput("driving session", "no episode", "begin() first")
        return self._present

    @property
    def take(self) -> Take:
        """The take that is driven. Raises InvalidInput before the first start."""
        if self._take is None:
            raise InvalidInput("driving session", "no episode", "begin() first")
        return self._take

    @property
    def line(self) -> tuple[Moment, ...]:
        """The present take from its start to its tip; the present moment is `line[present.step]`."""
        return self._history.line(self.take)

    def begin(self, seed: int, options: Mapping[str, Any] | None = None) -> Moment:
        """Start an episode and forget the last one, which the journal keeps. Raises what the world's reset raises."""
        options = dict(options or {})
        seen = self._chosen.begin(seed, options)
        history = History(self._limits)
        self._standing = {}
        present = self._rooted(history, self._chosen, seen)
        self._seed, self._options = seed, {**options, **self._chosen.begun()}
        self._history, self._take, self._present = history, history.begin_take(present), present
        if self._journal is not None:
            self._journal.begin(self._chosen, seed, options, present)
        return present

    def step(self, action: NDArray[np.float32]) -> Moment:
        """Act, from the present. At an earlier moment of a take that begins another take. Raises Unsupported where the
        history is full, and what the world raises."""
        take, before = self.take, self.present
        self._history.check_room()
        if take.tip != before.number:
            take = self._history.begin_take(before)
        present = self._acted(self._chosen, before, np.asarray(action, np.float32))
        self._take, self._present = self._history.extend(take, present), present
        return present

    def rewind(self, step: int) -> Moment:
        """Go to a step of the present take, 0 for its start. Raises InvalidInput where it has none such."""
        line = self.line
        if not 0 <= step < len(line):
            raise InvalidInput("step to go to", step, f"0 to {len(line) - 1}")
        self._stand(self._chosen, line[step])
        self._present = line[step]
        return line[step]

    def fork(self) -> Take:
        """Begin another take at the present moment; what is driven next belongs to it alone. Raises Unsupported."""
        self._take = self._history.begin_take(self.present)
        return self._take

    def again(self) -> Moment:
        """Try again: go back to where the present take began, and begin another one there. Raises Unsupported."""
        begins = self._history.moment(self.take.begins)
        take = self._history.begin_take(begins)
        self._stand(self._chosen, begins)
        self._take, self._present = take, begins
        return begins

    def choose(self, number: int) -> Moment:
        """Go to the tip of take `number`, in whatever world it is. Raises InvalidInput where there is none such."""
        found = [take for take in self._history.takes if take.number == number]
        if not found:
            raise InvalidInput("take", number, f"1 to {len(self._history.takes)}")
        take = found[0]
        world, tip = self._opened(take.world), self._history.moment(take.tip)
        self._stand(world, tip)
        self._chosen, self._take, self._present = world, take, tip
        return tip

    def switch(self, name: str) -> Moment:
        """Go on in another world: the same start and the same actions up to the present moment, as another take.

        Raises what the world raises, Unsupported for one whose actions last longer or shorter, or where the history
        is full; the world chosen before stays then."""
        world, way = self._opened(name), self._history.way_to(self.present)
        if world is self._chosen:
            return self.present
        if abs(world.dt - self._chosen.dt) > 1e-9:
            given, expected = 1 / world.dt, 1 / self._chosen.dt
            raise Unsupported(
                f"world {name!r} takes {given:g} actions a second, this episode {expected:g}: start anew there"
            )
        if len(self._history) + len(way) > self._history.limits.moments:
            raise Unsupported("this episode is full: there is no room to repeat it in another world; save it")
        if len(self._history.takes) >= self._history.limits.takes:
            raise Unsupported(f"this episode has {len(self._history.takes)} takes, the most that are kept")
        root = self._root(world)
        present = root
        for moment in way[1:]:
            assert moment.action is not None
            present = self._acted(world, present, moment.action)
        take = self._history.extend(self._history.begin_take(root), present)
        self._chosen, self._take, self._present = world, take, present
        return present

    def start_in(self, name: str, seed: int, options: Mapping[str, Any] | None = None) -> Moment:
        """Start an episode in a world of that name. Raises what making it and its reset raise; nothing changes then."""
        before = self._chosen
        self._chosen = self._opened(name)
        try:
            return self.begin(seed, options)
        except BaseException:
            self._chosen = before
            raise

    def _opened(self, name: str) -> World:
        if name not in self._worlds:
            self._worlds[name] = self._open(name)
        return self._worlds[name]

    def _root(self, world: World) -> Moment:
        """The start of this episode in another world, begun at most once: a twin forgets all others at a reset."""
        for take in self._history.takes:
            if take.world == world.name:
                return self._history.line(take)[0]
        return self._rooted(self._history, world, world.begin(self._seed, self._options))

    def _rooted(self, history: History, world: World, seen: Seen) -> Moment:
        state, nbytes = world.state()
        root = history.add(None, None, world.resting(seen), world.name, seen, state, nbytes)
        self._standing[world.name] = root.number
        if self._journal is not None and history is self._history:
            self._journal.add(root)
        return root

    def _acted(self, world: World, before: Moment, action: NDArray[np.float32]) -> Moment:
        self._stand(world, before)
        self._standing[world.name] = None
        seen = world.step(action)
        state, nbytes = world.state()
        moment = self._history.add(before, action, action, world.name, seen, state, nbytes)
        self._standing[world.name] = moment.number
        if self._journal is not None:
            self._journal.add(moment)
        return moment

    def _stand(self, world: World, moment: Moment) -> None:
        """Put a world where it was at a moment of its own; `replayed` counts the actions that had to be repeated."""
        if moment.world != world.name:
            raise UnknownName("world of the moment", moment.world, [world.name])
        if self._standing.get(world.name) == moment.number:
            self.replayed = 0
            return
        way = self._history.way_to(moment)
        kept = max(index for index, one in enumerate(way) if self._history.state(one.number) is not None)
        self._standing[world.name] = None
        world.restore(self._history.state(way[kept].number))
        for one in way[kept + 1 :]:
            assert one.action is not None
            world.step(one.action)
        self.replayed = len(way) - 1 - kept
        self._standing[world.name] = moment.number
