"""Inputs of a results folder: records, sidecars, staged passes and progress."""

import functools
import json

from bsrbench.harness.cli.status import _status
from bsrbench.harness.records.record_files import read_record
from bsrbench.harness.records.store import Store, gather
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.documents import csv_table, latex_tables
from tests.fuzz import commands
from tests.fuzz.input_files import FOLDERS, ROOT, write_input

MOST_SAMPLES = 12
MOST_BYTES = 30_000


def _some(paths):
    """Return the content of a few files, small ones, since inputs are many."""
    found = sorted(path for path in paths if path.stat().st_size < MOST_BYTES)
    return [path.read_bytes() for path in found[:: max(1, len(found) // MOST_SAMPLES)]]


def records():
    """Return records of several schemas."""
    paths = [path for folder in FOLDERS for path in (folder / "records").glob("*.json")]
    return _some(paths) + _some((ROOT / "tests" / "golden").glob("*.json"))


def read_records(content, place):
    """Read a folder with a record, and the record where the folder's reader sets it aside."""
    path = write_input(place, "records/any.json", content)
    if not gather([place.target]).records:
        read_record(path)


def report(content, place):
    """Compare a record, and write two of the tables."""
    read_records(content, place)
    found = gather([place.target])
    comparisons = compare(found.records, found.detail)
    csv_table.write(comparisons, place.target / "comparison.csv")
    latex_tables.write(comparisons, "t", place.target / "report.tex")
    _status(Store(place.target))


@functools.cache
def _with_detail():
    for folder in FOLDERS:
        for path in sorted((folder / "details").glob("*.json")):
            record = folder / "records" / path.name
            if record.exists():
                return record.read_bytes(), json.loads(record.read_bytes())["key"]
    raise LookupError


def details():
    """Return sidecars of records."""
    return _some(path for folder in FOLDERS for path in (folder / "details").glob("*.json"))


def read_detail(content, place):
    record, key = _with_detail()
    write_input(place, f"details/{key}.json", content)
    (place.target / "records").mkdir()
    (place.target / "records" / "a.json").write_bytes(record)
    found = gather([place.target])
    comparisons = compare(found.records, found.detail)
    csv_table.write(comparisons, place.target / "comparison.csv")


def staged():
    """Return results of passes."""
    made = {
        "status": "completed",
        "reason": "",
        "reading": {"measurements": {"a": 1}, "detail": {}},
    }
    return [json.dumps(made).encode(), *details()]


def read_staged(content, place):
    write_input(place, ".staged/full-0123.train.json", content)
    store = Store(place.target)
    for key in store.staged_keys("train"):
        store.staged(key, "train")


def progress():
    """Return what a run says of itself."""
    known = {"pid": 1, "host": "h", "at": 1.5, "trials": 9, "completed": 3, "failed": 0}
    known |= {"what": "full", "left_seconds": 3.5}
    states = ("running", "finished", "stopped", "planned")
    return [json.dumps(known | {"state": state}).encode() for state in states]


def read_progress(content, place):
    write_input(place, ".staged/progress.run", content)
    (place.target / "records").mkdir()
    commands.called(["status", str(place.target)])
