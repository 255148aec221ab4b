"""LayerNorm tuning trains scales, shifts and the head."""

import pytest
import timm
import torch
from timm.layers import RmsNorm

from bsrbench import methods
from bsrbench.harness.method import Unsupported


def test_trains_the_norms_and_the_head_and_nothing_else(make_vit):
    prepared = methods.load("norm").prepare(make_vit())
    trained = {name for name, p in prepared.named_parameters() if p.requires_grad}
    expected = {
        name
        for name, _ in make_vit().named_parameters()
        if name.startswith(("norm.", "head.")) or ".norm" in name
    }

    assert expected == trained


def test_trains_the_number_of_parameters_that_follows_from_the_dimensions():
    # 2 norms in each of 12 blocks and one after them, a scale and a shift of 384 each; the head.
    model = timm.create_model("deit_small_patch16_224", num_classes=10)
    prepared = methods.load("norm").prepare(model)
    expected = 25 * 2 * 384 + 384 * 10 + 10

    assert expected == sum(p.numel() for p in prepared.parameters() if p.requires_grad)


def test_trains_norms_of_queries_and_keys_too(make_vit):
    prepared = methods.load("norm").prepare(make_vit(qk_norm=True))

    assert prepared.blocks[0].attn.q_norm.weight.requires_grad


def test_trains_scales_of_rmsnorm_too(make_vit):
    """2 in each of 12 blocks and one after them, 32 numbers each; the head 32 x 5 + 5."""
    prepared = methods.load("norm").prepare(make_vit(norm_layer=RmsNorm))

    assert 25 * 32 + 165 == sum(p.numel() for p in prepared.parameters() if p.requires_grad)


def test_a_networks_batch_norms_stay_frozen():
    """A small ResNet makes the tokens; 2 norms in each block and one after them train."""
    with torch.device("meta"):
        model = timm.create_model("vit_small_resnet26d_224", img_size=64, num_classes=10)
    width, depth = model.embed_dim, len(model.blocks)
    prepared = methods.load("norm").prepare(model)
    expected = (2 * depth + 1) * 2 * width + 10 * width + 10

    assert expected == sum(p.numel() for p in prepared.parameters() if p.requires_grad)


def test_says_that_a_network_has_no_such_norm():
    with pytest.raises(Unsupported, match="ResNet has no LayerNorm"):
        methods.load("norm").prepare(timm.create_model("test_resnet"))
