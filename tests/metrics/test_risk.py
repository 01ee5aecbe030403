"""Signals as one probability: fitted, kept in JSON, and never less suspicious of a higher signal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.metrics.detector import DROID_ROBOT
from vap_sim.metrics.risk import WEIGHTS, Risk, fit_risk
from vap_sim.metrics.verdicts import auroc

RNG = np.random.default_rng(0)
SIGNALS = {"doubt": RNG.exponential(size=400), "drift": RNG.normal(size=400)}
EVENT = 2 * SIGNALS["doubt"] + SIGNALS["drift"] + RNG.logistic(size=400) > 3
RISK = fit_risk(SIGNALS, EVENT, world="compact", about={"episodes": 4})


def test_together_they_tell_more_than_each_alone_and_as_often_as_it_happens() -> None:
    together = auroc(score=RISK(SIGNALS), event=EVENT)
    assert together > max(auroc(score=values, event=EVENT) for values in SIGNALS.values())
    assert RISK(SIGNALS).mean() == pytest.approx(EVENT.mean(), abs=1e-3)


def test_units_of_a_signal_do_not_matter() -> None:
    other = fit_risk({"doubt": 7 + 100 * SIGNALS["doubt"], "drift": SIGNALS["drift"]}, EVENT, world="compact")
    np.testing.assert_allclose(
        other({"doubt": 7 + 100 * SIGNALS["doubt"], "drift": SIGNALS["drift"]}), RISK(SIGNALS), atol=1e-4
    )


def test_no_signal_takes_suspicion_away_unless_it_is_let() -> None:
    misleading = {"drift": SIGNALS["drift"], "calm": -SIGNALS["doubt"]}
    assert min(fit_risk(misleading, EVENT, world="compact").weights) == 0
    assert min(fit_risk(misleading, EVENT, world="compact", rising=False).weights) < 0


def test_a_moment_alone_is_as_risky_as_among_others_and_unknown_where_a_signal_is() -> None:
    one = RISK({"doubt": float(SIGNALS["doubt"][3]), "drift": float(SIGNALS["drift"][3])})
    assert float(one) == RISK(SIGNALS)[3]
    assert np.isnan(RISK({"doubt": float("nan"), "drift": 0.0}))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    RISK.save(tmp_path / "risk.json")
    assert Risk.load(tmp_path / "risk.json") == RISK
    other = replace(RISK, robot="widowx")
    other.save(tmp_path / "risk.json")
    assert Risk.load(tmp_path / "risk.json") == other


def test_a_file_that_names_no_robot_speaks_of_droids_arm(tmp_path: Path) -> None:
    record = json.loads(WEIGHTS.read_text("utf-8"))
    assert record.pop("robot") == DROID_ROBOT
    (tmp_path / "risk.json").write_text(json.dumps(record), encoding="utf-8")
    assert Risk.load(tmp_path / "risk.json") == Risk.load()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bias": None}, "not a risk model"),
        ({"scales": [1.0, 0.0]}, "scales above 0"),
        ({"weights": [1.0]}, "finite numbers for each"),
        ({"limit": 1.5}, "a limit between 0 and 1"),
        ({"means": 3}, "not a risk model"),
    ],
)
def test_damaged_files_are_refused(change: dict[str, object], words: str, tmp_path: Path) -> None:
    path = tmp_path / "risk.json"
    RISK.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BadFile, match=words):
        Risk.load(path)


def test_missing_files_fields_and_signals_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no such file"):
        Risk.load(tmp_path / "none.json")
    (tmp_path / "risk.json").write_text("{}")
    with pytest.raises(BadFile, match="field 'signals' is missing"):
        Risk.load(tmp_path / "risk.json")
    with pytest.raises(UnknownName, match="drift"):
        RISK({"doubt": 1.0})


def test_what_cannot_be_fitted_is_refused() -> None:
    for values, event, words in (
        (SIGNALS, np.ones(400, bool), "some, but not all"),
        (SIGNALS, EVENT[:-1], "of one length"),
        ({"doubt": np.full(400, np.inf)}, EVENT, "finite"),
        ({"doubt": np.ones(400)}, EVENT, "'doubt' always the same"),
    ):
        with pytest.raises(InvalidInput, match=words):
            fit_risk(values, event, world="compact")
    with pytest.raises(InvalidInput, match="a limit between 0 and 1"):
        replace(RISK, limit=0.0)


def test_the_shipped_risk_speaks_of_the_embedded_world() -> None:
    shipped = Risk.load(WEIGHTS)
    assert shipped.world == "compact"
    calm = dict.fromkeys(shipped.signals, 0.0)
    alarming = {**calm, **dict.fromkeys(shipped.signals, 3.0)}
    assert float(shipped(calm)) < shipped.limit < float(shipped(alarming))
