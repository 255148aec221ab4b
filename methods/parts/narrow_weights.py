"""Fill the blocks of a narrow network with the largest weights of a wide network's blocks.

This is "v2" of the pruning methods in LST's official code. It goes from layer to layer. The inputs
of a narrow layer are the outputs that the layer before it kept. Its outputs are those outputs of
the wide layer that have the largest weights.
"""

from typing import Any

import torch
from timm.layers import LayerScale
from torch import Tensor, nn


def fill(narrow: dict[int, Any], wide: list[Any], entry: Tensor, norm: tuple[Any, Any]) -> None:
    """Copy the largest weights of the wide blocks into the narrow blocks.

    The LayerScale of a wide block is multiplied into the layer before it.

    Args:
        narrow: index of a wide block -> its narrow block.
        wide: all blocks of the model. Channels are also chosen in blocks without a narrow block.
        entry: weight of the patch embedding [dim, ...]; it decides which channels the first norm
            keeps.
        norm: the final norms of the narrow and of the wide network.
    """
    first = next(iter(narrow.values()))
    width, hidden = first.mlp.fc2.out_features, first.mlp.fc2.in_features
    with torch.no_grad():
        kept = strongest(entry.flatten(1), width)
        for index, block in enumerate(wide):
            kept = _fill_block(narrow.get(index), block, kept, hidden)
        _copy_norm(norm[0], norm[1], kept)


def strongest(weights: Tensor, count: int) -> Tensor:
    """Return the sorted indices of the rows of weights [rows, n] with the largest L1 norms."""
    indices: Tensor = weights.abs().sum(1).topk(count).indices.sort().values
    return indices


def _fill_block(narrow: Any, wide: Any, kept: Tensor, hidden: int) -> Tensor:
    """Fill the narrow block, if there is one; return the kept output channels of the wide block."""
    width = len(kept)
    qkv = wide.attn.qkv.weight.unflatten(0, (3, -1))[:, :, kept]  # [3, dim, width]
    rows = strongest(qkv.prod(0), width)  # the same rows for queries, keys and values
    proj, proj_bias = _scaled(wide.attn.proj, wide.ls1)
    after_attention = strongest(proj[:, rows], width)
    inner = strongest(wide.mlp.fc1.weight[:, after_attention], hidden)
    fc2, fc2_bias = _scaled(wide.mlp.fc2, wide.ls2)
    after_mlp = strongest(fc2[:, inner], width)
    if narrow is None:
        return after_mlp
    _copy_norm(narrow.norm1, wide.norm1, kept)
    narrow.attn.qkv.weight.copy_(qkv[:, rows].flatten(0, 1))
    if wide.attn.qkv.bias is not None:
        narrow.attn.qkv.bias.copy_(wide.attn.qkv.bias.unflatten(0, (3, -1))[:, rows].flatten())
    _copy(narrow.attn.proj, proj, proj_bias, after_attention, rows)
    _copy_norm(narrow.norm2, wide.norm2, after_attention)
    _copy(narrow.mlp.fc1, wide.mlp.fc1.weight, wide.mlp.fc1.bias, inner, after_attention)
    _copy(narrow.mlp.fc2, fc2, fc2_bias, after_mlp, inner)
    return after_mlp


def _scaled(linear: Any, scale: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias of a Linear layer, multiplied by the LayerScale after it, if any."""
    if not isinstance(scale, LayerScale):
        return linear.weight, linear.bias
    bias = None if linear.bias is None else linear.bias * scale.gamma
    return linear.weight * scale.gamma.unsqueeze(1), bias


def _copy(
    target: nn.Linear, weight: Tensor, bias: Tensor | None, rows: Tensor, columns: Tensor
) -> None:
    target.weight.copy_(weight[rows][:, columns])
    if bias is not None:
        target.bias.copy_(bias[rows])


def _copy_norm(target: nn.LayerNorm, source: nn.Module, kept: Tensor) -> None:
    """Copy scale and shift, if the wide network has them."""
    for name, own in target.named_parameters():
        wide = getattr(source, name, None)
        if wide is not None:
            own.copy_(wide[kept])
