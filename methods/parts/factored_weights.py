"""Linear layers whose weight is the product of two trained factors."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from bsrbench.harness.method import NeedsValues, Unsupported
from bsrbench.harness.model.experts import lowered
from bsrbench.harness.model.stored_weight import PREFIX, FactoredWeight
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.option_checks import check_at_least, check_share
from bsrbench.methods.parts.tucker import MODES, Tucker, gradient_of_weight, smallest_rank
from bsrbench.methods.parts.tucker_inputs import (
    EXPLAINED,
    InputSubspace,
    RankChoice,
    keep_inputs_in_subspaces,
    linear_layers,
    stored_by_attention,
)

LEFT, RIGHT = f"{PREFIX}left", f"{PREFIX}right"


@dataclass(frozen=True)
class WeightRank:
    """How the rank of a weight is chosen.

    Attributes:
        explained: share of the squared norm of the weight that its rank explains, in (0, 1];
            ``None`` is 0.8.
        rank: the rank of every weight; ``None`` if it follows from ``explained``.
    """

    explained: float | None
    rank: int | None

    def __post_init__(self) -> None:
        if self.explained is not None:
            check_share("explained", self.explained)
        if self.rank is not None:
            check_at_least("rank", self.rank, 1)

    def of(self, weight: Tensor, singular_values: Tensor) -> int:
        """Return the rank of a weight [out, in] with singular values [n], the largest first.

        Raises:
            NeedsValues: the rank follows from the numbers in the weight, and it has none.
            Unsupported: the rank is larger than the smaller side of the weight.
        """
        if self.rank is not None:
            if self.rank > len(singular_values):
                raise Unsupported(
                    f"rank = {self.rank}, but a weight of shape {list(weight.shape)} has at most "
                    f"the rank {len(singular_values)}"
                )
            return self.rank
        share = EXPLAINED if self.explained is None else self.explained
        if weight.is_meta:
            raise NeedsValues(
                f"the ranks of the weights follow from their numbers (explained = {share}), and a "
                "prediction has no weights: set rank"
            )
        return len(singular_values) if share == 1 else smallest_rank(singular_values**2, share)


def train_factors(model: nn.Module, choice: WeightRank, inputs: RankChoice) -> None:
    """Replace the weights of the blocks' trained Linear layers by factors that train.

    A weight whose factors would have no fewer numbers stays. In both cases the layer stores its
    input in Tucker form.

    Args:
        model: a plain vision transformer.
        choice: how the ranks of the weights are chosen.
        inputs: how the ranks of the inputs are chosen.

    Raises:
        NeedsValues: a rank follows from numbers that a prediction does not have.
        Unsupported: the model has factors, no layer trains, a rank is too large, or no weight would
            become smaller.
    """
    if any(isinstance(part, FactoredWeight) for part in model.modules()):
        raise Unsupported("the model is already prepared: weights are products of two factors")
    trained = [layer for layer in linear_layers(model) if layer.weight.requires_grad]
    keep_inputs_in_subspaces(model, inputs)
    if not sum(_factor(layer, choice) for layer in trained):
        raise Unsupported(
            "no weight becomes smaller: rank x (out + in) is at least out x in for all "
            f"{len(trained)} trained weights of the blocks; asi stores their inputs in this form"
        )


def _factor(layer: Any, choice: WeightRank) -> bool:
    """Replace the weight of a Linear layer by two factors, if they have fewer numbers.

    Returns:
        Whether it has.
    """
    weight = layer.weight
    with torch.no_grad():
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        rank = choice.of(weight, values)
        if rank * sum(weight.shape) >= weight.numel():
            return False
        parts = left[:, :rank].contiguous(), values[:rank, None] * right[:rank]
    del layer.weight
    for name, part in zip((LEFT, RIGHT), parts, strict=True):
        layer.register_parameter(name, nn.Parameter(part))
    extend(layer, FactoredLinear, inside=True, shape=weight.shape)
    return True


class FactoredLinear(FactoredWeight):
    """A Linear layer with two factors, which stores its input in Tucker form."""

    subspace: InputSubspace

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, in] to [batch, tokens, out], with any number of leading axes."""
        layer: Any = self
        left, right, bias = layer.weight_left, layer.weight_right, layer.bias
        trains = torch.is_grad_enabled() and (left.requires_grad or right.requires_grad)
        if not trains or x.dim() != len(MODES):
            return F.linear(F.linear(x, right), left, bias)
        whole = stored_by_attention(x)
        form = Tucker(lowered(x.detach()), (None,) * 3) if whole else self.subspace.form(x)
        output: Tensor = _Factored.apply(x, left, right, bias, form)
        return output

    @property
    def weight(self) -> Tensor:
        """A new tensor [out, in]: the product of the factors, without gradient."""
        layer: Any = self
        product: Tensor = layer.weight_left.detach() @ layer.weight_right.detach()
        return product

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take over the rank of the factors that are loaded; torch calls this for each module."""
        for name in (LEFT, RIGHT):
            part, loaded = getattr(self, name), state.get(prefix + name)
            if loaded is not None and loaded.shape != part.shape:
                part.data = part.data.new_empty(loaded.shape)
        super()._load_from_state_dict(state, prefix, *rest)


class _Factored(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, left: Tensor, right: Tensor, bias: Tensor | None, form: Tucker
    ) -> Tensor:
        ctx.save_for_backward(left, right, form.core, *form.factors)
        return F.linear(F.linear(x, right), left, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = outputs
        left, right, core, *factors = ctx.saved_tensors
        needs_x, needs_left, needs_right, needs_bias, _ = ctx.needs_input_grad
        form = Tucker(core, tuple(factors))
        of_x = of_left = of_right = of_bias = None
        if needs_left:
            of_left = gradient_of_weight(gradient, form, right).to(left.dtype)
        if needs_bias:
            of_bias = gradient.flatten(0, -2).sum(0).to(left.dtype)
        inner = gradient @ left.to(gradient.dtype)
        if needs_right:
            of_right = gradient_of_weight(inner, form).to(right.dtype)
        if needs_x:
            of_x = inner @ right.to(gradient.dtype)
        return of_x, of_left, of_right, of_bias, None
