"""Biases train whatever they are called; tables of position biases are none."""

import pytest
import timm
import torch

from bsrbench import methods


def trained(name, side):
    """Return the names and sizes of what BitFit trains of a timm model with 10 classes."""
    with torch.device("meta"):
        model = timm.create_model(name, img_size=side, num_classes=10)
    prepared = methods.load("bias").prepare(model)
    return {n: p.numel() for n, p in prepared.named_parameters() if p.requires_grad}


# A block of width C has C for norm1, norm2, the projection and fc2 each and 4 C for fc1: 8 C. Its
# qkv have 3 C, or q and v alone 2 C where keys have none. Outside: C for the patch embedding, C for
# the last norm, and the head's 10 C + 10.
@pytest.mark.parametrize(
    ("name", "side", "expected"),
    [
        ("deit_tiny_patch16_224", 32, 12 * 11 * 192 + 2 * 192 + 1930),
        # q_bias and v_bias; the 12 tables of relative positions stay frozen.
        ("beit_base_patch16_224", 32, 12 * 10 * 768 + 2 * 768 + 7690),
        # SwiGLU of 512 with two first layers: 2 x 512 + 192 in the place of fc1's and fc2's.
        ("eva02_tiny_patch14_224", 28, 12 * (5 * 192 + 2 * 512 + 192) + 2 * 192 + 1930),
        ("vit_tiny_patch16_dinov3_qkvb", 32, 12 * 10 * 192 + 2 * 192 + 1930),
        # in_proj has none; its 4 C for the MLP are mlp_bias. Both layers back have C. RMSNorm has
        # none, and the model's patches are embedded without.
        ("vit_base_patch16_xp_224", 32, 12 * 6 * 768 + 7690),
    ],
)
def test_every_bias_trains(name, side, expected):
    assert expected == sum(trained(name, side).values())


def test_a_table_of_position_biases_stays_frozen():
    assert not any("table" in name for name in trained("beit_base_patch16_224", 32))


def test_stacked_biases_of_experts_train(make_vit):
    """They are matrices, a row an expert, and called bias."""
    model = make_vit()
    stacked = torch.nn.Module()
    stacked.register_parameter("bias", torch.nn.Parameter(torch.zeros(4, 32)))
    model.blocks[3].mlp.fc1 = stacked
    prepared = methods.load("bias").prepare(model)

    assert prepared.blocks[3].mlp.fc1.bias.requires_grad
