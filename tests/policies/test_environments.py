"""Environments by id: what they take, where they come from, and what those of others must show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import vap_sim  # noqa: F401 - registers the environments
from vap_sim.envs.start import load_start
from vap_sim.errors import InvalidInput, UnknownName, Unsupported
from vap_sim.policies.environments import accepted, check_options, environment_spec, takes
from vap_sim.policies.episodes import Job, play, rehearse
from vap_sim.policies.judge import CallableJudge, Verdict

MODULE = "import gymnasium\ngymnasium.register('OfAModule-v0', entry_point='somebody:make')\n"


class Seen(gymnasium.Env[Any, Any]):
    """Shows a picture, and tells nothing; takes no task."""

    observation_space = gymnasium.spaces.Dict({"image": gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)})
    action_space = gymnasium.spaces.Box(-1, 1, (8,))

    def __init__(self, shade: int = 7) -> None:
        self.picture = {"image": np.full((8, 8, 3), shade, np.uint8)}

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        return self.picture, {}

    def step(self, _action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.picture, 0.0, False, False, {}


@pytest.fixture
def seen() -> Iterator[str]:
    gymnasium.register("Seen-v0", entry_point=Seen)
    gymnasium.register("Anything-v0", entry_point=lambda **options: Seen())
    yield "Seen-v0"
    del gymnasium.registry["Seen-v0"], gymnasium.registry["Anything-v0"]


def test_what_environments_take(seen: str) -> None:
    assert accepted(seen) == {"shade"} and not takes(seen, "task")
    assert takes("VAPWorld-DROID-v0", "task") and takes("VAPTwin-DROID-v0", "task")
    assert accepted("Anything-v0") is None and takes("Anything-v0", "task")
    check_options("Anything-v0", {"whatever": 1})
    with pytest.raises(UnknownName, match=r"argument of environment 'Seen-v0' 'shades'. Did you mean 'shade'"):
        check_options(seen, {"shades": 1})


def test_an_id_may_name_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module_with_an_environment.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownName, match="unknown environment 'OfAModule-v0'"):
        environment_spec("OfAModule-v0")
    assert environment_spec("module_with_an_environment:OfAModule-v0").id == "OfAModule-v0"
    del gymnasium.registry["OfAModule-v0"]
    with pytest.raises(Unsupported, match="module 'nowhere' cannot be imported"):
        environment_spec("nowhere:OfAModule-v0")


def test_unknown_ids_are_answered_with_ours_not_with_games() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'VAPTwin-DROID-v0'") as stop:
        environment_spec("VAPTwin-DROID")
    assert "CartPole" not in str(stop.value)
    assert environment_spec("CartPole-v1").id == "CartPole-v1"


def test_an_environment_without_task_or_joints_plays_unless_a_judge_is_asked(seen: str) -> None:
    job = Job(env_id=seen, policy="random", task="reach", seeds=(1, 2), steps=2)
    assert [one.trial.end for one in play(job)] == ["time limit"] * 2
    with pytest.raises(InvalidInput, match="judge: given none, expected one: environment 'Seen-v0'"):
        rehearse(job)
    judge = CallableJudge(lambda *_: Verdict(True))
    judged = Job(env_id=seen, policy="random", task="reach", seeds=(1,), starts=(load_start("reach_00"),), judge=judge)
    with pytest.raises(InvalidInput, match=r"info of environment 'Seen-v0': given names .* expected 'joints'"):
        rehearse(judged)
    looking = Job(**{**judged.__dict__, "policy": "idle"})
    with pytest.raises(InvalidInput, match=r"'Seen-v0': given names \['image'\], expected 'joint_position' among"):
        rehearse(looking)
