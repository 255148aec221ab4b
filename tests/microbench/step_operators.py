"""Where the time of a training step goes, by kind of operator, relative to full fine-tuning.

    python -m tests.microbench.step_operators --rounds 9 > results/microbench/operators.md

DeiT-S at 224 px, batch 8, fp32, SGD with momentum. The methods take turns in one process, a step
each, under torch's profiler, which slows a step a little. The time of an operator is that of the
thread which called it, without the operators that it called. The floor is what a step would take if
its products and its attention were as fast per multiply-add as those of full fine-tuning, and all
the rest took no time.
"""

import argparse
import statistics
import sys
import time
from collections import Counter

import torch
from torch.profiler import ProfilerActivity, profile

from bsrbench import methods
from bsrbench.harness.meters.step_flops import StepFlops
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.harness.training.training_step import training_step

MODEL = {"model": "deit_small_patch16_224", "classes": 100, "image_size": 224, "batch": 8}
METHODS = ("full", "bsr", "int8", "bsr+int8", "checkpoint", "bsr+checkpoint")
PRODUCTS, ATTENTION, ACTIVATION, PACKING, COPIES, OPTIMIZER, ADDITIONS, OUTSIDE = (
    "products",
    "attention",
    "GELU and norms",
    "own kernels",
    "copies",
    "optimizer",
    "other operators",
    "outside operators",
)
# Part of an operator's name -> its kind; the first that fits counts.
KINDS = {
    "flash_attention": ATTENTION,
    "bsrbench::": PACKING,
    "_fused_": OPTIMIZER,
    "_foreach": OPTIMIZER,
    "addmm": PRODUCTS,
    "::mm": PRODUCTS,
    "bmm": PRODUCTS,
    "convolution": PRODUCTS,
    "softmax": ATTENTION,
    "gelu": ACTIVATION,
    "layer_norm": ACTIVATION,
    "copy_": COPIES,
    "cat": COPIES,
    "zero_": COPIES,
    "fill_": COPIES,
    "embedding": COPIES,
    "index": COPIES,
}
SHOWN = (PRODUCTS, ATTENTION, ACTIVATION, PACKING, COPIES, ADDITIONS, OPTIMIZER, OUTSIDE)


def kind_of(operator: str) -> str:
    """Return the kind of an operator by its name."""
    return next((kind for part, kind in KINDS.items() if part in operator), ADDITIONS)


def seconds_by_kind(step) -> Counter[str]:
    """Run a step under the profiler; return the seconds of each kind."""
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as watched:
        began = time.perf_counter()
        step()
        whole = time.perf_counter() - began
    found: Counter[str] = Counter()
    for event in watched.key_averages():
        found[kind_of(event.key)] += event.self_cpu_time_total / 1e6
    found[OUTSIDE] = whole - found.total()
    return found


def ready(method: str, threads: int):
    """Return a training step of a method that has run twice, and its FLOPs."""
    spec = TrialSpec(method=method, workload=Workload(**MODEL, threads=threads), profile=Profile())
    job, batch = job_and_batch(spec, methods.load)

    def step() -> None:
        training_step(job, *batch)

    step()
    with StepFlops() as flops:
        step()
    return step, sum(flops.by_phase.values())


def shares(names: list[str], rounds: int, threads: int) -> tuple[dict, dict, float]:
    """Return each method's shares of full's step by round, its FLOPs, and full's seconds."""
    steps, flop = {}, {}
    for name in names:
        steps[name], flop[name] = ready(name, threads)
    found: dict[str, list[Counter[str]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, step in steps.items():
            found[name].append(seconds_by_kind(step))
    middle = statistics.median(part.total() for part in found["full"])
    return found, flop, middle


def lines_of(names: list[str], rounds: int, threads: int) -> list[str]:
    """Return the rows of the Markdown table."""
    found, flop, whole = shares(names, rounds, threads)

    def middle(name: str, kind: str) -> float:
        return statistics.median(part[kind] for part in found[name]) / whole

    multiplied = sum(middle("full", kind) for kind in (PRODUCTS, ATTENTION))
    rows = []
    for name in names:
        total = statistics.median(part.total() for part in found[name]) / whole
        floor = multiplied * flop[name] / flop["full"]
        cells = [f"{middle(name, kind):.3f}" for kind in SHOWN]
        rows.append(
            f"| {name} | {total:.3f} | {flop[name] / flop['full']:.3f} | {floor:.3f} | "
            + " | ".join(cells)
            + " |"
        )
    return rows


def main() -> None:
    """Profile the steps and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    asked = parser.parse_args()
    names = ["full", *(name for name in asked.methods if name != "full")]
    rows = lines_of(names, asked.rounds, asked.threads)
    command = f"python -m tests.microbench.step_operators {' '.join(sys.argv[1:])}".strip()
    columns = ["method", "step", "FLOPs", "floor", *SHOWN]
    out = [
        "# Where the time of a step goes",
        "",
        "DeiT-S at 224 px, batch 8, fp32, SGD with momentum. All numbers are relative to full's",
        "step. The floor is the time of the products and of attention, if they were as fast per",
        "multiply-add as those of full fine-tuning, and all the rest took no time.",
        "",
        f"Median of {asked.rounds} steps, {asked.threads} threads; torch {torch.__version__}; made",
        f"by `{command}`.",
        "",
        f"| {' | '.join(columns)} |",
        f"| --- |{' ---: |' * (len(columns) - 1)}",
        *rows,
        "",
    ]
    sys.stdout.write("\n".join(out))


if __name__ == "__main__":
    main()
