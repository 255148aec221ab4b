"""Sparse-Tuning: adapters and their sums written out, and which tokens remain."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.meters.forward_macs import forward_macs

HEAD = 32 * 5 + 5


def moved(make_vit, **options):
    """Return a model in float64 whose adapters do something."""
    model = methods.load("sparse_tuning", **options).prepare(make_vit().double())
    torch.manual_seed(7)
    for block in model.blocks:
        for layer in (block.mlp.dense.back, block.mlp.dense.up):
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
    most = -(-round(rate * (count - 1) * 1000) // 1000)
    q, k, _ = (
        part.unflatten(2, (4, 8)).transpose(1, 2)
        for part in block.attn.qkv(block.norm1(x)).chunk(3, dim=2)
    )
    row = ((q[:, :, :1] @ k.transpose(2, 3)) / 8**0.5).softmax(3)[:, :, 0, 1:].mean(1)
    order = row.argsort(1, descending=True, stable=True)[:, :most] + 1
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
        n, mlp = block.norm2(x), block.mlp
        found = dense(mlp.dense, n)
        x = x + mlp.fc2(mlp.act(mlp.fc1(n))) + found
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


@pytest.mark.parametrize("drop_at", [(1, 2), (3, 4, 10), (11,), ()], ids=str)
def test_groups_begin_where_tokens_are_dropped(drop_at, make_vit, batch):
    """Sums of adapters have as many tokens as the blocks to which they are added."""
    model = methods.load("sparse_tuning", drop_at=drop_at).prepare(make_vit())
    model(batch[0]).sum().backward()

    assert model.blocks[0].carried.now is None


def test_the_embedded_tokens_cannot_be_dropped():
    with pytest.raises(BadInput, match="names block 0"):
        methods.load("sparse_tuning", drop_at=(0, 3))
