"""VQT: the queries written out, what trains, and that the features stay as they are."""

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
from tests.methods.stored_bytes import NUMBER, stored_bytes

IMAGES, TOKENS, WIDTH, HEADS = 16, 17, 32, 4
HEAD = 32 * 5 + 5


def heads_of(x):
    return x.unflatten(2, (4, 8)).transpose(1, 2)


def of_length_one(x):
    return x / (x**2).sum(1, keepdim=True).sqrt()


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
        read.append(of_length_one(both[:, -count:].flatten(1)))
        x = both[:, :-count].detach()
    logits = model.head(of_length_one(model.norm(x)[:, 0]))
    return logits + torch.cat(read, dim=1) @ model.summary.weight.T


@pytest.mark.parametrize("name", ["vqt", "vqt+checkpoint"])
@pytest.mark.parametrize("queries", [10, 1])
def test_logits_and_gradients_are_those_of_the_formula(name, queries, make_vit, batch):
    images, labels = batch[0].double(), batch[1]
    model = methods.load("vqt", queries=queries).prepare(make_vit().double())
    if "+" in name:
        methods.load("checkpoint").prepare(model)
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


def test_the_frozen_features_stay_as_they_are(make_vit, batch):
    seen = []
    for model in (methods.load("vqt").prepare(make_vit()), make_vit()):
        model.norm.register_forward_hook(lambda _, given, __: seen.append(given[0]))
        model(batch[0])

    torch.testing.assert_close(seen[0], seen[1])
    assert not seen[0].requires_grad


@pytest.mark.parametrize("queries", [10, 1])
def test_what_is_stored_is_what_the_shapes_say(queries, make_vit, batch):
    """Keys and values of each block, and the queries' way through it, for each image.

    The queries store the output of attention with a sum for each head, the input of the norm and
    its two statistics, GELU's input, what is divided by its length with two numbers for that, and
    the quotient. Once for all images: projected queries, keys and values of the queries, of which
    only the queries are used, and two statistics. The head stores the features of length 1.
    """
    a_query = WIDTH + HEADS + WIDTH + 2 + 4 * WIDTH + WIDTH + WIDTH
    block = 2 * TOKENS * WIDTH + queries * a_query + 2
    for_all = 12 * queries * (3 * WIDTH + 2)
    model = methods.load("vqt", queries=queries).prepare(make_vit())

    expected = (IMAGES * (12 * block + WIDTH) + for_all) * NUMBER
    assert expected == stored_bytes(model, batch[0])


def test_checkpointing_stores_the_input_of_a_block_instead(make_vit, batch):
    """Of the first eleven blocks: one tensor for each, and the quotient that the head reads."""
    model = methods.load("vqt+checkpoint").prepare(make_vit())
    quotients = 12 * 10 * WIDTH
    last = 2 * TOKENS * WIDTH + 10 * (7 * WIDTH + HEADS + 2) + 2
    once = 10 * (3 * WIDTH + 2)

    expected = IMAGES * (11 * TOKENS * WIDTH + quotients + last + WIDTH) + once
    assert expected * NUMBER == stored_bytes(model, batch[0])


@pytest.mark.parametrize("queries", [10, 3])
def test_declares_the_multiply_adds_of_the_queries(queries, make_vit, batch):
    """Beside them: the projection of queries, once for any number of images, and the new layer."""
    method = methods.load("vqt", queries=queries)
    image = batch[0][:1]
    more = forward_macs(method.prepare(make_vit()), image).total
    once = 12 * queries * (3 * WIDTH**2 + WIDTH * 5)
    each = WIDTH**2 + 8 * WIDTH**2 + 2 * TOKENS * WIDTH  # after attention; MLP; scores, mixing

    assert 12 * queries * each == method.added_macs(method.tokens(TOKENS), WIDTH)
    assert 12 * queries * each + once == more - forward_macs(make_vit(), image).total


@pytest.mark.parametrize(
    "changes",
    [
        {"class_token": False, "global_pool": "avg"},
        {"global_pool": "map"},
        {"reg_tokens": 2, "no_embed_class": True},
        {"mlp_layer": GluMlp},
        {"qk_norm": True, "scale_attn_norm": True, "init_values": 0.5},
        {"depth": 4},
    ],
    ids=str,
)
def test_it_fits_any_plain_transformer_with_one_head(changes, make_vit, batch):
    model = methods.load("vqt").prepare(make_vit(**changes))

    model(batch[0]).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_zero_queries_are_refused():
    with pytest.raises(BadInput, match="queries 0 must be at least 1"):
        methods.load("vqt", queries=0)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("deit_tiny_distilled_patch16_224", "the head is a ModuleList"),
        ("swin_tiny_patch4_window7_224", "SwinTransformer is not one of timm's"),
    ],
)
def test_other_heads_and_models_are_unsupported(model, said):
    with torch.device("meta"):
        made = timm.create_model(model)
    with pytest.raises(Unsupported, match=said):
        methods.load("vqt").prepare(made)


@pytest.mark.parametrize("name", ["vqt", "prompt"])
def test_a_patch_of_unknown_size_is_unsupported(name, make_vit):
    model = make_vit()
    model.patch_embed = nn.Identity()
    with pytest.raises(Unsupported, match="Identity does not tell the size of a patch"):
        methods.load(name).prepare(model)


@pytest.mark.parametrize("order", ["vqt+tome", "tome+vqt"])
def test_tokens_are_not_merged_in_its_blocks(order, make_vit):
    with pytest.raises(Unsupported, match=r"one by one|merge them"):
        methods.load(order).prepare(make_vit())
