"""All records as one table, whole and unrounded."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from bsrbench.harness.errors import BadInput
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.store import gather
from bsrbench.reports.documents import export

RESULTS = Path(__file__).resolve().parents[2] / "results"


@pytest.fixture
def table(make):
    return export.frame(
        [
            make("bsr", peak_counted_bytes=3, step_seconds=[0.1, 0.2]),
            make('full,"x"', seed=1, accuracy_top1=1 / 3),
            make("int8", status="crashed"),
        ]
    )


def test_parquet_keeps_lists_and_types(table, tmp_path):
    pytest.importorskip("pyarrow")
    export.to_parquet(table, tmp_path / "t.parquet")
    found = pd.read_parquet(tmp_path / "t.parquet")

    assert list(found["step_seconds"][0]) == [0.1, 0.2]
    assert found["accuracy_top1"][1] == 1 / 3
    assert list(found["status"]) == ["completed", "completed", "crashed"]
    assert found["workload.model"][0] == "test_vit"


def test_csv_and_json_come_back(table, tmp_path):
    export.to_csv(table, tmp_path / "t.csv")
    export.to_json(table, tmp_path / "t.json")
    rows = pd.read_csv(tmp_path / "t.csv")
    objects = [json.loads(line) for line in (tmp_path / "t.json").read_text().splitlines()]

    assert json.loads(rows["step_seconds"][0]) == [0.1, 0.2]
    assert rows["method"][1] == 'full,"x"'
    assert rows["accuracy_top1"][1] == 1 / 3
    assert objects[0]["step_seconds"] == [0.1, 0.2]
    assert objects[2]["reason"] == "why"


# Each differs from what is left of it after ten decimals, or as a float.
EXACT = {
    "peak_counted_bytes": 2**53 + 1,
    "step_flop": 10**18 + 1,
    "accuracy_top1": 0.1 + 0.2,
    "final_loss": 1e-300,
    "step_seconds": [1 / 3, 2e-11, 0.1],
}


def read_json(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_csv(path):
    """Read cells as they stand; a number or a list is JSON, too."""
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    numbers = {name for name in METRICS if name in lines[0]}
    return [
        {n: json.loads(cell or "null") if n in numbers else cell for n, cell in line.items()}
        for line in lines
    ]


def read_parquet(path):
    return pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()


FORMS = {
    "json": (export.to_json, read_json),
    "csv": (export.to_csv, read_csv),
    "parquet": (export.to_parquet, read_parquet),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_number_comes_back_as_it_was_stored(form, make, tmp_path):
    """Beside a record without any, which makes numbers floats where a column has one kind."""
    write, read = FORMS[form]
    write(export.frame([make("bsr", **EXACT), make("full", status="crashed")]), tmp_path / "t")
    first, second = read(tmp_path / "t")

    assert {name: first[name] for name in EXACT} == EXACT
    assert {name: type(first[name]) for name in EXACT} == {n: type(v) for n, v in EXACT.items()}
    assert {second[name] for name in EXACT} == {None}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("folder", ["quick", "multitask-small"])
def test_no_number_of_the_committed_records_is_changed(form, folder, tmp_path):
    """Compared with the records' own files, which json reads."""
    write, read = FORMS[form]
    write(export.frame(gather([RESULTS / folder]).records), tmp_path / "t")
    files = map(Path.read_text, (RESULTS / folder / "records").glob("*.json"))
    stored = {record["key"]: record["measurements"] for record in map(json.loads, files)}
    pairs = [
        (value, line[name])
        for line in read(tmp_path / "t")
        for name, value in stored[line["key"]].items()
        if isinstance(value, float | int) and not METRICS[name].samples
    ]

    assert len(pairs) > 50
    assert [pair for pair in pairs if pair[0] != pair[1]] == []


def test_a_table_of_settings_is_json_in_every_form(tmp_path):
    table = export.frame(gather([RESULTS / "multitask-small"]).records)
    export.to_csv(table, tmp_path / "t.csv")
    export.to_json(table, tmp_path / "t.json")
    cells = [pd.read_csv(tmp_path / "t.csv")["workload.multitask"][0]]
    cells.append(read_json(tmp_path / "t.json")[0]["workload.multitask"])

    assert [json.loads(cell)["experts"] for cell in cells] == [4, 4]


def test_every_metric_has_a_column(table):
    assert set(METRICS) <= set(table.columns)


def test_a_folder_that_is_not_there_is_said(table, tmp_path):
    with pytest.raises(BadInput, match="cannot write"):
        export.to_csv(table, tmp_path / "none" / "t.csv")
