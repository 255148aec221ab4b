"""Whatever stands in a suite, a record or on the command line: one clear message, no traceback."""

import io
import json
import shutil
import tomllib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import tomlkit
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from bsrbench.harness.cli import main
from bsrbench.harness.errors import BadInput
from bsrbench.harness.records.record_content import text_of
from bsrbench.harness.records.record_files import read_record
from bsrbench.harness.records.record_key import read_key
from bsrbench.harness.records.schema_upgrade import upgrade
from bsrbench.harness.records.store import gather
from bsrbench.harness.records.trial_record import TrialRecord
from bsrbench.harness.spec import suite_file
from bsrbench.harness.spec.suite import Suite
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.documents import (
    csv_table,
    html_report,
    latex_tables,
    markdown_report,
    terminal_table,
)
from tests.fuzz.mutate import places

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "results" / "late"
SMALL = suite_file.find("late").read_text(encoding="utf-8")
OFTEN = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,  # the same examples every time: a failure can be gone after
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
FEW = settings(OFTEN, max_examples=25)

names = st.text(max_size=8) | st.sampled_from(["..", "/", "../../x", "bsr", "a|b", "<b>", "\u202e"])
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)


def changed(draw, data):
    """Return data with a few values replaced, dropped or added."""
    data = json.loads(json.dumps(data))
    for _ in range(draw(st.integers(1, 3))):
        there = places(data)
        if not there:
            break
        *above, last = draw(st.sampled_from(there))
        inner = data
        for key in above:
            inner = inner[key]
        how = draw(st.sampled_from(["replace", "drop", "add"]))
        if how == "replace":
            inner[last] = draw(plain)
        elif how == "drop":
            del inner[last]
        elif isinstance(inner, dict):
            inner[draw(names)] = draw(plain)
    return data


def without_none(data):
    """Return data that TOML can say: it has no word for nothing."""
    if isinstance(data, dict):
        return {str(k): without_none(v) for k, v in data.items() if v is not None}
    return [without_none(v) for v in data if v is not None] if isinstance(data, list) else data


@st.composite
def suites(draw):
    return tomlkit.dumps(without_none(changed(draw, tomllib.loads(SMALL))))


@st.composite
def records(draw):
    """Draw records with some values changed, mostly with the key that belongs to what they say."""
    path = draw(st.sampled_from(sorted((RESULTS / "records").iterdir())))
    data = changed(draw, json.loads(path.read_text()))
    with suppress(Exception):  # the spec is none any more
        spec = TrialSpec.model_validate_json(json.dumps(upgrade(data)["spec"]))
        data["key"] = str(replace(read_key(data["key"]), trial=spec.trial_id()))
    return data


def what_comes_of(read, path):
    """Return what was read, or the message that refuses it."""
    try:
        return read(path)
    except BadInput as error:
        return str(error)


@OFTEN
@given(text=suites() | st.text() | st.binary())
def test_any_suite_is_read_or_refused(text, tmp_path):
    path = tmp_path / "any.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    before = path.read_bytes()
    found = what_comes_of(suite_file.read, path)

    assert isinstance(found, Suite) or path.name in found
    assert path.read_bytes() == before


@OFTEN
@given(data=records() | plain)
def test_any_record_is_read_or_refused(data, tmp_path):
    path = tmp_path / "any.json"
    path.write_text(json.dumps(data))
    before = path.read_bytes()
    found = what_comes_of(read_record, path)

    assert isinstance(found, TrialRecord) or path.name in found
    assert path.read_bytes() == before


@OFTEN
@given(data=records())
def test_any_record_is_read_alike_as_stored_and_written_otherwise(data, tmp_path):
    with suppress(Exception):  # of other versions, or none
        data = upgrade(data)
    stored = text_of(data)
    for name, text in (("a", stored), ("b", json.dumps(json.loads(stored)))):
        (tmp_path / name).write_text(text)
    quickly, thoroughly = (what_comes_of(read_record, tmp_path / name) for name in ("a", "b"))

    if isinstance(thoroughly, TrialRecord):
        assert quickly == thoroughly
    else:
        assert quickly.replace("/a:", "/b:") == thoroughly


@FEW
@given(data=records())
def test_any_record_that_is_read_can_be_reported(data, tmp_path):
    folder = tmp_path / "results"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "records").mkdir(parents=True)
    for path in sorted((RESULTS / "records").glob("bsr-*.json"))[:4]:
        shutil.copy(path, folder / "records")
    (folder / "records" / "any.json").write_text(json.dumps(data))
    found = gather([folder])
    comparisons = compare(found.records, found.detail)
    markdown_report.write(comparisons, [], "t", folder / "report.md")
    html_report.write(comparisons, "t", folder / "report.html")
    latex_tables.write(comparisons, "t", folder / "report.tex")
    csv_table.write(comparisons, folder / "comparison.csv")
    terminal_table.show(comparisons, Console(file=io.StringIO()))

    assert len(found.records) + len(found.aside) >= 4


COMMANDS = ("report", "compare", "export", "claims", "list", "status", "results", "new-method", "x")
WORDS = (
    *(
        "check",
        "repair",
        "merge",
        "methods",
        "suites",
        "bsr",
        "full",
        "late",
        "commit:",
        "commit:a",
    ),
    *("--results", "--fail-if", "--format", "--unlike", "--json", "--csv", "--like", "--folder"),
    *("--help", "--output", "-", "--", "", ".", "ratio(step_flop) > 1", "ratio("),
)


@pytest.fixture
def results(tmp_path):
    shutil.copytree(RESULTS, tmp_path / "late")
    return tmp_path / "late"


@FEW
@given(
    command=st.sampled_from(COMMANDS),
    # No slash: what commands write must stay in the test's own folder.
    words=st.lists(
        st.sampled_from(WORDS)
        | names.filter(lambda name: "/" not in name and name != "..")
        | st.just("LATE"),
        max_size=5,
    ),
)
def test_any_command_ends_in_words(command, words, results, monkeypatch):
    monkeypatch.chdir(results.parent)
    before = {path: path.read_bytes() for path in (results / "records").iterdir()}
    given_words = [str(results) if word == "LATE" else word for word in words]
    ended = CliRunner().invoke(main, [command, *given_words])

    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exc_info
    assert ended.exit_code in {0, 1, 2}
    assert {path: path.read_bytes() for path in (results / "records").iterdir()} == before
