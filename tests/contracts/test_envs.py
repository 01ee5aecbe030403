"""The shipped environments against the contract."""

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


class TestWorldEnv(EnvContract, EnvRefusals, EnvRendering):
    subject = EnvSubject("VAPWorld-DROID-v0", {"world": "kinematic"})


class TestBridgeWorld(EnvContract, EnvRefusals, EnvRendering):
    subject = EnvSubject("VAPWorld-Bridge-v0", task="stack")


class TestRT1World(EnvContract, EnvRefusals, EnvRendering):
    subject = EnvSubject("VAPWorld-RT1-v0", task="open_drawer", intervals=4)


class TestEgoVidWorld(EnvContract, EnvRefusals, EnvRendering):
    subject = EnvSubject("VAPWorld-EgoVid-v0", task="tilt")


@pytest.mark.skipif(not WEIGHTS.exists(), reason="the compact world has no weights here")
class TestDefaultWorld:
    """What costs a network, of one view: the whole contract is the kinematic world's, two views have a file of their
    own."""

    def test_gymnasium_checker_has_no_objection_and_no_warning(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(gymnasium.make("VAPWorld-DROID-v0", views=("exterior_1",)).unwrapped, skip_render_check=True)

    def test_rows_equal_single_environments_and_forks_go_on_alike(self) -> None:
        rows = gymnasium.make_vec("VAPWorld-DROID-v0", num_envs=2, views=("exterior_1",))
        env: Any = gymnasium.make("VAPWorld-DROID-v0", views=("exterior_1",)).unwrapped
        rows.reset(seed=3)
        env.reset(seed=4)
        assert env.get_state().nbytes <= 2**20
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
        assert np.array_equal(again["image"], alone["image"])


class _Twin(EnvContract, EnvRefusals, EnvRendering):
    @pytest.fixture(autouse=True)
    def _needs_pybullet(self) -> None:
        pytest.importorskip("pybullet", reason="pybullet is not installed")


class TestTwinEnv(_Twin):
    subject = EnvSubject("VAPTwin-DROID-v0", fork_seconds=5e-3)  # the engine alone needs more than one millisecond


class TestBridgeTwin(_Twin):
    subject = EnvSubject("VAPTwin-Bridge-v0", task="stack", fork_seconds=5e-3)


class TestRT1Twin(_Twin):
    subject = EnvSubject("VAPTwin-RT1-v0", task="open_drawer", fork_seconds=5e-3, intervals=4)


class TestEgoVidTwin(_Twin):
    subject = EnvSubject("VAPTwin-EgoVid-v0", task="tilt", fork_seconds=5e-3)
