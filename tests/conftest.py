"""A tiny real vision transformer, a batch for it, and the shortest spec that runs."""

import os
import sys

# Processes that tests start load thousands of modules: uncompiled, that takes twice as long.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# OpenMP reads it as torch is loaded. Much of what tests start has as many threads as there are
# cores, which the tests beside want, too: threads that wait by spinning take tens of times as
# long then.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from dataclasses import fields

import pytest
import torch
from click.testing import CliRunner

from bsrbench import methods
from bsrbench.harness.cli import main
from bsrbench.harness.conformance.subject import Subject, tiny_batch, tiny_model
from bsrbench.harness.launch.local_launcher import LocalLauncher
from bsrbench.harness.launch.processes import fork_server
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.methods import find
from tests import short_calibration

NO_GPU = "torch sees no NVIDIA GPU here"


def pytest_configure():
    # Compiling costs ten seconds a kernel; tests/methods/test_kernels.py compiles and compares.
    os.environ.setdefault("BSRBENCH_KERNELS", "eager")
    torch.set_num_threads(1)  # tiny products run fastest so, and alike everywhere
    fork_server.PRELOADED += (short_calibration.__name__,)


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason=NO_GPU))


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    for marker in ("cuda", "browser", "latex"):
        left_out = [report for report in skipped if marker in report.keywords]
        if left_out:
            why = str(left_out[0].longrepr[2]).removeprefix("Skipped: ")
            said = f"{len(left_out)} {marker} tests were NOT run: {why}"
            terminalreporter.write_line(said, yellow=True)


@pytest.fixture
def make_vit():
    """Return a maker of twelve-block, width-32 models; the same seed gives the same weights."""
    return tiny_model


@pytest.fixture
def batch():
    """Return images [16, 3, 32, 32], each its class's pattern under noise, and labels [16]."""
    return tiny_batch()


@pytest.fixture
def subject_of():
    """Return a maker of subjects of a class, which is found though it has no file of its own."""

    def make(cls):
        def find_it(name):
            return cls if name == "mine" else find(name)

        def load(name, **options):
            return cls(**options) if name == "mine" else methods.load(name, **options)

        return Subject("mine", find_it, load)

    return make


@pytest.fixture
def make_spec():
    """Return a maker of specs of a real but small timm model on noise."""

    def make(method="full", *, training=None, profile=None, seed=0, options=None, **workload):
        settings = {"model": "test_vit", "image_size": 64, "batch": 4, "classes": 5}
        if training is None and profile is None:
            profile = Profile(rounds=1, generations=1, steps=1, warmup_steps=1)
        return TrialSpec(
            method=method,
            options=options or {},
            workload=Workload(**settings | workload),
            training=training,
            profile=profile,
            seed=seed,
        )

    return make


BLOCKS_OF_SIX = {
    "first": 3,
    "trained_blocks": [1, 3, 5],
    "side_blocks": [1, 3, 5],
    "drop_at": [1, 3],
}


def _options_of_six(name):
    """Return options for six blocks in the place of defaults that name blocks of twelve."""
    parts = name.split("+")
    found = {
        part: {f.name: BLOCKS_OF_SIX[f.name] for f in fields(find(part)) if f.name in BLOCKS_OF_SIX}
        for part in parts
    }
    return {part: chosen for part, chosen in found.items() if chosen} if parts[1:] else found[name]


@pytest.fixture
def make_six_spec(make_spec):
    """Return a maker of specs of a model of six blocks, with options that name some of them."""

    def make(name="full", **changes):
        return make_spec(name, **{"options": _options_of_six(name)} | changes)

    return make


@pytest.fixture
def data_root(monkeypatch, tmp_path):
    """Return an empty data root, and keep what is found out about files beside it."""
    monkeypatch.setenv("BSRBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BSRBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def short_training():
    return Training(steps=3, learning_rate=1e-3)


@pytest.fixture
def make_deep_spec(make_spec):
    """Return a maker of specs of a model with the twelve blocks that BSR's defaults name."""

    def make(method="full", **changes):
        return make_spec(method, **{"model": "deit_tiny_patch16_224"} | changes)

    return make


class Listener:
    """Watches a run: keeps what is said and how far it came, and may act on it."""

    def __init__(self, on_show=lambda _: None):
        self.said, self.total, self.done, self.on_show = [], None, 0, on_show

    def show(self, tally):
        """Note how far the run is."""
        self.total, self.done = tally.passes, tally.passes_done
        self.on_show(tally)

    def say(self, line):
        """Keep a line."""
        self.said.append(line)


@pytest.fixture
def make_watcher():
    """Return a maker of watchers; each may be given what to do whenever something is shown."""
    return Listener


@pytest.fixture(scope="session")
def launcher():
    """Return the real launcher: every pass in a clean process."""
    return LocalLauncher(methods.load)


@pytest.fixture
def typed():
    """Return what types a command and gives back its exit code and all it printed."""

    def run(*arguments):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.output

    return run
