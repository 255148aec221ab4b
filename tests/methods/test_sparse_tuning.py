"""Sparse-Tuning: adapters and their sums written out, and which tokens remain."""

import math
from itertools import pairwise

import pytest
import timm
import torch
from timm.layers import GluMlp
from torch import nn
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.meters.forward_macs import forward_macs
from bsrbench.harness.method import Unsupported
from tests.methods.stored_bytes import NUMBER, stored_bytes, traversed_block

IMAGES, TOKENS, WIDTH = 16, 17, 32
HEAD = 32 * 5 + 5


def moved(make_vit, **options):
    """Return a model in float64 whose adapters do something."""
    model = methods.load("sparse_tuning", **options).prepare(make_vit().double())
    torch.manual_seed(7)
    for block in model.blocks:
        for layer in (block.dense.back, block.dense.up):
            nn.init.normal_(layer.weight, std=0.1)
    return model


def dense(part, x):
    def layer(linear, of):
        return of @ linear.weight.T + linear.bias

    wide = layer(part.down, x).clamp(min=0)
    narrow = layer(part.further, wide)
    joined = torch.cat([narrow, layer(part.back, narrow)], dim=2)
    return layer(part.up, layer(part.join, joined) + wide)


def kept(block, x, rate):
    """Return the class token and the tokens to which it attends most, in this order."""
    count = x.shape[1]
    most = math.ceil(rate * (count - 1))
    q, k, _ = (
        part.unflatten(2, (4, 8)).transpose(1, 2)
        for part in block.attn.qkv(block.norm1(x)).chunk(3, dim=2)
    )
    row = ((q[:, :, :1] @ k.transpose(2, 3)) / 8**0.5).softmax(3)[:, :, 0, 1:].mean(1)
    order = row.argsort(dim=1, descending=True, stable=True)[:, :most] + 1
    chosen = torch.cat([order.new_zeros(len(x), 1), order], dim=1)
    return chosen.unsqueeze(2).expand(-1, -1, x.shape[2])


def written_out(model, images):
    x = model.patch_embed(images)
    x = torch.cat([model.cls_token.expand(len(x), -1, -1), x], dim=1) + model.pos_embed
    summed = x
    for index, block in enumerate(model.blocks):
        chosen = kept(block, x, 0.7) if index in {3, 6, 9} else None
        q, k, v = (
            part.unflatten(2, (4, 8)).transpose(1, 2)
            for part in block.attn.qkv(block.norm1(x)).chunk(3, dim=2)
        )
        mixed = ((q @ k.transpose(2, 3)) / 8**0.5).softmax(3) @ v
        x = x + block.attn.proj(mixed.transpose(1, 2).flatten(2))
        if chosen is not None:
            x = x.gather(1, chosen)
        found = dense(block.dense, x)
        x = x + block.mlp(block.norm2(x)) + found
        if index < 11:
            summed = summed + found
        if index in {2, 5, 8, 11}:
            x = x + summed
            summed = 0
    return model.head(model.norm(x)[:, 0])


@pytest.mark.parametrize("name", ["sparse_tuning", "sparse_tuning+checkpoint"])
def test_logits_and_gradients_are_those_of_the_formula(name, make_vit, batch):
    images, labels = batch[0].double(), batch[1]
    model = moved(make_vit)
    if "+" in name:
        methods.load("checkpoint").prepare(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    logits, expected = model(images), written_out(model, images)
    found = torch.autograd.grad(cross_entropy(logits, labels), trained)
    right = torch.autograd.grad(cross_entropy(expected, labels), trained)

    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-12)


def test_trains_the_adapters_and_the_head(make_vit):
    """32 -> 64 -> 32 -> 64, 96 -> 64 and 64 -> 32, each with biases."""
    model = methods.load("sparse_tuning").prepare(make_vit())
    trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    each = (32 * 64 + 64) + (64 * 32 + 32) + (32 * 64 + 64) + (96 * 64 + 64) + (64 * 32 + 32)

    assert sum(trained.values()) == 12 * each + HEAD
    assert all(".dense." in name or name.startswith("head.") for name in trained)


@pytest.mark.parametrize("options", [{}, {"drop_at": (5,), "fuse": True}, {"drop_at": ()}], ids=str)
def test_declares_the_multiply_adds_of_the_adapters(options, make_vit, batch):
    method = methods.load("sparse_tuning", **options)
    evit = methods.load("evit", keep_rate=0.7, **{"fuse": False} | options)
    image = batch[0][:1]
    more = forward_macs(method.prepare(make_vit()), image).total
    each = 2 * 32 * 64 + 2 * 64 * 32 + 96 * 64
    expected = sum(method.tokens(17)) * each

    assert method.tokens(17) == evit.tokens(17)
    assert expected == method.added_macs(method.tokens(17), 32)
    assert expected == more - forward_macs(evit.prepare(make_vit()), image).total


@pytest.mark.parametrize("options", [{}, {"drop_at": ()}, {"keep_rate": 0.5}], ids=str)
def test_what_is_stored_is_what_the_shapes_say(options, make_vit, batch):
    """Twelve adapters store 64 + 32 + 96 + 64 numbers per token; the norm shares their input.

    Block 0 has no gradient before its adapter, and stores its input and these numbers alone. A
    dropping stores the indices of tokens, of 8 bytes. The last norm stores its input, two
    statistics, and its output for the head.
    """
    method = methods.load("sparse_tuning", **options)
    counts = (TOKENS, *method.tokens(TOKENS))
    inside = sum(counts[1:]) * (64 + 32 + 96 + 64)
    first = TOKENS * WIDTH
    later = sum(traversed_block(*pair) for pair in pairwise(counts[1:]))
    indices = sum(2 * after for before, after in pairwise(counts) if after < before)
    last = counts[-1] * (2 * WIDTH + 2)
    model = method.prepare(make_vit())

    assert IMAGES * (first + later + inside + indices + last) * NUMBER == stored_bytes(
        model, batch[0]
    )


@pytest.mark.parametrize("drop_at", [(1, 2), (3, 4, 10), (11,), ()], ids=str)
def test_groups_begin_where_tokens_are_dropped(drop_at, make_vit, batch):
    """Sums of adapters have as many tokens as the blocks to which they are added."""
    method = methods.load("sparse_tuning", drop_at=drop_at)
    model = method.prepare(make_vit())
    counts = method.tokens(TOKENS)

    model(batch[0]).sum().backward()
    for begin, end in zip(sorted({0, *drop_at} - {11}), sorted(model.ends), strict=True):
        assert len(set(counts[begin : end + 1])) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"drop_at": (0, 3)}, "names block 0"),
        ({"drop_at": (3, 3)}, "must be different blocks"),
        ({"keep_rate": 0.0}, r"must lie in \(0, 1\]"),
    ],
    ids=str,
)
def test_bad_options_are_named(options, said):
    with pytest.raises(BadInput, match=said):
        methods.load("sparse_tuning", **options)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"class_token": False, "global_pool": "avg"}, "no class token"),
        ({"reg_tokens": 2}, "3 leading tokens"),
        ({"global_pool": "avg"}, "the head reads 'avg'"),
        ({"depth": 4}, "the model has 4, so set drop_at"),
    ],
    ids=str,
)
def test_what_the_model_lacks_is_unsupported(changes, said, make_vit):
    with pytest.raises(Unsupported, match=said):
        methods.load("sparse_tuning").prepare(make_vit(**changes))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("deit_tiny_distilled_patch16_224", "2 leading tokens"),
        ("swin_tiny_patch4_window7_224", "SwinTransformer is not one of timm's"),
    ],
)
def test_other_models_are_unsupported(model, said):
    with torch.device("meta"):
        made = timm.create_model(model)
    with pytest.raises(Unsupported, match=said):
        methods.load("sparse_tuning").prepare(made)


def test_a_gated_mlp_has_an_adapter_beside_it_too(make_vit, batch):
    model = methods.load("sparse_tuning").prepare(make_vit(mlp_layer=GluMlp))

    model(batch[0]).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["checkpoint+sparse_tuning", "sparse_tuning+checkpoint"])
def test_recomputed_blocks_give_the_same_gradients(name, make_vit, batch):
    both = []
    for each in (name, "sparse_tuning"):
        torch.manual_seed(3)
        model = methods.load(each).prepare(make_vit().double())
        loss = cross_entropy(model(batch[0].double()), batch[1])
        both.append(torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad]))

    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_blocks_are_recomputed_in_either_order(make_vit, batch):
    stored = {
        name: stored_bytes(methods.load(name).prepare(make_vit()), batch[0])
        for name in ("sparse_tuning", "sparse_tuning+checkpoint", "checkpoint+sparse_tuning")
    }

    assert stored["checkpoint+sparse_tuning"] == stored["sparse_tuning+checkpoint"]
    assert stored["sparse_tuning+checkpoint"] < stored["sparse_tuning"] / 2


@pytest.mark.parametrize("second", ["tome", "lora", "evit"])
def test_what_else_drops_tokens_or_selects_weights_is_not_defined(second, make_vit):
    with pytest.raises(Unsupported, match="is not defined"):
        methods.load(f"sparse_tuning+{second}").prepare(make_vit())
