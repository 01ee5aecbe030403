"""How fast are poses, key points and pixels? Compares with pytorch_kinematics where that is installed.

    python benchmarks/kinematics.py --threads 2

Prints a table (median, quartile distance and best of repeated timings, after a warm-up) and writes it to
out/kinematics.json. On a busy machine only the best is worth a look, and two threads are worse than one. The two
libraries are timed in turn, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from vap_sim.robots.control import Controller
from vap_sim.robots.kinematics import Robot
from vap_sim.robots.library import RobotModel, load_robot

Timing = dict[str, float | int | str]
FEWEST_SECONDS = 0.02


def rounds_for(work: Callable[[], object]) -> int:
    """How many calls make one timing long enough; also the warm-up."""
    for _ in range(5):
        work()
    began = time.perf_counter()
    work()
    return max(1, int(FEWEST_SECONDS / max(time.perf_counter() - began, 1e-7)))


def timed(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds per call of each piece of work, `repeats` times, taken in turn."""
    rounds = {name: rounds_for(work) for name, work in works.items()}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            began = time.perf_counter()
            for _ in range(rounds[name]):
                work()
            seconds[name].append((time.perf_counter() - began) / rounds[name])
    return seconds


def row(what: str, library: str, batch: int, seconds: list[float]) -> Timing:
    low, _, high = statistics.quantiles(seconds, n=4)
    middle = statistics.median(seconds)
    return {
        "what": what,
        "library": library,
        "batch": batch,
        "ms": 1e3 * middle,
        "spread_ms": 1e3 * (high - low),
        "best_ms": 1e3 * min(seconds),
        "per_second": batch / middle,
    }


def rival(path: Path, dtype: torch.dtype) -> Callable[[torch.Tensor], object] | None:
    """All link poses by pytorch_kinematics, which takes every moving joint as independent."""
    try:
        import pytorch_kinematics
    except ImportError:
        return None
    chain = pytorch_kinematics.build_chain_from_urdf(path.read_bytes()).to(dtype=dtype)
    moving = len(chain.get_joint_parameter_names())
    # Followers get the value of the last joint; the cost does not depend on values.
    return lambda q: chain.forward_kinematics(torch.cat([q, q[:, -1:].expand(-1, moving - q.shape[1])], dim=1))


def joints(robot: Robot, batch: int, dtype: torch.dtype) -> torch.Tensor:
    share = torch.rand(batch, robot.num_joints, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return robot.lower + share * (robot.upper - robot.lower)


def forward_rows(model: RobotModel, repeats: int) -> list[Timing]:
    rows = []
    theirs = rival(model.folder / "robot.urdf", torch.float32)
    for batch in (1, 64, 4096):
        q = joints(model.robot, batch, torch.float32)
        works: dict[str, Callable[[], object]] = {"vap_sim": lambda q=q: model.robot.forward(q)}  # type: ignore[misc]
        if theirs is not None:
            works["pytorch_kinematics"] = lambda q=q: theirs(q)  # type: ignore[misc]
        seconds = timed(works, repeats)
        rows += [row("forward, all links", name, batch, values) for name, values in seconds.items()]
    return rows


def pipeline_rows(model: RobotModel, repeats: int) -> list[Timing]:
    """What one step of an environment asks of this room, for one world."""
    robot, spec = model.robot, model.skeleton
    q = model.home[None]
    poses = robot.forward(q)
    points = spec.positions(robot, poses)
    controller = Controller(model)
    state = controller.initial(q.numpy())
    action = torch.zeros(1, controller.spec.size).numpy()
    works: dict[str, Callable[[], object]] = {
        "control step": lambda: controller.step(state, action, 1),
        "key points": lambda: spec.positions(robot, poses),
        "project, fixed camera": lambda: model.camera("exterior_1").project(points),
        "project, wrist camera": lambda: model.camera("wrist").project(points, poses, robot),
        "jacobian": lambda: robot.jacobian(q, model.flange_link),
    }
    return [row(name, "vap_sim", 1, values) for name, values in timed(works, repeats).items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robot", default="panda_robotiq")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("out/kinematics.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_robot(options.robot)
    with torch.inference_mode():
        rows = forward_rows(model, options.repeats) + pipeline_rows(model, options.repeats)
    machine = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__, **vars(options)}
    print(f"{options.robot}, {options.threads} threads, torch {torch.__version__}")
    print(f"{'what':24}{'library':20}{'batch':>6}{'ms':>10}{'spread':>10}{'best':>10}{'per second':>14}")
    for r in rows:
        numbers = f"{r['ms']:>10.4f}{r['spread_ms']:>10.4f}{r['best_ms']:>10.4f}{r['per_second']:>14,.0f}"
        print(f"{r['what']:24}{r['library']:20}{r['batch']:>6}{numbers}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"setup": machine, "rows": rows}, indent=2, default=str) + "\n")


if __name__ == "__main__":
    main()
