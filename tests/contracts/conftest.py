"""Failures in the shared suites show the values they compared, as those in test files do."""

import pytest

pytest.register_assert_rewrite("tests.contracts.world_model", "tests.contracts.env", "tests.contracts.policy")
