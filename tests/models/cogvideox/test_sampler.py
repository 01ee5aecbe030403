"""The noise schedule and its solvers, step by step against diffusers' own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.cogvideox.conftest import draw
from vap_sim.errors import InvalidInput, UnknownName, Unsupported, VAPSimError
from vap_sim.models.cogvideox.guidance import Branch, Guidance
from vap_sim.models.cogvideox.sampler import (
    PUBLISHED,
    Schedule,
    ddim_step,
    denoise,
    dpm_step,
    dynamic_guidance,
    noised,
    original,
    velocity,
)
from vap_sim.models.cogvideox.stock import stock

CONFIGS: dict[str, dict[str, Any]] = {
    "5b": {},
    "2b": {"snr_shift_scale": 3.0},
    "leading": {"timestep_spacing": "leading", "steps_offset": 1, "rescale_betas_zero_snr": False},
    "linspace": {"timestep_spacing": "linspace", "beta_schedule": "linear", "set_alpha_to_one": False},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "given": {"trained_betas": [0.01 + 0.00001 * i for i in range(1000)], "rescale_betas_zero_snr": False},
}
SHAPE = (2, 3, 4, 2, 2)


def pair(name: str, kind: str = "CogVideoXDDIMScheduler") -> tuple[Schedule, Any]:
    config = {**PUBLISHED, **CONFIGS[name]}
    return Schedule.of(config), getattr(stock("diffusers"), kind)(
        **{key: value for key, value in config.items() if key != "_class_name"}
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_the_schedule_is_that_of_diffusers(name: str) -> None:
    ours, theirs = pair(name)
    assert torch.equal(ours.alphas, theirs.alphas_cumprod.double())
    assert ours.last == float(theirs.final_alpha_cumprod)
    for steps in (1, 3, 4, 7, 50, 1000):
        theirs.set_timesteps(steps)
        assert list(ours.timesteps(steps)) == theirs.timesteps.tolist()[:steps]


def test_what_is_left_out_of_a_config_has_the_values_of_diffusers() -> None:
    theirs = stock("diffusers").CogVideoXDDIMScheduler(prediction_type="v_prediction")
    ours = Schedule.of({"prediction_type": "v_prediction"})
    theirs.set_timesteps(10)
    assert torch.equal(ours.alphas, theirs.alphas_cumprod) and ours.spacing == "leading"
    assert list(ours.timesteps(10)) == theirs.timesteps.tolist()


def test_the_published_schedule_ends_in_pure_noise() -> None:
    assert float(Schedule.of(PUBLISHED).alphas[-1]) == 0.0


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("steps", [1, 4, 7])
def test_a_ddim_clip_equals_that_of_diffusers(name: str, steps: int) -> None:
    ours, theirs = pair(name)
    theirs.set_timesteps(steps)
    mine = other = draw(*SHAPE, seed=1)
    for index, timestep in enumerate(ours.timesteps(steps)):
        prediction = draw(*SHAPE, seed=10 + index)
        after = ours.alpha(ours.after(timestep, steps))
        mine, expected = ddim_step(prediction, mine, ours.alpha(timestep), after)
        other, clean = theirs.step(prediction, timestep, other, return_dict=False)
        if theirs.alphas_cumprod.dtype == torch.float64:  # as in all published schedules
            assert torch.equal(mine, other) and torch.equal(expected, clean)
        torch.testing.assert_close(mine, other, rtol=0, atol=2e-6)
        torch.testing.assert_close(expected, clean, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["5b", "2b", "leading"])
@pytest.mark.parametrize("steps", [1, 5])
def test_a_dpm_clip_equals_that_of_diffusers(name: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pair(name, "CogVideoXDPMScheduler")
    theirs.set_timesteps(steps)
    times = ours.timesteps(steps)
    module = "diffusers.schedulers.scheduling_dpm_cogvideox.randn_tensor"
    other, old = draw(*SHAPE, seed=1), None
    for index, timestep in enumerate(times):
        monkeypatch.setattr(module, lambda *_, index=index, **__: draw(*SHAPE, seed=100 + index))
        back = times[index - 1] if index else None
        other, old = theirs.step(draw(*SHAPE, seed=10 + index), old, timestep, back, other)
    mine = denoise(
        draw(*SHAPE, seed=1),
        lambda _, timestep: draw(*SHAPE, seed=10 + times.index(timestep)),
        ours,
        steps,
        solver="dpm",
        fresh=lambda index: draw(*SHAPE, seed=100 + index),
    )
    assert torch.isfinite(mine).all()
    torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)


def test_noise_and_velocity_are_inverse_to_the_original_at_every_frame_s_own_level() -> None:
    schedule, clean, noise = Schedule.of(PUBLISHED), draw(*SHAPE, seed=1), draw(*SHAPE, seed=2)
    alpha = schedule.alpha(torch.tensor([[-1, 0, 500], [999, 1, 250]]))
    sample, speed = noised(clean, noise, alpha), velocity(clean, noise, alpha)
    torch.testing.assert_close(original(speed, sample, alpha), clean, rtol=0, atol=1e-5)
    assert torch.equal(sample[0, 0], clean[0, 0])
    theirs = stock("diffusers").CogVideoXDDIMScheduler(**{k: v for k, v in PUBLISHED.items() if k != "_class_name"})
    levels = torch.tensor([3, 700])
    torch.testing.assert_close(noised(clean, noise, schedule.alpha(levels)), theirs.add_noise(clean, noise, levels))
    torch.testing.assert_close(
        velocity(clean, noise, schedule.alpha(levels)), theirs.get_velocity(clean, noise, levels)
    )


def test_a_step_of_frames_at_levels_of_their_own_is_each_frame_s_step() -> None:
    schedule, sample, prediction = Schedule.of(PUBLISHED), draw(*SHAPE, seed=1), draw(*SHAPE, seed=2)
    here, there = torch.tensor([[999, 500, -1], [250, 749, 10]]), torch.tensor([[749, 250, -1], [0, 499, -1]])
    together, _ = ddim_step(prediction, sample, schedule.alpha(here), schedule.alpha(there))
    for row in range(2):
        for frame in range(3):
            part = (slice(row, row + 1), slice(frame, frame + 1))
            levels = schedule.alpha(int(here[row, frame])), schedule.alpha(int(there[row, frame]))
            alone, _ = ddim_step(prediction[part], sample[part], *levels)
            assert torch.equal(alone, together[part])
    assert torch.equal(together[0, 2], sample[0, 2])


def test_denoising_a_known_clip_finds_it_and_keeps_what_is_held() -> None:
    schedule, clean, noise = Schedule.of(PUBLISHED), draw(*SHAPE, seed=1), draw(*SHAPE, seed=2)

    def oracle(latents: Tensor, timestep: int) -> Tensor:
        alpha = schedule.alpha(timestep).float()
        return (latents * alpha.sqrt() - clean) / (1 - alpha).sqrt()

    found = denoise(noise, oracle, schedule, 4)
    torch.testing.assert_close(found, clean, rtol=0, atol=1e-4)
    held = draw(2, 2, 4, 2, 2, seed=5)
    seen = []
    after = denoise(noise, lambda x, t: seen.append(x) or oracle(x, t), schedule, 4, held=held)  # type: ignore[func-returns-value]
    assert torch.equal(after[:, :2], held) and all(torch.equal(one[:, :2], held) for one in seen) and len(seen) == 4


def test_dynamic_guidance_is_that_of_the_pipelines() -> None:
    assert dynamic_guidance(6.0, 50, 50) == 1.0
    assert dynamic_guidance(6.0, 0, 50) == 7.0
    assert 1.0 < dynamic_guidance(6.0, 10, 50) < 7.0


def test_guidance_mixes_as_it_says() -> None:
    full, silent, bare = (draw(1, 2, seed=seed) for seed in range(3))
    assert Guidance().branches == (Branch(True, True),) and Guidance().mix([full]) is full
    assert Guidance(6.0).branches == (Branch(True, True), Branch(False, True))
    torch.testing.assert_close(Guidance(6.0).mix([full, silent]), silent + 6 * (full - silent))
    torch.testing.assert_close(Guidance(6.0).mix([full, silent], 2.0), silent + 2 * (full - silent))
    assert Guidance(1.0, 3.0).branches == (Branch(True, True), Branch(True, False))
    torch.testing.assert_close(Guidance(1.0, 3.0).mix([full, bare]), bare + 3 * (full - bare))
    both = Guidance(6.0, 3.0)
    assert both.branches == (Branch(True, True), Branch(False, True), Branch(False, False))
    torch.testing.assert_close(both.mix([full, silent, bare]), bare + 3 * (silent - bare) + 6 * (full - silent))
    assert len({branch.name for branch in (*both.branches, Branch(True, False))}) == 4


def test_a_dpm_step_adds_its_own_noise_alone() -> None:
    schedule, sample, prediction = Schedule.of(PUBLISHED), draw(*SHAPE, seed=1), draw(*SHAPE, seed=2)
    alpha, after = schedule.alpha(500), schedule.alpha(250)
    first = dpm_step(prediction, sample, alpha, after, torch.zeros(SHAPE))[0]
    second = dpm_step(prediction, sample, alpha, after, draw(*SHAPE, seed=3))[0]
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("kind", "words", "call"),
    [
        (Unsupported, "prediction_type 'epsilon'", lambda: Schedule.of({})),
        (UnknownName, "timestep_spacing .*'middle'", lambda: Schedule.of({**PUBLISHED, "timestep_spacing": "middle"})),
        (UnknownName, "beta_schedule .*'flat'", lambda: Schedule.of({**PUBLISHED, "beta_schedule": "flat"})),
        (InvalidInput, "denoising steps: given 0", lambda: Schedule.of(PUBLISHED).timesteps(0)),
        (InvalidInput, "denoising steps: given 1001", lambda: Schedule.of(PUBLISHED).timesteps(1001)),
        (UnknownName, "solver 'dim'. Did you mean 'ddim'", lambda: run(solver="dim")),
        (InvalidInput, "noise for the solver 'dpm'", lambda: run(solver="dpm")),
        (InvalidInput, "guidance of text: given -1", lambda: Guidance(-1)),
        (InvalidInput, "guidance of control: given nan", lambda: Guidance(1, float("nan"))),
        (InvalidInput, "dynamic guidance", lambda: Guidance(dynamic=True)),
    ],
)
def test_bad_input_is_named(kind: type[VAPSimError], words: str, call: Callable[[], object]) -> None:
    with pytest.raises(kind, match=words):
        call()


def run(**options: Any) -> Tensor:
    return denoise(draw(*SHAPE), lambda latents, _: latents, Schedule.of(PUBLISHED), 2, **options)
