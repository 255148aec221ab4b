"""Training in fp16 against a slow loop in plain torch, and the steps that it skips."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.training.job import begin
from bsrbench.harness.training.training_step import Diverged, set_learning_rate, training_step
from bsrbench.methods import load

RATE = 0.01
FIRST_SCALE = 2.0**16
TOO_LARGE = 2.0**18  # the gradients of the tests' losses overflow at this scale, not at FIRST_SCALE
LOW = 2.0**10  # two tasks overflow above 2**14
FAR = 1e6  # larger than fp16's largest number: the forward pass overflows


def scale_of(job):
    return job.scaler.state_dict()["scale"]


def set_scale(job, scale):
    job.scaler.load_state_dict(job.scaler.state_dict() | {"scale": scale})


@pytest.fixture
def batches():
    """Return six batches of images [4, 3, 64, 64] and labels [4]; fp16 overflows in the fourth."""
    generator = torch.Generator().manual_seed(0)
    made = [
        (torch.randn(4, 3, 64, 64, generator=generator), torch.tensor([0, 1, 2, 3]))
        for _ in range(6)
    ]
    made[3][0].mul_(FAR)
    return made


def slow_loop(model, optimizer, batches, scale, micro_batch, clip_norm):
    """Train as AMP's recipe says, with plain tensors; return which steps were skipped."""
    skipped = []
    for images, labels in batches:
        for part, targets in zip(images.split(micro_batch), labels.split(micro_batch), strict=True):
            with torch.autocast("cpu", torch.float16):
                loss = cross_entropy(model(part), targets)
            (loss * (len(targets) / len(labels)) * scale).backward()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.grad /= scale
        finite = all(bool(parameter.grad.isfinite().all()) for parameter in trained)
        if finite:
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(trained, clip_norm)
            optimizer.step()
        else:
            scale /= 2
        skipped.append(not finite)
        optimizer.zero_grad()
    return skipped, scale


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize("micro_batch", [None, 3])
@pytest.mark.parametrize("scale", [FIRST_SCALE, TOO_LARGE])
def test_steps_are_what_a_slow_loop_makes_of_them(
    scale, micro_batch, clip_norm, optimizer, make_spec, batches
):
    """Bit by bit, over skipped steps: at TOO_LARGE also the first ones."""
    job = begin(make_spec(precision="fp16", micro_batch=micro_batch, optimizer=optimizer), load)
    set_scale(job, scale)
    set_learning_rate(job, RATE)
    model = copy.deepcopy(job.model)
    settings = {"weight_decay": 0.0} if optimizer == "adamw" else {"momentum": 0.9}
    kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer]
    plain = kind(model.parameters(), lr=RATE, fused=True, **settings)
    skipped, last_scale = slow_loop(model, plain, batches, scale, micro_batch or 4, clip_norm)
    for images, labels in batches:
        training_step(job, images, labels, clip_norm=clip_norm)

    assert skipped[3]
    assert skipped[0] == (scale == TOO_LARGE)
    assert not skipped[5]
    assert (sum(skipped), last_scale) == (job.skipped_steps(), scale_of(job))
    for ours, expected in zip(job.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, expected)


def test_a_skipped_step_moves_nothing_and_the_next_one_is_a_first_step(make_spec, batches):
    """The fused SGD of torch alone would add what was in the memory of its momentum buffers."""
    job, untouched = (begin(make_spec(precision="fp16"), load) for _ in range(2))
    before = [parameter.detach().clone() for parameter in job.model.parameters()]
    for each in (job, untouched):
        set_learning_rate(each, RATE)
    loss = training_step(job, *batches[3])
    after = [parameter.detach().clone() for parameter in job.model.parameters()]
    momentum = [m for _, kept in job.optimizer_state() for m in kept]
    set_scale(job, FIRST_SCALE)

    assert not math.isfinite(loss)
    assert all(map(torch.equal, before, after))
    assert momentum
    assert not any(bool(buffer.any()) for buffer in momentum)
    assert training_step(job, *batches[0]) == training_step(untouched, *batches[0])
    for ours, expected in zip(job.model.parameters(), untouched.model.parameters(), strict=True):
        assert torch.equal(ours, expected)


def test_seventeen_skipped_steps_in_a_row_diverge(make_spec, batches):
    """At the 17th, the loss was not scaled any more: 2**16 was halved 16 times."""
    job = begin(make_spec(precision="fp16"), load)
    for _ in range(16):
        training_step(job, *batches[3])
    with pytest.raises(Diverged) as caught:
        training_step(job, *batches[3])

    assert str(caught.value) == (
        "17 optimizer steps in a row were skipped, because gradients were not finite in fp16, and "
        "the loss scale fell to 0.5"
    )


def test_a_step_that_is_not_skipped_ends_the_row(make_spec, batches):
    job = begin(make_spec(precision="fp16"), load)
    for _ in range(9):
        training_step(job, *batches[3])
        training_step(job, *batches[3])
        training_step(job, *batches[0])

    assert (job.scaler.skipped, job.scaler.in_a_row) == (18, 0)
    assert scale_of(job) == FIRST_SCALE / 2**18


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_task_that_overflows_is_skipped_alone(optimizer, make_multitask):
    """There is one scaler; each task's turn is a step of it."""
    job, (images, labels) = job_and_batch(
        make_multitask(precision="fp16", optimizer=optimizer), load
    )
    set_scale(job, LOW)
    set_learning_rate(job, RATE)
    before = {name: p.detach().clone() for name, p in job.model.named_parameters()}
    training_step(job, torch.cat([images[:2], images[2:] * FAR]), labels)
    moved = {n for n, p in job.model.named_parameters() if not torch.equal(before[n], p)}
    heads = sorted(n.rpartition(".")[0] for n in before if "head" in n and n.endswith(".weight"))

    assert (job.skipped_steps(), scale_of(job)) == (1, LOW / 2)
    assert [any(n.startswith(f"{head}.") for n in moved) for head in heads] == [True, False]


def test_a_step_reads_nothing_back_but_its_loss_and_its_counts(make_spec, batches, monkeypatch):
    """A GPU would wait at each value that is read."""
    job = begin(make_spec(precision="fp16"), load)
    read = []
    for name in ("item", "tolist", "__bool__"):
        real = getattr(torch.Tensor, name)

        def noting(tensor, real=real, name=name):
            read.append(name)
            return real(tensor)

        monkeypatch.setattr(torch.Tensor, name, noting)
    training_step(job, *batches[0])

    assert read == ["item", "tolist"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_other_precisions_scale_nothing(precision, make_spec, batches):
    job = begin(make_spec(precision=precision), load)
    training_step(job, *batches[0])

    assert (job.scaler, job.skipped_steps()) == (None, 0)
    with pytest.raises(Diverged, match="the loss became nan"):
        training_step(job, batches[0][0] * float("inf"), batches[0][1])
