"""MS-LN: gradients are those of torch, and each norm with its layer stores one tensor."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.method import Unsupported
from tests.methods.stored_bytes import NUMBER, stored_bytes

IMAGES, TOKENS, WIDTH, HEADS = 16, 17, 32, 4


def gradients(model, batch):
    loss = cross_entropy(model(batch[0]), batch[1])
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.autograd.grad(loss, trained)


@pytest.mark.parametrize("first", ["", "lora+", "adapter+", "bsr+", "bias+", "repnet+"])
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


@pytest.mark.parametrize(
    "changes",
    [{"norm_layer": lambda *a, **k: nn.LayerNorm(*a, bias=False, **k)}, {"scale_attn_norm": True}],
    ids=["no shift", "norms inside"],
)
def test_gradients_with_other_norms_are_those_of_torch(changes, make_vit, batch):
    images, labels = batch[0].double(), batch[1]
    right = gradients(make_vit(**changes).double(), (images, labels))
    model = methods.load("mslnorm").prepare(make_vit(**changes).double())

    for one, other in zip(gradients(model, (images, labels)), right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_what_is_stored_is_what_the_shapes_say(make_vit, batch):
    """In each block two normalised tensors and one deviation per token for norms and first layers.

    Attention stores queries, keys, values, its output (which is the input of the next layer) and a
    sum per head and token; GELU and the layer behind it four tensors each. The last norm is as it
    was: input, two statistics per token, and its output for the head.
    """
    model = methods.load("mslnorm").prepare(make_vit())
    block = TOKENS * ((2 + 3 + 1 + 8) * WIDTH + 2 + HEADS)
    last = TOKENS * (2 * WIDTH + 2)

    assert IMAGES * (12 * block + last) * NUMBER == stored_bytes(model, batch[0])


@pytest.mark.parametrize(
    ("first", "saved", "norms"),
    [
        ("full", 24, 24),  # both norms of twelve blocks share with their layers
        ("lora", 11, 23),  # adapters are at qkv; block 0 has no gradient before its attention,
        ("adapter", 11, 22),  # nor before the bottleneck beside its MLP: its norms store nothing
        ("bias", 0, 24),
        ("head", 0, 0),
    ],
)
def test_a_tensor_less_for_each_layer_that_trains(first, saved, norms, make_vit, batch):
    """The mean of each norm is not stored either: one number per token."""
    name = "mslnorm" if first == "full" else f"{first}+mslnorm"
    without = stored_bytes(methods.load(first).prepare(make_vit()), batch[0])
    stored = stored_bytes(methods.load(name).prepare(make_vit()), batch[0])

    assert IMAGES * TOKENS * (saved * WIDTH + norms) * NUMBER == without - stored


@pytest.mark.parametrize("first", ["dtl", "sparse_tuning"])
def test_it_costs_a_tensor_where_the_norm_s_input_is_stored_anyway(first, make_vit, batch):
    """As the card says."""
    without = stored_bytes(methods.load(first).prepare(make_vit()), batch[0])

    assert without < stored_bytes(methods.load(f"{first}+mslnorm").prepare(make_vit()), batch[0])


def test_the_paper_s_whole_method_saves_what_both_halves_save(make_vit, batch):
    stored = {
        name: stored_bytes(methods.load(name).prepare(make_vit()), batch[0])
        for name in ("full", "mslnorm", "regelu2", "regelu2+mslnorm")
    }
    saved = {name: stored["full"] - bytes_ for name, bytes_ in stored.items()}

    assert saved["regelu2+mslnorm"] == saved["mslnorm"] + saved["regelu2"]


def test_norms_of_queries_and_keys_are_left_alone(make_vit, batch):
    """No Linear layer reads them, and their input is a part of what attention stores."""
    plain = stored_bytes(make_vit(qk_norm=True), batch[0])
    model = methods.load("mslnorm").prepare(make_vit(qk_norm=True))

    assert IMAGES * TOKENS * (24 * WIDTH + 24) * NUMBER == plain - stored_bytes(model, batch[0])


def test_a_layer_that_reads_something_else_is_left_alone(make_vit):
    """Proj and fc2 read no norm."""
    model = methods.load("mslnorm").prepare(make_vit())
    block = model.blocks[0]
    x = torch.randn(2, 17, 32, requires_grad=True)

    plain = nn.functional.linear(x, block.attn.proj.weight, block.attn.proj.bias)
    assert torch.equal(block.attn.proj(x), plain)


def test_the_other_order_is_not_defined(make_vit):
    with pytest.raises(Unsupported, match=r"regelu2\+mslnorm is defined"):
        methods.load("mslnorm+regelu2").prepare(make_vit())


@pytest.mark.parametrize(
    ("norm", "said"),
    [
        (lambda *a, **k: nn.LayerNorm(*a, elementwise_affine=False, **k), "LayerNorm without"),
        (nn.RMSNorm, "RMSNorm with"),
    ],
    ids=["no weights", "RMSNorm"],
)
def test_other_norms_are_unsupported(norm, said, make_vit):
    with pytest.raises(Unsupported, match=f"a norm of block 0 is a {said} weights"):
        methods.load("mslnorm").prepare(make_vit(norm_layer=norm))
