"""Tucker forms the slow way, in numpy: unfold, decompose, project."""

import numpy as np
import torch


def unfolded(x, mode):
    """Return the unfolding [n, all others] of an array."""
    return np.moveaxis(x, mode, 0).reshape(x.shape[mode], -1)


def ranks_of(x, explained):
    """Return the smallest rank of each unfolding that explains the share, by singular values."""
    ranks = []
    for mode in range(3):
        squares = np.linalg.svd(unfolded(x, mode), compute_uv=False) ** 2
        shares = np.cumsum(squares) / squares.sum()
        ranks.append(1 + int(np.sum(shares < explained - 1e-12)))
    return tuple(ranks)


def span(x, start, mode):
    """Return an orthonormal basis of A A^T start, by an SVD instead of QR."""
    a = unfolded(x, mode)
    return np.linalg.svd(a @ (a.T @ start), full_matrices=False)[0]


def projection(x, spans):
    """Return x projected on the span of each mode; ``None`` is the whole space."""
    for mode, basis in enumerate(spans):
        if basis is not None:
            flat = basis @ (basis.T @ unfolded(x, mode))
            others = [n for i, n in enumerate(x.shape) if i != mode]
            x = np.moveaxis(flat.reshape(x.shape[mode], *others), 0, mode)
    return x


def drawn_starts(shape, ranks, seed):
    """Return the first random starts, drawn as a layer draws them; none for a mode of full rank."""
    torch.manual_seed(seed)
    drawn = []
    for n, rank in zip(shape, ranks, strict=True):
        start = None if rank == n else torch.randn(n, rank, dtype=torch.float64)
        drawn.append(start)
    return [None if start is None else start.numpy() for start in drawn]


def next_spans(x, starts):
    """Return the bases after one iteration from each start."""
    return [None if start is None else span(x, start, mode) for mode, start in enumerate(starts)]


def low_rank(shape, ranks, noise, seed=0):
    """Return a float64 tensor of about these ranks."""
    generator = torch.Generator().manual_seed(seed)
    core = torch.randn(ranks, generator=generator, dtype=torch.float64)
    for n, rank in zip(shape, ranks, strict=True):
        matrix = torch.randn(n, rank, generator=generator, dtype=torch.float64)
        core = torch.tensordot(core, matrix, dims=([0], [1]))
    return core + noise * torch.randn(shape, generator=generator, dtype=torch.float64)
