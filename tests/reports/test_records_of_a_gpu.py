"""Records of an H100 are read, upgraded and reported without a GPU, apart from those of a CPU."""

import json
import re
import shutil
from pathlib import Path
from statistics import median

import pytest

from bsrbench.harness.records.store import Store, gather
from bsrbench.harness.records.trial_record import SCHEMA_VERSION
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.wording.old_records import made_by_old_code
from tests.trial_records import altered, no_details

RESULTS = Path(__file__).resolve().parents[2] / "results"
H100, CIFAR, MEMORY = RESULTS / "gpu-h100", RESULTS / "gpu-cifar10", RESULTS / "memory"
ALLOCATED = {  # bytes above counted, as the first measurements on the GPU state them
    "head": 69.5e6,
    "bias": 75.6e6,
    "lora": 75.6e6,
    "bsr+checkpoint": 80.0e6,
    "bsr": 86.7e6,
    "full (micro-batch 16)": 85.7e6,
    "tome": 99.9e6,
    "evit": 120.9e6,
    "checkpoint": 150.1e6,
    "full": 154.6e6,
}


@pytest.mark.parametrize("folder", [H100, CIFAR], ids=lambda folder: folder.name)
def test_every_record_of_the_gpu_is_read_in_the_present_form(folder):
    pool = gather([folder])
    files = list((folder / "records").glob("*.json"))

    assert len(files) == len(pool.records) > 0
    assert not pool.aside
    assert not pool.doubts
    assert {json.loads(path.read_text())["schema_version"] for path in files} == {5}
    assert SCHEMA_VERSION > 5
    assert {record.spec.workload.device for record in pool.records} == {"cuda"}
    assert {record.environment.device["device"] for record in pool.records} == {
        "NVIDIA H100 80GB HBM3"
    }
    assert {record.environment.commit[:7] for record in pool.records} == {"4709244"}


@pytest.mark.parametrize("folder", [H100, CIFAR], ids=lambda folder: folder.name)
def test_records_of_the_gpu_name_no_folder_of_their_machine(folder):
    texts = [path.read_text() for path in (folder / "records").glob("*.json")]

    assert [text for text in texts if re.search(r'[" ]/\w', text)] == []


def test_the_report_of_the_gpu_has_the_bytes_that_were_read(no_details):
    ten, _ = compare(gather([H100]).records, no_details)
    above = {
        row.label: row.value("peak_allocated_bytes") - row.value("peak_counted_bytes")
        for row in ten.rows
    }

    assert above == pytest.approx(ALLOCATED, abs=1e5)


@pytest.mark.parametrize("folder", [H100, CIFAR], ids=lambda folder: folder.name)
def test_the_committed_records_of_the_gpu_give_a_report(folder, typed, tmp_path):
    shutil.copytree(folder / "records", tmp_path / folder.name / "records")
    code, _ = typed("report", tmp_path / folder.name)
    page = (tmp_path / folder.name / "report.md").read_text()

    assert code == 0
    assert "device cuda" in page
    assert (tmp_path / folder.name / "report.html").exists()


def test_records_of_the_gpu_are_stale(typed):
    for folder in (H100, CIFAR):
        code, said = typed("results", "check", folder)

        assert code == 0
        assert "stale: the method's source has changed" in said


@pytest.mark.parametrize("machine", [None, "a43ba0eb"], ids=["two machines", "one machine"])
def test_the_same_trial_on_cpu_and_gpu_is_in_two_tables(machine, tmp_path, typed):
    """Records of the GPU and copies of them that differ in the device alone, in one folder."""
    store = Store(tmp_path / "both")
    store.open_for_writing()
    for record in gather([H100]).records:
        workload = record.spec.workload.model_copy(update={"device": "cpu"})
        spec = record.spec.model_copy(update={"workload": workload})
        name, _, *rest = record.key.split("-")
        where = {"machine_id": machine or "5eed5eed"}
        key = "-".join([name, spec.trial_id(), *rest[:-1], where["machine_id"]])
        store.save(record)
        store.save(altered(record, spec=spec, key=key, environment=where))
    pool = gather([tmp_path / "both"])
    found = compare(pool.records, no_details)
    devices = [{row.spec.workload.device for row in comparison.rows} for comparison in found]
    code, _ = typed("report", tmp_path / "both")
    page = (tmp_path / "both" / "report.md").read_text()

    assert len(pool.records) == 2 * 11
    assert sorted(map(sorted, devices)) == [["cpu"], ["cpu"], ["cuda"], ["cuda"]]
    assert all(
        comparison.title().endswith(*of) for comparison, of in zip(found, devices, strict=True)
    )
    assert code == 0
    assert len(re.findall(r"^## .*, cuda$", page, re.MULTILINE)) == 2
    assert len(re.findall(r"^## .*, cpu$", page, re.MULTILINE)) == 2


def test_rows_of_a_gpu_are_not_compared_with_rows_of_a_cpu_silently(tmp_path, typed):
    """One row on both devices; the first path names the record of the GPU."""
    record = next(record for record in gather([H100]).records if record.spec.method == "bias")
    workload = record.spec.workload.model_copy(update={"device": "cpu"})
    spec = record.spec.model_copy(update={"workload": workload})
    key = record.key.replace(record.spec.trial_id(), spec.trial_id())
    for name, kept in (("gpu", record), ("cpu", altered(record, spec=spec, key=key))):
        store = Store(tmp_path / name)
        store.open_for_writing()
        store.save(kept)
    code, said = typed("compare", tmp_path / "gpu", tmp_path / "cpu")
    even, listed = typed("compare", tmp_path / "gpu", tmp_path / "cpu", "--unlike")

    assert code == 2
    assert "do not have the same workload: device cuda and cpu" in said
    assert "--unlike" in said
    assert even == 0
    assert "bias" in listed


def test_the_page_of_the_h100_has_the_times_of_its_round_group():
    """Medians of all samples, over those of full."""
    times = json.loads((H100 / "timed-group.json").read_text())
    full = times["full"]
    rows = re.findall(
        r"^\| (\S.*?) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$",
        (H100 / "README.md").read_text(),
        re.MULTILINE,
    )

    assert {name for name, *_ in rows} == {
        name for name, row in times.items() if row["status"] == "completed"
    }
    for name, *cells in rows:
        step, test = (median(times[name][f"{what}_seconds"]) for what in ("step", "evaluation"))
        assert cells == [
            f"{step * 1e3:.1f}",
            f"{step / median(full['step_seconds']):.3f}",
            f"{test / median(full['evaluation_seconds']):.3f}",
        ]


def test_the_page_of_the_trainings_names_those_that_were_done():
    tested = {
        (record.spec.method, record.spec.seed)
        for record in gather([CIFAR]).records
        if record.spec.training.evaluate == "test"
    }

    assert tested == {
        *(("full", 0), ("full", 2), ("lora", 1), ("lora", 2)),
        *(("evit", 1), ("evit", 2), ("bias", 0), ("bsr", 2)),
    }
    assert "after 8 of 21 trainings" in (CIFAR / "README.md").read_text()


@pytest.mark.parametrize(("folder", "rows"), [(H100, 10), (CIFAR, 5)], ids=str)
def test_the_first_screen_of_the_report_tells_that_the_records_are_stale(folder, rows):
    first = (folder / "report.md").read_text().split("| method |")[0]
    page = (folder / "report.html").read_text()
    expected = (
        f"What cannot be concluded: {rows} of {rows} rows are stale: an older version of bsrbench "
        "(at commit 4709244) made their records"
    )

    assert expected in first
    assert expected in page


def test_records_of_the_present_code_are_not_called_stale(no_details):
    (only,) = compare(gather([RESULTS / "quick"]).records, no_details)

    assert made_by_old_code(only.rows) == []
