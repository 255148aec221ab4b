"""What the BSR paper and its official code state."""

import pytest
import timm
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.method import Unsupported
from bsrbench.methods.parts.token_dropping import drop


@pytest.mark.parametrize(("classes", "expected"), [(10, 5_328_010), (100, 5_362_660)])
def test_trains_the_published_number_of_parameters_of_deit_s(classes, expected):
    model = timm.create_model("deit_small_patch16_224", num_classes=classes)
    prepared = methods.load("bsr").prepare(model)

    assert expected == sum(p.numel() for p in prepared.parameters() if p.requires_grad)


def test_has_the_published_token_counts():
    # 196 patches: ceil(98), ceil(49.5), ceil(25.5) kept, and the class token and the extra one.
    expected = (*[197] * 3, *[100] * 3, *[52] * 3, *[28] * 3)

    assert expected == methods.load("bsr").tokens(197)


def test_has_the_published_token_counts_without_fusing():
    expected = (*[197] * 3, *[99] * 3, *[50] * 3, *[26] * 3)

    assert expected == methods.load("bsr", fuse=False).tokens(197)


def test_trains_blocks_final_norm_and_head_and_nothing_else(make_vit):
    prepared = methods.load("bsr").prepare(make_vit())
    trained = {name for name, p in prepared.named_parameters() if p.requires_grad}
    expected = {
        name
        for name, _ in make_vit().named_parameters()
        if name.startswith(("blocks.3.", "blocks.7.", "blocks.11.", "norm.", "head."))
    }

    assert expected == trained


def slow_forward(model, images, drop_at, keep_rate, fuse):
    """Return logits the obvious way: explicit softmax, image by image, token by token."""
    tokens = model.patch_embed(images)
    tokens = torch.cat([model.cls_token.expand(len(images), -1, -1), tokens], 1) + model.pos_embed
    rows = [_slow_image(model, image, drop_at, keep_rate, fuse) for image in tokens]
    return model.head(torch.stack(rows))


def _slow_image(model, x, drop_at, keep_rate, fuse):
    for index, block in enumerate(model.blocks):
        mixed, attention = _slow_attention(block.attn, block.norm1(x))
        x = x + mixed
        if index in drop_at and index < len(model.blocks) - 1:
            x = _slow_drop(x, attention[:, 0, 1:].mean(0), keep_rate, fuse)
        x = x + block.mlp(block.norm2(x))
    return model.norm(x)[0]


def _slow_attention(attn, x):
    n, dim = x.shape
    q, k, v = attn.qkv(x).reshape(n, 3, attn.num_heads, -1).permute(1, 2, 0, 3)
    attention = torch.softmax(q @ k.transpose(-2, -1) / (dim // attn.num_heads) ** 0.5, dim=-1)
    return attn.proj((attention @ v).transpose(0, 1).reshape(n, dim)), attention


def _slow_drop(x, score, keep_rate, fuse):
    count = len(score)
    kept = -int(-keep_rate * count // 1)  # rounded up
    if kept >= count:
        return x
    ranked = sorted(range(count), key=lambda i: -score[i].item())
    tokens = [x[0], *(x[1 + i] for i in ranked[:kept])]
    if fuse:
        tokens.append(sum(score[i] * x[1 + i] for i in ranked[kept:]))
    return torch.stack(tokens)


@pytest.mark.parametrize("exact_attention", [True, False])
@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize(
    ("trained_blocks", "drop_at", "keep_rate"),
    [
        ((3, 7, 11), (3, 6, 9), 0.5),
        ((0, 1), (2,), 0.3),
        ((2, 4), (4, 5, 6, 7), 0.7),  # drops in a trained block and in four blocks on end
        ((11,), (0, 10, 11), 0.9),
        ((5, 9), (), 1.0),
    ],
)
def test_equals_the_slow_obvious_way(
    trained_blocks, drop_at, keep_rate, fuse, exact_attention, make_vit, batch
):
    images, labels = batch[0][:4].double(), batch[1][:4]
    options = {"trained_blocks": trained_blocks, "drop_at": drop_at, "keep_rate": keep_rate}
    options |= {"fuse": fuse, "exact_attention": exact_attention}
    fast = methods.load("bsr", **options).prepare(make_vit().double())
    slow = make_vit().double()
    logits = fast(images)
    expected = slow_forward(slow, images, drop_at, keep_rate, fuse)
    cross_entropy(logits, labels).backward()
    cross_entropy(expected, labels).backward()

    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)
    for (name, ours), theirs in zip(fast.named_parameters(), slow.parameters(), strict=True):
        if ours.requires_grad:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-10, msg=name)
        else:
            assert ours.grad is None


@pytest.mark.parametrize("fuse", [True, False])
def test_drops_the_same_tokens_in_evaluation(fuse, make_vit, batch):
    """Inference gets cheaper, too: the head reads what few tokens made of the class token."""
    images = batch[0][:4].double()
    model = methods.load("bsr", fuse=fuse).prepare(make_vit().double()).eval()
    expected = slow_forward(make_vit().double(), images, (3, 6, 9), 0.5, fuse)

    torch.testing.assert_close(model(images), expected, rtol=0, atol=1e-10)


def test_ranks_tokens_by_attention_and_equal_ones_by_position():
    x = torch.arange(8.0).reshape(1, 8, 1)  # the class token 0 and others 1 to 7
    attention = torch.tensor([[0.1, 0.3, 0.1, 0.3, 0.1, 0.3, 0.1]])
    # 2, 4, 6 at 0.3, then 1, 3 at 0.1; dropped are 5 and 7 at 0.1
    expected = [0, 2, 4, 6, 1, 3, 0.1 * 5 + 0.1 * 7]

    assert expected == pytest.approx(drop(x, attention, kept=5, fuse=True).flatten().tolist())


@pytest.mark.parametrize("training", [True, False])
def test_reads_the_same_attention_with_and_without_the_matrix(training, make_vit, batch):
    with_matrix, without = (
        methods.load("bsr", exact_attention=on).prepare(make_vit()).train(training)(batch[0])
        for on in (True, False)
    )

    torch.testing.assert_close(with_matrix, without)


@pytest.mark.parametrize(("exact_attention", "expected"), [(True, [17, 10, 7]), (False, [])])
def test_holds_attention_matrices_only_if_asked(exact_attention, expected, make_vit, batch):
    """A matrix for each of the blocks 3, 6 and 9, of as many tokens as enter it."""
    model = methods.load("bsr", exact_attention=exact_attention).prepare(make_vit())
    saved = []
    with saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda kept: kept):
        model(batch[0])
    square = [t for t in saved if t.dim() == 4 and t.shape[2] == t.shape[3]]

    assert expected == list(dict.fromkeys(t.shape[2] for t in square))


def test_the_last_block_never_drops_even_if_it_is_named(make_vit, batch):
    """The head reads the class token alone, so only what the MLP sees can tell."""
    method = methods.load("bsr", drop_at=[0, 11])
    model = method.prepare(make_vit())
    seen = []
    for block in model.blocks:
        block.mlp.register_forward_hook(lambda *call: seen.append(call[-1].shape[1]))
    model(batch[0])

    assert [10] * 12 == seen  # of 16 others 8, the class token and the fused one
    assert tuple(seen) == method.tokens(17)


def test_keeps_one_token_at_the_smallest_rate():
    # ceil: some token stays whatever the rate, beside the class token and the fused ones.
    assert methods.load("bsr", keep_rate=1e-9).tokens(197)[3] == 3


def test_drops_nothing_at_keep_rate_one(make_vit, batch):
    prepared = methods.load("bsr", drop_at=[], keep_rate=1.0).prepare(make_vit())

    assert torch.equal(make_vit()(batch[0]), prepared(batch[0]))


def test_has_no_backward_below_the_first_trained_block(make_vit, batch):
    model = make_vit()
    inputs = []
    model.blocks[3].register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    methods.load("bsr").prepare(model)(batch[0])

    assert [False] == [x.requires_grad for x in inputs]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keep_rate": 0.0}, "keep_rate 0.0 must lie in"),
        ({"keep_rate": 1.5}, "keep_rate 1.5 must lie in"),
        ({"keep_rate": -0.5}, "keep_rate -0.5 must lie in"),
        ({"keep_rate": True}, "keep_rate"),
        ({"fuse": "yes"}, "fuse"),
        ({"exact_attention": 1}, "exact_attention"),
        ({"keep_rat": 0.5}, "did you mean 'keep_rate'"),
        ({"trained_blocks": [-1]}, "different blocks counted from 0"),
        ({"drop_at": [3, 3]}, "different blocks counted from 0"),
        ({"trained_blocks": "3"}, "trained_blocks"),
    ],
)
def test_refuses_options_out_of_range(options, said):
    with pytest.raises(BadInput, match=said):
        methods.load("bsr", **options)


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({"class_token": False, "global_pool": "avg"}, {}, "no class token"),
        ({"reg_tokens": 4}, {}, "5 leading tokens"),
        ({"global_pool": "avg"}, {}, "reads 'avg'"),
        ({"depth": 10}, {}, "default trained_blocks is the paper's choice for 12 blocks"),
        ({"depth": 14}, {}, "default trained_blocks is the paper's choice for 12 blocks"),
        ({"depth": 6}, {"trained_blocks": [3]}, "the model has 6, so set drop_at"),
        (
            {"depth": 6},
            {"trained_blocks": [3], "drop_at": [3, 6]},
            r"drop_at names blocks \[6\]; the model has 0 to 5",
        ),
        ({}, {"drop_at": [12]}, r"drop_at names blocks \[12\]"),
    ],
)
def test_says_what_a_model_lacks(changes, options, said, make_vit):
    with pytest.raises(Unsupported, match=said):
        methods.load("bsr", **options).prepare(make_vit(**changes))


def test_says_that_a_convolutional_network_has_no_blocks():
    model = timm.create_model("test_resnet")

    with pytest.raises(Unsupported, match="VisionTransformer"):
        methods.load("bsr").prepare(model)
