"""What a run takes from the store and the stage, and what it measures again."""

import pytest
from msgspec.structs import replace

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.runner import Runner
from bsrbench.harness.launch.turns.whole_passes import WholePasses
from bsrbench.harness.records.pass_readings import DeviceSpeed, PassReadings, notes_of
from bsrbench.harness.records.remarks import NoteKind
from bsrbench.harness.records.store import Store, latest
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.harness.trial import record_assembly
from bsrbench.harness.trial.pass_result import CheckResult, PassResult, plain, read_pass


class Counting:
    """A launcher that answers at once and remembers what it was asked."""

    measures_cpu_time = False

    def __init__(self, stop_at=None, settings=None):
        self.asked, self.stop_at, self.found = [], stop_at, settings or {}

    def settings(self, device):
        return self.found

    def check(self, spec, parts):
        return CheckResult()

    def perform(self, name, spec, **_):
        if name == "speed":
            return PassResult(reading=PassReadings({}, speed=DeviceSpeed(1e9)))
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append((name, spec.label(), spec.seed))
        values = {
            "clock": {"step_seconds": [float(len(self.asked))], "evaluation_seconds": [1.0]},
            "memory": {"peak_counted_bytes": 1, "peak_allocated_bytes": 1},
            "process": {"peak_process_bytes": 1},
            "flops": {"forward_flop": 1, "step_flop": 3, "trained_parameters": 1}
            | {"total_parameters": 1, "tokens_after_block": [17]},
            "estimate": {"peak_estimated_bytes": 1},
            "training": {"accuracy_top1": 0.5, "training_seconds": 1.0, "final_loss": 1.0}
            | {"trained_parameters": 1},
        }
        return PassResult(reading=PassReadings(values[name]), start_seconds=0.1)

    def resident(self, spec, *, log=None):
        return WholePasses(lambda: self.perform("clock", spec))


@pytest.fixture
def make_runner(tmp_path, make_watcher):
    def make(launcher, fingerprint=methods.fingerprint):
        return Runner(launcher, Store(tmp_path / "results"), fingerprint, make_watcher())

    return make


@pytest.fixture
def specs(make_spec):
    profile = Profile(rounds=1, generations=2, warmup_steps=0, budget_seconds=0)
    training = Training(steps=1, learning_rate=0.1)
    return [
        *(make_spec(method, profile=profile) for method in ("full", "bsr")),
        *(make_spec(method, training=training) for method in ("full", "bsr")),
    ]


def test_profiles_are_timed_in_turns_and_the_rest_follows(make_runner, specs):
    launcher = Counting()
    runner = make_runner(launcher)
    records = runner.run(specs)
    asked = [(name, label) for name, label, _ in launcher.asked]

    assert asked[:2] == [("estimate", "full"), ("estimate", "bsr")]
    assert [label for _, label in asked[2:6]] == ["full", "bsr", "full", "bsr"]
    assert asked[6:9] == [(name, "full") for name in ("memory", "process", "flops")]
    assert asked[-2:] == [("training", "full"), ("training", "bsr")]
    assert runner.watcher.total == runner.watcher.done == len(asked)
    assert [r.measurements["step_seconds"] for r in records[:2]] == [[3.0, 5.0], [4.0, 6.0]]
    assert records[0].circumstances.round_group == records[1].circumstances.round_group
    assert [r.circumstances.round_position for r in records[:2]] == [0, 1]
    assert records[0].circumstances.timing.rounds == 2
    assert records[0].circumstances.timing.stopped_by == "budget"


def test_what_is_stored_is_not_run_again(make_runner, specs):
    make_runner(Counting()).run(specs)
    launcher = Counting()
    runner = make_runner(launcher)
    runner.run(specs)

    assert launcher.asked == []
    assert runner.watcher.said == ["4 of 4 trials are already stored"]


def test_again_runs_everything_again(make_runner, specs):
    make_runner(Counting()).run(specs)
    launcher = Counting()
    make_runner(launcher).run(specs, again=True)

    assert len(launcher.asked) == 4 + 8 + 2


def test_a_changed_source_makes_only_its_own_records_stale(make_runner, specs):
    make_runner(Counting()).run(specs)
    launcher = Counting()
    runner = make_runner(
        launcher, lambda name: "changed" if name == "bsr" else methods.fingerprint(name)
    )
    runner.run(specs)

    assert "stale, run again: bsr (the method's source has changed)" in runner.watcher.said
    assert {label for name, label, _ in launcher.asked if name != "clock"} == {"bsr"}
    assert len(list((runner.store.folder / "records").iterdir())) == 6  # the old ones are history


ON, OFF = {"TIMM_FUSED_ATTN": "1"}, {"TIMM_FUSED_ATTN": "0"}
UNDER_OTHERS = "measured under other settings: TIMM_FUSED_ATTN 0, now 1"


def test_what_was_measured_under_other_settings_is_run_again(make_runner, specs):
    make_runner(Counting(settings=OFF)).run(specs)
    launcher = Counting(settings=ON)
    runner = make_runner(launcher)
    records = runner.run(specs)

    assert f"stale, run again: full, bsr ({UNDER_OTHERS})" in runner.watcher.said
    assert not [line for line in runner.watcher.said if "already stored" in line]
    assert len([name for name, _, _ in launcher.asked if name != "clock"]) == 2 * 4 + 2
    assert [record.environment.settings for record in records] == [ON] * 4
    assert len(list((runner.store.folder / "records").iterdir())) == 8  # the old ones are history


def test_back_under_settings_of_before_what_reports_show_is_of_these_settings(
    make_runner, specs, monkeypatch
):
    """Reports show the newest record of a trial, so an older one of these settings is no answer."""
    for day, settings in enumerate((OFF, ON, OFF), start=1):
        monkeypatch.setattr(
            record_assembly, "utc_now", lambda day=day: f"2026-11-0{day}T00:00:00+00:00"
        )
        runner = make_runner(Counting(settings=settings))
        runner.run(specs)
    shown = latest(runner.store.records()[0])

    assert (
        "stale, run again: full, bsr (measured under other settings: TIMM_FUSED_ATTN 1, now 0)"
        in runner.watcher.said
    )
    assert [record.environment.settings for record in shown] == [OFF] * 4


def test_what_an_interrupted_run_staged_under_other_settings_is_not_taken(make_runner, specs):
    """Sixth asked: four visits of the clock and the memory pass of ``full`` are staged by then."""
    with pytest.raises(KeyboardInterrupt):
        make_runner(Counting(stop_at=5, settings=OFF)).run(specs)
    launcher = Counting(settings=ON)
    make_runner(launcher).run(specs)

    assert len(launcher.asked) == 4 + 8 + 2


@pytest.mark.parametrize("stop_at", range(14))
def test_an_interrupted_run_goes_on_where_it_was(stop_at, make_runner, specs):
    """Nothing that was measured is measured twice, but for a group that was not yet complete."""
    first, second = Counting(stop_at), Counting()
    with pytest.raises(KeyboardInterrupt):
        make_runner(first).run(specs)
    records = make_runner(second).run(specs)
    lost = stop_at - 2 if 2 <= stop_at < 6 else 0

    assert len(first.asked) + len(second.asked) == 14 + lost
    assert len(records) == 4


def test_a_failed_pass_ends_its_trial_and_keeps_what_was_measured(make_runner, specs):
    class Failing(Counting):
        def perform(self, name, spec, **_):
            result = super().perform(name, spec)
            failed = replace(result, status=Status.OUT_OF_MEMORY, reason="too large", reading=None)
            return failed if name == "process" else result

    records = make_runner(Failing()).run(specs[:1])

    assert records[0].outcome.status is Status.OUT_OF_MEMORY
    assert records[0].outcome.reason == "process pass: too large"
    assert records[0].measurements["peak_counted_bytes"] == 1
    assert records[0].missing["step_flop"].text == "process pass: too large"


def test_what_can_never_work_is_an_error_before_anything_runs(make_runner, specs):
    class Refusing(Counting):
        def check(self, spec, parts):
            return CheckResult(Status.CRASHED, "no such model", bad_input=True)

    launcher = Refusing()
    with pytest.raises(BadInput, match="no such model"):
        make_runner(launcher).run(specs)
    assert launcher.asked == []


def test_a_pass_result_survives_the_stage(make_runner, tmp_path):
    store = Store(tmp_path / "stage")
    store.open_for_writing()
    noted = PassReadings({"step_seconds": [1.0, 2]}, notes=notes_of(NoteKind.TIMING, ["loud"]))
    results = [
        PassResult(Status.TIMEOUT, "late", start_seconds=0.5),
        PassResult(reading=noted, set_by_method={"a": "b"}, seconds=1.5),
    ]
    for number, result in enumerate(results):
        store.stage(f"k{number}", "clock", plain(result))

    assert [read_pass(store.staged(key, "clock")) for key in ("k0", "k1")] == results
