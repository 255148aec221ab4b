"""Codes of weights in 8 and 4 bits: how a weight is packed, and how it is made whole again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

CODES = "codes"
LARGEST = 127  # of an 8-bit code; -128 is not used, so the codes are symmetric
BLOCK = 64  # numbers of a weight that share one scale
SCALES_A_BLOCK = 256  # of the second quantisation, that of the scales
EIGHT_BIT_FLOAT = torch.float8_e4m3fn
# Quantiles of a standard normal distribution, from -1 to 1, with an exact 0 (Dettmers et al. 2023,
# appendix E). The negative half has one level more than the positive one.
NF4_LEVELS = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)

Parts = Mapping[str, Tensor]


@dataclass(frozen=True)
class WeightFormat:
    """How a weight is stored.

    Attributes:
        name: name of the method that stores weights so.
        pack: maps a weight [out, in] to named tensors; one of them is ``codes``.
        unpack: maps these tensors, the shape and a floating type to the weight [out, in].
    """

    name: str
    pack: Callable[[Tensor], dict[str, Tensor]]
    unpack: Callable[[Parts, torch.Size, torch.dtype], Tensor]


def pack_int8(weight: Tensor) -> dict[str, Tensor]:
    """Return 8-bit codes [out, in] and scales [out]: the largest number of a row gets code 127."""
    scales = weight.abs().amax(1) / LARGEST
    divisors = torch.where(scales > 0, scales, 1)  # a row of zeros
    codes = (weight / divisors.unsqueeze(1)).round_().clamp_(-LARGEST, LARGEST)
    return {CODES: codes.to(torch.int8), "scales": scales}


def unpack_int8(parts: Parts, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Return the weight [out, in] of 8-bit codes; no other tensor of its size is made."""
    whole = parts[CODES].to(dtype)
    return whole.mul_(parts["scales"].to(dtype).unsqueeze(1)).view(shape)


def pack_nf4(weight: Tensor) -> dict[str, Tensor]:
    """Return 4-bit codes of a weight [out, in], two per byte, and 8-bit scales of blocks of 64.

    A block is divided by its largest absolute value, and each number gets the nearest level. The
    scales minus their mean are divided by the largest absolute value of 256 of them, and stored as
    8-bit floating-point numbers.
    """
    flat = weight.flatten()
    blocks = F.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    scales = blocks.abs().amax(1)
    levels = _levels(blocks)
    shares = blocks / torch.where(scales > 0, scales, 1).unsqueeze(1)
    codes = torch.bucketize(shares, (levels[1:] + levels[:-1]) / 2).to(torch.uint8)
    first, second = codes.view(-1, 2).unbind(1)
    mean = scales.mean()
    return {CODES: first * 16 + second, "mean": mean.view(1)} | _pack_scales(scales - mean)


def _pack_scales(scales: Tensor) -> dict[str, Tensor]:
    groups = F.pad(scales, (0, -len(scales) % SCALES_A_BLOCK)).view(-1, SCALES_A_BLOCK)
    largest = torch.finfo(EIGHT_BIT_FLOAT).max
    factors = groups.abs().amax(1) / largest
    divisors = torch.where(factors > 0, factors, 1)
    shares = (groups / divisors.unsqueeze(1)).clamp(-largest, largest)
    # As bytes: a module's change of precision converts floating-point parameters.
    stored = shares.to(EIGHT_BIT_FLOAT).view(torch.uint8).flatten()[: len(scales)]
    return {"scale_codes": stored.clone(), "scale_factors": factors}


def unpack_nf4(parts: Parts, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Return the weight [out, in] of 4-bit codes."""
    levels = _levels(parts["mean"])
    pairs = torch.cartesian_prod(levels, levels).to(dtype)  # the two numbers of each byte
    whole = F.embedding(parts[CODES].to(torch.int32), pairs).view(-1, BLOCK)
    whole.mul_(_unpack_scales(parts).to(dtype).unsqueeze(1))
    return whole.flatten()[: shape.numel()].view(shape)


def _unpack_scales(parts: Parts) -> Tensor:
    factors, mean = parts["scale_factors"], parts["mean"]
    values = torch.tensor(FLOATS_OF_BYTES, dtype=factors.dtype, device=factors.device)
    shares = F.embedding(parts["scale_codes"].to(torch.int32), values.unsqueeze(1)).flatten()
    each = factors.repeat_interleave(SCALES_A_BLOCK)[: len(shares)]
    return shares.mul_(each).add_(mean)


def _number(byte: int) -> float:
    """Return the number whose e4m3 byte this is; the two bytes of NaN are never stored."""
    sign, exponent, fraction = -1 if byte >> 7 else 1, byte >> 3 & 15, (byte & 7) / 8
    size: float = (1 + fraction) * 2.0 ** (exponent - 7) if exponent else fraction * 2.0**-6
    return sign * size


FLOATS_OF_BYTES = tuple(map(_number, range(256)))  # fvcore cannot trace a view as another type


def _levels(like: Tensor) -> Tensor:
    return torch.tensor(NF4_LEVELS, dtype=like.dtype, device=like.device)


INT8 = WeightFormat("int8w", pack_int8, unpack_int8)
NF4 = WeightFormat("nf4", pack_nf4, unpack_nf4)
