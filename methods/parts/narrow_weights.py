"""Fill the blocks of a narrow network with the strongest weights of a wide one's.

The way of LST's official code ("v2" of its pruning methods): from layer to layer, each keeps the
inputs that the layer before kept as outputs, and of its outputs those with the largest weights.
"""

from typing import Any

import torch
from timm.layers import LayerScale
from torch import Tensor, nn


def fill(narrow: dict[int, Any], wide: list[Any], entry: Tensor, norm: tuple[Any, Any]) -> None:
    """Copy the strongest weights into narrow blocks.

    A wide block's LayerScale becomes part of the layer before it.

    Args:
        narrow: new blocks by the index of the wide block they belong to.
        wide: all blocks of the model; those without a narrow one pass on their choice, too.
        entry: the patch embedding's weight [dim, ...], which decides what the first norm keeps.
        norm: the narrow and the wide network's final norm.
    """
    first = next(iter(narrow.values()))
    width, hidden = first.mlp.fc2.out_features, first.mlp.fc2.in_features
    with torch.no_grad():
        kept = strongest(entry.flatten(1), width)
        for index, block in enumerate(wide):
            kept = _fill_block(narrow.get(index), block, kept, hidden)
        _copy_norm(norm[0], norm[1], kept)


def strongest(weights: Tensor, count: int) -> Tensor:
    """Return the rows of weights [rows, ...] with the largest sums of magnitudes, in order."""
    indices: Tensor = weights.abs().sum(1).topk(count).indices.sort().values
    return indices


def _fill_block(narrow: Any, wide: Any, kept: Tensor, hidden: int) -> Tensor:
    """Fill a block if there is one; return which of the wide one's outputs are kept."""
    width = len(kept)
    qkv = wide.attn.qkv.weight.unflatten(0, (3, -1))[:, :, kept]  # [3, dim, width]
    rows = strongest(qkv.prod(0), width)  # the same of queries, keys and values
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
    """Return weight and bias of a Linear layer with the LayerScale after it, if it is one."""
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
    """Copy scale and shift, where the wide network has them."""
    for name, own in target.named_parameters():
        found = getattr(source, name, None)
        if found is not None:
            own.copy_(found[kept])
