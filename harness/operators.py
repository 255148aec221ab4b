"""What torch's operators are made of."""

import functools
from typing import Any

import torch


@functools.cache
def is_composite(operator: Any) -> bool:
    """Tell whether an operator only calls others, which a dispatch mode is to see in its place.

    Where gradients may be wanted torch takes such operators apart before any mode sees them; in
    inference mode it does not. ``operator.decompose`` does it then.
    """
    name: str = operator.name()
    known = operator.namespace != "prim"  # those ask something of a tensor
    return known and torch._C._dispatch_has_kernel_for_dispatch_key(
        name, "CompositeImplicitAutograd"
    )  # noqa: SLF001 - torch offers no other
