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
    """Values that many trials share: the page has each once, and trials refer to its index."""

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
    """Return the bytes at the counted peak by category: of each block, and of all else at the end.

    Args:
        detail: a sidecar; its ``counted.modules_at_peak`` has bytes by module and category.
    """
    modules = detail.counted.modules_at_peak if detail.counted else {}
    numbered = {name: BLOCK.search(name) for name in modules}
    count = max((int(found[1]) + 1 for found in numbered.values() if found), default=0)
    if not count:
        return None
    sums: dict[str, list[int]] = {}
    for name, parts in modules.items():
        found = numbered[name]
        for category, size in parts.items():
            places = sums.setdefault(category, [0] * (count + 1))
            places[int(found[1]) if found else count] += size
    return sums


def peak_place(detail: Sidecar) -> str:
    """Return in words where in a step the counted peak lies."""
    place = detail.counted.peak_place if detail.counted else None
    parts = (place.phase, place.module, place.operator) if place else ()
    return ", ".join(part for part in parts if part)


def timeline(detail: Sidecar) -> dict[str, Any] | None:
    """Return the bytes alive through a step, and where its phases begin."""
    found = detail.counted.timeline if detail.counted else None
    if not found or not found.index:
        return None
    phases = found.phase
    turns = [at for at in range(len(phases)) if at == 0 or phases[at] != phases[at - 1]]
    return {
        "x": found.index,
        "bytes": found.live_bytes,
        "phases": [[at, found.phases[phases[at]]] for at in turns],
        "operators": found.operators,
        "operator": found.operator,
        "modules": found.modules,
        "module": found.module,
    }
