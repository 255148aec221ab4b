"""Linear layers whose frozen weights are stored in few bits, and made whole for each product."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from bsrbench.harness.method import Unsupported
from bsrbench.harness.model.experts import lowered
from bsrbench.harness.model.stored_weight import (
    PREFIX,
    FactoredWeight,
    StoredWeight,
    stored_weights,
)
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.weight_codes import WeightFormat


class CodedWeight(StoredWeight):
    """A Linear layer that stores its weight as codes.

    The weight is made whole for the product of the forward pass, and again for the gradient of the
    input. Nothing is saved for the backward pass.

    Attributes:
        form: how the weight is stored.
    """

    form: WeightFormat

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, in] to [batch, tokens, out], with any number of leading axes."""
        layer: Any = self
        trains = x.requires_grad or (layer.bias is not None and layer.bias.requires_grad)
        if not (trains and torch.is_grad_enabled()):
            return _product(x, layer.bias, self)
        output: Tensor = _Product.apply(x, layer.bias, layer)
        return output

    def whole(self, dtype: torch.dtype) -> Tensor:
        """Return a new tensor with the weight [out, in]."""
        return self.form.unpack(self.parts(), self.shape, dtype)

    @property
    def weight(self) -> Tensor:
        """A new tensor [out, in] in the precision of the scales, as peft reads it."""
        floating = (part.dtype for part in self.parts().values() if part.is_floating_point())
        return self.whole(next(floating))


def store_frozen_weights(model: nn.Module, form: WeightFormat) -> None:
    """Store the weight of every Linear layer whose weight does not train.

    Raises:
        Unsupported: no such layer exists, or one is stored already.
    """
    if stored := [part for part in stored_weights(model) if not isinstance(part, FactoredWeight)]:
        raise Unsupported(
            f"the model is already prepared: {len(stored)} weights are stored in fewer bits"
        )
    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    whole = [part for part in layers if not isinstance(part, FactoredWeight)]
    frozen = [part for part in whole if not part.weight.requires_grad]
    if not frozen:
        raise Unsupported(
            f"{form.name} has nothing to store, because no Linear layer is frozen: name a method "
            f"that freezes weights before it, as in head+{form.name} or lora+{form.name}"
        )
    for layer in frozen:
        _store(layer, form)


def _store(layer: nn.Linear, form: WeightFormat) -> None:
    weight = layer.weight
    with torch.no_grad():
        parts = form.pack(weight)
    del layer.weight
    for name, part in parts.items():
        layer.register_parameter(PREFIX + name, nn.Parameter(part, requires_grad=False))
    extend(layer, CodedWeight, inside=True, form=form, shape=weight.shape)


def _product(x: Tensor, bias: Tensor | None, layer: CodedWeight) -> Tensor:
    """Map x [..., in] to [..., out], in the precision of autocast."""
    x = lowered(x)
    return F.linear(x, layer.whole(x.dtype), None if bias is None else bias.to(x.dtype))


class _Product(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, layer: CodedWeight) -> Tensor:
        ctx.layer = layer
        return _product(x, bias, layer)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = outputs
        needs_x, needs_bias, _ = ctx.needs_input_grad
        of_bias = gradient.flatten(0, -2).sum(0) if needs_bias else None
        of_x = gradient @ ctx.layer.whole(gradient.dtype) if needs_x else None
        return of_x, of_bias, None
