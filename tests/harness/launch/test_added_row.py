"""A method added to a finished suite: a tiny real one, by the command line."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bsrbench.harness.cli import main
from bsrbench.harness.records.store import Store

ROOT = Path(__file__).resolve().parents[3]
SUITE = """
description = "tiny"
seeds = [0]
[workload]
model = "vit_tiny_patch16_224"
image_size = 32
data = "noise"
classes = 5
batch = 2
threads = 1
[profile]
rounds = 1
generations = 2
steps = 1
warmup_steps = 1
budget_seconds = 0
[[methods]]
method = "full"
[[methods]]
method = "bsr"
[[methods]]
method = "head"
"""
ROW = '[[methods]]\nmethod = "norm"\n'


def typed(*arguments):
    """Type a command and return its exit code and all that it printed."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def stored_files(folder):
    """Return what every file holds that a record stands in or comes from."""
    return {
        path: path.read_bytes()
        for name in ("records", "details", "logs")
        for path in (folder / name).glob("*")
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("suite")


@pytest.fixture(scope="module")
def mine(folder):
    path = folder / "mine.py"
    path.write_text(
        (ROOT / "methods" / "bias.py").read_text().replace("class BitFit", "class Mine")
    )
    return f"{path}:Mine"


@pytest.fixture(scope="module")
def suite(folder):
    path = folder / "tiny.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def finished(folder, suite):
    """Return the results of the suite as it was at first, and what its files hold."""
    code, said = typed("run", suite, "--results", folder / "results")
    assert code == 0, said
    return folder / "results", stored_files(folder / "results")


@pytest.fixture(scope="module")
def added(finished, suite, mine):
    """Return what is said before and while a method is added that the suite does not name."""
    results, _ = finished
    asked = ("run", suite, "--results", results, "--methods", mine)
    planned, ran = typed(*asked, "--dry-run"), typed(*asked)
    assert (planned[0], ran[0]) == (0, 0), planned[1] + ran[1]
    return planned[1], ran[1]


@pytest.fixture(scope="module")
def grown(added, finished, suite):
    """Return what is said where the suite has got another row."""
    suite.write_text(SUITE + ROW)
    code, said = typed("run", suite, "--results", finished[0])
    assert code == 0, said
    return said


def compared(results, new, baseline):
    """Return what is found of the time of a step, and why there is no ratio."""
    code, said = typed("compare", new, baseline, "--results", results, "--format", "json")
    assert code == 0, said
    (contrast,) = json.loads(said)
    (found,) = (one for one in contrast["findings"] if one["metric"] == "step_seconds")
    return found


def test_the_plan_says_what_will_be_timed_again(added, mine):
    said = (
        f"  bsr, full are stored and will be timed again, in turns with {mine}: only times "
        "measured in turns can be compared; the stored records do not change\n"
    )

    assert all(said in printed for printed in added)


def test_no_stored_file_changes(grown, finished, mine):
    results, before = finished
    after = stored_files(results)

    assert len(before) >= 3 * 2
    assert {path: after[path] for path in before} == before
    code, said = typed("results", "check", results)

    assert code == 0
    assert said.splitlines() == [
        f"1 records (not checked: their methods do not come with bsrbench): {mine} 1",
        "5 records, no damaged files",
    ]


def test_a_row_that_the_suite_has_got_takes_turns_as_well(grown, finished):
    assert "3 of 4 trials are already stored" in grown
    assert "bsr, full are stored and will be timed again, in turns with norm" in grown
    records = {record.spec.method: record for record in Store(finished[0]).records()[0]}

    assert set(records["norm"].beside) == {records["full"].key, records["bsr"].key}
    assert {len(times["step_seconds"]) for times in records["norm"].beside.values()} == {2}


@pytest.mark.parametrize("pair", ["head bsr", "bsr full", "NEW bsr", "NEW full", "norm full"])
def test_old_and_new_comparisons_are_given(pair, grown, finished, mine):
    new, baseline = pair.replace("NEW", mine).split()
    found = compared(finished[0], new, baseline)

    assert found["ratio"] > 0
    assert found["pairs"] == 2


@pytest.mark.parametrize("pair", ["NEW head", "norm NEW"])
def test_a_pair_that_took_no_turns_says_why_there_is_no_ratio(pair, grown, finished, mine):
    new, baseline = pair.replace("NEW", mine).split()
    found = compared(finished[0], new, baseline)

    assert (found["ratio"], found["pairs"]) == (None, 0)
    assert found["verdict"]["why"] == "not timed in turns with each other"


def test_the_report_has_every_ratio_to_the_reference(grown, finished):
    """The note under the table says that seconds of the three groups do not compare."""
    report = (finished[0] / "report.md").read_text()
    rows = [line for line in report.splitlines() if line.startswith("| ")][2:]
    ratios = [row.split(" | ")[9] for row in rows[:5]]

    assert "× full" in report
    assert all("×" in ratio for ratio in ratios), ratios
    assert "rows were timed in 3 round groups" in report
    assert "no ratio of times to full" not in report


def test_the_folder_can_be_merged_and_exported(grown, finished, folder):
    results, _ = finished
    merged = typed("results", "merge", folder / "copy", results)
    exported = typed("export", folder / "copy", "--json", folder / "all.json")
    lines = [json.loads(line) for line in (folder / "all.json").read_text().splitlines()]
    beside = {line["method"]: json.loads(line["beside"]) for line in lines}

    assert (merged[0], exported[0]) == (0, 0)
    assert typed("results", "check", folder / "copy")[0] == 0
    assert set(beside["norm"]) == {
        line["key"] for line in lines if line["method"] in ("full", "bsr")
    }
    assert beside["head"] == {}
    assert typed("compare", "norm", "bsr", "--results", folder / "copy")[0] == 0
