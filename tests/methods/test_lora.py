"""Low-rank updates: what trains, what they add up to, and merging them."""

import sys
from types import ModuleType

import pytest
import timm
import torch
from timm.layers import SwiGLU
from timm.models.vitamin import GeGluMlp
from torch.nn.functional import cross_entropy

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.method import Unsupported


def trained_names(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def train(model, batch, steps=5):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # 12 blocks, C = 32, head 32 x 5 + 5: A [rank, in], B [out, rank].
        ({}, 12 * 8 * (32 + 96) + 165),
        ({"rank": 2}, 12 * 2 * (32 + 96) + 165),
        ({"targets": ["qkv", "proj"]}, 12 * 8 * ((32 + 96) + (32 + 32)) + 165),
        ({"targets": ["fc1", "fc2"]}, 12 * 8 * 2 * (32 + 128) + 165),
    ],
)
def test_trains_the_number_of_parameters_that_follows_from_the_rank(options, expected, make_vit):
    prepared = methods.load("lora", **options).prepare(make_vit())

    assert expected == sum(p.numel() for p in prepared.parameters() if p.requires_grad)


def test_only_adapters_and_head_train_and_the_head_is_the_models_own(make_vit):
    model = make_vit()
    head = model.head
    prepared = methods.load("lora").prepare(model)
    adapters = {f"blocks.{i}.attn.qkv.lora_{m}.default.weight" for i in range(12) for m in "AB"}

    assert adapters | {"head.weight", "head.bias"} == trained_names(prepared)
    assert prepared.head is head


@pytest.mark.parametrize(
    "options",
    [{}, {"targets": ["qkv", "proj", "fc1", "fc2"], "rank": 3, "alpha": 5}],
)
def test_merged_weights_give_the_same_logits(options, make_vit, batch):
    model = methods.load("lora", **options).prepare(make_vit().double())
    train(model, (batch[0].double(), batch[1]))
    apart = model(batch[0].double())
    for module in list(model.modules()):
        if hasattr(module, "lora_A"):
            module.merge(safe_merge=True)

    torch.testing.assert_close(model(batch[0].double()), apart, rtol=0, atol=1e-10)
    assert not torch.allclose(make_vit().double()(batch[0].double()), apart, atol=1e-3)


def test_the_update_is_scaled_by_alpha_over_rank(make_vit):
    """W + (alpha / rank) B A, worked out by hand."""
    model = methods.load("lora", rank=2, alpha=6).prepare(make_vit())
    layer = model.blocks[5].attn.qkv
    b = torch.randn(96, 2)
    layer.lora_B["default"].weight.data.copy_(b)
    x = torch.randn(7, 32)
    weight = layer.base_layer.weight + 3 * b @ layer.lora_A["default"].weight

    torch.testing.assert_close(x @ weight.T + layer.base_layer.bias, layer(x))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"targets": []}, "must be some of"),
        ({"targets": ["q"]}, "must be some of"),
        ({"targets": ["qkv", "qkv"]}, "each once"),
        ({"rank": 0}, "rank 0 must be at least 1"),
        ({"alpha": 0}, "alpha 0 must be at least 1"),
        ({"rank": 1.5}, "rank"),
    ],
)
@pytest.mark.parametrize("name", ["lora", "dora"])
def test_refuses_options_out_of_range(name, options, said):
    with pytest.raises(BadInput, match=said):
        methods.load(name, **options)


@pytest.mark.parametrize("name", ["lora", "dora"])
def test_says_that_a_convolutional_network_has_no_blocks(name):
    with pytest.raises(Unsupported, match="VisionTransformer"):
        methods.load(name).prepare(timm.create_model("test_resnet"))


@pytest.mark.parametrize("name", ["lora", "dora", "bsr+lora"])
@pytest.mark.parametrize(
    ("changes", "targets", "said"),
    [
        # fc1_g and fc1_x stand in the place of fc1.
        ({"mlp_layer": SwiGLU}, ["qkv", "fc1"], "fc1, but block .* it has qkv, proj, fc2$"),
        ({"mlp_layer": SwiGLU}, ["fc1"], "fc1, but block .* it has qkv, proj, fc2$"),
        # w0, w1 and w2 stand in the place of fc1 and fc2.
        (
            {"mlp_layer": GeGluMlp},
            ["fc2", "qkv", "fc1"],
            "fc2, fc1, but block .* it has qkv, proj$",
        ),
    ],
)
def test_a_target_that_a_block_lacks_is_refused(name, changes, targets, said, make_vit):
    """Peft passes over it in silence where it finds another one."""
    options = {"targets": targets}
    method = methods.load(name, **({"lora": options} if "+" in name else options))

    with pytest.raises(Unsupported, match=f"targets names {said}"):
        method.prepare(make_vit(**changes))


def test_a_target_that_one_block_alone_lacks_is_refused(make_vit):
    model = make_vit()
    model.blocks[7].mlp = SwiGLU(32, 64)

    with pytest.raises(Unsupported, match="targets names fc1, but block 7 has no Linear layer"):
        methods.load("lora", targets=["qkv", "fc1"]).prepare(model)


def test_the_targets_that_gated_blocks_have_are_all_adapted(make_vit):
    """12 blocks, C = 32: qkv maps it to 3 C, fc2 128 to C; rank 8; the head 32 x 5 + 5."""
    method = methods.load("lora", targets=["qkv", "fc2"])
    prepared = method.prepare(make_vit(mlp_layer=SwiGLU))
    expected = 12 * 8 * ((32 + 96) + (128 + 32)) + 165

    assert expected == sum(p.numel() for p in prepared.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("module", "reason"),
    [(None, "import of peft halted"), (ModuleType("peft"), "cannot import name 'LoraConfig'")],
    ids=["absent", "broken"],
)
def test_says_why_peft_cannot_be_loaded(monkeypatch, make_vit, module, reason):
    monkeypatch.setitem(sys.modules, "peft", module)

    with pytest.raises(Unsupported, match=f"peft cannot be loaded .*{reason}.*pip install"):
        methods.load("lora").prepare(make_vit())
