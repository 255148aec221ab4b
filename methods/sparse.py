"""Sparse saved activations: store only the largest tenth of the numbers that are saved."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bsrbench.harness.method import Kind, Method
from bsrbench.methods.parts import kernels, packed_operators
from bsrbench.methods.parts.packed_modules import Codecs, compress
from bsrbench.methods.parts.packed_operators import Packed
from bsrbench.methods.parts.pruned_tensors import KEEP, SPREAD, keep_largest, spread


@dataclass(frozen=True)
class SparseActivations(Method):
    """Store only the largest activations for the backward pass; the forward pass is exact.

    Stores, per saved tensor and image, the share 1 - ``ratio`` of the numbers with the largest
    magnitude in fp16, and one bit per number that marks their positions. Pruned are the inputs of
    Linear (if its weight trains), of the blocks' LayerNorm and of LayerScale, queries, keys and
    values separately, and the output of the softmax, for which attention is computed explicitly.
    The input of GELU is stored dense in fp16, because its derivative changes most near zero.
    Approximates gradients by those of the pruned copies, which are biased; gradients of the input
    of a Linear layer are exact. Does not save weights, gradients, optimizer state, the final norm,
    the head, the patch embedding, or what RMSNorm and the product in a gated MLP save. Finding the
    largest numbers costs time. The official code also keeps ties with the smallest kept number,
    and stores values of LayerNorm in fp32; here the count is fixed, the first of equal numbers are
    kept, and all values are fp16.

    Attributes:
        ratio: share of the numbers that is dropped, in [0, 1); the paper: 0.9 for CIFAR, Pets and
            CUB, 0.8 for Flowers, Food, Aircraft and Cars.
    """

    ratio: float = 0.9

    source = "Jiang et al. 2022 (Back Razor), NeurIPS 2022, section 3; official code c6c7821"
    exact_forward = True
    gradient_error = 0.6
    kinds: ClassVar = frozenset({Kind.STORES_ACTIVATIONS})

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < 1:
            raise ValueError(f"ratio {self.ratio} must lie in [0, 1)")

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make blocks store only the largest activations."""
        prune = Prunes(self.ratio)
        compress(
            model,
            Codecs(
                linear=lambda _: prune,
                norm=lambda _: prune,
                gelu=lambda _: packed_operators.half,
                rows=None,
                scale=lambda _: prune,
                qkv=lambda _: Prunes(self.ratio, parts=3),
                matrix=lambda _: prune,
                final_norm=None,
            ),
        )
        return model

    def environment(self, device: str) -> dict[str, Any]:
        """Return how the pruning kernels run."""
        return kernels.facts([KEEP, SPREAD], device)

    def kernels_to_compile(self, device: str) -> tuple[str, ...]:
        """Return which of these kernels are not in the cache yet."""
        return kernels.to_compile([KEEP, SPREAD], device)


@dataclass(frozen=True)
class Prunes:
    """The codec: it keeps the largest numbers of each image's tensor.

    Attributes:
        ratio: share of the numbers that is dropped.
        parts: number of parts of the last dimension, each pruned separately.
    """

    ratio: float
    parts: int = 1

    def __call__(self, x: Tensor) -> Packed:
        """Pack x [batch, ...]."""
        apart = x.detach().unflatten(-1, (self.parts, -1)).movedim(-2, 1)
        rows = apart.reshape(x.shape[0] * self.parts, -1).to(torch.float32)
        kept = rows.shape[1] - int(self.ratio * rows.shape[1])
        values, bits = keep_largest(rows, kept)
        restore = partial(_restore, shape=apart.shape[1:], dtype=x.dtype)
        by_image = (tensor.unflatten(0, (x.shape[0], -1)) for tensor in (values, bits))
        return Packed(tuple(by_image), restore)


def _restore(
    kept: Sequence[Tensor], images: slice, *, shape: torch.Size, dtype: torch.dtype
) -> Tensor:
    """Unpack some images; ``shape`` is the shape of one image with its parts first."""
    values, bits = (tensor[images] for tensor in kept)
    rows = spread(values.flatten(0, 1), bits.flatten(0, 1), shape[1:].numel())
    whole: Tensor = rows.view(-1, *shape).movedim(1, -2).flatten(-2).to(dtype)
    return whole
