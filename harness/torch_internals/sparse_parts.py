"""Find the tensors that have storages; a sparse tensor has none, its indices and values have."""

import torch
from torch import Tensor

from bsrbench.harness.torch_internals.eager_internals import sparse_indices_and_values, tree_leaves


def tensors_with_storage(nest: object) -> list[Tensor]:
    """Return the tensors, of any shape, in nested containers; sparse ones as indices and values."""
    leaves = [leaf for leaf in tree_leaves(nest) if isinstance(leaf, Tensor)]
    return [part for leaf in leaves for part in _parts(leaf)]


def _parts(tensor: Tensor) -> list[Tensor]:
    if tensor.layout == torch.sparse_coo:
        return sparse_indices_and_values(tensor)
    if tensor.layout in {torch.sparse_csr, torch.sparse_bsr}:
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in {torch.sparse_csc, torch.sparse_bsc}:
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return [tensor]
