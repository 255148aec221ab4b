"""DTL: the side network written out, what trains, what has no backward pass."""

import pytest
import timm
import torch
from timm.layers import GluMlp
from torch import nn
from torch.nn.functional import conv2d, cross_entropy

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.meters.forward_macs import forward_macs
from bsrbench.harness.method import Unsupported
from tests.methods.stored_bytes import NUMBER, stored_bytes, traversed_block

IMAGES, TOKENS, WIDTH = 16, 17, 32
HEAD = 32 * 5 + 5


def moved(make_vit, **options):
    """Return a model in float64 whose side network does something."""
    model = methods.load("dtl", **options).prepare(make_vit().double())
    torch.manual_seed(7)
    for layer in model.side.up:
        nn.init.normal_(layer.weight, std=0.1)
    return model


def written_out(model, images, first, *, plus):
    x = model.patch_embed(images)
    x = torch.cat([model.cls_token.expand(len(x), -1, -1), x], dim=1) + model.pos_embed
    h = torch.zeros_like(x)
    for index, block in enumerate(model.blocks):
        h = h + x @ model.side.down[index].weight.T @ model.side.up[index].weight.T
        x = block(x)
        if index >= first:
            s = h / (1 + torch.exp(-100 * h))
            if plus:
                side = 4
                grid = s[:, 1:].transpose(1, 2).reshape(len(x), 32, side, side)
                mixed = conv2d(grid, model.side.convolution.weight, padding=1, groups=32)
                s = torch.cat([s[:, :1], mixed.reshape(len(x), 32, -1).transpose(1, 2)], dim=1)
            x = x + s
    return model.head(model.norm(x[:, 1:].mean(1)))


@pytest.mark.parametrize(
    "options", [{}, {"rank": 5, "first": 2}, {"plus": True}, {"first": 0}], ids=str
)
def test_logits_and_gradients_are_those_of_the_formula(options, make_vit, batch):
    images, labels = batch[0].double(), batch[1]
    model = moved(make_vit, **options)
    trained = [p for p in model.parameters() if p.requires_grad]
    logits = model(images)
    expected = written_out(model, images, options.get("first", 6), plus=options.get("plus", False))
    found = torch.autograd.grad(cross_entropy(logits, labels), trained)
    right = torch.autograd.grad(cross_entropy(expected, labels), trained)

    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize(("options", "more"), [({}, 0), ({"plus": True}, 32 * 9)], ids=str)
def test_trains_the_side_network_and_the_head(options, more, make_vit):
    """Twelve pairs of 32 x 2 numbers, the kernel of DTL+, and the head."""
    model = methods.load("dtl", **options).prepare(make_vit())
    trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}

    assert sum(trained.values()) == 12 * 2 * 32 * 2 + more + HEAD
    assert all(name.startswith(("side.", "head.")) for name in trained)


def test_blocks_up_to_the_first_changed_one_have_no_backward_pass(make_vit, batch):
    model = moved(make_vit, first=3)
    through = []
    for index, block in enumerate(model.blocks):
        block.register_forward_hook(
            lambda *call, index=index: through.append(index) if call[2].requires_grad else None
        )
    model(batch[0].double())

    assert through == list(range(4, 12))


@pytest.mark.parametrize(
    "options", [{}, {"rank": 5, "first": 3}, {"plus": True}, {"first": 11}], ids=str
)
def test_what_is_stored_is_what_the_shapes_say(options, make_vit, batch):
    """The side network: the input and the inner activation of twelve products, and h for the gates.

    DTL+: also the inputs of the convolutions. The norm before attention of a later block shares the
    input of the product. The last norm and the head store the mean of the patch tokens.
    """
    rank, first = options.get("rank", 2), options.get("first", 6)
    gates = (12 - first) * (2 if options.get("plus") else 1)
    side = TOKENS * (12 * (WIDTH + rank) + gates * WIDTH)
    later = (11 - first) * (traversed_block(TOKENS) - TOKENS * WIDTH)
    read = WIDTH + 2 + WIDTH
    model = methods.load("dtl", **options).prepare(make_vit())

    assert IMAGES * (side + later + read) * NUMBER == stored_bytes(model, batch[0])


def test_the_side_network_starts_without_effect(make_vit, batch):
    """The head reads the mean of the patch tokens of the frozen model."""
    model, plain = methods.load("dtl").prepare(make_vit()), make_vit()
    seen = []
    plain.blocks[-1].register_forward_hook(lambda *call: seen.append(call[2]))
    plain(batch[0])

    torch.testing.assert_close(model(batch[0]), plain.head(plain.norm(seen[0][:, 1:].mean(1))))


@pytest.mark.parametrize("options", [{}, {"rank": 3, "plus": True}, {"first": 9}], ids=str)
def test_declares_the_multiply_adds_it_brings(options, make_vit, batch):
    method = methods.load("dtl", **options)
    image = batch[0][:1]
    more = forward_macs(method.prepare(make_vit()), image).total
    rank, first = options.get("rank", 2), options.get("first", 6)
    expected = 12 * 17 * 2 * 32 * rank + (12 - first) * 16 * 32 * 9 * options.get("plus", False)

    assert expected == method.added_macs(method.tokens(17), 32)
    assert expected == more - forward_macs(make_vit(), image).total


@pytest.mark.parametrize(
    ("options", "said"), [({"rank": 0}, "rank"), ({"first": -1}, "first")], ids=str
)
def test_bad_options_are_named(options, said):
    with pytest.raises(BadInput, match=said):
        methods.load("dtl", **options)


@pytest.mark.parametrize(
    ("options", "changes", "said"),
    [
        ({"rank": 33}, {}, "rank 33 is larger than the width 32"),
        ({"first": 12}, {}, "only 12 blocks"),
        ({}, {"depth": 4}, "the model has 4, so set first"),
        ({}, {"global_pool": "map"}, "the head reads 'map'"),
        ({"plus": True}, {"patch_drop_rate": 0.5}, "this model drops patches"),
    ],
    ids=str,
)
def test_what_the_model_lacks_is_unsupported(options, changes, said, make_vit):
    with pytest.raises(Unsupported, match=said):
        methods.load("dtl", **options).prepare(make_vit(**changes))


def test_two_heads_are_unsupported():
    with torch.device("meta"):
        model = timm.create_model("deit_tiny_distilled_patch16_224")
    with pytest.raises(Unsupported, match="two heads"):
        methods.load("dtl").prepare(model)


@pytest.mark.parametrize("model", ["test_resnet", "swin_tiny_patch4_window7_224"])
def test_other_kinds_of_models_are_unsupported(model):
    with torch.device("meta"):
        made = timm.create_model(model)
    with pytest.raises(Unsupported, match="is not one of timm's VisionTransformer models"):
        methods.load("dtl").prepare(made)


def test_a_grid_of_unknown_size_is_unsupported(make_vit):
    model = make_vit()
    model.patch_embed = nn.Identity()
    with pytest.raises(Unsupported, match="Identity does not tell its size"):
        methods.load("dtl", plus=True).prepare(model)


@pytest.mark.parametrize("order", ["dtl+tome", "tome+dtl"])
def test_tokens_are_not_merged_beside_it(order, make_vit):
    with pytest.raises(Unsupported, match=r"one by one|merge them"):
        methods.load(order).prepare(make_vit())


@pytest.mark.parametrize(
    "changes",
    [
        {"class_token": False, "global_pool": "avg"},
        {"reg_tokens": 2, "no_embed_class": True},
        {"mlp_layer": GluMlp},
        {"dynamic_img_size": True},
    ],
    ids=str,
)
def test_any_leading_tokens_and_any_grid_will_do(changes, make_vit, batch):
    """An image need not be square, and only patches are convolved."""
    model = methods.load("dtl", plus=True).prepare(make_vit(**changes))
    nn.init.normal_(model.side.up[6].weight)
    images = batch[0][:2]
    if "dynamic_img_size" in changes:
        images = torch.cat([images, images], dim=3)

    assert model(images).shape == (2, 5)
    with torch.no_grad():
        h = torch.zeros(1, 16 + model.num_prefix_tokens, 32)
        h[:, : model.num_prefix_tokens] = 1.0
        added = model.side.gated(h, (4, 4))
    assert torch.equal(added, h)
