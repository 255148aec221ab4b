"""The tokens of a model whose embeddings are frozen."""

from typing import Any

import torch
from torch import Tensor

from bsrbench.harness.torch_internals.eager_internals import with_positions


def embedded(vit: Any, images: Tensor) -> Tensor:
    """Return the tokens that enter the first block of a timm transformer, without gradient.

    Args:
        vit: the transformer.
        images: [batch, channels, height, width].

    Returns:
        [batch, tokens, dim].
    """
    with torch.no_grad():
        tokens = vit.patch_drop(with_positions(vit, vit.patch_embed(images)))
        entering: Tensor = vit.norm_pre(tokens)
    return entering
