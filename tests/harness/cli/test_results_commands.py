"""compare and export as a person types them, on the committed records."""

import csv
import io
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from bsrbench.harness.records.store import Store, gather
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.compare.selection import sides
from tests.trial_records import no_details

ROOT = Path(__file__).resolve().parents[3]
FLOWERS = ROOT / "results" / "flowers-small"
MEMORY = ROOT / "results" / "memory"


def copied(folder, to, *, without=""):
    """Copy a results folder's records, but for those whose file's name begins so."""
    (to / "records").mkdir(parents=True)
    for path in (folder / "records").glob("*.json"):
        if not without or not path.name.startswith(without):
            shutil.copy(path, to / "records")
    return to


def test_two_methods_are_compared(typed):
    code, said = typed("compare", "bsr", "full", "--results", FLOWERS)

    assert code == 0
    assert "bsr against full on vit_small_patch14_dinov2" in said
    assert "peak memory (counted) better" in said
    assert "accuracy_top1 inconclusive: 3 pairs cannot pass" in said
    assert "training.learning_rate: 0.001 | 0.0005" in said


def test_the_baseline_is_bsr_unless_said(typed):
    _, said = typed("compare", "bias", "--results", FLOWERS)

    assert said.startswith("bias against bsr on ")


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("ratio(peak_counted_bytes) > 1.02", 0),
        ("ratio(peak_counted_bytes) > 0.1", 1),
        ("ratio(joules_per_image) > 1", 1),  # nobody measured it: it cannot pass
    ],
)
def test_a_gate_decides_the_exit_code(typed, condition, code):
    got, said = typed("compare", "bsr", "full", "--results", FLOWERS, "--fail-if", condition)

    assert got == code
    assert ("failed: bsr against full" in said) == bool(code)


@pytest.mark.parametrize(("option", "code"), [((), 0), (("--undecided", "fail"), 1)])
def test_a_limit_on_times_within_the_interval_is_undecided(typed, option, code):
    """The ratio itself is certainly within its interval."""
    asked = ("compare", "bsr", "full", "--results", FLOWERS)
    _, printed = typed(*asked, "--format", "json")
    findings = json.loads(printed)[0]["findings"]
    (found,) = [one for one in findings if one["metric"] == "step_seconds"]
    limits = {"undecided": found["ratio"], "failed": 0.9 * found["low"]}
    said = {
        word: typed(*asked, "--fail-if", f"ratio(step_seconds) >= {limit}", *option)
        for word, limit in limits.items()
    }

    assert [got for got, _ in said.values()] == [code, 1]
    for word, (_, text) in said.items():
        assert [line.split(":")[0] for line in text.splitlines() if "ratio(step_seco" in line] == [
            word
        ]


def test_one_of_several_gates_is_enough(typed):
    gates = ("--fail-if", "ratio(step_flop) > 5", "--fail-if", "difference(accuracy_top1) < -0.01")
    code, said = typed("compare", "bsr", "full", "--results", FLOWERS, *gates)

    assert code == 1
    assert said.count("failed: ") == 1


def test_each_format_is_printed_or_written(typed, tmp_path):
    arguments = ("compare", "bsr", "full", "--results", FLOWERS, "--format")
    _, as_json = typed(*arguments, "json")
    _, as_csv = typed(*arguments, "csv")
    _, as_latex = typed(*arguments, "latex")
    typed(*arguments, "markdown", "--output", tmp_path / "c.md")
    (found,) = json.loads(as_json)
    lines = {line["metric"]: line for line in csv.DictReader(io.StringIO(as_csv))}
    ratios = {one["metric"]: one["ratio"] for one in found["findings"]}

    assert found["findings"][1]["metric"] == "peak_counted_bytes"
    assert len(found["records"]["new"]) == 4
    assert lines["peak_counted_bytes"]["verdict"] == "better"
    assert float(lines["step_flop"]["ratio"]) == ratios["step_flop"]
    assert r"\toprule" in as_latex
    assert "| peak counted MiB | 167.0 | 442.1 |" in (tmp_path / "c.md").read_text()


def test_a_folder_is_compared_with_a_folder_row_by_row(typed, tmp_path):
    """Against its own copy everything exact is the same; a row that the copy lacks is named."""
    copy = copied(FLOWERS, tmp_path / "copy", without="bsr-")
    code, said = typed("compare", FLOWERS, copy, "--format", "json")
    *found, alone = json.loads(said)
    verdicts = {
        finding["verdict"]["word"]
        for one in found
        for finding in one["findings"]
        if "seconds" not in finding["metric"]
    }

    assert code == 0
    assert len(found) == 10
    assert verdicts == {"same"}
    assert (alone["new"], alone["baseline"], alone["findings"]) == ("bsr", None, [])


@pytest.mark.parametrize(
    ("condition", "code"),
    [((), 0), (("--fail-if", "ratio(step_flop) > 1.0"), 1)],
)
def test_a_row_that_the_new_results_have_lost_is_named_and_fails_a_gate(
    condition, code, typed, tmp_path
):
    copy = copied(FLOWERS, tmp_path / "copy", without="bsr-")
    got, said = typed("compare", copy, FLOWERS, *condition)
    (setting,) = {line for line in said.splitlines() if line.startswith("  bsr (")}

    assert got == code
    assert setting.endswith(f"of the baseline '{FLOWERS}' has no counterpart in '{copy}'")
    assert (f"failed: {setting.strip()}: a missing row cannot pass" in said) == bool(code)


def test_a_row_that_is_lost_is_said_aloud_where_the_document_is_a_file(typed, tmp_path):
    copy = copied(FLOWERS, tmp_path / "copy", without="bsr-")
    _, said = typed("compare", copy, FLOWERS, "--output", tmp_path / "c.md")

    assert said.startswith("without a counterpart: bsr (vit_small_patch14_dinov2 at 84 px")
    assert "### Without a counterpart" in (tmp_path / "c.md").read_text()


FOLDERS = sorted(path.parent for path in (ROOT / "results").glob("*/records"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_row_of_a_folder_meets_itself_in_a_copy(folder, typed, tmp_path):
    """All ratios are 1, and a gate passes that nothing but equality can."""
    copy = copied(folder, tmp_path / "copy")
    comparisons = compare(Store(folder).records()[0], no_details)
    rows = [row.label for comparison in comparisons for row in comparison.rows]
    metric = next(  # one that all rows of the folder have
        metric
        for metric in ("peak_counted_bytes", "step_flop", "trained_parameters")
        if all(row.value(metric) for comparison in comparisons for row in comparison.rows)
    )
    gates = [f"ratio({metric}) {sign} 1.0" for sign in "<>"]
    code, said = typed(
        *("compare", copy, folder, "--format", "json"),
        *(word for gate in gates for word in ("--fail-if", gate)),
    )
    found = json.loads(said)
    ratios = {
        one["ratio"] for pair in found for one in pair["findings"] if one["ratio"] is not None
    }

    assert code == 0
    assert [pair["new"] for pair in found] == [pair["baseline"] for pair in found] == rows
    assert all(pair["records"]["new"] == pair["records"]["baseline"] for pair in found)
    assert ratios == {1.0}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_row_is_asked_for_by_the_label_that_is_printed(folder):
    pool = gather([folder])
    rows = [row for found in compare(pool.records, pool.detail) for row in found.rows]

    for row in rows:
        found, _ = sides(row.label, str(folder), pool)
        assert {placed.row.label for placed in found.rows} == {row.label}
        assert len(found.rows) == [one.label for one in rows].count(row.label)
        assert found.said == ()


def test_every_row_of_a_folder_is_compared_with_its_baseline(typed, tmp_path, monkeypatch):
    """No --results is needed: the folder has a row of BSR."""
    monkeypatch.chdir(tmp_path)
    code, said = typed("compare", FLOWERS, "--format", "json")
    found = json.loads(said)

    assert code == 0
    assert len(found) == 10
    assert {one["baseline"] for one in found} == {"bsr"}
    assert "bsr" not in {one["new"] for one in found}


def test_a_record_is_compared_with_a_method(typed):
    path = next((MEMORY / "records").glob("head-*.json"))
    code, said = typed("compare", path, "full", "--results", MEMORY)

    assert code == 0
    assert said.startswith("head against full on deit_small_patch16_224")


def test_other_models_are_not_compared_silently(typed):
    path = next((MEMORY / "records").glob("head-*.json"))
    code, said = typed("compare", path, "full", "--results", FLOWERS)
    even, _ = typed("compare", path, "full", "--results", FLOWERS, "--unlike")

    assert code == 2
    assert "model deit_small_patch16_224 and vit_small_patch14_dinov2" in said
    assert even == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("compare", "bsrr", "--results", FLOWERS), "did you mean 'bsr'"),
        (("compare", "bsr", "full"), "no results in"),
        (("compare", "bsr", "bsr", "--results", FLOWERS), "nothing to compare"),
        (("compare", "bsr", "--results", "nowhere"), "expected a results folder"),
        (("compare", "commit:123", "--results", FLOWERS), "no commit '123'"),
        (("compare", "bsr", "--results", FLOWERS, "--fail-if", "x"), "expected FUNCTION(METRIC)"),
        (
            ("compare", "bsr", "--results", FLOWERS, "--fail-if", "ratio(step_flop) > inf"),
            "inf is not a finite number",
        ),
        (("export", FLOWERS), "no output file"),
        (("export", "nowhere", "--csv", "x.csv"), "expected a results folder"),
        (("export", FLOWERS, "--csv", "no/such/folder/x.csv"), "cannot write"),
    ],
)
def test_bad_input_is_said(arguments, said, typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed = typed(*arguments)

    assert code == 2
    assert said in printed


def test_records_of_one_key_that_differ_are_set_aside(typed, tmp_path):
    copy = copied(FLOWERS, tmp_path / "copy")
    path = next(path for path in (copy / "records").glob("head-*.json"))
    path.write_text(path.read_text().replace('"finished_at": "2026', '"finished_at": "2025'))
    _, said = typed("export", FLOWERS, copy, "--json", tmp_path / "x.json")

    assert f"set aside: {path.stem}: two records with this key differ" in said
    assert len((tmp_path / "x.json").read_text().splitlines()) == 43


def test_all_records_are_exported(typed, tmp_path):
    pytest.importorskip("pyarrow")
    code, said = typed("export", FLOWERS, MEMORY, "--parquet", tmp_path / "x.parquet")
    found = pd.read_parquet(tmp_path / "x.parquet")

    assert code == 0
    assert f"{len(found)} records" in said
    assert len(found) == 44 + len(list((MEMORY / "records").glob("*.json")))
