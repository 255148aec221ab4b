"""With copies that lose nothing, the operators' gradients are those of autograd."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bsrbench.harness.model.attention import class_attention
from bsrbench.methods.parts import packed_attention, packed_operators
from bsrbench.methods.parts.packed_operators import as_is

BATCH, TOKENS, HEADS, DIM = 3, 9, 4, 16


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def assert_same(ours, plain, *inputs):
    """Compare values, and gradients of a sum weighted at random, of two functions."""
    found = []
    for function in (ours, plain):
        outputs = function(*inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = sum((o * numbers(*o.shape, seed=9).detach()).sum() for o in outputs)
        found.append((*outputs, *torch.autograd.grad(loss, inputs)))
    for mine, expected in zip(*found, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-10)


@pytest.fixture(params=["whole", "image by image", "image by image, fused"])
def chunks(request, monkeypatch):
    """Unpack everything at once, or one image at a time; recompute attention in both ways."""
    if request.param != "whole":
        monkeypatch.setattr(packed_operators, "ELEMENT_BYTES", 1)
        monkeypatch.setattr(packed_attention, "MATRIX_BYTES", 1)
        monkeypatch.setattr(packed_operators.chunks, "__defaults__", (1,))
    if request.param == "image by image, fused":
        monkeypatch.setattr(packed_attention, "ATTENTION_BYTES", 1)


def test_linear(chunks):
    x, weight, bias = numbers(BATCH, TOKENS, 8), numbers(5, 8), numbers(5)

    assert_same(lambda *t: packed_operators.linear(*t, as_is), F.linear, x, weight, bias)


def test_gelu(chunks):
    assert_same(lambda t: packed_operators.gelu(t, as_is), F.gelu, numbers(BATCH, TOKENS, DIM))


def test_gelu_and_linear(chunks):
    x, weight, bias = numbers(BATCH, TOKENS, 8), numbers(5, 8), numbers(5)

    assert_same(
        lambda *t: packed_operators.gelu_linear(*t, as_is),
        lambda x, w, b: F.linear(F.gelu(x), w, b),
        *(x, weight, bias),
    )


def test_layer_norm():
    x, weight, bias = numbers(BATCH, TOKENS, DIM), numbers(DIM), numbers(DIM)

    assert_same(
        lambda *t: packed_operators.layer_norm(*t, 1e-6, as_is),
        lambda x, w, b: F.layer_norm(x, (DIM,), w, b, 1e-6),
        *(x, weight, bias),
    )


def test_scale(chunks):
    x, factors = numbers(BATCH, TOKENS, DIM), numbers(DIM)

    assert_same(lambda *t: packed_operators.scale(*t, as_is), torch.mul, x, factors)


@pytest.mark.parametrize("ranked", [False, True])
@pytest.mark.parametrize("explicit", [False, True])
def test_attention(explicit, ranked, chunks):
    """Mixed values and the class token's attention, through plain softmax and by both ways."""
    factor = 0.3

    def plain(qkv):
        q, k, v = packed_attention.split(qkv, HEADS)
        matrix = (q @ k.transpose(-2, -1) * factor).softmax(-1)
        mixed = (matrix @ v).transpose(1, 2).flatten(2)
        return (mixed, matrix[:, :, 0, 1:].mean(1)) if ranked else mixed

    def ours(qkv):
        if explicit:
            found = packed_attention.explicit_attention(
                qkv, HEADS, factor, ranked=ranked, inputs=as_is, matrix=as_is
            )
        else:
            found = packed_attention.attention(qkv, HEADS, factor, ranked=ranked, inputs=as_is)
        return found if ranked else found[0]

    assert_same(ours, plain, numbers(BATCH, TOKENS, 3 * DIM))


@pytest.mark.parametrize("explicit", [False, True])
def test_attention_with_a_bias_of_the_keys(explicit, chunks):
    """Each image has a bias of its own; it is a constant."""
    bias = numbers(BATCH, 1, 1, TOKENS, seed=1).detach()
    made = packed_attention.explicit_attention if explicit else packed_attention.attention
    codecs = {"inputs": as_is} | ({"matrix": as_is} if explicit else {})

    def plain(qkv):
        q, k, v = packed_attention.split(qkv, HEADS)
        scores = q @ k.transpose(-2, -1) * 0.3 + bias
        return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)

    def ours(qkv):
        return made(qkv, HEADS, 0.3, ranked=False, bias=bias, **codecs)[0]

    assert_same(ours, plain, numbers(BATCH, TOKENS, 3 * DIM))


def test_the_class_tokens_attention_is_that_of_the_plain_way():
    attention = nn.Module()
    attention.scale = 0.3
    qkv = numbers(BATCH, TOKENS, 3 * DIM)
    q, k, _ = packed_attention.split(qkv, HEADS)
    _, row = packed_attention.attention(qkv, HEADS, 0.3, ranked=True, inputs=as_is)

    torch.testing.assert_close(class_attention(attention, q, k), row)
