"""The generations of a round group as pieces of the work that is left, by a simulated clock."""

import pytest

from bsrbench.harness.launch.forecasting.forecast_inputs import Cost, ForecastInputs
from bsrbench.harness.launch.forecasting.work_left import WorkLeft
from bsrbench.harness.launch.planning.forecast import cpu_generations, generations
from bsrbench.harness.launch.planning.run_plan import Group, PlannedTrial
from bsrbench.harness.launch.turns.generation import Place
from bsrbench.harness.launch.turns.group_work import GroupWork
from bsrbench.harness.launch.turns.stopping import TurnRules, TurnTimes
from bsrbench.harness.spec.trial_spec import Profile

# A start takes 5 s; a step and two evaluations take 1 s each. A round is a step, an evaluation and
# a step by phase.
PROFILE = Profile(rounds=1, generations=4, steps=1, warmup_steps=1, budget_seconds=120)
CPU_TIME = 4 * (8 + 1 + 1)  # seconds of the budget: four starts, further steps of warm-up, visits
GENERATION = 8 + 3  # seconds; its share of the rest of the budget is 20 s


@pytest.fixture
def timed(make_spec):
    """Return a group of one row, its work, and a clock that is set by hand."""
    spec = make_spec(profile=PROFILE)
    trial, clock = PlannedTrial(spec, "key"), [0.0]
    known = ForecastInputs(1, {spec.row_id(): Cost(1, 1, 1, 1)}, {}, start_seconds=5)
    group = Group((trial,))
    work = WorkLeft(generations(0, group, known), lambda: clock[0])
    group_work = GroupWork(group, 0, work, known)
    group_work.note_cpu_time(Place(trial, 0))
    clock[0] = CPU_TIME
    group_work.cpu_time_done()
    clock[0] = 0.0
    return group_work, trial, work, clock


def test_a_generation_takes_its_share_of_the_budget(timed):
    _, _, work, _ = timed

    assert {piece.seconds for piece in work.pieces.values()} == {GENERATION}
    assert work.left_seconds() == 80


def test_a_slow_generation_is_noticed_before_it_ends(timed):
    """The start takes 80 s instead of 8 s, so the three visits take 30 s, and all takes 440 s."""
    group_work, trial, work, clock = timed
    group_work.note(Place(trial, 0))
    clock[0] = 80
    group_work.note(Place(trial, 0, 0, "steps"))

    assert 440 / 1.5 < 80 + work.left_seconds() < 440 * 1.5


def test_generations_that_settle_early_leave_room_for_more_of_them(timed):
    """Each took 12 s of 20 s. The spread asks for nine; the budget is used up after seven."""
    group_work, trial, work, clock = timed
    for number in range(4):
        group_work.note(Place(trial, number, expected_generations=9 if number == 3 else 0))
        clock[0] += 12
    planned = set(work.pieces)

    assert planned == {("clock", 0, number) for number in range(4, 7)}
    group_work.done()
    assert work.left_seconds() == 0


def test_cpu_time_comes_first_and_is_a_part_of_the_budget(timed):
    """Each of its generations took 4 s instead of 10 s; the fourth is left."""
    group_work, trial, _, clock = timed
    work = WorkLeft(cpu_generations(0, group_work.group, group_work.known), lambda: clock[0])
    assert work.left_seconds() == CPU_TIME
    group_work = GroupWork(group_work.group, 0, work, group_work.known)
    for number in range(4):
        group_work.note_cpu_time(Place(trial, number))
        group_work.note_cpu_time(Place(trial, number, 0, "steps"))
        clock[0] += 4 if number < 3 else 0

    assert 4 / 1.5 < work.left_seconds() < 4 * 1.5
    group_work.cpu_time_done()
    assert work.left_seconds() == 0


def test_cpu_time_that_is_not_measured_is_left_out(timed):
    group_work, _, _, _ = timed
    work = WorkLeft(cpu_generations(0, group_work.group, group_work.known))
    GroupWork(group_work.group, 0, work, group_work.known).leave_out_cpu_time()

    assert work.left_seconds() == 0


def test_the_spread_says_how_many_generations_are_needed():
    """The half width falls with the root of the number of generations."""
    rules = TurnRules(1, 3, 10, {"a": 0.01}, ("b",))
    times = TurnTimes(rules, {"a": [[1.00], [1.02], [1.04]], "b": [[1.0]] * 3})
    wide = times.expected_generations()
    times.rounds["a"] = [[1.0]] * 3

    assert times.expected_generations() <= 3 < wide
    assert TurnTimes(rules).expected_generations() == 0
