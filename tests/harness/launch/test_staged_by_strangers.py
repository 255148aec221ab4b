"""What an interrupted run, a search or a report has kept: taken if it is that, else made anew."""

import json
import os
import time

import pytest

from bsrbench import methods
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.launch.run_settings import RunSettings
from bsrbench.harness.launch.runner import Runner
from bsrbench.harness.records.store import Store
from bsrbench.harness.search.candidate_costs import _read
from bsrbench.harness.search.search_effort import remembered
from bsrbench.harness.spec.trial_spec import Profile

READING = {"measurements": {}, "missing": {}, "notes": [], "detail": {}}
NAMES = {"operators": [], "operator": [], "phases": [], "phase": [], "modules": [], "module": []}
TIMELINE = {"timeline": {"index": [1], "live_bytes": [1], **NAMES}}  # lists of other lengths
GOOD = {"status": "completed", "reading": READING}
STAGED = {
    "empty": "{}",
    "list": "[]",
    "number": "5",
    "deep": "[" * 100_000,
    "surrogate": '{"status": "\\ud800"}',
    "no reading": json.dumps({"status": "completed", "reading": {}}),
    "status": json.dumps(GOOD | {"status": "fine"}),
    "field": json.dumps(GOOD | {"more": 1}),
    "reason": json.dumps(GOOD | {"reason": 7}),
    "device": json.dumps(GOOD | {"device": "cpu"}),
    "notes": json.dumps(GOOD | {"reading": READING | {"notes": [7]}}),
    "note": json.dumps(GOOD | {"reading": READING | {"notes": ["no kind"]}}),
    "timeline": json.dumps(GOOD | {"reading": READING | {"detail": {"counted": TIMELINE}}}),
    "measurements": json.dumps(GOOD | {"reading": READING | {"measurements": [1]}}),
    "metric": json.dumps(GOOD | {"reading": READING | {"measurements": {"speed": 1}}}),
    "value": json.dumps(GOOD | {"reading": READING | {"measurements": {"step_flop": "x"}}}),
    "float": json.dumps(GOOD | {"seconds": 1e308}),
}


class Telling:
    """Keeps the lines that a person should read."""

    def __init__(self):
        self.lines = []

    def show(self, tally):
        pass

    def say(self, line):
        self.lines.append(line)


@pytest.fixture
def run(tmp_path):
    """Return a runner of trials in this process, and what it told."""

    def once(spec):
        told = Telling()
        store, how = Store(tmp_path / "results"), RunSettings(announces=False)
        launcher = InlineLauncher(methods.load)
        (record,) = Runner(launcher, store, methods.fingerprint, told, how).run([spec])
        return record, told.lines

    return once


@pytest.mark.parametrize("kind", [*STAGED, "pipe"])
def test_a_staged_pass_that_cannot_be_used_is_run_again_and_named(kind, run, make_spec, tmp_path):
    spec = make_spec(profile=Profile(rounds=0, only_predict=True))
    undisturbed, told = run(spec)
    assert told == []
    (path,) = (tmp_path / "results" / "records").iterdir()
    path.unlink()
    staged = tmp_path / "results" / ".staged" / f"{undisturbed.key}.estimate.json"
    if kind == "pipe":
        os.mkfifo(staged)
    else:
        staged.write_text(STAGED[kind])
    record, told = run(spec)

    assert record.measurements == undisturbed.measurements
    said = f"the stored estimate of {undisturbed.key} cannot be used"
    assert [said in line for line in told] == [True]
    assert not staged.exists()


def test_a_staged_value_that_no_record_can_hold_becomes_a_reason(run, make_spec, tmp_path):
    spec = make_spec(profile=Profile(rounds=0, only_predict=True))
    key = run(spec)[0].key
    (path,) = (tmp_path / "results" / "records").iterdir()
    path.unlink()
    measured = {"peak_estimated_bytes": -1, "curve_steps": [1], "step_seconds": []}
    found = GOOD | {"reading": READING | {"measurements": measured}}
    Store(tmp_path / "results").stage(key, "estimate", found)
    record, told = run(spec)

    assert told == []
    assert record.measurements["peak_estimated_bytes"] is None
    assert record.missing["peak_estimated_bytes"].text == (
        "was measured, and is -1, expected a number of at least 0 below 2**63"
    )
    assert "curve_steps 1, curve_seconds 0" in record.missing["curve_steps"].text
    assert Store(tmp_path / "results").records() == ([record], [])


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "5", "{}x", "[" * 100_000, '{"a": 5}', '{"a": {"peak_bytes": "x"}}'),
        *('{"a": {"peak_bytes": 1e308}}', '{"a": {"reason": null}}', "\0"),
    ],
    ids=lambda text: text[:30],
)
def test_predictions_of_another_type_are_made_again(text, tmp_path):
    (tmp_path / "costs.json").write_text(text)

    assert _read(tmp_path / "costs.json") == {}


def test_a_pipe_in_the_place_of_what_a_search_keeps_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "kept.json")

    assert _read(tmp_path / "kept.json") == {}
    assert remembered(tmp_path / "kept.json", {"a": 1}, lambda: 7) == 7
    assert remembered(tmp_path / "kept.json", {"a": 1}, lambda: 9) == 7


@pytest.mark.parametrize("first", ["-1", "0", "true", "[1]", "1e3", "1" * 400, '"7"'])
def test_a_number_of_settings_that_no_search_has_is_decided_anew(first, tmp_path):
    path = tmp_path / "kept.json"
    remembered(path, {"a": 1}, lambda: 5)
    path.write_text(path.read_text().replace("5}", f"{first}}}"))

    assert remembered(path, {"a": 1}, lambda: 7) == 7


@pytest.fixture
def folder(tmp_path):
    """Return an empty results folder."""
    Store(tmp_path / "results").open_for_writing()
    return tmp_path / "results"


PROGRESS = {
    "state": "running",
    "pid": 1,
    "host": "nowhere",
    "at": 1e9,
    "trials": 3,
    "completed": 1,
    "failed": 0,
    "left_seconds": 60.0,
    "what": "timing \x1b]0;PWNED\x07",
}


@pytest.mark.parametrize(
    "text",
    [
        *("{}", "[]", "5", "[" * 100_000, '{"state": "\\ud800"}'),
        *(
            json.dumps(PROGRESS | change)
            for change in (
                {"state": "\x1b]0;PWNED\x07"},
                {"pid": "x"},
                {"pid": 2**40},
                {"pid": -1},
                {"pid": True},
                {"host": None},
                {"at": 1e308},
                {"at": "now"},
                {"trials": [1]},
                {"completed": None},
                {"left_seconds": "long"},
                {"left_seconds": 10**400},
                {"what": 7},
            )
        ),
    ],
    ids=lambda text: text[-40:],
)
def test_a_file_of_progress_that_no_run_writes_is_named_by_status(text, folder, typed):
    (folder / ".staged" / "progress.run").write_text(text)
    code, said = typed("status", folder)

    assert code == 0
    assert "progress.run: " in said
    assert "no run has written its progress here" in said
    assert "\x1b" not in said
    assert typed("status", folder, "--json")[0] == 0


def test_what_a_run_says_of_itself_acts_on_no_terminal(folder, typed):
    progress = PROGRESS | {"at": time.time() + 60}  # as if it was written just now
    (folder / ".staged" / "progress.run").write_text(json.dumps(progress))
    said = typed("status", folder)[1]

    assert "1 of 3 trials done, 0 failed, about 60 s left" in said
    assert r"timing \x1b]0;PWNED\x07" in said


def test_what_a_run_has_kept_and_nobody_can_use_is_put_aside(folder, typed):
    staged = folder / ".staged"
    (staged / "progress.run").write_text("{}")
    (staged / "a.clock.json").write_text("[]")
    os.mkfifo(staged / "b.clock.json")
    (staged / "c.checkpoint.pt").symlink_to("/dev/zero")
    Store(folder).stage("d", "clock", GOOD)
    code, said = typed("results", "check", folder)

    assert code == 1
    assert "4 files to repair" in said
    assert typed("results", "repair", folder)[0] == 0
    assert typed("results", "check", folder)[0] == 0
    assert [path.name for path in staged.iterdir()] == ["d.clock.json"]
    assert sorted(path.name for path in (folder / "aside").iterdir()) == [
        "staged-a.clock.json",
        "staged-b.clock.json",
        "staged-c.checkpoint.pt",
        "staged-progress.run",
    ]
