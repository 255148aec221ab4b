"""The stages of a search in a made-up world, and what comes of them."""

import tomllib

import pytest

from bsrbench.harness.predict.step_cost import StepCost
from bsrbench.harness.records.record_content import text_of
from bsrbench.harness.records.store import Store
from bsrbench.harness.records.trial_record import Outcome, Status, plain_record
from bsrbench.harness.search.search_effort import first_settings, remembered
from bsrbench.harness.search.search_outcome import account, write_suite
from bsrbench.harness.search.search_question import SearchQuestion, training_of
from bsrbench.harness.spec.search_result import SearchResult
from bsrbench.harness.spec.suite_file import read
from bsrbench.reports.compare.search_rows import measured
from tests.harness.search.made_up_world import (
    RATES,
    RECIPE,
    WORKLOAD,
    World,
    made_record,
    make_bsr_space,
    searched,
)
from tests.trial_records import altered


def test_the_search_finds_what_is_better_in_everything(world):
    """Of the world's settings those that train late blocks alone beat (3, 7, 11)."""
    space, costs, _, tried = searched(world)

    published = next(s for s in world.asked if s.training and s.method == "bsr" and not s.options)
    plain = [row for row in tried.rows[1:] if row.is_plain()]
    assert plain
    assert any(
        costs[row.row_id].peak_bytes < costs[space.plain(0).row_id].peak_bytes
        and world.accuracy(training_of(row.spec, RECIPE, RATES[1], 0)) >= world.accuracy(published)
        for row in plain
    )


def test_every_setting_gets_the_same_rates_and_none_reads_the_test_split(world):
    searched(world)

    trainings = [spec for spec in world.asked if spec.training]
    assert {spec.training.evaluate for spec in trainings} == {"validation"}
    tuned = [spec for spec in trainings if spec.seed == 1000]
    for steps in (2, 8):
        rows = {s.row_id() for s in tuned if s.training.steps == steps}
        pairs = {(s.row_id(), s.training.learning_rate) for s in tuned if s.training.steps == steps}
        assert pairs == {(row, rate) for row in rows for rate in RATES}


class TwoDays(World):
    """Rows with a companion were measured later, on a machine ten times as fast that day.

    Args:
        turns: whether the published setting took turns with them.
    """

    def __init__(self, *, turns):
        super().__init__()
        self.turns = turns

    def record(self, spec):
        made = super().record(spec)
        if spec.training or "+" not in spec.method:
            return made
        published = super().record(make_bsr_space().plain(0).spec)
        own, theirs = (
            [time / 10 for time in record.measurements["step_seconds"]]
            for record in (made, published)
        )
        later = {
            "environment": {"round_group": "h"},
            "measurements": made.measurements | {"step_seconds": own},
            "beside": {published.key: {"step_seconds": theirs}} if self.turns else {},
        }
        return altered(made, **later)


def test_rows_measured_later_are_chosen_by_the_turns_that_the_published_setting_took(world):
    """A tenth of all seconds is no tenth of the time; without turns there is no time at all."""
    once = searched(world)[-1].trained
    in_turns, apart = (searched(TwoDays(turns=turns))[-1] for turns in (True, False))
    composed = {row.row_id for row in apart.rows if "+" in row.spec.method}

    assert list(in_turns.trained) == list(once)
    assert composed
    assert not composed & apart.trained.keys()


def test_rows_measured_later_have_the_ratio_of_those_turns(tmp_path):
    """A composed row takes 1.5 times a step's FLOPs, on either day."""
    later, store = TwoDays(turns=True), Store(tmp_path)
    space, costs, goal, tried = searched(later)
    store.open_for_writing()
    for record in tried.profiles:
        store.save(record)
    rows = measured(account(space, costs, goal, tried), tmp_path)
    work = costs[space.plain(0).row_id].step_flop
    expected = {row.row_id: 1.5 * costs[row.row_id].step_flop / work for row in tried.rows}
    found = {
        row.row_id: one.time()
        for row, one in zip(tried.rows, rows, strict=True)
        if "+" in row.spec.method
    }

    assert found
    assert found == {row: pytest.approx(expected[row]) for row in found}


def test_every_row_is_compared_with_the_published_setting():
    space = make_bsr_space()
    specs = [candidate.spec for candidate in space.candidates[:20]]

    assert space.published(specs) == [space.plain(0).spec]
    assert space.published(specs[1:]) == []


def test_what_is_asked_for_is_the_same_every_time(world):
    """So a search that was killed goes on where it was."""
    again = World()

    searched(world)
    searched(again)

    assert [s.trial_id() for s in again.asked] == [s.trial_id() for s in world.asked]


def test_what_does_not_fit_is_never_measured_but_for_the_published_setting(world):
    """In the world the published setting takes 100 + 150 + 180 = 430 bytes on whole batches."""
    _, costs, goal, tried = searched(world, memory_bytes=300)

    assert [row.spec.label() for row in tried.rows[:1]] == ["bsr"]
    assert all(goal.fits(costs[row.row_id]) for row in tried.rows[1:])


def test_trainings_that_do_not_complete_are_no_accuracy(world):
    """A world in which every training of more than one block diverges still has a front."""

    def record(spec):
        made = World.record(world, spec)
        if spec.training and len(world.options_of(spec)[0]) > 1:
            return altered(
                made_record(spec),
                outcome=Outcome(status=Status.DIVERGED, reason="the loss became nan"),
            )
        return made

    world.record = record
    *_, tried = searched(world)

    assert tried.rows[1:]
    assert all(len(world.options_of(row.spec)[0]) == 1 for row in tried.rows[1:])


def test_the_suite_does_the_trained_rows_again(world, tmp_path):
    space, costs, goal, tried = searched(world)
    found = account(space, costs, goal, tried)
    write_suite(found, tmp_path / "found.toml")

    suite = read(tmp_path / "found.toml")

    wanted = {row.row_id for row in tried.rows if row.row_id in tried.trained}
    assert {spec.row_id() for spec in suite.trials()} == wanted
    assert {spec.training.learning_rate for spec in suite.trials() if spec.training} == {RATES[1]}
    assert all(len(row["tries"]) == 2 for row in tomllib.loads(_text(tmp_path))["methods"])


def _text(folder):
    return (folder / "found.toml").read_text(encoding="utf-8")


def test_the_account_survives_its_file(world):
    found = account(*searched(world))

    assert SearchResult.model_validate_json(found.model_dump_json()) == found


def test_rows_beat_the_published_in_memory_and_time_at_no_lower_accuracy(world, tmp_path):
    """Judged by the records alone, against the world's own formulas."""
    space, costs, goal, tried = searched(world)
    found = account(space, costs, goal, tried)
    folder = tmp_path / "records"
    folder.mkdir()
    for record in [*tried.profiles, *(world.record(spec) for spec in world.asked if spec.training)]:
        (folder / f"{record.key}.json").write_text(text_of(plain_record(record)))

    rows = measured(found, tmp_path)

    assert any(row.beats(rows[0]) for row in rows[1:])
    for row, candidate in zip(rows, tried.rows, strict=True):
        if not row.is_complete():
            assert not row.on_front
            continue
        time = row.profile.step_seconds().centre / rows[0].profile.step_seconds().centre
        assert row.time() == pytest.approx(time, rel=0.02)
        better = (
            costs[candidate.row_id].peak_bytes < costs[space.plain(0).row_id].peak_bytes
            and time < 0.99
            and sum(row.accuracies) >= sum(rows[0].accuracies)
        )
        assert row.beats(rows[0]) == better


def test_more_time_means_more_settings():
    """Steps of 1 s: 1.5 + 2.5 + 2 s short, 1.5 + 2.5 + 8 s whole; 2.5 s read 6.25 batches.

    Fixed: 5 x 2 and 6 x 3 whole trainings, 18 rows of 66 s; the rest in fours of short ones.
    """
    workload = WORKLOAD.model_copy(update={"batch": 16})
    goal = SearchQuestion(RECIPE, RATES, (0, 1, 2), 1, first=4)
    short, whole = 1.5 + 2.5 + 2, 1.5 + 2.5 + 8
    fixed = 10 * whole + 18 * whole + 18 * 66

    def settings(seconds):
        return first_settings(goal, workload, [StepCost(1, 10)], 100, 10.0, seconds)

    assert settings(fixed + 4 * short * 9.5) == 9
    assert settings(1.0) == 4


def test_a_decision_is_remembered_for_its_question(tmp_path):
    path = tmp_path / "effort.json"

    first = remembered(path, {"memory": 1}, lambda: 7)
    again = remembered(path, {"memory": 1}, lambda: 8)
    other = remembered(path, {"memory": 2}, lambda: 9)

    assert (first, again, other) == (7, 7, 9)
