"""A run that is killed again and again ends with the records of one that was not.

``BSRBENCH_KILLS=50 BSRBENCH_TRIALS=40`` makes it the long one; by default it is short.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness.store import Store
from harness.upkeep import examine

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("BSRBENCH_KILLS", "1"))
TRIALS = int(os.environ.get("BSRBENCH_TRIALS", "4"))
SUITE = f"""
description = "tiny trials"
seeds = {list(range(TRIALS // 2))}
[workload]
model = "test_vit"
image_size = 32
data = "digits"
batch = 2
[training]
steps = 2
learning_rate = 1e-3
[[methods]]
method = "full"
[[methods]]
method = "head"
"""


def start(suite, results):
    command = [sys.executable, "-m", "harness", "run", str(suite), "--results", str(results)]
    return subprocess.Popen(
        [*command, "--checkpoint-seconds", "0", "--progress", "quiet"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def deterministic(folder):
    records, aside = Store(folder).records()
    assert aside == []
    names = ("accuracy_top1", "final_loss", "trained_parameters")
    return {r.key: [r.outcome.status, *(r.measurements[n] for n in names)] for r in records}


def test_kills_at_random_moments_change_nothing(tmp_path):
    suite = tmp_path / "tiny.toml"
    suite.write_text(SUITE)
    undisturbed = start(suite, tmp_path / "undisturbed")
    began = time.monotonic()
    assert undisturbed.wait(timeout=600) == 0
    took = time.monotonic() - began
    killed, draw = 0, random.Random(0)  # noqa: S311 - no secret
    for _ in range(KILLS):
        run = start(suite, tmp_path / "killed")
        time.sleep(draw.uniform(0.2, 0.8) * took)
        killed += run.poll() is None
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert examine_damage(tmp_path / "killed") == []
    last = start(suite, tmp_path / "killed")
    assert last.wait(timeout=600) == 0

    assert killed > 0
    found = deterministic(tmp_path / "killed")
    assert len(found) == TRIALS
    assert found == deterministic(tmp_path / "undisturbed")


def examine_damage(folder):
    """Return records that a kill has damaged; a sidecar without its record is none."""
    if not (folder / "records").is_dir():
        return []
    return [trouble for trouble in examine(folder) if trouble.path.parent.name == "records"]
