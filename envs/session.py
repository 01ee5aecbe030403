"""Dreams as values: a batched, functional core that both world environments stand on.

Actions move nominal joints, joints are drawn as prompts, and the world model continues the pictures. A session only
holds what never changes; everything that does is a `SessionState`, and every verb returns a new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from vap_sim.envs.demonstrating import begin_dreams, joined
from vap_sim.envs.observations import Observation, make_layout
from vap_sim.envs.rates import Rates, match_rates
from vap_sim.envs.start import Start, check_start
from vap_sim.envs.starting import StartLike, resolve_start
from vap_sim.envs.view_choice import chosen_views, default_views, rides
from vap_sim.envs.worlds import open_world
from vap_sim.errors import InvalidInput
from vap_sim.models.doubting import EchoingWorld
from vap_sim.models.protocol import WorldModel
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.robots.camera import Camera
from vap_sim.robots.control import Controller, ControlState
from vap_sim.robots.library import RobotModel, load_robot
from vap_sim.state import WorldState

if TYPE_CHECKING:
    from vap_sim.envs.trusting import TrustMeter, TrustState

Frames = NDArray[np.uint8]
Rows = NDArray[np.intp]
_ARRAYS = ("shown", "frames", "drawn", "poses", "phase", "steps")


@dataclass(frozen=True, eq=False)
class SessionState:
    """b dreams at one moment. Never written to; shared freely.

    world: the model's memory; control: nominal joints and their targets; shown: (b, n) float32, what observations tell
    of them; frames: (b, V, H, W, 3) uint8, the pictures shown; drawn: (b, J) float32, the joints they were drawn for;
    poses: (b, F, J) float32, those of pictures to come; phase: (b,) control intervals since the last picture; steps:
    (b,) actions since the start; trust: from the trust meter, or None; starts: where each dream began; cameras: V
    cameras with leading axis b; maker: what can go on from this state.
    """

    world: WorldState
    control: ControlState
    shown: NDArray[np.float32]
    frames: Frames
    drawn: NDArray[np.float32]
    poses: NDArray[np.float32]
    phase: NDArray[np.int64]
    steps: NDArray[np.int64]
    trust: TrustState | None
    starts: tuple[Start, ...]
    cameras: tuple[Camera, ...]
    maker: str

    def __len__(self) -> int:
        """The number of dreams b."""
        return len(self.starts)

    @property
    def joints(self) -> NDArray[np.float64]:
        """Nominal joints now (b, J) [rad or m]."""
        return self.control.joints

    @property
    def nbytes(self) -> int:
        """Memory of all arrays and pictures, those of the starts included [bytes]."""
        own: list[NDArray[Any]] = [getattr(self, name) for name in _ARRAYS]
        arrays = (*own, self.control.target, self.control.joints)
        beginnings = sum(start.frames.numel() for start in self.starts)
        trust = 0 if self.trust is None else self.trust.nbytes
        return int(self.world.nbytes) + beginnings + trust + sum(array.nbytes for array in arrays)

    def index(self, rows: Sequence[int] | Rows) -> SessionState:
        """The chosen dreams, in the order given."""
        chosen = np.asarray(rows, dtype=np.intp)
        places = torch.from_numpy(chosen)
        return replace(
            self,
            world=self.world.index(places),
            control=ControlState(self.control.target[chosen], self.control.joints[chosen]),
            trust=None if self.trust is None else self.trust.index(chosen),
            starts=tuple(self.starts[row] for row in chosen),
            cameras=tuple(_camera_rows(camera, places) for camera in self.cameras),
            **{name: getattr(self, name)[chosen] for name in _ARRAYS},
        )

    def with_rows(self, rows: Sequence[int] | Rows, other: SessionState) -> SessionState:
        """These dreams with those at `rows` replaced by the ones of `other`, in order."""
        chosen = np.asarray(rows, dtype=np.intp)
        starts = list(self.starts)
        for row, start in zip(chosen, other.starts, strict=True):
            starts[row] = start
        control = [_put(getattr(self.control, n), chosen, getattr(other.control, n)) for n in ("target", "joints")]
        return replace(
            self,
            world=_put_world(self.world, chosen, other.world),
            control=ControlState(*control),
            trust=None if self.trust is None or other.trust is None else self.trust.with_rows(chosen, other.trust),
            starts=tuple(starts),
            cameras=tuple(
                replace(
                    a,
                    intrinsics=_put(a.intrinsics, torch.from_numpy(chosen), b.intrinsics),
                    T_parent_camera=_put(a.T_parent_camera, torch.from_numpy(chosen), b.T_parent_camera),
                )
                for a, b in zip(self.cameras, other.cameras, strict=True)
            ),
            **{n: _put(getattr(self, n), chosen, getattr(other, n)) for n in _ARRAYS},
        )


class Session:
    """A robot, a world model and their rates; `begin` makes dreams, `step` continues them.

    `network_seconds` counts the time spent in steps of the world model.
    """

    def __init__(
        self,
        model: RobotModel,
        world: WorldModel,
        rates: Rates,
        *,
        control: str,
        clip_actions: bool,
        views: Sequence[str],
        meter: TrustMeter | None = None,
        start: Start | None = None,
    ) -> None:
        """start: where dreams begin unless they are told otherwise."""
        spec = world.spec
        if len(views) != spec.views:
            raise InvalidInput("views", tuple(views), f"{spec.views} names, as world {spec.name!r} makes pictures of")
        self.model, self.world, self.rates, self.meter = model, world, rates, meter
        self.views, self.start = tuple(views), start
        self.controller = Controller(model, control, rates.control_dt, clip=clip_actions)
        self.prompter = Prompter(model, profile(spec.profile), spec.size)
        self.layout = make_layout(model, views, spec.size)
        self.network_seconds = 0.0
        self.maker = (
            f"world {spec.name!r} {spec.fingerprint}, robot {model.name!r}, "
            f"control {control!r} at {rates.control_hz:g} Hz, trust {'on' if meter else 'off'}"
        )

    def begin(self, starts: Sequence[Start], keys: Sequence[int]) -> SessionState:
        """Dreams that begin at `starts`, each with its own noise key, told their instructions where the world reads,
        shown their demonstrations and told their motions. Raises InvalidInput for a start that does not fit,
        Unsupported for a demonstration or a motion to a world that takes none, UnknownName for another motion."""
        spec, b = self.world.spec, len(starts)
        starts = [chosen_views(start, self.views) for start in starts]
        for start in starts:
            check_start(start, self.model, spec.size, spec.views)
        frames = torch.stack([start.frames for start in starts])
        control = self.controller.initial(np.stack([start.joints.numpy() for start in starts]))
        joints = control.joints.astype(np.float32)
        cameras = tuple(Camera.batch([start.cameras[view] for start in starts]) for view in range(spec.views))
        prompt = self.prompter.draw(torch.from_numpy(joints[:, None]), cameras)
        if spec.reads_text:
            prompt = replace(prompt, text=tuple(start.instruction for start in starts))
        shown = joined([start.demonstration for start in starts], spec)
        if shown is not None:
            prompt = replace(prompt, reference=shown)
        world = begin_dreams(self.world, frames, prompt, list(keys), [start.motion for start in starts])
        pictures = frames.numpy()
        return SessionState(
            world=world,
            control=control,
            shown=self.layout.show(control.joints),
            frames=pictures,
            drawn=joints,
            poses=np.repeat(joints[:, None], self.rates.frames, axis=1),
            phase=np.zeros(b, np.int64),
            steps=np.zeros(b, np.int64),
            trust=None if self.meter is None else self.meter.begin(world, pictures, joints, cameras),
            starts=tuple(starts),
            cameras=cameras,
            maker=self.maker,
        )

    def step(self, state: SessionState, actions: ArrayLike) -> SessionState:
        """One control interval under actions (b, A); pictures change where a model step is due. Raises InvalidInput."""
        rates = self.rates
        control, path = self.controller.step(state.control, actions, rates.poses)
        poses = path if rates.poses == rates.frames else self._placed(state, path)
        phase = (state.phase + 1) % rates.intervals
        # Observations are told of the joints here: after the network's turn the same few numbers take three times as
        # long, because it leaves nothing else in the caches.
        shown = self.layout.show(control.joints)
        changes: dict[str, Any] = {"control": control, "shown": shown, "poses": poses}
        changes |= {"phase": phase, "steps": state.steps + 1}
        if not phase.any():
            return self._pictured(state, poses, changes)
        moved = replace(state, **changes)
        rows = np.flatnonzero(phase == 0)
        if not len(rows):
            return moved
        due = moved.index(rows)
        return moved.with_rows(rows, self._pictured(due, due.poses, {}))

    def resume(self, state: object, rows: int) -> SessionState:
        """The state itself if it can go on here. Raises InvalidInput for a state of something else."""
        if not isinstance(state, SessionState):
            raise InvalidInput("state", type(state).__name__, "what get_state returned")
        if state.maker != self.maker:
            raise InvalidInput("state", f"one of {state.maker}", self.maker)
        if len(state) != rows:
            raise InvalidInput("state", f"{len(state)} rows", f"{rows}; state.index(rows) chooses some")
        return state

    def observe(self, state: SessionState) -> Observation:
        """Observations of all dreams, in new arrays with leading axis b."""
        return self.layout.observe(state.frames, state.shown)

    def info(self, state: SessionState, row: int, *, beginning: bool = False) -> dict[str, Any]:
        """What is told of dream `row` besides its observation, in new objects; `beginning` adds where it began."""
        start = state.starts[row]
        info: dict[str, Any] = {
            "joints": state.control.joints[row].astype(np.float32),
            "steps": int(state.steps[row]),
            "new_frame": bool(state.phase[row] == 0),
            "state_source": "nominal",
            "world": self.world.spec.name,
            "instruction": start.instruction,
        }
        if state.trust is not None:
            info |= state.trust.told(row)
        if beginning:
            info["start"] = start.name
            if start.scene is not None:
                info["scene"] = deepcopy(start.scene)
        return info

    def echoes(self, state: SessionState) -> Frames:
        """What the world dreams beside these dreams, (b, E, V, H, W, 3) uint8; see `WorldEnv.echoes`."""
        memory = None if state.trust is None else state.trust.memory
        if memory is None or not isinstance(self.world, EchoingWorld):
            return np.zeros((len(state), 0, *state.frames.shape[1:]), np.uint8)
        prompt = self.prompter.draw(torch.from_numpy(state.drawn[:, None]), state.cameras)
        return self.world.echoes(memory, state.world, prompt).cpu().numpy()[:, :, :, -1]

    def prompt_pictures(self, state: SessionState) -> Frames:
        """The prompts (b, V, H, W, 3) of the pictures shown."""
        prompt = self.prompter.draw(torch.from_numpy(state.drawn[:, None]), state.cameras)
        return prompt.skeleton[:, :, 0].numpy()

    def _placed(self, state: SessionState, path: NDArray[np.float32]) -> NDArray[np.float32]:
        """Poses to come with this interval's path (b, n, J) in place; an unfinished picture's pose is overwritten."""
        poses = state.poses.copy()
        first = state.phase // self.rates.stride * self.rates.poses
        slots = first[:, None] + np.arange(self.rates.poses)
        poses[np.arange(len(poses))[:, None], slots] = path
        return poses

    def _pictured(self, state: SessionState, poses: NDArray[np.float32], changes: Mapping[str, Any]) -> SessionState:
        """`state` with the model's next pictures, made for `poses` (b, F, J), and with `changes` of other fields."""
        prompt = self.prompter.draw_checked(poses, state.cameras)
        began = perf_counter()
        world, made = self.world.step(state.world, prompt)
        frames = made.cpu().numpy()[:, :, -1]
        self.network_seconds += perf_counter() - began
        drawn = poses[:, -1]
        trust = state.trust
        if self.meter is not None and trust is not None:
            trust = self.meter.step(trust, state.world, world, prompt, frames, drawn, state.cameras)
        return replace(state, world=world, frames=frames, drawn=drawn, trust=trust, **changes)


def open_session(
    *,
    robot: str | Path,
    world: str | Path | WorldModel,
    weights: str | Path | None,
    world_options: Mapping[str, Any] | None,
    control: str,
    control_hz: float,
    video_hz: float,
    clip_actions: bool,
    trust: bool,
    views: Sequence[str] | None,
    device: str,
    start: StartLike | None = None,
) -> Session:
    """A session from an environment's arguments; without `views` it shows `default_views`, as many of them as the world
    makes. Raises UnknownName or InvalidInput naming the argument at fault."""
    model = load_robot(robot)
    begun = None if start is None else resolve_start(start, model)
    asked = default_views(model, begun) if views is None else views
    names = (asked,) if isinstance(asked, str) else tuple(asked)
    loaded = open_world(
        world, weights=weights, options=world_options, device=device, views=len(names), moving=rides(model, names)
    )
    rates = match_rates(
        control_hz, video_hz, model_rate=loaded.spec.frame_rate, frames_per_step=loaded.spec.frames_per_step
    )
    meter: TrustMeter | None = None
    if trust:
        from vap_sim.envs.trusting import TrustMeter

        meter = TrustMeter(model, loaded)
    shown = asked if views is not None else names[: loaded.spec.views]
    return Session(
        model, loaded, rates, control=control, clip_actions=clip_actions, views=shown, meter=meter, start=begun
    )


def _camera_rows(camera: Camera, rows: torch.Tensor) -> Camera:
    return replace(camera, intrinsics=camera.intrinsics[rows], T_parent_camera=camera.T_parent_camera[rows])


def _put(whole: Any, rows: Any, part: Any) -> Any:
    """A new array or tensor: `whole` with `rows` replaced by those of `part`."""
    out = whole.clone() if isinstance(whole, torch.Tensor) else whole.copy()
    out[rows] = part
    return out


def _put_world(whole: WorldState, rows: Rows, part: WorldState) -> WorldState:
    order = torch.arange(len(whole.step))
    order[torch.from_numpy(rows)] = torch.arange(len(rows)) + len(order)
    return WorldState.cat([whole, part]).index(order)
