"""Commands that otherwise only whole pages of work would run: cloning an expert, serving a policy."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vap_sim.cli import main
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.policy import as_batch, brief
from vap_sim.policies.registry import load_policy

ROOT = Path(__file__).parents[1]


def test_clone_writes_a_policy_that_acts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pybullet", reason="the expert shows what it does in the twin (extra twin)")
    out = tmp_path / "reach.safetensors"
    few = ["--episodes", "1", "--steps", "2", "--threads", "1"]
    assert main(["clone", "--out", str(out), "--task", "reach", *few]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    policy = brief(load_policy(f"bc@{out}", PolicyContext(task="reach")), {"instruction": "move the gripper"})
    seen = {
        "image": np.zeros((128, 128, 3), np.uint8),
        "joint_position": np.zeros(7, np.float32),
        "gripper_position": np.zeros(1, np.float32),
    }
    action, _ = policy.act(as_batch(seen), policy.reset(1, seed=0))
    assert action.shape == (1, 8) and np.isfinite(action).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--data and --task: given (None, None), expected one of the two"),
        (["--task", "reach", "--steps", "0"], "--threads and --steps: given (2, 0)"),
        (["--task", "raech"], "Did you mean 'reach'"),
    ],
)
def test_clone_refuses_by_name(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pybullet", reason="the expert shows what it does in the twin (extra twin)")
    assert main(["clone", "--out", str(tmp_path / "p.safetensors"), *options]) == 1
    assert words in capsys.readouterr().err


def test_serve_policy_says_where_and_ends_with_130_when_interrupted(tmp_path: Path) -> None:
    pytest.importorskip("websockets", reason="websockets is not installed (extra remote)")
    told = [sys.executable, "-m", "vap_sim", "serve-policy", "--policy", "idle", "--port", "0"]
    server = subprocess.Popen(
        told,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # A run in the background of a shell ignores interrupts, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert re.fullmatch(r"serving idle at ws://127\.0\.0\.1:\d+; interrupt to stop\n", line)
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=60)
    finally:
        server.kill()
    assert server.returncode == 130 and "interrupted" in errors
