"""What one step of an environment costs: the dream beside its twin and, if given, beside DIAMOND's environment.

Dreams show the exterior view, and one shows the views that DROID has unless told otherwise, or others (--views). The
programs take turns step by step in one run, so that a machine whose speed drifts slows all of them. DIAMOND (random
weights, its own 64 x 64 pictures, three denoising steps, reward network) needs a checkout of its repository:
--diamond FOLDER.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest.mock import MagicMock

import gymnasium as gym
import numpy as np
import torch

import vap_sim  # noqa: F401 - registers the environments

ROWS = 8


@dataclass(frozen=True)
class Bar:
    """One figure beside what it must reach; `most` says that less is better."""

    name: str
    value: float
    bar: float
    unit: str
    most: bool = False

    def line(self) -> str:
        good = self.value <= self.bar if self.most else self.value >= self.bar
        sign = "<=" if self.most else ">="
        return f"{self.name:58}{self.value:>12.4g} {self.unit:8}{sign} {self.bar:<8g}{'pass' if good else 'FAIL'}"


def actions(count: int) -> np.ndarray:
    """Smooth random joint velocities and a gripper that opens and closes, (count, 8) float32."""
    rng = np.random.default_rng(0)
    arm = np.cumsum(rng.normal(0, 0.05, (count, 7)), axis=0)
    return np.column_stack([0.3 * np.sin(arm), (np.arange(count) // 15) % 2]).astype(np.float32)


def stepper(env: gym.Env[Any, Any]) -> Callable[[np.ndarray], object]:
    env.reset(seed=0)
    return env.step


def one_view(kind: str, **options: Any) -> gym.Env[Any, Any]:
    """A dream or the twin of the exterior view alone, without an end."""
    return gym.make(f"VAP{kind}-DROID-v0", views=("exterior_1",), max_episode_steps=10**9, **options)


def vector_stepper(world: str) -> Callable[[np.ndarray], object]:
    """A step of ROWS dreams at once, all under the same action."""
    envs = gym.make_vec("VAPWorld-DROID-v0", num_envs=ROWS, world=world, views=("exterior_1",))
    envs.reset(seed=0)
    return lambda action: envs.step(np.tile(action, (ROWS, 1)))


def diamond(folder: Path) -> Callable[[np.ndarray], object]:
    """A step of DIAMOND's environment with its published network sizes and random weights."""
    sys.path.insert(0, str(folder / "src"))
    # Imported at the top of its files, used only by its training.
    evaluation = ("torcheval", "torcheval.metrics", "torcheval.metrics.functional")
    for package in (("ale_py",), ("omegaconf",), ("wandb",), evaluation):
        if importlib.util.find_spec(package[0]) is None:
            sys.modules.update({name: MagicMock() for name in package})
    from agent import Agent, AgentConfig  # type: ignore[import-not-found]
    from data import Batch  # type: ignore[import-not-found]
    from models.actor_critic import ActorCriticConfig  # type: ignore[import-not-found]
    from models.diffusion import DenoiserConfig, DiffusionSamplerConfig, InnerModelConfig  # type: ignore[import-not-found]
    from models.rew_end_model import RewEndModelConfig  # type: ignore[import-not-found]

    theirs = importlib.import_module("envs")  # by name: the package of this name here is another one

    inner = InnerModelConfig(
        img_channels=3,
        num_steps_conditioning=4,
        cond_channels=256,
        depths=[2] * 4,
        channels=[64] * 4,
        attn_depths=[0] * 4,
    )
    agent = Agent(
        AgentConfig(
            denoiser=DenoiserConfig(inner_model=inner, sigma_data=0.5, sigma_offset_noise=0.3),
            rew_end_model=RewEndModelConfig(512, 3, 64, 128, [2] * 4, [32] * 4, [0] * 4),
            actor_critic=ActorCriticConfig(512, 3, 64, [32, 32, 64, 64], [1] * 4),
            num_actions=18,
        )
    ).eval()

    class Loader:
        """Endless batches of one random clip."""

        batch_sampler = types.SimpleNamespace(batch_size=1)

        def __iter__(self) -> Any:
            while True:
                length = 4
                zeros = torch.zeros(1, length)
                yield Batch(
                    obs=torch.rand(1, length, 3, 64, 64) * 2 - 1,
                    act=torch.zeros(1, length, dtype=torch.long),
                    rew=zeros,
                    end=zeros.long(),
                    trunc=zeros.long(),
                    mask_padding=torch.ones(1, length, dtype=torch.bool),
                    info=[{}],
                    segment_ids=[None],
                )

    config = theirs.WorldModelEnvConfig(
        horizon=10**9, num_batches_to_preload=2, diffusion_sampler=DiffusionSamplerConfig(num_steps_denoising=3)
    )
    env = theirs.WorldModelEnv(agent.denoiser, agent.rew_end_model, Loader(), config)
    with torch.no_grad():
        env.reset()

    def step(_: np.ndarray) -> object:
        with torch.no_grad():
            return env.step(torch.zeros(1, dtype=torch.long))

    return step


def in_turn(programs: dict[str, Callable[[np.ndarray], object]], repeats: int, warmup: int) -> dict[str, np.ndarray]:
    """Seconds of every step of every program, (repeats,) each, after a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for index, action in enumerate(actions(repeats + warmup)):
        for name, step in programs.items():
            began = perf_counter()
            step(action)
            if index >= warmup:
                seconds[name].append(perf_counter() - began)
    return {name: np.asarray(values) for name, values in seconds.items()}


def outside(env: gym.Env[Any, Any], repeats: int = 150) -> float:
    """Share of a step that is not the network: the median over steps, of a dream that runs alone."""
    env.reset(seed=0)
    base: Any = env.unwrapped
    shares = []
    for action in actions(repeats):
        before = base.profile
        env.step(action)
        after = base.profile
        network = after.network_seconds - before.network_seconds
        other = after.outside_seconds - before.outside_seconds
        shares.append(other / (network + other))
    return float(np.median(shares))


def growth(env: gym.Env[Any, Any]) -> tuple[float, float]:
    """Time of steps around 1,000 over that of steps around 20, and over that of the first steps of a dream that begins
    in the old one's picture: what paints takes as long as the robot is large, so only those do the same work. Medians
    of 31, of three dreams stepped in turn."""
    env.reset(seed=0)
    base: Any = env.unwrapped
    plan = actions(1000)
    states = {}
    for index, action in enumerate(plan):
        if index == 5:
            states["young"] = base.get_state()
        env.step(action)
    old = states["old"] = base.get_state()
    here = replace(
        old.starts[0],
        frames=torch.from_numpy(old.frames[0]),
        joints=torch.from_numpy(old.joints[0]).float(),
        gripper=float(old.shown[0, -1]),
    )
    env.reset(seed=0, options={"start": here})
    states["new"] = base.get_state()
    seconds: dict[str, list[float]] = {name: [] for name in states}
    for action in actions(31):
        for name, state in states.items():
            base.set_state(state)
            began = perf_counter()
            env.step(action)
            seconds[name].append(perf_counter() - began)
            states[name] = base.get_state()
    middle = {name: float(np.median(values)) for name, values in seconds.items()}
    return middle["old"] / middle["young"], middle["old"] / middle["new"]


def snapshots(env: gym.Env[Any, Any], repeats: int = 200) -> tuple[float, float]:
    """Megabytes of a state, and milliseconds (median) to take one and to put it back."""
    env.reset(seed=0)
    base: Any = env.unwrapped
    seconds = []
    for _ in range(repeats):
        began = perf_counter()
        state = base.get_state()
        base.set_state(state)
        seconds.append(perf_counter() - began)
    return base.get_state().nbytes / 1e6, 1e3 * float(np.median(seconds))


def forks_apart(env: gym.Env[Any, Any], steps: int = 20) -> int:
    """Numbers of all pictures in which two forks of a dream under the same actions differ."""
    env.reset(seed=0)
    base: Any = env.unwrapped
    state, films = base.get_state(), []
    for _ in range(2):
        base.set_state(state)
        films.append(np.stack([env.step(action)[0]["image"] for action in actions(steps)]))
    return int(np.count_nonzero(films[0] != films[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", default="compact")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--views", nargs="+", default=["exterior_1", "wrist"], help="of the dream of several views")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--diamond", type=Path, help="a checkout of DIAMOND")
    parser.add_argument("--out", type=Path, default=Path("out/env_step.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    world, several = options.world, f"dream of {' and '.join(options.views)}"
    dream = one_view("World", world=world)
    wide = gym.make("VAPWorld-DROID-v0", world=world, views=tuple(options.views), max_episode_steps=10**9)
    programs = {
        "dream, 128 x 128": stepper(dream),
        "twin with picture, 128 x 128": stepper(one_view("Twin")),
        "dream with trust meter": stepper(one_view("World", world=world, trust=True)),
        f"{ROWS} dreams in a vector environment": vector_stepper(world),
        several: stepper(wide),
    }
    if options.diamond is not None:
        programs["DIAMOND, 64 x 64"] = diamond(options.diamond)
    seconds = in_turn(programs, options.repeats, warmup=10)
    print(f"{options.threads} threads, torch {torch.__version__}, {options.repeats} steps each, in turn")
    print(f"{'one environment step':32}{'ms median':>11}{'quartiles':>18}{'a second':>11}")
    for name, values in seconds.items():
        low, middle, high = np.percentile(values, [25, 50, 75]) * 1e3
        print(f"{name:32}{middle:>11.2f}{f'{low:.2f} .. {high:.2f}':>18}{1e3 / middle:>11.1f}")
    rate = {name: float(1 / np.median(values)) for name, values in seconds.items()}
    share = outside(dream)
    megabytes, milliseconds = snapshots(dream)
    forked = forks_apart(dream)
    aged, alike = growth(dream)
    ours = rate["dream, 128 x 128"]
    bars = [
        Bar("env.step of one dream", ours, 60, "/s"),
        Bar(f"env.step of one {several}", rate[several], 30, "/s"),
        Bar("dream's rate over the twin's", ours / rate["twin with picture, 128 x 128"], 1, "x"),
        Bar("share of the step outside the network", 100 * share, 5, "%", most=True),
        Bar("time of step 1,000 over step 20", aged, 1.05, "x", most=True),
        Bar("the same, over a new dream of the same pose", alike, 1.05, "x", most=True),
        Bar("get_state, size", megabytes, 1, "MB", most=True),
        Bar("get_state and set_state, time", milliseconds, 1, "ms", most=True),
        Bar("pixels in which two forks of a dream differ", forked, 0, "", most=True),
    ]
    if "DIAMOND, 64 x 64" in rate:
        bars.insert(1, Bar("dream's rate over DIAMOND's", ours / rate["DIAMOND, 64 x 64"], 5, "x"))
    else:
        print("DIAMOND was not measured: no checkout given (--diamond FOLDER).")
    print("\n".join(bar.line() for bar in bars))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": options.threads,
        "milliseconds": {name: np.percentile(values, [25, 50, 75]).tolist() for name, values in seconds.items()},
        "bars": [vars(bar) for bar in bars],
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
