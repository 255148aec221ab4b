"""What ``trains_as`` claims: the training of such a row is that of the row it names.

Checkpointing computes the same numbers again, so its training is the same bit for bit.
Micro-batches add up gradients in another order, so theirs is the same but for rounding in fp32.
"""

import pytest
import torch

from bsrbench.harness.spec import suite_file
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.training.job import begin
from bsrbench.harness.training.training_loop import train
from bsrbench.harness.workload import data
from bsrbench.methods import load

STEPS = 6
ROUNDING = 1e-3  # of the distance that the weights moved; fp32 has 1.2e-7 and AdamW divides by it


def weights_after(make_deep_spec, method, **workload):
    """Return the losses and the weights, before and after a short training with AdamW."""
    recipe = Training(steps=STEPS, learning_rate=1e-3, warmup_steps=2, clip_norm=1.0, head="zero")
    settings = {"optimizer": "adamw", "batch": 4, "head_rate_factor": 10.0, "layer_decay": 0.75}
    job = begin(make_deep_spec(method, training=recipe, **settings | workload), load)
    flat = torch.nn.utils.parameters_to_vector
    before = flat(job.model.parameters()).detach()
    losses = train(job, (data.load("noise", 5, 0),), recipe).losses
    return losses, before, flat(job.model.parameters()).detach()


def test_checkpointing_trains_bit_for_bit_as_full_fine_tuning(make_deep_spec):
    losses, before, after = weights_after(make_deep_spec, "full")
    again, _, recomputed = weights_after(make_deep_spec, "checkpoint")

    assert losses == again
    assert torch.equal(after, recomputed)
    assert not torch.equal(before, after)


@pytest.mark.parametrize("size", [1, 2])
def test_micro_batches_train_as_the_whole_batch_but_for_rounding(size, make_deep_spec):
    losses, before, after = weights_after(make_deep_spec, "full")
    in_parts, _, added_up = weights_after(make_deep_spec, "full", micro_batch=size)

    assert losses == pytest.approx(in_parts, rel=1e-5)
    assert (after - added_up).norm() <= ROUNDING * (after - before).norm()


def test_an_optimizer_in_the_backward_pass_trains_bit_for_bit_as_one_after_it(make_deep_spec):
    recipe = Training(steps=STEPS, learning_rate=1e-3)
    states = []
    for in_backward in (False, True):
        spec = make_deep_spec(training=recipe, optimizer="adamw", optimizer_in_backward=in_backward)
        job = begin(spec, load)
        train(job, (data.load("noise", 5, 0),), recipe)
        states.append(torch.nn.utils.parameters_to_vector(job.model.parameters()).detach())

    assert torch.equal(*states)


def test_every_shipped_row_without_a_training_is_one_of_these():
    """A new kind of row with ``trains_as`` needs a test above."""
    rows = [
        (spec.method, spec.workload.micro_batch is not None, spec.profile.trains_as)
        for name in suite_file.names()
        for spec in suite_file.read(suite_file.find(name)).trials()
        if spec.profile and spec.profile.trains_as
    ]

    assert set(rows) == {("checkpoint", False, "full"), ("full", True, "full")}
