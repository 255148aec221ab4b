"""Does LISA take as long with sets of blocks that are drawn as with those that are measured?

    python -m tests.microbench.lisa_sets --rounds 5 > results/microbench/lisa-sets.md

DeiT-S at 224 px, batch 8, fp32, SGD with momentum. A profile times LISA in neighbouring blocks, so
that each block is in equally many sets. Here steps in these sets and in sets drawn as a training
draws them take turns in one process, in an order drawn anew in each round.
"""

import argparse
import random
import statistics
import sys
import time

import torch

from bsrbench import methods
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.harness.training.training_step import training_step

MODEL = {"model": "deit_small_patch16_224", "classes": 100, "image_size": 224, "batch": 8}
DRAWN = 10


def round_seconds(rounds: int, threads: int):
    """Return the seconds of a step in each measured and each drawn set, a list per round."""
    spec = TrialSpec(method="lisa", workload=Workload(**MODEL, threads=threads), profile=Profile())
    job, batch = job_and_batch(spec, methods.load)
    method, model, current = job.method, job.model, job.current
    measured = method.states(model)
    drawn = [method.state_at(number * method.steps, 0, model) for number in range(DRAWN)]
    current.keep_all()
    order = [*((0, state) for state in measured), *((1, state) for state in drawn)]
    for _, state in order:  # the first step in a state makes the optimizer's state
        current.enter(state)
        training_step(job, *batch)
    found: list[tuple[list[float], list[float]]] = []
    for number in range(rounds):
        random.Random(number).shuffle(order)  # noqa: S311 - no secret
        found.append(([], []))
        for kind, state in order:
            current.enter(state)
            began = time.perf_counter()
            training_step(job, *batch)
            found[-1][kind].append(time.perf_counter() - began)
    return found, drawn


def main() -> None:
    """Time the steps and print the ratio of the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    found, drawn = round_seconds(asked.rounds, asked.threads)
    ratios = [statistics.fmean(ours) / statistics.fmean(shown) for shown, ours in found]
    quartiles = statistics.quantiles(ratios, n=4)
    command = f"python -m tests.microbench.lisa_sets {' '.join(sys.argv[1:])}".strip()
    out = [
        "# LISA in drawn sets of blocks, relative to the measured ones",
        "",
        "DeiT-S at 224 px, batch 8, fp32, SGD with momentum. The mean time of a step in sets that",
        "were drawn as in a training, divided by that in the sets that a profile measures.",
        "",
        f"Drawn: {', '.join(' and '.join(map(str, state)) for state in drawn)}.",
        "",
        f"Median of {asked.rounds} rounds: {quartiles[1]:.3f}, with quartiles "
        + " and ".join(f"{quartiles[part]:.3f}" for part in (0, 2))
        + f"; {asked.threads} threads;",
        f"torch {torch.__version__}; made by `{command}`.",
        "",
    ]
    sys.stdout.write("\n".join(out))


if __name__ == "__main__":
    main()
