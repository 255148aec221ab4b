"""The operators that compute attention, seen while a model runs."""

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
        forward: runs the pass.
    """
    with _Operators() as seen:
        forward()
    return described(seen.names, explicit=seen.softmax_of_scores)


class _Operators(TorchDispatchMode):
    """Keeps the name of every operator that runs, and whether one was a softmax of all scores."""

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
        operator = func.overloadpacket  # how torch's own table is keyed
        self.names.add(str(operator))
        self.softmax_of_scores |= operator is SOFTMAX and _of_several_queries(args[0])
        return func(*args, **(kwargs or {}))


def _of_several_queries(scores: Tensor) -> bool:
    """Return whether a softmax is attention's; that of the class token's scores ranks tokens."""
    return scores.ndim == SCORES and min(scores.shape[-2:]) > 1
