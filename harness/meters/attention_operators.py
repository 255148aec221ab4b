"""Observe which operators compute attention while a model runs."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from bsrbench.harness.records.attention_kernel import described
from bsrbench.harness.torch_internals.eager_internals import SOFTMAX, TorchDispatchMode

SCORES = 4  # dimensions: [batch, heads, queries, keys]


def attention_kernel(forward: Callable[[], object]) -> str:
    """Return the operators that compute attention in a forward pass.

    A compiled step runs uncompiled here, as under the FLOP meter. Call it after all other
    measurements, because the pass consumes random numbers of the method.

    Args:
        forward: runs the forward pass.
    """
    with _Operators() as operators:
        forward()
    return described(operators.names, explicit=operators.softmax_of_scores)


class _Operators(TorchDispatchMode):
    """Collects operator names, and whether there was a softmax over the scores of attention."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.names: set[str] = set()
        self.softmax_of_scores = False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        operator = func.overloadpacket  # the operator without its overload
        self.names.add(str(operator))
        self.softmax_of_scores |= operator is SOFTMAX and _of_several_queries(args[0])
        return func(*args, **(kwargs or {}))


def _of_several_queries(scores: Tensor) -> bool:
    """Return whether scores belong to attention; with one query, a softmax only ranks tokens."""
    return scores.ndim == SCORES and min(scores.shape[-2:]) > 1
