"""Count the multiply-adds of forward passes by module, with fvcore in a trace."""

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
    """The multiply-adds of forward passes; one multiply-add is 2 FLOP.

    Attributes:
        total: multiply-adds of the whole model in all passes.
        by_module: dotted name of a module -> multiply-adds, including submodules; ``""`` is the
            model. Modules without multiply-adds are left out.
        by_operator: fvcore's name of an operator -> multiply-adds.
        uncounted: operator without a formula -> calls in one pass. Operators that only move data,
            according to fvcore, are left out. ``prim::PythonOp`` is a custom autograd function.
    """

    total: int
    by_module: dict[str, int]
    by_operator: dict[str, int]
    uncounted: dict[str, int]


def forward_macs(model: nn.Module, image: Tensor, passes: Sequence[int] = (1,)) -> Macs:
    """Count the multiply-adds of products, convolutions and attention, in evaluation mode.

    For the same forward passes, ``StepFlops`` counts twice the total. A pass of one image is
    traced. If a pass has more images, a pass of two images is traced too. The difference of the
    two is the work per image. The rest of the work runs once per pass, for example in a network
    that computes position biases.

    Args:
        model: the model, prepared by a method; it may be on device ``meta``.
        image: [1, 3, side, side] on the model's device.
        passes: number of images in each forward pass.

    Raises:
        Unreadable: torch cannot trace the model, or the formula of an operator does not fit.
    """
    if image.shape[0] != 1:
        raise ValueError(f"expected one image to count MACs; got a batch of {image.shape[0]}")
    of_one_image = _traced(model, image)
    if tuple(passes) == (1,):
        return of_one_image
    return _of_passes(of_one_image, _traced(model, torch.cat([image, image])), passes)


def disagreement(flop: int, macs: int) -> list[str]:
    """Return a note if the multiply-adds of forward passes are not half of their FLOPs."""
    note = (
        f"two counters disagree about the forward pass: {flop} FLOP counted while it ran, but "
        f"{macs} multiply-adds counted in its trace, which are {2 * macs} FLOP"
    )
    return [] if flop == 2 * macs else [note]


def _of_passes(of_one_image: Macs, of_two_images: Macs, passes: Sequence[int]) -> Macs:
    """Return the sum over passes, computed from a pass of one image and a pass of two."""

    def whole(first: int, second: int) -> int:
        return sum(first + (images - 1) * (second - first) for images in passes)

    by_module, by_operator = (
        {name: whole(first.get(name, 0), second.get(name, 0)) for name in first | second}
        for first, second in (
            (of_one_image.by_module, of_two_images.by_module),
            (of_one_image.by_operator, of_two_images.by_operator),
        )
    )
    total = whole(of_one_image.total, of_two_images.total)
    return Macs(total, by_module, by_operator, of_one_image.uncounted)


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
    """Return the sum of the multiply-adds of several forward passes."""
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
    """Return fvcore's analysis and its formula of a convolution; imported at the first call."""
    with warnings.catch_warnings():
        # At import, fvcore calls torch.jit.script for functions that we do not use. torch warns
        # about this with a DeprecationWarning (2.10, 2.11), later with a FutureWarning.
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
        from fvcore.nn import FlopCountAnalysis  # noqa: PLC0415 - see the docstring
        from fvcore.nn.jit_handles import conv_flop_jit  # noqa: PLC0415
    return FlopCountAnalysis, conv_flop_jit


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode; afterwards restore its mode and its hooks.

    If tracing fails, fvcore does not remove its own hooks.
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

    On other devices ``conv2d`` calls ``_convolution``, which the tracer records. On ``meta`` it
    calls a Python function that fails under tracing (torch 2.14).
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
    """Compute ``torch.conv2d`` with the operator that it calls on other devices."""
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
    """Return the formula of a product: output elements x size of the dimension summed over.

    Args:
        first: index of the left factor among the operator's inputs.
    """

    def macs(inputs: Any, outputs: Any) -> int:
        return math.prod(_shape(outputs[0])) * _shape(inputs[first])[-1]

    return macs


def _attention(inputs: Any, _: Any) -> int:
    """Count q k' and its product with v: [..., queries, d] x [..., keys, d] x [..., keys, e]."""
    query, key, value = (_shape(tensor) for tensor in inputs[:3])
    return math.prod(query[:-1]) * key[-2] * (key[-1] + value[-1])


def _einsum(inputs: Any, _: Any) -> int:
    """Count the product of two operands; dimensions that only one of them has are summed before."""
    equation = inputs[0].toIValue().replace(" ", "")
    if not (parts := re.fullmatch(r"(\w+),(\w+)->(\w*)", equation)):
        raise ValueError(f"expected einsum of two operands, all dimensions named; got {equation!r}")
    left, right, result = parts.groups()
    size: dict[str, int] = {}
    for letters, operand in zip((left, right), inputs[1].node().inputs(), strict=True):
        for letter, extent in zip(letters, _shape(operand), strict=True):
            size[letter] = max(extent, size.get(letter, 1))  # an extent of 1 is broadcast
    return math.prod(size[letter] for letter in {*result, *(set(left) & set(right))})


# fvcore has no formula of fused attention. Its formulas of products are wrong for broadcast
# factors, and its formula of einsum rounds to four digits.
FORMULAS: dict[str, Callable[[Any, Any], int]] = {
    "aten::linear": _product(0),
    "aten::matmul": _product(0),
    "aten::mm": _product(0),
    "aten::bmm": _product(0),
    "aten::addmm": _product(1),
    "aten::baddbmm": _product(1),
    "aten::einsum": _einsum,
    "aten::scaled_dot_product_attention": _attention,
    "bsrbench::expert_rows": _product(0),  # each row goes through one expert
}
