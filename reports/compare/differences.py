"""The differences between the specs and environments of two rows, which reports must show."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bsrbench.harness.records.device_examination import DOCTOR
from bsrbench.harness.records.record_key import read_key
from bsrbench.harness.records.trial_record import TrialRecord
from bsrbench.reports.compare import seed_pairing
from bsrbench.reports.compare.comparison import Details
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.deciding_settings import attention_kernel, effective_settings
from bsrbench.reports.compare.seed_pairing import Seeds

# Fields of the environment that ``_of_record`` handles separately.
APART = ("method", "tree_dirty", "settings", "set_by_method", "attention_kernel")
KERNEL = "attention kernel"
# Most methods have no kernels. A missing value does not count as a difference.
OF_METHODS = "environment.method.kernels"
NOT_STATED, NOT_SET = "not stated", "not set"
STATED = "settings that decide numbers"
ONE_SETTING = "environment.settings."
VARIABLES = "circumstances.variables."
ValuesByName = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class RowDifference:
    """A setting or circumstance in which two rows differ.

    Attributes:
        name: dotted name, as in the record.
        new: value of the new row; several values if its records differ among themselves.
        baseline: value of the baseline row.
    """

    name: str
    new: str
    baseline: str


def unlike(
    new: ComparisonRow, baseline: ComparisonRow, details: tuple[Details, Details]
) -> list[RowDifference]:
    """Return every difference between two rows' records, except the seed; settings come first.

    If the rows have seeds in common, only trainings with these seeds are used. Accuracies of
    other seeds are not compared, and random weights of other seeds always differ.

    Args:
        new: the row in question.
        baseline: the row compared with.
        details: two functions that return sidecars: of the new row's records, and of the
            baseline's.
    """
    rows, both = (new, baseline), seed_pairing.shared((new, baseline))
    sides = [
        _values_by_name(_compared(row, both), sidecars)
        for row, sidecars in zip(rows, details, strict=True)
    ]
    ours, theirs = _alike(*sides)
    return [
        RowDifference(name, _shown(name, new, ours), _shown(name, baseline, theirs))
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
        and (name != OF_METHODS or (name in ours and name in theirs))
    ]


def _alike(ours: ValuesByName, theirs: ValuesByName) -> tuple[ValuesByName, ValuesByName]:
    """Return the values of two rows, without single settings if only one row has settings."""
    if _states_settings(ours) == _states_settings(theirs):
        return ours, theirs
    return _in_a_word(ours), _in_a_word(theirs)


def _states_settings(values_by_name: ValuesByName) -> bool:
    return any(name.startswith(ONE_SETTING) for name in values_by_name)


def _in_a_word(values_by_name: ValuesByName) -> ValuesByName:
    """Return the values of a row, with one entry for all settings: stated or not stated."""
    word = "stated" if _states_settings(values_by_name) else NOT_STATED
    rest = {
        name: values for name, values in values_by_name.items() if not name.startswith(ONE_SETTING)
    }
    return rest | {STATED: (word,)}


def _shown(name: str, row: ComparisonRow, values_by_name: ValuesByName) -> str:
    if values := values_by_name.get(name):
        return ", ".join(values)
    # A record with one of these tables has the complete table: a missing name was not set.
    if name.startswith(ONE_SETTING):
        tables = [record.environment.settings for record in row.records]
    elif name.startswith(VARIABLES):
        tables = [record.circumstances.variables for record in row.records]
    else:
        return NOT_STATED
    return NOT_STATED if all(table is None for table in tables) else NOT_SET


def _compared(row: ComparisonRow, both: Seeds) -> Sequence[TrialRecord]:
    """Return a row's records, without trainings with seeds that the other row lacks."""
    return [r for r in row.records if not both or r.spec.training is None or r.spec.seed in both]


def _values_by_name(records: Sequence[TrialRecord], details: Details) -> ValuesByName:
    """Return the distinct values of each name over some records."""
    values: dict[str, dict[str, None]] = {}
    for record in records:
        for name, value in _of_record(record, details):
            values.setdefault(name, {})[value] = None
    return {name: tuple(sorted(texts)) for name, texts in values.items()}


def _of_record(record: TrialRecord, details: Details) -> Iterator[tuple[str, str]]:
    spec = record.spec.model_dump(mode="json", exclude={"seed"})
    tries = (spec.get("training") or {}).pop("tries", None)
    (spec.get("profile") or {}).pop("trains_as", None)  # affects no number of a profile
    yield from _flat("", spec)
    if tries is not None:
        yield "training.tries", f"{len(tries)} learning rates"
    kept = {n: what for n, what in record.environment.plain().items() if n not in APART}
    # When the doctor examined the device affects no number.
    kept["device"] = {n: what for n, what in record.environment.device.items() if n != DOCTOR}
    yield from _flat("environment.", kept)
    yield from _flat(VARIABLES, record.circumstances.variables or {})
    if (cluster := record.circumstances.cluster) is not None:
        yield from _flat("circumstances.cluster.", msgspec.structs.asdict(cluster))
    yield from _flat(ONE_SETTING, effective_settings(record))
    if (kernels := record.environment.method.get("kernels")) is not None:
        yield OF_METHODS, str(kernels)
    state = {True: "changed since its commit", False: "clean", None: "unknown"}
    yield "environment.tree", state[record.environment.tree_dirty]
    if (key := read_key(record.key)) is not None and key.measuring is not None:
        yield "measuring code", key.measuring
    if (kernel := attention_kernel(record, details)) is not None:
        yield KERNEL, kernel


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    """Return the leaves of nested tables with dotted names, as JSON or plain text."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{prefix}{name}.", inner)
        return
    if value is not None:
        yield prefix.rstrip("."), value if isinstance(value, str) else json.dumps(value)
