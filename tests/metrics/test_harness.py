"""What the benchmarks of dreams rest on: means and intervals over episodes, and pictures of given poses."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.benchmark_parts import benchmark_modules
from vap_sim.errors import BadFile, InvalidInput, Unsupported
from vap_sim.robots.library import load_robot


@pytest.fixture(scope="module")
def harness() -> Iterator[ModuleType]:
    with benchmark_modules(["harness"]) as modules:
        yield modules["harness"]


def test_values_count_each_or_once_an_episode(harness: ModuleType) -> None:
    each, once = harness.Tally(), harness.Tally()
    for values in ([1.0, 0.0, 0.0], [1.0], []):
        each.add(values)
        once.add_mean(values, undefined=2)
    assert each.summary().value == pytest.approx(0.5)
    assert (each.summary().number, each.summary().undefined) == (4, 0)
    assert once.summary().value == pytest.approx(2 / 3)
    assert (once.summary().number, once.summary().undefined) == (2, 6)


def test_intervals_shrink_with_the_number_of_episodes_and_hold_the_mean(harness: ModuleType) -> None:
    rng = np.random.default_rng(0)
    widths = []
    for episodes in (10, 1000):
        tally = harness.Tally()
        for value in rng.normal(3, 1, episodes):
            tally.add([value])
        own = tally.summary()
        assert own.low < own.value < own.high
        widths.append(own.high - own.low)
    assert widths[1] == pytest.approx(2 * 1.96 / np.sqrt(1000), rel=0.1)
    assert widths[0] > 5 * widths[1]


def test_values_of_one_episode_stay_together_when_resampled(harness: ModuleType) -> None:
    tally = harness.Tally()
    tally.add([1.0] * 100)
    tally.add([0.0] * 100)
    assert (tally.summary().low, tally.summary().high) == (0, 1)


def test_no_values_have_no_summary_and_no_verdict(harness: ModuleType) -> None:
    tally = harness.Tally()
    tally.add([])
    row = harness.Row("nothing", tally.summary(), bar=0.5)
    assert row.summary is None
    assert row.passed is None
    assert "nothing" in harness.table([row])


def test_followers_take_their_angle_from_their_leader(harness: ModuleType) -> None:
    model = load_robot("panda_robotiq")
    angles = harness.joint_angles(model, np.array([0.1, 0.2, 0.3, -1.0, 0.5, 0.6, 0.7, 0.4]))
    assert len(angles) == 13
    assert angles["panda_joint3"] == 0.3
    assert sorted({angle for name, angle in angles.items() if "knuckle" in name or "inner" in name}) == [-0.4, 0.4]


def test_a_folder_without_the_episodes_is_named(harness: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"without seeds \[1000000, 1000001\]"):
        harness.held_out_files(tmp_path, 2)


def test_worlds_of_several_views_are_refused(harness: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from vap_sim.models.kinematic import KinematicWorld

    monkeypatch.setattr(harness, "load_world", lambda name: KinematicWorld(views=2))
    with pytest.raises(Unsupported, match="benchmarks dream one view; world 'kinematic' has 2"):
        harness.begin(harness.arguments("", "x.json").parse_args(["--world", "kinematic"]))


@dataclass(frozen=True)
class Run:
    seed: int


def test_a_record_is_read_only_for_its_own_run_and_settings(harness: ModuleType, tmp_path: Path) -> None:
    path, run, settings = tmp_path / "run_1.json", Run(1), {"size": (3, 4), "rate": 0.1}
    assert harness.read_record(path, run, settings) is None
    record = {"run": {"seed": 1}, "settings": {"size": [3, 4], "rate": 0.1}, "loss": 0.5}
    harness.write_json(path, record)
    assert harness.read_record(path, run, settings) == record
    for other in ((Run(2), settings), (run, {**settings, "rate": 0.2}), (run, {**settings, "words": 4})):
        with pytest.raises(BadFile, match=r"run_1.json.*is of a run with other settings; give another folder by --out"):
            harness.read_record(path, *other)


@pytest.mark.parametrize("text", ["{", "[]", '{"settings": {}}', '{"run": {"seed": 1}}'])
def test_a_file_that_is_no_record_is_named(harness: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "run_1.json").write_text(text, encoding="utf-8")
    with pytest.raises(BadFile, match=r"run_1.json.*is not the record of a run \("):
        harness.read_record(tmp_path / "run_1.json", Run(1), {})
