"""The command `demo`: two episodes in both worlds, each to its end and not a step further."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import av
import pytest

from vap_sim.cli import main
from vap_sim.commands import demo


def test_an_episode_is_shown_until_its_task_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The expert needs fewer steps than it may take; no environment is stepped after its end, which would warn."""
    pytest.importorskip("pybullet")
    log = Path(demo.__file__).parent / "shipped_log"
    told = ["demo", "--world", "kinematic", "--out", str(tmp_path), "--steps", "33", "--replay", str(log)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert main(told) == 0
    scripted, replayed = json.loads((tmp_path / "demo.json").read_text())["episodes"]
    assert scripted["twin_success"] is True and 20 < scripted["steps"] < 33
    assert replayed["twin_success"] is None and replayed["steps"] == 33
    assert set(scripted["psnr_db"]) == {"1", "10", "25"}
    with av.open(str(tmp_path / "demo.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == scripted["steps"] + 33
    assert "scripted pick and place" in capsys.readouterr().out
