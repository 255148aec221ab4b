"""In what two rows' specs and environments differ, so that unlike is never compared silently."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from harness.record import TrialRecord
from reports.comparison import Details
from reports.row import Row

# What differs between any two trials and says nothing about how they were done.
OWN = (
    *("pass_start_seconds", "round_group", "round_position", "timing"),
    *("method", "tree_dirty", "command"),
    *("suite_place", "order_seed", "limits", "jobs", "cores", "not_started"),
)


@dataclass(frozen=True)
class Unlike:
    """A setting or circumstance in which two rows differ.

    Attributes:
        name: dotted, as in the record.
        new: value of the new row; several where its records differ among themselves.
        baseline: value of the baseline row.
    """

    name: str
    new: str
    baseline: str


def unlike(new: Row, baseline: Row, details: Details) -> list[Unlike]:
    """Return everything but the seed in which two rows' records differ, settings first."""
    ours, theirs = _said(new, details), _said(baseline, details)
    return [
        Unlike(name, _shown(ours.get(name)), _shown(theirs.get(name)))
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
    ]


def _shown(values: tuple[str, ...] | None) -> str:
    return ", ".join(values) if values else "not stated"


def _said(row: Row, details: Details) -> dict[str, tuple[str, ...]]:
    """Return each name's values over a row's records, each value once."""
    values: dict[str, dict[str, None]] = {}
    for record in row.records:
        for name, value in _of_record(record, details):
            values.setdefault(name, {})[value] = None
    return {name: tuple(sorted(found)) for name, found in values.items()}


def _of_record(record: TrialRecord, details: Details) -> Iterator[tuple[str, str]]:
    spec = record.spec.model_dump(mode="json", exclude={"seed"})
    tries = (spec.get("training") or {}).pop("tries", None)
    yield from _flat("", spec)
    if tries is not None:
        yield "training.tries", f"{len(tries)} learning rates"
    kept = {name: what for name, what in record.environment.items() if name not in OWN}
    yield from _flat("environment.", kept)
    state = {True: "changed since its commit", False: "clean", None: "unknown"}
    yield "environment.tree", state[record.environment.get("tree_dirty")]
    if record.spec.profile:
        yield from _kernels(details(record.key))


def _kernels(detail: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Return which operators computed attention, from what the FLOP meter saw."""
    ran: Iterable[str] = detail.get("flops", {}).get("by_operator", {})
    found = sorted(name for name in ran if "attention" in name and "backward" not in name)
    if ran:
        yield "attention kernel", ", ".join(found) or "none fused: products and a softmax"


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    """Return the leaves of nested tables with dotted names, as JSON or plain text."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{prefix}{name}.", inner)
        return
    if value is not None:
        yield prefix.rstrip("."), value if isinstance(value, str) else json.dumps(value)
