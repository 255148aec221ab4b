"""Multiply-adds of forward passes by module, traced and counted with fvcore."""

import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bsrbench.harness.errors import Unreadable
from bsrbench.harness.torch_internals.eager_internals import convolution, forward_hooks


@dataclass(frozen=True)
class Macs:
    """Multiply-adds of forward passes: 1 each, where a FLOP count has 2.

    Attributes:
        total: of the whole model, in all passes.
        by_module: by dotted name, including submodules; ``""`` is the model. Modules without
            multiply-adds are left out.
        by_operator: by fvcore's name of the operator.
        uncounted: calls of operators without a formula in one pass, except those that fvcore knows
            to only move data. ``prim::PythonOp`` is a custom autograd function.
    """

    total: int
    by_module: dict[str, int]
    by_operator: dict[str, int]
    uncounted: dict[str, int]


def forward_macs(model: nn.Module, image: Tensor, passes: Sequence[int] = (1,)) -> Macs:
    """Count the multiply-adds of products, convolutions and attention, in evaluation mode.

    Twice the total is what ``StepFlops`` counts for the same forward passes. A pass of one image
    is traced and, if passes have more images, also a pass of two. The difference is the work per
    image; the rest runs once per pass, such as a network that computes position biases.

    Args:
        model: as a method prepared it; it may be on device ``meta``.
        image: [1, 3, side, side] on the model's device.
        passes: how many images each forward pass is given.

    Raises:
        Unreadable: torch cannot trace the model, or an operator is one that no formula fits.
    """
    if image.shape[0] != 1:
        raise ValueError(f"macs are counted of one image; got a batch of {image.shape[0]}")
    one = _traced(model, image)
    if tuple(passes) == (1,):
        return one
    return _of_passes(one, _traced(model, torch.cat([image, image])), passes)


def disagreement(flop: int, macs: int) -> list[str]:
    """Return a note if the multiply-adds of forward passes are not half of their FLOPs."""
    note = (
        f"two counters disagree about the forward pass: {flop} FLOP while it ran, and {macs} "
        f"multiply-adds from its trace, which would be {2 * macs}"
    )
    return [] if flop == 2 * macs else [note]


def _of_passes(one: Macs, two: Macs, passes: Sequence[int]) -> Macs:
    """Return the sum over passes, from those of one image and of two."""

    def whole(first: int, second: int) -> int:
        return sum(first + (images - 1) * (second - first) for images in passes)

    by_module, by_operator = (
        {name: whole(first.get(name, 0), second.get(name, 0)) for name in first | second}
        for first, second in ((one.by_module, two.by_module), (one.by_operator, two.by_operator))
    )
    return Macs(whole(one.total, two.total), by_module, by_operator, one.uncounted)


def _traced(model: nn.Module, images: Tensor) -> Macs:
    """Return the multiply-adds of one forward pass of images."""
    analysis_of, convolution = _fvcore()
    analysis = analysis_of(model, (images,)).clear_op_handles()
    analysis.set_op_handle("aten::_convolution", convolution, **FORMULAS)
    analysis.unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False)
    with _evaluated(model), torch.no_grad(), _RecordedConvolution():
        try:
            by_module = analysis.by_module()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise Unreadable(f"fvcore cannot count this model's forward pass: {reason}") from error
    return Macs(
        total=int(by_module[""]),
        by_module={name: int(macs) for name, macs in by_module.items() if macs},
        by_operator={name: int(macs) for name, macs in analysis.by_operator().items()},
        uncounted=dict(analysis.unsupported_ops()),
    )


def added(parts: Sequence[Macs]) -> Macs:
    """Return what several forward passes did together."""
    if len(parts) == 1:
        return parts[0]
    sums: list[Counter[str]] = [Counter() for _ in range(3)]
    for part in parts:
        for total, of_part in zip(
            sums, (part.by_module, part.by_operator, part.uncounted), strict=True
        ):
            total.update(of_part)
    return Macs(sum(part.total for part in parts), *map(dict, sums))


def _fvcore() -> tuple[Any, Any]:
    """Return fvcore's analysis and its formula of a convolution; loaded when they are needed."""
    with warnings.catch_warnings():
        # fvcore scripts functions that we don't use as it loads, which torch deprecates: by a
        # DeprecationWarning (2.10, 2.11), later by a FutureWarning.
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
        from fvcore.nn import FlopCountAnalysis  # noqa: PLC0415 - see the docstring
        from fvcore.nn.jit_handles import conv_flop_jit  # noqa: PLC0415
    return FlopCountAnalysis, conv_flop_jit


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode and leave it as it was, hooks included.

    fvcore leaves its own hooks behind where tracing fails.
    """
    before = [
        (m, m.training, {key for hooks in forward_hooks(m) for key in hooks})
        for m in model.modules()
    ]
    model.eval()
    try:
        yield
    finally:
        for module, training, known in before:
            module.training = training
            for hooks in forward_hooks(module):
                for key in hooks.keys() - known:
                    del hooks[key]


class _RecordedConvolution(TorchFunctionMode):
    """Makes torch's tracer record convolutions on device ``meta``.

    Elsewhere ``conv2d`` comes to ``_convolution``, which the tracer records; on ``meta`` it ends
    in a Python function that fails under tracing (torch 2.14).
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.conv2d and args[0].is_meta:
            return _convolution(*args, **kwargs or {})
        return func(*args, **kwargs or {})


def _convolution(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = (1, 1),
    padding: Any = (0, 0),
    dilation: Any = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Do what ``torch.conv2d`` does by the operator that it comes to."""
    sizes = [stride, padding, dilation]
    stride, padding, dilation = (2 * (s,) if isinstance(s, int) else s for s in sizes)
    flags = (False, False, False, False)  # benchmark, deterministic, cudnn, tf32: change no shape
    return convolution(
        image, weight, bias, stride, padding, dilation, False, (0, 0), groups, *flags
    )


def _shape(value: Any) -> list[int]:
    """Return the shape of a traced tensor."""
    sizes: list[int] = value.type().sizes()
    return sizes


def _product(first: int) -> Callable[[Any, Any], int]:
    """Return the formula of a product: output elements x the dimension that is summed over.

    Args:
        first: place of the left factor among the operator's inputs.
    """

    def macs(inputs: Any, outputs: Any) -> int:
        return math.prod(_shape(outputs[0])) * _shape(inputs[first])[-1]

    return macs


def _attention(inputs: Any, _: Any) -> int:
    """Count q k' and its product with v: [..., queries, d] x [..., keys, d] x [..., keys, e]."""
    query, key, value = (_shape(given) for given in inputs[:3])
    return math.prod(query[:-1]) * key[-2] * (key[-1] + value[-1])


def _einsum(inputs: Any, _: Any) -> int:
    """Count one product of two operands, after torch summed over what is in one of them alone."""
    equation = inputs[0].toIValue().replace(" ", "")
    if not (parts := re.fullmatch(r"(\w+),(\w+)->(\w*)", equation)):
        raise ValueError(f"only einsum of two operands, all dimensions named, not {equation!r}")
    left, right, result = parts.groups()
    size: dict[str, int] = {}
    for letters, operand in zip((left, right), inputs[1].node().inputs(), strict=True):
        for letter, extent in zip(letters, _shape(operand), strict=True):
            size[letter] = max(extent, size.get(letter, 1))  # an extent of 1 is broadcast
    return math.prod(size[letter] for letter in {*result, *(set(left) & set(right))})


# fvcore knows no fused attention; its products are wrong where factors are broadcast, and its
# einsum is rounded to four digits.
FORMULAS: dict[str, Callable[[Any, Any], int]] = {
    "aten::linear": _product(0),
    "aten::matmul": _product(0),
    "aten::mm": _product(0),
    "aten::bmm": _product(0),
    "aten::addmm": _product(1),
    "aten::baddbmm": _product(1),
    "aten::einsum": _einsum,
    "aten::scaled_dot_product_attention": _attention,
    "bsrbench::expert_rows": _product(0),  # a row goes through one expert
}
