"""Step time and peak memory of methods relative to full fine-tuning: ``tox -e microbench``.

DeiT-S at 224 px, batch 8, fp32, SGD with momentum, two threads. Each timed step follows a step of
full fine-tuning, and the ratio is taken of the two; the peak is counted, above the state before
the step, weight gradients included.
"""

import statistics
import time

import pytest
import torch

import methods
from harness.counted_step import counted_step
from harness.meters.counted import storage_bytes
from harness.profiler.step import job_and_batch
from harness.spec import Profile, TrialSpec, Workload
from harness.training import logits, optimizer_step
from methods.parts import kernels

ROUNDS = 13
# Method, micro-batch, kernels, goals of time and peak: what the project set out to reach.
ROWS = [
    ("full", 1, "", 1.0, 0.31),
    ("bsr", None, "", 0.29, 0.20),
    ("int8", None, "compiled", 1.10, 0.32),
    ("int8", None, "eager", 1.25, 0.32),
    ("sparse", None, "compiled", 1.25, 0.27),
    ("checkpoint", None, "", 1.20, 0.28),
    ("bsr+int8", None, "compiled", 0.33, 0.09),
    ("bsr+checkpoint", None, "", 0.36, 0.105),
    ("int4", None, "compiled", None, None),
    ("evit", None, "", None, None),
]


def ready(method, micro_batch=None, batch=8):
    """Return a job and a batch on which one step has been done."""
    workload = Workload(
        model="deit_small_patch16_224",
        classes=100,
        image_size=224,
        batch=batch,
        micro_batch=micro_batch,
        threads=2,
    )
    job, images = job_and_batch(
        TrialSpec(method=method, workload=workload, profile=Profile()), methods.load
    )
    optimizer_step(job, *images)
    return job, images


def peak_above_start(job, batch):
    """Return the counted peak of a step above what is held before it."""
    return counted_step(job, batch).peak - storage_bytes([*job.held(), *batch])


@pytest.fixture(scope="module")
def full():
    job, batch = ready("full")
    return job, batch, peak_above_start(job, batch)


def use(way, monkeypatch):
    """Make kernels run the way asked for; they must not fall back."""
    monkeypatch.setenv(kernels.SETTING, way or "auto")
    kernels.chosen.cache_clear()


@pytest.mark.parametrize(("method", "micro_batch", "way", "time_goal", "peak_goal"), ROWS)
def test_step(method, micro_batch, way, time_goal, peak_goal, full, benchmark, monkeypatch):
    use(way, monkeypatch)
    job, batch = ready(method, micro_batch)
    full_job, full_batch, full_peak = full
    reference = []

    def one_of_full():
        began = time.perf_counter()
        optimizer_step(full_job, *full_batch)
        reference.append(time.perf_counter() - began)

    benchmark.pedantic(
        lambda: optimizer_step(job, *batch), setup=one_of_full, rounds=ROUNDS, warmup_rounds=1
    )
    ratios = [a / b for a, b in zip(benchmark.stats.stats.data, reference[-ROUNDS:], strict=True)]
    benchmark.extra_info |= {
        "method": method + (f", micro-batch {micro_batch}" if micro_batch else ""),
        "kernels": way,
        "ratios": ratios,
        "time_quartiles": statistics.quantiles(ratios, n=4),
        "time_goal": time_goal,
        "peak_ratio": peak_above_start(job, batch) / full_peak,
        "peak_goal": peak_goal,
    }


def test_evaluation_of_bsr_at_batch_32(benchmark):
    jobs = {name: ready(name, micro_batch=8, batch=32) for name in ("full", "bsr")}
    reference = []
    for job, _ in jobs.values():
        job.model.eval()

    def one_of_full():
        job, (images, _) = jobs["full"]
        began = time.perf_counter()
        logits(job, images)
        reference.append(time.perf_counter() - began)

    job, (images, _) = jobs["bsr"]
    benchmark.pedantic(
        lambda: logits(job, images), setup=one_of_full, rounds=ROUNDS, warmup_rounds=1
    )
    ratios = [a / b for a, b in zip(benchmark.stats.stats.data, reference[-ROUNDS:], strict=True)]
    benchmark.extra_info |= {
        "method": "bsr, evaluation at batch 32",
        "kernels": "",
        "ratios": ratios,
        "time_quartiles": statistics.quantiles(ratios, n=4),
        "time_goal": 0.5,
        "peak_ratio": None,
        "peak_goal": None,
    }
    assert torch.get_num_threads() == 2
