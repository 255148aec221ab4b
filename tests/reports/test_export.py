"""All records as one table, whole and unrounded."""

import json

import pandas as pd
import pytest

from harness.errors import BadInput
from harness.metrics import METRICS
from reports import export


@pytest.fixture
def table(make):
    return export.frame(
        [
            make("bsr", peak_counted_bytes=3, step_seconds=[0.1, 0.2]),
            make('full,"x"\n', seed=1, accuracy_top1=1 / 3),
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
    assert rows["method"][1] == 'full,"x"\n'
    assert rows["accuracy_top1"][1] == 1 / 3
    assert objects[0]["step_seconds"] == [0.1, 0.2]
    assert objects[2]["reason"] == "why"


def test_every_metric_has_a_column(table):
    assert set(METRICS) <= set(table.columns)


def test_a_folder_that_is_not_there_is_said(table, tmp_path):
    with pytest.raises(BadInput, match="cannot write"):
        export.to_csv(table, tmp_path / "none" / "t.csv")
