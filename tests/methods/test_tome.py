"""What the ToMe paper and its official code state."""

from itertools import pairwise

import pytest
import timm
import torch
from torch.nn.functional import cosine_similarity, cross_entropy, scaled_dot_product_attention

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.method import Unsupported
from bsrbench.methods.parts.token_merging import match, merge


def test_every_parameter_trains_when_it_is_alone(make_vit):
    prepared = methods.load("tome").prepare(make_vit())

    assert all(parameter.requires_grad for parameter in prepared.parameters())
    assert list(make_vit().state_dict()) == list(prepared.state_dict())


@pytest.mark.parametrize(
    ("options", "entering", "expected"),
    [
        # 13 a block: 197 - 13, ..., 197 - 156
        ({"merged": 13}, 197, (184, 171, 158, 145, 132, 119, 106, 93, 80, 67, 54, 41)),
        # 16 a block until 21 are left, of which (21 - 1) / 2 can go
        ({"merged": 16}, 197, (181, 165, 149, 133, 117, 101, 85, 69, 53, 37, 21, 11)),
        # 17: 8 of the 16 go, then 4 of 8 (and the class token), 2 of 4, 1 of 2
        ({}, 17, (9, 5, 3, 2, *[2] * 8)),
        # 26 x (11 - block) / 11, rounded down: 26 23 21 18 16 14 11 9 7 4 2 0
        (
            {"merged": 13, "decreasing": True},
            197,
            (171, 148, 127, 109, 93, 79, 68, 59, 52, 48, 46, 46),
        ),
    ],
)
def test_has_the_token_counts_of_its_rule(options, entering, expected):
    assert expected == methods.load("tome", **options).tokens(entering)


@pytest.mark.parametrize("options", [{"merged": 2}, {"merged": 2, "decreasing": True}])
def test_blocks_pass_on_the_tokens_it_declares(options, make_vit, batch):
    method = methods.load("tome", **options)
    model = method.prepare(make_vit(depth=5))
    seen = []
    for block in model.blocks:
        block.register_forward_hook(lambda *call: seen.append(call[-1].shape[1]))
    model(batch[0])

    assert method.tokens(17, depth=5) == tuple(seen)


def slow_match(keys, merged, class_token):
    """Return lists of tokens that become one, in the order of the result, pair by pair."""
    first, second = range(0, len(keys), 2), range(1, len(keys), 2)
    best = []
    for a in first:
        if a == 0 and class_token:
            continue
        likeness = [float(cosine_similarity(keys[a], keys[b], dim=0)) for b in second]
        b = max(range(len(likeness)), key=lambda place: likeness[place])
        best.append((likeness[b], a, second[b]))
    going = sorted(best, key=lambda edge: -edge[0])[:merged]
    left = [[a] for a in first if a not in {edge[1] for edge in going}]
    return left + [[b, *(edge[1] for edge in going if edge[2] == b)] for b in second]


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize(("tokens", "merged"), [(17, 3), (17, 8), (10, 4)])
def test_matches_as_pair_by_pair(tokens, merged, class_token):
    keys = torch.randn(4, tokens, 8, generator=torch.Generator().manual_seed(0))
    places = match(keys, merged, class_token=class_token)

    for image, found in zip(keys, places, strict=True):
        groups = slow_match(image, merged, class_token)
        expected = [0] * tokens
        for place, group in enumerate(groups):
            for token in group:
                expected[token] = place
        assert expected == found.tolist()


def test_the_class_token_stays_first_even_if_others_are_its_equals():
    places = match(torch.ones(2, 17, 8), 8, class_token=True)

    assert [0, 0] == places[:, 0].tolist()
    assert [1, 1] == (places == 0).sum(1).tolist()


def test_pairs_equally_alike_are_merged_in_their_order():
    # Sets 0 2 4 6 and 1 3 5: 2 and 4 go, both to the first of their equals, 1
    places = match(torch.ones(1, 7, 8), 2, class_token=True)

    assert [[0, 2, 2, 3, 2, 4, 1]] == places.tolist()


def test_merging_weighs_tokens_by_the_patches_in_them():
    x = torch.tensor([[[1.0], [2.0], [4.0], [8.0]]])
    joined, sizes = merge(x, torch.tensor([[1.0, 3.0, 1.0, 2.0]]), torch.tensor([[0, 1, 1, 2]]), 3)

    # (3 x 2 + 1 x 4) / 4
    assert [[[1.0], [2.5], [8.0]]] == joined.tolist()
    assert [[1.0, 4.0, 2.0]] == sizes.tolist()


def test_merging_leaves_no_tokens_behind_for_the_backward_pass():
    x = torch.randn(2, 9, 64, requires_grad=True)
    places = match(torch.randn(2, 9, 8), 3, class_token=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.untyped_storage().nbytes()) or t, lambda t: t
    ):
        merge(x, torch.ones(2, 9), places, 6)

    # places, 8 bytes, and weights, 4, of 2 x 9 tokens
    assert sum(kept) <= 18 * (8 + 4)


def slow_forward(model, images, merged, proportional):
    """Return logits the obvious way: image by image, group by group."""
    x = model.patch_embed(images)
    x = torch.cat([model.cls_token.expand(len(images), -1, -1), x], 1) + model.pos_embed
    return model.head(torch.stack([_slow_image(model, one, merged, proportional) for one in x]))


def _slow_image(model, x, merged, proportional):
    sizes = torch.ones(len(x), dtype=x.dtype)
    for block in model.blocks:
        mixed, keys = _slow_attention(block.attn, block.norm1(x), sizes.log() * proportional)
        x = x + mixed
        groups = slow_match(keys.detach(), min(merged, (len(x) - 1) // 2), class_token=True)
        x = torch.stack([sum(sizes[t] * x[t] for t in g) / sizes[g].sum() for g in groups])
        sizes = torch.stack([sizes[g].sum() for g in groups])
        x = x + block.mlp(block.norm2(x))
    return model.norm(x)[0]


def _slow_attention(attn, x, bias):
    n, dim = x.shape
    q, k, v = attn.qkv(x).reshape(n, 3, attn.num_heads, -1).permute(1, 2, 0, 3)
    scores = q @ k.transpose(-2, -1) / (dim // attn.num_heads) ** 0.5 + bias
    return attn.proj((scores.softmax(-1) @ v).transpose(0, 1).reshape(n, dim)), k.mean(0)


@pytest.mark.parametrize("proportional", [False, True])
def test_computes_what_the_paper_writes_forward_and_backward(proportional, make_vit, batch):
    images, labels = batch[0].double()[:4], batch[1][:4]
    found = []
    for slow in (False, True):
        model = make_vit(depth=4).double()
        if not slow:
            options = {"merged": 3, "proportional": proportional}
            methods.load("tome", **options).prepare(model)
        logits = slow_forward(model, images, 3, proportional) if slow else model(images)
        cross_entropy(logits, labels).backward()
        found.append([logits, *(p.grad for p in model.parameters())])

    for mine, expected in zip(*found, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-12)


def gradients(name, make_vit, batch, **options):
    torch.manual_seed(0)
    model = methods.load(name, **options).prepare(make_vit())
    cross_entropy(model(batch[0]), batch[1]).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize("name", ["tome+checkpoint", "checkpoint+tome"])
def test_blocks_run_again_merge_what_they_merged(name, make_vit, batch):
    options = {"merged": 2, "proportional": True}
    alone = gradients("tome", make_vit, batch, **options)

    torch.testing.assert_close(gradients(name, make_vit, batch, tome=options), alone)


@pytest.mark.parametrize("name", ["tome+checkpoint", "checkpoint+tome"])
def test_checkpointing_works_in_either_order(name, make_vit, batch):
    """Of the wide tensors [batch, tokens, 4 dim] inside the MLPs only the last block's is kept."""
    kept = []
    model = methods.load(name).prepare(make_vit())
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        model(batch[0])

    # GELU's input
    assert 1 == len([t for t in kept if t.dim() == 3 and t.shape[-1] == 4 * 32])


def test_two_forward_passes_before_their_backward_keep_their_sizes_apart(make_vit, batch):
    model = methods.load("tome+checkpoint", tome={"proportional": True}).prepare(make_vit())
    halves = batch[0].chunk(2)
    model(halves[0]).sum().backward()
    model(halves[1]).sum().backward()
    apart = [p.grad for p in model.parameters()]
    model.zero_grad()
    (model(halves[0]).sum() + model(halves[1]).sum()).backward()

    for mine, expected in zip([p.grad for p in model.parameters()], apart, strict=True):
        torch.testing.assert_close(mine, expected)


def test_nothing_is_left_of_a_forward_pass(make_vit, batch):
    model = methods.load("tome+checkpoint").prepare(make_vit())
    cross_entropy(model(batch[0]), batch[1]).backward()

    assert all(block.carried.now is None for block in model.blocks)


def test_blocks_alone_say_what_they_miss(make_vit):
    model = methods.load("tome").prepare(make_vit())

    with pytest.raises(RuntimeError, match="outside its model's chain of blocks"):
        model.blocks[0](torch.zeros(1, 17, 32))


def test_tokens_that_come_in_between_are_unsupported(make_vit, batch):
    model = methods.load("tome", merged=2).prepare(make_vit())
    model.blocks[1].register_forward_pre_hook(lambda _, given: torch.cat([given[0]] * 2, 1))

    with pytest.raises(
        Unsupported, match="30 tokens enter a block, but the output of the previous"
    ):
        model(batch[0])


@pytest.mark.parametrize("second", ["int8", "sparse", "int4"])
def test_proportional_attention_reaches_compressed_attention(second, make_vit, batch):
    """Compressed methods compute the forward pass exactly: the logits are tome's own."""
    options = {"merged": 2, "proportional": True}
    alone = methods.load("tome", **options).prepare(make_vit())(batch[0])
    both = methods.load(f"tome+{second}", tome=options).prepare(make_vit())(batch[0])

    torch.testing.assert_close(both, alone)


def test_proportional_attention_stays_fused(monkeypatch, make_vit, batch):
    masks = []

    def spy(*given, attn_mask=None, **options):
        masks.append(attn_mask)
        return scaled_dot_product_attention(*given, attn_mask=attn_mask, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    methods.load("tome", merged=2, proportional=True).prepare(make_vit(depth=2))(batch[0])

    # 17 tokens, then 15 that still stand for 17 patches
    assert [17, 15] == [mask.shape[-1] for mask in masks]
    assert masks[1].exp().sum(-1).flatten().tolist() == pytest.approx([17] * 16)


@pytest.mark.parametrize(("other", "expected"), [("head", 165), ("lora", 12 * 8 * (32 + 96) + 165)])
def test_what_trains_is_the_others_choice(other, expected, make_vit):
    for name in (f"tome+{other}", f"{other}+tome"):
        prepared = methods.load(name).prepare(make_vit())

        assert expected == sum(p.numel() for p in prepared.parameters() if p.requires_grad)


def test_deit_s_halves_its_multiply_adds():
    """The paper's r = 13 on DeiT-S: 2.7 G of 4.6 G; here by arithmetic over the tokens."""
    model = timm.create_model("deit_small_patch16_224", num_classes=1000)
    counts = (197, *methods.load("tome").tokens(197))
    width, macs = model.embed_dim, 196 * 768 * 384
    for before, after in pairwise(counts):
        macs += before * 4 * width**2 + 2 * before**2 * width + after * 8 * width**2

    assert round(macs / 1e9, 1) == 2.7


@pytest.mark.parametrize(
    ("options", "said"),
    [({"merged": 0}, "merged 0 must be at least 1"), ({"merged": 1.5}, "merged"), ({"r": 8}, "r")],
)
def test_refuses_options_out_of_range(options, said):
    with pytest.raises(BadInput, match=said):
        methods.load("tome", **options)


def test_models_with_registers_are_unsupported(make_vit):
    with pytest.raises(Unsupported, match="5 leading tokens"):
        methods.load("tome").prepare(make_vit(reg_tokens=4))


def test_models_without_a_class_token_merge_any(make_vit, batch):
    model = make_vit(class_token=False, global_pool="avg")

    assert methods.load("tome").prepare(model)(batch[0]).shape == (16, 5)


@pytest.mark.parametrize("first", ["bsr", "evit", "late"])
def test_methods_that_drop_tokens_are_refused(first, make_vit):
    with pytest.raises(Unsupported, match="both methods have the kind 'drops tokens'"):
        methods.load(f"{first}+tome").prepare(make_vit())
    with pytest.raises(Unsupported, match="already prepared: it has blocks that drop tokens"):
        methods.load("tome").prepare(methods.load(first).prepare(make_vit()))
    with pytest.raises(Unsupported, match="already prepared"):
        methods.load(first).prepare(methods.load("tome").prepare(make_vit()))
