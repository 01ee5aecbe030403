"""Gymnasium environments as worlds to drive: dreams by name or weights, the twin, and the twin beside a dream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput, UnknownName, Unsupported
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot
from vap_sim.viewer.teleop_history import Seen, Signal
from vap_sim.viewer.teleop_steering import Steering

TWIN, BESIDE = "twin", "twin "
"""Name of the ground truth among worlds, and what the names of its pictures begin with beside a dream."""
_TOLD = {
    "success": "success",
    "distance": "distance",
    "prompt_agreement": "trust",
    "dream_drift": "drift",
    "dream_doubt": "doubt",
    "dream_risk": "risk",
}


class GymWorld:
    """One environment with control "joint_position" as something to drive; `beside` does the same actions, its pictures
    are shown too. The environments must give and take their state (`get_state`, `set_state`)."""

    def __init__(self, name: str, env: Any, model: RobotModel, dt: float, beside: GymWorld | None = None) -> None:
        self.name, self.model, self.dt = name, model, dt
        self._env, self._beside = env, beside
        self._steering, self._instruction = Steering(model, dt), ""
        self._start: Any = None
        height, width = env.observation_space["image"].shape[:2]
        self._size = (int(width), int(height))
        if beside is not None and abs(beside.dt - dt) > 1e-9:
            raise Unsupported(f"{beside.name} beside {name!r}: {1 / beside.dt:g} and {1 / dt:g} actions a second")

    def begin(self, seed: int, options: Mapping[str, Any]) -> Seen:
        options, self._start = dict(options), None
        start: Any = options.get("start")
        # A start that another world told of, which may show larger pictures.
        if hasattr(start, "resized") and start.size != self._size:
            options["start"] = start.resized(self._size)
        observation, info = self._env.reset(seed=seed, options=options)
        seen = self._seen(observation, info)
        return seen if self._beside is None else _both(seen, self._beside.begin(seed, {**options, **self.begun()}))

    def begun(self) -> dict[str, Any]:
        env = self._env.unwrapped
        if self._start is None:
            starts = getattr(env.get_state(), "starts", None)
            self._start = starts[0] if starts else env.start()
        return {"start": self._start}

    def step(self, action: NDArray[np.float32]) -> Seen:
        observation, _, _, _, info = self._env.step(action)
        seen = self._seen(observation, info)
        return seen if self._beside is None else _both(seen, self._beside.step(action))

    def state(self) -> tuple[Any, int]:
        state = self._env.unwrapped.get_state()
        nbytes = int(getattr(state, "nbytes", 0))
        if self._beside is None:
            return state, nbytes
        other, more = self._beside.state()
        return (state, other), nbytes + more

    def restore(self, state: Any) -> None:
        if self._beside is None:
            self._env.unwrapped.set_state(state)
            return
        self._env.unwrapped.set_state(state[0])
        self._beside.restore(state[1])

    def resting(self, seen: Seen) -> NDArray[np.float32]:
        return self._steering.resting(seen.joints)

    def cameras(self) -> dict[str, Camera]:
        """The cameras of the pictures by view, where the environment tells of them; call after a start."""
        names = [key for key in self._env.observation_space.spaces if key.startswith("image")]
        return dict(zip(names, self.begun()["start"].cameras, strict=False))

    def instruction(self) -> str:
        """The task in words; call after a start."""
        return self._instruction

    def close(self) -> None:
        """Free the environments."""
        self._env.close()
        if self._beside is not None:
            self._beside.close()

    def _seen(self, observation: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> Seen:
        self._instruction = str(info.get("instruction", ""))
        pictures = {key: value for key, value in observation.items() if key.startswith("image")}
        # The first camera's picture leads, then its prompt.
        prompt = self._env.render()
        shown = {"image": pictures.pop("image"), "prompt": np.asarray(prompt), **pictures}
        signals: dict[str, Signal] = {}
        for key, name in _TOLD.items():
            if key in info:
                value = info[key]
                signals[name] = bool(value) if isinstance(value, bool | np.bool_) else float(value)
        return Seen(shown, np.asarray(info["joints"], np.float64), signals)


def _both(seen: Seen, other: Seen) -> Seen:
    pictures = {f"{BESIDE}{name}": picture for name, picture in other.pictures.items() if name != "prompt"}
    signals = {f"{BESIDE}{name}": value for name, value in other.signals.items()}
    return Seen({**seen.pictures, **pictures}, seen.joints, {**seen.signals, **signals})


def world_opener(
    env_id: str, *, task: str | None = None, beside: bool = False, trust: bool = True
) -> Callable[[str], GymWorld]:
    """What makes a `GymWorld` of a world's name: one of `load_world`'s, a path of weights, or "twin".

    env_id: a dream's id, `VAPWorld-<station>-v0`, or its twin's; task: as the environments take it; beside: the twin
    does the same beside every dream. Raises UnknownName for an id that is none of these.
    """
    station = station_of(env_id)

    def opened(name: str) -> GymWorld:
        if name == TWIN:
            return twin_world(station, task)
        return dream_world(station, name, task, beside=beside, trust=trust)

    return opened


def station_of(env_id: str) -> str:
    """The station of an environment's id. Raises UnknownName for one that this package does not register."""
    import gymnasium

    import vap_sim  # noqa: F401 - registers the environments

    ours = sorted(name for name in gymnasium.registry if name.startswith(("VAPWorld-", "VAPTwin-")))
    if env_id not in ours:
        raise UnknownName("environment", env_id, ours)
    return env_id.split("-")[1]


def default_world(env_id: str) -> str:
    """The world to begin in: the twin for a twin's id, else what the dream of that id is made with unless told
    otherwise, which the compact model's weights need not know. Raises UnknownName."""
    import gymnasium

    station_of(env_id)
    if env_id.startswith("VAPTwin-"):
        return TWIN
    return str(gymnasium.spec(env_id).kwargs.get("world", "compact"))


def dream_world(
    station: str, world: str, task: str | None = None, *, beside: bool = False, trust: bool = True
) -> GymWorld:
    """A dream of a station's first view at its rate, or of weights by their path at the rate that they were made for.

    Raises what making it raises."""
    import gymnasium

    from vap_sim.envs.view_choice import first_view

    env_id = f"VAPWorld-{station}-v0"
    options: dict[str, Any] = {**first_view(env_id), **({} if task is None else {"task": task})}
    rate = _rate(station)
    if _is_place(world):
        from vap_sim.models.registry import load_world

        model = load_world(Path(world))
        rate = model.spec.frame_rate
        options |= {"world": model, "world_options": None, "control_hz": rate, "video_hz": rate}
    else:
        options["world"] = world
    env = gymnasium.make(
        env_id,
        control="joint_position",
        trust=trust,
        render_mode="rgb_array",
        render_views=("prompt",),
        max_episode_steps=-1,
        disable_env_checker=True,
        **options,
    )
    other = twin_world(station, task, hz=rate) if beside else None
    return GymWorld(world, env, _home(station), 1 / rate, other)


def twin_world(station: str, task: str | None = None, hz: float | None = None) -> GymWorld:
    """The ground truth of a station's first view. Raises what making it raises, MissingDependency where pybullet is
    missing."""
    import gymnasium

    from vap_sim.envs.view_choice import first_view

    env_id = f"VAPTwin-{station}-v0"
    options: dict[str, Any] = {**first_view(env_id), **({} if task is None else {"task": task})}
    rate = _rate(station) if hz is None else hz
    env = gymnasium.make(
        env_id,
        control="joint_position",
        control_hz=rate,
        video_hz=rate,
        render_mode="rgb_array",
        render_views=("prompt",),
        max_episode_steps=-1,
        disable_env_checker=True,
        **options,
    )
    return GymWorld(TWIN, env, _home(station), 1 / rate)


def start_options(start: str | None) -> dict[str, Any]:
    """Reset options for a start by name, or by its folder; none for None. Raises InvalidInput for an empty one."""
    if start is None:
        return {}
    if not start.strip():
        raise InvalidInput("--start", start, "the name of a shipped start, or its folder")
    return {"start": Path(start) if Path(start).is_dir() else start}


def shipped(env_id: str, task: str | None) -> tuple[str, ...]:
    """Names of the starts that come with the package for a station's robot and task, of all its tasks for None."""
    from vap_sim.envs.start import load_start, shipped_starts
    from vap_sim.envs.stations import get_station

    station = get_station(station_of(env_id))
    found: list[str] = []
    for name in station.tasks if task is None else [station.get_task(task).name]:
        names = shipped_starts(name)
        if names and load_start(names[0]).robot == station.robot:
            found += names
    return tuple(found)


def _home(station: str) -> RobotModel:
    from vap_sim.envs.stations import get_station

    return load_robot(get_station(station).robot)


def _rate(station: str) -> float:
    from vap_sim.envs.stations import get_station

    return get_station(station).control_hz


def _is_place(world: str) -> bool:
    from vap_sim.models.registry import is_path

    return is_path(world)
