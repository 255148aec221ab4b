"""ASI: store the inputs of trained Linear layers in Tucker form."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from bsrbench.harness.method import Kind, Method
from bsrbench.methods.parts.tucker_inputs import RankChoice, keep_inputs_in_subspaces


@dataclass(frozen=True)
class ActivationSubspaceIteration(Method):
    """Store the input of each trained Linear layer as a small core and three factors.

    TODO

    Attributes:
        explained: share of the squared norm of the input that the rank of each mode explains, in
            (0, 1]; 0.8 if neither option is set; the paper: 0.4 to 0.9.
        ranks: ranks of images, tokens and channels, the same for all layers, instead of those that
            follow from ``explained``.
    """

    explained: float | None = None
    ranks: tuple[int, ...] = ()

    source = "Nguyen et al. 2025 (ASI), arXiv:2505.05086, section 3; official code 3ce480c"
    exact_forward = True
    gradient_error = 0.6
    kinds: ClassVar = frozenset({Kind.STORES_ACTIVATIONS})
    refines: ClassVar = frozenset({"regelu2"})

    def __post_init__(self) -> None:
        self._choice()

    def _choice(self) -> RankChoice:
        return RankChoice(self.explained, self.ranks)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make the Linear layers of the blocks store their inputs in Tucker form.

        Raises:
            Unsupported: no such layer trains, or ranks are larger than what they should shrink.
        """
        keep_inputs_in_subspaces(model, self._choice())
        return model

    def refine(self, model: nn.Module) -> nn.Module:
        """Do the same in a model whose GELUs store levels."""
        return self.prepare(model)

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int | None:  # noqa: ARG002 - see Method
        """Return ``None``: it depends on the ranks, and on the layers that train."""
        return None
