"""Time training steps of this checkout against those of another one, in alternating processes.

    python -m tests.microbench.two_checkouts OTHER_CHECKOUT --optimizers sgd adamw

Each process takes the median of a few whole training steps of full fine-tuning of DeiT-S, 224 px,
batch 8. The ratio of a pair of processes is this checkout's time over the other one's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STEPS = """
import json, sys, time, torch
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.harness.training.training_step import set_learning_rate, training_step
from bsrbench.methods import load
torch.set_num_threads(2)
names, steps = json.loads(sys.argv[1]), int(sys.argv[2])
medians = {}
for name in names:
    workload = Workload(model="deit_small_patch16_224", batch=8, optimizer=name, device="cpu",
                        threads=2)
    spec = TrialSpec(method="full", workload=workload, profile=Profile())
    job, batch = job_and_batch(spec, load)
    set_learning_rate(job, 1e-6)
    seconds = []
    for _ in range(steps + 2):
        began = time.perf_counter()
        training_step(job, *batch)
        seconds.append(time.perf_counter() - began)
    medians[name] = sorted(seconds[2:])[steps // 2]
print(json.dumps(medians))
"""


def medians(checkout: Path, names: list[str], steps: int) -> dict[str, float]:
    """Return the median time of a step of each optimizer, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", STEPS, json.dumps(names), str(steps)],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def row(name: str, pairs: list[tuple[float, float]]) -> str:
    """Return a row of the Markdown table, of pairs of this checkout's time and the other one's."""
    ratios = [ours / theirs for ours, theirs in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4)
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    shown = f"{middle:.3f} [{low:.3f}, {high:.3f}]"
    return f"| {name} | {theirs:.3f} s | {ours:.3f} s | {shown} | {len(pairs)} |"


def main() -> None:
    """Time pairs of processes, each checkout first in every second pair, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path)
    parser.add_argument("--optimizers", nargs="+", default=["sgd", "adamw"])
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5)
    asked = parser.parse_args()
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in asked.optimizers}
    for number in range(asked.pairs):
        order = [ROOT, asked.other.resolve()]
        of = {
            checkout: medians(checkout, asked.optimizers, asked.steps)
            for checkout in (order if number % 2 else order[::-1])
        }
        for name in asked.optimizers:
            pairs[name].append((of[order[0]][name], of[order[1]][name]))
    lines = [
        "| optimizer | before | now | ratio, median [quartiles] | pairs |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(row(name, timed) for name, timed in pairs.items()),
        "",
    ]
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
