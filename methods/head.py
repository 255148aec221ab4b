"""Linear probing: train only the classification head."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from bsrbench.harness.method import Kind, Method
from bsrbench.harness.model.vit import head
from bsrbench.methods.parts.trained_parameters import train_only


@dataclass(frozen=True)
class LinearProbe(Method):
    """Train the classification head on frozen features.

    Stores only the head's input; approximates nothing. Does not save the forward pass. The
    features cannot adapt.
    """

    source = "baseline (linear probing)"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})
    compiles = True

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze everything except the head."""
        train_only(model, [head(model)])
        return model
