"""What torch's operators are made of."""

import functools
from typing import Any

from bsrbench.harness.torch_internals.eager_internals import has_kernel


@functools.cache
def is_composite(operator: Any) -> bool:
    """Tell whether an operator only calls others, which a dispatch mode is to see in its place.

    Where gradients may be wanted torch takes such operators apart before any mode sees them; in
    inference mode it does not. ``operator.decompose`` does it then.
    """
    if operator.namespace == "prim":  # asks something of a tensor
        return False
    return has_kernel(operator.name(), "CompositeImplicitAutograd")
