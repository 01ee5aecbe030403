"""Processes that work for a command: one that is killed is named, and what was finished stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from vap_sim.errors import WorkerLost
from vap_sim.workers import lost_workers_named


def test_a_lost_worker_is_named_with_its_work_and_what_to_do() -> None:
    with (
        pytest.raises(WorkerLost, match=r"under way: folding\. Go on\.") as lost,
        lost_workers_named("folding", "Go on."),
    ):
        raise BrokenProcessPool("gone")
    assert lost.value.under_way == ("folding",)


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), lost_workers_named("folding", "Go on."):
        raise KeyError("x")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are found by /proc, which only Linux has")
def test_a_recording_whose_worker_is_killed_says_so_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("pybullet")
    words = [sys.executable, "-m", "vap_sim", "record", "--out", str(tmp_path), "--episodes", "30", "--steps", "2"]
    words += ["--workers", "1", "--no-pictures"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as running:
        finished = _first_file(tmp_path, running)
        os.kill(_worker(running.pid), signal.SIGKILL)
        told = running.communicate(timeout=60)[1]
    assert running.returncode == 1
    assert "a worker process was killed" in told and "the same command goes on" in told and "Traceback" not in told
    assert finished.stat().st_size


def _first_file(folder: Path, running: subprocess.Popen[str]) -> Path:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and running.poll() is None:
        if found := sorted(folder.glob("*.vap.npz")):
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"no episode came: {running.poll()}")


def _worker(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    workers = [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    assert len(workers) == 1, workers
    return workers[0]
