"""What reports read of a record's sidecar, with its types."""

import re
from typing import Any

from pydantic import ConfigDict, ValidationError, model_validator

from bsrbench.harness.spec.frozen_data import FromFile, Whole

Bytes = Whole
# Reports have a place for every block up to the last: no model has as many.
MOST_BLOCKS = 10_000
OF_BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)(?:\.|$)")


class _Part(FromFile):
    model_config = ConfigDict(extra="ignore")


class _Timeline(_Part):
    """Bytes alive through a step: five lists of one length, and the names that numbers mean."""

    index: list[Whole]
    live_bytes: list[Bytes]
    operators: list[str]
    operator: list[Whole]
    phases: list[str]
    phase: list[Whole]
    modules: list[str]
    module: list[Whole]

    @model_validator(mode="after")
    def _fits_together(self) -> "_Timeline":
        lists = (self.index, self.live_bytes, self.operator, self.phase, self.module)
        if len(set(map(len, lists))) > 1:
            raise ValueError(f"lists of {', '.join(str(len(each)) for each in lists)} values")
        for numbers, names in (
            (self.operator, self.operators),
            (self.phase, self.phases),
            (self.module, self.modules),
        ):
            if max(numbers, default=-1) >= len(names):
                raise ValueError(f"number {max(numbers)} means none of {len(names)} names")
        return self


class _Place(_Part):
    phase: str | None = None
    module: str | None = None
    operator: str | None = None


class _Counted(_Part):
    held_by_module: dict[str, Bytes] = {}
    modules_at_peak: dict[str, dict[str, Bytes]] = {}
    peak_place: _Place | None = None
    timeline: _Timeline | None = None

    @model_validator(mode="after")
    def _has_blocks_of_a_model(self) -> "_Counted":
        for name in (*self.held_by_module, *self.modules_at_peak):
            if (block := OF_BLOCK.search(name)) and len(block[1]) >= len(str(MOST_BLOCKS)):
                raise ValueError(f"{name:.60} is a block beyond {MOST_BLOCKS}")
        return self


class _Allocated(_Part):
    unexplained_bytes: int | None = None


class _Flops(_Part):
    by_operator: dict[str, Any] = {}
    uncounted: dict[str, Any] = {}


class _Sidecar(_Part):
    counted: _Counted = _Counted()
    allocated: _Allocated = _Allocated()
    flops: _Flops = _Flops()


def fault_of_sidecar(detail: dict[str, Any]) -> str:
    """Return which part of a sidecar reports could not read, and why; empty if they can all."""
    try:
        _Sidecar.model_validate(detail)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return ""
