"""MS-LN: gradients are those of torch, and each norm with its layer stores one tensor."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.method import Unsupported
from bsrbench.harness.meters.live_bytes import LiveBytes

TOKENS = 16 * 17 * 32 * 4  # bytes of [batch, tokens, dim] in fp32


def gradients(model, batch):
    loss = cross_entropy(model(batch[0]), batch[1])
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.autograd.grad(loss, trained)


@pytest.mark.parametrize("first", ["", "lora+", "adapter+", "bsr+", "bias+", "regelu2+"])
def test_gradients_are_those_without_it(first, make_vit, batch):
    images, labels = batch[0].double(), batch[1]
    both = []
    for name in (f"{first}mslnorm", first.removesuffix("+") or "full"):
        torch.manual_seed(3)
        model = methods.load(name).prepare(make_vit().double())
        with torch.no_grad():
            for part in model.modules():
                if isinstance(part, nn.LayerNorm):  # scale 1 and shift 0 would hide a mistake
                    part.weight.mul_(torch.linspace(0.5, 2, 32))
                    part.bias.add_(torch.linspace(-1, 1, 32))
        both.append(gradients(model, (images, labels)))

    for found, right in zip(*both, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-9, atol=1e-12)


def held(name, model, batch):
    prepared = methods.load(name).prepare(model)
    with LiveBytes() as live:
        start = live.now
        loss = cross_entropy(prepared(batch[0]), batch[1])
        kept = live.now - start
    del loss
    return kept


@pytest.mark.parametrize(
    ("first", "saved"),
    [
        ("full", 24),  # both norms of twelve blocks share with their layers
        ("lora", 12),  # the adapters are at qkv
        ("adapter", 12),  # the bottlenecks are beside the MLP
        ("head", 0),
        ("bias", 0),
    ],
)
def test_a_tensor_less_for_each_layer_that_trains(first, saved, make_vit, batch):
    """The mean of each norm is not stored either: one number per token."""
    name = "mslnorm" if first == "full" else f"{first}+mslnorm"
    difference = held(first, make_vit(), batch) - held(name, make_vit(), batch)
    means = 24 * 16 * 17 * 4 if first != "head" else 0

    assert difference == saved * TOKENS + means


def test_the_paper_s_whole_method_saves_what_both_halves_save(make_vit, batch):
    alone = {name: held(name, make_vit(), batch) for name in ("full", "mslnorm", "regelu2")}
    together = held("regelu2+mslnorm", make_vit(), batch)

    assert alone["full"] - together == 2 * alone["full"] - alone["mslnorm"] - alone["regelu2"]


def test_a_layer_that_reads_something_else_is_left_alone(make_vit, batch):
    """proj and fc2 read no norm."""
    model = methods.load("mslnorm").prepare(make_vit())
    block = model.blocks[0]
    x = torch.randn(2, 17, 32, requires_grad=True)

    plain = nn.functional.linear(x, block.attn.proj.weight, block.attn.proj.bias)
    assert torch.equal(block.attn.proj(x), plain)


def test_norms_without_weights_are_unsupported(make_vit):
    model = make_vit(norm_layer=lambda *a, **k: nn.LayerNorm(*a, elementwise_affine=False, **k))
    with pytest.raises(Unsupported, match="block 0 has LayerNorm without a known scale"):
        methods.load("mslnorm").prepare(model)
