"""Operators that store packed copies of the tensors that their backward pass reads.

An operator computes its forward pass exactly. It computes its gradients by the usual formulas from
the copies. A *codec* defines how a tensor is packed. The backward pass unpacks a few images at a
time, so that no complete unpacked copy exists. Only LayerNorm unpacks its copy as a whole.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

PRODUCT_BYTES = 16 << 20  # unpacked at a time for a matrix product; smaller products are slower
ELEMENT_BYTES = 2 << 20  # the same for elementwise operators; such a chunk stays in the cache


@dataclass(frozen=True)
class Packed:
    """A packed copy of a tensor [batch, ...].

    Attributes:
        tensors: the stored tensors.
        restore: maps the stored tensors and a slice of images to these images of the tensor, in its
            original type.
    """

    tensors: tuple[Tensor, ...]
    restore: Callable[[Sequence[Tensor], slice], Tensor]


class Codec(Protocol):
    """Packs tensors [batch, ...]."""

    def __call__(self, x: Tensor) -> Packed:
        """Return a packed copy of x [batch, ...]; a compressed copy has no reference to ``x``."""


def as_is(x: Tensor) -> Packed:
    """Store the tensor [batch, ...] itself, unchanged."""
    return Packed((x,), _some_images)


def half(x: Tensor) -> Packed:
    """Store the tensor [batch, ...] in fp16."""
    dtype = x.dtype

    def restore(kept: Sequence[Tensor], images: slice) -> Tensor:
        return kept[0][images].to(dtype)

    return Packed((x.to(torch.float16),), restore)


def _some_images(kept: Sequence[Tensor], images: slice) -> Tensor:
    return kept[0][images]


def chunks(x: Tensor, width: int, size: int = PRODUCT_BYTES) -> Iterator[slice]:
    """Yield slices of images of x [batch, tokens, ...].

    Args:
        x: the tensor to divide.
        width: numbers per token.
        size: bytes of a slice in fp32; a slice is at most this large, or one image.
    """
    taken = max(1, size // max(1, 4 * x.shape[1] * width))
    for first in range(0, x.shape[0], taken):
        yield slice(first, first + taken)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, codec: Codec) -> Tensor:
    """Map x [batch, tokens, in] to [batch, tokens, out]; store a packed copy of x."""
    output: Tensor = _Linear.apply(x, weight, bias, codec)
    return output


class _Linear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, codec: Codec) -> Tensor:
        kept = codec(x)
        ctx.restore = kept.restore
        # Not attributes of ctx: autograd frees saved tensors as soon as backward has read them.
        ctx.save_for_backward(weight, *kept.tensors)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = outputs
        weight, *kept = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        of_weight = None
        if needs_weight:
            of_weight = _of_weight(gradient, weight, lambda images: ctx.restore(kept, images))
        of_bias = gradient.flatten(0, -2).sum(0).to(weight.dtype) if needs_bias else None
        of_x = gradient @ weight.to(gradient.dtype) if needs_x else None
        return of_x, of_weight, of_bias, None


def _of_weight(gradient: Tensor, weight: Tensor, inputs: Callable[[slice], Tensor]) -> Tensor:
    """Return the gradient of a weight [out, in], computed chunk by chunk over the images."""
    total: Tensor | None = None
    for images in chunks(gradient, weight.shape[1]):
        rows = gradient[images].flatten(0, -2)
        x = inputs(images).flatten(0, -2).to(rows.dtype)
        total = rows.T @ x if total is None else total.addmm_(rows.T, x)
    return cast("Tensor", total).to(weight.dtype)


def gelu(x: Tensor, codec: Codec, form: str = "none") -> Tensor:
    """Apply GELU to x; store a packed copy of x.

    Args:
        x: [batch, tokens, dim].
        codec: packs the copy.
        form: torch's name of GELU's form, ``none`` or ``tanh``.
    """
    output: Tensor = _Gelu.apply(x, codec, form)
    return output


class _Gelu(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, codec: Codec, form: str) -> Tensor:
        kept = codec(x)
        ctx.restore, ctx.form = kept.restore, form
        ctx.save_for_backward(*kept.tensors)
        return F.gelu(x, approximate=form)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = outputs
        of_x = torch.empty_like(gradient)
        for images in chunks(gradient, gradient.shape[-1], ELEMENT_BYTES):
            x = ctx.restore(ctx.saved_tensors, images).to(gradient.dtype)
            gelu_backward(gradient[images], x, of_x[images], ctx.form)
        return of_x, None, None


def gelu_backward(gradient: Tensor, x: Tensor, out: Tensor, form: str) -> None:
    """Write the gradient of GELU's input x to ``out``; all have the same shape, any shape."""
    torch.ops.aten.gelu_backward.grad_input(gradient, x, approximate=form, grad_input=out)


def gelu_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, codec: Codec, form: str = "none"
) -> Tensor:
    """Apply GELU and a Linear layer; store a packed copy of GELU's input only.

    Maps x [batch, tokens, in] to [batch, tokens, out] with a weight [out, in]. The backward pass
    recomputes the input of the Linear layer from the copy.
    """
    output: Tensor = _GeluLinear.apply(x, weight, bias, codec, form)
    return output


class _GeluLinear(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, codec: Codec, form: str
    ) -> Tensor:
        kept = codec(x)
        ctx.restore, ctx.form = kept.restore, form
        ctx.save_for_backward(weight, *kept.tensors)
        return F.linear(F.gelu(x, approximate=form), weight, bias)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = outputs
        weight, *kept = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        of_weight = of_x = None
        if needs_weight:
            of_weight = _of_weight(
                gradient,
                weight,
                lambda images: F.gelu(ctx.restore(kept, images), approximate=ctx.form),
            )
        if needs_x:
            of_x = gradient.new_empty(*gradient.shape[:-1], weight.shape[1])
            for images in chunks(gradient, weight.shape[1], ELEMENT_BYTES):
                x = ctx.restore(kept, images).to(gradient.dtype)
                of_output = gradient[images] @ weight.to(gradient.dtype)
                gelu_backward(of_output, x, of_x[images], ctx.form)
        of_bias = gradient.flatten(0, -2).sum(0).to(weight.dtype) if needs_bias else None
        return of_x, of_weight, of_bias, None, None


def layer_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float, codec: Codec
) -> Tensor:
    """Normalise x [batch, tokens, dim] over dim; store a packed copy of x and exact statistics."""
    output: Tensor = _LayerNorm.apply(x, weight, bias, epsilon, codec)
    return output


class _LayerNorm(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        epsilon: float,
        codec: Codec,
    ) -> Tensor:
        kept = codec(x)
        ctx.restore, ctx.dtype = kept.restore, x.dtype
        output, mean, deviation = torch.native_layer_norm(
            x.to(exact_type(x, weight)), x.shape[-1:], weight, bias, epsilon
        )
        ctx.save_for_backward(weight, bias, mean, deviation, *kept.tensors)
        return output

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = outputs
        weight, bias, mean, deviation, *kept = ctx.saved_tensors
        x = ctx.restore(kept, slice(None)).to(gradient.dtype)
        of_x, of_weight, of_bias = torch.ops.aten.native_layer_norm_backward(
            gradient, x, x.shape[-1:], mean, deviation, weight, bias, ctx.needs_input_grad[:3]
        )
        return None if of_x is None else of_x.to(ctx.dtype), of_weight, of_bias, None, None


def exact_type(x: Tensor, weight: Tensor | None) -> torch.dtype:
    """Return the type in which torch normalises x, of any shape, with or without autocast."""
    if weight is not None:
        return torch.promote_types(x.dtype, weight.dtype)
    return torch.float32 if torch.is_autocast_enabled(x.device.type) else x.dtype


def scale(x: Tensor, factors: Tensor, codec: Codec) -> Tensor:
    """Multiply the last dimension by trained factors [dim]; store a packed copy of x."""
    output: Tensor = _Scale.apply(x, factors, codec)
    return output


class _Scale(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factors: Tensor, codec: Codec) -> Tensor:
        kept = codec(x)
        ctx.restore = kept.restore
        ctx.save_for_backward(factors, *kept.tensors)
        return x * factors

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = outputs
        factors, *kept = ctx.saved_tensors
        of_factors = torch.zeros_like(factors)
        for images in chunks(gradient, gradient.shape[-1], ELEMENT_BYTES):
            product = gradient[images] * ctx.restore(kept, images)
            of_factors += product.flatten(0, -2).sum(0)
        return gradient * factors, of_factors, None
