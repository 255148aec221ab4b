"""How samples are taken, and when there are enough of them."""

import math

import pytest

from bsrbench.harness.meters import phase_clock
from bsrbench.harness.meters.phase_clock import PhaseClock, median_interval, settled, warm_up
from bsrbench.harness.profiler.clock_pass import clock_pass
from bsrbench.harness.spec.trial_spec import Profile
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
    """Seven rounds: evaluations follow every third from the first on, phases every sixth."""
    profile = Profile(rounds=7, warmup_steps=1)
    reading = clock_pass(make_spec(profile=profile, micro_batch=micro_batch), load)
    seconds = {name: v for name, v in reading.measurements.items() if name.endswith("_seconds")}

    assert {name: len(samples) for name, samples in seconds.items()} == {
        "step_seconds": 7,
        "evaluation_seconds": 3,
        "forward_seconds": 2,
        "backward_seconds": 2,
        "optimizer_seconds": 2,
    }
    assert all(sample > 0 for samples in seconds.values() for sample in samples)
    assert reading.detail.clock.warmup_steps == (1,)
    assert "joules_per_image" in reading.measurements.keys() | reading.missing.keys()
