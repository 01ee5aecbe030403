"""What each conditioner adds to the cost of a denoising pass of CogVideoX.

Two figures, for each system against the bare backbone:

- arithmetic at the size of CogVideoX-5B-I2V and 49 frames of 480 x 720: floating point operations of one pass, counted
  on shapes alone (`torch.utils.flop_counter`), so exact and the same on every machine;
- time of one pass on a backbone of 24 blocks and 768 tokens, in seconds of the processor, which other programs do not
  count into. Systems are run in turn, so that a machine whose speed drifts slows all, and compared round by round.

A pass is `inject` and the backbone's call; what is made of the prompt, once a clip, is listed beside it. Weights are
random: the cost does not hang on them.

    python benchmarks/conditioner_cost.py --out out/conditioner_cost.json
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from statistics import median, quantiles
from time import process_time

import torch
from harness import write_json
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.codec import FRAMES, SIDE, TinyCodec
from vap_sim.models.cogvideox.config import ModelConfig, build_transformer, full_config, parameter_count, tiny_config
from vap_sim.models.cogvideox.injection import Conditioner, Noised, Prepared, combine, first_frame_channels
from vap_sim.models.cogvideox.raw_action import ActionVector
from vap_sim.models.cogvideox.skeleton_control import SkeletonControl
from vap_sim.models.cogvideox.text import HashedWords
from vap_sim.models.conditioners.action_prism import ActionPrism
from vap_sim.models.conditioners.flexiact import FlexiAct
from vap_sim.models.conditioners.video_as_prompt import VideoAsPrompt
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt

BARE = "bare backbone"
HIGH, LOW = 900, 100
"""Noise levels of a pass where FlexiAct's bias is on, and where it is off."""
JOINTS = 8


@dataclass(frozen=True)
class System:
    """A conditioner by name. bar: the most it may cost beside the bare backbone, as a part of it, or None; level: of
    the noise in the pass; make: None for none."""

    name: str
    make: Callable[[Backbone], Conditioner] | None
    bar: float | None = None
    level: int = HIGH


@dataclass(frozen=True)
class Cost:
    """What a system costs. operations: of a pass at full size; counted: what comes on top of the bare backbone's there,
    as a part of it; seconds: of a pass at the small size, median; timed: as `counted`, the median over rounds;
    quartiles: of these; once: seconds that the prompt takes at the small size; parameters: at full size."""

    name: str
    operations: float
    counted: float
    seconds: float
    timed: float
    quartiles: tuple[float, float]
    once: float
    parameters: int
    bar: float | None

    @property
    def passed(self) -> bool | None:
        """Whether both what is counted and what is timed stay below the bar."""
        return None if self.bar is None else max(self.counted, self.timed) <= self.bar


def prism_size(backbone: Backbone) -> str:
    """The preset of a prism for a backbone of this width."""
    return "standard" if backbone.config.width > 1024 else "tiny"


def flexiact(backbone: Backbone) -> FlexiAct:
    """As many learned tokens as a caption has."""
    return FlexiAct(backbone, {"wave": backbone.config.text_length})


SYSTEMS = (
    System(BARE, None),
    System("skeleton_control", SkeletonControl),
    System("raw_action", lambda backbone: ActionVector(backbone, joints=JOINTS)),
    System("action_prism", lambda backbone: ActionPrism(backbone, preset=prism_size(backbone)), 0.10),
    System("video_as_prompt, first and last", lambda backbone: VideoAsPrompt(backbone, blocks="first_and_last"), 0.20),
    System("video_as_prompt, one way", lambda backbone: VideoAsPrompt(backbone, blocks="first_and_last", one_way=True)),
    System("video_as_prompt, as released", VideoAsPrompt),
    System("flexiact, biased", flexiact, 0.05),
    System("flexiact, low noise", flexiact, 0.05, level=LOW),
)


def small_config() -> ModelConfig:
    """24 blocks of width 128. As at full size attention is half of the arithmetic, a caption 1.3 % of the tokens."""
    return tiny_config(
        latent_channels=16, blocks=24, heads=2, head_width=64, size=(24, 32), frames=4, text_length=10, text_width=64
    )


def noise(config: ModelConfig, level: int, device: str) -> Noised:
    """A whole clip of noise at the model's own size."""
    source = None if device == "meta" else torch.Generator().manual_seed(0)
    shape = (1, config.frames, config.latent_channels, *(config.patch * one for one in config.grid))
    latents = torch.randn(shape, generator=source, device=device)
    text = torch.zeros(1, config.text_length, config.text_width, device=device)
    channels = first_frame_channels(latents[:, :1], config.frames)
    return Noised(latents, torch.full((1,), level, device=device), text, channels)


def prompt_of(config: ModelConfig, device: str) -> VisualPrompt:
    """Noise that is drawn, numbered, demonstrated and named: what any conditioner is told by."""
    height, width = (SIDE * config.patch * one for one in config.grid)
    shape = (1, 1 + FRAMES * (config.frames - 1), height, width, 3)
    source = None if device == "meta" else torch.Generator().manual_seed(1)
    film = torch.randint(0, 256, shape, dtype=torch.uint8, generator=source, device=device)
    clip = ReferenceClip(film, ("a hand waves",))
    return VisualPrompt(film[:, None], torch.zeros(1, shape[1], JOINTS, device=device), clip, ("wave",), ("a hand",))


def prepare(conditioner: Conditioner | None, config: ModelConfig, device: str) -> Prepared:
    """What a conditioner makes of the prompt."""
    if conditioner is None:
        return {}
    # What FlexiAct prepares are names, not pictures, and names are looked at.
    told = prompt_of(config, "cpu" if isinstance(conditioner, FlexiAct) and device == "meta" else device)
    words = HashedWords(config.text_length, config.text_width)
    return conditioner.prepare(told, TinyCodec(config.latent_channels), text=words)


def one_pass(backbone: Backbone, conditioner: Conditioner | None, prepared: Prepared, noised: Noised) -> Tensor:
    """The prediction of one pass."""
    assert noised.channels is not None
    added = [] if conditioner is None else [conditioner.inject(prepared, noised)]
    latents = torch.cat([noised.latents, noised.channels], dim=2)
    out: Tensor = backbone(latents, noised.timestep, noised.text, combine(added))
    return out


def counted(system: System) -> tuple[float, int]:
    """Operations of a pass at full size, and the conditioner's parameters there."""
    config = full_config("5b-i2v")
    backbone = Backbone(build_transformer(config, device="meta"))
    conditioner = None if system.make is None else system.make(backbone)
    prepared, noised = prepare(conditioner, config, "meta"), noise(config, system.level, "meta")
    with FlopCounterMode(display=False) as counter:
        one_pass(backbone, conditioner, prepared, noised)
    count = parameter_count(conditioner) if isinstance(conditioner, nn.Module) else 0
    return float(counter.get_total_flops()), count


@dataclass
class Runner:
    """A system that is ready to be timed on the small backbone."""

    system: System
    backbone: Backbone

    def __post_init__(self) -> None:
        config = self.backbone.config
        self._conditioner = None if self.system.make is None else self.system.make(self.backbone)
        began = process_time()
        self._prepared = prepare(self._conditioner, config, "cpu")
        self.prepare = process_time() - began
        self._noised = noise(config, self.system.level, "cpu")

    def seconds(self) -> float:
        """The processor's time of one pass."""
        began = process_time()
        one_pass(self.backbone, self._conditioner, self._prepared, self._noised)
        return process_time() - began


def timed(repeats: int) -> dict[str, tuple[list[float], float]]:
    """By name: the seconds of each round, and those of preparing."""
    backbone = Backbone(build_transformer(small_config())).requires_grad_(False)
    runners = [Runner(system, backbone) for system in SYSTEMS]
    times: dict[str, list[float]] = {one.system.name: [] for one in runners}
    for round_ in tqdm(range(repeats + 1), desc="timing", unit="round", mininterval=5):
        for one in runners:
            taken = one.seconds()
            if round_:  # the first round warms up
                times[one.system.name].append(taken)
    return {one.system.name: (times[one.system.name], one.prepare) for one in runners}


def costs(repeats: int) -> list[Cost]:
    """The cost of every system, the bare backbone first."""
    times, out = timed(repeats), []
    bare, _ = times[BARE]
    base, _ = counted(SYSTEMS[0])
    for system in SYSTEMS:
        own, prepared = times[system.name]
        more = [one / other - 1 for one, other in zip(own, bare, strict=True)]
        low, _, high = quantiles(more, n=4)
        operations, parameters = counted(system)
        cost = Cost(
            system.name,
            operations,
            operations / base - 1,
            median(own),
            median(more),
            (low, high),
            prepared,
            parameters,
            system.bar,
        )
        out.append(cost)
    return out


def table(rows: Sequence[Cost]) -> str:
    """The costs as aligned text."""
    cells = [["system", "counted, 5B", "timed, small", "quartiles", "bar", "", "pass [ms]", "once [ms]", "weights, 5B"]]
    for row in rows:
        verdict = {None: "", True: "pass", False: "FAIL"}[row.passed]
        bar = "" if row.bar is None else f"{row.bar:+.0%}"
        spread = f"{row.quartiles[0]:+.1%} .. {row.quartiles[1]:+.1%}"
        parts = [row.name, f"{row.counted:+.1%}", f"{row.timed:+.1%}", spread, bar, verdict]
        parts += [f"{1e3 * row.seconds:.0f}", f"{1e3 * row.once:.0f}", f"{row.parameters / 1e6:.0f} M"]
        cells.append(parts)
    widths = [max(len(line[index]) for line in cells) for index in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="rounds of timing, 2 or more")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        rows = costs(options.repeats)
    print(table(rows))
    if options.out is not None:
        machine = {
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "torch": torch.__version__,
            "python": platform.python_version(),
            "processor": platform.processor() or platform.machine(),
            "load": os.getloadavg()[0],
            "tokens": prod(small_config().grid) * small_config().frames,
        }
        write_json(options.out, {"about": machine, "rows": [{**asdict(row), "passed": row.passed} for row in rows]})


if __name__ == "__main__":
    main()
