"""What the benchmarks of dreams rest on: means and intervals over episodes, and pictures of given poses."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.robots.library import load_robot


@pytest.fixture(scope="module")
def harness() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "harness.py"
    if not path.exists():
        pytest.skip("benchmarks are not installed")
    spec = importlib.util.spec_from_file_location("benchmark_harness", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


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
