"""Attention, softmax and positions of torch and timm are what this project relies on."""

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from bsrbench.harness.torch_internals import eager_internals as internals
from tests.harness.torch_internals.seen_operators import Operators


def _heads(*, dtype=torch.float32, device="cpu"):
    torch.manual_seed(0)
    return [torch.randn(2, 3, 5, 8, dtype=dtype, device=device) for _ in range(3)]


def _attention_backward(q, k, v, gradient):
    """Return gradients by the definition, through autograd."""
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    with sdpa_kernel(SDPBackend.MATH):
        mixed = F.scaled_dot_product_attention(*leaves)
    return torch.autograd.grad(mixed, leaves, gradient)


def test_a_softmax_comes_to_the_operator_and_its_backward():
    x = torch.randn(2, 3, requires_grad=True)
    made = x.softmax(-1)
    gradient = torch.randn(2, 3)
    (expected,) = torch.autograd.grad(made, x, gradient)

    torch.testing.assert_close(internals.SOFTMAX(x.detach(), -1, False), made.detach())
    found = internals.SOFTMAX_BACKWARD(gradient, made.detach(), -1, torch.float32)
    torch.testing.assert_close(found, expected)
    with torch.no_grad(), Operators() as seen:
        x.softmax(-1)
    assert [f"{internals.SOFTMAX}.default"] == seen.names


def test_attention_of_cpus_returns_the_logarithms_of_a_softmaxs_sums():
    q, k, v = _heads()
    scores = q @ k.transpose(-2, -1) / 8**0.5

    mixed, sums = internals.CPU_ATTENTION(q, k, v)

    torch.testing.assert_close(mixed, scores.softmax(-1) @ v)
    torch.testing.assert_close(sums, scores.logsumexp(-1))
    with Operators() as seen:
        F.scaled_dot_product_attention(q, k, v)
    assert f"{internals.CPU_ATTENTION}.default" in seen.names


def test_attention_of_cpus_is_differentiated_from_its_output_and_sums():
    q, k, v = _heads()
    mixed, sums = internals.CPU_ATTENTION(q, k, v)
    gradient = torch.randn(mixed.shape)

    found = internals.CPU_ATTENTION_BACKWARD(gradient, q, k, v, mixed, sums, 0.0, False)

    torch.testing.assert_close(found, _attention_backward(q, k, v, gradient))


@pytest.mark.cuda
def test_attention_of_gpus_gives_sums_and_gradients():
    q, k, v = _heads(device="cuda")
    scores = q @ k.transpose(-2, -1) / 8**0.5
    mixed, sums, *_ = internals.CUDA_ATTENTION(q, k, v, None, compute_log_sumexp=True)
    gradient = torch.randn_like(mixed)
    unused = torch.zeros((), dtype=torch.int64, device="cuda")

    *found, _ = internals.CUDA_ATTENTION_BACKWARD(
        gradient, q, k, v, None, mixed, sums, unused, unused, 0.0, [True] * 3 + [False]
    )

    torch.testing.assert_close(mixed, scores.softmax(-1) @ v, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(sums[..., :5], scores.logsumexp(-1), rtol=1e-3, atol=1e-3)
    expected = _attention_backward(q, k, v, gradient)
    torch.testing.assert_close(tuple(found), expected, rtol=1e-3, atol=1e-3)


def test_attention_of_gpus_has_the_arguments_it_is_given():
    forward = internals.arguments_of(internals.CUDA_ATTENTION.default)
    backward = internals.arguments_of(internals.CUDA_ATTENTION_BACKWARD.default)

    names = ["query", "key", "value", "attn_bias", "compute_log_sumexp", "dropout_p"]
    assert names == [a.name for a in forward][:6]
    last = ["philox_seed", "philox_offset", "dropout_p", "grad_input_mask", "is_causal", "scale"]
    assert ["grad_out_", "query", "key", "value", "attn_bias", "out", "logsumexp", *last] == [
        a.name for a in backward
    ]


def test_positions_are_added_as_the_whole_pass_of_timm_adds_them():
    vit = timm.create_model("test_vit").eval()
    nn.init.normal_(vit.pos_embed)
    images, seen = torch.randn(2, 3, 160, 160), []
    vit.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    vit(images)

    tokens = vit.norm_pre(vit.patch_drop(internals.with_positions(vit, vit.patch_embed(images))))

    torch.testing.assert_close(tokens, seen[0])


def test_kernels_of_attention_are_listed_in_the_order_that_was_set():
    before = internals.order_of_attention_kernels()
    with sdpa_kernel([SDPBackend.MATH, SDPBackend.FLASH_ATTENTION], set_priority=True):
        inside = internals.order_of_attention_kernels()

    assert inside.startswith("MATH, FLASH_ATTENTION")
    assert before == internals.order_of_attention_kernels()
    assert before.startswith("FLASH_ATTENTION, EFFICIENT_ATTENTION")
