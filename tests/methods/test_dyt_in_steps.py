"""DyT in the steps, evaluations and trainings of the harness, and in compositions."""

import pytest
import torch

from bsrbench import methods
from bsrbench.harness.conformance.subject import terms
from bsrbench.harness.method import Unsupported
from bsrbench.harness.profiler.counted_step import counted_step
from bsrbench.harness.profiler.flops_pass import flop_pass
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.training.evaluation import evaluate_batch
from bsrbench.harness.training.job import begin
from bsrbench.harness.training.resume import Checkpoint
from bsrbench.harness.training.training_loop import train
from bsrbench.harness.workload import data
from tests.harness.training.test_resume import Killed, KilledAfter


def test_a_step_stores_no_less_than_adapter_and_evaluation_is_cheaper(make_spec):
    """In place of the normalised tokens the MLP's output is stored, in the first block beside them.

    The choice is stored for 17 tokens and its sigmoid for 16, of 4 images in 6 blocks.
    """
    held, macs = [], []
    for name in ("adapter", "dyt"):
        job, images = job_and_batch(make_spec(name), methods.load, 1)
        held.append(counted_step(job, images).held_after_forward)
        macs.append(flop_pass(make_spec(name), methods.load).measurements["forward_macs"])
    more = held[1] - held[0]
    expected = 4 * (6 * 4 * (17 + 16) + 4 * 17 * 64)
    # Of 4 images, 8 of 16 patches do not pass 6 MLPs of width 64; dispatchers are added.
    skipped = 4 * 6 * 8 * 2 * 64 * job.model.blocks[0].mlp.fc1.out_features

    assert expected <= more <= expected + 256  # shares of the loss: a few numbers per class
    assert macs[0] - macs[1] == skipped - 4 * 6 * 17 * 64


def test_a_training_begins_unsettled(make_spec):
    job = begin(make_spec("dyt"), methods.load)

    assert not any(bool(block.dispatcher.bias.any()) for block in job.model.blocks)


@pytest.mark.parametrize("name", ["dyt", "dyt+checkpoint", "checkpoint+dyt", "dyt+int8"])
def test_nothing_is_left_between_steps_and_evaluations_work(name, make_spec):
    job, images = job_and_batch(make_spec(name), methods.load, 1)
    step = counted_step(job, images)
    passes = job.model.blocks[0].carried
    job.model.eval()
    evaluate_batch(job, images[0])

    assert step.left_behind == 0
    assert (passes.now, passes.complete, passes.settling) == (None, False, False)


def test_blocks_that_are_run_again_draw_the_same_and_give_the_same_gradients(make_vit, batch):
    found = []
    for name in ("dyt", "dyt+checkpoint", "checkpoint+dyt"):
        method = methods.load(name)
        torch.manual_seed(0)
        model = method.prepare(make_vit())
        torch.manual_seed(3)
        for term in terms(method, model, batch):
            term.backward()
        found.append([p.grad for p in model.parameters() if p.requires_grad])

    for others in found[1:]:
        assert all(map(torch.equal, found[0], others))


@pytest.mark.parametrize("name", ["dyt", "dyt+int8", "dyt+checkpoint"])
def test_a_training_goes_on_bit_for_bit(name, make_spec, tmp_path):
    settings = Training(steps=6, learning_rate=1e-3, evaluate_every=2)
    spec = make_spec(name, training=settings)
    images = (data.load("noise", 5, 0),)
    whole = begin(spec, methods.load)
    expected = train(whole, images, settings)
    with pytest.raises(Killed):
        train(begin(spec, methods.load), images, settings, KilledAfter(tmp_path / "run.pt", 3))
    again = begin(spec, methods.load)
    torch.randn(7)
    found = train(again, images, settings, Checkpoint(tmp_path / "run.pt", 1e9))

    assert found.losses == expected.losses
    assert found.curve_accuracies == expected.curve_accuracies
    for one, other in zip(whole.held(), again.held(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tome+dyt", "both methods have the kind 'drops tokens'"),
        ("dyt+adapter", "both methods have the kind 'selects weights'"),
        ("lora+dyt", "both methods have the kind 'selects weights'"),
    ],
)
def test_refuses_what_else_changes_tokens_or_selects_weights(name, said, make_vit):
    with pytest.raises(Unsupported, match=said):
        methods.load(name).prepare(make_vit())


def test_is_not_compiled(make_spec):
    with pytest.raises(Unsupported, match="does not declare 'compiles'"):
        begin(make_spec("dyt", compiled_step=True), methods.load)
