"""Find the torch operators that consist of other operators."""

import functools
from typing import Any

from bsrbench.harness.torch_internals.eager_internals import has_kernel


@functools.cache
def is_composite(operator: Any) -> bool:
    """Return whether an operator only calls other operators.

    A dispatch mode must see those other operators instead. Outside inference mode torch decomposes
    such an operator before any mode sees it. In inference mode it does not, so the mode must call
    ``operator.decompose``.
    """
    if operator.namespace == "prim":  # returns a property of a tensor
        return False
    return has_kernel(operator.name(), "CompositeImplicitAutograd")
