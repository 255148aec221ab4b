"""All records as one table: one line per record, one column per setting or metric, unrounded."""

import csv
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from bsrbench.harness.errors import BadInput
from bsrbench.harness.files import write_whole
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.trial_record import TrialRecord

NO_PYARROW = (
    "cannot write Parquet: pyarrow is not installed; run pip install 'bsrbench[parquet]', or "
    "export --csv or --json instead"
)


def frame(records: Iterable[TrialRecord]) -> pd.DataFrame:
    """Return the table; every metric has a column, with lists for metrics that have samples.

    Cells are the stored objects: in a numeric column of pandas, an empty cell would turn integers
    into floats, and large integers would change.
    """
    lines = [_line(record) for record in records]
    columns = list(dict.fromkeys(name for line in lines for name in line))
    cells = [[line.get(name) for name in columns] for line in lines]
    return pd.DataFrame(cells, columns=columns, dtype=object)


def _line(record: TrialRecord) -> dict[str, Any]:
    spec, environment, circumstances = record.spec, record.environment, record.circumstances
    line: dict[str, Any] = {
        "key": record.key,
        "began_at": record.began_at,
        "finished_at": record.finished_at,
        "method": spec.method,
        "options": json.dumps(spec.options),
        "seed": spec.seed,
        "status": str(record.outcome.status),
        "reason": record.outcome.reason,
    }
    workload = spec.workload.model_dump(mode="json")
    line |= {f"workload.{name}": _flat(value) for name, value in workload.items()}
    if spec.training:
        recipe = spec.training.model_dump(mode="json", exclude={"tries"})
        line |= {f"training.{name}": _flat(value) for name, value in recipe.items()}
        line["training.tries"] = len(spec.training.tries)
    for name, metric in METRICS.items():
        value = record.measurements.get(name)
        if metric.samples and value is not None and not isinstance(value, list):
            value = [value]
        line[name] = value
    line["beside"] = json.dumps(record.beside)
    line["notes"] = "\n".join(note.text for note in record.notes)
    line |= {
        "environment.machine_id": environment.machine_id,
        "environment.commit": environment.commit,
        "environment.tree_dirty": environment.tree_dirty,
        "circumstances.round_group": circumstances.round_group,
        "environment.attention_kernel": environment.attention_kernel,
        # One column per table, because the names of the settings depend on the version of torch.
        "environment.settings": _table(environment.settings),
        "circumstances.variables": _table(circumstances.variables),
    }
    versions = environment.versions
    return line | {f"version.{name}": version for name, version in versions.items()}


def _table(stated: dict[str, str] | None) -> str | None:
    return None if stated is None else json.dumps(stated)


def _flat(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def to_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write Parquet.

    Raises:
        BadInput: pyarrow is not installed, or the file cannot be written.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise BadInput(NO_PYARROW) from error
    made = pa.Table.from_pandas(table, preserve_index=False)
    whole = pa.BufferOutputStream()
    parquet.write_table(made, whole)
    _explained(path, lambda: write_whole(path, whole.getvalue().to_pybytes()))


def to_csv(table: pd.DataFrame, path: Path) -> None:
    """Write comma-separated values; lists are JSON."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(map(_flat, row) for row in table.itertuples(index=False, name=None))
    _explained(path, lambda: write_whole(path, text.getvalue()))


def to_json(table: pd.DataFrame, path: Path) -> None:
    """Write one JSON object per line; every number is read back exactly as stored."""
    lines = [f"{json.dumps(line)}\n" for line in table.to_dict(orient="records")]
    _explained(path, lambda: write_whole(path, "".join(lines)))


def _explained(path: Path, write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from error
