"""How much the time of one and the same training step varies on this machine.

    python -m tests.microbench.step_noise --seconds 40 > results/times/step-noise.md

A step of full fine-tuning from the suite ``quick`` runs again and again in one process, which is
scheduled as usual. The threads wait by spinning, or, in a second process, by sleeping. CPU time is
the time of all threads. The table says how many pairs of steps the ratio of two such rows would
need for a half width of 5 and 2 % at 95 %, if the steps of both varied like this, independently,
and their means were compared.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time

import numpy as np
import torch

from bsrbench import methods
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.harness.training.training_step import training_step

WORKLOAD = {"model": "vit_small_patch14_dinov2", "image_size": 56, "batch": 8, "threads": 2}
WARM_UP = 10
SLEEPING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
NORMAL = 1.96
WIDTHS = (0.05, 0.02)
HEADING = (
    "| time | steps | median [10 %, 90 %] | least | deviation of the logarithm | correlation with "
    "the next step | pairs for ±5 % | pairs for ±2 % |"
)


def samples(seconds: float) -> list[tuple[float, float]]:
    """Return wall-clock and CPU seconds of each step within ``seconds``."""
    workload = Workload(**WORKLOAD, classes=10, optimizer="adamw")
    spec = TrialSpec(method="full", workload=workload, profile=Profile())
    job, batch = job_and_batch(spec, methods.load)
    for _ in range(WARM_UP):
        training_step(job, *batch)
    found, ends = [], time.perf_counter() + seconds
    while time.perf_counter() < ends:
        wall, used = time.perf_counter(), time.process_time()
        training_step(job, *batch)
        found.append((time.perf_counter() - wall, time.process_time() - used))
    return found


def row(name: str, seconds: np.ndarray) -> str:
    """Return a row of the Markdown table."""
    logs = np.log(seconds)
    low, middle, high = (1e3 * part for part in np.quantile(seconds, [0.1, 0.5, 0.9]))
    after = np.corrcoef(logs[:-1], logs[1:])[0, 1]
    pairs = [math.ceil(2 * (NORMAL * logs.std() / width) ** 2) for width in WIDTHS]
    return (
        f"| {name} | {len(seconds)} | {middle:.0f} ms [{low:.0f}, {high:.0f}] "
        f"| {1e3 * min(seconds):.0f} ms | {logs.std():.3f} | {after:.2f} "
        f"| {pairs[0]} | {pairs[1]} |"
    )


def main() -> None:
    """Print the table, or with ``--raw`` the samples of this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--raw", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.raw:
        json.dump(samples(asked.seconds), sys.stdout)
        return
    rows = []
    for waits, variables in (("spin", {}), ("sleep", SLEEPING)):
        command = [sys.executable, "-m", __spec__.name, "--raw", "--seconds", str(asked.seconds)]
        made = subprocess.run(
            command, env=os.environ | variables, capture_output=True, check=True, text=True
        )
        times = np.array(json.loads(made.stdout)).T
        rows += [
            row(f"{kind}, threads {waits}", part)
            for kind, part in zip(("wall clock", "CPU time"), times, strict=True)
        ]
    asked_for = " ".join(sys.argv[1:])
    lines = [
        "# How much one step varies",
        "",
        "Full fine-tuning as in the suite `quick`, the same step again and again, two threads,",
        f"{asked.seconds:.0f} s per process, nothing else running; torch {torch.__version__}.",
        f"Made by `python -m tests.microbench.step_noise {asked_for}`.",
        "",
        HEADING,
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *rows,
        "",
    ]
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
