"""How samples are taken, when there are enough of them, and in whose turn."""

import math
from dataclasses import dataclass

import pytest

from bsrbench.harness.launch.round_group import rounds_of, time_in_turns
from bsrbench.harness.meters import phase_clock
from bsrbench.harness.meters.phase_clock import PhaseClock, median_interval, settled, warm_up
from bsrbench.harness.profiler.clock_pass import clock_pass
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.harness.trial.trial_passes import PassResult
from bsrbench.methods import load


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds

    def script(self, durations):
        """Return an action that takes these seconds, one a run; the last one for ever."""
        left = list(durations)

        def action():
            self.seconds += left.pop(0) if len(left) > 1 else left[0]

        return action


@pytest.fixture
def hand(monkeypatch):
    made = Clock()
    monkeypatch.setattr(phase_clock.time, "perf_counter", made)
    return made


def nothing():
    """Wait for no device."""


@pytest.mark.parametrize("count", range(6))
def test_fewer_than_six_samples_have_no_interval(count):
    """All of 5 lie on one side of the median with probability 2 / 2^5 = 6 %, more than 5 %."""
    assert median_interval(range(count)) is None


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [
        (6, 0, 5),  # 2 x 1 / 64 = 3.1 %, and 2 x (1 + 6) / 64 would be 22 %
        (9, 1, 7),  # 2 x (1 + 9) / 512 = 3.9 %, and with 36 more 18 %
        (10, 1, 8),  # 2 x (1 + 10) / 1024 = 2.1 %, and with 45 more 10.9 %
        (25, 7, 17),  # tables of the sign test: ranks 8 and 18
    ],
)
def test_the_median_s_interval_cuts_off_what_a_coin_shows_rarely(count, low, high):
    """Samples 0, 1, 2, ... in some order: each is its own rank."""
    shuffled = [*range(1, count, 2), *range(0, count, 2)]

    assert median_interval(shuffled) == (low, high)


@pytest.mark.parametrize("count", range(6, 60))
def test_the_interval_covers_95_percent_and_a_narrower_one_would_not(count):
    """The median lies below rank k (from 0) if at most k of the samples lie below it."""
    low, high = median_interval(range(count))
    outside = [sum(math.comb(count, i) for i in range(k + 1)) / 2**count for k in (low, low + 1)]

    assert high == count - 1 - low
    assert 2 * outside[0] <= 0.05 < 2 * outside[1]


def test_samples_have_settled_when_both_ends_are_near_the_median():
    """Six samples' interval is their range, here 0.98 to 1.02 around 1."""
    samples = [0.98, 0.99, 1.0, 1.0, 1.01, 1.02]

    assert settled(samples, 0.0201)
    assert not settled(samples, 0.0199)
    assert not settled([*samples[:5], 1.05], 0.0201)
    assert not settled([0.9, *samples[1:]], 0.0201)


def test_five_samples_have_never_settled():
    assert not settled([1.0] * 5, 0.5)
    assert settled([1.0] * 6, 0.5)


@pytest.mark.parametrize(
    ("durations", "least", "expected"),
    [
        ([9, 5, 4.8, 1], 2, [9, 5, 4.8]),  # 4.8 is 0.96 of 5
        ([9, 5, 4.7, 4.7], 2, [9, 5, 4.7, 4.7]),  # 4.7 is 0.94 of 5
        ([5, 5, 1], 2, [5, 5]),
        ([5, 9, 1], 2, [5, 9]),  # slower is not faster
        ([5, 5, 4, 4], 3, [5, 5, 4, 4]),
        ([5, 1], 1, [5]),  # one run says nothing about the next
        ([5], 0, []),
        ([2.0**-i for i in range(20)], 2, [2.0**-i for i in range(10)]),  # ten at most
        ([3], 12, [3] * 12),  # but as many as asked for
    ],
    ids=str,
)
def test_warming_up_ends_when_a_run_is_hardly_faster_than_the_one_before(
    durations, least, expected, hand
):
    assert warm_up(hand.script(durations), nothing, least) == pytest.approx(expected)


def test_a_phase_s_time_is_what_passed_until_the_next_micro_batches_added_up(hand):
    """Two micro-batches of 1 + 2 s, then 4 s of optimizer; the device is waited for each time."""
    waits = []
    phases = PhaseClock(lambda: waits.append(hand.seconds))
    hand.seconds = 100.0
    for _ in range(2):
        for phase, seconds in (("forward", 1.0), ("backward", 2.0)):
            phases.enter_phase(phase)
            hand.seconds += seconds
    phases.enter_phase("optimizer")
    hand.seconds += 4.0
    phases.stop()
    hand.seconds += 8.0  # nobody's
    phases.stop()

    assert phases.seconds == {"forward": 2.0, "backward": 4.0, "optimizer": 4.0}
    assert waits == [100.0, 101.0, 103.0, 104.0, 106.0, 110.0, 118.0]


def test_what_the_device_still_does_when_a_phase_ends_belongs_to_it(hand):
    def wait():
        hand.seconds += 1.0

    phases = PhaseClock(wait)
    phases.enter_phase("forward")
    phases.enter_phase("backward")
    phases.stop()

    assert phases.seconds == {"forward": 1.0, "backward": 1.0}


@pytest.mark.parametrize("micro_batch", [None, 1])
def test_the_clock_pass_samples_steps_phases_and_evaluation(micro_batch, make_spec):
    """Three whole steps and evaluations as asked for, and two steps by phase."""
    profile = Profile(rounds=1, steps=3, warmup_steps=1)
    reading = clock_pass(make_spec(profile=profile, micro_batch=micro_batch), load)
    seconds = {name: v for name, v in reading.measurements.items() if name.endswith("_seconds")}

    assert {name: len(samples) for name, samples in seconds.items()} == {
        "step_seconds": 3,
        "evaluation_seconds": 3,
        "forward_seconds": 2,
        "backward_seconds": 2,
        "optimizer_seconds": 2,
    }
    assert all(sample > 0 for samples in seconds.values() for sample in samples)
    assert reading.detail["warmup_steps"] == [1]
    assert "joules_per_image" in reading.measurements.keys() | reading.missing.keys()


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
    reading = {
        "measurements": {"step_seconds": list(samples)},
        "missing": {},
        "notes": list(notes),
        "detail": {"warmup_steps": [2]},
    }
    return PassResult(reading=reading)


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
    assert {
        name: result.reading["detail"]["clock"]["rounds"] for name, result in found.items()
    } == {
        "a": 4,
        "b": 4,
    }


def test_a_group_settles_together_and_says_so():
    """``a`` is steady at once; ``b`` only from its third visit on, and its median with them.

    Of n visits n - 2 are steady. The interval of 3 n samples cuts off so many at each end that
    6 disturbed ones of 3 n = 24 lie beyond it (a fair coin: at most 6 of 24 heads, 1.1 %).
    """
    visits = Visits(lambda name, turn: timed(NOISY if (name, turn < 2) == ("b", True) else STEADY))
    group = [member("a", budget_seconds=100.0), member("b", budget_seconds=100.0)]
    found = time_in_turns(group, visits, visits.now)
    facts = found["a"].reading["detail"]["clock"]

    assert facts["stopped_by"] == "interval"
    assert facts == {**facts, "rounds": found["b"].reading["detail"]["clock"]["rounds"]}
    assert 2 < facts["rounds"] <= 8
    assert not settled([*NOISY, *NOISY, *STEADY * (facts["rounds"] - 3)], 0.02)
    assert settled([*NOISY, *NOISY, *STEADY * (facts["rounds"] - 2)], 0.02)


def test_a_group_that_does_not_settle_stops_when_its_budgets_together_are_spent():
    """Two budgets of 5 s and visits of 1 s: ten visits in five rounds."""
    visits = Visits(lambda *_: timed(NOISY))
    group = [member(name, budget_seconds=5.0) for name in "ab"]
    found = time_in_turns(group, visits, visits.now)

    assert len(visits.made) == 10
    assert found["b"].reading["detail"]["clock"] == {
        "warmup_steps": [2] * 5,
        "rounds": 5,
        "stopped_by": "budget",
    }
    assert found["b"].reading["measurements"]["step_seconds"] == [*NOISY] * 5


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
    assert found["a"].reading["detail"]["clock"]["rounds"] == 3
    assert found["a"].reading["detail"]["clock"]["stopped_by"] == "interval"


def test_companions_add_rounds_to_nobody_but_take_their_share_of_the_budget():
    """The new row asks for two rounds and 3 s: of two members 6 s, so six visits in three rounds.

    The companion's own four rounds and 100 s do not count.
    """
    visits = Visits(lambda *_: timed(NOISY))
    group = [member("new", rounds=2, budget_seconds=3.0)]
    group.append(member("stored", rounds=4, budget_seconds=100.0))
    found = time_in_turns(group, visits, visits.now, companions={"stored"})

    assert [turn for _, turn in visits.made] == [0, 0, 1, 1, 2, 2]
    assert found["stored"].reading["measurements"]["step_seconds"] == [*NOISY] * 3


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

    assert found["a"].reading["notes"] == ["timing: 2 of 3 visits were disturbed; noise in round 1"]
