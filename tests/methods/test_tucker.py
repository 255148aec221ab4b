"""Tucker forms against unfolding and SVD written out."""

import itertools

import numpy as np
import pytest
import torch

from bsrbench.harness.meters.step_flops import StepFlops
from bsrbench.methods.parts.tucker import (
    Tucker,
    cheapest_way,
    gradient_of_weight,
    iterated,
    kept_numbers,
    multiply_adds,
    projected,
    ranks_by_variance,
)
from tests.methods.tucker_by_hand import drawn_starts, low_rank, projection, ranks_of, span

SHAPES = [(6, 5, 7), (4, 3, 20), (8, 9, 3)]


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def basis(n, rank, seed):
    return torch.linalg.qr(draw(n, rank, seed=seed)).Q


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("explained", [0.2, 0.4, 0.8, 0.95, 0.999, 1.0])
def test_ranks_are_the_smallest_that_explain_the_share(shape, explained):
    x = low_rank(shape, (2, 3, 3), noise=0.3)

    assert ranks_of(x.numpy(), explained) == ranks_by_variance(x, explained)


def test_a_tensor_of_low_rank_has_this_rank():
    x = low_rank((6, 5, 7), (1, 2, 2), noise=0)

    assert ranks_by_variance(x, 0.999999) == (1, 2, 2)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize("spare", [1, 2])
def test_an_iteration_spans_the_product_with_the_unfolding(shape, mode, spare):
    """With a small rank it is A (A^T start), with a large one (A A^T) start."""
    x = draw(*shape)
    most = min(shape[mode], x.numel() // shape[mode])
    rank = 1 if spare == 2 else most - spare
    start = draw(shape[mode], rank, seed=1)
    expected = span(x.numpy(), start.numpy(), mode)
    moved = iterated(x, start, mode).numpy()

    np.testing.assert_allclose(moved.T @ moved, np.eye(rank), atol=1e-12)
    np.testing.assert_allclose(expected @ expected.T, moved @ moved.T, atol=1e-9)


def test_a_core_and_its_factors_are_the_projection():
    x = draw(6, 5, 7)
    factors = basis(6, 2, 1), None, basis(7, 3, 2)
    core = projected(x, factors)
    whole = torch.einsum("abc,ia,kc->ibk", core, factors[0], factors[2])
    expected = projection(x.numpy(), [None if u is None else u.numpy() for u in factors])

    assert core.shape == (2, 5, 3)
    np.testing.assert_allclose(whole.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("out", [1, 11])
@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("whole", list(itertools.product([False, True], repeat=3)))
def test_the_gradient_of_a_weight_is_that_of_the_whole_input(out, right, whole):
    shape, ranks = (6, 5, 7), (2, 4, 3)
    factors = tuple(
        None if skip else basis(n, rank, rank)
        for n, rank, skip in zip(shape, ranks, whole, strict=True)
    )
    x = draw(*shape)
    form = Tucker(projected(x, factors), factors)
    gradient, matrix = draw(6, 5, out, seed=3), draw(2, 7, seed=4) if right else None
    projected_x = projection(x.numpy(), [None if u is None else u.numpy() for u in factors])
    expected = np.einsum("bno,bnc->oc", gradient.numpy(), projected_x)
    if right:
        expected = expected @ matrix.numpy().T

    np.testing.assert_allclose(
        gradient_of_weight(gradient, form, matrix).numpy(), expected, atol=1e-11
    )


@pytest.mark.parametrize("out", [1, 4, 40, 400])
@pytest.mark.parametrize("ranks", [(1, 1, 1), (7, 2, 3), (2, 8, 19), (7, 8, 19)])
def test_the_cheapest_way_has_the_operations_that_it_says(out, ranks):
    """Second meter: the FLOPs that torch's formulas count."""
    shape = (8, 9, 20)
    factors = tuple(basis(n, rank, 1) for n, rank in zip(shape, ranks, strict=True))
    sizes = {mode: tuple(factors[mode].shape) for mode in (0, 1)}
    way = cheapest_way((8, 9, out), ranks, sizes)
    macs = multiply_adds(way, (8, 9, out), ranks, sizes)
    with StepFlops() as flops:
        gradient_of_weight(draw(8, 9, out), Tucker(draw(*ranks), factors))

    assert flops.by_phase["forward"] == 2 * (macs + out * ranks[2] * 20)


def test_the_cheapest_way_shrinks_a_wide_gradient_and_widens_the_core_of_a_narrow_one():
    """8 images, 9 tokens, 400 outputs.

    Ranks 1, 1, 3. Shrinking tokens, then images: 8 9 400 + 8 400 + 3 400 = 33,200. Widening both:
    3 9 + 3 9 8 + 8 9 400 3 = 86,643.
    Ranks 7, 8, 1. Widening tokens, then images: 7 8 9 + 7 9 8 + 8 9 400 = 29,808. Any shrinking
    begins with 8 9 400 7 or more.
    """
    narrow, wide = {0: (8, 1), 1: (9, 1)}, {0: (8, 7), 1: (9, 8)}
    shrinking = (1, True), (0, True)
    widening = (1, False), (0, False)

    assert multiply_adds(shrinking, (8, 9, 400), (1, 1, 3), narrow) == 33_200
    assert multiply_adds(widening, (8, 9, 400), (1, 1, 3), narrow) == 86_643
    assert cheapest_way((8, 9, 400), (1, 1, 3), narrow) == shrinking
    assert multiply_adds(widening, (8, 9, 400), (7, 8, 1), wide) == 29_808
    assert cheapest_way((8, 9, 400), (7, 8, 1), wide) == widening


def test_numbers_of_a_form_are_those_of_core_and_factors():
    """2 4 3 numbers in the core; 6 2 and 7 3 in two factors; tokens are whole."""
    assert kept_numbers((6, 4, 7), (2, 4, 3)) == 24 + 12 + 21


def test_drawn_starts_are_repeatable():
    first, again = (drawn_starts((4, 5, 6), (2, 5, 3), seed=7) for _ in range(2))

    assert first[1] is None
    assert np.array_equal(first[0], again[0])
