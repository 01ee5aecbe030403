"""Failures in the shared suites show the values they compared, as those in test files do."""

import pytest

SUITES = ("env", "env_refusals", "env_rendering", "env_subject", "policy", "world_model")

pytest.register_assert_rewrite(*(f"tests.contracts.{name}" for name in SUITES))
