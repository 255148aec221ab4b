"""ReGELU2: GELU itself, four levels for its derivative, and two bits a number of it."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import ndtr
from torch import nn
from torch.autograd import Function
from torch.nn import functional as F

from bsrbench import methods
from bsrbench.harness.meters.live_bytes import Category, LiveBytes
from bsrbench.harness.method import Unsupported
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.gelu_levels import JUMPS, LEVELS, THRESHOLDS, find_levels, read_levels
from bsrbench.methods.regelu2 import KeepsLevels

IMAGES, TOKENS, WIDTH, HIDDEN = 16, 17, 64, 256
ROWS = IMAGES * TOKENS


class Plain(Function):
    """The slow way: keeps its input, and looks its derivative up number by number."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return F.gelu(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        derivative = torch.ones_like(x)
        derivative[x <= 3.1908] = 1.0487
        derivative[x <= -0.00118] = -0.0492
        derivative[x <= -3.1859] = 0.0
        return gradient * derivative


class PlainGelu(nn.Module):
    def forward(self, x):
        return Plain.apply(x)


def stepped():
    layer = nn.GELU()
    extend(layer, KeepsLevels)
    return layer


def held_by_block(name, make_vit, batch, index=0):
    """Return the bytes a block of width 64 keeps for its backward pass."""
    model = methods.load(name).prepare(make_vit(embed_dim=WIDTH))
    with LiveBytes() as live:
        live.watch([*model.parameters(), *batch], Category.INPUTS)
        x = torch.randn(IMAGES, TOKENS, WIDTH, requires_grad=True)
        before = live.now
        output = model.blocks[index](x)
        return live.now - before - output.nbytes


@pytest.mark.parametrize("width", [32, 20])
def test_the_derivative_is_the_level_between_two_thresholds(width):
    """20 numbers do not fill two words."""
    edges = [-math.inf, *THRESHOLDS, math.inf]
    expected = torch.tensor(LEVELS)
    for low, high, level in zip(edges, edges[1:], expected, strict=False):
        x = torch.linspace(max(low, -9), min(high, 9), width + 2)[1:-1].view(1, 1, width)
        x = x.expand(3, 5, width).clone().requires_grad_()
        output = stepped()(x)
        output.backward(torch.full_like(x, 2.0))

        assert torch.equal(F.gelu(x), output)
        assert torch.equal(torch.full_like(x, 2 * level), x.grad)


def test_levels_of_neighbours_do_not_mix():
    """Each number's level, wherever it stands in its word, is the slow way's."""
    x = 3 * torch.randn(300, 64, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros_like(x)
    for threshold, jump in zip(THRESHOLDS, JUMPS, strict=True):
        expected += jump * (x > threshold)
    words = find_levels(x)

    assert words.nbytes == x.numel() * 2 // 8
    torch.testing.assert_close(read_levels(words), expected)


def test_the_gradients_of_a_model_are_those_of_the_slow_way(make_vit, batch):
    images, labels = batch[0].double(), batch[1]
    model = methods.load("regelu2").prepare(make_vit().double())
    slow = make_vit().double()
    for block in slow.blocks:
        block.mlp.act = PlainGelu()
    for one in (model, slow):
        F.cross_entropy(one(images), labels).backward()

    for ours, theirs in zip(model.parameters(), slow.parameters(), strict=True):
        # Levels have four digits in the slow way.
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=3e-4 * theirs.grad.norm())


def test_the_published_steps_are_all_but_the_best():
    """Their integral's distance to GELU, integrated, is within 0.1 % of the least there is."""
    x = np.linspace(-10, 10, 20001)

    def distance(of):
        thresholds, jumps = of[:3], [of[3], of[4], 1 - of[3] - of[4]]
        steps = sum(j * np.maximum(x - t, 0) for t, j in zip(thresholds, jumps, strict=True))
        return np.sum((steps - x * ndtr(x)) ** 2) * (x[1] - x[0])

    published = distance([*THRESHOLDS, *JUMPS[:2]])
    best = minimize(distance, [-3, 0.1, 3, 0, 1], method="Nelder-Mead", options={"maxiter": 4000})

    assert LEVELS[-1] == pytest.approx(1)
    assert 0.0095 < best.fun <= published < 1.001 * best.fun


def test_a_frozen_mlp_keeps_two_bits_in_the_place_of_a_number(make_vit, batch):
    """lora: no MLP trains, so GELU's input is all that it keeps."""
    without = held_by_block("lora", make_vit, batch)
    numbers = ROWS * HIDDEN

    assert without - 4 * numbers + numbers // 4 == held_by_block("lora+regelu2", make_vit, batch)


def test_a_trained_mlp_keeps_gelus_output_beside_them(make_vit, batch):
    without = held_by_block("full", make_vit, batch)
    numbers = ROWS * HIDDEN

    assert without - 4 * numbers + numbers // 4 == held_by_block("regelu2", make_vit, batch)


@pytest.mark.parametrize("name", ["bsr+regelu2", "regelu2+bsr"])
def test_in_bsr_frozen_blocks_keep_levels_and_trained_ones_what_they_kept(name, make_vit, batch):
    numbers = ROWS * HIDDEN
    trained, frozen = (held_by_block("bsr", make_vit, batch, index) for index in (7, 8))

    assert trained == held_by_block(name, make_vit, batch, 7)
    assert frozen - 4 * numbers + numbers // 4 == held_by_block(name, make_vit, batch, 8)


def test_the_derivative_stays_exact_where_bsr_computes_gelu_again(make_vit):
    plain = methods.load("bsr").prepare(make_vit())
    both = methods.load("bsr+regelu2").prepare(make_vit())
    x = torch.randn(2, 10, 32)
    for model in (plain, both):
        model.blocks[11].mlp(x).sum().backward()

    for ours, theirs in zip(both.parameters(), plain.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        assert ours.grad is None or torch.equal(ours.grad, theirs.grad)


def test_nothing_is_kept_where_no_gradient_passes(make_vit, batch):
    x = torch.randn(IMAGES, TOKENS, WIDTH)
    with LiveBytes() as live:
        output = stepped()(x)
        with torch.no_grad():
            again = stepped()(x.clone().requires_grad_())

    assert not any("find_levels" in operator for operator in live.timeline.operator)
    assert torch.equal(output, again)


@pytest.mark.parametrize(
    ("activation", "said"),
    [
        (nn.ReLU, "the activation ReLU is not GELU"),
        (
            lambda: nn.GELU(approximate="tanh"),
            "GELU with the approximation 'tanh' is not supported",
        ),
    ],
)
def test_other_activations_are_refused_before_the_model_changes(activation, said, make_vit):
    model = make_vit()
    model.blocks[-1].mlp.act = activation()

    with pytest.raises(Unsupported, match=said):
        methods.load("regelu2").prepare(model)

    assert type(model.blocks[0].mlp.act) is nn.GELU
