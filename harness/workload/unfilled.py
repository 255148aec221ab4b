"""Leave out the random values of weights that a file replaces.

Drawing them takes about half the time in which a small vision transformer is built.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

DRAWS = (Tensor.uniform_, Tensor.normal_, Tensor.erfinv_)
FEWEST = 4096  # elements; smaller tensors are drawn in no time


class Unfilled(TorchFunctionMode):
    """While it is active, large tensors stay uninitialised where they would be drawn at random.

    It is only for models of which every parameter but the classifier is then loaded from a file.

    Args:
        classes: number of classes. Tensors of so many rows are drawn: they may be the classifier.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self._classes = classes

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the tensor unchanged instead of drawing it; call every other function."""
        if func in DRAWS and args[0].numel() >= FEWEST and len(args[0]) != self._classes:
            return args[0]
        return func(*args, **(kwargs or {}))
