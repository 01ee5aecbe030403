"""How far to believe a dream, measured after every picture from the dream alone: four signals, kept with its state.

Of several views those are judged whose cameras stand still, because that is what the readers of pictures were trained
and tried on, and what changes there has moved; where every camera moves, all are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.metrics.detector import DETECTED_COLORS, FIRST_OBJECT, Detector
from vap_sim.metrics.matter import LEAST_PIXELS, Matter
from vap_sim.metrics.risk import Risk
from vap_sim.metrics.trust import PromptAgreement
from vap_sim.models.doubting import DoubtingWorld
from vap_sim.models.protocol import WorldModel
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel
from vap_sim.state import WorldState

Frames = NDArray[np.uint8]
Floats = NDArray[np.float64]

SIGNALS: Mapping[str, str] = {
    "prompt_agreement": "overlap of the robot in the picture with its prompt, 0 to 1",
    "dream_doubt": "how far an object may lie from where it is shown, in its own widths",
    "dream_drift": "how often the area of an object was doubled or halved since the start",
    "dream_risk": "probability that an object lies more than its width from the truth",
}
"""What `info` holds with `trust`, where it exists: a world may have no doubt, and a risk is only known for worlds and
robots on whose dreams it was fitted, which is DROID's arm alone for the one that ships."""


@dataclass(frozen=True, eq=False)
class TrustState:
    """The signals of b dreams, and what the next ones need. Numbers are NaN where a signal does not exist.

    signals: by name (b,), now; worst: (b,) by name, the least agreement, most doubt and most drift since the start;
    seen, begun: (b, V, ...) as in `Matter`, of the views that are judged; memory: of a world that doubts.
    """

    signals: Mapping[str, Floats]
    worst: Mapping[str, Floats]
    seen: torch.Tensor
    begun: torch.Tensor
    memory: WorldState | None

    @property
    def nbytes(self) -> int:
        """Memory of all arrays [bytes]."""
        told = sum(values.nbytes for values in (*self.signals.values(), *self.worst.values()))
        return told + self.seen.nbytes + self.begun.nbytes + (0 if self.memory is None else self.memory.nbytes)

    def index(self, rows: NDArray[np.intp]) -> TrustState:
        """The chosen rows, in the order given."""
        places = torch.from_numpy(rows)
        return TrustState(
            {name: values[rows] for name, values in self.signals.items()},
            {name: values[rows] for name, values in self.worst.items()},
            self.seen[places],
            self.begun[places],
            None if self.memory is None else self.memory.index(places),
        )

    def with_rows(self, rows: NDArray[np.intp], other: TrustState) -> TrustState:
        """These with those at `rows` replaced by the rows of `other`, in order."""
        order = np.arange(len(self.seen))
        order[rows] = np.arange(len(rows)) + len(order)

        def both(mine: Mapping[str, Floats], theirs: Mapping[str, Floats]) -> dict[str, Floats]:
            return {name: np.concatenate([mine[name], theirs[name]]) for name in mine}

        joined = TrustState(
            both(self.signals, other.signals),
            both(self.worst, other.worst),
            torch.cat([self.seen, other.seen]),
            torch.cat([self.begun, other.begun]),
            None if self.memory is None or other.memory is None else WorldState.cat([self.memory, other.memory]),
        )
        return joined.index(order)

    def told(self, row: int) -> dict[str, float]:
        """The signals of one dream that exist."""
        return {name: float(values[row]) for name, values in self.signals.items() if np.isfinite(values[row])}


class TrustMeter:
    """Measures the signals of dreams of one robot in one world; rows alone as in a batch, to the bit."""

    def __init__(
        self, model: RobotModel, world: WorldModel, detector: Detector | None = None, risk: Risk | None = None
    ) -> None:
        """detector, risk: by default those that ship, the detector for this robot; a risk that was fitted on dreams of
        another world or another robot is not told."""
        self.agreement = PromptAgreement(model, world.spec.size, detector)
        self.world = world
        risk = Risk.load() if risk is None else risk
        self.risk = risk if (risk.world, risk.robot) == (world.spec.name, model.name) else None

    def begin(
        self, world: WorldState, frames: Frames, joints: NDArray[np.float32], cameras: Sequence[Camera]
    ) -> TrustState:
        """At the first pictures (b, V, H, W, 3), of poses (b, J)."""
        frames, judged = _judged(frames, cameras)
        labels = self._read(frames, None)
        begun = torch.stack([Matter.begin(views).begun for views in labels])
        memory, nothing = None, np.full(len(frames), np.nan)
        # Doubt by sight is that of the first picture, and needs it to stand still; in space no camera matters.
        can = self.world.spec.reads_bones or cameras[0].parent_link is None
        if can and isinstance(self.world, DoubtingWorld):
            memory, nothing = self.world.begin_doubt(world), np.zeros(len(frames))
        fresh = {name: np.full(len(frames), np.nan) for name in _WORST}
        return self._told(fresh, labels, labels, begun, joints, judged, nothing, memory)

    def step(
        self,
        old: TrustState,
        before: WorldState,
        after: WorldState,
        prompt: VisualPrompt,
        frames: Frames,
        joints: NDArray[np.float32],
        cameras: Sequence[Camera],
    ) -> TrustState:
        """After `world.step(before, prompt)` gave `after` and pictures, the last of them `frames` (b, V, H, W, 3)."""
        frames, judged = _judged(frames, cameras)
        labels = self._read(frames, old.begun)
        seen = torch.stack(
            [Matter(*row).after(now).seen for *row, now in zip(old.seen, old.begun, labels, strict=True)]
        )
        memory, doubt = old.memory, np.full(len(frames), np.nan)
        if isinstance(self.world, DoubtingWorld) and memory is not None:
            memory, values = self.world.doubt(memory, before, after, prompt)
            doubt = values.numpy()
        return self._told(old.worst, labels, seen, old.begun, joints, judged, doubt, memory)

    def _told(
        self,
        worst: Mapping[str, Floats],
        labels: torch.Tensor,
        seen: torch.Tensor,
        begun: torch.Tensor,
        joints: NDArray[np.float32],
        cameras: Sequence[Camera],
        doubt: Floats,
        memory: WorldState | None,
    ) -> TrustState:
        drift = np.array([float(Matter(*row).drift().max()) for row in zip(seen, begun, strict=True)])
        now = {
            "prompt_agreement": self._agreement(labels, joints, cameras),
            "dream_doubt": doubt,
            "dream_drift": drift,
        }
        worse = {name: _WORST[name](worst[name], now[name]) for name in _WORST}
        state = TrustState(now, worse, seen, begun, memory)
        if self.risk is None:
            return state
        return replace(state, signals={**now, "dream_risk": self.risk(risk_inputs(state))})

    def _read(self, frames: Frames, begun: torch.Tensor | None) -> torch.Tensor:
        """Labels (b, V, H, W), each picture read alone; begun: (b, V, C) pixels of colors in the first pictures, where
        it is known: a dream invents no object, and what is of another color was misread."""
        detector, rows = self.agreement.detector, []
        read, found = detector.labels, detector.classes[FIRST_OBJECT:]
        others = [name for name in found if name not in DETECTED_COLORS]
        for row, views in enumerate(torch.from_numpy(frames)):
            known = [None if begun is None else _colors(begun[row, view]) + others for view in range(len(views))]
            rows.append(torch.stack([read(one, colors).cpu() for one, colors in zip(views, known, strict=True)]))
        return torch.stack(rows)

    def _agreement(self, labels: torch.Tensor, joints: NDArray[np.float32], cameras: Sequence[Camera]) -> Floats:
        """Mean over the views of each row; not a number where no view shows or expects a robot."""
        out = np.full(len(labels), np.nan)
        for row, views in enumerate(labels):
            pose = torch.from_numpy(joints[row][None])
            found = [
                self.agreement.of_labels(view[None], pose, camera.row(row))
                for view, camera in zip(views, cameras, strict=True)
            ]
            values = [float(one.values[0]) for one in found if bool(one.defined[0])]
            out[row] = sum(values) / len(values) if values else np.nan
        return out


def _judged(frames: Frames, cameras: Sequence[Camera]) -> tuple[Frames, Sequence[Camera]]:
    """The pictures (b, V, H, W, 3) and cameras of the views that are judged."""
    standing = [view for view, camera in enumerate(cameras) if camera.parent_link is None]
    if len(standing) in (0, len(cameras)):
        return frames, cameras
    return frames[:, standing], [cameras[view] for view in standing]


_WORST = {"prompt_agreement": np.fmin, "dream_doubt": np.fmax, "dream_drift": np.fmax}


def _colors(begun: torch.Tensor) -> list[str]:
    return [color for color, pixels in zip(DETECTED_COLORS, begun.tolist(), strict=True) if pixels >= LEAST_PIXELS]


def risk_inputs(state: TrustState) -> dict[str, Floats]:
    """What a risk is told from (b,): signals now and at their worst, on scales where equal steps matter alike."""
    now, worst = state.signals, state.worst
    return {
        "doubt": np.sqrt(now["dream_doubt"]),
        "most_doubt": np.sqrt(worst["dream_doubt"]),
        "drift": now["dream_drift"],
        "most_drift": worst["dream_drift"],
        # A robot that was never in sight is no reason for distrust.
        "least_agreement": 1.0 - np.nan_to_num(worst["prompt_agreement"], nan=1.0),
    }
