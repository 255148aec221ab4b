"""Full fine-tuning: every parameter trains."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from bsrbench.harness.method import Kind, Method
from bsrbench.methods.parts.trained_parameters import require_all_train


@dataclass(frozen=True)
class FullFineTuning(Method):
    """Train every parameter with plain autograd.

    Stores every activation autograd asks for; approximates nothing. Does not save anything: it is
    the reference that savings are given against.
    """

    source = "baseline"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})
    saves_over_full = False
    compiles = True

    def prepare(self, model: nn.Module) -> nn.Module:
        """Check that every parameter trains, as all do in a model that nothing has touched.

        Raises:
            Unsupported: something is frozen.
        """
        require_all_train(model)
        return model
