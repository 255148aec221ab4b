"""Find the module to which the running operator belongs, in forward and backward passes."""

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
    """Observes which module runs while the ``with`` block is open.

    In a forward pass, also a recomputed one, an operator belongs to the innermost running module.
    In a backward pass it belongs to the module that ran when autograd created the current node.
    Autograd numbers its nodes in the order of their creation, so no hooks in the graph are needed.

    Args:
        model: the model; its modules have their dotted names, and ``""`` is the model itself.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._names = {module: name for name, module in model.named_modules()}
        self._parameters = {id(p): n.rpartition(".")[0] for n, p in model.named_parameters()}
        self._running: list[str] = []
        # Nodes from _numbers[i] on, up to the next number, were created in module _makers[i].
        self._numbers: list[int] = []
        self._makers: list[str] = []
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        for module in self._model.modules():
            self._handles.append(module.register_forward_pre_hook(self._begin))
            # always_call: a recomputation that is complete leaves its modules by an exception.
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
        parameter = getattr(node, "variable", None)  # only nodes that accumulate gradients have it
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
