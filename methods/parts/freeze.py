"""Choose which parameters train."""

from collections.abc import Iterable

from torch import nn


def train_only(model: nn.Module, modules: Iterable[nn.Module]) -> None:
    """Freeze everything but the parameters of ``modules``."""
    model.requires_grad_(False)
    for module in modules:
        module.requires_grad_(True)
