"""Keep a tensor as 8-bit codes: one range per group of channels, stochastic rounding."""

from dataclasses import dataclass

import torch
from torch import Tensor

LEVELS = 255  # steps of an unsigned 8-bit grid
CHUNK = 1 << 18  # elements worked on at a time: 1 MiB of fp32 stays in the L2 cache


@dataclass(frozen=True)
class Codes:
    """A quantised tensor.

    Attributes:
        codes: uint8, [rows, channels].
        low: smallest value of each channel's group, [channels].
        step: width of one level of each channel's group, [channels].
        heads: the tensor was [batch, heads, tokens, head dim] with so many heads; 0 for
            [batch, tokens, dim].
        batch: its first dimension.
        dtype: its type.
    """

    codes: Tensor
    low: Tensor
    step: Tensor
    heads: int
    batch: int
    dtype: torch.dtype


def quantise(x: Tensor, groups: int, *, stochastic: bool) -> Codes:
    """Quantise [batch, tokens, dim] or [batch, heads, tokens, head dim].

    Channels are cut into ``groups`` contiguous groups; a group has one minimum and one range over
    all images and tokens (Mesa, section 3). Rounding is stochastic, so codes are unbiased, or to
    the nearest.
    """
    heads = x.shape[1] if x.dim() == 4 else 0  # noqa: PLR2004 - the two shapes above
    joined = x.transpose(1, 2) if heads else x
    rows = joined.reshape(-1, joined.shape[-1] * max(heads, 1))
    low, step = _grid(rows, groups)
    return Codes(_codes(rows, low, step, stochastic), low, step, heads, x.shape[0], x.dtype)


@torch.library.custom_op("bsrbench::int8_codes", mutates_args=())
def _codes(rows: Tensor, low: Tensor, step: Tensor, stochastic: bool) -> Tensor:
    """Return the uint8 codes of rows [n, channels], worked out a chunk at a time.

    One operator, so that meters see what it makes and predictions need not follow its loop.
    """
    codes = torch.empty(rows.shape, dtype=torch.uint8, device=rows.device)
    inverse = step.reciprocal()
    taken = max(1, CHUNK // rows.shape[1])
    for start in range(0, rows.shape[0], taken):
        level = (rows[start : start + taken] - low).mul_(inverse)
        level.add_(torch.rand_like(level) if stochastic else 0.5).clamp_(max=LEVELS)
        codes[start : start + taken] = level  # the cast cuts off: with what was added, it rounds
    return codes


@_codes.register_fake
def _shape_of_codes(rows: Tensor, *_: object) -> Tensor:
    return torch.empty(rows.shape, dtype=torch.uint8, device=rows.device)


def restore(kept: Codes) -> Tensor:
    """Return the tensor that ``kept`` stands for, in its shape and type."""
    rows = torch.addcmul(kept.low, kept.codes.to(kept.step.dtype), kept.step).to(kept.dtype)
    if not kept.heads:
        return rows.view(kept.batch, -1, rows.shape[-1])
    shape = (kept.batch, -1, kept.heads, rows.shape[-1] // kept.heads)
    return rows.view(shape).transpose(1, 2)


def _grid(rows: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    exact = torch.promote_types(rows.dtype, torch.float32)
    low, high = (edge.to(exact).view(groups, -1) for edge in torch.aminmax(rows, dim=0))
    low, high = low.amin(1, keepdim=True), high.amax(1, keepdim=True)
    step = ((high - low) / LEVELS).clamp_min(torch.finfo(exact).tiny)
    size = (groups, rows.shape[1] // groups)
    return low.expand(size).reshape(-1), step.expand(size).reshape(-1)
