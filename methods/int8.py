"""8-bit saved activations: store what the backward pass reads in 8 bits."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsrbench.harness.method import Kind, Method
from bsrbench.harness.model.attention import STANDS_FOR_CUDA
from bsrbench.harness.torch_internals.eager_internals import count_of_writes
from bsrbench.methods.parts import kernels
from bsrbench.methods.parts.packed_modules import Codecs, compress
from bsrbench.methods.parts.packed_operators import Packed
from bsrbench.methods.parts.quantise import draws
from bsrbench.methods.parts.quantise8 import (
    EXTREMES8,
    MOVE8,
    PACK8,
    UNPACK8,
    extremes8,
    move8,
    pack8,
    unpack8,
)

BITS = 8
CODES_A_WORD = 4


@dataclass(frozen=True)
class EightBitActivations(Method):
    """Store the activations saved for the backward pass in 8 bits; the forward pass is exact.

    Stores 8-bit codes of the inputs of Linear (if its weight trains), LayerNorm, GELU and
    LayerScale, and of queries, keys and values. The backward pass recomputes fused attention from
    these codes, because the row sums that it reads must match them. Each saved tensor has one
    range per group of channels, with one group per head. As in Mesa it is a running range: minimum
    and width decay by 0.9 and are updated before use; the first range is that of the first tensor.
    Numbers outside the range are clamped at both ends (Mesa's kernel wraps at the upper end). A
    group with a number that is not finite is read as NaN, like a step that a gradient scaler
    skips, and its range is not updated. Ranges are part of the state dict. A mixture of experts
    stores its input once and the input of GELU, with ranges shared by all experts. Approximates
    gradients, because their inputs are rounded stochastically; the noise is the fractional part of
    one random number per token plus one per channel, drawn at every call. Does not save weights,
    gradients, optimizer state, the statistics of LayerNorm, the head or the patch embedding; what
    RMSNorm and the product in a gated MLP save is not compressed. The paper's models have explicit
    attention and also store the input of the softmax, although no formula needs it; here it is not
    stored.

    Attributes:
        bits: width of a code; only 8 is implemented, as in the paper.
        stochastic: round stochastically, as in the paper; otherwise to the nearest level.
        materialise: compute attention explicitly, as in the paper's models, and store the output
            of the softmax in 8 bits; otherwise attention is fused.
    """

    bits: int = BITS
    stochastic: bool = True
    materialise: bool = False

    source = "Pan et al. 2021 (Mesa), arXiv:2111.11124, section 3; official code 8b7a0db"
    exact_forward = True
    gradient_error = 0.12
    kinds: ClassVar = frozenset({Kind.STORES_ACTIVATIONS})

    def __post_init__(self) -> None:
        if self.bits != BITS:
            raise ValueError(f"bits {self.bits} is not implemented; int8 has {BITS}")

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make blocks and final norm store codes."""
        make = partial(EightBits, stochastic=self.stochastic)
        by_head = partial(EightBits, stochastic=self.stochastic, channels=1)
        compress(
            model,
            Codecs(
                linear=make,
                norm=make,
                gelu=make,
                rows=make,
                scale=make,
                qkv=make,
                matrix=by_head if self.materialise else None,
                final_norm=make,
            ),
        )
        return model

    def environment(self, device: str) -> dict[str, Any]:
        """Return how the packing kernels run."""
        return kernels.facts(_kernels(device), device)

    def kernels_to_compile(self, device: str) -> tuple[str, ...]:
        """Return which of these kernels are not in the cache yet."""
        return kernels.to_compile(_kernels(device), device)


class EightBits(nn.Module):
    """The codec of one saved tensor: packs it as 8-bit codes with one running range per group.

    Args:
        groups: number of groups of channels; one group if the number does not divide the channels.
        stochastic: whether codes are rounded stochastically.
        channels: the dimension of the channels; 1 for a softmax [batch, heads, ...].
    """

    low: Tensor
    width: Tensor

    def __init__(self, groups: int, *, stochastic: bool, channels: int = -1) -> None:
        super().__init__()
        self._groups, self._channels = groups, channels
        self._stochastic = stochastic
        for name in ("low", "width"):
            self.register_buffer(name, torch.full((groups,), torch.nan))
        # The last packed tensor, because the next operator can save the same tensor. The references
        # are weak, because the codec lives longer than the step.
        self._last: tuple[Any, ...] | None = None

    def __call__(self, x: Tensor) -> Packed:
        """Pack x [batch, ..., channels], or return the existing copy of the same tensor."""
        storage = x.untyped_storage()
        place = x.storage_offset(), x.shape, x.stride(), count_of_writes(x)
        if self._last and self._last[0]() is storage and self._last[1] == place:
            kept = tuple(reference() for reference in self._last[2])
            if all(tensor is not None for tensor in kept):
                return Packed(kept, self._last[3])
        packed = self._pack(x.detach())
        self._last = ref(storage), place, [ref(tensor) for tensor in packed.tensors], packed.restore
        return packed

    def _pack(self, x: Tensor) -> Packed:
        last = x.movedim(self._channels, -1)
        rows = last.reshape(-1, last.shape[-1]).to(torch.float32)
        low, step, inverse, offset = self._range(rows)
        if missing := -rows.shape[1] % CODES_A_WORD:
            # The numbers that pad the last word get the range of the last channel.
            rows = F.pad(rows, (0, missing))
            low, step, inverse, offset = (
                torch.cat([constants, constants[-1:].expand(missing)])
                for constants in (low, step, inverse, offset)
            )
        words = pack8(rows, inverse, offset, *draws(rows, stochastic=self._stochastic))
        shape = last.shape[1:]
        restore = partial(_restore, shape=shape, channels=self._channels, dtype=x.dtype)
        return Packed((words.view(x.shape[0], -1, words.shape[1]), low, step), restore)

    def _range(self, rows: Tensor) -> list[Tensor]:
        """Update the running range with rows [n, c]; return the packing constants per channel."""
        groups = self._groups if rows.shape[1] % self._groups == 0 else 1
        lows, highs = (extreme.view(groups, -1) for extreme in _extremes(rows))
        low, width, *by_channel = move8(lows, highs, self.low[:groups], self.width[:groups])
        # A single range fills the buffer, whose shape does not depend on the model.
        self.low.copy_(low)
        self.width.copy_(width)
        return [constants.view(-1) for constants in by_channel]


def _kernels(device: str) -> list[kernels.Kernel]:
    return [*([EXTREMES8] if device == "cpu" else []), MOVE8, PACK8, UNPACK8]


def _extremes(rows: Tensor) -> tuple[Tensor, ...]:
    """Return smallest and largest numbers [c] of rows [n, c]; GPUs use torch's operators."""
    if rows.device.type == "cpu" and not STANDS_FOR_CUDA.get():
        return extremes8(rows)
    return rows.amin(0), rows.amax(0)


def _restore(
    kept: Sequence[Tensor],
    images: slice,
    *,
    shape: torch.Size,
    channels: int,
    dtype: torch.dtype,
) -> Tensor:
    """Unpack some images; ``shape`` is the shape of one image with the channels last."""
    words, low, step = kept
    some = words[images]
    rows = unpack8(some.flatten(0, 1), low, step)[:, : shape[-1]]
    whole: Tensor = rows.reshape(some.shape[0], *shape).movedim(-1, channels).to(dtype)
    return whole
