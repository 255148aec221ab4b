"""Store the derivative of GELU as one of four levels in 2 bits, and read it back."""

from itertools import accumulate

import torch
from torch import Tensor

from bsrbench.methods.parts.kernels import Kernel, operator
from bsrbench.methods.parts.quantise import SOURCE, from_words, periods, to_words

BITS, A_WORD = 2, 16
# Official code of Yang et al. 2024, regelu2_cuda.cu at d35b090: the inputs at which the derivative
# jumps, and the size of each jump.
THRESHOLDS = (-3.1858810036855245, -0.001178821281161997, 3.190832613414926)
JUMPS = (-0.04922261145617846, 1.0979632065417297, -0.048740595085551286)
LEVELS = (0.0, *accumulate(JUMPS))


def _find(x: Tensor) -> Tensor:
    codes = sum((x > threshold).to(torch.int32) for threshold in THRESHOLDS)
    return to_words(codes, BITS)  # type: ignore[arg-type]  # a sum of tensors is a tensor


def _levels(words: Tensor) -> Tensor:
    parts = []
    for code in from_words(words, BITS):
        level = torch.zeros_like(code)
        for number, value in enumerate(LEVELS[1:], start=1):
            level = torch.where(code >= number, value, level)
        parts.append(level)
    return torch.cat(parts, dim=1)


def _find_in_chunks(x: Tensor) -> Tensor:
    words = _empty_words(x)
    for rows in periods(x):
        words[rows] = _find(x[rows])
    return words


def _levels_in_chunks(words: Tensor) -> Tensor:
    x = _empty_levels(words)
    for rows in periods(x):
        x[rows] = _levels(words[rows])
    return x


def _example() -> tuple[Tensor, ...]:
    return (torch.linspace(-6, 6, 300 * 256).view(256, 300).t().contiguous(),)


def _example_words() -> tuple[Tensor, ...]:
    return (torch.arange(300 * 16, dtype=torch.int32).view(300, 16) * 894_783,)


def _empty_words(x: Tensor) -> Tensor:
    return torch.empty(x.shape[0], x.shape[1] // A_WORD, dtype=torch.int32, device=x.device)


def _empty_levels(words: Tensor) -> Tensor:
    return torch.empty(words.shape[0], A_WORD * words.shape[1], device=words.device)


FIND = Kernel(
    f"{__name__}:FIND",
    _find,
    _find_in_chunks,
    _empty_words,
    _example,
    SOURCE,
    "find_levels",
    THRESHOLDS,
)
READ = Kernel(
    f"{__name__}:READ",
    _levels,
    _levels_in_chunks,
    _empty_levels,
    _example_words,
    SOURCE,
    "read_levels",
    LEVELS,
)

_FIND = operator("find_levels(Tensor x) -> Tensor", FIND, _empty_words)
_READ = operator("read_levels(Tensor words) -> Tensor", READ, _empty_levels)


def find_levels(x: Tensor) -> Tensor:
    """Return the levels of x, fp32 [n, c], in int32 words [n, c / 16]; c is a multiple of 16."""
    words: Tensor = _FIND(x)
    return words


def read_levels(words: Tensor) -> Tensor:
    """Return the derivatives, fp32 [n, c], that are stored in words [n, c / 16]."""
    levels: Tensor = _READ(words)
    return levels
