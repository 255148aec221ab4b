"""What torch's operators are made of."""

import functools
from typing import Any

import torch

_HAS_KERNEL = torch._C._dispatch_has_kernel_for_dispatch_key  # noqa: SLF001 - torch offers no other


@functools.cache
def is_composite(operator: Any) -> bool:
    """Tell whether an operator only calls others, which a dispatch mode is to see in its place.

    Where gradients may be wanted torch takes such operators apart before any mode sees them; in
    inference mode it does not. ``operator.decompose`` does it then.
    """
    if operator.namespace == "prim":  # asks something of a tensor
        return False
    known: bool = _HAS_KERNEL(operator.name(), "CompositeImplicitAutograd")
    return known
