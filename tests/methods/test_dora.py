"""DoRA: what trains, what it computes, its gradient, and merging."""

import torch
from torch.nn.functional import cross_entropy

from bsrbench import methods


def moved(make_vit):
    """Return a prepared model whose adapters are no longer where they start."""
    model = methods.load("dora", rank=2, alpha=6).prepare(make_vit().double())
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "magnitude" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def test_only_adapters_norms_and_head_train(make_vit):
    model = make_vit()
    head = model.head
    prepared = methods.load("dora").prepare(model)
    layers = [f"blocks.{i}.attn.qkv.lora_" for i in range(12)]
    parts = ("A.default.weight", "B.default.weight", "magnitude_vector.default.weight")
    adapters = {layer + part for layer in layers for part in parts}
    trained = {name for name, p in prepared.named_parameters() if p.requires_grad}

    assert adapters | {"head.weight", "head.bias"} == trained
    assert prepared.head is head


def test_trains_the_number_of_parameters_that_follows_from_the_rank(make_vit):
    # 12 blocks: A [8, 32], B [96, 8], a norm for each of 96 outputs; the head 32 x 5 + 5.
    expected = 12 * (8 * (32 + 96) + 96) + 165
    prepared = methods.load("dora").prepare(make_vit())

    assert expected == sum(p.numel() for p in prepared.parameters() if p.requires_grad)


def test_computes_a_direction_times_a_magnitude(make_vit):
    """M (W + s B A) / |W + s B A|, the norm of each output's row; the bias is not scaled."""
    layer = moved(make_vit).blocks[5].attn.qkv
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    magnitude = layer.lora_magnitude_vector["default"].weight
    direction = layer.base_layer.weight + 3 * b @ a
    weight = magnitude[:, None] * direction / direction.norm(dim=1, keepdim=True)
    x = torch.randn(7, 32, dtype=torch.float64)

    torch.testing.assert_close(x @ weight.T + layer.base_layer.bias, layer(x))


def test_gradients_take_the_norm_for_a_constant(make_vit):
    """The paper's section 4.3: |W + s B A| gets no gradient."""
    layer = moved(make_vit).blocks[5].attn.qkv
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    magnitude = layer.lora_magnitude_vector["default"].weight
    x = torch.randn(7, 32, dtype=torch.float64)
    mix = torch.randn(7, 96, dtype=torch.float64)
    ours = torch.autograd.grad((layer(x) * mix).sum(), (a, b, magnitude))
    direction = layer.base_layer.weight + 3 * b @ a
    weight = magnitude[:, None] * direction / direction.norm(dim=1, keepdim=True).detach()
    expected = torch.autograd.grad((x @ weight.T * mix).sum(), (a, b, magnitude))

    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_merged_weights_give_the_same_logits(make_vit, batch):
    images, labels = batch[0].double(), batch[1]
    model = moved(make_vit)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        cross_entropy(model(images), labels).backward()
        optimizer.step()
    apart = model(images)
    for module in list(model.modules()):
        if hasattr(module, "lora_A"):
            module.merge(safe_merge=True)

    torch.testing.assert_close(model(images), apart, rtol=0, atol=1e-10)
    assert not torch.allclose(make_vit().double()(images), apart, atol=1e-3)
