"""Datasets that tests of several files read, made once a file, and copies that a test may damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LeRobot dataset of this package's."""
    pytest.importorskip("pyarrow", reason="LeRobot's tables are Parquet")
    from tests.data.lerobot_sets import EXACT, takes
    from vap_sim.data.lerobot_write import write_lerobot

    return write_lerobot(tmp_path_factory.mktemp("set") / "a dataset", takes(), EXACT)


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of version 2.1."""
    pytest.importorskip("pyarrow", reason="LeRobot's tables are Parquet")
    from tests.data.lerobot_folders import write_v21
    from tests.data.lerobot_sets import LENGTHS

    return write_v21(tmp_path_factory.mktemp("older") / "v21", LENGTHS)


@pytest.fixture
def copied(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "a copy")


@pytest.fixture
def older_copied(older: Path, tmp_path: Path) -> Path:
    return shutil.copytree(older, tmp_path / "an old copy")
