"""The unpublished parts of torch and timm that this project relies on, each under a name of ours.

A release may change any of them without notice, and nothing else in the project names one.
``tests/harness/torch_internals`` holds each to what is relied on. What torch's compiler has is in
``compiler_internals``, what torchvision has in ``vision_internals``.
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
from torch.utils import _pytree, data
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass

# Types that torch documents in notes and tutorials, and publishes under private modules only: what
# sees every operator; tensors with shapes and no numbers, and what makes all tensors such.
__all__ = ["FakeTensor", "FakeTensorMode", "TorchDispatchMode"]

# What an operator raises over tensors without numbers whose result depends on the numbers, or that
# cannot do without; torch publishes no errors of its fake tensors.
NEEDS_NUMBERS = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
# The iterators of all data loaders, which have no public name.
LOADER_ITERATOR: type = data.dataloader._BaseDataLoaderIter

# Operators whose names torch begins with an underscore though its own public functions come to
# them; under public names they cannot be told apart, and give no sums of a softmax.
SOFTMAX: Any = torch.ops.aten._softmax
SOFTMAX_BACKWARD: Any = torch.ops.aten._softmax_backward_data
CPU_ATTENTION: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
CPU_ATTENTION_BACKWARD: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
CUDA_ATTENTION: Any = torch.ops.aten._scaled_dot_product_efficient_attention
CUDA_ATTENTION_BACKWARD: Any = torch.ops.aten._scaled_dot_product_efficient_attention_backward


def tree_leaves(nest: object) -> list[Any]:
    """Return what nested containers hold, in order; torch's public way needs another package."""
    return _pytree.tree_leaves(nest)


def makes_fake_tensors() -> bool:
    """Tell whether operators give tensors without numbers now; no public function asks."""
    return detect_fake_mode() is not None


def stands_for_others(tensor: Tensor) -> bool:
    """Tell whether a tensor only wraps others, which have the storage; only torch's parts ask.

    It may have any shape.
    """
    return isinstance(tensor, FunctionalTensor) or is_traceable_wrapper_subclass(tensor)


def storage_identity(storage: torch.UntypedStorage) -> int:
    """Return what tells a storage from all others alive; an address is no such where it is empty.

    Several Python objects may be one storage, and torch compares them by nothing public.
    """
    identity: int = storage._cdata
    return identity


def count_of_writes(tensor: Tensor) -> int:
    """Return how often a tensor was written in place, as autograd counts it for itself alone.

    It may have any shape.
    """
    return tensor._version


def running_node() -> Any:
    """Return the node of autograd that this thread runs, or ``None``; else only hooks know."""
    return torch._C._current_autograd_node()


def runs_backward() -> bool:
    """Tell whether this thread runs a graph of autograd, also between nodes; publicly unknown."""
    return torch._C._current_graph_task_id() != -1


def number_of_next_node() -> int:
    """Return the number of the node that this thread makes next, unpublished as all of them."""
    number: int = torch._C._autograd._get_sequence_nr()
    return number


def number_of_node(node: Any) -> int:
    """Return a node's number, which grows as a thread makes them; nodes publish only names."""
    number: int = node._sequence_nr()
    return number


def is_profiled() -> bool:
    """Tell whether torch makes a profile now; the public way is to begin another, which fails."""
    return torch._C._autograd._profiler_enabled()


def profile_mark(name: str) -> AbstractContextManager[object]:
    """Return what puts a name into a profile; the public one is an operator, which modes see."""
    mark: AbstractContextManager[object] = torch._C._profiler._RecordFunctionFast(name)
    return mark


def has_kernel(operator: str, key: str) -> bool:
    """Tell whether an operator is implemented for a dispatch key itself, as torch's tests ask.

    Args:
        operator: with its namespace and overload, ``aten::add.Tensor``.
        key: such as ``Meta`` or ``CompositeImplicitAutograd``.
    """
    return torch._C._dispatch_has_kernel_for_dispatch_key(operator, key)


def arguments_of(operator: Any) -> list[Any]:
    """Return an operator's declared arguments: name and default value; published as text only."""
    arguments: list[Any] = operator._schema.arguments
    return arguments


def nnpack_is_enabled() -> bool:
    """Tell whether NNPACK may be used; its public module can set that but not return it."""
    return torch._C._get_nnpack_enabled()


def forward_hooks(module: nn.Module) -> tuple[dict[int, Any], dict[int, Any]]:
    """Return a module's own hooks before and after its forward pass, which it lists nowhere else.

    Hooks taken out of these are removed.
    """
    return module._forward_pre_hooks, module._forward_hooks


def convolution(*arguments: Any) -> Tensor:
    """Do what ``torch.conv2d`` comes to before it chooses a kernel, which tracers record.

    Returns:
        [batch, channels, height, width].
    """
    name = "aten::_convolution"
    if not has_kernel(name, "Meta"):  # torch 2.9 to 2.11 know no shapes of it, but of what it calls
        torch.library.register_fake(name, lambda *given: torch.convolution(*given[:9]))
    made: Tensor = torch._convolution(*arguments)
    return made


def with_positions(vit: Any, tokens: Tensor) -> Tensor:
    """Add positions and leading tokens, as a timm transformer does; it publishes whole passes only.

    Args:
        vit: the transformer.
        tokens: its patches as it embeds them, [batch, patches, dim] or [batch, height, width, dim].
    """
    placed: Tensor = vit._pos_embed(tokens)
    return placed
