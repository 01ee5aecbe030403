"""The arithmetic of distilling a many-step denoiser into one of few steps, free of any network.

A student of K steps splits the noise schedule into K segments, one for each step of its sampler. Inside a segment it
must say, wherever on the teacher's deterministic path it is asked, where that path leaves the segment. With K = 1 this
is a consistency model (Song, Dhariwal, Chen, Sutskever 2023, "Consistency Models"); with more it is a multistep one
(Heek, Hoogeboom, Salimans 2024, "Multistep Consistency Models"), whose sampler is plain DDIM over the segments, so a
student needs no solver of its own. Both take the next point of the path from a solver step of the teacher, with its
guidance folded in as Luo et al. 2023, "Latent Consistency Models", do.

The student predicts a velocity, and what it says is the DDIM jump by it. A jump of no length is the identity whatever
the network answers, so the boundary condition holds by construction, and a student with the teacher's weights is the
teacher.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.models.cogvideox.sampler import Schedule, ddim_step

ARRIVED = -1
"""The timestep below the lowest, of clean latents."""


@dataclass(frozen=True, eq=False)
class Segments:
    """A schedule in K segments, in each of which the teacher takes N / K steps.

    points: (K, N / K + 1) int64, falling timesteps of each segment; the first is where the student's sampler asks, the
    last where its step leads, `ARRIVED` for clean.
    """

    schedule: Schedule
    points: Tensor

    @classmethod
    def of(cls, schedule: Schedule, student: int, teacher: int) -> Segments:
        """The segments of a student of so many steps, whose teacher takes so many in all.

        Raises InvalidInput for steps that do not divide, Unsupported for a schedule whose solvers do not begin at
        pure noise.
        """
        if schedule.spacing != "trailing":
            raise Unsupported(
                f"few steps with timestep_spacing {schedule.spacing!r}: its first step is below the highest noise, "
                "which one step cannot make up for; expected 'trailing'"
            )
        begins = schedule.timesteps(student)
        whole = isinstance(teacher, int) and not isinstance(teacher, bool)
        if not whole or teacher < student or teacher % student or teacher > schedule.length:
            expected = f"a multiple of the student's {student}, at most {schedule.length}"
            raise InvalidInput("denoising steps of the teacher", teacher, expected)
        ends = [max(schedule.after(one, student), ARRIVED) for one in begins]
        count = teacher // student + 1
        rows = [np.linspace(begin, end, count).round() for begin, end in zip(begins, ends, strict=True)]
        return cls(schedule, torch.from_numpy(np.stack(rows).astype(np.int64)))

    @property
    def student(self) -> int:
        """Steps of the student, K."""
        return len(self.points)

    @property
    def teacher(self) -> int:
        """Steps of the teacher over all segments, N."""
        return self.student * (self.points.shape[1] - 1)

    @property
    def jumps(self) -> tuple[tuple[int, int], ...]:
        """From and to which timestep each step of the student leads."""
        return tuple((int(row[0]), int(row[-1])) for row in self.points)

    @property
    def path(self) -> tuple[tuple[int, int], ...]:
        """From and to which timestep each step of the teacher leads."""
        return tuple((int(a), int(b)) for row in self.points for a, b in zip(row[:-1], row[1:], strict=True))

    def draw(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """Timesteps for a row to learn at: of a point, of the next on the teacher's path, and of the segment's end."""
        segment, place = rng.integers(self.points.shape[0]), rng.integers(self.points.shape[1] - 1)
        row = self.points[int(segment)]
        return int(row[place]), int(row[place + 1]), int(row[-1])


def jump(velocity: Tensor, sample: Tensor, alpha: Tensor, goal: Tensor) -> Tensor:
    """Where a predicted velocity (b, T, C, h, w) leads from the sample, between two shares of signal power.

    alpha, goal: () or (b,) or (b, T) float64. Where both are equal it is the sample.
    """
    return ddim_step(velocity, sample, alpha, goal)[0]


def leading_to(there: Tensor, sample: Tensor, alpha: Tensor, goal: Tensor) -> Tensor:
    """The inverse of `jump`: the velocity that leads from the sample to `there`; alpha < goal in every row or frame."""
    kept = ((1 - goal) / (1 - alpha)) ** 0.5
    toward = goal**0.5 - alpha**0.5 * kept
    clean = (there - _like(kept, sample) * sample) / _like(toward, sample)
    return (_like(alpha**0.5, sample) * sample - clean) / _like((1 - alpha) ** 0.5, sample)


def target_velocity(
    ahead: Tensor, velocity: Tensor, sample: Tensor, alpha: Tensor, after: Tensor, goal: Tensor
) -> Tensor:
    """What the student shall predict for the sample, which has the level alpha.

    ahead: the next point of the teacher's path, at the level `after`; velocity: what the target network says there;
    goal: the level at the segment's end. alpha, after, goal: (b,) float64, alpha < after <= goal. Where `after` is
    `goal` the velocity does not count and the result is the teacher's own.
    """
    return leading_to(jump(velocity, ahead, after, goal), sample, alpha, goal)


def _like(factor: Tensor, sample: Tensor) -> Tensor:
    factor = factor.to(sample)
    return factor.reshape(*factor.shape, *[1] * (sample.ndim - factor.ndim)) if factor.ndim else factor
