"""How control, video and model rates interlock: after how many actions a model step is due, and which poses it gets."""

from __future__ import annotations

from dataclasses import dataclass

from vap_sim.errors import InvalidInput

_SLACK = 1e-6


@dataclass(frozen=True)
class Rates:
    """A model step makes `frames` pictures and is due after `intervals` control intervals.

    Each interval yields `poses` poses; a picture's pose is taken at the end of every `stride`-th interval.
    """

    control_hz: float
    video_hz: float
    frames: int
    intervals: int

    @property
    def control_dt(self) -> float:
        """Length of a control interval [s]."""
        return 1.0 / self.control_hz

    @property
    def poses(self) -> int:
        """Poses of pictures within one control interval."""
        return max(1, self.frames // self.intervals)

    @property
    def stride(self) -> int:
        """Control intervals a picture."""
        return max(1, self.intervals // self.frames)


def match_rates(control_hz: float, video_hz: float, *, model_rate: float, frames_per_step: int = 1) -> Rates:
    """The rates of an environment over a world model.

    Args:
        control_hz: actions a second. An integer multiple of `video_hz`; where a model makes several pictures a step, a
            divisor that spreads them evenly over actions will do as well.
        video_hz: pictures a second; must be the model's own `model_rate`.
        frames_per_step: pictures that one model step makes.

    Raises InvalidInput naming the rate at fault.
    """
    for name, value in (("control_hz", control_hz), ("video_hz", video_hz)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise InvalidInput(name, value, "a positive number of Hertz")
    if abs(video_hz - model_rate) > _SLACK:
        expected = f"{model_rate:g}, the frame rate of the world model; more actions a second are set by control_hz"
        raise InvalidInput("video_hz", video_hz, expected)
    intervals = round(control_hz * frames_per_step / video_hz)
    exact = abs(control_hz * frames_per_step / video_hz - intervals) <= _SLACK * max(1, intervals)
    even = intervals > 0 and (intervals % frames_per_step == 0 or frames_per_step % intervals == 0)
    if not (exact and even):
        shares = [video_hz / n for n in range(frames_per_step, 1, -1) if frames_per_step % n == 0]
        valid = ", ".join(f"{rate:g}" for rate in (*shares, video_hz, 2 * video_hz, 3 * video_hz))
        raise InvalidInput("control_hz", control_hz, f"an integer multiple of video_hz {video_hz:g}: {valid}, ...")
    return Rates(float(control_hz), float(video_hz), frames_per_step, intervals)
