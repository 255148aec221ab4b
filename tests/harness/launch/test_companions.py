"""A row added to a finished suite takes turns with stored rows, whose records stay as they are."""

import pytest

from bsrbench.harness.launch.planning.stored_trials import STALE
from bsrbench.harness.records.remarks import Note, NoteKind
from bsrbench.harness.records.trial_record import Status
from tests.harness.launch.counting_clock import PROFILE, Counting, by_method
from tests.trial_records import altered


def files(folder):
    """Return what every file of a results folder holds, but what a run says of its progress."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "progress.run"
    }


def test_a_new_row_takes_turns_with_the_stored_reference_and_baseline(make_runner, rows):
    """Only the new row is named; of three stored ones full and bsr are visited again.

    The nth visit takes n seconds. There are two generations of one visit.
    """
    stored = by_method(make_runner(Counting()).run(rows("full", "bsr", "head")))
    launcher = Counting()
    (new,) = make_runner(launcher).run(rows("lora"))
    first, last = launcher.timed()[:3], launcher.timed()[3:]
    visits = {name: [first.index(name) + 1.0, last.index(name) + 4.0] for name in first}

    assert sorted(first) == ["bsr", "full", "lora"]
    assert last == first
    assert new.measurements["step_seconds"] == visits["lora"]
    assert new.beside == {
        stored[name].key: {"step_seconds": visits[name], "evaluation_seconds": [0.5, 0.5]}
        for name in ("full", "bsr")
    }
    assert new.circumstances.round_group != stored["full"].circumstances.round_group
    assert new.circumstances.round_position == first.index("lora")


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

    assert first.circumstances.round_group == second.circumstances.round_group
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
        elsewhere = {"machine_id": "elsewhere"}
        runner.store.save(altered(record, environment=elsewhere))
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
        "the stored row full was timed again in turns with the new rows and did not complete "
        "(crashed: broken): there is no ratio of times to this row"
    )

    assert new.outcome.status is Status.COMPLETED
    assert set(new.beside) == {stored["bsr"].key}
    assert new.notes == (Note(NoteKind.NOT_TIMED_AGAIN, said),)
    assert said in runner.watcher.said
    assert runner.store.record(stored["full"].key) == stored["full"]


def test_a_disturbed_companion_is_noted_as_a_disturbed_time(make_runner, rows):
    make_runner(Counting()).run(rows("full", "bsr"))
    (new,) = make_runner(Counting(noisy=["bsr"])).run(rows("lora"))

    said = "bsr, timed again in turns with this row: 2 of 2 generations were disturbed; loud"
    assert new.notes == (Note(NoteKind.TIMING, said),)


def test_nobody_is_timed_again_for_rows_that_have_failed(make_runner, rows):
    make_runner(Counting()).run(rows("full", "bsr"))
    launcher = Counting(failing=["lora"])
    (new,) = make_runner(launcher).run(rows("lora"))

    assert len(launcher.timed()) <= 3  # the round in which it failed
    assert new.outcome.reason == "clock pass: broken"
