"""Does the trust meter know when a dream has left the truth? Its signals against the twin, step by step.

    python benchmarks/trust.py --dev data/dev --episodes data/test --fit

Recorded episodes are dreamt open loop, with the trust meter on. A step has gone wrong where an object that the twin
shows almost whole lies more than its own width from its place in the dream, or is lost there. AUROC says how often a
step gone wrong shows more distrust than one that has not; an episode has gone wrong if three of its steps
have, and shows the most distrust of its steps. Intervals are bootstraps over episodes.

--fit renews the weights of `dream_risk` from development episodes alone (--dev), and its limit: the probability that
only one in twenty of their true episodes ever passes. What was measured is kept in --cache, one file an episode and
set of weights, and a run that was stopped goes on where it was.

--trials names the folder of a `vap-sim evaluate` with trials of held-out seeds: AUROC of the meters, as kept with its
trials, for episodes whose verdict in the dream differs from the truth in the reference. The record goes to
out/trust.json.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import HELD_OUT, Row, Summary, about, arguments, as_json, begin, episode_camera, table, write_json
from numpy.typing import NDArray
from tqdm import tqdm

from vap_sim.data.twin import TwinEpisode, load_episode
from vap_sim.envs.trusting import TrustMeter, risk_inputs
from vap_sim.errors import InvalidInput
from vap_sim.metrics.comparison import compare
from vap_sim.metrics.objects import UNCOVERED, amodal_masks, offset_in_widths, visible_shares
from vap_sim.metrics.risk import WEIGHTS, Risk, fit_risk
from vap_sim.metrics.trial_log import load_trials
from vap_sim.metrics.verdicts import auroc
from vap_sim.models.protocol import WorldModel
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot

BAR = 0.85
WIDTHS, CLEAR = 1.0, 0.8
"""An object has gone wrong from so many widths off; it is asked for where the twin shows so much of it."""
LASTING = 3
"""Steps that must have gone wrong for an episode to have: fewer are more often a misreading."""
SPARED = 0.95
"""Share of true development episodes that the limit never stops."""
RESAMPLES = 1000
DEV = range(900_000, 901_000)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """One episode of T steps with K objects: inputs of the risk and plain signals by name, each (T,); off: (T, K) of
    each object from its place in truth, in widths, infinite where the dream has lost it; share: (T, K) how much of it
    the twin shows. Both are NaN where there is nothing to compare."""

    seed: int
    inputs: Mapping[str, Floats]
    off: Floats
    share: Floats

    @property
    def error(self) -> Floats:
        """(T,): of the uncovered object farthest from the truth, in widths; NaN where none is uncovered."""
        clear = self.share >= CLEAR
        return np.where(clear.any(1), np.where(clear, self.off, 0.0).max(1, initial=0.0), np.nan)

    @property
    def judged(self) -> NDArray[np.bool_]:
        """Which steps have an error."""
        return ~np.isnan(self.error)

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Which steps have gone wrong."""
        return np.asarray(np.nan_to_num(self.error, nan=0.0) > WIDTHS)


def measure(world: WorldModel, model: RobotModel, meter: TrustMeter, path: Path) -> Measured:
    """Dream one episode and hold it against its truth."""
    episode = load_episode(path, only=("frames", "objects", "labels", "joints"))
    colors = tuple(str(item["color"]) for item in episode.meta["scene"]["objects"])
    joints = torch.from_numpy(episode.joints)
    cameras = (Camera.batch([episode_camera(episode)]),)
    prompts = Prompter(model, profile(world.spec.profile), world.spec.size).draw(joints[None], cameras)
    frames = episode.frames[:1, :1]
    state = world.encode(torch.from_numpy(frames), prompts.between(0, 1), [0])
    trust = meter.begin(state, frames, episode.joints[:1], cameras)
    pictures, inputs = [], []
    for step in range(1, episode.length):
        prompt = prompts.between(step, step + 1)
        after, made = world.step(state, prompt)
        frames = made.numpy()[:, :, -1]
        trust = meter.step(trust, state, after, prompt, frames, episode.joints[step : step + 1], cameras)
        state = after
        pictures.append(made[0, 0, -1])
        inputs.append({name: float(values[0]) for name, values in {**risk_inputs(trust), **trust.signals}.items()})
    masks = meter.agreement.detector.objects(torch.stack(pictures), colors).numpy()
    names = [name for name in inputs[0] if name != "dream_risk"]
    columns = {name: np.array([one[name] for one in inputs]) for name in names}
    return Measured(int(episode.meta["seed"]), columns, *compared(episode, masks))


def compared(episode: TwinEpisode, masks: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """How far objects are off and how much of them is shown, both (T, K); masks: (T, K, H, W), found in the dream."""
    count = masks.shape[1]
    amodal = amodal_masks(labels=episode.labels[0], layer=episode.objects[0], count=count)
    share = visible_shares(labels=episode.labels[0], amodal=amodal).T
    off = np.full((len(masks), count), np.nan)
    for step, found in enumerate(masks):
        for k in np.flatnonzero(share[step + 1] >= UNCOVERED):
            truth = episode.labels[0, step + 1] == 2 + k
            away = offset_in_widths(generated=found[k], truth=truth, amodal=amodal[k, step + 1])
            off[step, k] = np.inf if away is None else away
    # What was not to be seen at first nobody can dream.
    shown = np.where(share[0] >= UNCOVERED, share[1:], np.nan)
    return off, shown


def measured(world: WorldModel, files: Sequence[Path], cache: Path) -> list[Measured]:
    """All episodes, from the cache where they are there."""
    model = load_robot("panda_robotiq")
    meter = TrustMeter(model, world)
    cache.mkdir(parents=True, exist_ok=True)
    out = []
    for path in tqdm(files, desc="dreaming", unit="episode", mininterval=5):
        kept = cache / f"{world.spec.fingerprint}_{_seed(path)}.npz"
        if not kept.exists():
            one = measure(world, model, meter, path)
            partial = kept.with_suffix(".partial.npz")
            arrays: dict[str, Any] = {"off": one.off, "share": one.share, **one.inputs}
            np.savez(partial, **arrays)
            partial.replace(kept)
        with np.load(kept, allow_pickle=False) as content:
            values = {name: content[name] for name in content.files}
        off, share = values.pop("off"), values.pop("share")
        out.append(Measured(_seed(path), values, off, share))
    return out


def _seed(path: Path) -> int:
    found = re.search(r"twin_(\d+)", path.name)
    if found is None:
        raise InvalidInput("episode file", path.name, "twin_SEED.vap.npz")
    return int(found[1])


def fit(world: WorldModel, episodes: Sequence[Measured]) -> Risk:
    """The risk of a step having gone wrong, and the limit that spares true episodes."""
    inputs = {name: np.concatenate([one.inputs[name][one.judged] for one in episodes]) for name in _inputs(episodes[0])}
    wrong = np.concatenate([one.wrong[one.judged] for one in episodes])
    about = {"episodes": len(episodes), "steps": len(wrong), "wrong": int(wrong.sum())}
    risk = fit_risk(inputs, wrong, world=world.spec.name, about={**about, "weights": world.spec.fingerprint})
    peaks = [float(risk(one.inputs).max()) for one in episodes if one.wrong.sum() < LASTING]
    return replace(risk, limit=float(np.clip(np.quantile(peaks, SPARED), 0.01, 0.99)))


def _inputs(one: Measured) -> list[str]:
    return [name for name in one.inputs if not name.startswith(("dream_", "prompt_"))]


def discrimination(episodes: Sequence[Measured], name: str, scores: Sequence[Floats], bar: float | None) -> list[Row]:
    """AUROC of one score over steps, and of its worst over episodes."""
    parts = [(score[one.judged], one.wrong[one.judged]) for one, score in zip(episodes, scores, strict=True)]
    parts = [part for part in parts if len(part[0])]
    whole = [(part[0].max(keepdims=True), np.array([part[1].sum() >= LASTING])) for part in parts]
    steps = Row(f"{name}: steps", resampled(parts), bar=bar)
    return [steps, Row(f"{name}: episodes", resampled(whole), bar=bar)]


def resampled(parts: Sequence[tuple[Floats, NDArray[np.bool_]]]) -> Summary | None:
    """AUROC with an interval over episodes; None where all or none went wrong."""
    score, event = (np.concatenate(column) for column in zip(*parts, strict=True))
    if event.all() or not event.any():
        return None
    owner = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
    rng, drawn, undefined = np.random.default_rng(0), [], 0
    for _ in range(RESAMPLES):
        weight = np.bincount(rng.integers(len(parts), size=len(parts)), minlength=len(parts))[owner].astype(float)
        if weight[event].any() and weight[~event].any():
            drawn.append(auroc(score=score, event=event, weight=weight))
        else:
            undefined += 1
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Summary(auroc(score=score, event=event), float(low), float(high), int(event.sum()), undefined)


def report(episodes: Sequence[Measured], risk: Risk | None) -> list[Row]:
    """Each plain signal, and all of them together."""
    signs = {"prompt_agreement": -1.0, "dream_doubt": 1.0, "dream_drift": 1.0}
    rows: list[Row] = []
    for name, sign in signs.items():
        scores = [sign * np.nan_to_num(one.inputs[name], nan=1.0 if sign < 0 else 0.0) for one in episodes]
        rows += discrimination(episodes, name, scores, None)
    return rows if risk is None else rows + discrimination(episodes, "dream_risk", list(map(risk, _all(episodes))), BAR)


def _all(episodes: Sequence[Measured]) -> list[Mapping[str, Floats]]:
    return [one.inputs for one in episodes]


def stopped(episodes: Sequence[Measured], risk: Risk) -> dict[str, float]:
    """What the limit does: shares of true and of wrong episodes that it stops."""
    passed = [(bool((risk(one.inputs) > risk.limit).any()), bool(one.wrong.sum() >= LASTING)) for one in episodes]
    true, wrong = [stop for stop, bad in passed if not bad], [stop for stop, bad in passed if bad]
    return {
        "limit": risk.limit,
        "true": len(true),
        "true stopped": float(np.mean(true)) if true else float("nan"),
        "wrong": len(wrong),
        "wrong stopped": float(np.mean(wrong)) if wrong else float("nan"),
    }


def trial_meters(folder: Path) -> dict[str, str]:
    """AUROC of the meters for verdicts that differ from the truth, of the trials of an evaluation."""
    dream, reference = (load_trials(folder / f"{name}.jsonl")[0] for name in ("dream", "reference"))
    told = compare(name="dream", sim=dream, real=reference, sim_by="verdict").episodes
    if told is None:
        raise InvalidInput("--trials", folder, "trials of matching starts")
    return {name: figure.text() for name, figure in told.meters.items()}


def main() -> None:
    parser: argparse.ArgumentParser = arguments(__doc__, "trust.json")
    parser.add_argument("--dev", type=Path, help="folder of development episodes, for --fit")
    parser.add_argument("--dev-limit", type=int, help="use only so many of them")
    parser.add_argument("--fit", action="store_true", help="renew the weights of the risk from --dev")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="where --fit writes them")
    parser.add_argument("--cache", type=Path, default=Path("out") / "trust")
    parser.add_argument("--trials", type=Path, help="folder of an evaluation")
    options = parser.parse_args()
    world = begin(options)
    record: dict[str, object] = {"about": about(world, options)}
    if options.fit:
        if options.dev is None:
            raise InvalidInput("--fit", "no --dev", "a folder of development episodes")
        files = [path for path in sorted(options.dev.glob("*.vap.npz")) if _seed(path) in DEV][: options.dev_limit]
        dev = measured(world, files, options.cache)
        risk = fit(world, dev)
        risk.save(options.weights)
        record |= {"dev": as_json(report(dev, risk)), "dev stopped": stopped(dev, risk)}
        print("development episodes", table(report(dev, risk)), stopped(dev, risk), sep="\n")
    if options.episodes is not None:
        names = [options.episodes / f"twin_{seed:08d}.vap.npz" for seed in HELD_OUT[: options.limit]]
        held_out = measured(world, [path for path in names if path.exists()], options.cache)
        if not held_out:
            raise InvalidInput("--episodes", f"{options.episodes} without held-out episodes", "seeds 1000000 and on")
        own = Risk.load(options.weights)
        told = None if own.world != world.spec.name else own
        rows = report(held_out, told)
        record["held out"] = as_json(rows)
        print(f"{len(held_out)} held-out episodes", table(rows), sep="\n")
        if told is not None:
            record["held out stopped"] = stopped(held_out, told)
            print(record["held out stopped"])
    if options.trials is not None:
        record["trials"] = trial_meters(options.trials)
        print(record["trials"])
    write_json(options.out, record)


if __name__ == "__main__":
    main()
