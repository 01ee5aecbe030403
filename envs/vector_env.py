"""Many dreams as one Gymnasium vector environment: every step is one call of the world model for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from vap_sim.envs.observations import Observation
from vap_sim.envs.rendering import Picture
from vap_sim.envs.session import Session, SessionState, open_session
from vap_sim.envs.start import Start
from vap_sim.envs.starting import (
    StartLike,
    demonstrated,
    draw,
    first_start,
    instructed,
    moved,
    resolve_start,
    start_names,
)
from vap_sim.envs.world_env import (
    Judge,
    Profile,
    WorldEnv,
    check_render_mode,
    check_render_views,
    instance_metadata,
    render_row,
)
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.models.protocol import WorldModel, WorldModelSpec

Flags = NDArray[np.bool_]
Rewards = NDArray[np.float64]


@runtime_checkable
class RowsJudge(Protocol):
    """A judge that is asked for all rows at once: observations with a leading axis b, and b infos, to rewards and
    whether episodes are over, (b,) each. It judges a row as it would alone."""

    def judge_rows(self, observations: Observation, infos: Sequence[dict[str, Any]]) -> tuple[Rewards, Flags]:
        """Rewards (b,) and whether each row's episode is over (b,)."""
        ...


class WorldVectorEnv(VectorEnv[Observation, NDArray[np.float32], NDArray[Any]]):
    """`num_envs` dreams of `WorldEnv` stepped together; `gymnasium.make_vec("VAPWorld-DROID-v0", num_envs=8)`.

    Arguments, spaces, rewards and infos are those of `WorldEnv`, with a leading axis; row i seeded with s equals a
    `WorldEnv` seeded with s + i, whatever the other rows do. Besides:

    - max_episode_steps: an episode is truncated after so many actions (None or -1: never).
    - autoreset_mode: what happens to finished rows, by Gymnasium's three modes: NEXT_STEP resets them in the next call,
      which ignores their action; SAME_STEP at once, with the last observation in `infos["final_obs"]` and the last info
      in `infos["final_info"]`; DISABLED leaves it to `reset(options={"reset_mask": mask})`, mask (num_envs,) bool.
    - judge: one that has `judge_rows` is asked for all rows at once (`RowsJudge`), another one row by row.
    - `reset(options={"start": ..., "instruction": ..., "demonstration": ..., "motion": ...})` takes one of each for all
      rows that are reset, or a list or tuple with one a row.
    """

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = 200,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        robot: str | Path = "panda_robotiq",
        world: str | Path | WorldModel = "compact",
        weights: str | Path | None = None,
        control: str = "joint_velocity",
        control_hz: float = 5.0,
        video_hz: float = 5.0,
        clip_actions: bool = True,
        trust: bool = False,
        task: str | None = "pick_place",
        judge: Judge | None = None,
        start: StartLike | None = None,
        render_mode: str | None = None,
        render_views: Sequence[str] = ("image",),
        views: Sequence[str] | None = None,
        device: str = "cpu",
        world_options: Mapping[str, Any] | None = None,
    ) -> None:
        if num_envs < 1:
            raise InvalidInput("num_envs", num_envs, "at least 1")
        if render_mode == "human":
            raise InvalidInput("render_mode of a vector environment", render_mode, "None or 'rgb_array'")
        self._session: Session = open_session(
            robot=robot,
            world=world,
            weights=weights,
            world_options=world_options,
            control=control,
            control_hz=control_hz,
            video_hz=video_hz,
            clip_actions=clip_actions,
            trust=trust,
            views=views,
            device=device,
            start=start,
        )
        layout, spec = self._session.layout, self._session.controller.spec
        self.num_envs = num_envs
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.render_mode = check_render_mode(render_mode)
        self._render_views = check_render_views(render_views, layout.image_keys)
        self.metadata = {**instance_metadata(WorldEnv.metadata, control_hz), "autoreset_mode": self.autoreset_mode}
        self._judge = judge
        self._limit = np.inf if max_episode_steps in (None, -1) else max_episode_steps
        model = self._session.model
        self._start = self._session.start
        self._names = () if self._start is not None else start_names(task, model)
        self.single_observation_space = layout.space
        self.single_action_space = gymnasium.spaces.Box(spec.low, spec.high, dtype=np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators: list[tuple[np.random.Generator, int | None]] = [
            (seeding.np_random(None)[0], None) for _ in range(num_envs)
        ]
        self._state: SessionState | None = None
        self._done: Flags = np.zeros(num_envs, np.bool_)
        self._steps, self._seconds = 0, 0.0

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generators of the rows, from which starts are drawn."""
        return tuple(generator for generator, _ in self._generators)

    @property
    def np_random_seed(self) -> tuple[int | None, ...]:  # type: ignore[override]
        """The seeds of the rows' generators; None where it was never seeded."""
        return tuple(seed for _, seed in self._generators)

    @property
    def world_spec(self) -> WorldModelSpec:
        """What the world model takes and makes, and by which fingerprint it is known."""
        return self._session.world.spec

    @property
    def profile(self) -> Profile:
        """Time spent so far in `step`."""
        network = self._session.network_seconds
        return Profile(self._steps, network, self._seconds - network)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin dreams in all rows, or in those of `options["reset_mask"]`; a reset that fails changes nothing.

        A seed s means seed s + i for row i; a list gives one a row. Raises as `WorldEnv.reset` does.
        """
        self._check_open()
        options = options or {}
        rows = self._chosen_rows(options.get("reset_mask"))
        told = {name: self._one_a_row(name, options) for name in ("instruction", "demonstration", "motion")}
        state = self._restarted(self._state, rows, self._seeds(seed), self._given_starts(options), **told)
        self._state = state
        self._done[rows] = False
        infos: dict[str, Any] = {}
        for row in rows:
            infos = self._add_info(infos, self._session.info(state, row, beginning=True), row)
        return self._session.observe(state), infos

    def step(self, actions: NDArray[np.float32]) -> tuple[Observation, Rewards, Flags, Flags, dict[str, Any]]:
        """One control interval of every dream under actions (num_envs, A). Raises InvalidInput for another shape."""
        began = perf_counter()
        state, session = self._present(), self._session
        values = np.asarray(actions)
        if values.shape != self.action_space.shape:
            raise InvalidInput("actions", f"shape {values.shape}", f"{self.action_space.shape}, one row an environment")
        if self.autoreset_mode == AutoresetMode.DISABLED and self._done.any():
            rows = np.flatnonzero(self._done).tolist()
            raise ResetNeeded(f"Rows {rows} are over: call reset(options={{'reset_mask': mask}}) with them set")
        # Only the mode NEXT_STEP leaves rows that are over for the next call to find.
        restarts = self._done
        state = self._moved(state, values, restarts)
        observations = session.observe(state)
        details = [session.info(state, row, beginning=bool(restarts[row])) for row in range(self.num_envs)]
        rewards, terminated = self._judged(observations, details, ~restarts)
        truncated = state.steps >= self._limit
        done = terminated | truncated
        infos: dict[str, Any] = {}
        if self.autoreset_mode == AutoresetMode.SAME_STEP and done.any():
            over = np.flatnonzero(done)
            for row in over:
                last = {key: value[row].copy() for key, value in observations.items()}
                infos = self._add_info(infos, {"final_obs": last, "final_info": details[row]}, int(row))
            state, done = self._restarted(state, over), np.zeros_like(done)
            observations = session.observe(state)
            for row in over:
                details[row] = session.info(state, int(row), beginning=True)
        for place, info in enumerate(details):
            infos = self._add_info(infos, info, place)
        self._state, self._done = state, done
        self._steps += 1
        self._seconds += perf_counter() - began
        return observations, rewards, terminated, truncated, infos

    def echoes(self, row: int) -> NDArray[np.uint8]:
        """Those of one dream (E, V, H, W, 3), as of `WorldEnv.echoes`."""
        pictures: NDArray[np.uint8] = self._session.echoes(self._present().index([row]))[0]
        return pictures

    def get_state(self) -> SessionState:
        """All dreams as they are now; `index(rows)` chooses some, for instance one for a `WorldEnv`."""
        return self._present()

    def set_state(self, state: SessionState) -> None:
        """Go on from `state` with num_envs rows. Raises InvalidInput for a state of another model, robot or control."""
        self._check_open()
        self._state, self._done = self._session.resume(state, self.num_envs), np.zeros(self.num_envs, np.bool_)

    def render(self) -> tuple[Picture, ...] | None:
        """One picture (H, sum of W, 3) uint8 a row."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs a render_mode: gymnasium.make_vec(..., render_mode='rgb_array')")
            return None
        state = self._present()
        return tuple(render_row(self._session, state, row, self._render_views) for row in range(self.num_envs))

    def close_extras(self, **_kwargs: Any) -> None:
        """Forget the dreams."""
        self._state = None

    def _moved(self, state: SessionState, actions: NDArray[np.float32], restarts: Flags) -> SessionState:
        """All dreams one action on, but new ones where `restarts` (num_envs,) says so."""
        if not restarts.any():
            return self._session.step(state, actions)
        if not restarts.all():
            rows = np.flatnonzero(~restarts)
            state = state.with_rows(rows, self._session.step(state.index(rows), actions[rows]))
        return self._restarted(state, np.flatnonzero(restarts))

    def _judged(self, observations: Observation, details: list[dict[str, Any]], rows: Flags) -> tuple[Rewards, Flags]:
        """Rewards and terminations (num_envs,), zero and False outside of `rows`."""
        rewards, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, np.bool_)
        if self._judge is not None and rows.any():
            places = np.flatnonzero(rows)
            for row in places:
                details[row] |= {"start": self._present().starts[row], "row": int(row)}  # for the judge alone
            if isinstance(self._judge, RowsJudge):
                seen = {key: value[places] for key, value in observations.items()}
                rewards[places], terminated[places] = self._judge.judge_rows(seen, [details[row] for row in places])
            else:
                for row in places:
                    one = {key: value[row].copy() for key, value in observations.items()}
                    reward, over = self._judge(one, details[row])
                    rewards[row], terminated[row] = float(reward), bool(over)
            for row in places:
                details[row] = {name: value for name, value in details[row].items() if name not in ("start", "row")}
        return rewards, terminated

    def _restarted(
        self,
        state: SessionState | None,
        rows: NDArray[np.intp],
        seeds: Sequence[int | None] | None = None,
        given: Sequence[Start | None] | None = None,
        instruction: Sequence[Any] | None = None,
        demonstration: Sequence[Any] | None = None,
        motion: Sequence[Any] | None = None,
    ) -> SessionState:
        """`state` with new dreams at `rows`. The rows' generators move on only if nothing failed."""
        generators, starts, keys = list(self._generators), [], []
        for row in rows:
            seed = None if seeds is None else seeds[row]
            rng, old = generators[row]
            generators[row] = (deepcopy(rng), old) if seed is None else (seeding.np_random(seed)[0], seed)
            key, name = draw(generators[row][0], self._names)
            start = first_start(None if given is None else given[row], self._start, name, self._session.model)
            start = instructed(start, None if instruction is None else instruction[row])
            start = demonstrated(start, None if demonstration is None else demonstration[row])
            starts.append(moved(start, None if motion is None else motion[row]))
            keys.append(key)
        fresh = self._session.begin(starts, keys)
        self._generators = generators
        return fresh if state is None or len(rows) == self.num_envs else state.with_rows(rows, fresh)

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        seeds = [seed + row for row in range(self.num_envs)] if isinstance(seed, int | np.integer) else list(seed)
        if len(seeds) != self.num_envs:
            raise InvalidInput("seeds", f"{len(seeds)} of them", f"{self.num_envs}, one an environment")
        return [None if value is None else int(value) for value in seeds]

    def _given_starts(self, options: dict[str, Any]) -> list[Start | None]:
        model = self._session.model
        return [None if one is None else resolve_start(one, model) for one in self._one_a_row("start", options)]

    def _one_a_row(self, name: str, options: dict[str, Any]) -> list[Any]:
        given = options.get(name)
        values = list(given) if isinstance(given, list | tuple) else [given] * self.num_envs
        if len(values) != self.num_envs:
            raise InvalidInput(f"{name}s", f"{len(values)} of them", f"one, or {self.num_envs}, one an environment")
        return values

    def _chosen_rows(self, mask: Any) -> NDArray[np.intp]:
        if mask is None:
            return np.arange(self.num_envs)
        if (
            not isinstance(mask, np.ndarray)
            or mask.dtype != np.bool_
            or mask.shape != (self.num_envs,)
            or not mask.any()
        ):
            raise InvalidInput(
                "reset_mask", mask, f"a numpy array ({self.num_envs},) of bool, at least one of them True"
            )
        if not mask.all():
            self._present()
        return np.flatnonzero(mask)

    def _present(self) -> SessionState:
        self._check_open()
        if self._state is None:
            raise ResetNeeded("There are no dreams yet: call reset() first")
        return self._state

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError("This vector environment is closed; make a new one")


def _autoreset_mode(mode: str | AutoresetMode) -> AutoresetMode:
    if isinstance(mode, AutoresetMode):
        return mode
    valid = {item.value: item for item in AutoresetMode} | {item.name: item for item in AutoresetMode}
    if mode not in valid:
        raise UnknownName("autoreset_mode", mode, [item.value for item in AutoresetMode])
    return valid[mode]
