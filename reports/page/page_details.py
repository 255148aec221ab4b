"""The details of an opened row on the page: complete trials, and memory per block."""

import json
import re
from typing import Any

from bsrbench.harness.records.sidecar import Sidecar
from bsrbench.harness.records.trial_record import TrialRecord
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.page.page_rows import role

BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)(?:\.|$)")


class SharedValues:
    """Values that many trials share; the page has each value once, and trials refer to indices."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        """Return the index of a JSON value in ``values``."""
        return self._places.setdefault(json.dumps(value), len(self._places))

    def places(self, values: dict[str, Any]) -> dict[str, int]:
        """Return the index of each value."""
        return {name: self.place(value) for name, value in values.items()}

    def values(self) -> list[Any]:
        """Return the values in the order of their indices."""
        return [json.loads(text) for text in self._places]


def trials(row: ComparisonRow, shared: SharedValues) -> list[dict[str, Any]]:
    """Return each trial of a row: spec, outcome, measurements, notes, environment."""
    return [_trial(record, shared) for record in row.records]


def _trial(record: TrialRecord, shared: SharedValues) -> dict[str, Any]:
    return {
        "key": record.key,
        "role": role(record),
        "status": record.outcome.status,
        "reason": record.outcome.reason,
        "began": record.began_at,
        "finished": record.finished_at,
        "notes": [note.text for note in record.notes],
        "spec": shared.places(record.spec.model_dump(mode="json")),
        "environment": shared.places(record.environment.plain() | record.circumstances.plain()),
        "measurements": {name: v for name, v in record.measurements.items() if v is not None},
    }


def blocks(detail: Sidecar) -> dict[str, list[int]] | None:
    """Return the bytes at the counted peak by category: one number per block, then the rest.

    Args:
        detail: a sidecar; its ``counted.modules_at_peak`` has bytes by module and category.
    """
    modules = detail.counted.modules_at_peak if detail.counted else {}
    numbered = {name: BLOCK.search(name) for name in modules}
    count = max((int(match[1]) + 1 for match in numbered.values() if match), default=0)
    if not count:
        return None
    sums: dict[str, list[int]] = {}
    for name, parts in modules.items():
        match = numbered[name]
        for category, size in parts.items():
            places = sums.setdefault(category, [0] * (count + 1))
            places[int(match[1]) if match else count] += size
    return sums


def peak_place(detail: Sidecar) -> str:
    """Return a text with the place of the counted peak: phase, module and operator."""
    place = detail.counted.peak_place if detail.counted else None
    parts = (place.phase, place.module, place.operator) if place else ()
    return ", ".join(part for part in parts if part)


def timeline(detail: Sidecar) -> dict[str, Any] | None:
    """Return the bytes alive after each operator of a step, and the start of each phase."""
    packed = detail.counted.timeline if detail.counted else None
    if not packed or not packed.index:
        return None
    phases = packed.phase
    starts = [at for at in range(len(phases)) if at == 0 or phases[at] != phases[at - 1]]
    return {
        "x": packed.index,
        "bytes": packed.live_bytes,
        "phases": [[at, packed.phases[phases[at]]] for at in starts],
        "operators": packed.operators,
        "operator": packed.operator,
        "modules": packed.modules,
        "module": packed.module,
    }
