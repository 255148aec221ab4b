"""VQT: the queries written out, what trains, and that the features stay as they are."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.method import Unsupported

HEAD = 32 * 5 + 5


def asked(make_vit, **options):
    """Return a model in float64 whose summaries are read."""
    model = methods.load("vqt", **options).prepare(make_vit().double())
    torch.manual_seed(7)
    nn.init.normal_(model.summary.weight, std=0.1)
    return model


def heads_of(x):
    return x.unflatten(2, (4, 8)).transpose(1, 2)


def written_out(model, images):
    """Queries beside the tokens of each block; only the tokens are keys and values."""
    x = model.patch_embed(images)
    x = torch.cat([model.cls_token.expand(len(x), -1, -1), x], dim=1) + model.pos_embed
    read = []
    for block in model.blocks:
        count = block.queries.shape[1]
        both = torch.cat([x, block.queries.expand(len(x), -1, -1)], dim=1)
        q, k, v = map(heads_of, block.attn.qkv(block.norm1(both)).chunk(3, dim=2))
        k, v = k[:, :, :-count], v[:, :, :-count]
        mixed = ((q @ k.transpose(2, 3)) / 8**0.5).softmax(3) @ v
        both = both + block.attn.proj(mixed.transpose(1, 2).flatten(2))
        both = both + block.mlp(block.norm2(both))
        found = both[:, -count:]
        read.append(found / found.norm(dim=2, keepdim=True))
        x = both[:, :-count].detach()
    logits = model.head(model.norm(x)[:, 0])
    return logits + torch.stack(read, 1).flatten(1) @ model.summary.weight.T


@pytest.mark.parametrize("options", [{}, {"queries": 1}], ids=str)
def test_logits_and_gradients_are_those_of_the_formula(options, make_vit, batch):
    images, labels = batch[0].double(), batch[1]
    model = asked(make_vit, **options)
    trained = [p for p in model.parameters() if p.requires_grad]
    logits, expected = model(images), written_out(model, images)

    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)
    found = torch.autograd.grad(cross_entropy(logits, labels), trained)
    right = torch.autograd.grad(cross_entropy(expected, labels), trained)
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-12)


def test_trains_the_queries_the_new_layer_and_the_head(make_vit):
    """In each of twelve blocks 10 queries of 32 numbers, and 5 classes that read all of them."""
    model = methods.load("vqt").prepare(make_vit())
    trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}

    assert sum(trained.values()) == 12 * 10 * 32 * (1 + 5) + HEAD
    assert all(name.startswith(("summary.", "head.")) or "queries" in name for name in trained)


def test_training_starts_from_the_model_s_own_head(make_vit, batch):
    torch.testing.assert_close(
        methods.load("vqt").prepare(make_vit())(batch[0]), make_vit()(batch[0])
    )


def test_no_gradient_passes_from_block_to_block(make_vit, batch):
    model = asked(make_vit)
    seen = []
    for block in model.blocks:
        block.norm1.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    model(batch[0].double())
    tokens = [x for x in seen if x.shape[1] == 17]

    assert len(tokens) == 12
    assert not any(x.requires_grad for x in tokens)


def test_zero_queries_are_refused():
    with pytest.raises(BadInput, match="queries"):
        methods.load("vqt", queries=0)


def test_a_head_that_reads_no_class_token_is_unsupported(make_vit):
    with pytest.raises(Unsupported, match="class token"):
        methods.load("vqt").prepare(make_vit(global_pool="avg"))


def test_the_scores_are_those_of_the_block(make_vit):
    """A query equal to a token finds what the token finds, if nothing else differs."""
    model = methods.load("vqt", queries=1).prepare(make_vit().double())
    block = model.blocks[0]
    x = torch.randn(1, 17, 32, dtype=torch.float64)
    block.queries.data.copy_(x[:, 3:4])
    output, found = block.summarise(x)

    torch.testing.assert_close(found[:, 0], F.normalize(output[:, 3], dim=-1))
