"""What is checked before a run: each method, model and data set once."""

from threading import Barrier

import pytest

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.launch.planning.row_checks import CheckedRows, RowChecks
from bsrbench.harness.launch.side_by_side import checks_at_a_time
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.harness.trial.pass_result import CheckResult
from bsrbench.harness.workload import models, tasks

GIB = 2**30


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
def look():
    """Return a function that checks specs as several runs of one command would.

    It returns the numbers of images that are known, and what was checked.
    """
    told, known = [], CheckedRows()

    def check(specs, at_a_time=1):
        launcher = InlineLauncher(methods.load)
        RowChecks(launcher.check, told.append, known, at_a_time).look_for_mistakes(specs)
        return known.images, told

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


def test_a_later_run_of_the_same_command_checks_only_new_rows(make_spec, look, counted):
    look(tries(make_spec, "full"))
    _, told = look([*tries(make_spec, "full", seed=5), *tries(make_spec, "head")])

    assert told == ["checking full", "checking head"]
    assert [what for what, _ in counted] == ["model", "data"]


def test_a_row_that_was_only_profiled_opens_its_data_when_it_trains(make_spec, look, counted):
    look([make_spec("full", profile=Profile(rounds=0))])
    images, told = look(tries(make_spec, "full"))

    assert told == ["checking full", "checking full"]
    assert [what for what, _ in counted] == ["model", "data"]
    assert images["noise"]["train"] == 20


def test_a_row_with_a_mistake_is_not_known(make_spec, look):
    wrong = tries(make_spec, "lora", options={"rank": 0})
    for _ in range(2):
        with pytest.raises(BadInput, match="rank"):
            look(wrong)


def test_checks_that_open_no_files_run_side_by_side_and_the_first_mistake_is_told(make_spec):
    """Three rows of one model: the checks of the second and the third meet."""
    meeting = Barrier(2, timeout=10)

    def check(spec, parts):
        if not parts.model:
            meeting.wait()
            return CheckResult(Status.CRASHED, f"{spec.method} is wrong")
        return CheckResult(images={"train": 20})

    specs = [make_spec(name, profile=Profile(rounds=0)) for name in ("full", "head", "bias")]
    with pytest.raises(BadInput, match=r"^head is wrong$"):
        RowChecks(check, lambda _: None, CheckedRows(), 2).look_for_mistakes(specs)


@pytest.mark.parametrize(
    ("cores", "free_bytes", "expected"),
    [(16, 64 * GIB, 16), (16, 5 * GIB - 1, 4), (2, None, 2), (2, 0, 1)],
)
def test_checks_share_cores_and_memory(monkeypatch, cores, free_bytes, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))

    assert checks_at_a_time(free_bytes) == expected
