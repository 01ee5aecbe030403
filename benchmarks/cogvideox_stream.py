"""What a step of a CogVideoX dream costs: a late one beside an early one, and how many frames come in a second.

Two states of one dream, after 4 steps and after 199, are stepped in turn, so that a machine whose speed drifts slows
both. Weights are random: the cost does not hang on them. On a GPU, at the size of a published model:

    python benchmarks/cogvideox_stream.py --device cuda --size 5b-i2v --picture 320 192 --steps 4
    python benchmarks/cogvideox_stream.py --device cuda --size 5b-i2v --mode chunk --picture 720 480

The second is chunk mode, which makes a whole clip a step; its 2nd and 6th step are compared.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.codec import Codec, TinyCodec
from vap_sim.models.cogvideox.config import (
    CODEC,
    ModelConfig,
    build_transformer,
    full_config,
    full_config_names,
    parameter_count,
    tiny_config,
)
from vap_sim.models.cogvideox.memory import compile_blocks
from vap_sim.models.cogvideox.parts import Parts
from vap_sim.models.cogvideox.sampler import PUBLISHED, Schedule
from vap_sim.models.cogvideox.settings import MODES, Settings, defaults
from vap_sim.models.cogvideox.skeleton_control import SkeletonControl
from vap_sim.models.cogvideox.stock import stock
from vap_sim.models.cogvideox.text import HashedWords
from vap_sim.models.cogvideox.video_codec import VideoCodec
from vap_sim.models.cogvideox.world import CogVideoXWorld
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState

COMPARED = {"stream": (5, 200), "chunk": (2, 6)}
"""Which steps are the early and the late one."""
RATIO, FRAMES_A_SECOND = 1.05, 15.0


@dataclass(frozen=True)
class Times:
    """Seconds of the early and of the late step, taken in turn."""

    early: tuple[float, ...]
    late: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Late over early, pair by pair, rising."""
        return tuple(sorted(b / a for a, b in zip(self.early, self.late, strict=True)))


def codec_of(name: str, config: ModelConfig, device: str, dtype: torch.dtype) -> Codec:
    """The learned codec with random weights, or the one without weights."""
    if name == "tiny":
        return TinyCodec(config.latent_channels)
    kind = getattr(stock("diffusers"), CODEC)
    return VideoCodec(kind(latent_channels=config.latent_channels).to(device, dtype))


def world_of(args: argparse.Namespace) -> CogVideoXWorld:
    """A world with random weights."""
    tiny = args.size == "tiny"
    config = tiny_config(image=True) if tiny else full_config(args.size)
    dtype = torch.float32 if args.device == "cpu" else torch.bfloat16
    backbone = Backbone(build_transformer(config, device=args.device, dtype=dtype)).requires_grad_(False)
    control = SkeletonControl(backbone).eval().requires_grad_(False) if args.control else None
    if args.compiled:
        compile_blocks(backbone)
    values = defaults(args.mode, config, {})
    values |= {name: getattr(args, name) for name in ("steps", "history", "chunk") if getattr(args, name) is not None}
    parts = Parts(
        backbone,
        codec_of(args.codec or ("tiny" if tiny else "video"), config, args.device, dtype),
        HashedWords(config.text_length, config.text_width),
        Schedule.of(PUBLISHED),
        Settings(**values),
        tuple(args.picture),
        () if control is None else (control,),
        torch.device(args.device),
        dtype,
    )
    return CogVideoXWorld(parts)


def prompt_of(world: CogVideoXWorld, frames: int) -> VisualPrompt:
    """A drawing of noise, which costs what any other does."""
    width, height = world.spec.size
    source = torch.Generator().manual_seed(frames)
    return VisualPrompt(torch.randint(0, 256, (1, 1, frames, height, width, 3), dtype=torch.uint8, generator=source))


def seconds(world: CogVideoXWorld, state: WorldState, prompt: VisualPrompt) -> tuple[float, WorldState]:
    """Time of one step, waiting for the device, and the state after it."""
    waits = world.parts.device.type == "cuda"
    if waits:
        torch.cuda.synchronize()
    began = perf_counter()
    state, _ = world.step(state, prompt)
    if waits:
        torch.cuda.synchronize()
    return perf_counter() - began, state


def measure(world: CogVideoXWorld, repeats: int) -> tuple[Times, WorldState]:
    """Times of the early and the late step, and the last state."""
    start, prompt = prompt_of(world, 1), prompt_of(world, world.spec.frames_per_step)
    state = world.encode(start.skeleton[:, :, 0], start, [0])
    compared = COMPARED[world.settings.mode]
    states: list[WorldState] = []
    for number in range(1, compared[-1] + 1):
        if number in compared:
            states.append(state)
        _, state = seconds(world, state, prompt)
    pairs = [[seconds(world, one, prompt)[0] for one in states] for _ in range(repeats + 1)]
    early, late = zip(*pairs[1:], strict=True)  # the first pair warms up
    return Times(early, late), state


def report(world: CogVideoXWorld, times: Times, state: WorldState, args: argparse.Namespace) -> dict[str, object]:
    """The figures by name."""
    on_gpu = args.device != "cpu"
    networks = [one for one in (world.parts.backbone, *world.parts.conditioners) if isinstance(one, torch.nn.Module)]
    ratios = times.ratios
    step = median(times.late)
    return {
        "machine": torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "size": args.size,
        "parameters": sum(parameter_count(one) for one in networks),
        "mode": world.settings.mode,
        "frames_a_step": world.spec.frames_per_step,
        "picture": list(world.spec.size),
        "steps": world.settings.steps,
        "window": world.settings.window,
        "dtype": str(world.parts.dtype),
        "control": args.control,
        "repeats": len(ratios),
        "step_ms": 1e3 * step,
        "frames_a_second": world.spec.frames_per_step / step,
        "late_over_early": median(ratios),
        "late_over_early_quartiles": [ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]],
        "state_mib": state.nbytes / 2**20,
        "peak_mib": torch.cuda.max_memory_allocated() / 2**20 if on_gpu else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", default="tiny", choices=("tiny", *full_config_names()))
    parser.add_argument("--picture", type=int, nargs=2, default=None, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--mode", default="stream", choices=MODES)
    parser.add_argument("--steps", type=int, default=None, help="denoising steps, by default the mode's: 4 or 50")
    parser.add_argument("--history", type=int, default=None, help="latent frames that a stream looks back at")
    parser.add_argument("--chunk", type=int, default=None, help="frames of a clip, by default as many as are trained")
    parser.add_argument("--codec", choices=("tiny", "video"), default=None)
    parser.add_argument(
        "--control", action="store_true", help="with an untrained control branch of a third of the blocks"
    )
    parser.add_argument("--compiled", action="store_true", help="compile the blocks")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--out", type=Path, default=None, help="a JSON file for the figures")
    args = parser.parse_args()
    args.picture = args.picture or ([64, 64] if args.size == "tiny" else [320, 192])
    world = world_of(args)
    figures = report(world, *measure(world, args.repeats), args)
    for name, value in figures.items():
        print(f"{name:28}{value:.4g}" if isinstance(value, float) else f"{name:28}{value}")
    late = float(str(figures["late_over_early"]))
    first, last = COMPARED[args.mode]
    judged = f", bar {RATIO}: {'pass' if late <= RATIO else 'FAIL'}" if args.mode == "stream" else ""
    print(f"step {last} / step {first}: {late:.3f}{judged}")
    if args.device != "cpu" and args.size != "tiny" and args.mode == "stream":
        rate = float(str(figures["frames_a_second"]))
        print(f"frames a second: {rate:.2f}, bar {FRAMES_A_SECOND}: {'pass' if rate >= FRAMES_A_SECOND else 'FAIL'}")
    if args.out is not None:
        args.out.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
