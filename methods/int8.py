"""8-bit saved activations: what the backward pass reads is kept in 8 bits."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsrbench.harness.method import Kind, Method
from bsrbench.harness.torch_internals.eager_internals import count_of_writes
from bsrbench.methods.parts import kernels
from bsrbench.methods.parts.packed_modules import Codecs, compress
from bsrbench.methods.parts.packed_operators import Packed
from bsrbench.methods.parts.quantise import draws
from bsrbench.methods.parts.quantise8 import MOVE8, PACK8, UNPACK8, move8, pack8, unpack8

BITS = 8
CODES_A_WORD = 4


@dataclass(frozen=True)
class EightBitActivations(Method):
    """Keep the activations saved for the backward pass in 8 bits; the forward pass is exact.

    Stores 8-bit codes of the inputs of Linear (whose weight trains), LayerNorm, GELU and
    LayerScale, and of queries, keys and values. The backward pass computes fused attention again
    from these codes, for the sums of its rows, which it reads, must fit them. A place has one range
    per group of channels, one group a head: as in Mesa a running one, minimum and width decaying by
    0.9, updated before it is used; the first is the first tensor's own. What lies outside is
    clamped at both ends (Mesa's kernel lets it wrap at the upper). A group with a number that is
    not finite is read as NaN, as a step that a gradient scaler skips, and leaves its range as it
    was. Ranges are part of the state dict. A mixture of experts keeps its input once and GELU's
    input, by one range a group for all experts. Approximates gradients by stochastic rounding of
    what they are computed from; noise is the fraction of a sum of one number a token and one a
    channel, drawn at every call. Does not save weights, gradients, optimizer state, the statistics
    of LayerNorm, the head or the patch embedding; what RMSNorm and the product in a gated MLP save
    stays whole. The paper's models have explicit attention and keep the softmax's input, too,
    though no formula needs it; here it is not kept.

    Attributes:
        bits: width of a code; only 8 is implemented, as in the paper.
        stochastic: round stochastically, as the paper; else to the nearest level.
        materialise: hold softmax and both products of attention, as the paper's models do, and
            keep the softmax's output in 8 bits; else attention stays fused.
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
            raise ValueError(f"bits {self.bits} is not implemented; int8 keeps {BITS}")

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make blocks and final norm keep codes."""
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
        """Return how codes are made and read."""
        return kernels.facts([MOVE8, PACK8, UNPACK8], device)


class EightBits(nn.Module):
    """The codec of one place: packs tensors as 8-bit codes by a running range a group.

    Args:
        groups: of channels; where they do not divide the channels, there is one.
        stochastic: how codes are rounded.
        channels: dimension that holds the channels; 1 for a softmax [batch, heads, ...].
    """

    low: Tensor
    width: Tensor

    def __init__(self, groups: int, *, stochastic: bool, channels: int = -1) -> None:
        super().__init__()
        self._groups, self._channels = groups, channels
        self._stochastic = stochastic
        for name in ("low", "width"):
            self.register_buffer(name, torch.full((groups,), torch.nan))
        # What was packed last, for the operator that saves the same tensor next. Weak: the codec
        # outlives the step.
        self._last: tuple[Any, ...] | None = None

    def __call__(self, x: Tensor) -> Packed:
        """Pack x [batch, ..., channels], or hand out what was packed of the same tensor."""
        storage = x.untyped_storage()
        place = x.storage_offset(), x.shape, x.stride(), count_of_writes(x)
        if self._last and self._last[0]() is storage and self._last[1] == place:
            kept = tuple(one() for one in self._last[2])
            if all(one is not None for one in kept):
                return Packed(kept, self._last[3])
        packed = self._pack(x.detach())
        self._last = ref(storage), place, [ref(one) for one in packed.tensors], packed.restore
        return packed

    def _pack(self, x: Tensor) -> Packed:
        last = x.movedim(self._channels, -1)
        rows = last.reshape(-1, last.shape[-1]).to(torch.float32)
        low, step, inverse, offset = self._range(rows)
        if missing := -rows.shape[1] % CODES_A_WORD:
            # Numbers that fill up a word get the last channel's range.
            rows = F.pad(rows, (0, missing))
            low, step, inverse, offset = (
                torch.cat([one, one[-1:].expand(missing)]) for one in (low, step, inverse, offset)
            )
        words = pack8(rows, inverse, offset, *draws(rows, stochastic=self._stochastic))
        shape = last.shape[1:]
        restore = partial(_restore, shape=shape, channels=self._channels, dtype=x.dtype)
        return Packed((words.view(x.shape[0], -1, words.shape[1]), low, step), restore)

    def _range(self, rows: Tensor) -> list[Tensor]:
        """Move the running range towards that of rows [n, c]; return by channel what packs it."""
        groups = self._groups if rows.shape[1] % self._groups == 0 else 1
        lows, highs = rows.amin(0).view(groups, -1), rows.amax(0).view(groups, -1)
        low, width, *by_channel = move8(lows, highs, self.low[:groups], self.width[:groups])
        self.low.copy_(low)  # one range fills the buffer, whose shape is the same in every model
        self.width.copy_(width)
        return [one.view(-1) for one in by_channel]


def _restore(
    kept: Sequence[Tensor],
    images: slice,
    *,
    shape: torch.Size,
    channels: int,
    dtype: torch.dtype,
) -> Tensor:
    """Return some images of what was packed; ``shape`` is one image's, channels last."""
    words, low, step = kept
    some = words[images]
    rows = unpack8(some.flatten(0, 1), low, step)[:, : shape[-1]]
    whole: Tensor = rows.reshape(some.shape[0], *shape).movedim(-1, channels).to(dtype)
    return whole
