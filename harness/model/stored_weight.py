"""A layer that has its weight in parts: codes and scales if it is frozen, factors if it trains."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

PREFIX = "weight_"  # of the names of the parts


class StoredWeight(nn.Module):
    """A layer that stores its weight in parts: parameters of other shapes or types.

    Attributes:
        shape: shape of the whole weight.
    """

    shape: torch.Size

    def parts(self) -> dict[str, Tensor]:
        """Return the parts, of any shape, by name."""
        return {
            name.removeprefix(PREFIX): parameter
            for name, parameter in self.named_parameters(recurse=False)
            if name.startswith(PREFIX)
        }


class FactoredWeight(StoredWeight):
    """A layer whose weight is the product of two factors, which train in its place."""


def stored_weights(model: nn.Module) -> list[StoredWeight]:
    """Return the layers of a model that store their weights in parts."""
    return [part for part in model.modules() if isinstance(part, StoredWeight)]


def parameter_numbers(model: nn.Module) -> Iterator[tuple[int, bool]]:
    """Yield for each parameter how many numbers it has and whether it trains.

    A weight that is stored in parts counts as one frozen parameter of its whole shape. Factors
    count as they are.
    """
    in_parts = set()
    for layer in stored_weights(model):
        if isinstance(layer, FactoredWeight):
            continue
        in_parts |= {id(part) for part in layer.parts().values()}
        yield layer.shape.numel(), False
    for parameter in model.parameters():
        if id(parameter) not in in_parts:
            yield parameter.numel(), parameter.requires_grad
