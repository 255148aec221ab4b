"""The paper convention against the published table and counts by hand."""

import pytest
import timm
import torch
from torch import nn

from bsrbench.harness.predict.paper_convention import Undefined, paper_convention_bytes
from bsrbench.methods import load

MB = 2**20
BATCH = 128


def outline(name, **changes):
    with torch.device("meta"):
        return timm.create_model(name, **{"num_classes": 100} | changes)


def convention(model, method, images):
    return paper_convention_bytes(method.prepare(model), method, images)


# FACTS, "The paper convention"; the last three: methods.md, 2.2, printed in whole MB.
TABLE = {
    "full": (load("full"), 17_388.1, 8_649.8, 0.1),
    "bsr": (load("bsr"), 2_938.0, 1_433.6, 0.1),
    "bias": (load("bias"), 9_386.0, 4_672.8, 0.1),
    "head": (load("head"), 747.0, 353.2, 0.1),
    "bsr without dropping": (load("bsr", keep_rate=1.0), 8_913, 4_421, 0.5),
    "last three blocks": (
        load("bsr", keep_rate=1.0, trained_blocks=[9, 10, 11]),
        4_445,
        2_187,
        0.5,
    ),
    "full with dropping": (load("evit", keep_rate=0.5), 8_720, 4_316, 0.5),
}


@pytest.mark.parametrize("row", TABLE)
def test_the_convention_gives_the_published_table(row):
    method, *expected, tolerance = TABLE[row]
    read = [
        convention(outline(name), method, BATCH) / MB
        for name in ("vit_base_patch16_224", "deit_small_patch16_224")
    ]

    assert expected == pytest.approx(read, abs=tolerance)


# The tests' model: 16 patches of 3 x 8 x 8, so N = 17 tokens of C = 32; 4 heads, 5 classes.
# u = N C = 544, a = heads N N = 1,156; a trained block stores 16 u + a = 9,860:
# norm1 u, qkv u, attention 3 u + a, proj u, norm2 u, fc1 u, GELU 4 u, fc2 4 u.
BLOCK_PARAMETERS = 64 + 3_168 + 1_056 + 64 + 4_224 + 4_128  # 12,704: norm1 qkv proj norm2 fc1 fc2
PARAMETERS = 6_176 + 32 + 544 + 12 * BLOCK_PARAMETERS + 64 + 165  # patches class positions .. head


def bytes_of(peak, trained):
    """Two images of 4 B an element; 4 B a trained parameter and 1 B a frozen one."""
    return 2 * 4 * peak + 4 * trained + (PARAMETERS - trained)


def test_full_fine_tuning_counted_by_hand(make_vit):
    """Image, 12 blocks and the final norm's input are stored as the head maps 32 to 5."""
    peak = 3 * 32 * 32 + 12 * 9_860 + 544 + 32 + 5

    assert bytes_of(peak, PARAMETERS) == convention(make_vit(), load("full"), images=2)


def test_the_head_alone_forgets_all_but_the_last_gelu(make_vit):
    """9 u at fc2: the GELU's 4 u, its own input 4 u and output u."""
    assert bytes_of(9 * 544, trained=165) == convention(make_vit(), load("head"), images=2)


def test_bsr_counted_by_hand(make_vit):
    """17 -> 10 -> 7 -> 5 tokens after blocks 3, 6, 9; a frozen block stores attention and GELU."""
    stored = (
        (6 * 544 + 1_156) + 10 * 320  # block 3: attention sees 17 tokens, MLP 10
        + 2 * (7 * 320 + 400)  # 4 and 5: 10 tokens
        + (3 * 320 + 400) + 4 * 224  # 6: attention sees 10, GELU 7
        + (16 * 224 + 196)  # 7
        + (7 * 224 + 196)  # 8
        + (3 * 224 + 196) + 4 * 160  # 9: attention sees 7, GELU 5
        + (7 * 160 + 100)  # 10
        + (16 * 160 + 100)  # 11
        + 160  # the final norm
    )  # fmt: skip
    trained = 3 * BLOCK_PARAMETERS + 64 + 165

    assert bytes_of(stored + 32 + 5, trained) == convention(make_vit(), load("bsr"), images=2)


def test_norm_tuning_counted_by_hand(make_vit):
    """A block stores norm1 u, attention 3 u + a, norm2 u, GELU 4 u; the last fc2 maps 4 u to u."""
    peak = 12 * (9 * 544 + 1_156) + 5 * 544
    trained = 25 * 64 + 165

    assert bytes_of(peak, trained) == convention(make_vit(), load("norm"), images=2)


def test_the_convention_does_not_ask_whether_the_matrix_is_held(make_vit):
    """It counts every attention matrix, whatever kernel runs."""
    held, row = (
        convention(make_vit(), load("bsr", exact_attention=on), images=2) for on in (True, False)
    )

    assert held == row


def test_the_peak_may_lie_at_a_frozen_gelu(make_vit):
    """Block 0 stores nothing, but its GELU maps 4 u to 4 u; the 5 tokens at the end need less."""
    method = load("bsr", trained_blocks=[11])

    assert bytes_of(8 * 544, BLOCK_PARAMETERS + 64 + 165) == convention(make_vit(), method, 2)


def test_the_peak_may_lie_at_qkv_with_the_residual_kept(make_vit):
    """One other token is left after block 10's attention, so nothing later comes near.

    Stored: norm1 u, the attention's 3 u + a, which the official code adds as attention begins;
    qkv maps u to 3 u with u beside for the addition.
    """
    method = load("bsr", trained_blocks=[10], drop_at=[10], keep_rate=0.01, fuse=False)
    peak = 4 * 544 + 1_156 + 5 * 544

    assert bytes_of(peak, BLOCK_PARAMETERS + 64 + 165) == convention(make_vit(), method, 2)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"init_values": 0.1}, "blocks.0.ls1 is timm.layers.layer_scale.LayerScale"),
        ({"qk_norm": True}, "blocks.0.attn.q_norm is timm.layers.norm.LayerNorm"),
        ({"act_layer": nn.SiLU}, "blocks.0.mlp.act is torch.nn.modules.activation.SiLU"),
        ({"global_pool": "avg"}, "a class token that the head reads"),
        ({"reg_tokens": 1}, "a class token that the head reads"),
        ({"drop_path_rate": 0.1}, "blocks.1.drop_path1 is timm.layers.drop.DropPath"),
        ({"num_classes": 0}, "head is torch.nn.modules.linear.Identity"),
    ],
    ids=str,
)
def test_a_module_without_a_rule_is_named(make_vit, changes, named):
    with pytest.raises(Undefined, match=named):
        convention(make_vit(**changes), load("full"), 2)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("int8", "no rule for compressed or recomputed activations"),
        ("checkpoint", "no rule for compressed or recomputed activations"),
        ("bsr+int8", "no rule for compressed or recomputed activations"),
        ("lora", "blocks.0.attn.qkv is peft"),
        ("dora", "blocks.0.attn.qkv is peft"),
        ("bsr+lora", "blocks.3.attn.qkv is peft"),
    ],
)
def test_a_method_without_a_rule_is_refused(make_vit, method, reason):
    with pytest.raises(Undefined, match=reason):
        convention(make_vit(), load(method), 2)


def test_what_a_method_adds_has_no_rule(make_vit):
    with_module, with_parameter = make_vit(), make_vit()
    with_module.blocks[3].mlp.adapter = nn.Linear(32, 32)
    with_parameter.blocks[3].scale = nn.Parameter(torch.ones(32))

    for model, named in ((with_module, "blocks.3.mlp.adapter"), (with_parameter, "blocks.3.scale")):
        with pytest.raises(Undefined, match=named):
            convention(model, load("full"), 2)


def test_training_what_lies_below_the_blocks_alone_has_no_rule(make_vit):
    model = load("head").prepare(make_vit())
    model.pos_embed.requires_grad_(True)

    with pytest.raises(Undefined, match="pos_embed is trained, but no block is"):
        paper_convention_bytes(model, load("head"), 2)


def test_other_models_are_refused():
    with pytest.raises(Undefined, match="ResNet"):
        convention(outline("resnet18"), load("full"), 2)
