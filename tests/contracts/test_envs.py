"""The shipped environments against the contract."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

import vap_sim  # noqa: F401 - registers the environments
from tests.contracts.env import EnvContract


class TestWorldEnv(EnvContract):
    name = "VAPWorld-DROID-v0"
    arguments: ClassVar[dict[str, Any]] = {"world": "kinematic"}


class TestTwinEnv(EnvContract):
    name = "VAPTwin-DROID-v0"
    fork_seconds = 5e-3  # the engine alone needs more than one millisecond

    @pytest.fixture(autouse=True)
    def _needs_pybullet(self) -> None:
        pytest.importorskip("pybullet", reason="pybullet is not installed")
