"""Count floating-point operations by operator, phase and module while a step runs."""

import functools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from bsrbench.harness.model import grouped_products
from bsrbench.harness.torch_internals.composite_operators import is_composite
from bsrbench.harness.torch_internals.eager_internals import (
    CPU_ATTENTION,
    CPU_ATTENTION_BACKWARD,
    TorchDispatchMode,
)
from bsrbench.harness.torch_internals.sparse_parts import tensors_with_storage

aten = torch.ops.aten
TORCHS: dict[Any, Any] = flop_registry


def _fused_attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))


def _fused_attention_backward(
    gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any
) -> int:
    shapes = (gradient.shape, query.shape, key.shape, value.shape)
    return int(sdpa_backward_flop_count(*shapes))


def _expert_rows(rows: Any, weight: Any, *_: Any, **__: Any) -> int:
    return int(2 * rows.shape[0] * weight.shape[1] * weight.shape[2])


def _expert_weights(_: Any, gradient: Any, rows: Any, *__: Any, **___: Any) -> int:
    return int(2 * rows.shape[0] * gradient.shape[1] * rows.shape[1])


def _convolution_backward(gradient: Any, images: Any, weight: Any, *rest: Any, **_: Any) -> int:
    """Count each gradient as the forward pass; torch's formula ignores groups for weights."""
    transposed, needed = rest[-4], rest[-1]
    positions = (images if transposed else gradient).shape
    each = 2 * positions[0] * math.prod(positions[2:]) * weight.numel()
    return int(each * sum(needed[:2]))


# torch's table has no formula for the fused attention of CPUs: 7.8 % of a DeiT-S forward pass.
OURS: dict[Any, Callable[..., int]] = {
    CPU_ATTENTION: _fused_attention,
    CPU_ATTENTION_BACKWARD: _fused_attention_backward,
    aten.convolution_backward: _convolution_backward,
    # Each row goes through exactly one expert.
    grouped_products.EXPERT_ROWS: _expert_rows,
    grouped_products.ADD_EXPERT_WEIGHTS: _expert_weights,
}


# Parts of the names of operators that multiply and add.
PRODUCTS = {
    *("mm", "bmm", "addmm", "baddbmm", "addbmm", "matmul", "mv", "addmv", "dot", "vdot", "addr"),
    *("linear", "bilinear", "einsum", "attention", "convolution", "conv1d", "conv2d", "conv3d"),
}


@functools.cache
def _formula(operator: Any) -> Callable[..., int] | None:
    """Return the formula of an operator; an in-place operator has that of the other variant."""
    formula: Callable[..., int] | None = OURS.get(operator)
    if formula is None:
        formula = TORCHS.get(operator)
    name = str(operator).removeprefix("aten.")
    if formula is None and name.endswith("_") and hasattr(aten, name[:-1]):
        return _formula(getattr(aten, name[:-1]))
    return formula


class StepFlops(TorchDispatchMode):
    """Counts 2 FLOP per multiply-add of products, convolutions and attention, by torch's formulas.

    Args:
        owner: returns the name of the module to which the running operator belongs.

    Attributes:
        by_phase: phase -> FLOPs.
        by_operator: operator -> FLOPs.
        by_module: phase -> module -> FLOPs.
        uncounted: operator without a formula -> number of its calls that read or wrote tensors.
        uncounted_bytes: operator without a formula -> bytes that these calls read and wrote.
    """

    def __init__(self, owner: Callable[[], str] = str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.phase = "forward"
        self.by_phase: Counter[str] = Counter()
        self.by_operator: Counter[str] = Counter()
        self.by_module: dict[str, Counter[str]] = defaultdict(Counter)
        self.uncounted: Counter[str] = Counter()
        self.uncounted_bytes: Counter[str] = Counter()
        self._owner = owner

    def enter_phase(self, phase: str) -> None:
        """Count the following operators for ``phase``."""
        self.phase = phase

    def divide(self, steps: int) -> None:
        """Make all counts those of one step, if they are the sum over some steps."""
        for counts in (
            *(self.by_phase, self.by_operator, self.uncounted, self.uncounted_bytes),
            *self.by_module.values(),
        ):
            for name in counts:
                counts[name] //= steps

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if is_composite(func):
            with self:
                return func.decompose(*args, **named)
        made = func(*args, **named)
        operator = func.overloadpacket  # the key in torch's own table
        formula = _formula(operator)
        if formula is not None:
            self._add(operator, formula(*args, **named | {"out_val": made}))
        elif not func.is_view and (touched := _bytes_of((args, named, made))):
            self.uncounted[str(operator)] += 1
            self.uncounted_bytes[str(operator)] += touched
        return made

    def overlooked(self) -> list[str]:
        """Return a note for each uncounted operator whose name is that of a product."""
        return [
            f"{operator} multiplies, according to its name, but was not counted ({calls} calls); "
            "the number of FLOPs is too low"
            for operator, calls in self.uncounted.items()
            if PRODUCTS.intersection(re.split(r"[._]", operator))
        ]

    def _add(self, operator: Any, flop: int) -> None:
        owner = self._owner()  # must be first: this call may change the phase
        self.by_phase[self.phase] += flop
        self.by_operator[str(operator)] += flop
        self.by_module[self.phase][owner] += flop


def _bytes_of(tensors: Any) -> int:
    """Return the bytes of all tensors in nested containers."""
    return sum(tensor.nbytes for tensor in tensors_with_storage(tensors))
