"""Full fine-tuning: every parameter trains."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from bsrbench.harness.method import Kind, Method
from bsrbench.methods.parts.trained_parameters import require_all_train


@dataclass(frozen=True)
class FullFineTuning(Method):
    """Train every parameter with plain autograd.

    Stores every activation that autograd saves; approximates nothing. Does not save anything: it
    is the reference for all savings.
    """

    source = "baseline"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})
    saves_over_full = False
    compiles = True

    def prepare(self, model: nn.Module) -> nn.Module:
        """Check that every parameter trains, as in an untouched model.

        Raises:
            Unsupported: something is frozen.
        """
        require_all_train(model)
        return model
