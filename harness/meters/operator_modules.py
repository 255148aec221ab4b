"""The module of a model to which the running operator belongs, forward and backward."""

from bisect import bisect_right
from types import TracebackType
from typing import Any, Self

from torch import nn

from bsrbench.harness.torch_internals.eager_internals import (
    number_of_next_node,
    number_of_node,
    running_node,
)

OF_NO_MODULE = ""


class OperatorModules:
    """Watches modules run, from when it is entered until it is left.

    In the forward pass (and where one is recomputed) the owner is the innermost module that
    runs. In the backward pass it is the module that ran when autograd made the node that runs
    now: nodes are numbered as they are made, so no hook needs to touch the graph.

    Args:
        model: whose modules to tell apart, by their dotted names; ``""`` is the model itself.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._names = {module: name for name, module in model.named_modules()}
        self._parameters = {id(p): n.rpartition(".")[0] for n, p in model.named_parameters()}
        self._running: list[str] = []
        self._numbers: list[int] = []  # from this node on ...
        self._makers: list[str] = []  # ... this module made them
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        for module in self._model.modules():
            self._handles.append(module.register_forward_pre_hook(self._begin))
            # Always: a recomputation that has all it needs leaves its modules by an exception.
            self._handles.append(module.register_forward_hook(self._end, always_call=True))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def now(self) -> str:
        """Return the dotted name of the module whose operator runs, or ``""``."""
        if self._running:
            return self._running[-1]
        node = running_node()
        if node is None:
            return OF_NO_MODULE
        parameter = getattr(node, "variable", None)  # of the nodes that add up gradients
        if parameter is not None:
            return self._parameters.get(id(parameter), OF_NO_MODULE)
        place = bisect_right(self._numbers, number_of_node(node))
        return self._makers[place - 1] if place else OF_NO_MODULE

    def _begin(self, module: nn.Module, _: Any) -> None:
        self._running.append(self._names[module])
        self._note(self._running[-1])

    def _end(self, *_: Any) -> None:
        self._running.pop()
        self._note(self._running[-1] if self._running else OF_NO_MODULE)

    def _note(self, name: str) -> None:
        self._numbers.append(number_of_next_node())
        self._makers.append(name)
