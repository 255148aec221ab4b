"""A record keeps when the first of its passes began; a folder's records say how long all took."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import torch

from bsrbench import methods
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.launch.progress import Quiet
from bsrbench.harness.launch.run_settings import RunSettings
from bsrbench.harness.launch.runner import Runner
from bsrbench.harness.profiler.training_pass import training_pass
from bsrbench.harness.records import trial_record as record_module
from bsrbench.harness.records.pass_readings import DeviceSpeed, PassReadings
from bsrbench.harness.records.run_duration import run_lengths
from bsrbench.harness.records.sidecar import Sidecar
from bsrbench.harness.records.store import Store
from bsrbench.harness.records.trial_record import Outcome, Status
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.harness.training.resume import CheckpointRequest
from bsrbench.harness.trial.pass_result import PassResult
from bsrbench.harness.trial.record_assembly import make_record
from tests.trial_records import altered, ran_in, trial_record

RECIPE = Training(steps=1, learning_rate=0.1)
UNTIMED = Profile(rounds=0)
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def at(seconds):
    """Return the time so many seconds after noon, as records hold it."""
    return (NOON + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that only goes on when a pass does; ``seconds`` may be set, back, too."""

    class Clock(datetime):
        seconds = 0

        @classmethod
        def now(cls, tz=None):  # noqa: ARG003 - as datetime has it
            return NOON + timedelta(seconds=cls.seconds)

    monkeypatch.setattr(record_module, "datetime", Clock)
    return Clock


class Taking(InlineLauncher):
    """Answers at once, and says that each pass began now and took a minute by its clock."""

    def __init__(self, clock, stop_at=None):
        super().__init__(methods.load)
        self.clock, self.stop_at, self.asked = clock, stop_at, []

    def perform(self, name, spec, **_):
        """Let a minute pass, from which on a pass is known to have begun."""
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append(name)
        began = at(self.clock.seconds)
        self.clock.seconds += 60
        values = {"step_seconds": [1.0]} if name == "clock" else {}
        speed = DeviceSpeed(1e9) if name == "speed" else None
        reading = PassReadings(values, speed=speed)
        return PassResult(reading=reading, began_at=began, seconds=60.0)


@pytest.fixture
def run(tmp_path, clock):
    """Return what runs trials and returns their records; times stand still but for passes."""

    def run(specs, stop_at=None, *, announces=False):
        runner = Runner(
            Taking(clock, stop_at),
            Store(tmp_path / "results"),
            methods.fingerprint,
            Quiet(),
            RunSettings(announces=announces),
        )
        return runner.run(specs)

    return run


def test_a_trial_began_when_its_first_pass_did(run, clock, make_spec):
    """Four passes of a minute each: memory, process, FLOPs, estimate."""
    clock.seconds = 100
    (record,) = run([make_spec(profile=UNTIMED)])

    assert (record.began_at, record.finished_at) == (at(100), at(340))
    assert record.circumstances.passes_seconds == 240.0


def test_trials_that_are_timed_in_turns_began_with_their_first_visits(run, make_spec):
    """Two visits each, in turns: full, head, head, full; which is first is drawn."""
    timed = Profile(rounds=1, generations=2, budget_seconds=0)
    records = run([make_spec(method, profile=timed) for method in ("full", "head")])

    assert sorted(record.began_at for record in records) == [at(0), at(60)]
    assert {record.circumstances.passes_seconds for record in records} == {6 * 60.0}


def test_an_interruption_does_not_move_the_beginning(run, clock, make_spec):
    specs = [make_spec(profile=UNTIMED)]
    with pytest.raises(KeyboardInterrupt):
        run(specs, stop_at=2)
    clock.seconds = 86_400  # the next day
    (record,) = run(specs)

    assert (record.began_at, record.finished_at) == (at(0), at(86_520))
    assert record.circumstances.passes_seconds == 240.0


def test_what_was_lost_by_an_interruption_is_no_beginning(run, clock, make_spec):
    """The first pass had not ended, so the trial begins anew."""
    specs = [make_spec(profile=UNTIMED)]
    with pytest.raises(KeyboardInterrupt):
        run(specs, stop_at=0)
    clock.seconds = 3600
    (record,) = run(specs)

    assert record.began_at == at(3600)


def test_a_prediction_made_beforehand_counts_where_it_serves_as_a_pass(run, clock, make_spec):
    """Predicted at 0, its speed tried at 60; the other passes from 120 on."""
    (record,) = run([make_spec(profile=UNTIMED)], announces=True)

    assert record.began_at == at(0)


def test_a_prediction_that_is_no_pass_of_the_trial_does_not_count(run, make_spec):
    (record,) = run([make_spec(training=RECIPE)], announces=True)

    assert record.began_at == at(120)


def test_a_training_that_goes_on_began_when_it_first_did(clock, make_spec, tmp_path):
    spec = make_spec(training=Training(steps=3, learning_rate=1e-3))
    request = CheckpointRequest(tmp_path / "run.pt", 0.0)
    training_pass(spec, methods.load, request)
    clock.seconds = 3600
    again = training_pass(spec, methods.load, request)

    assert torch.load(request.file, weights_only=True)["progress"]["began_at"] == at(0)
    assert again.detail.training_began_at == at(0)


def test_a_record_began_with_its_training_where_that_went_on(make_spec):
    """The pass that ended began at 3600; the steps before its checkpoint, at 0."""
    reading = PassReadings({}, detail=Sidecar(training_began_at=at(0)))
    result = PassResult(reading=reading, began_at=at(3600))
    record, _ = make_record("k", make_spec(), {"training": result}, ran_in())

    assert record.began_at == at(0)


def test_the_real_launchers_look_at_the_clock(launcher, make_spec):
    before = datetime.now(UTC) - timedelta(milliseconds=1)  # records keep no less
    for found in (launcher, InlineLauncher(methods.load)):
        result = found.perform("estimate", make_spec(profile=UNTIMED))

        assert before <= datetime.fromisoformat(result.began_at) <= datetime.now(UTC)
        assert 0 < result.seconds < 3600


@pytest.fixture
def made(make_spec):
    """Return a maker of records that began and ended some seconds after noon."""

    def made(began, finished, passes_seconds=0.0, machine="m", **environment):
        spec = make_spec()
        return trial_record(
            key=f"full-{spec.trial_id()}-source-{machine}",
            spec=spec,
            outcome=Outcome(Status.COMPLETED),
            measurements={},
            missing=dict.fromkeys(record_module.METRICS, "a test"),
            environment={"machine_id": machine, "passes_seconds": passes_seconds, **environment},
            began_at=None if began is None else at(began),
            finished_at=at(finished),
        )

    return made


def test_a_runs_length_is_from_the_first_beginning_to_the_last_end(made):
    """From 0 to 3720 s are 62 minutes; passes of 1800 and 1500 s are 55."""
    (found,) = run_lengths([made(1900, 3720, 1500.0), made(0, 1860, 1800.0)])

    assert (found.seconds, found.passes_seconds, found.trials) == (3720.0, 3300.0, 2)
    assert found.in_words() == (
        "first trial began 2026-11-26T12:00:00+00:00, last finished 2026-11-26T13:02:00+00:00, "
        "total time 1:02; the passes took 0:55"
    )


def test_one_record_that_does_not_know_leaves_no_length(made):
    (found,) = run_lengths([made(0, 60), made(None, 120)])

    assert (found.seconds, found.began_at) == (None, None)
    assert found.finished_at == "2026-11-26T12:02:00+00:00"
    assert found.in_words().endswith("1 of 2 records do not state when their trial began")


@pytest.mark.parametrize(
    "times",
    [
        [(100, 40, 0.0)],  # it ended before it began
        [(0, 300, 600.0)],  # five minutes by the clock, ten by that which nobody sets
        [(0, 600, 600.0), (0, 600, 600.0)],  # one after the other, and both at once by the clock
    ],
)
def test_a_clock_that_was_set_back_leaves_no_length(times, made):
    (found,) = run_lengths([made(*each) for each in times])

    assert (found.seconds, found.began_at) == (None, None)
    assert found.in_words().endswith("is not known: the system clock was set back during the run")


def test_trials_that_ran_at_a_time_are_no_sign_of_a_clock_set_back(made):
    (found,) = run_lengths([made(0, 600, 600.0, jobs=2), made(0, 600, 600.0, jobs=2)])

    assert found.seconds == 600.0


def test_clocks_of_two_machines_are_never_put_together(made):
    found = run_lengths([made(0, 60, machine="b"), made(7200, 7260, machine="a")])

    assert [(one.machine, one.seconds) for one in found] == [("a", 60.0), ("b", 60.0)]


@pytest.mark.parametrize("wrong", ["", "yesterday", "2026-11-26T12:00:00"])
def test_a_time_that_cannot_be_read_is_not_known(wrong, made):
    record = altered(made(0, 60), began_at=wrong)

    assert run_lengths([record])[0].seconds is None


def test_status_says_it(made, tmp_path, typed):
    store = Store(tmp_path)
    store.open_for_writing()
    store.save(made(0, 3720, 3600.0))
    code, said = typed("status", tmp_path)

    assert code == 0
    assert "total time 1:02; the passes took 1:00" in said
    assert json.loads(typed("status", tmp_path, "--json")[1])["lengths"][0]["seconds"] == 3720.0


def test_a_table_of_records_has_the_beginning(made, tmp_path, typed):
    store = Store(tmp_path / "results")
    store.open_for_writing()
    store.save(made(0, 60))
    typed("export", store.folder, "--json", tmp_path / "all.json")

    assert json.loads((tmp_path / "all.json").read_text())["began_at"] == at(0)


def test_a_stored_pass_of_an_older_program_knows_no_beginning(tmp_path, clock, make_spec, run):
    """Its file has no such key; then nothing is known, and no later time stands for it."""
    specs = [make_spec(profile=UNTIMED)]
    with pytest.raises(KeyboardInterrupt):
        run(specs, stop_at=1)
    (staged,) = (tmp_path / "results" / ".staged").glob("*.memory.json")
    kept = json.loads(staged.read_text())
    for name in ("began_at", "seconds", "set_by_method"):
        del kept[name]
    staged.write_text(json.dumps(kept))
    (record,) = run(specs)

    assert record.began_at is None
