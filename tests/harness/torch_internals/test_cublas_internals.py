"""The private part of torch that frees what cuBLAS holds."""

import torch

from bsrbench.harness.torch_internals.eager_internals import clear_cublas_workspaces


def test_the_workspaces_of_cublas_can_be_freed_where_torch_has_cuda():
    """Without a GPU there are none to free."""
    assert clear_cublas_workspaces() == (torch.version.cuda is not None)
