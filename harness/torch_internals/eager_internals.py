"""The private parts of torch and timm that this project uses, each under a name of its own.

A release may change any of them without notice. No other code of the project uses private names.
``tests/harness/torch_internals`` checks that each part still works as expected. Private parts of
torch's compiler are in ``compiler_internals``, those of torchvision in ``vision_internals``.
"""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.nn.attention import SDPBackend
from torch.utils import _pytree, data
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass

# Types that torch documents in notes and tutorials, but defines in private modules.
# TorchDispatchMode sees every operator. A FakeTensor has a shape but no values; in FakeTensorMode
# all tensors are fake tensors.
__all__ = ["FakeTensor", "FakeTensorMode", "TorchDispatchMode"]

# Errors of an operator that needs the values of a fake tensor, or that does not support fake
# tensors. torch has no public errors of fake tensors.
NEEDS_NUMBERS = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
# The base class of the iterators of all data loaders; it has no public name.
LOADER_ITERATOR: type = data.dataloader._BaseDataLoaderIter

# Private operators that torch's public functions call. With the public functions it is not possible
# to choose one of them, or to get the sums of a softmax.
SOFTMAX: Any = torch.ops.aten._softmax
SOFTMAX_BACKWARD: Any = torch.ops.aten._softmax_backward_data
CPU_ATTENTION: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
CPU_ATTENTION_BACKWARD: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
CUDA_ATTENTION: Any = torch.ops.aten._scaled_dot_product_efficient_attention
CUDA_ATTENTION_BACKWARD: Any = torch.ops.aten._scaled_dot_product_efficient_attention_backward

# With this operator C++ code asks a fake tensor for its device.
DEVICE_OF: Any = torch.ops.prim.device.default


def tree_leaves(nest: object) -> list[Any]:
    """Return the leaves of nested containers, in order; the public way needs another package."""
    return _pytree.tree_leaves(nest)


def makes_fake_tensors() -> bool:
    """Return whether operators create fake tensors now; there is no public function."""
    return detect_fake_mode() is not None


def device_of_fake(tensor: FakeTensor) -> torch.device:
    """Return what ``DEVICE_OF`` returns for a fake tensor of any shape, without a dispatch."""
    if tensor.fake_mode.in_kernel_invocation:
        return torch.device("meta")
    device: torch.device = tensor.fake_device
    return device


def stands_for_others(tensor: Tensor) -> bool:
    """Return whether a tensor only wraps other tensors, which have the storage.

    It may have any shape. There is no public function.
    """
    return isinstance(tensor, FunctionalTensor) or is_traceable_wrapper_subclass(tensor)


def storage_identity(storage: torch.UntypedStorage) -> int:
    """Return a number that identifies a storage among all live storages.

    Several Python objects can represent the same storage, and there is no public way to compare
    them. The address does not identify empty storages.
    """
    identity: int = storage._cdata
    return identity


def count_of_writes(tensor: Tensor) -> int:
    """Return how often a tensor of any shape was written in place, from autograd's counter."""
    return tensor._version


def running_node() -> Any:
    """Return the autograd node that this thread runs, or ``None``; there is no public function."""
    return torch._C._current_autograd_node()


def runs_backward() -> bool:
    """Return whether this thread runs a backward pass, also between nodes; no public function."""
    return torch._C._current_graph_task_id() != -1


def number_of_next_node() -> int:
    """Return the number of the next autograd node of this thread; numbers of nodes are private."""
    number: int = torch._C._autograd._get_sequence_nr()
    return number


def number_of_node(node: Any) -> int:
    """Return a node's number; a later node of the same thread has a larger one. It is private."""
    number: int = node._sequence_nr()
    return number


def is_profiled() -> bool:
    """Return whether torch's profiler runs now; there is no public function."""
    return torch._C._autograd._profiler_enabled()


def profile_mark(name: str) -> AbstractContextManager[object]:
    """Return a mark in a profile; the public one is an operator, which dispatch modes would see."""
    mark: AbstractContextManager[object] = torch._C._profiler._RecordFunctionFast(name)
    return mark


def clear_cublas_workspaces() -> bool:
    """Free the workspaces that cuBLAS and cuBLASLt hold; return whether torch can do that.

    Their next product allocates new ones. There is no public function.
    """
    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
    if clear is None:  # torch was built without CUDA, or has renamed the function
        return False
    clear()
    return True


def has_kernel(operator: str, key: str) -> bool:
    """Return whether an operator has its own implementation for a dispatch key.

    Args:
        operator: name with namespace and overload, such as ``aten::add.Tensor``.
        key: the dispatch key, such as ``Meta`` or ``CompositeImplicitAutograd``.
    """
    return torch._C._dispatch_has_kernel_for_dispatch_key(operator, key)


def arguments_of(operator: Any) -> list[Any]:
    """Return an operator's arguments, with names and defaults; the public form is only text."""
    arguments: list[Any] = operator._schema.arguments
    return arguments


def tensors_of_scaler(scaler: torch.amp.GradScaler) -> list[Tensor]:
    """Return the scale and the number of steps since its last change; the public ones are numbers.

    Returns:
        Two tensors of any shape (torch makes scalars); none before the first loss was scaled.
    """
    return [kept for kept in (scaler._scale, scaler._growth_tracker) if kept is not None]


def handle_loss_scale(optimizer: torch.optim.Optimizer) -> None:
    """Declare that an optimizer handles the scale of ``GradScaler`` itself, as fused ones do.

    It then gets ``grad_scale`` and ``found_inf`` as attributes. There is no public way.
    """
    optimizer._step_supports_amp_scaling = True  # type: ignore[attr-defined]  # as torch does


def nnpack_is_enabled() -> bool:
    """Return whether NNPACK may be used; the public module can only set this."""
    return torch._C._get_nnpack_enabled()


def order_of_attention_kernels() -> str:
    """Return the order in which torch tries kernels of attention; the public module only sets it.

    It has no effect on kernels that are disabled or do not fit the inputs.
    """
    order: list[int] = torch._C._get_sdp_priority_order()
    return ", ".join(SDPBackend(number).name for number in order)


def forward_hooks(module: nn.Module) -> tuple[dict[int, Any], dict[int, Any]]:
    """Return a module's hooks before and after its forward pass; there is no public list.

    Deleting an entry from these dictionaries removes the hook.
    """
    return module._forward_pre_hooks, module._forward_hooks


def convolution(*arguments: Any) -> Tensor:
    """Run the operator that ``torch.conv2d`` calls before it chooses a kernel; tracers record it.

    Returns:
        [batch, channels, height, width].
    """
    name = "aten::_convolution"
    if not has_kernel(name, "Meta"):  # torch 2.9 to 2.11: only torch.convolution has one
        torch.library.register_fake(name, lambda *args: torch.convolution(*args[:9]))
    made: Tensor = torch._convolution(*arguments)
    return made


def with_positions(vit: Any, tokens: Tensor) -> Tensor:
    """Add the position embeddings and the leading tokens of a timm transformer.

    timm has public functions only for complete forward passes.

    Args:
        vit: the transformer.
        tokens: the embedded patches, [batch, patches, dim] or [batch, height, width, dim].
    """
    placed: Tensor = vit._pos_embed(tokens)
    return placed


def sparse_indices_and_values(tensor: Tensor) -> list[Tensor]:
    """Return the tensors behind a COO tensor of any shape, coalesced or not."""
    return [tensor._indices(), tensor._values()]
