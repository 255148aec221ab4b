"""What a run tells of how far it is, and of what failed."""

import json
import os
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from bsrbench.harness.launch.forecasting.work_left import Piece, WorkLeft
from bsrbench.harness.launch.progress import JsonLines, Quiet, StatusWriter, TerminalProgress
from bsrbench.harness.launch.run_tally import Tally
from tests.harness.launch.tiny_suite import TINY

FIVE_MINUTES = {("a", "training"): Piece("training", 300.0)}

ROOT = Path(__file__).resolve().parents[3]


def test_scripts_read_lines_of_json(capsys):
    watcher = JsonLines(Console(stderr=True))
    watcher.say("  a line [bold]")
    watcher.show(Tally(trials=3, completed=1, failed=1, what="x" * 300))
    said, count = (json.loads(line) for line in capsys.readouterr().err.splitlines())

    assert said == {"event": "said", "line": "a line [bold]"}
    assert (count["event"], count["left"], count["what"]) == ("progress", 1, "x" * 300)


def test_a_terminal_shows_what_failed_and_when_it_ends(capsys):
    console = Console(force_terminal=True, width=120)
    with TerminalProgress(console) as progress:
        progress.show(
            Tally(passes=4, passes_done=1, failed=2, work=WorkLeft(FIVE_MINUTES), what="now")
        )

    assert "5 min left, 2 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("pid", "state", "said"),
    [
        (None, "running", "running: 1 of 3 trials done, 0 failed, about 5 min left"),
        (2**22 + 1, "running", "killed: 1 of 3 trials done, 0 failed; run the suite again"),
        (None, "finished", "finished: 1 of 3 trials done"),
    ],
)
def test_another_terminal_learns_how_a_run_goes_on(pid, state, said, store, typed, monkeypatch):
    store.open_for_writing()
    status_writer = StatusWriter(Quiet(), store)
    own = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid or own)
    status_writer.show(
        Tally(trials=3, completed=1, work=WorkLeft(FIVE_MINUTES), what="timing full")
    )
    monkeypatch.undo()
    if state != "running":
        status_writer.end(state)
    code, printed = typed("status", store.folder)

    assert code == 0
    assert said in printed
    assert json.loads(typed("status", store.folder, "--json")[1])["trials"] == 3


def test_a_folder_nobody_writes_into_says_so(tmp_path, typed):
    shutil.copytree(ROOT / "results" / "quick" / "records", tmp_path / "records")

    assert "no run has written its progress here" in typed("status", tmp_path)[1]
    assert typed("status", ROOT / "docs")[0] == 2


def test_a_failing_trial_shows_the_end_of_its_log(tmp_path, typed):
    """The traceback stands in the log, its last lines on the screen."""
    path = tmp_path / "failing.py"
    source = (ROOT / "methods" / "head.py").read_text().replace("LinearProbe", "Failing")
    path.write_text(source.replace("        return model\n", "        1 / 0\n"))
    suite = tmp_path / "tiny.toml"
    suite.write_text(TINY)
    results = tmp_path / "results"
    code, said = typed(
        *("run", suite, "--methods", f"{path}:Failing", "--seeds", 1, "--results", results)
    )
    (log,) = (results / "logs").glob("*.training.log")

    assert code == 1
    assert "  | ZeroDivisionError: division by zero" in said
    assert f"log: {log}" in said
    assert "Traceback" in log.read_text()
