"""Every optimizer in every kind of training, against a slow loop, and its predicted memory."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bsrbench.harness.predict.step_cost import step_cost
from bsrbench.harness.profiler.counted_step import counted_step
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.spec.optimizer_names import OPTIMIZERS
from bsrbench.harness.training.job import begin
from bsrbench.harness.training.optimizers import make_optimizers
from bsrbench.harness.training.resume import Checkpoint, Progress
from bsrbench.harness.training.training_step import set_learning_rate, training_step
from bsrbench.methods import load

RATE = 0.01
FIRST_SCALE = 2.0**16
FAR = 1e6  # larger than fp16's largest number: the forward pass overflows
SMALL = {"rank": 8, "refresh_steps": 2}
OPTIONS = {"galore": SMALL, "apollo": SMALL, "apollo-mini": {"refresh_steps": 2}}


@pytest.fixture
def batches():
    """Return four batches of images [4, 3, 64, 64] and labels [4]."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 4, 3, 64, 64, generator=generator)
    return [(part, torch.tensor([0, 1, 2, 3])) for part in images]


@pytest.fixture
def start(make_spec):
    """Return a maker of jobs of an optimizer, with the learning rate set."""

    def make(optimizer, rate=RATE, **workload):
        options = OPTIONS.get(optimizer)
        spec = make_spec(
            optimizer=optimizer, optimizer_options=options, **{"weight_decay": 0.1} | workload
        )
        job = begin(spec, load)
        set_learning_rate(job, rate)
        return job

    return make


def train(job, batches, **settings):
    return [training_step(job, *batch, **settings) for batch in batches]


def slow_loop(job, batches, micro_batch=4, clip_norm=None, precision=None):
    """Train a copy of the job's model in plain torch; fp16 has a fixed scale, and skips."""
    model = copy.deepcopy(job.model)
    (optimizer,) = make_optimizers(model, job.spec.workload)
    optimizer.param_groups[0]["lr"] = RATE
    scale = 1.0 if precision is None else FIRST_SCALE
    for images, labels in batches:
        for part, targets in zip(images.split(micro_batch), labels.split(micro_batch), strict=True):
            with torch.autocast("cpu", precision, enabled=precision is not None):
                loss = cross_entropy(model(part), targets)
            (loss * (len(targets) / len(labels)) * scale).backward()
        for parameter in model.parameters():
            parameter.grad /= scale
        if all(bool(p.grad.isfinite().all()) for p in model.parameters()):
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
            optimizer.step()
        optimizer.zero_grad()
    return model


def same_bits(model, other):
    ours, theirs = list(model.parameters()), list(other.parameters())
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


def moved(job):
    """Return whether training changed every parameter of the job."""
    untouched = begin(job.spec, load).model.parameters()
    return not any(map(torch.equal, job.model.parameters(), untouched))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_fresh_training_repeats_its_bits_and_learns_a_batch(optimizer, start, batches):
    job, again = (start(optimizer, rate=1e-3) for _ in range(2))
    losses = train(job, batches[:1] * 8)

    assert losses == train(again, batches[:1] * 8)
    assert same_bits(job.model, again.model)
    assert losses[-1] < losses[0]
    assert moved(job)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_training_has_the_same_bits(optimizer, start, batches, tmp_path):
    whole, stopped, resumed = (start(optimizer) for _ in range(3))
    train(whole, batches)
    train(stopped, batches[:3])
    file = tmp_path / "checkpoint"
    Checkpoint(file, 0.0).save(stopped.model, stopped.optimizers, Progress())
    Checkpoint(file).restore(resumed.model, resumed.optimizers, steps=4)
    set_learning_rate(resumed, RATE)
    held = [(kept.dtype, kept.shape) for _, of in stopped.optimizer_state() for kept in of]

    assert [(t.dtype, t.shape) for _, of in resumed.optimizer_state() for t in of] == held
    train(resumed, batches[3:])
    assert same_bits(resumed.model, whole.model)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("workload", "settings"),
    [({"micro_batch": 3}, {}), ({}, {"clip_norm": 0.05})],
    ids=["micro-batches", "clipping"],
)
def test_steps_are_what_a_slow_loop_makes_of_them(workload, settings, optimizer, start, batches):
    job = start(optimizer, **workload)
    expected = slow_loop(job, batches, **workload, **settings)
    train(job, batches, **settings)

    assert moved(job)
    assert same_bits(job.model, expected)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_updates_inside_the_backward_pass_have_the_same_bits(optimizer, start, batches):
    after, within = start(optimizer), start(optimizer, optimizer_in_backward=True)
    for job in (after, within):
        train(job, batches)

    assert len(within.optimizers) > len(after.optimizers)
    assert same_bits(within.model, after.model)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_layer_decay_scales_the_rate_of_each_layer(optimizer, start, batches):
    """A layer moves as it would with the scaled rate; test_vit has 6 blocks, so 0.5**1 to 0.5**7.

    Head and final norm have the whole rate, the first block has 0.5**6.
    """
    job = start(optimizer, layer_decay=0.5)
    first = start(optimizer, rate=RATE * 0.5**6)
    last = start(optimizer)
    for each in (job, first, last):
        train(each, batches[:1])

    assert same_bits(job.model.blocks[0], first.model.blocks[0])
    assert same_bits(job.model.head, last.model.head)
    assert not same_bits(job.model.blocks[0], last.model.blocks[0])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fp16_scales_and_skips_as_a_slow_loop_does(optimizer, start, batches):
    """The second batch overflows."""
    batches[1][0].mul_(FAR)
    job = start(optimizer, precision="fp16")
    expected = slow_loop(job, batches[:2], precision=torch.float16)
    train(job, batches[:2])

    assert job.skipped_steps() == 1
    assert moved(job)
    assert same_bits(job.model, expected)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("within", [False, True], ids=["after backward", "in backward"])
def test_the_predicted_peak_is_the_counted_one(within, optimizer, make_spec):
    """At batch 1 the peak is in the optimizer's step, for every optimizer that needs temporaries.

    GaLore's first step is counted too: it decomposes gradients, and is not a steady one.
    """
    spec = make_spec(optimizer=optimizer, batch=1, optimizer_in_backward=within)
    job, batch = job_and_batch(spec, load)
    counted_step(job, batch)
    steady = counted_step(job, batch)

    assert step_cost(spec, load).peak_bytes == steady.peak
    assert steady.left_behind == 0
