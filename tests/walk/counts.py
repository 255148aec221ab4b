"""Multiply-adds as torch's own counter sees them, with what it misses added."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

PRODUCTS = 2  # of attention: queries with keys, and what comes of it with values
FLOP = 2  # in a multiply-add


def multiply_adds(model: nn.Module, images: Tensor) -> int:
    """Return the multiply-adds of a forward pass in evaluation, images with or without numbers.

    torch's counter takes no notice of a CPU's fused attention. The model is left frozen.
    """
    seen: dict[Any, Any] = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
    # Frozen, because the counter looks for the origin of what seems to need a gradient.
    model.eval().requires_grad_(False)
    with FlopCounterMode(display=False, custom_mapping=seen) as counter:
        model(images)
    return counter.get_total_flops() // FLOP


def _attention(queries: Any, keys: Any, *_: object, **__: object) -> int:
    """Count [images, heads, queries, width] with as many keys, twice: scores, and mixing."""
    images, heads, rows, width = queries
    return int(FLOP * PRODUCTS * images * heads * rows * keys[2] * width)
