"""The ground truth as a Gymnasium environment: the dream's spaces and tasks over pybullet's physics and pictures."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils import seeding
from numpy.typing import NDArray

from vap_sim.envs.observations import Observation, first_row, make_layout
from vap_sim.envs.rates import match_rates
from vap_sim.envs.rendering import RENDER_MODES, Picture, Window, composed
from vap_sim.envs.scenes import Scene
from vap_sim.envs.start import Start, check_start
from vap_sim.envs.starting import StartLike, resolve_start
from vap_sim.envs.stations import Station, get_station
from vap_sim.envs.tasks import Situation, Task
from vap_sim.envs.twin_episode import Episode, Masks, TwinState, View, cameras_of
from vap_sim.envs.twin_physics import SUBSTEP
from vap_sim.envs.view_choice import chosen_views, own_views, station_views
from vap_sim.envs.world_env import check_render_mode, check_render_views, instance_metadata
from vap_sim.errors import InvalidInput
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.robots.camera import Camera
from vap_sim.robots.control import Controller
from vap_sim.robots.library import load_robot


class TwinEnv(gymnasium.Env[Observation, NDArray[np.float32]]):
    """The ground truth beside every dream: the same robot, table and actions in pybullet. Ids `VAPTwin-<station>-v0`.

    A station (`stations.get_station`, or a record of your own) says what is not said here: robot, task, control, rates,
    views and size.

    | station | robot | tasks | control | Hz | views |
    | --- | --- | --- | --- | --- | --- |
    | DROID | Panda | `reach`, `push`, `pick_place` | `joint_velocity` | 5 | `exterior_1`, `wrist` |
    | Bridge | WidowX | `put_on_plate`, `stack` | `ee_delta` | 5 | `exterior_1` |
    | RT1 | Google | `pick`, `move_near`, `open_drawer`, `close_drawer` | `ee_delta` | 3 | `head` |
    | EgoVid | hand | `grasp_lift`, `push`, `tilt` | `ee_head_delta` | 5 | `head` |

    Action: as in `WorldEnv`, by `control`; DROID's is Box float32 (8,): seven joint speeds in [-1, 1] (1 = 3 rad/s) and
    the gripper in [0, 1] (1 closed). Actions beyond the box are moved to its edge, or refused with
    `clip_actions=False`.

    Observation (`Dict`; shapes for DROID):

    | key                | space                   | meaning                                                     |
    | ------------------ | ----------------------- | ----------------------------------------------------------- |
    | `image`            | Box uint8 (128, 128, 3) | RGB of the first of `views`                                 |
    | `image_wrist`      | Box uint8 (128, 128, 3) | RGB of a further view, `image_<camera>`                     |
    | `joint_position`   | Box float32 (7,)        | measured arm joints [rad]                                   |
    | `gripper_position` | Box float32 (1,)        | measured, 0 open .. 1 closed; stops at what it holds        |

    `views` are cameras of the scene ("exterior_1", "exterior_2") or the robot's own ("wrist", "head"), drawn at `size`.
    Rates: an action lasts 1 / `control_hz`, which divides 240; a picture is made every 1 / `video_hz`, of which
    `control_hz` is an integer multiple.

    Reward: 1.0 in a step after which the task is done, else 0.0; with `dense_reward` minus the distance left [m].
    End: `terminated` when the task is done; never `truncated` by itself (`gymnasium.make` adds a limit of 200 steps).
    Start: a scene of `task` drawn by the seed, with the arm near its home pose; or the argument `start`, or
    `reset(options={"start": ...})`, of which the scene (drawers and stacked things, too), joints and cameras are
    rebuilt; a view that it has no camera of is that of its scene or of the robot. Option keys that are not known are
    ignored. A reset that fails leaves the environment as it was.

    Info: `joints` (J,) float32 measured [rad], `steps`, `new_frame`, `state_source` ("measured"), `world` ("twin"),
    `instruction`, `success`, `distance` [m]; at a reset also `start` and `scene`. Equal seeds and actions give equal
    bits.

    `start()` records the present moment, `masks()` tells exactly which pixels show what, `situation()` what the task
    sees. `get_state` and `set_state` fork within an episode. Raises MissingDependency on import without pybullet.

    History: v0, the first.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 5}  # noqa: RUF012 - Gymnasium's type

    def __init__(
        self,
        robot: str | Path | None = None,
        task: str | None = None,
        control: str | None = None,
        control_hz: float | None = None,
        video_hz: float | None = None,
        clip_actions: bool = True,
        dense_reward: bool = False,
        start: StartLike | None = None,
        render_mode: str | None = None,
        render_views: Sequence[str] = ("image",),
        views: Sequence[str] | None = None,
        size: tuple[int, int] | None = None,
        station: str | Station = "DROID",
    ) -> None:
        self._station = place = get_station(station)
        self._model = load_robot(place.robot if robot is None else robot)
        self._task: Task = place.get_task(task)
        control = place.control if control is None else control
        control_hz = place.control_hz if control_hz is None else control_hz
        video_hz = place.video_hz if video_hz is None else video_hz
        views = station_views(place, self._model) if views is None else views
        size = place.size if size is None else size
        self._rates = match_rates(control_hz, video_hz, model_rate=video_hz)
        substeps = round(self._rates.control_dt / SUBSTEP)
        if abs(substeps * SUBSTEP * control_hz - 1) > 1e-6:
            raise InvalidInput("control_hz of the twin", control_hz, f"a divisor of {1 / SUBSTEP:g}")
        # Two physics steps a pose, as in recordings for training, so that both move alike.
        self._poses = substeps // 2 if substeps % 2 == 0 else substeps
        self._controller = Controller(self._model, control, self._rates.control_dt, clip=clip_actions)
        self._layout = make_layout(self._model, views, size)
        self._views, self._size, self._dense = tuple(views), (int(size[0]), int(size[1])), bool(dense_reward)
        self._prompter = Prompter(self._model, profile("compact"), self._size)
        self.render_mode = check_render_mode(render_mode)
        self._render_views = check_render_views(render_views, self._layout.image_keys)
        self.metadata = instance_metadata(self.metadata, control_hz)
        self._start = None if start is None else self._checked(start)
        self._maker = (
            f"twin of {place.name}, robot {self._model.name!r}, task {self._task.name!r}, "
            f"control {control!r} at {control_hz:g} Hz"
        )
        spec = self._controller.spec
        self.observation_space = self._layout.space
        self.action_space = gymnasium.spaces.Box(spec.low, spec.high, dtype=np.float32)
        self._episode: Episode | None = None
        self._cameras: tuple[Camera, ...] = ()
        self._control = self._controller.initial(self._model.home.numpy()[None])
        self._drawn = np.zeros(0, np.float32)
        self._seen: tuple[View, ...] = ()
        self._steps = self._phase = 0
        self._ended = self._closed = False
        self._window: Window | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Build a scene; the class says how. Raises InvalidInput, UnknownName or BadFile, and then changes nothing."""
        self._check_open()
        given = (options or {}).get("start")
        start = self._start if given is None else self._checked(given)
        rng = deepcopy(self.np_random) if seed is None else seeding.np_random(seed)[0]
        scene, joints, cameras = self._drawn_scene(rng) if start is None else self._rebuilt(start)
        episode = Episode(scene, self._model, joints, self._station.physics)
        super().reset(seed=seed)
        self.np_random.bit_generator.state = rng.bit_generator.state
        if self._episode is not None:
            self._episode.close()
        self._episode, self._cameras = episode, cameras
        self._control = self._controller.initial(joints[None])
        self._steps = self._phase = 0
        self._ended = False
        self._look()
        self._show()
        info = self._info(episode.situation())
        return self._observe(), {**info, "start": "" if start is None else start.name, "scene": scene.to_dict()}

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control interval under `action` (A,). Raises InvalidInput for another shape or not-a-number."""
        episode = self._present()
        if self._ended:
            gymnasium.logger.warn("step() was called after the task was done; call reset() first")
        self._control, path = self._controller.step(self._control, np.asarray(action)[None], self._poses)
        episode.physics.follow(path[0], self._rates.control_dt)
        self._steps += 1
        self._phase = (self._phase + 1) % self._rates.intervals
        if self._phase == 0:
            self._look()
        self._show()
        situation = episode.situation()
        success = bool(self._task.success(situation))
        self._ended = self._ended or success
        reward = -float(self._task.distance(situation)) if self._dense else float(success)
        return self._observe(), reward, success, False, self._info(situation)

    def start(self, name: str = "twin") -> Start:
        """This moment as a start: pictures, measured joints, cameras, and the scene with its objects' poses now."""
        episode = self._present()
        scene, gripper = episode.present_scene(), self._model.gripper
        joints = self._model.robot.clamp(torch.from_numpy(episode.physics.joints())).float()
        closed = (
            0.0 if gripper is None else float(gripper.to_position(joints[self._model.robot.joint_index(gripper.joint)]))
        )
        return Start(
            frames=torch.from_numpy(np.stack([view.rgb for view in episode.look(self._cameras)])),
            joints=joints,
            gripper=min(max(closed, 0.0), 1.0),
            cameras=self._cameras,
            name=name,
            robot=self._model.name,
            scene=scene.to_dict(),
            instruction=self._task.instruction(scene),
        )

    def masks(self, view: int = 0) -> tuple[Masks, Masks]:
        """Which pixels of the picture shown by camera `view` show the robot (H, W), and which each object and, after
        them, each drawer (K + D, H, W); bool."""
        self._present()
        return self._seen[view].robot.copy(), self._seen[view].objects.copy()

    def situation(self) -> Situation:
        """What the task sees now."""
        return self._present().situation()

    def get_state(self) -> TwinState:
        """The twin as it is now, to come back to within this episode. Raises ResetNeeded before the first reset."""
        episode = self._present()
        saved = episode.physics.save()
        state = TwinState(
            saved, self._control, self._drawn, self._seen, self._steps, self._phase, self._ended, self._maker,
            weakref.ref(episode),
        )  # fmt: skip
        weakref.finalize(state, episode.forget, saved)
        return state

    def set_state(self, state: TwinState) -> None:
        """Return to `state`. Raises InvalidInput for a state of another twin, or of an episode that is over."""
        episode = self._present()
        if not isinstance(state, TwinState):
            raise InvalidInput("state", type(state).__name__, "what get_state returned")
        if state.maker != self._maker or state.episode() is not episode:
            given = f"one of {state.maker}" if state.maker != self._maker else "one of an episode that is over"
            raise InvalidInput("state", given, f"one of this episode of {self._maker}")
        episode.physics.restore(state.saved)
        self._control, self._drawn, self._seen = state.control, state.drawn, state.views
        self._steps, self._phase, self._ended = state.steps, state.phase, state.ended

    def render(self) -> Picture | None:
        """The chosen views side by side (H, sum of W, 3) uint8, or None in human mode, where they go to the window."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs a render_mode: gymnasium.make(..., render_mode='rgb_array')")
            return None
        self._present()
        pictures = [view.rgb for view in self._seen]
        picture = composed(self._render_views, self._layout.image_keys, pictures, self._prompts)
        if self.render_mode == "rgb_array":
            return picture
        if self._window is None:
            self._window = Window("VAPSim twin")
        self._window.show(picture)
        return None

    def close(self) -> None:
        """Free the physics, the renderer and the window; harmless when called twice."""
        if self._window is not None:
            self._window.close()
        if self._episode is not None:
            self._episode.close()
        self._window, self._episode, self._closed = None, None, True

    def _checked(self, start: StartLike) -> Start:
        given = resolve_start(start, self._model)
        known = own_views(given, self._views)
        resolved = chosen_views(given, known)
        check_start(resolved, self._model, self._size, len(known))
        if resolved.scene is None:
            raise InvalidInput(f"scene of start {resolved.name!r}", None, "a scene, without which no twin can be built")
        scene = Scene.from_dict(resolved.scene)
        missing = self._task.lacks(scene)
        if missing is not None:
            expected = f"a {missing}, as task {self._task.name!r} needs"
            raise InvalidInput(f"scene of start {resolved.name!r}", f"no {missing}", expected)
        self._completed(resolved, scene)
        return resolved

    def _drawn_scene(self, rng: np.random.Generator) -> tuple[Scene, NDArray[np.float64], tuple[Camera, ...]]:
        scene = self._task.scene(rng)
        joints = self._station.draw_joints(rng, self._model, scene)
        return scene, joints, cameras_of(scene, self._model, self._views, self._size)

    def _rebuilt(self, start: Start) -> tuple[Scene, NDArray[np.float64], tuple[Camera, ...]]:
        assert start.scene is not None, "_checked sees to it"
        scene = Scene.from_dict(start.scene)
        return scene, self._model.robot.clamp(start.joints.double()).numpy(), self._completed(start, scene)

    def _completed(self, start: Start, scene: Scene) -> tuple[Camera, ...]:
        """A camera a view: the start's, and those of the scene or of the robot for views that it has not."""
        known = own_views(start, self._views)
        lacking = [view for view in self._views if view not in known]
        further = cameras_of(scene, self._model, lacking, self._size)
        cameras = dict(zip((*known, *lacking), (*start.cameras, *further), strict=True))
        return tuple(cameras[view] for view in self._views)

    def _look(self) -> None:
        self._seen = self._present().look(self._cameras)
        self._drawn = self._control.joints[0].astype(np.float32)

    def _observe(self) -> Observation:
        frames = np.stack([view.rgb for view in self._seen])[None]
        return first_row(self._layout.observe(frames, self._layout.show(self._present().physics.joints()[None])))

    def _info(self, situation: Situation) -> dict[str, Any]:
        return {
            "joints": self._present().physics.joints().astype(np.float32),
            "steps": self._steps,
            "new_frame": self._phase == 0,
            "state_source": "measured",
            "world": "twin",
            "instruction": self._task.instruction(situation.scene),
            "success": bool(self._task.success(situation)),
            "distance": float(self._task.distance(situation)),
        }

    def _prompts(self) -> list[Picture]:
        drawn = self._prompter.draw(torch.from_numpy(self._drawn)[None, None], self._cameras)
        return list(drawn.skeleton[0, :, 0].numpy())

    def _show(self) -> None:
        if self.render_mode == "human":
            self.render()

    def _present(self) -> Episode:
        self._check_open()
        if self._episode is None:
            raise ResetNeeded("There is no scene yet: call reset() first")
        return self._episode

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedEnvironmentError("This environment is closed; make a new one")
