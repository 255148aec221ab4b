"""Runs with companions that are planned, interrupted, resumed and asked for again."""

import pytest

from bsrbench import methods
from bsrbench.harness.launch.group_times import all_staged
from tests.harness.launch.counting_clock import PROFILE, Counting, by_method


def said_of(runner):
    return [line for line in runner.watcher.said if "timed again" in line or "no ratio" in line]


def test_the_plan_says_what_will_be_timed_again_and_why(make_runner, rows):
    make_runner(Counting()).run(rows("full", "bsr", "head"))
    launcher = Counting()
    runner = make_runner(launcher)
    runner.run(rows("full", "bsr", "head", "lora"), dry=True)

    said = (
        "  bsr, full are stored and will be timed again, in turns with lora: only times measured "
        "in turns can be compared; the stored records do not change"
    )
    assert runner.watcher.said[0] == "3 of 4 trials are already stored"
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
        "  no ratio of times between lora and bsr: its record is stale (source code or a "
        "setting has changed since): run it again"
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
    assert any("a method file runs only if" in line for line in said_of(runner)) != named


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
    assert len({record.circumstances.round_group for record in records}) == 1
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
    """The stored rows asked for two generations; the new one asks for one."""
    make_runner(Counting()).run(rows("full", "bsr"))
    launcher = Counting()
    once = make_spec("lora", profile=PROFILE.model_copy(update={"generations": 1}))
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
