"""WASI: train two factors of each weight, and store the inputs in Tucker form."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from bsrbench.harness.method import Kind, Method
from bsrbench.methods.parts.factored_weights import WeightRank, train_factors
from bsrbench.methods.parts.tucker_inputs import RankChoice


@dataclass(frozen=True)
class WeightActivationSubspaceIteration(Method):
    """Train two factors of each weight in its place; store the inputs of these layers as ``asi``.

    A weight [out, in] becomes the product of L [out, k] and R [k, in], from the k largest singular
    values when the model is prepared: L has the left singular vectors, R the values times the right
    ones. The weight does not exist any more: L and R train, and have gradients and optimizer state;
    the layer multiplies by R, then by L. So weights and FLOPs fall, also in evaluation. Stores the
    inputs of these layers in Tucker form as ``asi`` does; the gradient of L reads its product with
    R. Approximates the forward pass, because smaller singular values are dropped, and the gradients
    of L and R, through the input. A weight stays whole if k (out + in) is not less than out x in;
    its input is stored as in ``asi``. A random weight needs nearly all singular values, so the
    factors pay only for a pretrained model or a small ``explained``.

    Does not save the inputs of norms and of GELU, queries, keys and values, nor the patch
    embedding, norms and head, nor layers that are frozen. The official code is a simulation: it
    keeps the whole weight, its gradient and its optimizer state, updates the whole weight, and
    moves L and R after it by one subspace iteration per step; its savings are computed by formula.
    So its product is the best near one of a weight that trains freely, and here the optimizer moves
    the factors themselves: learning rates are not comparable, and weight decay acts on the factors.
    Ranks stay in both. Memory can be predicted only if ``rank`` and ``ranks`` are set. A profile
    runs on noise, whose inputs have other ranks than those of photographs: so set ``ranks`` to
    compare memory or time. ``regelu2+wasi`` means: GELU's input is also stored in few
    bits.

    Attributes:
        explained: share of the squared norm that a rank explains, in (0, 1], for the weights and
            for each mode of the inputs; 0.8 if it is not set; the paper: 0.4 to 0.9.
        rank: rank of all weights, instead of those that follow from ``explained``.
        ranks: ranks of images, tokens and channels of the inputs, the same for all layers, instead
            of those that follow from ``explained``.
    """

    explained: float | None = None
    rank: int | None = None
    ranks: tuple[int, ...] = ()

    source = "Nguyen et al. 2026 (WASI), arXiv:2510.09160, section 3; official code 3ce480c"
    exact_forward = False
    gradient_error = 0.6
    evaluates_alike = False
    kinds: ClassVar = frozenset({Kind.STORES_ACTIVATIONS})
    refines: ClassVar = frozenset({"regelu2"})

    def __post_init__(self) -> None:
        if self.explained is not None and self.rank is not None and self.ranks:
            raise ValueError(
                f"explained {self.explained} is set, but rank {self.rank} and ranks {self.ranks} "
                "leave nothing to choose: leave out one of the three"
            )
        self._inputs()
        WeightRank(self.explained, self.rank)

    def _inputs(self) -> RankChoice:
        return RankChoice(None if self.ranks else self.explained, self.ranks)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Replace the weights of the blocks' trained Linear layers by factors.

        Raises:
            Unsupported: no such layer trains, a rank is larger than what it should shrink, or no
                weight would become smaller.
        """
        train_factors(model, WeightRank(self.explained, self.rank), self._inputs())
        return model

    def refine(self, model: nn.Module) -> nn.Module:
        """Do the same in a model whose GELUs store levels."""
        return self.prepare(model)

    def environment(self, device: str) -> dict[str, Any]:  # noqa: ARG002 - see Method
        """Return that numbers depend on the data, if the ranks of inputs do."""
        return self._inputs().facts()

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int | None:  # noqa: ARG002 - see Method
        """Return ``None``: it depends on the ranks, and on the layers that train."""
        return None
