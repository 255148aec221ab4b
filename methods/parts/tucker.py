"""The Tucker form of an activation: a small core, and one orthonormal factor for each mode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from math import prod

import torch
from torch import Tensor

IMAGES, TOKENS, CHANNELS = MODES = (0, 1, 2)

# Factors of the three modes. ``None`` stands for the identity: the mode is whole.
Factors = Sequence[Tensor | None]


@dataclass(frozen=True)
class Tucker:
    """A tensor [images, tokens, channels] as a core, multiplied by a factor along each mode.

    Attributes:
        core: [first rank, second rank, third rank].
        factors: for each mode [size, rank] with orthonormal columns, or ``None`` if it is whole.
    """

    core: Tensor
    factors: tuple[Tensor | None, ...]


def kept_numbers(shape: Sequence[int], ranks: Sequence[int]) -> int:
    """Return how many numbers a Tucker form has; a mode of full rank has no factor."""
    factors = (n * rank for n, rank in zip(shape, ranks, strict=True) if rank < n)
    return prod(ranks) + sum(factors)


def fitting_ranks(shape: Sequence[int], ranks: Sequence[int]) -> tuple[int, ...]:
    """Return ranks that are at most those of the unfoldings of a tensor of this shape."""
    whole = prod(shape)
    return tuple(min(rank, n, whole // n) for n, rank in zip(shape, ranks, strict=True))


def along(x: Tensor, matrix: Tensor, mode: int) -> Tensor:
    """Multiply x [images, tokens, channels] along a mode of size n by a matrix [m, n]."""
    if mode == IMAGES:
        moved: Tensor = (matrix @ x.flatten(1)).unflatten(1, x.shape[1:])
        return moved
    return matrix @ x if mode == TOKENS else x @ matrix.T


def iterated(x: Tensor, start: Tensor, mode: int) -> Tensor:
    """Return orthonormal columns that span A A^T start, where A is the unfolding of x by a mode.

    This is one subspace iteration. The unfolding is never made, because that would copy x.

    Args:
        x: [images, tokens, channels].
        start: [n, rank], where n is the size of the mode.
        mode: the mode.

    Returns:
        [n, rank] in the dtype of x; the columns are made orthonormal in fp32 at least.
    """
    size, rank = start.shape
    moved = _twice(x, start, mode) if 2 * rank <= size else _gram(x, mode) @ start
    exact = torch.promote_types(moved.dtype, torch.float32)
    basis: Tensor = torch.linalg.qr(moved.to(exact)).Q
    return basis.to(x.dtype)


def _twice(x: Tensor, start: Tensor, mode: int) -> Tensor:
    """Return A (A^T start); it has fewer operations than A A^T if the rank is small."""
    if mode == TOKENS:
        return (x @ (start.T @ x).mT).sum(0)
    rows = x.flatten(1) if mode == IMAGES else x.flatten(0, 1).T
    return rows @ (rows.T @ start)


def _gram(x: Tensor, mode: int) -> Tensor:
    """Return A A^T [n, n] of the unfolding A by a mode of size n."""
    if mode == TOKENS:
        return (x @ x.mT).sum(0)
    rows = x.flatten(1) if mode == IMAGES else x.flatten(0, 1).T
    return rows @ rows.T


def projected(x: Tensor, factors: Factors) -> Tensor:
    """Return the core of x [images, tokens, channels]; the mode that shrinks most comes first."""
    given = [(mode, factor) for mode, factor in enumerate(factors) if factor is not None]
    for mode, factor in sorted(given, key=lambda pair: pair[1].shape[1] / pair[1].shape[0]):
        x = along(x, factor.T, mode)
    return x


def ranks_by_variance(x: Tensor, explained: float) -> tuple[int, ...]:
    """Return for each mode of x [images, tokens, channels] the smallest rank that explains enough.

    A rank explains the share of the squared singular values of the unfolding that belongs to the
    largest of them. Their sum is the squared norm of x.

    Args:
        x: the tensor.
        explained: the share, in (0, 1].
    """
    full = fitting_ranks(x.shape, x.shape)
    if explained == 1:
        return full
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    return tuple(
        min(full[mode], smallest_rank(_squared_singular_values(exact, mode), explained))
        for mode in MODES
    )


def _squared_singular_values(x: Tensor, mode: int) -> Tensor:
    """Return the squared singular values of an unfolding, the largest first."""
    n = x.shape[mode]
    if mode == CHANNELS and n * n > x.numel():  # more channels than rows
        rows = x.flatten(0, 1)
        gram = rows @ rows.T
    else:
        gram = _gram(x, mode)
    rising: Tensor = torch.linalg.eigvalsh(gram)
    return rising.flip(0).clamp_min(0)


def smallest_rank(squares: Tensor, explained: float) -> int:
    """Return how many of the squared singular values [n], largest first, sum up to the share."""
    reached = squares.cumsum(0)
    return min(len(squares), int((reached < explained * reached[-1]).sum()) + 1)


def gradient_of_weight(outputs: Tensor, form: Tucker, right: Tensor | None = None) -> Tensor:
    """Return the gradient of the weight of a Linear layer from the Tucker form of its input.

    It is the sum over images and tokens of output gradient times input. For images and tokens,
    either the output gradient is multiplied by the transposed factor, or the core by the factor.
    The way with the fewest multiply-adds is taken. The input is never made whole.

    Args:
        outputs: gradient of the output, [images, tokens, out].
        form: the input, [images, tokens, in].
        right: [k, in]; the input is then multiplied by its transpose.

    Returns:
        [out, in], or [out, k].
    """
    core, channels = form.core, form.factors[CHANNELS]
    given = {mode: u for mode in (IMAGES, TOKENS) if (u := form.factors[mode]) is not None}
    outputs = outputs.to(core.dtype)
    sizes = {mode: tuple(factor.shape) for mode, factor in given.items()}
    for mode, shrinks in cheapest_way(outputs.shape, core.shape, sizes):
        if shrinks:
            outputs = along(outputs, given[mode].T, mode)
        else:
            core = along(core, given[mode], mode)
    total = outputs.flatten(0, 1).T @ core.flatten(0, 1)
    if right is None:
        return total if channels is None else total @ channels.T
    right = right.to(total.dtype)
    return total @ (right if channels is None else right @ channels).T


Way = tuple[tuple[int, bool], ...]


def cheapest_way(
    outputs: Sequence[int], core: Sequence[int], factors: Mapping[int, tuple[int, ...]]
) -> Way:
    """Return in which order the modes come, and for each whether the output gradient shrinks.

    Args:
        outputs: shape of the output gradient, [images, tokens, out].
        core: shape of the core, [first rank, second rank, third rank].
        factors: shape of the factor, [size, rank], of images and of tokens; a whole mode has none.
    """
    ways = (
        tuple(zip(order, shrinks, strict=True))
        for order in permutations(factors)
        for shrinks in product((True, False), repeat=len(order))
    )
    return min(ways, key=lambda way: multiply_adds(way, outputs, core, factors))


def multiply_adds(
    way: Way, outputs: Sequence[int], core: Sequence[int], factors: Mapping[int, tuple[int, ...]]
) -> int:
    """Return the multiply-adds of a way until images and tokens are summed over."""
    left, right = list(outputs), list(core)
    total = 0
    for mode, shrinks in way:
        size, rank = factors[mode]
        total += prod(left) * rank if shrinks else prod(right) * size
        if shrinks:
            left[mode] = rank
        else:
            right[mode] = size
    return total + prod(left) * right[CHANNELS]
