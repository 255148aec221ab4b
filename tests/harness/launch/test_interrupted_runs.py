"""How a run is stopped and interrupted."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bsrbench import methods
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.launch.interrupts import CtrlC
from bsrbench.harness.launch.progress import Quiet
from bsrbench.harness.launch.run_settings import RunSettings
from bsrbench.harness.launch.runner import Runner
from bsrbench.harness.records.store import Store
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.harness.trial.pass_result import CheckResult
from tests.harness.launch.tiny_suite import TINY

ROOT = Path(__file__).resolve().parents[3]
UNTIMED = Profile(rounds=0)


def test_a_run_can_be_stopped_while_it_prepares(make_spec, store):
    """Ctrl-C in a terminal ends a server that is still loading, and its check with it."""
    asked = []

    class Dying(InlineLauncher):
        def check(self, spec, parts):
            asked.append(spec)
            return CheckResult(Status.CRASHED, "the process ended with exit code None")

    run_settings = RunSettings(stopping=lambda: bool(asked))
    runner = Runner(Dying(methods.load), store, methods.fingerprint, Quiet(), run_settings)
    with pytest.raises(KeyboardInterrupt):
        runner.run([make_spec()])


def test_a_run_that_is_asked_to_stop_ends_after_the_pass_that_runs(make_spec, store):
    asked = []

    class Stopping(InlineLauncher):
        def perform(self, pass_name, spec, **keeping):
            asked.append(pass_name)
            return super().perform(pass_name, spec, **keeping)

    run_settings = RunSettings(announces=False, stopping=lambda: len(asked) == 2)
    runner = Runner(Stopping(methods.load), store, methods.fingerprint, Quiet(), run_settings)
    with pytest.raises(KeyboardInterrupt):
        runner.run([make_spec(profile=UNTIMED)])
    first = list(asked)
    Runner(Stopping(methods.load), store, methods.fingerprint, Quiet()).run(
        [make_spec(profile=UNTIMED)]
    )

    assert first == ["memory", "process"]
    beforehand = ("calibration", "estimate", "speed")
    assert [name for name in asked[2:] if name not in beforehand] == ["flops"]


def test_the_first_ctrl_c_is_a_wish_and_the_second_an_order():
    heard, told = [], threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def first():
        heard.append("first")
        told.set()

    with CtrlC(first, lambda: heard.append("second")) as asked:
        os.kill(os.getpid(), signal.SIGINT)
        after_first = (told.wait(60), asked.asked, list(heard))
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)

    assert after_first == (True, True, ["first"])
    assert heard == ["first", "second"]
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_may_come_while_a_line_is_being_printed():
    """What tells the person waits for the line, which goes on only when the handler is done."""
    printing, told = threading.Lock(), threading.Event()

    def first():
        if printing.acquire(timeout=30):
            told.set()

    with CtrlC(first, lambda: None):
        with printing:
            os.kill(os.getpid(), signal.SIGINT)
        heard = told.wait(60)

    assert heard


GATED = """
import time
from dataclasses import dataclass
from pathlib import Path
from bsrbench.methods.full import FullFineTuning

@dataclass(frozen=True)
class Gated(FullFineTuning):
    '''Takes as long as the test wants: its trainings wait for a file.

    The first model with numbers is that of the calibration, for which a run waits for long.
    '''

    def prepare(self, model):
        if next(model.parameters()).is_meta:
            return model
        calibrated = Path(GATE).with_name("calibrated")
        if not calibrated.exists():
            calibrated.touch()
            return model
        while not Path(GATE).exists():
            time.sleep(0.01)
        return model
"""


@pytest.fixture
def gated_run(tmp_path):
    """Return a run of three trials of the gated method, and the gate that lets them through."""
    suite, gate, method = tmp_path / "tiny.toml", tmp_path / "gate", tmp_path / "gated.py"
    suite.write_text(TINY)
    method.write_text(f"GATE = {str(gate)!r}\n{GATED}")
    command = [sys.executable, "-m", "bsrbench", "run", str(suite), "--progress", "json"]
    command += ["--methods", f"{method}:Gated", "--results", str(tmp_path / "results")]
    quiet, heard = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=quiet, stderr=heard, text=True) as run:
        too_long = threading.Timer(300, run.kill)
        too_long.start()
        yield run, gate
        too_long.cancel()
        run.kill()


def _wait_for(run, words):
    for line in run.stderr:
        if words in line:
            return
    raise AssertionError(f"the run ended without {words!r}")


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_once_ends_cleanly_and_twice_at_once(times, gated_run, tmp_path):
    run, gate = gated_run
    _wait_for(run, ": training")
    run.send_signal(signal.SIGINT)
    _wait_for(run, "stopping after the current pass; press Ctrl-C again to stop now")
    if times == 1:
        gate.touch()
    else:
        run.send_signal(signal.SIGINT)
    said = run.stderr.read()
    stored = list((tmp_path / "results" / "records").glob("*.json"))

    assert run.wait() == 130
    assert "everything measured so far is stored" in said
    assert len(stored) == (1 if times == 1 else 0)
    assert Store(tmp_path / "results").progress()["state"] == "stopped"
