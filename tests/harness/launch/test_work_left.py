"""What is left of a run, told by a simulated clock."""

import pytest

from bsrbench.harness.launch.forecasting.work_left import OVERRUN, Piece, WorkLeft
from bsrbench.harness.launch.run_tally import duration, left_later


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        """Return the time."""
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


def pieces(kind, *seconds, **settings):
    return {(kind, n): Piece(kind, each, **settings) for n, each in enumerate(seconds)}


def run(work, clock, key, seconds):
    """Run one piece."""
    work.begin(key)
    clock.seconds += seconds
    work.end(key)


def factor(told, truth):
    return max(told / truth, truth / told)


def test_before_anything_is_done_the_predictions_are_told(clock):
    work = WorkLeft(pieces("a", 3, 4) | pieces("b", 5, floor_seconds=6), clock)

    assert work.left_seconds() == 3 + 4 + 6


def test_a_piece_that_runs_as_predicted_counts_down(clock):
    work = WorkLeft(pieces("a", 100, 50), clock)
    work.begin(("a", 0))
    clock.seconds = 40

    assert work.left_seconds() == 60 + 50


def test_pieces_of_other_kinds_are_slow_too_if_all_so_far_were(clock):
    """Ten starts took twice as long. Of another kind nothing is known but that."""
    work = WorkLeft(pieces("start", *[1] * 10) | pieces("training", 100), clock)
    for number in range(10):
        run(work, clock, ("start", number), 2)

    assert work.left_seconds() == pytest.approx(200, rel=0.1)


def test_each_kind_has_its_own_deviation(clock):
    """Memory passes take three times their prediction, FLOP passes a fifth."""
    work = WorkLeft(pieces("memory", *[10] * 6) | pieces("flops", *[30] * 6), clock)
    for number in range(5):
        run(work, clock, ("memory", number), 30)
        run(work, clock, ("flops", number), 6)

    assert work.left_seconds() == pytest.approx(30 + 6, rel=0.1)


def test_a_disturbed_machine_is_noticed_and_forgotten(clock):
    """Of 30 pieces of 10 s, a neighbour doubles the second ten."""
    work = WorkLeft(pieces("a", *[10] * 30), clock)
    for number in range(10):
        run(work, clock, ("a", number), 10)
    for number in range(10, 20):
        run(work, clock, ("a", number), 20)
    disturbed = work.left_seconds()
    for number in range(20, 29):
        run(work, clock, ("a", number), 10)

    assert disturbed == pytest.approx(10 * 20, rel=0.05)
    assert work.left_seconds() == pytest.approx(10, rel=0.05)


def test_a_group_that_settles_before_its_budget_is_noticed(clock):
    """A generation may take 20 s, and takes 8 s."""
    work = WorkLeft(pieces("clock 0", *[5] * 5, floor_seconds=20), clock)
    for number in range(2):
        run(work, clock, ("clock 0", number), 8)

    assert work.left_seconds() == pytest.approx(3 * 8, rel=0.25)


def test_a_budget_says_nothing_about_the_speed(clock):
    """Generations that fill their budgets take as long on a fast machine."""
    timed, trained = pieces("clock 0", 5, 5, floor_seconds=20), pieces("training", 100, 100)
    work = WorkLeft(timed | trained, clock)
    run(work, clock, ("training", 0), 50)
    fast = work.left_seconds()
    run(work, clock, ("clock 0", 0), 20)

    assert fast == pytest.approx(2 * 20 + 50, rel=0.05)
    assert work.left_seconds() == pytest.approx(20 + 50, rel=0.05)


@pytest.mark.parametrize("slower", [0.4, 1.0, 2.5])
def test_one_long_piece_is_judged_by_its_share(clock, slower):
    """A training of 1,000 s in truth, of which nothing is known but its share."""
    work = WorkLeft(pieces("training", 1000 / slower), clock)
    work.begin(("training", 0))
    told = {}
    for second in range(1, 1000):
        clock.seconds = second
        work.note_share(("training", 0), second / 1000)
        told[second] = second + work.left_seconds()

    assert max(factor(told[at], 1000) for at in (250, 500, 750)) < 1.5


def test_the_time_left_is_never_stuck(clock):
    """A pass was to take 8 min and takes for ever: the same words do not stay for ten minutes."""
    work = WorkLeft(pieces("memory", 480) | pieces("training", 60), clock)
    work.begin(("memory", 0))
    since, words = 0, ""
    longest = 0
    for second in range(0, 2 * 3600, 5):
        clock.seconds = second
        told = duration(work.left_seconds())
        if told != words:
            since, words = second, told
        longest = max(longest, second - since)

    assert longest < 360
    assert work.left_seconds() > 3600 * OVERRUN


def test_a_late_piece_makes_the_next_ones_of_its_kind_late(clock):
    """It was to take 10 s and has taken 40 s: three more take about as long."""
    work = WorkLeft(pieces("memory", *[10] * 4), clock)
    work.begin(("memory", 0))
    clock.seconds = 40

    assert work.left_seconds() > 3 * 20


def test_pieces_side_by_side_take_the_longest_or_their_part(clock):
    """Four of 10 s in two lanes take 20 s; with one of 60 s they take 60 s."""
    assert WorkLeft(pieces("a", *[10] * 4, lanes=2), clock).left_seconds() == 20
    assert WorkLeft(pieces("a", *[10] * 4, 60, lanes=2), clock).left_seconds() == 60


def test_pieces_without_a_prediction_are_judged_by_those_that_are_done(clock):
    work = WorkLeft(pieces("training", *[None] * 4), clock)
    before = work.left_seconds()
    run(work, clock, ("training", 0), 7)

    assert before is None
    assert work.left_seconds() == 3 * 7


def test_pieces_that_are_left_out_take_no_time(clock):
    work = WorkLeft(pieces("a", 1, 2, 4), clock)
    work.begin(("a", 1))
    work.drop([("a", 1), ("a", 2), ("unknown",)])

    assert work.left_seconds() == 1
    run(work, clock, ("a", 0), 1)
    assert work.left_seconds() == 0


def test_what_was_told_some_time_ago_is_less_now():
    assert left_later(100, 30) == 70
    assert left_later(100, 1000) == 1000 * OVERRUN
