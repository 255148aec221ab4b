"""MeZO: its estimate is right in the mean, and it holds no gradient and no activations."""

import random

import pytest
import torch
from torch import nn

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.meters.live_bytes import Category, LiveBytes
from bsrbench.harness.method import Unsupported
from bsrbench.harness.predict.fake_step import fake_batch
from bsrbench.harness.predict.step_cost import fake_trial, step_cost
from bsrbench.harness.profiler.counted_step import counted_step
from bsrbench.harness.profiler.memory_pass import memory_pass
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.training.job import begin
from bsrbench.harness.training.kept_storages import census
from bsrbench.harness.training.training_step import set_learning_rate, training_step
from bsrbench.harness.workload.seeds import seed_of
from bsrbench.methods.parts.random_directions import PIECE, Direction

DRAWS = 20_000
DEIT = {"model": "deit_small_patch16_224", "image_size": 224, "batch": 8, "classes": 100}


def direction(shapes, seed):
    """Return the direction of a seed, drawn in the obvious way: each piece from its own seed."""
    seeds, found = random.Random(seed), []  # noqa: S311
    for shape in shapes:
        flat = torch.empty(shape).flatten()
        for first in range(0, len(flat), PIECE):
            piece = flat[first : first + PIECE]
            generator = torch.Generator().manual_seed(seeds.getrandbits(32))
            piece.copy_(torch.randn(len(piece), generator=generator))
        found.append(flat.view(shape))
    return found


def test_the_mean_of_estimates_is_the_gradient_of_a_quadratic():
    """Loss w'Aw / 2 with gradient Aw; each coordinate is within four standard errors."""
    matrix = torch.diag(torch.tensor([1.0, 2.0, 0.5, 3.0]))
    model = nn.Linear(4, 1, bias=False).double()
    weight = model.weight
    with torch.no_grad():
        weight.copy_(torch.tensor([[0.5, -1.0, 2.0, 0.1]]))
    method = methods.load("mezo")
    found = []
    with torch.no_grad():
        for seed in range(DRAWS):

            def loss():
                return (weight @ matrix.double() @ weight.T).squeeze() / 2

            ((_, estimate),) = method.gradients(model, [weight], loss, seed)
            found.append(estimate.squeeze())
    estimates = torch.stack(found)
    exact = (weight.detach() @ matrix.double()).squeeze()
    error = estimates.std(0) / DRAWS**0.5

    assert bool(((estimates.mean(0) - exact).abs() < 4 * error).all())
    assert bool((error < 0.05).all())
    assert bool((error > 0).all())


def test_a_step_is_that_of_the_paper(make_spec):
    """Theta - rate (g z + decay theta), with g from the losses at theta + and - epsilon z."""
    spec = make_spec("mezo", optimizer="sgd", momentum=0.0, weight_decay=0.1, seed=3)
    job, (images, labels) = job_and_batch(spec, methods.load)
    set_learning_rate(job, 0.01)
    start = [p.detach().clone() for p in job.model.parameters()]
    z = direction([p.shape for p in start], seed_of("direction", 3, 7, 0))
    losses = []
    for way in (1e-3, -1e-3):
        with torch.no_grad():
            for parameter, before, part in zip(job.model.parameters(), start, z, strict=True):
                parameter.copy_(before + way * part)
            logits = job.model.eval()(images)
        losses.append(nn.functional.cross_entropy(logits, labels))
    slope = (losses[0] - losses[1]) / 2e-3
    expected = [p - 0.01 * (slope * d + 0.1 * p) for p, d in zip(start, z, strict=True)]
    with torch.no_grad():
        for parameter, before in zip(job.model.parameters(), start, strict=True):
            parameter.copy_(before)

    loss = training_step(job, images, labels, number=7)

    assert loss == pytest.approx(float(sum(losses) / 2), rel=1e-4)
    for found, right in zip(job.model.parameters(), expected, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-3, atol=2e-5)
    assert all(p.grad is None for p in job.model.parameters())


def test_the_forward_passes_are_in_evaluation_mode_and_the_mode_is_back(make_spec):
    job, (images, labels) = job_and_batch(make_spec("mezo"), methods.load)
    modes = []
    job.model.register_forward_hook(lambda module, *_: modes.append(module.training))
    training_step(job, images, labels)

    assert modes == [False, False]
    assert job.model.training


def test_the_mode_is_back_after_a_failure(make_spec):
    job, _ = job_and_batch(make_spec("mezo"), methods.load)

    def fail():
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"), torch.no_grad():
        list(job.method.gradients(job.model, job.trained(), fail, 0))
    assert job.model.training


def direction_of_a_step(spec, number):
    """Return the direction of a step, as the way from one side of the weights to the other."""
    job, batch = job_and_batch(spec, methods.load)
    seen = []
    job.model.register_forward_pre_hook(
        lambda model, _: seen.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    )
    training_step(job, *batch, number=number)
    return (seen[0] - seen[1]) / 2e-3


def test_each_step_of_each_trial_has_another_direction(make_spec):
    found = [
        direction_of_a_step(make_spec("mezo", seed=seed), number)
        for seed, number in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    likeness = torch.corrcoef(torch.stack(found))

    assert likeness[0, 3] > 0.999
    assert likeness[:3, :3].fill_diagonal_(0).abs().max() < 0.05


def test_the_direction_is_standard_normal_and_no_piece_is_like_another():
    pieces = 64
    weights = torch.zeros(pieces * PIECE)
    with Direction([weights], 0) as direction:
        direction.move(1.0)
    likeness = torch.corrcoef(weights.view(pieces, PIECE)).fill_diagonal_(0)

    assert abs(weights.mean()) < 4 / len(weights) ** 0.5
    assert abs(weights.std() - 1) < 4 / (2 * len(weights)) ** 0.5
    assert likeness.abs().max() < 5 / PIECE**0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_direction_is_the_same_with_any_number_of_threads(dtype):
    """Of a long parameter, a short one, a single number, and one in another order."""
    shapes = [(3 * PIECE + 5,), (7, 3), ()]
    found = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            weights = [torch.zeros(shape, dtype=dtype) for shape in shapes]
            weights.append(torch.zeros(50, 700, dtype=dtype).T)
            with Direction(weights, 5) as direction:
                direction.move(2.0)
                scale = torch.tensor(0.5, dtype=dtype)
                found.append([scaled.clone() for _, scaled in direction.move_each(-2.0, scale)])
            assert all(bool((each == 0).all()) for each in weights)
    finally:
        torch.set_num_threads(threads)

    for others in found[1:]:
        assert all(map(torch.equal, found[0], others))
    assert [each.shape for each in found[0]] == [each.shape for each in weights]
    assert all(bool(each.any()) for each in found[0])


def test_at_most_one_gradient_exists_and_no_activation_is_stored(make_spec):
    spec = make_spec("mezo", optimizer="sgd", momentum=0.0)
    job, batch = job_and_batch(spec, methods.load, 1)
    step = counted_step(job, batch)
    largest = max(p.nbytes for p in job.model.parameters())

    assert step.held_after_forward == 0
    assert step.categories[Category.GRADIENTS] <= largest
    assert step.categories[Category.SAVED_ACTIVATIONS] == 0


def test_two_directions_never_exist_at_once(make_spec):
    """The updates need the largest parameter's part of one direction, and a piece a thread."""
    job, _ = job_and_batch(make_spec("mezo", optimizer="sgd", momentum=0.0), methods.load)
    parameters = job.trained()
    with torch.no_grad(), LiveBytes() as live:
        live.watch(parameters, Category.WEIGHTS)
        start = live.now
        for parameter, gradient in job.method.gradients(
            job.model, parameters, lambda: torch.zeros(()), 0
        ):
            parameter.grad = gradient
            del gradient
            parameter.grad = None
        rise = live.peak - start

    pieces = torch.get_num_threads() * PIECE * 4
    assert rise <= max(p.nbytes for p in parameters) + pieces + 64


def test_the_peak_is_that_of_evaluation(make_spec):
    """DeiT-S at 224 px, batch 8, SGD without momentum: at most 5 % above an evaluation."""
    spec = make_spec("mezo", optimizer="sgd", momentum=0.0, **DEIT)
    with census() as kept, fake_trial(spec, methods.load, kept) as job:
        images, labels = fake_batch(job)
        with torch.no_grad(), LiveBytes() as live:
            live.watch([*job.model.parameters(), images, labels], Category.WEIGHTS)
            job.model.eval()(images)
        evaluation = live.peak

    assert evaluation < step_cost(spec, methods.load).peak_bytes <= 1.05 * evaluation


def test_micro_batches_give_the_same_step(make_spec):
    after = []
    for micro in (None, 1):
        job, batch = job_and_batch(make_spec("mezo", micro_batch=micro), methods.load)
        set_learning_rate(job, 0.01)
        training_step(job, *batch)
        after.append([p.detach().clone() for p in job.model.parameters()])

    for one, other in zip(*after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("first", ["bsr", "lora", "head", "bias", "badam"])
def test_only_the_selected_weights_move(first, make_six_spec):
    job, batch = job_and_batch(make_six_spec(f"{first}+mezo"), methods.load)
    set_learning_rate(job, 0.1)
    trained = {id(p) for p in job.trained()}
    before = {p: p.detach().clone() for p in job.model.parameters()}
    training_step(job, *batch)

    moved = {id(p) for p, old in before.items() if not torch.equal(p, old)}
    assert moved == trained
    assert 0 < len(trained) < len(before)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training": Training(steps=2, learning_rate=1e-3, clip_norm=1.0)}, "leave out clip_norm"),
        ({"precision": "fp16"}, "needs no loss scale: use fp32 or bf16"),
        ({"optimizer_in_backward": True}, "no backward pass in which an optimizer could step"),
        ({"compiled_step": True}, "compile"),
    ],
)
def test_what_needs_a_backward_pass_is_unsupported(changes, said, make_spec):
    with pytest.raises(Unsupported, match=said):
        begin(make_spec("mezo", **changes), methods.load)


def test_a_method_that_changes_saved_activations_is_no_pair():
    with pytest.raises(Unsupported, match="both methods have the kind 'stores activations'"):
        methods.load("mezo+int8").prepare(nn.Identity())


@pytest.mark.parametrize("epsilon", [0.0, -1.0])
def test_epsilon_must_be_positive(epsilon):
    with pytest.raises(BadInput, match="must be greater than 0"):
        methods.load("mezo", epsilon=epsilon)


def test_a_memory_pass_reads_it(make_spec):
    read = memory_pass(make_spec("mezo"), methods.load)

    assert read.measurements["held_after_forward_bytes"] == 0
    assert "mean_peak_bytes" not in read.measurements
