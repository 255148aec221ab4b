"""Several tasks on one model: their turns, and what is measured of them."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bsrbench.harness.conformance.subject import tiny_model, trained
from bsrbench.harness.meters.forward_macs import added, forward_macs
from bsrbench.harness.model.experts import task_of
from bsrbench.harness.model.task_heads import turns
from bsrbench.harness.predict.estimate import predict
from bsrbench.harness.profiler.counted_step import counted_step
from bsrbench.harness.profiler.flops_pass import flop_pass
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.profiler.training_pass import training_pass
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.harness.training.evaluation import accuracies
from bsrbench.harness.training.job import begin
from bsrbench.harness.training.training_step import optimizer_step, set_learning_rate, training_step
from bsrbench.harness.workload.data.splits import InMemory
from bsrbench.methods import load
from tests.harness.training.two_tasks import MULTITASK, TASKS

# ---- the step ----------------------------------------------------------------------------------


def manual_steps(spec, batches, rate):
    """Do the same steps with torch's plain optimizer, one turn after the other."""
    job = begin(spec, load)
    optimizer = torch.optim.SGD(trained(job.model), lr=rate, momentum=0.9, weight_decay=0.1)
    for images, labels in batches:
        for task, heads in enumerate((slice(0, 2), slice(2, 4))):
            job.turn.task = task
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(job.model(images[heads]), labels[heads]).backward()
            optimizer.step()
    return job


def test_each_task_has_an_optimizer_step_and_what_is_the_others_stays(make_multitask):
    """Gates and heads of the other task have no gradient in a turn: no decay, no momentum."""
    spec = make_multitask(weight_decay=0.1)
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.randn(4, 3, 32, 32, generator=generator), torch.tensor([1, 2, 3, 4]))
        for _ in range(3)
    ]
    job = begin(spec, load)
    set_learning_rate(job, 0.05)
    for batch in batches:
        optimizer_step(job, *batch)
    expected = manual_steps(spec, batches, 0.05)

    for one, other in zip(job.model.parameters(), expected.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_loss_of_a_step_is_the_mean_over_tasks(make_multitask):
    """At a rate of 0 the second task's turn finds the weights that the first one's did."""
    job, (images, labels) = job_and_batch(make_multitask(), load)
    set_learning_rate(job, 0.0)
    batches = zip(turns(job.model), images.split(2), labels.split(2), strict=True)
    with torch.no_grad():
        losses = [cross_entropy(job.model(own), targets).item() for _, own, targets in batches]

    assert training_step(job, images, labels) == pytest.approx(sum(losses) / 2, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_optimizer_in_the_backward_pass_gives_the_same_bits(optimizer, make_multitask):
    jobs = []
    for within in (False, True):
        spec = make_multitask(optimizer=optimizer, optimizer_in_backward=within)
        job, batch = job_and_batch(spec, load)
        set_learning_rate(job, 0.01)
        for _ in range(2):
            training_step(job, *batch)
        jobs.append(job)
    after, within = jobs

    for one, other in zip(after.model.parameters(), within.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_micro_batches_give_the_same_step(make_multitask):
    found = []
    for micro_batch in (None, 1):
        job, batch = job_and_batch(make_multitask(micro_batch=micro_batch), load)
        set_learning_rate(job, 0.01)
        found.append((training_step(job, *batch), list(job.model.parameters())))
    (loss, whole), (same, parts) = found

    assert loss == pytest.approx(same, rel=1e-5)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_biases_of_experts_are_not_decayed_where_vectors_are_not(make_multitask):
    job = begin(make_multitask(weight_decay=0.1, decay_vectors=False), load)
    decayed = {
        id(parameter)
        for optimizer in job.optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
        if group["weight_decay"]
    }
    names = {name for name, p in job.model.named_parameters() if id(p) in decayed}

    assert "blocks.3.mlp.fc1.weight" in names
    assert not {name for name in names if name.endswith("bias")}


def test_heads_and_gates_belong_to_their_tasks(make_moe):
    model = make_moe()
    owned = {name for name, p in model.named_parameters() if p in task_of(model)}

    assert owned == {
        *(f"head.{task}.{part}" for task in (0, 1) for part in ("weight", "bias")),
        *(f"blocks.{b}.mlp.gates.{task}.weight" for b in (3, 7, 11) for task in (0, 1)),
    }


# ---- what is measured --------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["full", "head", "bsr", "bsr+int8"])
def test_memory_and_flops_are_predicted_exactly(method, make_multitask):
    spec = make_multitask(method, optimizer="adamw", profile=Profile(rounds=0))
    job, batch = job_and_batch(spec, load)
    counted_step(job, batch)
    steady, found = counted_step(job, batch), flop_pass(spec, load)
    predicted = predict(spec, load)
    forward = found.measurements["forward_flop"]

    assert predicted.measurements["peak_estimated_bytes"] == steady.peak
    assert predicted.measurements["held_after_forward_bytes"] == steady.held_after_forward
    assert predicted.measurements["step_flop"] == found.measurements["step_flop"]
    assert 2 * found.measurements["forward_macs"] == forward
    assert 2 * predicted.measurements["forward_macs"] == forward
    assert found.notes == ()


def test_only_the_experts_that_run_are_counted(make_moe):
    """17 tokens of width 32, each through 2 experts of 2 x 32 x 128, and a gate to 4."""
    image = torch.zeros(1, 3, 32, 32)
    dense, moe = tiny_model(), make_moe()
    (one, other) = (forward_macs(moe, image) for _ in turns(moe))
    beside = 3 * 17 * (2 * 32 * 128 + 32 * 4)  # in each of three blocks

    assert one.total == forward_macs(dense, image).total + beside
    assert other.total == one.total - 32 * 2  # a head of 3 instead of 5
    assert added([one, other]).total == one.total + other.total


def test_a_step_goes_through_the_images_of_every_task(make_multitask):
    workload = make_multitask().workload

    assert workload.step_images() == 4
    assert workload.tasks() == TASKS
    assert workload.data_name() == "digits + noise"


@pytest.fixture
def short():
    return Training(steps=2, learning_rate=1e-3, evaluate_every=1)


def test_accuracies_are_read_task_by_task(make_multitask, short):
    spec = make_multitask(training=short)
    found = training_pass(spec, load)
    by_task = found.measurements["accuracy_by_task"]

    assert len(by_task) == 2
    assert found.measurements["accuracy_top1"] == pytest.approx(sum(by_task) / 2)
    assert len(found.measurements["curve_accuracies"]) == 2
    assert set(found.facts.data) == set(TASKS)
    assert 0.5 <= found.measurements["busiest_experts_share"] <= 1  # 2 of 4 at least
    loads = found.detail.expert_loads["digits"]["blocks.3.mlp"]
    assert sum(loads) == pytest.approx(1)


def test_a_task_is_evaluated_with_its_own_head(make_multitask):
    spec = make_multitask(training=Training(steps=1, learning_rate=1e-3))
    job = begin(spec, load)
    with torch.no_grad():
        for task, heads in enumerate(job.model.head):
            heads.weight.zero_()
            heads.bias.copy_(torch.eye(10)[task])  # the first says 0, the second 1
    grey = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    splits = [InMemory(grey, torch.tensor(labels)) for labels in ([0, 0, 0, 1], [0, 0, 1, 2])]

    assert accuracies(job, splits) == [3 / 4, 1 / 4]


def test_a_gate_that_sends_all_tokens_to_the_same_experts_is_noted(
    make_multitask, short, monkeypatch
):
    """Of equal values topk takes the same ones for every token."""
    monkeypatch.setattr(nn.init, "uniform_", lambda weight, *_: nn.init.zeros_(weight))
    only = {"expert_blocks": [7]}
    found = training_pass(make_multitask("head", MULTITASK | only, training=short), load)

    assert found.measurements["busiest_experts_share"] == 1
    assert [note.text.rpartition(":")[0] for note in found.notes] == [
        f"the gate of task {task!r} in blocks.7.mlp sends 100 % of its tokens to the same 2 of 4 "
        "experts"
        for task in TASKS
    ]


def test_without_experts_the_model_is_shared_whole(make_multitask, short):
    spec = make_multitask(multitask={"tasks": TASKS, "expert_blocks": []}, training=short)
    found = training_pass(spec, load)

    assert len(found.measurements["accuracy_by_task"]) == 2
    assert "busiest_experts_share" not in found.measurements
