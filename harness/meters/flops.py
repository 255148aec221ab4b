"""Floating-point operations by operator and phase, counted while a step runs."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten
TORCHS: dict[Any, Any] = flop_registry


def _fused_attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))


def _fused_attention_backward(
    gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any
) -> int:
    shapes = (gradient.shape, query.shape, key.shape, value.shape)
    return int(sdpa_backward_flop_count(*shapes))


# torch's table counts nothing for the fused attention of CPUs: 7.8 % of a DeiT-S forward.
OURS: dict[Any, Callable[..., int]] = {
    aten._scaled_dot_product_flash_attention_for_cpu: _fused_attention,  # noqa: SLF001
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _fused_attention_backward,  # noqa: SLF001
}


class StepFlops(TorchDispatchMode):
    """Counts 2 FLOP per multiply-add of products, convolutions and attention, by torch's formulas.

    Attributes:
        by_phase: FLOPs by the phase that was named when they ran.
        by_operator: FLOPs by operator.
        uncounted: calls of operators that made floating-point numbers and were counted as 0.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.phase = "forward"
        self.by_phase: Counter[str] = Counter()
        self.by_operator: Counter[str] = Counter()
        self.uncounted: Counter[str] = Counter()

    def enter_phase(self, phase: str) -> None:
        """Put what comes next down to ``phase``."""
        self.phase = phase

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        operator = func._overloadpacket  # noqa: SLF001 - how torch's own table is keyed
        formula = OURS.get(operator)
        if formula is not None:
            self._add(operator, formula(*args, **(kwargs or {})))
        elif operator in TORCHS:
            self._add(operator, TORCHS[operator](*args, **(kwargs or {}), out_val=made))
        elif not func.is_view and _makes_numbers(made):
            self.uncounted[str(operator)] += 1
        return made

    def _add(self, operator: Any, flop: int) -> None:
        self.by_phase[self.phase] += flop
        self.by_operator[str(operator)] += flop


def _makes_numbers(made: Any) -> bool:
    return any(isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in tree_leaves(made))
