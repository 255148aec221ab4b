"""What is checked before a run: each method, model and data set once."""

import pytest

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.launch.planning.preflight import PreflightChecks
from bsrbench.harness.launch.planning.run_plan import Planner
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.harness.workload import models, tasks


@pytest.fixture
def counted(monkeypatch):
    """Count how often a model is outlined, and how often data are opened."""
    calls = []

    def counting(module, name, what):
        original = getattr(module, name)

        def call(workload, *arguments):
            calls.append((what, workload.model if what == "model" else workload.data_name()))
            return original(workload, *arguments)

        monkeypatch.setattr(module, name, call)

    counting(models, "outline", "model")
    counting(tasks, "load", "data")
    return calls


@pytest.fixture
def look(store):
    """Return a function that checks specs beforehand, and the labels of what was checked."""
    told = []
    store.open_for_writing()

    def check(specs):
        launcher = InlineLauncher(methods.load)
        plan = Planner(store, methods.fingerprint, "m").plan(specs, again=False)
        checks = PreflightChecks(launcher.check, launcher.perform, store, told.append)
        return checks.look_for_mistakes(plan).images, told

    return check


def tries(make_spec, method, data="noise", **changes):
    """Return the trials of a tuned row: three learning rates."""
    return [
        make_spec(method, data=data, training=Training(steps=1, learning_rate=rate), **changes)
        for rate in (0.1, 0.2, 0.3)
    ]


def test_a_model_is_made_and_data_are_opened_once_for_all_rows_and_rates(make_spec, look, counted):
    specs = [spec for name in ("full", "head", "bias") for spec in tries(make_spec, name)]
    images, told = look(specs)

    assert counted == [("model", specs[0].workload.model), ("data", "noise")]
    assert told == ["checking full", "checking head", "checking bias"]
    assert images == {"noise": {"train": 20, "validation": 5, "test": 5}}


def test_another_size_is_another_model_and_other_data_are_opened(make_spec, look, counted):
    specs = [
        *tries(make_spec, "full"),
        *tries(make_spec, "full", data="digits", classes=10),
        *tries(make_spec, "head", data="digits", classes=10),
        *tries(make_spec, "full", image_size=32),
    ]
    images, _ = look(specs)

    assert [what for what, _ in counted] == ["model", "data", "model", "data", "model"]
    assert [name for what, name in counted if what == "data"] == ["noise", "digits"]
    assert set(images) == {"noise", "digits"}


def test_data_are_opened_for_the_first_row_that_trains(make_spec, look, counted):
    specs = [make_spec("full", profile=Profile(rounds=0)), *tries(make_spec, "head")]
    images, _ = look(specs)

    assert [what for what, _ in counted] == ["model", "data"]
    assert images["noise"]["train"] == 20


def test_the_method_of_every_row_is_checked(make_spec, look):
    specs = [*tries(make_spec, "full"), *tries(make_spec, "lora", options={"rank": 0})]

    with pytest.raises(BadInput, match="rank"):
        look(specs)
