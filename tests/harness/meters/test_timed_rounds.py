"""In whose turn a group is timed, and when it ends."""

from dataclasses import dataclass

from bsrbench.harness.launch.round_group import rounds_of, time_in_turns
from bsrbench.harness.meters.phase_clock import settled
from bsrbench.harness.records.pass_readings import PassReadings, notes_of
from bsrbench.harness.records.remarks import Note, NoteKind
from bsrbench.harness.records.sidecar import ClockDetail, Sidecar
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.harness.trial.pass_result import PassResult


@dataclass(frozen=True)
class Member:
    """A trial of a round group."""

    spec: TrialSpec
    key: str


def member(name, rounds=2, budget_seconds=0.0):
    profile = Profile(rounds=rounds, steps=3, budget_seconds=budget_seconds)
    return Member(
        TrialSpec(method=name, workload=Workload(model="m", batch=1), profile=profile), name
    )


def timed(samples, notes=()):
    reading = PassReadings(
        {"step_seconds": list(samples)},
        notes=notes_of(NoteKind.TIMING, notes),
        detail=Sidecar(clock=ClockDetail(warmup_steps=(2,))),
    )
    return PassResult(reading=reading)


def clock_of(result):
    return result.readings().detail.clock


class Visits:
    """Answers visits by a rule and remembers whom it visited, and when; a visit takes 1 s."""

    def __init__(self, answer):
        self.answer, self.made, self.seconds = answer, [], 0.0

    def __call__(self, visited, turn):
        self.made.append((visited.spec.method, turn))
        self.seconds += 1.0
        return self.answer(visited.spec.method, turn)

    def now(self):
        return self.seconds


STEADY = (1.0, 1.0, 1.0)
NOISY = (1.0, 2.0, 3.0)


def test_every_second_round_runs_backwards():
    visits = Visits(lambda *_: timed(STEADY))
    time_in_turns([member(name, rounds=3) for name in "abc"], visits, visits.now)

    assert [name for name, _ in visits.made] == list("abccbaabc")
    assert [turn for _, turn in visits.made] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_rounds_are_as_many_as_the_member_that_asks_for_most():
    group = [member("a", rounds=2), member("b", rounds=4)]
    visits = Visits(lambda *_: timed(STEADY))
    found = time_in_turns(group, visits, visits.now)

    assert rounds_of(group) == 4
    assert {name: clock_of(result).rounds for name, result in found.items()} == {"a": 4, "b": 4}


def test_a_group_settles_together_and_says_so():
    """``a`` is steady at once; ``b`` only from its third visit on, and its median with them.

    Of n visits n - 2 are steady. The interval of 3 n samples cuts off so many at each end that
    6 disturbed ones of 3 n = 24 lie beyond it (a fair coin: at most 6 of 24 heads, 1.1 %).
    """
    visits = Visits(lambda name, turn: timed(NOISY if (name, turn < 2) == ("b", True) else STEADY))
    group = [member("a", budget_seconds=100.0), member("b", budget_seconds=100.0)]
    found = time_in_turns(group, visits, visits.now)
    seen = clock_of(found["a"])

    assert seen.stopped_by == "interval"
    assert seen == clock_of(found["b"])
    assert 2 < seen.rounds <= 8
    assert not settled([*NOISY, *NOISY, *STEADY * (seen.rounds - 3)], 0.02)
    assert settled([*NOISY, *NOISY, *STEADY * (seen.rounds - 2)], 0.02)


def test_a_group_that_does_not_settle_stops_when_its_budgets_together_are_spent():
    """Two budgets of 5 s and visits of 1 s: ten visits in five rounds."""
    visits = Visits(lambda *_: timed(NOISY))
    group = [member(name, budget_seconds=5.0) for name in "ab"]
    found = time_in_turns(group, visits, visits.now)

    assert len(visits.made) == 10
    assert clock_of(found["b"]) == ClockDetail(warmup_steps=(2,) * 5, rounds=5, stopped_by="budget")
    assert found["b"].readings().measurements["step_seconds"] == [*NOISY] * 5


def test_the_least_rounds_are_made_even_beyond_the_budget():
    visits = Visits(lambda *_: timed(NOISY))
    time_in_turns([member("a", rounds=4, budget_seconds=1.0)], visits, visits.now)

    assert len(visits.made) == 4


def test_a_member_that_failed_is_not_visited_again_and_holds_nobody_up():
    def answer(name, turn):
        if (name, turn) == ("b", 1):
            return PassResult(Status.CRASHED, "broken")
        return timed(NOISY if name == "b" else STEADY)

    visits = Visits(answer)
    group = [member(name, rounds=3, budget_seconds=100.0) for name in "ab"]
    found = time_in_turns(group, visits, visits.now)

    assert [turn for name, turn in visits.made if name == "b"] == [0, 1]
    assert found["b"] == PassResult(Status.CRASHED, "broken")
    assert clock_of(found["a"]).rounds == 3
    assert clock_of(found["a"]).stopped_by == "interval"


def test_companions_add_rounds_to_nobody_but_take_their_share_of_the_budget():
    """The new row asks for two rounds and 3 s: of two members 6 s, so six visits in three rounds.

    The companion's own four rounds and 100 s do not count.
    """
    visits = Visits(lambda *_: timed(NOISY))
    group = [member("new", rounds=2, budget_seconds=3.0)]
    group.append(member("stored", rounds=4, budget_seconds=100.0))
    found = time_in_turns(group, visits, visits.now, companions={"stored"})

    assert [turn for _, turn in visits.made] == [0, 0, 1, 1, 2, 2]
    assert found["stored"].readings().measurements["step_seconds"] == [*NOISY] * 3


def test_companions_are_not_visited_once_every_new_row_has_failed():
    broken = PassResult(Status.CRASHED, "broken")
    visits = Visits(lambda name, _: broken if name == "new" else timed(STEADY))
    group = [member(name, rounds=3) for name in ("new", "stored")]
    time_in_turns(group, visits, visits.now, companions={"stored"})

    assert visits.made == [("new", 0), ("stored", 0)]


def test_a_group_of_which_nobody_is_left_ends():
    visits = Visits(lambda *_: PassResult(Status.CRASHED, "broken"))
    found = time_in_turns([member("a", rounds=3)], visits, visits.now)

    assert len(visits.made) == 1
    assert found == {"a": PassResult(Status.CRASHED, "broken")}


def test_disturbed_visits_are_one_note():
    def answer(_, turn):
        return timed(STEADY, [] if turn == 0 else [f"noise in round {turn}", "more"])

    visits = Visits(answer)
    found = time_in_turns([member("a", rounds=3)], visits, visits.now)

    assert found["a"].readings().notes == (
        Note(NoteKind.TIMING, "2 of 3 visits were disturbed; noise in round 1"),
    )
