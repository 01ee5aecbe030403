"""The dream as a Gymnasium environment: a thin shell over `session` for one world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils import seeding
from numpy.typing import NDArray

from vap_sim.envs.observations import Observation, first_row
from vap_sim.envs.rendering import INSTEAD, RENDER_MODES, Picture, Window, composed, render_names, window_problem
from vap_sim.envs.session import Session, SessionState, open_session
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
from vap_sim.errors import UnknownName, Unsupported
from vap_sim.models.protocol import WorldModel, WorldModelSpec

Judge = Callable[[Observation, dict[str, Any]], tuple[float, bool]]
"""From an observation and its info to a reward and whether the episode is over.

While it judges, `info["start"]` is the `Start` of the dream; what it adds to the info besides is told on."""


@dataclass(frozen=True)
class Profile:
    """Where the time of an environment went [s]: in the world model, and in everything else. `steps` were taken."""

    steps: int
    network_seconds: float
    outside_seconds: float


class WorldEnv(gymnasium.Env[Observation, NDArray[np.float32]]):
    """A robot at a table, dreamt by a world model from one picture. Ids `VAPWorld-<station>-v0`.

    What is told here is DROID's; `TwinEnv` lists the stations, and the ids set robot, task, control, rates and views.
    `VAPWorld-Bridge-v0`, `VAPWorld-RT1-v0` and `VAPWorld-EgoVid-v0` dream with world "compact_bodies" unless told
    otherwise.

    Action (`control`; default for a Panda with a Robotiq gripper is `Box(8,)` float32; actions beyond the box are moved
    to its edge, or refused with `clip_actions=False`):

    | control          | entries before the last                                         | range     | last entry |
    | ---------------- | --------------------------------------------------------------- | --------- | ---------- |
    | `joint_velocity` | speeds of the seven arm joints, 1 = 3 rad/s                     | [-1, 1]   | gripper    |
    | `joint_position` | the seven arm joints [rad]                                      | limits    | gripper    |
    | `ee_delta`       | flange speeds x y z, 1 = 1.125 m/s; turning, 1 = 2.25 rad/s     | [-1, 1]   | gripper    |
    | `ee_pose`        | flange x y z [m], roll pitch yaw [rad], in the base frame       | reach, pi | gripper    |
    | `ee_head_delta`  | as `ee_delta`, then speeds of the head's joints, 1 = 3 rad/s    | [-1, 1]   | gripper    |

    The gripper is a position, 0 open .. 1 closed.

    Observation (`Dict`):

    | key                | space                  | meaning                                                          |
    | ------------------ | ---------------------- | ---------------------------------------------------------------- |
    | `image`            | Box uint8 (128, 128, 3) | RGB of the first view, `exterior_1`                             |
    | `image_wrist`      | Box uint8 (128, 128, 3) | RGB of a further view, `image_<camera>`                         |
    | `joint_position`   | Box float32 (7,)       | arm joints [rad], nominal: the controller's motion, no contact   |
    | `gripper_position` | Box float32 (1,)       | 0 open .. 1 closed, nominal                                      |

    Views: `views` names the cameras. Unless told otherwise they are those of the station that has the robot, as many of
    them as the world makes; an environment with a `start` of its own shows those of them that the start has.
    `views=("exterior_1",)` is half the work.

    World: `world` is a name ("compact", "kinematic", "cogvideox"), the path of a weights file or folder, or a model;
    `weights` replaces what ships with a named one, `world_options` are what its `load` takes besides, for example
    `{"mode": "stream", "steps": 4}`.

    Rates: an action lasts 1 / `control_hz`, a picture is made every 1 / `video_hz`, which must be the model's frame
    rate. `control_hz` is an integer multiple of `video_hz`; `info["new_frame"]` tells when the picture changed.

    Reward: 0.0, unless `judge(obs, info) -> (reward, terminated)` is given; it then judges every step.
    End: `terminated` when the judge says so; never `truncated` by itself (`gymnasium.make` adds a limit of 200 steps).
    Start: one of the shipped starts of `task` (None: of any task), drawn by the seed; or the argument `start`, or
    `reset(options={"start": ...})`: a name, a folder, a `Start`, or a photo `{"image", "joints", "camera"}`. Unknown
    option keys are ignored. A reset that fails leaves the environment as it was.
    Instruction: that of the start, or `reset(options={"instruction": ...})`; a world that reads text is told it.
    Demonstration: that of the start, or `reset(options={"demonstration": ...})`, for worlds that can be shown a video
    of what shall happen: its path, its frames (T, H, W, 3) uint8, or `{"video": ..., "caption": ...}`.
    Motion: that of the start, or `reset(options={"motion": ...})`, for worlds that have learned one: a name, or more.

    Info: `joints` (J,) float32 [rad], `steps`, `new_frame`, `state_source` ("nominal"), `world`, `instruction`; with
    `trust` also `prompt_agreement`, how well the robot in the picture sits on its prompt, 0 to 1, `dream_drift`,
    `dream_doubt` and `dream_risk` (see `trusting.SIGNALS`), each absent where it does not exist; at a reset also
    `start`, and `scene` where the start came from the twin. Equal seeds and
    actions give equal bits.

    `get_state` and `set_state` fork a dream; with `trust`, `echoes` shows how it might have gone. `profile` tells
    where the time went. Rendering: `rgb_array` shows `render_views` side by side: image keys, "prompt", and
    "overlay", the picture under its prompt; of further cameras "prompt_<camera>" and "overlay_<camera>". `human`
    opens a window.

    History: v0, the first.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 5}  # noqa: RUF012 - Gymnasium's type

    def __init__(
        self,
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
        self.render_mode = check_render_mode(render_mode)
        self._render_views = check_render_views(render_views, layout.image_keys)
        self.metadata = instance_metadata(self.metadata, control_hz)
        self._judge = judge
        model = self._session.model
        self._start = self._session.start
        self._names = () if self._start is not None else start_names(task, model)
        self.observation_space = layout.space
        self.action_space = gymnasium.spaces.Box(spec.low, spec.high, dtype=np.float32)
        self._state: SessionState | None = None
        self._window: Window | None = None
        self._ended = self._closed = False
        self._steps, self._seconds = 0, 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin a dream; the class says how. Raises InvalidInput, UnknownName, Unsupported or BadFile, and then
        changes nothing."""
        self._check_open()
        session = self._session
        options = options or {}
        given = options.get("start")
        start = None if given is None else resolve_start(given, session.model)
        rng = deepcopy(self.np_random) if seed is None else seeding.np_random(seed)[0]
        key, name = draw(rng, self._names)
        begun = instructed(first_start(start, self._start, name, session.model), options.get("instruction"))
        begun = moved(demonstrated(begun, options.get("demonstration")), options.get("motion"))
        state = session.begin([begun], [key])
        super().reset(seed=seed)
        self.np_random.bit_generator.state = rng.bit_generator.state
        self._state, self._ended = state, False
        self._show()
        return first_row(session.observe(state)), session.info(state, 0, beginning=True)

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control interval under `action` (A,). Raises InvalidInput for another shape or not-a-number."""
        began = perf_counter()
        state = self._present()
        if self._ended:
            gymnasium.logger.warn("step() was called after the episode terminated; call reset() first")
        session = self._session
        state = session.step(state, np.asarray(action)[None])
        observation, info = first_row(session.observe(state)), session.info(state, 0)
        reward, terminated = 0.0, False
        if self._judge is not None:
            info["start"] = state.starts[0]  # for the judge alone, which must know camera and first picture
            verdict = self._judge(observation, info)
            info.pop("start", None)
            reward, terminated = float(verdict[0]), bool(verdict[1])
        self._state, self._ended = state, self._ended or terminated
        self._show()
        self._steps += 1
        self._seconds += perf_counter() - began
        return observation, reward, terminated, False, info

    def get_state(self) -> SessionState:
        """The dream as it is now: a frozen record that this and every equal environment can go on from.

        The generator that draws starts is not part of it. Raises ResetNeeded before the first reset.
        """
        return self._present()

    def set_state(self, state: SessionState) -> None:
        """Go on from `state`. Raises InvalidInput for a state of another model, robot or control."""
        self._check_open()
        self._state, self._ended = self._session.resume(state, 1), False

    def echoes(self) -> NDArray[np.uint8]:
        """What is dreamt beside the dream to doubt it: pictures (E, V, H, W, 3) of this moment, had things stood a
        little elsewhere at its start and everything else been the same.

        E = 0 without `trust`, and of a world that shows no echoes; one that is moved by touch does."""
        pictures: NDArray[np.uint8] = self._session.echoes(self._present())[0]
        return pictures

    @property
    def world_spec(self) -> WorldModelSpec:
        """What the world model takes and makes, and by which fingerprint it is known."""
        return self._session.world.spec

    @property
    def profile(self) -> Profile:
        """Time spent so far in `step`."""
        network = self._session.network_seconds
        return Profile(self._steps, network, self._seconds - network)

    def render(self) -> Picture | None:
        """The chosen views side by side (H, sum of W, 3) uint8, or None in human mode, where they go to the window."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs a render_mode: gymnasium.make(..., render_mode='rgb_array')")
            return None
        picture = render_row(self._session, self._present(), 0, self._render_views)
        if self.render_mode == "rgb_array":
            return picture
        if self._window is None:
            self._window = Window("VAPSim dream")
        self._window.show(picture)
        return None

    def close(self) -> None:
        """Close the window and forget the dream; harmless when called twice."""
        if self._window is not None:
            self._window.close()
        self._window, self._state, self._closed = None, None, True

    def _show(self) -> None:
        if self.render_mode == "human":
            self.render()

    def _present(self) -> SessionState:
        self._check_open()
        if self._state is None:
            raise ResetNeeded("There is no dream yet: call reset() first")
        return self._state

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedEnvironmentError("This environment is closed; make a new one")


def check_render_mode(mode: str | None) -> str | None:
    """The mode itself. Raises UnknownName, or Unsupported where no window can be opened."""
    if mode is not None and mode not in RENDER_MODES:
        raise UnknownName("render_mode", mode, RENDER_MODES)
    if mode == "human" and (problem := window_problem()) is not None:
        raise Unsupported(f"render_mode 'human' opens a window, but {problem}; {INSTEAD}")
    return mode


def check_render_views(names: Sequence[str], image_keys: Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple. Raises UnknownName unless each is one of `render_names`."""
    valid = render_names(image_keys)
    for name in names if not isinstance(names, str) else [names]:
        if name not in valid:
            raise UnknownName("render view", name, valid)
    return (names,) if isinstance(names, str) else tuple(names)


def instance_metadata(metadata: dict[str, Any], control_hz: float) -> dict[str, Any]:
    """What an environment says of itself: the modes that work on this machine, and pictures at the rate of its steps.

    The class names `human` everywhere, so that asking for it without a display fails by name and not in a wrapper.
    """
    modes = [mode for mode in RENDER_MODES if mode != "human" or window_problem() is None]
    return {**metadata, "render_modes": modes, "render_fps": round(control_hz)}


def render_row(session: Session, state: SessionState, row: int, views: Sequence[str]) -> Picture:
    """The named views of one dream side by side."""
    return composed(
        views,
        session.layout.image_keys,
        state.frames[row],
        lambda: session.prompt_pictures(state.index([row]))[0],
    )
