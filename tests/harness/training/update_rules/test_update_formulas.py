"""Each update rule in float64 against its formula, written out slowly, or against torch."""

import math

import numpy as np
import pytest
import torch

from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.harness.training.update_rules import apollo
from bsrbench.harness.training.update_rules.choice import rule_of
from bsrbench.harness.training.update_rules.rule_optimizer import RuleOptimizer

RATE, DECAY = 0.05, 0.1
STEPS = 5
SHAPES = [(6, 4), (4, 6), (5,), (2, 3, 4, 4)]


def numbers(shape, seed):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def optimizer_of(parameter, name, **options):
    workload = Workload(model="test_vit", batch=1, optimizer=name, optimizer_options=options)
    groups = [{"params": [parameter], "weight_decay": DECAY}]
    return RuleOptimizer(groups, name, rule_of(workload), {parameter: 3})


def trained(make, shape):
    """Return a parameter after some steps with random gradients of growing size."""
    parameter = torch.nn.Parameter(numbers(shape, 0))
    optimizer = make(parameter)
    optimizer.param_groups[0]["lr"] = RATE
    for step in range(1, STEPS + 1):
        parameter.grad = numbers(shape, step) * step
        optimizer.step()
    return parameter.detach()


def assert_close(ours, expected):
    torch.testing.assert_close(ours, torch.as_tensor(expected), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_lion_is_its_algorithm(shape):
    weights, mean = numbers(shape, 0).numpy(), np.zeros(shape)
    for step in range(1, STEPS + 1):
        gradient = numbers(shape, step).numpy() * step
        direction = np.sign(0.8 * mean + 0.2 * gradient)
        weights = weights - RATE * (direction + DECAY * weights)
        mean = 0.95 * mean + 0.05 * gradient

    assert_close(trained(lambda p: optimizer_of(p, "lion", beta1=0.8, beta2=0.95), shape), weights)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rate", [RATE, 0.7], ids=["small", "larger than 1 / sqrt(t)"])
def test_adafactor_is_that_of_torch(rate, shape, monkeypatch):
    monkeypatch.setitem(globals(), "RATE", rate)
    settings = {"beta2_decay": -0.7, "eps": (None, 0.01), "d": 1.1, "weight_decay": DECAY}
    options = {"beta2_decay": -0.7, "least_scale": 0.01, "clip_threshold": 1.1}
    expected = trained(lambda p: torch.optim.Adafactor([p], **settings), shape)

    assert_close(trained(lambda p: optimizer_of(p, "adafactor", **options), shape), expected)


@pytest.mark.parametrize("name", ["adamw8", "adamw4", "galore", "apollo", "apollo-mini"])
def test_vectors_have_adamw(name):
    settings = {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": DECAY}
    expected = trained(lambda p: torch.optim.AdamW([p], **settings), (5,))
    ours = trained(lambda p: optimizer_of(p, name, beta1=0.8, beta2=0.95, eps=1e-3), (5,))

    assert_close(ours, expected)


class SlowAdam:
    """Adam's update of any array, in numpy."""

    def __init__(self):
        self.mean = self.squares = 0.0
        self.steps = 0

    def update(self, gradient):
        self.steps += 1
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.squares = 0.999 * self.squares + 0.001 * gradient**2
        mean, squares = self.mean / (1 - 0.9**self.steps), self.squares / (1 - 0.999**self.steps)
        return mean / (np.sqrt(squares) + 1e-8)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (4, 4)])
def test_galore_is_adam_in_the_leading_directions(shape):
    """The shorter side of 4 is projected to 2; the basis is new in steps 1, 3 and 5.

    The signs of singular vectors are arbitrary, so those of torch are used here.
    """
    weights, adam = numbers(shape, 0).numpy(), SlowAdam()
    tall = shape[0] >= shape[1]
    for step in range(1, STEPS + 1):
        gradient = numbers(shape, step).numpy() * step
        if step % 2:
            whole_basis = torch.linalg.svd(torch.from_numpy(gradient), full_matrices=False)
            left, right = whole_basis.U.numpy(), whole_basis.Vh.numpy()
            basis = right[:2].T if tall else left[:, :2]
        small = gradient @ basis if tall else basis.T @ gradient
        change = adam.update(small)
        whole = change @ basis.T if tall else basis @ change
        weights = weights * (1 - RATE * DECAY) - RATE * 0.5 * whole
    options = {"rank": 2, "refresh_steps": 2, "scale": 0.5}

    assert_close(trained(lambda p: optimizer_of(p, "galore", **options), shape), weights)


def slow_apollo(shape, basis_of, rank, scale, growth):
    """Train by APOLLO in numpy; one factor per channel, or per matrix if the rank is 1."""
    weights, adam, before = numbers(shape, 0).numpy(), SlowAdam(), None
    tall = shape[0] >= shape[1]
    for step in range(1, STEPS + 1):
        gradient = numbers(shape, step).numpy() * step
        basis = basis_of(min(shape), rank, (step - 1) // 2)
        small = gradient @ basis if tall else basis.T @ gradient
        change = adam.update(small)
        along = None if rank == 1 else int(tall)
        above, below = (np.linalg.norm(a, axis=along, keepdims=True) for a in (change, small))
        scaled = gradient * above / (below + 1e-8)
        norm = np.linalg.norm(scaled)
        if before is not None and norm > growth * before:
            scaled *= growth * before / norm
        before = np.linalg.norm(scaled)
        weights = weights * (1 - RATE * DECAY) - RATE * math.sqrt(scale) * scaled
    return weights


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (4, 4)])
@pytest.mark.parametrize(
    ("name", "rank", "options"),
    [("apollo", 2, {"rank": 2, "scale": 4.0}), ("apollo-mini", 1, {"scale": 16.0})],
)
def test_apollo_scales_the_gradient(name, rank, options, shape, monkeypatch):
    """The basis is new in steps 1, 3 and 5; the bound on the norm is reached and not reached."""
    seeds = []

    def basis_of(shorter, rank, refresh):
        return numbers((shorter, rank), 100 + refresh).numpy()

    def directions(gradient, rank, seed):
        seeds.append(seed)
        return torch.from_numpy(basis_of(min(gradient.shape), rank, len(set(seeds)) - 1))

    monkeypatch.setattr(apollo, "random_directions", directions)
    expected = slow_apollo(shape, basis_of, rank, options["scale"], growth=1.2)
    settings = {"refresh_steps": 2, "norm_growth": 1.2, **options}

    assert_close(trained(lambda p: optimizer_of(p, name, **settings), shape), expected)
    assert [seeds.index(seed) for seed in seeds] == [0, 0, 2, 2, 4]


def test_apollo_has_a_basis_of_its_own_for_each_trial_parameter_and_refresh():
    rule = rule_of(Workload(model="test_vit", batch=1, optimizer="apollo"))
    seeds = {
        apollo.Apollo(**{**vars(rule), "seed": seed})._seed(
            apollo.Update(step=step, learning_rate=0.1, weight_decay=0.0, place=place)
        )
        for seed in range(3)
        for place in range(150)
        for step in (1, 201, 401)
    }

    assert len(seeds) == 3 * 150 * 3


def test_an_update_of_apollo_is_not_bound_by_an_update_of_zero():
    """With a head of zeros, the first gradient of every other layer is 0."""
    parameter = torch.nn.Parameter(torch.ones(4, 4))
    optimizer = optimizer_of(parameter, "apollo")
    optimizer.param_groups[0] |= {"lr": 1.0, "weight_decay": 0.0}
    for gradient in (torch.zeros(4, 4), torch.ones(4, 4)):
        parameter.grad = gradient
        optimizer.step()

    assert bool((parameter < 0.99).all())
    assert bool(parameter.isfinite().all())
