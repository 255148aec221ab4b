"""What a pass's process sends and prints is read within bounds, and believed only if it fits."""

import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace

import pytest

from bsrbench.harness.cli.exits import INTERRUPTED
from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.processes import (
    log_file,
    pass_answers,
    pass_process,
    run_folder,
    sweeper,
)
from bsrbench.harness.launch.processes.pass_process import send
from bsrbench.harness.plain_data import SAID_ITEMS, plain_table, plain_text
from bsrbench.harness.records.pass_readings import PassReadings
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import PassResult, encoded

ROOT = Path(__file__).resolve().parents[3]
MARK = "7b"


@pytest.fixture
def heard():
    """Return what sends lines as a child would, and gives back what is made of them."""
    lives, stays_open = os.pipe()

    def hear(*lines, token="", timeout=60.0):
        receiver, sender = Pipe(duplex=False)
        with receiver, sender:
            sending = threading.Thread(target=lambda: [send(sender, line) for line in lines])
            sending.start()
            child = SimpleNamespace(sentinel=lives)
            result = pass_answers.wait_for(
                child, receiver, PassResult, time.monotonic(), timeout, token
            )
            receiver.close()  # what still sends gives up
            sending.join()
        return result

    yield hear
    os.close(lives)
    os.close(stays_open)


def result_of(**fields):
    return encoded(PassResult(**{"reading": PassReadings({})} | fields)).decode()


def now():
    return str(time.monotonic())


def test_a_long_answer_is_taken_whole(heard):
    """Sixty million bytes: what copied all that came before with each part took minutes."""
    result = heard(now(), result_of(reason="m" * 60_000_000))

    assert len(result.reason) == 60_000_000


def test_an_answer_without_end_is_given_up(heard, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # the pipe is closed on it
    result = heard(now(), result_of(reason="m" * 70_000_000))

    assert (result.status, result.reason) == (
        Status.CRASHED,
        "the answer of the process has more than 64 MiB",
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("[]", "not the result of a pass"),
        ("{}}", "not the result of a pass"),
        (
            '{"status": "splendid"}',
            "not the result of a pass (status: Invalid enum value 'splendid')",
        ),
        ('{"reason": 7}', "not the result of a pass (reason: "),
        (
            '{"reading": {"measurements": {"step_flop": "7"}}}',
            "not the result of a pass (reading.measurements",
        ),
        (
            '{"reading": {"measurements": {"step_flop": 1e1}, "x": ' + "[" * 999,
            "not the result of a pass",
        ),
        (
            f'{{"reading": {{"measurements": {{"step_flop": {10**30}}}}}}}',
            "not the result of a pass",
        ),
        ('{"reading": {"measurements": {"speed": 1}}}', "unknown metric 'speed'"),
        ('{"reading": {"measurements": 1}}', "not the result of a pass"),
    ],
)
def test_an_answer_that_is_none_is_an_outcome(line, why, heard):
    result = heard(now(), line)

    assert result.status == Status.CRASHED
    assert why in result.reason


def test_a_line_without_the_token_is_not_the_passes(heard):
    begun = MARK + now()
    result = heard(begun, result_of(), token=MARK)

    assert result.status == Status.CRASHED
    assert "the method wrote into the pipe" in result.reason
    assert heard(begun, MARK + result_of(), token=MARK).status == Status.COMPLETED


def test_a_pass_that_does_not_begin_is_given_up(heard, monkeypatch):
    monkeypatch.setattr(pass_answers, "START_SECONDS", 0.1)

    assert heard(timeout=None).status == Status.TIMEOUT


def test_of_a_long_log_the_end_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(log_file, "KEPT_BYTES", 100)
    with log_file.log_file(tmp_path / "logs" / "log", tmp_path) as log:
        log.write_text("x\n" * 500 + "last\x1b words\n")
    kept = log.read_bytes()

    assert kept.startswith(b"... (912 bytes before this were not kept)\n")
    assert kept.endswith(b"x\nlast\x1b words\n")
    assert log_file.last_lines(log, 2) == ["x", "last\\x1b words"]


def test_a_log_in_a_folder_that_is_a_link_goes_nowhere(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "logs").symlink_to(outside)
    with log_file.log_file(tmp_path / "logs" / "log", tmp_path) as log:
        log.write_text("x")

    assert not list(outside.iterdir())


def test_of_a_log_that_became_a_link_nothing_is_read(tmp_path):
    (tmp_path / "log").symlink_to("/etc/hostname")

    assert log_file.last_lines(tmp_path / "log", 3) == []


def test_a_log_that_went_away_costs_no_pass(tmp_path):
    """The folder is removed, or turns read-only, between the making of a log and its opening."""
    handle = pass_process._opened(str(tmp_path / "gone" / "log"))
    os.write(handle, b"printed")
    os.close(handle)

    assert not (tmp_path / "gone").exists()


def test_who_prints_without_end_is_ended(tmp_path, monkeypatch):
    log = tmp_path / "log"
    log.write_text("x" * 11)
    assert not log_file.is_too_long(log)
    monkeypatch.setattr(log_file, "MOST_BYTES", 10)

    assert log_file.is_too_long(log)


def test_a_table_is_bounded_in_width_and_depth():
    endless = []
    endless += [endless, endless]
    found = plain_table({"wide": [0] * (2 * SAID_ITEMS), "endless": endless}, "it")

    assert found["wide"][-1] == f"... ({SAID_ITEMS + 2} more)"
    assert len(json.dumps(found)) < 100_000
    assert plain_table({"x": -(2**63), "y": [math.inf, 0.5]}, "it") == {
        "x": "a whole number of 64 bits",
        "y": ["inf", 0.5],
    }


def test_what_has_no_text_has_one():
    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError

    assert plain_text(MuteError()) == "(no text: RuntimeError)"


def test_a_folder_with_too_long_a_name_for_a_socket_is_made_elsewhere(tmp_path, monkeypatch):
    long = tmp_path.joinpath(*["x" * 200] * 4)
    long.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    folder = run_folder.make_run_folder()
    folder.rmdir()

    assert len(bytes(folder)) <= run_folder.LONGEST_PATH
    assert not list(long.iterdir())
    monkeypatch.setattr(run_folder, "OTHERS", (tmp_path / "none",))
    with pytest.raises(BadInput, match=r"no folder for temporary files .* set TMPDIR"):
        run_folder.make_run_folder()


def test_a_folder_that_nobody_may_enter_is_removed_and_nothing_beside_it(tmp_path):
    folder, outside = tmp_path / "run", tmp_path / "outside"
    (folder / "closed" / "below").mkdir(parents=True)
    outside.mkdir(mode=0o755)
    (outside / "mine").write_text("x")
    (folder / "link").symlink_to(outside)
    (folder / "closed").chmod(0)
    sweeper.remove_folder(str(folder))

    assert not folder.exists()
    assert (outside / "mine").read_text() == "x"
    assert outside.stat().st_mode & 0o777 == 0o755


def test_only_what_has_the_mark_is_ended():
    with (
        subprocess.Popen(["sleep", "600"], env={sweeper.MARK: "one"}) as ours,
        subprocess.Popen(["sleep", "600"], env={sweeper.MARK: "another"}) as others,
    ):
        gone = sweeper.end_all("one", "")
        ended, goes_on = ours.wait(60), others.poll()
        others.kill()

    assert (gone, ended, goes_on) == (True, -9, None)


TWICE = """
import os, signal
from bsrbench.harness.cli.exits import Interrupts
with Interrupts():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        os.kill(os.getpid(), signal.SIGINT)
"""
WHILE_LOADING = """
import os, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from bsrbench.__main__ import start
start()
"""


@pytest.mark.parametrize("code", [TWICE, WHILE_LOADING])
def test_ctrl_c_ends_a_command_that_starts_or_ends_without_a_traceback(code):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == INTERRUPTED
    assert "Traceback" not in done.stderr
