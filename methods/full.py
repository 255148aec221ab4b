"""Full fine-tuning: every parameter trains."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from harness.method import Kind, Method


@dataclass(frozen=True)
class FullFineTuning(Method):
    """Train every parameter with plain autograd.

    Stores every activation autograd asks for; approximates nothing; saves nothing. The reference
    that savings are given against.
    """

    source = "baseline"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})
    saves_over_full = False
    compiles = True

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make every parameter trainable."""
        return model.requires_grad_(True)
