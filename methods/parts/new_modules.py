"""New modules to put beside a model's own: of its device, its type and its kind of block."""

import copy
from functools import partial
from typing import Any

from timm.models.vision_transformer import Block
from torch import nn

from bsrbench.harness.model.vit import blocks

SPREAD = 0.02  # standard deviation that timm, DeiT and BSR's code draw weights of blocks with


def place(model: nn.Module) -> dict[str, Any]:
    """Return device and type of a model's weights, as torch's modules take them."""
    weight = blocks(model)[0].attn.qkv.weight
    return {"device": weight.device, "dtype": weight.dtype}


def new_block(like: Any, *, width: int, hidden: int) -> Block:
    """Return a new block with the heads, the activation and the kind of biases of another.

    Its MLP is not gated and its norms are LayerNorms, whatever the other block has. Weights are
    normal, cut off, of standard deviation 0.02; biases 0; LayerNorms do nothing yet.

    Args:
        like: a block of timm's.
        width: its embedding dimension, which the heads share.
        hidden: width inside its MLP.
    """
    block = Block(
        width,
        like.attn.num_heads,
        mlp_ratio=hidden / width,
        qkv_bias=like.attn.qkv.bias is not None,
        act_layer=partial(copy.deepcopy, like.mlp.act),  # its type alone would lose its settings
        norm_layer=partial(nn.LayerNorm, eps=like.norm1.eps),
        device=like.attn.qkv.weight.device,
        dtype=like.attn.qkv.weight.dtype,
    )
    for part in block.modules():
        if isinstance(part, nn.Linear):
            draw(part)
    return block


def draw(linear: nn.Linear) -> None:
    """Draw a Linear layer's weight and set its bias to 0."""
    nn.init.trunc_normal_(linear.weight, std=SPREAD)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
