"""A store, a method that breaks in many ways, and rows with a runner for companions."""

import pytest

from bsrbench import methods
from bsrbench.harness.launch.run_settings import RunSettings
from bsrbench.harness.launch.runner import Runner
from bsrbench.harness.records.store import Store
from bsrbench.harness.trial.pass_result import PassResult
from bsrbench.harness.trial.record_assembly import make_record
from bsrbench.reports.compare.anchors import compared_with
from tests.harness.launch.counting_clock import PROFILE
from tests.trial_records import ran_in


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


BROKEN = '''
import os, signal, sys, time
from dataclasses import dataclass
import torch
from bsrbench.harness.method import Kind, Method, Unsupported

def note_own_number(path):
    with open(path + ".part", "w") as file:
        file.write(str(os.getpid()))
    os.replace(path + ".part", path)

@dataclass(frozen=True)
class Broken(Method):
    """Fails in the way it is told to."""
    how: str = "raise"
    counter: str = ""
    source = "a test"
    exact_forward = True
    kinds = frozenset({Kind.SELECTS_WEIGHTS})

    def prepare(self, model):
        if self.how == "raise":
            raise RuntimeError("broken on purpose")
        if self.how == "unsupported":
            raise Unsupported("not this one")
        if self.how == "memory":
            torch.empty(1 << 60)
        if self.how == "die":
            print("last words", flush=True)
            os._exit(7)
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "oom":
            open(self.counter, "w").write("oom_kill 4")
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "hang":
            if self.counter:
                note_own_number(self.counter)
            time.sleep(600)
        if self.how in {"forks", "forks and dies"}:
            if os.fork() == 0:
                note_own_number(self.counter)
                time.sleep(600)
            while not os.path.exists(self.counter):
                time.sleep(0.01)
            if self.how == "forks and dies":
                os._exit(7)
        if self.how == "garbage":
            os.write(1, bytes(range(256)) * 1000)
        if self.how == "backward":
            model.register_full_backward_pre_hook(lambda *_: 1 / 0)
        if self.how == "nan":
            torch.nn.init.constant_(model.head.weight, float("nan"))
        return model
'''


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(BROKEN)
    return f"{path}:Broken"


@pytest.fixture
def make_runner(tmp_path, make_watcher):
    def make(launcher, fingerprint=methods.fingerprint, **run_settings):
        how = RunSettings(**{"compared_with": compared_with} | run_settings)
        return Runner(launcher, Store(tmp_path / "results"), fingerprint, make_watcher(), how)

    return make


@pytest.fixture
def rows(make_spec):
    """Return specs of rows by their methods' names."""
    return lambda *names: [make_spec(name, profile=PROFILE) for name in names]


@pytest.fixture
def record_of():
    """Return a function that makes a record of a trial that was never run."""

    def make(spec):
        passes = {"memory": PassResult("crashed", "never run")}
        return make_record(spec.trial_id(), spec, passes, ran_in())[0]

    return make
