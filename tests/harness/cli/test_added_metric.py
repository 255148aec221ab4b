"""A new metric is one entry in the table and the code that measures it; nothing else names it."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCES = ("bsrbench", "harness", "methods", "reports", "suites")
ENTRIES = """
WORK["trained_bytes"] = Metric(
    "B",
    "lower",
    "Bytes of the trained parameters.",
    display="mebibytes",
    measured_by=("flops",),
    words="bytes trained",
    judged=Judgement("exact", 125),
    tables=(
        TableColumn("main", 55, "bytes trained MiB", short="bytes trained", ratio=True),
        TableColumn("paper", 35, "bytes trained"),
        TableColumn("work", 25, "bytes trained MiB"),
    ),
    page=PageColumn("Work", 445, "bytes trained MiB", shown=True, over="bytes trained"),
    figures=(FigurePart("accuracy", "bytes trained", file="trained"),),
    claim=ClaimLine("memory", "memory, trained", 55),
    csv_ratio=True,
)
WORK["slowest_seconds"] = Metric(
    "s",
    "lower",
    "The slowest step of each visit.",
    display="milliseconds",
    measured_by=("clock",),
    samples=True,
    judged=Judgement("in turns", 135),
    tables=(TableColumn("main", 65, "slowest ms", form="spread", ratio=True),),
    page=PageColumn("Time and energy", 515, "slowest ms", over="slowest"),
)
"""
COUNTING = """

_flop_pass = flop_pass


def flop_pass(spec, load):
    reading = _flop_pass(spec, load)
    reading.measurements["trained_bytes"] = 4 * reading.measurements["trained_parameters"]
    return reading
"""
TIMING = """

_clock_pass = clock_pass


def clock_pass(spec, load, turn=None):
    reading = _clock_pass(spec, load, turn)
    reading.measurements["slowest_seconds"] = [max(reading.measurements["step_seconds"])]
    return reading
"""
ADDED = {
    "harness/records/work_metrics.py": ENTRIES,
    "harness/profiler/flops_pass.py": COUNTING,
    "harness/profiler/clock_pass.py": TIMING,
}
SUITE = """
description = "tiny"
seeds = [0]
[workload]
model = "deit_tiny_patch16_224"
image_size = 32
data = "digits"
batch = 2
[training]
steps = 1
learning_rate = 1e-3
[profile]
rounds = 1
generations = 3
steps = 1
warmup_steps = 1
budget_seconds = 0
[[methods]]
method = "full"
[[methods]]
method = "bsr"
"""


NAMES = ("trained_bytes", "slowest_seconds")


def bsrbench(folder, *arguments):
    """Run a command of the sources in a folder, in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-m", "bsrbench", *map(str, arguments)],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(folder)}
        | {"COLUMNS": "300", "BSRBENCH_KERNELS": "eager", "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a copy of the sources with two metrics more, and in it the results of a suite."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        subprocess.run(["cp", "-a", ROOT / name, folder / name], check=True)
    for name, text in ADDED.items():
        path = folder / name
        path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")
    (folder / "tiny.toml").write_text(SUITE, encoding="utf-8")
    done = bsrbench(folder, "run", "tiny.toml", "--results", "results")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def measured(folder, method):
    """Return the measurements of a method's profile."""
    found = (json.loads(path.read_text()) for path in (folder / "results/records").glob("*.json"))
    (record,) = (r for r in found if r["spec"]["method"] == method and r["spec"]["profile"])
    return record["measurements"]


def text_of(folder, name):
    return (folder / "results" / name).read_text(encoding="utf-8")


def test_a_record_has_it(folder):
    full = measured(folder, "full")

    assert full["trained_bytes"] == 4 * full["trained_parameters"]
    assert full["slowest_seconds"] == full["step_seconds"]  # one step in each of three visits
    assert len(full["slowest_seconds"]) == 3


def test_a_record_without_it_says_why(folder):
    found = [json.loads(p.read_text()) for p in (folder / "results/records").glob("*.json")]
    reasons = {r["missing"]["trained_bytes"]["text"] for r in found if not r["spec"]["profile"]}

    assert reasons == {"this trial only trains; another trial of the row has the profile"}


def test_the_csv_has_its_value_and_its_ratios(folder):
    with (folder / "results/comparison.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    ours, full = (measured(folder, method)["trained_bytes"] for method in ("bsr", "full"))

    assert float(rows["bsr"]["trained_bytes"]) == ours
    assert float(rows["bsr"]["trained_bytes_over_full"]) == pytest.approx(ours / full)
    assert float(rows["full"]["slowest_seconds"]) > 0


def test_the_documents_have_its_columns_definition_and_summary(folder):
    markdown = text_of(folder, "report.md")
    heading = next(line for line in markdown.splitlines() if line.startswith("| method |"))

    assert "| step GFLOP | × full | bytes trained MiB | × full | step ms" in heading
    assert "| slowest ms | × full \\[95 %\\] | img/s |" in heading
    assert "- `trained_bytes`: Bytes of the trained parameters." in markdown
    assert "bytes trained 0." in markdown  # of the summary, a ratio
    assert "bytes trained" in text_of(folder, "report.tex")
    assert (folder / "results/accuracy-trained.svg").exists()


def test_the_page_has_its_columns_and_its_visits(folder):
    page = text_of(folder, "report.html")

    assert '"id":"trained_bytes"' in page
    assert '"id":"trained_bytes/ratio"' in page
    assert '"costs":["peak_counted_bytes","step_flop","step_seconds","trained_bytes"]' in page
    assert '"slowest_seconds":[' in page  # the visits' medians


@pytest.mark.parametrize(
    ("condition", "code"), [("ratio(trained_bytes) < 1", 1), ("ratio(trained_bytes) > 1", 0)]
)
def test_compare_judges_it_and_a_gate_may_ask_for_it(folder, condition, code):
    compare = ("compare", "bsr", "full", "--results", "results", "--format", "json")
    done = bsrbench(folder, *compare, "--fail-if", condition)
    (contrast,) = json.loads(done.stdout[: done.stdout.rindex("]") + 1])
    findings = {found["metric"]: found for found in contrast["findings"]}

    assert done.returncode == code
    assert findings["trained_bytes"]["verdict"]["word"] == "better"
    assert findings["slowest_seconds"]["pairs"] == 3


def test_the_page_of_claims_has_its_line(folder):
    assert "| memory, trained | 1.40× |" in bsrbench(folder, "claims", "results").stdout


def test_a_record_made_before_it_is_read_and_says_so(folder):
    shutil.copytree(ROOT / "results/quick/records", folder / "older/records")
    done = bsrbench(folder, "export", "older", "--json", "older.jsonl")
    lines = (folder / "older.jsonl").read_text(encoding="utf-8").splitlines()

    assert done.returncode == 0, done.stderr
    assert {json.loads(line)["trained_bytes"] for line in lines} == {None}


def test_nothing_but_its_entry_and_its_measurement_names_it(folder):
    named = {
        path.relative_to(folder).as_posix()
        for top in ("harness", "methods", "reports")
        for path in (folder / top).rglob("*")
        if path.suffix in {".py", ".js", ".j2"}
        and any(name in path.read_text(encoding="utf-8") for name in NAMES)
    }

    assert named == set(ADDED)
