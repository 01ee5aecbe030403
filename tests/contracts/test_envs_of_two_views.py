"""Environments of two views against the contract, as they are made by name: no model need be built by hand."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import vap_sim  # noqa: F401 - registers the environments
from tests.contracts.env import EnvContract
from tests.contracts.env_refusals import EnvRefusals
from tests.contracts.env_rendering import EnvRendering
from tests.contracts.env_subject import EnvSubject
from vap_sim.models.compact.model import WEIGHTS

VIEWS = ("exterior_1", "exterior_2")


class TestWorldEnvOfTwoViews(EnvContract, EnvRefusals, EnvRendering):
    subject = EnvSubject("VAPWorld-DROID-v0", {"world": "kinematic", "views": VIEWS})


class TestWorldEnvOfOneView(EnvContract):
    subject = EnvSubject("VAPWorld-DROID-v0", {"world": "kinematic", "views": ("exterior_1",)})


@pytest.mark.skipif(not WEIGHTS.exists(), reason="the compact world has no weights here")
class TestDefaultWorld:
    """What costs a network: the whole contract is the kinematic world's."""

    @pytest.mark.parametrize("views", (VIEWS, ("exterior_1", "wrist")))
    def test_gymnasium_checker_has_no_objection_and_no_warning(self, views: tuple[str, ...]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(gymnasium.make("VAPWorld-DROID-v0", views=views).unwrapped, skip_render_check=True)

    @pytest.mark.parametrize("views", (VIEWS, ("exterior_1", "wrist")))
    def test_rows_equal_single_environments_and_forks_go_on_alike(self, views: tuple[str, ...]) -> None:
        rows = gymnasium.make_vec("VAPWorld-DROID-v0", num_envs=2, views=views)
        env: Any = gymnasium.make("VAPWorld-DROID-v0", views=views).unwrapped
        rows.reset(seed=3)
        seen, _ = env.reset(seed=4)
        assert {"image", f"image_{views[1]}"} <= seen.keys()
        assert env.get_state().nbytes < 10**6
        actions = np.random.default_rng(0).uniform(-0.2, 0.2, (3, 2, 8)).astype(np.float32)
        states = []
        for action in actions:
            states.append(env.get_state())
            together, alone = rows.step(action)[0], env.step(action[1])[0]
            for key in alone:
                assert np.array_equal(together[key][1], alone[key])
        env.set_state(states[1])
        for action in actions[1:]:
            again = env.step(action[1])[0]
        for key in alone:
            assert np.array_equal(again[key], alone[key])

    @pytest.mark.parametrize("views", (VIEWS, ("exterior_1", "wrist")))
    def test_every_signal_of_trust_is_told(self, views: tuple[str, ...]) -> None:
        env = gymnasium.make("VAPWorld-DROID-v0", views=views, trust=True)
        env.reset(seed=0)
        info = env.step(env.action_space.sample())[4]
        assert 0 <= info["prompt_agreement"] <= 1 and info["dream_drift"] >= 0
        assert info["dream_doubt"] >= 0 and 0 < info["dream_risk"] < 1

    @pytest.mark.parametrize("moved_by", ["sight", "touch"])
    def test_a_first_view_that_moves_is_doubted_in_space_alone(self, moved_by: str) -> None:
        options = {"moved_by": moved_by}
        env = gymnasium.make("VAPWorld-DROID-v0", views=("wrist", "exterior_1"), trust=True, world_options=options)
        for info in (env.reset(seed=0)[1], env.step(env.action_space.sample())[4]):
            assert "dream_drift" in info
            for name in ("dream_doubt", "dream_risk"):
                assert (name in info) == (moved_by == "touch")
