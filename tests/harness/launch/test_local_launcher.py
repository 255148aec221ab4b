"""Passes in processes of their own: their endings, limits, logs and readings."""

import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest

from bsrbench import methods
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.launch.local_launcher import LocalLauncher
from bsrbench.harness.launch.processes import pass_answers, pass_death, pass_process
from bsrbench.harness.launch.processes.pass_limits import Limits
from bsrbench.harness.launch.processes.pass_process import PassSettings
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import Answer, encoded


@pytest.mark.parametrize(
    ("how", "status", "said"),
    [
        ("raise", Status.CRASHED, "RuntimeError: broken on purpose (at broken.py:"),
        ("unsupported", Status.UNSUPPORTED, "not this one"),
        ("memory", Status.OUT_OF_MEMORY, "allocate"),
        ("die", Status.CRASHED, "exit code 7; last output: last words"),
        ("killed", Status.CRASHED, "exit code -9"),
        ("backward", Status.CRASHED, "ZeroDivisionError"),
        ("nan", Status.DIVERGED, "the loss became nan"),
    ],
)
def test_every_way_to_fail_becomes_an_outcome(how, status, said, broken, launcher, make_spec):
    result = launcher.perform("memory", make_spec(broken, options={"how": how}))

    assert result.status == status
    assert said in result.reason


def test_a_process_that_the_kernel_killed_for_its_memory_ran_out_of_it(
    broken, launcher, make_spec, monkeypatch, tmp_path
):
    """The kernel counts its kills; one more while the child died by SIGKILL was the child."""
    counter = tmp_path / "vmstat"
    counter.write_text("pgfault 7\noom_kill 3\n")
    monkeypatch.setattr(pass_death, "OUT_OF_MEMORY_KILLS", counter)
    spec = make_spec(broken, options={"how": "oom", "counter": str(counter)})
    result = launcher.perform("memory", spec)

    assert result.status == Status.OUT_OF_MEMORY
    assert "the kernel killed the process" in result.reason


def test_a_pass_that_hangs_is_ended(broken, make_spec):
    launcher = LocalLauncher(methods.load, Limits(timeout_seconds=3))
    result = launcher.perform("memory", make_spec(broken, options={"how": "hang"}))

    assert (result.status, result.reason) == (Status.TIMEOUT, "not finished after 3 s")


@pytest.fixture
def answering(launcher):
    """Return a child that lives, the end its answers are read from, and what sends them."""
    lives, stays_open = os.pipe()
    receiver, sender = launcher._context.Pipe(duplex=False)
    with receiver, sender:
        yield (
            SimpleNamespace(sentinel=lives),
            receiver,
            lambda line: pass_process.send(sender, line),
        )
    os.close(lives)
    os.close(stays_open)


def test_the_time_of_a_pass_begins_when_it_does(answering, monkeypatch):
    """An hour in which the server still loads torch takes none of a pass's ten minutes."""
    process, receiver, send = answering
    really, waits = pass_answers.wait, []

    def answer_the_second_time(ready, left):
        waits.append(left)
        if len(waits) == 2 and left > 0:
            send(encoded(Answer()).decode())
        return really(ready, left)

    monkeypatch.setattr(pass_answers, "wait", answer_the_second_time)
    began = time.monotonic()
    send(str(began))
    result = pass_answers.wait_for(process, receiver, Answer, began - 3600, 600.0)

    assert result.status == Status.COMPLETED
    assert result.start_seconds == pytest.approx(3600)


def test_the_time_of_a_pass_ends_when_it_is_spent(answering):
    """It began an hour ago, and has ten minutes."""
    process, receiver, send = answering
    send(str(time.monotonic() - 3600))
    result = pass_answers.wait_for(process, receiver, Answer, time.monotonic() - 3600, 600.0)

    assert (result.status, result.reason) == (Status.TIMEOUT, "not finished after 600 s")


def test_what_is_checked_beforehand_has_no_limit(make_spec):
    assert LocalLauncher(methods.load, Limits(1e-6)).check(make_spec()).status == Status.COMPLETED


def test_what_a_pass_prints_is_kept_and_hurts_nothing(broken, launcher, make_spec, tmp_path):
    log = tmp_path / "log"
    result = launcher.perform("memory", make_spec(broken, options={"how": "garbage"}), log=log)

    assert result.status == Status.COMPLETED
    assert log.read_bytes().startswith(bytes(range(256)))


def test_a_log_that_cannot_be_kept_loses_no_pass(launcher, make_spec, tmp_path):
    (tmp_path / "file").write_text("where the folder should be")
    result = launcher.perform("flops", make_spec(), log=tmp_path / "file" / "log")

    assert result.status == Status.COMPLETED


def test_a_log_that_is_a_link_writes_nothing_outside(broken, launcher, make_spec, tmp_path):
    """A results folder may be somebody else's."""
    outside, log = tmp_path / "outside", tmp_path / "logs" / "log"
    outside.write_text("mine")
    log.parent.mkdir()
    log.symlink_to(outside)
    launcher.perform("memory", make_spec(broken, options={"how": "garbage"}), log=log)

    assert outside.read_text() == "mine"
    assert log.read_bytes().startswith(bytes(range(256)))


def test_a_process_starts_with_everything_slow_loaded(launcher, make_spec):
    """Loading torch, timm and peft takes seconds; a fork of a server that has them does not."""
    result = launcher._call(_is_loaded, Answer, PassSettings())

    assert (result.status, result.reason) == (Status.COMPLETED, "True")
    assert result.start_seconds > 0


def _is_loaded():
    slow = {"torch", "torch._dynamo", "timm", "peft"}
    return Answer(reason=str(slow <= set(sys.modules)))


def test_the_inline_launcher_reads_the_same(launcher, make_spec):
    inline = InlineLauncher(methods.load).perform("flops", make_spec())

    assert inline.reading == launcher.perform("flops", make_spec()).reading


def test_the_parent_sleeps_while_a_pass_runs(broken, launcher, make_spec):
    """Whatever it did would be done beside the measurement.

    Read on the clock of this process's own work, which stands still while others have the cores.
    """
    launcher.perform("flops", make_spec())  # starts the server
    hanging = LocalLauncher(methods.load, Limits(timeout_seconds=4))
    before = time.process_time()
    hanging.perform("flops", make_spec(broken, options={"how": "hang"}))

    assert time.process_time() - before < 0.4


def test_ctrl_c_is_not_for_the_children(launcher):
    """A child that gets SIGINT goes on: the parent decides."""
    result = launcher._call(_interrupt_self, Answer, PassSettings())

    assert result.status == Status.COMPLETED


def _interrupt_self():
    os.kill(os.getpid(), signal.SIGINT)
    return Answer()
