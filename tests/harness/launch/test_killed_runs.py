"""A run that is killed again and again ends with the records of one that was not.

``BSRBENCH_KILLS=50 BSRBENCH_TRIALS=40 BSRBENCH_KILLS_FILE=FILE`` makes it the long one, and
keeps its figures in FILE; by default it is short.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.results_maintenance import examine
from bsrbench.harness.records.store import Store

ROOT = Path(__file__).resolve().parents[3]
KILLS = int(os.environ.get("BSRBENCH_KILLS", "1"))
TRIALS = int(os.environ.get("BSRBENCH_TRIALS", "4"))
KEEP = os.environ.get("BSRBENCH_KILLS_FILE")
LEFT = 4  # trials that no kill waits for, so that work is left for all kills
ROWS = 2  # each with a profile, and a training for every seed
SUITE = f"""
description = "tiny trials"
seeds = {list(range(TRIALS // ROWS - 1))}
[workload]
model = "test_vit"
image_size = 32
data = "digits"
batch = 2
[profile]
rounds = 0
[training]
steps = 2
learning_rate = 1e-3
[[methods]]
method = "full"
[[methods]]
method = "head"
"""
# What a machine does differently each time; everything else must be the same.
NOT_DETERMINISTIC = {
    *("peak_process_bytes", "residual_bytes", "joules_per_image", "data_wait_share")
} | {name for name, metric in METRICS.items() if metric.unit in ("s", "1/s")}


def start(suite, results):
    """Start a run, and return it when its trials begin."""
    command = [sys.executable, "-m", "bsrbench", "run", str(suite), "--results", str(results)]
    run = subprocess.Popen(
        [*command, "--checkpoint-seconds", "0", "--progress", "json"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in run.stderr:
        event = json.loads(line)
        if event["event"] == "progress" and event["passes"]:
            break
    return run


def kill(run, results, count, seconds):
    """Kill a run some time after it has stored so many records, all through the suite.

    A machine that has become faster since that time was chosen may be at the last trial before it
    is over: then the kill comes at once.
    """

    def stored():
        return len(list((results / "records").glob("*.json")))

    while stored() < count and run.poll() is None:
        time.sleep(0.01)
    ends = time.monotonic() + seconds
    while stored() < TRIALS - 1 and time.monotonic() < ends:
        time.sleep(0.01)
    run.kill()


def finish(run):
    """Wait for a run's end; nothing may be left of it."""
    with run:
        said = run.stderr.read()
    assert run.returncode == 0, said


def deterministic(folder):
    records, aside = Store(folder).records()
    assert aside == []
    assert len({r.key for r in records}) == len(records)
    names = sorted(set(METRICS) - NOT_DETERMINISTIC)
    return {
        r.key: [r.spec, r.outcome, r.missing, *(r.measurements.get(n) for n in names)]
        for r in records
    }


def damage(folder):
    """Return records that a kill has damaged; a sidecar without its record is none."""
    return [trouble for trouble in examine(folder) if trouble.path.parent.name == "records"]


def test_kills_at_random_moments_change_nothing(tmp_path):
    suite, results = tmp_path / "tiny.toml", tmp_path / "killed"
    suite.write_text(SUITE)
    undisturbed = start(suite, tmp_path / "undisturbed")
    began = time.monotonic()
    finish(undisturbed)
    trial_seconds = (time.monotonic() - began) / TRIALS
    draw, kills = random.Random(0), []  # noqa: S311 - no secret
    for number in range(KILLS):
        moment = draw.uniform(0, trial_seconds)
        with start(suite, results) as run:
            kill(run, results, number * (TRIALS - LEFT) // KILLS, moment)
        assert run.returncode == -signal.SIGKILL
        assert damage(results) == []
        kills.append((round(moment, 3), len(Store(results).records()[0])))
    finish(start(suite, results))

    found = deterministic(results)
    assert len(found) == TRIALS
    assert found == deterministic(tmp_path / "undisturbed")
    if KEEP:
        figures = {"trials": TRIALS, "kills": KILLS, "mean_trial_seconds": round(trial_seconds, 3)}
        figures["seconds_waited_before"] = [moment for moment, _ in kills]
        figures["records_then"] = [there for _, there in kills]
        Path(KEEP).write_text(json.dumps(figures) + "\n")
