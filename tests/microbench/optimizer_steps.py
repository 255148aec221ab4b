"""Time a step of every optimizer on the parameters of DeiT-S, in turns in one process.

    python -m tests.microbench.optimizer_steps --rounds 15 > results/times/optimizer-steps.md

Gradients are random numbers. The first step of each optimizer is not timed: it makes the state,
and a refresh of GaLore belongs to it.
"""

import argparse
import statistics
import sys
import time

import timm
import torch

from bsrbench.harness.spec.optimizer_names import OPTIMIZERS
from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.harness.training.optimizers import make_optimizers

MODEL = "deit_small_patch16_224"
HEADING = "| optimizer | step, median [quartiles] | least |"


def optimizer_of(name: str) -> torch.optim.Optimizer:
    """Return an optimizer that has made its first step, with random gradients."""
    model = timm.create_model(MODEL)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator) * 1e-3
    workload = Workload(model=MODEL, batch=8, optimizer=name, weight_decay=0.01)
    (optimizer,) = make_optimizers(model, workload)
    for group in optimizer.param_groups:
        group["lr"] = 1e-5
    optimizer.step()
    return optimizer


def step_seconds(names: list[str], rounds: int) -> dict[str, list[float]]:
    """Return the times of steps of each optimizer."""
    optimizers = {name: optimizer_of(name) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, optimizer in optimizers.items():
            began = time.perf_counter()
            optimizer.step()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def row(name: str, seconds: list[float]) -> str:
    """Return a row of the Markdown table."""
    low, middle, high = (1e3 * part for part in statistics.quantiles(seconds, n=4))
    least = 1e3 * min(seconds)
    return f"| {name} | {middle:.1f} ms [{low:.1f}, {high:.1f}] | {least:.1f} ms |"


def main() -> None:
    """Time the steps and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS), choices=OPTIMIZERS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    seconds = step_seconds(asked.optimizers, asked.rounds)
    command = f"python -m tests.microbench.optimizer_steps {' '.join(sys.argv[1:])}".strip()
    about = (
        f"A step of each optimizer on the parameters of DeiT-S, in turns, {asked.rounds} rounds, "
        f"{asked.threads} threads; torch {torch.__version__}. Made by `{command}`."
    )
    lines = [
        about,
        "",
        HEADING,
        "| --- | ---: | ---: |",
        *(row(name, times) for name, times in seconds.items()),
        "",
    ]
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
