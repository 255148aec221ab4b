"""Make new modules for a model, on the model's device, in its type, and like its blocks."""

import copy
import math
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import nn

from bsrbench.harness.method import Unsupported
from bsrbench.harness.model.vit import blocks, width

SPREAD = 0.02  # standard deviation of the initial weights of blocks in timm, DeiT and BSR's code


def place(model: nn.Module) -> dict[str, Any]:
    """Return device and type of a model's weights, as keyword arguments of torch's modules."""
    weight = blocks(model)[0].attn.qkv.weight
    return {"device": weight.device, "dtype": weight.dtype}


def new_block(like: Any, *, width: int, hidden: int) -> Block:
    """Return a new block with the number of heads and the activation of a given block.

    Its qkv layer has a bias only if the given block has one. Its MLP is not gated and its norms are
    LayerNorms, also if the given block differs. Weights are drawn from a truncated normal
    distribution with standard deviation 0.02. Biases are 0. LayerNorms have scale 1 and shift 0.

    Args:
        like: the given block, from timm.
        width: embedding dimension of the new block, divided among the heads.
        hidden: inner width of its MLP.
    """
    block = Block(
        width,
        like.attn.num_heads,
        mlp_ratio=hidden / width,
        qkv_bias=like.attn.qkv.bias is not None,
        act_layer=partial(copy.deepcopy, like.mlp.act),  # a copy keeps its settings
        norm_layer=partial(nn.LayerNorm, eps=like.norm1.eps),
        device=like.attn.qkv.weight.device,
        dtype=like.attn.qkv.weight.dtype,
    )
    for part in block.modules():
        if isinstance(part, nn.Linear):
            draw(part)
    return block


def draw(linear: nn.Linear) -> None:
    """Draw the weight of a Linear layer at random and set its bias to 0."""
    nn.init.trunc_normal_(linear.weight, std=SPREAD)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def draw_prompts(vit: Any, count: int) -> nn.Parameter:
    """Return new tokens [1, count, dim], drawn as in the official code of VPT.

    They are uniform between plus and minus the square root of 6 / (3 patch area + dim).

    Raises:
        Unsupported: the patch embedding of the model does not tell the size of its patches.
    """
    size = getattr(vit.patch_embed, "patch_size", None)
    if size is None:
        kind = type(vit.patch_embed).__name__
        raise Unsupported(f"{kind} does not tell the size of a patch, from which prompts are drawn")
    most = math.sqrt(6 / (3 * math.prod(size) + width(vit)))
    drawn = torch.empty(1, count, width(vit), **place(vit))
    return nn.Parameter(drawn.uniform_(-most, most))
