"""New blocks beside frozen ones: the sum written out, with and without dropping."""

import re
from functools import partial

import pytest
import torch
from timm.layers import GELUTanh
from torch import nn
from torch.nn import functional as F
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.meters.forward_macs import forward_macs
from bsrbench.harness.method import Unsupported

BLOCK = 12 * 32**2 + 13 * 32  # weights; biases 3 + 1 + 4 + 1 and two norms of 2 widths


def attention(block, x):
    """Return what attention says and its matrix [batch, heads, tokens, tokens]."""
    qkv = x @ block.attn.qkv.weight.T + block.attn.qkv.bias
    q, k, v = (part.unflatten(2, (4, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=2))
    matrix = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(3)
    mixed = (matrix @ v).transpose(1, 2).flatten(2)
    return mixed @ block.attn.proj.weight.T + block.attn.proj.bias, matrix


def mlp(block, x):
    wide = F.gelu(block.norm2(x) @ block.mlp.fc1.weight.T + block.mlp.fc1.bias)
    return wide @ block.mlp.fc2.weight.T + block.mlp.fc2.bias


def drop(x, scores, keep, fuse):
    """Image by image, token by token."""
    images = []
    for tokens, score in zip(x, scores, strict=True):
        order = sorted(range(len(score)), key=lambda index: -score[index].item())
        rows = [tokens[0], *(tokens[1 + index] for index in order[:keep])]
        if fuse:
            rows.append(sum(score[index] * tokens[1 + index] for index in order[keep:]))
        images.append(torch.stack(rows))
    return torch.stack(images)


def written_out(model, images, beside, drop_at=(), keep_rate=1.0, fuse=True):
    x = model.patch_embed(images)
    x = torch.cat([model.cls_token.expand(len(x), -1, -1), x], dim=1) + model.pos_embed
    for index, block in enumerate(model.blocks):
        entering = x
        said, matrix = attention(block, block.norm1(x))
        x = x + said
        if index in drop_at:
            keep = -int(-keep_rate * (x.shape[1] - 1) // 1)
            scores = matrix[:, :, 0, 1:].mean(1)
            x, entering = drop(x, scores, keep, fuse), drop(entering, scores, keep, fuse)
        x = x + mlp(block, x)
        if index in beside:
            side = entering + attention(block.side, block.side.norm1(entering))[0]
            x = x + side + mlp(block.side, side)
    return model.head(model.norm(x)[:, 0])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"side_blocks": [0, 3, 4], "drop_at": [3, 6]},
        {"side_blocks": [3, 6], "drop_at": [3, 6, 9], "keep_rate": 0.7, "fuse": False},
    ],
    ids=str,
)
def test_logits_and_gradients_are_those_of_the_sum(options, make_vit, batch):
    images, labels = batch[0][:4].double(), batch[1][:4]
    model = methods.load("repnet", **options).prepare(make_vit().double())
    trained = [p for p in model.parameters() if p.requires_grad]
    logits = model(images)
    rest = {"keep_rate": 0.5} | {k: v for k, v in options.items() if k != "side_blocks"}
    expected = written_out(model, images, options.get("side_blocks", (2, 5, 8, 11)), **rest)
    gradients = torch.autograd.grad(cross_entropy(logits, labels), trained)

    torch.testing.assert_close(expected, logits, rtol=0, atol=1e-11)
    torch.testing.assert_close(
        torch.autograd.grad(cross_entropy(expected, labels), trained), gradients
    )


def test_trains_the_new_blocks_the_final_norm_and_the_head(make_vit):
    prepared = methods.load("repnet").prepare(make_vit())
    trained = {name: p.numel() for name, p in prepared.named_parameters() if p.requires_grad}
    places = {re.sub(r"\.(side|weight|bias)\b.*", "", name) for name in trained}

    assert {"blocks.2", "blocks.5", "blocks.8", "blocks.11", "norm", "head"} == places
    assert 4 * BLOCK + 2 * 32 + 165 == sum(trained.values())


def test_new_blocks_are_like_the_models_own_and_drawn_anew(make_vit):
    """Cut off normal numbers of deviation 0.02, biases 0, norms that do nothing yet."""
    model = methods.load("repnet", side_blocks=[1, 3]).prepare(make_vit())
    own, side = model.blocks[3], model.blocks[3].side

    assert own.attn.num_heads == side.attn.num_heads
    assert own.norm1.eps == side.norm1.eps
    assert [p.shape for p in make_vit().blocks[3].parameters()] == [
        p.shape for p in side.parameters()
    ]
    assert float(side.mlp.fc1.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert int(side.attn.proj.bias.count_nonzero()) == int(side.norm2.bias.count_nonzero()) == 0
    assert torch.equal(torch.ones(32), side.norm1.weight)
    assert not torch.equal(model.blocks[1].side.attn.qkv.weight, side.attn.qkv.weight)


@pytest.mark.parametrize("act", [GELUTanh, partial(nn.GELU, approximate="tanh"), nn.SiLU])
@pytest.mark.parametrize("name", ["repnet", "ladder"])
def test_new_blocks_have_the_models_own_activation(name, act, make_vit):
    """A class alone would have lost that GELU is computed by tanh."""
    model = methods.load(name).prepare(make_vit(act_layer=act))
    new = model.blocks[2].side if name == "repnet" else model.branch.blocks[0]
    x = torch.linspace(-3, 3, 61)

    assert torch.equal(act()(x), new.mlp.act(x))


def test_nothing_below_the_first_new_block_has_a_backward_pass(make_vit, batch):
    model = methods.load("repnet").prepare(make_vit())
    graphs = []
    for block in model.blocks:
        block.mlp.register_forward_hook(lambda *call: graphs.append(call[-1].requires_grad))
    model(batch[0])

    # What comes out of block 2 depends on its new block, its own MLP does not.
    assert [False] * 3 + [True] * 9 == graphs


def test_tokens_follow_from_the_dropping():
    """Of 16 others half, the class token and the fused one; then 5 of 9, and so on."""
    method = methods.load("repnet", drop_at=[3, 6])

    assert (17,) * 3 + (10,) * 3 + (7,) * 6 == method.tokens(17)
    assert (17,) * 12 == methods.load("repnet").tokens(17)


@pytest.mark.parametrize("options", [{}, {"drop_at": [5], "fuse": False}], ids=str)
def test_declares_the_multiply_adds_of_the_new_blocks(options, make_vit, batch):
    """A new block at 2 sees 17 tokens, those at 5, 8 and 11 as many or 9."""
    method = methods.load("repnet", **options)
    image = batch[0][:1]
    counts = [17, *([9] * 3 if options else [17] * 3)]
    expected = sum(12 * 32**2 * count + 2 * count**2 * 32 for count in counts)

    assert expected == method.added_macs(method.tokens(17), 32)
    if not options:
        more = forward_macs(method.prepare(make_vit()), image).total
        assert expected == more - forward_macs(make_vit(), image).total


def test_checkpointing_recomputes_new_blocks_too(make_vit, batch):
    """One [batch, tokens, dim] a block is stored, and gradients stay the same."""
    model = methods.load("repnet+checkpoint").prepare(make_vit())
    plain = methods.load("repnet").prepare(make_vit())
    plain.load_state_dict(model.state_dict())
    calls = []
    model.blocks[5].side.register_forward_pre_hook(lambda *_: calls.append(1))
    for one in (model, plain):
        cross_entropy(one(batch[0]), batch[1]).backward()

    assert len(calls) == 2
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        if ours.requires_grad:
            torch.testing.assert_close(theirs.grad, ours.grad)


def test_compression_packs_the_attention_of_new_blocks(make_vit):
    model = methods.load("repnet+int8").prepare(make_vit())
    kinds = {type(block.attn).__name__ for block in (model.blocks[5], model.blocks[5].side)}

    assert {"MixesPackedAttention"} == kinds


def test_what_came_before_would_not_see_the_new_blocks(make_vit):
    with pytest.raises(Unsupported, match="Name repnet first"):
        methods.load("int8+repnet").prepare(make_vit())


def test_the_default_blocks_are_for_twelve(make_vit):
    with pytest.raises(Unsupported, match="the default side_blocks is the paper's choice for 12"):
        methods.load("repnet").prepare(make_vit(depth=14))


def test_blocks_that_were_named_are_no_default(make_vit):
    """Those of BSR's paper are nobody's default here, where none drops."""
    method = methods.load("repnet", side_blocks=[4, 13], drop_at=[3, 6, 9])

    assert len(method.prepare(make_vit(depth=14)).blocks) == 14


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"side_blocks": [3]}, "with one block the official code reads the raw image"),
        ({"side_blocks": []}, "must be at least two blocks"),
        ({"side_blocks": [3, 3]}, "must be different blocks"),
        ({"drop_at": [-1]}, "must be different blocks"),
        ({"keep_rate": 0.0}, r"keep_rate 0.0 must lie in \(0, 1\]"),
    ],
)
def test_refuses_options_out_of_range(options, said):
    with pytest.raises(BadInput, match=said):
        methods.load("repnet", **options)
