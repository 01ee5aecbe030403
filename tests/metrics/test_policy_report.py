"""Reports from trials of known success: figures are those of the table, and what cannot be told is not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from vap_sim.errors import InvalidInput
from vap_sim.metrics.agreement import mmrv, mmrv_mirrored, pearson
from vap_sim.metrics.comparison import STATISTICS, compare
from vap_sim.metrics.episodes import METERS
from vap_sim.metrics.policy_report import FORMAT, policy_report, write_json
from vap_sim.metrics.rate_rows import ROW_STATISTICS
from vap_sim.metrics.trials import Cell, Trial, TrialTable

BASE = Trial(policy="p", task="push", seed=0, env_id="twin", steps=50, reward=0, end="time limit", seconds=1)
RATES = (0.1, 0.3, 0.5, 0.7, 0.9)


def exact(
    rates: tuple[float, ...], env_id: str, tasks: tuple[str, ...] = ("push", "lift"), starts: int = 20
) -> TrialTable:
    """Trials in which each policy succeeds in exactly its share of starts; truth and verdict agree."""
    trials = [
        replace(
            BASE, policy=f"p{index}", task=task, seed=seed, env_id=env_id, success=seed < round(rate * starts),
            verdict="yes" if seed < round(rate * starts) else "no",
        )
        for index, rate in enumerate(rates) for task in tasks for seed in range(starts)
    ]  # fmt: skip
    return TrialTable(tuple(trials), {"weights": env_id})


def change(table: TrialTable, index: int, **fields: object) -> TrialTable:
    trials = list(table.trials)
    trials[index] = replace(trials[index], **fields)
    return TrialTable(tuple(trials), table.about, table.folder)


def test_row_statistics_are_those_of_single_rows_and_nan_where_those_raise() -> None:
    rng = np.random.default_rng(0)
    sim, real = (rng.integers(0, 3, (2, 60, 4)) / 3).round(12)
    assert STATISTICS.keys() == ROW_STATISTICS.keys()
    for name, statistic in STATISTICS.items():
        found = ROW_STATISTICS[name](sim=sim, real=real)
        for row in range(60):
            try:
                assert found[row] == pytest.approx(statistic(sim[row], real[row]), abs=1e-12)
            except InvalidInput:
                assert np.isnan(found[row])
    assert np.isnan(ROW_STATISTICS["pearson"](sim=sim, real=real)).any()


def test_known_rates_and_a_known_rank_error_give_their_figures() -> None:
    swapped = (0.3, 0.1, 0.5, 0.7, 0.9)
    told = compare(sim=exact(swapped, "dream"), real=exact(RATES, "twin"), resamples=100)
    assert (told.paired, told.pairs, told.unmatched, told.incomplete) == (True, 200, (0, 0), ())
    for figures in (told.over_policies, *told.by_task.values()):
        assert figures["pearson"].value == pytest.approx(pearson(sim=swapped, real=RATES))
        assert figures["mmrv_sim_real"].value == pytest.approx(2 * 0.2 / 5)
        assert figures["bias_mean"].value == pytest.approx(0)
        assert figures["bias_largest"].value == pytest.approx(0.2)
        assert figures["pearson"].number == 5
    assert told.over_cells["pearson"].number == 10
    assert {one.policy: one.sim for one in told.success if one.task == "push"}["p0"] == Cell(6, 14, 0, 20, 6)


def test_the_two_conventions_are_not_confused() -> None:
    sim, real = (0.1, 0.2, 0.3, 0.4, 0.5), (0.9, 0.1, 0.5, 0.7, 0.8)
    told = compare(sim=exact(sim, "dream"), real=exact(real, "twin"), resamples=100).over_policies
    assert told["mmrv_sim_real"].value == pytest.approx(mmrv(sim=sim, real=real))
    assert told["mmrv_real_sim"].value == pytest.approx(mmrv_mirrored(sim=sim, real=real))
    assert told["mmrv_sim_real"].value != pytest.approx(told["mmrv_real_sim"].value)


def test_a_world_against_itself_is_perfect_and_the_order_of_trials_is_irrelevant() -> None:
    table = exact(RATES, "twin")
    told = compare(sim=table, real=table, resamples=100)
    assert told.over_policies["pearson"].value == pytest.approx(1)
    assert "expected more than -1 and less than 1" in told.over_policies["pearson"].no_interval[0]
    assert (told.over_policies["mmrv_sim_real"].value, told.over_policies["bias_mean"].value) == (0, 0)
    assert told.episodes is not None
    assert told.episodes.shares["accuracy"].value == 1
    assert told.episodes.disagreements == ()
    turned = TrialTable(table.trials[::-1], table.about)
    other = compare(sim=turned, real=turned, resamples=100)
    assert other.over_policies["slope"].value == pytest.approx(told.over_policies["slope"].value)


def test_only_equal_starts_count_where_there_are_any() -> None:
    real, sim = exact(RATES, "twin"), exact(RATES, "dream")
    fewer = TrialTable(tuple(one for one in sim if one.seed >= 5))
    extra = TrialTable((*fewer, replace(BASE, policy="new", env_id="dream", verdict="yes", success=True)))
    told = compare(sim=extra, real=real, resamples=100)
    assert (told.pairs, told.unmatched, told.policies) == (150, (1, 50), ("p0", "p1", "p2", "p3", "p4"))
    assert all(one.real.answered == 15 for one in told.success)


def test_without_equal_starts_all_count_and_episodes_are_not_compared() -> None:
    sim = exact(RATES, "dream")
    moved = TrialTable(tuple(replace(one, seed=one.seed + 1000) for one in sim))
    told = compare(sim=moved, real=exact(RATES, "twin"), resamples=100)
    assert (told.paired, told.episodes, told.pairs, told.unmatched) == (False, None, 0, (0, 0))
    assert told.over_policies["pearson"].value == pytest.approx(1)
    interval = told.over_policies["bias_mean"].intervals[0]
    assert interval.low < 0 < interval.high


def test_episodes_tell_what_equal_rates_hide() -> None:
    """Sim succeeds in other starts than real: the rate is right, the episodes are not."""
    real, sim = exact((0.5,) * 5, "twin"), exact((0.5,) * 5, "dream")
    wrong = TrialTable(tuple(replace(one, success=not one.success, agreement_min=0.2) for one in sim))
    told = compare(sim=wrong, real=real, sim_by="truth", resamples=100)
    assert told.over_policies["bias_mean"].value == 0
    assert told.episodes is not None
    assert told.episodes.shares["accuracy"].value == told.episodes.shares["recall_on_failures"].value == 0
    assert told.episodes.shares["optimism"].value == 1
    assert {one.way for one in told.episodes.disagreements} == {"false success", "false failure"}
    assert told.episodes.meters["low agreement_min"].value is None  # nothing ended alike


def test_meters_are_judged_by_the_episodes_that_differ_and_the_worst_come_first() -> None:
    real, sim = exact(RATES, "twin"), exact(RATES, "dream")
    rng = np.random.default_rng(0)
    sim = TrialTable(tuple(replace(one, agreement_min=float(rng.uniform(0.7, 0.9)), drift=0.0) for one in sim))
    for index, low in ((3, 0.5), (47, 0.3), (48, 0.4)):
        verdict = "no" if sim.trials[index].verdict == "yes" else "yes"
        sim = change(sim, index, verdict=verdict, success=not sim.trials[index].success, agreement_min=low)
    sim = change(sim, 100, verdict="cannot tell", success=None)
    told = compare(sim=sim, real=real, resamples=100).episodes
    assert told is not None
    assert told.meters["low agreement_min"].value == 1
    assert told.meters["high drift"].value == 0.5
    assert told.meters["low agreement_mean"].value is None
    assert told.meters["low agreement_min"].number == told.counts.answered == 199
    assert told.shares["abstention"].value == pytest.approx(1 / 200)
    worst = told.disagreements
    assert [one.agreement_min for one in worst] == [0.3, 0.4, 0.5]  # the cell in which two went wrong comes first
    assert [(one.policy, one.task, one.seed, one.way) for one in worst][2] == ("p0", "push", 3, "false success")


@pytest.mark.parametrize(
    ("probability", "drift", "judge", "either"),
    [(0.9, 0.0, 0.1, 0.1), (0.1, 0.5, 0.1, 0.55), (1.0, 0.3, 0.0, 0.3), (0.5, None, 0.5, None), (0.5, 3.0, 0.5, None),
     (None, 0.5, None, None)],
)  # fmt: skip
def test_doubt_of_dream_and_judge_is_the_chance_that_either_is_wrong(
    probability: float | None, drift: float | None, judge: float | None, either: float | None
) -> None:
    trial = replace(exact(RATES, "dream").trials[0], probability=probability, drift=drift)
    assert METERS["judge in doubt"](trial) == pytest.approx(judge)
    assert METERS["dream or judge in doubt"](trial) == pytest.approx(either)
    assert METERS["echoes dissent"](trial) is None
    heard = replace(trial, dissent=0.2)
    beside = None if either is None else 1 - 0.8 * (1 - either)
    assert METERS["dream or judge in doubt"](heard) == pytest.approx(beside) and METERS["echoes dissent"](heard) == 0.2


def test_silence_counts_on_neither_side() -> None:
    real, sim = exact(RATES, "twin"), exact(RATES, "dream")
    quiet = TrialTable(
        tuple(replace(one, verdict="cannot tell" if one.policy == "p2" else one.verdict, success=None) for one in sim)
    )
    told = compare(sim=quiet, real=real, resamples=100)
    assert (told.sim_by, told.real_by) == ("verdict", "truth")
    assert told.incomplete == ("p2",)
    assert told.over_policies["pearson"].number == 4
    row = next(one for one in told.success if one.policy == "p2")
    assert (row.sim, row.sim_interval) == (Cell(0, 0, 20), None)


def test_silence_counts_by_its_probability_in_rates_and_not_in_episodes() -> None:
    """A judge that is silent on all that fails, but knows that it most likely does, is not optimistic."""
    real, sim = exact(RATES, "twin"), exact(RATES, "dream")
    shy = TrialTable(
        tuple(one if one.verdict == "yes" else replace(one, verdict="cannot tell", probability=0.1) for one in sim)
    )
    told = compare(sim=shy, real=real, sim_by="verdict", resamples=100)
    assert told.over_policies["bias_mean"].value == pytest.approx(0.1 * (1 - np.mean(RATES)))
    mute = TrialTable(tuple(replace(one, probability=None) for one in shy))
    deaf = compare(sim=mute, real=real, sim_by="verdict", resamples=100)
    assert deaf.over_policies["bias_mean"].value == pytest.approx(1 - np.mean(RATES))
    assert told.episodes is not None and told.episodes.shares["abstention"].value == pytest.approx(1 - np.mean(RATES))
    row = next(one for one in told.success if (one.policy, one.task) == ("p0", "push"))
    assert (row.sim.rate, row.sim.answered) == (pytest.approx(0.1 + 0.9 * 0.1), 2)
    assert row.sim_interval is not None and row.sim_interval.low < row.sim.rate < row.sim_interval.high


def test_a_report_holds_tables_baselines_and_judges_and_is_json(tmp_path) -> None:
    real, sim = exact(RATES, "twin"), exact(RATES, "dream")
    real = change(change(real, 5, verdict="yes"), 6, verdict="cannot tell")
    assert real.trials[5].success is False
    sim = change(TrialTable(tuple(replace(one, success=None) for one in sim), sim.about), 0, end="untrusted")
    copy = TrialTable(tuple(replace(one, verdict="no", env_id="copy", success=None) for one in sim))
    report = policy_report(dream=sim, reference=real, baselines={"copy": copy}, resamples=100)
    assert report.few == ()
    assert report.baselines[0].over_policies["pearson"].value is None
    assert "5 equal sim rates of 0" in report.baselines[0].over_policies["pearson"].why
    assert report.baselines[0].episodes.shares["recall_on_failures"].value == 1
    judge = report.tables["reference"].judge
    assert (judge.counts.yes_on_failure, judge.counts.silent_on_failure) == (1, 1)
    assert judge.shares["optimism"].value == pytest.approx(1 / 99)
    assert judge.shares["abstention"].value == pytest.approx(1 / 200)
    assert report.tables["dream"].judge is None
    assert report.tables["dream"].early["p0"].value == pytest.approx(1 / 40)
    assert report.tables["dream"].ends[""] == {"done": 0, "time limit": 199, "untrusted": 1, "policy failed": 0}
    write_json(tmp_path / "report.json", report)
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["format"] == FORMAT
    assert content == report.to_json()
    assert content["dream"]["over_policies"]["pearson"]["value"] == pytest.approx(1)
    assert set(content["settings"]["versions"]) == {"python", "vap-sim", "numpy", "scipy"}
    assert content["tables"]["dream"]["seeds"]["push"] == list(range(20))
    assert policy_report(dream=sim, reference=real, baselines={"copy": copy}, resamples=100).to_json() == content


def test_few_trials_are_told_by_intervals_alone() -> None:
    report = policy_report(
        dream=exact(RATES[:4], "dream", starts=10), reference=exact(RATES[:4], "twin", starts=10), resamples=100
    )
    assert [one.split(";")[0] for one in report.few] == ["4 policies", "10 trials of some policy and task"]
    told = report.dream.over_policies["bias_mean"]
    assert told.text(bare=False) == "0.000 to 0.000"
    assert replace(told, intervals=()).text(bare=False) == "too few trials to tell"
    assert replace(told, value=None, why="none").text(bare=False) == "undefined (none)"


def test_what_cannot_be_compared_is_named() -> None:
    real, sim = exact(RATES, "twin"), exact(RATES, "dream")
    both = TrialTable((*sim, *real))
    with pytest.raises(
        InvalidInput, match=r"sim table: given environments \['dream', 'twin'\], expected trials of one"
    ):
        compare(sim=both, real=real)
    with pytest.raises(InvalidInput, match="real table"):
        compare(sim=sim, real=TrialTable(()))
    other = TrialTable(tuple(replace(one, policy=f"other {one.policy}") for one in sim))
    with pytest.raises(InvalidInput, match="at least one policy in both"):
        compare(sim=other, real=real)
    unjudged = change(TrialTable(tuple(replace(one, success=None) for one in sim)), 3, verdict=None)
    with pytest.raises(InvalidInput, match="no verdict on"):
        compare(sim=unjudged, real=real)
    with pytest.raises(InvalidInput, match="a title, and other names"):
        policy_report(dream=sim, reference=real, baselines={"dream": sim})
