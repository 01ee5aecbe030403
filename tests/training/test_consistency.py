"""The arithmetic of consistency: segments are the sampler's steps, and a velocity and where it leads say the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.models.cogvideox.sampler import PUBLISHED, Schedule, noised, velocity
from vap_sim.training.consistency import ARRIVED, Segments, jump, leading_to, target_velocity

SCHEDULE = Schedule.of(PUBLISHED)


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("student", "teacher"), [(1, 24), (2, 24), (3, 24), (4, 24), (4, 4), (2, 50)])
def test_segments_are_the_samplers_steps_and_the_teacher_walks_through_them(student: int, teacher: int) -> None:
    segments = Segments.of(SCHEDULE, student, teacher)
    begins = SCHEDULE.timesteps(student)
    assert segments.jumps == tuple((one, SCHEDULE.after(one, student)) for one in begins)
    assert (segments.student, segments.teacher) == (student, teacher)
    assert len(segments.path) == teacher and segments.path[0][0] == 999 and segments.path[-1][1] == ARRIVED
    assert all(here > there for here, there in segments.path)
    if 1000 % teacher == 0:
        assert tuple(here for here, _ in segments.path) == SCHEDULE.timesteps(teacher)


def test_every_point_is_drawn_with_what_follows_it() -> None:
    segments, rng = Segments.of(SCHEDULE, 2, 8), np.random.default_rng(0)
    drawn = {segments.draw(rng) for _ in range(400)}
    ends = {here: end for row in segments.points.tolist() for here in row[:-1] for end in row[-1:]}
    assert drawn == {(here, there, ends[here]) for here, there in segments.path}


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ((SCHEDULE, 2, 25), InvalidInput, "denoising steps of the teacher: given 25, expected a multiple of the stud"),
        ((SCHEDULE, 4, 2), InvalidInput, "denoising steps of the teacher: given 2"),
        ((SCHEDULE, 0, 24), InvalidInput, "denoising steps: given 0"),
        ((replace(SCHEDULE, spacing="leading"), 2, 24), Unsupported, "few steps with timestep_spacing 'leading'"),
    ],
)
def test_impossible_segments_are_refused(given: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Segments.of(*given)


def test_a_jump_of_no_length_changes_nothing_whatever_the_network_says() -> None:
    sample, said = normals(3, 1, 4, 2, 2), normals(3, 1, 4, 2, 2, seed=1)
    for level in (ARRIVED, 0, 499, 999):
        alpha = SCHEDULE.alpha(torch.full((3,), level))
        assert torch.equal(jump(said, sample, alpha, alpha), sample)


@pytest.mark.parametrize("levels", [(999, ARRIVED), (999, 499), (499, ARRIVED), (41, ARRIVED), (541, 499)])
def test_a_velocity_and_where_it_leads_say_the_same(levels: tuple[int, int]) -> None:
    sample, said = normals(2, 1, 4, 2, 2), normals(2, 1, 4, 2, 2, seed=1)
    alpha, goal = (SCHEDULE.alpha(torch.full((2,), level)) for level in levels)
    assert torch.allclose(leading_to(jump(said, sample, alpha, goal), sample, alpha, goal), said, atol=2e-5)


def test_a_true_path_teaches_the_true_velocity() -> None:
    """Where clean and noise are known the path is a straight mix, and every point of it names the same end."""
    clean, noise = normals(2, 1, 4, 2, 2), normals(2, 1, 4, 2, 2, seed=1)
    alpha, after, goal = SCHEDULE.alpha(torch.tensor([[999, 600, ARRIVED], [700, 650, 499]])).unbind(1)
    sample, ahead = noised(clean, noise, alpha), noised(clean, noise, after)
    found = target_velocity(ahead, velocity(clean, noise, after), sample, alpha, after, goal)
    assert torch.allclose(found, velocity(clean, noise, alpha), atol=1e-4)
