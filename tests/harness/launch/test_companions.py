"""A row added to a finished suite takes turns with stored rows, whose records stay as they are."""

import pytest

from bsrbench import methods
from bsrbench.harness.launch.group_times import all_staged
from bsrbench.harness.launch.planning.run_plan import STALE
from bsrbench.harness.launch.run_settings import RunSettings
from bsrbench.harness.launch.runner import Runner
from bsrbench.harness.records.store import Store
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.harness.trial.trial_passes import PassResult
from bsrbench.reports.compare.anchors import compared_with

PROFILE = Profile(rounds=2, steps=1, warmup_steps=0, budget_seconds=0)
OTHERS = {
    "memory": {"peak_counted_bytes": 1, "peak_allocated_bytes": 1},
    "process": {"peak_process_bytes": 1},
    "flops": {"forward_flop": 1, "step_flop": 3, "trained_parameters": 1},
    "estimate": {"peak_estimated_bytes": 1},
}


class Counting:
    """A launcher that answers at once: the nth clock pass it is asked for takes n seconds."""

    def __init__(self, stop_at=None, failing=(), noisy=(), settings=None):
        self.asked, self.stop_at, self.found = [], stop_at, settings or {}
        self.failing, self.noisy = failing, noisy

    def settings(self, device):
        """Return the settings that were given."""
        return self.found

    def check(self, spec):
        """Find nothing wrong."""
        return PassResult()

    def perform(self, name, spec, *, log=None, **_):
        """Answer, or be interrupted."""
        if name == "speed":
            return PassResult(reading={"detail": {"flop_per_second": 1e9}})
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append((name, spec.method))
        if name == "clock" and spec.method in self.failing:
            return PassResult(Status.CRASHED, "broken")
        if log:
            log.parent.mkdir(exist_ok=True)
            log.write_text(f"pass {len(self.asked)}")
        values = OTHERS.get(name) or {
            "step_seconds": [float(len(self.timed()))],
            "evaluation_seconds": [0.5],
        }
        notes = ["loud"] if name == "clock" and spec.method in self.noisy else []
        reading = {"measurements": values, "missing": {}, "notes": notes, "detail": {}}
        return PassResult(reading=reading, start_seconds=0.1)

    def timed(self):
        """Return the methods that the clock visited, in order."""
        return [method for name, method in self.asked if name == "clock"]


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


def files(folder):
    """Return what every file of a results folder holds, but what a run says of its progress."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "progress.run"
    }


def by_method(records):
    return {record.spec.method: record for record in records}


def test_a_new_row_takes_turns_with_the_stored_reference_and_baseline(make_runner, rows):
    """Only the new row is named; of three stored ones full and bsr are visited again.

    The nth visit takes n seconds, and the second of two rounds runs backwards.
    """
    stored = by_method(make_runner(Counting()).run(rows("full", "bsr", "head")))
    launcher = Counting()
    (new,) = make_runner(launcher).run(rows("lora"))
    first, last = launcher.timed()[:3], launcher.timed()[3:]
    visits = {name: [first.index(name) + 1.0, last.index(name) + 4.0] for name in first}

    assert sorted(first) == ["bsr", "full", "lora"]
    assert last == first[::-1]
    assert new.measurements["step_seconds"] == visits["lora"]
    assert new.beside == {
        stored[name].key: {"step_seconds": visits[name], "evaluation_seconds": [0.5, 0.5]}
        for name in ("full", "bsr")
    }
    assert new.environment["round_group"] != stored["full"].environment["round_group"]
    assert new.environment["round_position"] == first.index("lora")


def test_what_is_stored_stays_as_it_is_byte_for_byte(make_runner, rows):
    runner = make_runner(Counting())
    runner.run(rows("full", "bsr", "head"))
    before = files(runner.store.folder)
    make_runner(Counting()).run(rows("full", "bsr", "head", "lora"))
    after = files(runner.store.folder)

    assert len(before) > 3 * 3
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("late", ["full", "bsr"])
def test_a_reference_or_baseline_that_comes_late_takes_turns_with_every_stored_row(
    late, make_runner, rows
):
    others = [name for name in ("full", "bsr", "head", "lora") if name != late]
    stored = make_runner(Counting()).run(rows(*others))
    launcher = Counting()
    new = by_method(make_runner(launcher).run(rows(late, *others)))

    assert sorted(launcher.timed()[:4]) == ["bsr", "full", "head", "lora"]
    assert set(new[late].beside) == {record.key for record in stored}
    assert by_method(stored) == {name: new[name] for name in others}


def test_without_reference_and_baseline_a_new_row_takes_turns_with_every_stored_one(
    make_runner, rows
):
    stored = make_runner(Counting()).run(rows("head", "bias"))
    (new,) = make_runner(Counting()).run(rows("lora"))

    assert set(new.beside) == {record.key for record in stored}


def test_several_new_rows_take_turns_with_each_other_and_hold_the_same(make_runner, rows):
    make_runner(Counting()).run(rows("full", "bsr"))
    first, second = make_runner(Counting()).run(rows("lora", "head"))

    assert first.environment["round_group"] == second.environment["round_group"]
    assert first.beside == second.beside
    assert len(first.beside) == 2


def test_rows_of_other_questions_take_no_turns(make_runner, rows, make_spec):
    larger = [make_spec(name, profile=PROFILE, batch=8) for name in ("full", "bsr")]
    make_runner(Counting()).run(larger)
    launcher = Counting()
    (new,) = make_runner(launcher).run(rows("lora"))

    assert launcher.timed() == ["lora", "lora"]
    assert new.beside == {}


def test_records_of_another_machine_take_no_turns(make_runner, rows):
    runner = make_runner(Counting())
    for record in runner.run(rows("full", "bsr")):
        elsewhere = record.environment | {"machine_id": "elsewhere"}
        runner.store.save(record.model_copy(update={"environment": elsewhere}), {})
    (new,) = make_runner(Counting()).run(rows("lora"))

    assert new.beside == {}


def test_rows_measured_under_other_settings_take_no_turns(make_runner, rows):
    make_runner(Counting(settings={"TIMM_FUSED_ATTN": "0"})).run(rows("full", "bsr"))
    launcher = Counting(settings={"TIMM_FUSED_ATTN": "1"})
    runner = make_runner(launcher)
    (new,) = runner.run(rows("lora"))

    assert launcher.timed() == ["lora", "lora"]
    assert new.beside == {}
    assert [line for line in runner.watcher.said if "no ratio of times" in line] == [
        f"  no ratio of times between lora and bsr, full: {STALE}"
    ]


def test_an_axis_makes_no_row_the_reference(make_runner, make_spec, rows):
    """With the plain row there, 'full (micro-batch 2)' is a row like others."""
    lean = make_spec("full", profile=PROFILE, micro_batch=2)
    stored = make_runner(Counting()).run([*rows("full", "bsr"), lean])
    (new,) = make_runner(Counting()).run(rows("lora"))

    assert set(new.beside) == {record.key for record in stored[:2]}


def test_a_row_profiled_twice_takes_turns_as_reports_show_it(make_runner, make_spec, rows):
    """Of two profiles that measured as much it is the newer one."""
    make_runner(Counting()).run(rows("full", "bsr"))
    more = make_spec("full", profile=PROFILE.model_copy(update={"rounds": 3}))
    (newer,) = make_runner(Counting()).run([more])
    (new,) = make_runner(Counting()).run(rows("lora"))

    assert newer.key in new.beside
    assert len(new.beside) == 2


def test_a_companion_that_fails_costs_its_ratio_and_nothing_else(make_runner, rows):
    stored = by_method(make_runner(Counting()).run(rows("full", "bsr")))
    runner = make_runner(Counting(failing=["full"]))
    (new,) = runner.run(rows("lora"))
    said = (
        "full, which is stored, was timed again in turns with the new rows and did not complete "
        "(crashed: broken): there is no ratio of their times to it"
    )

    assert new.outcome.status is Status.COMPLETED
    assert set(new.beside) == {stored["bsr"].key}
    assert new.notes == [said]
    assert said in runner.watcher.said
    assert runner.store.record(stored["full"].key) == stored["full"]


def test_a_disturbed_companion_is_noted_as_a_disturbed_time(make_runner, rows):
    make_runner(Counting()).run(rows("full", "bsr"))
    (new,) = make_runner(Counting(noisy=["bsr"])).run(rows("lora"))

    assert new.notes == [
        "timing: of bsr, timed again in turns with it, 2 of 2 visits were disturbed; loud"
    ]


def test_nobody_is_timed_again_for_rows_that_have_failed(make_runner, rows):
    make_runner(Counting()).run(rows("full", "bsr"))
    launcher = Counting(failing=["lora"])
    (new,) = make_runner(launcher).run(rows("lora"))

    assert len(launcher.timed()) <= 3  # the round in which it failed
    assert new.outcome.reason == "clock pass: broken"


def said_of(runner):
    return [line for line in runner.watcher.said if "timed again" in line or "no ratio" in line]


def test_the_plan_says_what_will_be_timed_again_and_why(make_runner, rows):
    make_runner(Counting()).run(rows("full", "bsr", "head"))
    launcher = Counting()
    runner = make_runner(launcher)
    runner.run(rows("full", "bsr", "head", "lora"), dry=True)

    said = (
        "  bsr, full are stored and will be timed again, in turns with lora: only times taken in "
        "turns have a ratio; what is stored stays as it is"
    )
    assert runner.watcher.said[0] == "3 of 4 trials are stored already"
    assert said_of(runner) == [said]
    assert launcher.timed() == []


def test_the_plan_counts_the_visits_of_companions(make_runner, rows):
    """Three members of two rounds are six visits; four other passes of the one new row."""
    make_runner(Counting()).run(rows("full", "bsr"))
    runner = make_runner(Counting())
    runner.run(rows("lora"))

    assert runner.watcher.total == runner.watcher.done == 3 * 2 + 4


def test_a_stale_baseline_is_not_timed_under_its_old_record(make_runner, rows):
    def changed(name):
        return "changed" if name == "bsr" else methods.fingerprint(name)

    stored = by_method(make_runner(Counting()).run(rows("full", "bsr")))
    runner = make_runner(Counting(), changed)
    (new,) = runner.run(rows("lora"))

    assert set(new.beside) == {stored["full"].key}
    assert (
        "  no ratio of times between lora and bsr: stale (a source or a setting has changed "
        "since), to be run again"
    ) in said_of(runner)


@pytest.fixture
def own_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("from bsrbench.methods.head import LinearProbe as Mine\n")
    return f"{path}:Mine"


@pytest.mark.parametrize("named", [True, False])
def test_a_file_is_run_for_others_only_where_the_command_names_it(
    named, make_runner, rows, own_file
):
    """The baseline comes late, so every stored row would take turns with it."""
    (mine,) = make_runner(Counting()).run(rows(own_file))
    runner = make_runner(Counting(), trusted=(own_file,) if named else ())
    (new,) = runner.run(rows("bsr"))

    assert set(new.beside) == ({mine.key} if named else set())
    assert any("a file is run only where" in line for line in said_of(runner)) != named


@pytest.mark.parametrize("stop_at", range(11))
def test_an_interrupted_addition_goes_on_where_it_was(stop_at, make_runner, rows):
    """Nothing is measured twice, but for a group that was not yet complete: 2 rounds of 4 visits.

    Before it two estimates are made, behind it three passes for each of the two new rows.
    """
    stored = make_runner(Counting()).run(rows("full", "bsr"))
    first, second = Counting(stop_at), Counting()
    with pytest.raises(KeyboardInterrupt):
        make_runner(first).run(rows("lora", "head"))
    runner = make_runner(second)
    records = runner.run(rows("lora", "head"))
    lost = stop_at - 2 if 2 <= stop_at < 10 else 0

    assert len(first.asked) + len(second.asked) == 2 + 8 + 6 + lost
    assert len({record.environment["round_group"] for record in records}) == 1
    assert [set(record.beside) for record in records] == [{r.key for r in stored}] * 2
    assert all_staged(runner.store) == {}


def test_again_times_a_row_beside_the_stored_ones(make_runner, rows):
    """What an interrupted run has left is not taken for it."""
    runner = make_runner(Counting())
    stored = by_method(runner.run(rows("full", "bsr", "head")))
    launcher = Counting()
    (new,) = make_runner(launcher).run(rows("head"), again=True)

    assert sorted(launcher.timed()[:3]) == ["bsr", "full", "head"]
    assert set(new.beside) == {stored["full"].key, stored["bsr"].key}
    assert runner.store.record(stored["bsr"].key) == stored["bsr"]


def test_again_takes_no_times_that_an_interrupted_run_has_left(make_runner, rows):
    """One estimate and two visits are made before the interruption, and the times are staged."""
    with pytest.raises(KeyboardInterrupt):
        make_runner(Counting(stop_at=3)).run(rows("full"))
    launcher = Counting()
    runner = make_runner(launcher)
    runner.run(rows("full"), again=True)

    assert launcher.timed() == ["full", "full"]
    assert [name for name, _ in launcher.asked].count("memory") == 1
    assert all_staged(runner.store) == {}


def test_other_rounds_are_asked_for_by_the_new_row_alone(make_runner, rows, make_spec):
    """The stored rows asked for two rounds; the new one asks for one."""
    make_runner(Counting()).run(rows("full", "bsr"))
    launcher = Counting()
    once = make_spec("lora", profile=PROFILE.model_copy(update={"rounds": 1}))
    make_runner(launcher).run([once])

    assert sorted(launcher.timed()) == ["bsr", "full", "lora"]


def test_staged_times_that_were_changed_by_hand_are_measured_again(make_runner, rows):
    runner = make_runner(Counting(stop_at=3))
    with pytest.raises(KeyboardInterrupt):
        runner.run(rows("full"))
    ((key, _),) = all_staged(runner.store).items()
    runner.store.stage(key, "times", {"name": "x"})

    launcher = Counting()
    (record,) = make_runner(launcher).run(rows("full"))

    assert record.outcome.status == "completed"
    assert launcher.timed()
