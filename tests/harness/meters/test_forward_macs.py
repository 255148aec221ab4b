"""Multiply-adds against closed forms, arithmetic, and the meter of FLOPs."""

import sys
import warnings
from itertools import pairwise

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from bsrbench.harness.errors import Unreadable
from bsrbench.harness.meters.forward_macs import forward_macs
from bsrbench.harness.meters.step_flops import StepFlops
from bsrbench.methods import load

CLASSES = 10


class Of(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def unwritten(name, side):
    """Return a model of 12 blocks whose weights nobody has drawn, and an image for it."""
    with torch.device("meta"):
        model = timm.create_model(name, img_size=side, num_classes=CLASSES)
    return model.to_empty(device="cpu"), torch.zeros(1, 3, side, side)


def closed_form(dim, patch, tokens, dropped):
    """Multiply-adds of a ViT whose MLPs are 4 wide: from what enters and what leaves each block.

    A block's qkv and proj are 4 dim^2 a token, its attention 2 N^2 dim, its MLP 8 dim^2 a token;
    the fused token is one product of all dropped tokens with their weights.
    """
    entering = tokens[0]
    macs = (entering - 1) * 3 * patch**2 * dim + dim * CLASSES
    for before, after in pairwise(tokens):
        macs += before * 4 * dim**2 + 2 * before**2 * dim + after * 8 * dim**2
    return macs + dropped * dim


# name, side, dim, patch, and the tokens that BSR leaves: after blocks 3, 6, 9 the class token,
# half of the others rounded up and the fused one; then how many were dropped in all.
MODELS = [
    ("vit_tiny_patch16_224", 224, 192, 16, (197, 100, 52, 28), 98 + 49 + 25),
    ("deit_tiny_patch16_224", 224, 192, 16, (197, 100, 52, 28), 98 + 49 + 25),
    ("vit_small_patch14_dinov2", 224, 384, 14, (257, 130, 67, 35), 128 + 64 + 33),
    ("vit_small_patch14_dinov2", 56, 384, 14, (17, 10, 7, 5), 8 + 4 + 3),
]


@pytest.mark.parametrize(("name", "side", "dim", "patch", "left", "dropped"), MODELS)
@pytest.mark.parametrize("method", ["full", "bsr"])
def test_macs_and_half_the_flops_equal_the_closed_form(
    method, name, side, dim, patch, left, dropped
):
    model, image = unwritten(name, side)
    prepared = load(method).prepare(model).eval()
    with torch.no_grad(), StepFlops() as flops:
        prepared(image)
    if method == "full":
        expected = closed_form(dim, patch, (left[0],) * 13, 0)
    else:  # the first three blocks drop nothing, then each count leaves three of them
        tokens = (left[0],) * 4 + tuple(count for count in left[1:] for _ in range(3))
        expected = closed_form(dim, patch, tokens, dropped)

    assert expected == forward_macs(prepared, image).total
    assert 2 * expected == flops.by_phase["forward"]


METHODS = [
    *("full", "head", "bias", "lora", "int8", "checkpoint", "bsr"),
    *("bsr+int8", "bsr+checkpoint", "lora+int8"),
]


@pytest.mark.parametrize("method", METHODS)
def test_twice_the_macs_of_an_image_are_the_flops_of_a_training_forward(method, make_vit, batch):
    """Hooks and custom functions of it do no products; shapes alone give the same count."""
    images = batch[0][:3]
    model = load(method).prepare(make_vit())
    with torch.device("meta"):
        outline = load(method).prepare(make_vit())
    with StepFlops() as flops:
        model(images)
    macs = forward_macs(model, images[:1])

    assert flops.by_phase["forward"] == 2 * 3 * macs.total
    assert macs == forward_macs(outline, images[:1].to("meta"))


def test_macs_are_split_by_module_and_operator(make_vit, batch):
    """17 tokens of width 32, 16 patches of 3 x 8 x 8 pixels, 12 blocks."""
    macs = forward_macs(make_vit(), batch[0][:1])
    attention, mlp = 17 * 4 * 32**2 + 2 * 17**2 * 32, 17 * 8 * 32**2

    assert macs.by_operator == {
        "conv": 16 * 3 * 8 * 8 * 32,
        "linear": 12 * 17 * 12 * 32**2 + 32 * 5,
        "scaled_dot_product_attention": 12 * 2 * 17**2 * 32,
    }
    assert macs.total == sum(macs.by_operator.values())
    assert macs.by_module[""] == macs.total
    assert macs.by_module["blocks.3"] == attention + mlp
    assert macs.by_module["blocks.3.attn"] == attention
    assert macs.by_module["blocks.3.mlp.fc1"] == 17 * 32 * 128
    assert "blocks.3.norm1" not in macs.by_module


def test_what_is_not_counted_is_listed(make_vit, batch):
    """25 LayerNorms, 12 GELUs; additions: two a block and the positions."""
    macs = forward_macs(make_vit(), batch[0][:1])

    assert macs.uncounted == {"aten::layer_norm": 25, "aten::gelu": 12, "aten::add": 25}


def test_a_custom_function_is_listed_by_its_name():
    class Squared(torch.autograd.Function):
        @staticmethod
        def forward(_, x):
            return x @ x

        @staticmethod
        def backward(_, gradient):
            return gradient

    macs = forward_macs(Of(Squared.apply), torch.ones(1, 3, 8, 8))

    assert (macs.total, macs.uncounted) == (0, {"prim::PythonOp.Squared": 1})


# Of one image [1, 3, 8, 8], in exact numbers that four digits could not hold.
PRODUCTS = {
    "broadcast product": (lambda x: x[0, 0] @ x, 3 * 8 * 8 * 8),
    "product with a vector": (lambda x: x @ x[0, 0, 0], 3 * 8 * 8),
    "addmm": (lambda x: torch.addmm(x[0, 0], x[0, 0], x[0, 1]), 8 * 8 * 8),
    "baddbmm": (lambda x: torch.baddbmm(x[0], x[0], x[0]), 3 * 8 * 8 * 8),
    "bmm": (lambda x: x[0].bmm(x[0]), 3 * 8 * 8 * 8),
    "mm": (lambda x: x[0, 0].mm(x[0, 1]), 8 * 8 * 8),
    "einsum": (lambda x: torch.einsum("bchw, bcvw -> bchv", x, x), 3 * 8 * 8 * 8),
    "einsum, exact": (
        lambda x: torch.einsum("bi,bj->ij", x[0].flatten(1), x[0].flatten(1)),
        3 * 64 * 64,  # 12,288 would be rounded to 12,290
    ),
    "einsum that sums one factor first": (
        lambda x: torch.einsum("ab,cd->ac", x[0, 0], x[0, 1]),
        8 * 8,
    ),
    "einsum that broadcasts": (
        lambda x: torch.einsum("ab,ac->bc", x[0, 0], x[0, 0, :1]),
        8 * 8 * 8,
    ),
    "attention over other keys": (
        lambda x: F.scaled_dot_product_attention(x[:, :, :5], x, x[..., :4]),
        3 * 5 * 8 * (8 + 4),
    ),
    "grouped convolution": (
        lambda x: F.conv2d(x, x[0, :, None, :3, :3], stride=2, padding=1, groups=3),
        3 * 4 * 4 * 3 * 3,
    ),
}


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_every_kind_of_product_is_counted_exactly(product, device):
    function, expected = PRODUCTS[product]

    assert expected == forward_macs(Of(function), torch.ones(1, 3, 8, 8, device=device)).total


def test_a_product_with_no_formula_is_refused():
    model = Of(lambda x: torch.einsum("...ij,...jk->...ik", x, x))

    with pytest.raises(Unreadable, match="all dimensions named"):
        forward_macs(model, torch.ones(1, 3, 8, 8))


@pytest.mark.parametrize("passes", [(1,), (2,), (5,), (2, 2, 1)], ids=str)
def test_what_runs_once_a_pass_counts_once_a_pass(passes):
    """A network makes the biases of positions, the same for all images of a pass."""
    model = timm.create_model("test_vit_relpos", img_size=64).eval()
    image = torch.zeros(1, 3, 64, 64)
    with torch.no_grad(), StepFlops() as flops:
        for images in passes:
            model(image.expand(images, -1, -1, -1))
    macs = forward_macs(model, image, passes)

    assert flops.by_phase["forward"] == 2 * macs.total
    assert macs.total == macs.by_module[""] == sum(macs.by_operator.values())


def test_of_two_factors_one_for_each_image_and_one_for_each_pass():
    """A product of 8 x 8 x 8 a pass, and one of as many an image: two passes of five images."""
    model = Of(lambda x: x[0, 0] @ x[0, 1] + x[:, 0] @ x[:, 1])

    assert forward_macs(model, torch.ones(1, 3, 8, 8), (3, 2)).total == (2 + 5) * 8**3


def test_only_one_image_is_taken(make_vit, batch):
    with pytest.raises(ValueError, match="a batch of 16"):
        forward_macs(make_vit(), batch[0])


def test_the_forward_pass_is_that_of_evaluation():
    class OnlyTraining(nn.Module):
        def forward(self, x):
            return x @ x if self.training else x

    assert forward_macs(OnlyTraining().train(), torch.ones(1, 3, 8, 8)).total == 0


def state(model):
    return [
        (module.training, len(module._forward_hooks), len(module._forward_pre_hooks))
        for module in model.modules()
    ]


def test_the_model_is_left_as_it_was(make_vit, batch):
    model = make_vit()
    model.blocks[0].eval()
    model.blocks[1].register_forward_hook(lambda *_: None)
    before = state(model)
    forward_macs(model, batch[0][:1])

    assert before == state(model)


def test_a_model_that_cannot_be_traced_is_left_as_it_was(make_vit, batch):
    model = make_vit()
    model.norm = Of(lambda x: x[:, :, 99_999])
    before = state(model)

    with pytest.raises(Unreadable, match="IndexError"):
        forward_macs(model, batch[0][:1])
    assert before == state(model)


def test_no_warning_of_fvcore_or_the_tracer_escapes(make_vit, batch, monkeypatch, caplog):
    """Also where fvcore loads for the first time, and where Python reads a traced number."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "fvcore"]:
        monkeypatch.delitem(sys.modules, name)
    model = make_vit()
    model.norm = Of(lambda x: x + int(x.sum() > 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forward_macs(model, batch[0][:1])

    assert caplog.records == []
