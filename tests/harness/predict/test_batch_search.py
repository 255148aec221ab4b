"""The largest batch that fits, against looking at every batch."""

import random
from bisect import bisect_right
from itertools import pairwise

import pytest

from bsrbench.harness.predict.batch_search import (
    LARGEST_BATCH,
    largest,
    predicted_search,
)
from bsrbench.harness.predict.step_cost import step_cost, with_batch
from bsrbench.methods import load

MIB = 2**20
# Every second guess doubles what fits, or halves what is left, of 2^16 batches.
MOST_ASKED = 1 + 2 * (16 + 16)


class Peak:
    """A made-up peak that is a straight line between some batches, and how often it was asked."""

    def __init__(self, seed):
        draw = random.Random(seed)  # noqa: S311 - made-up peaks
        places = [1, *sorted(draw.sample(range(2, LARGEST_BATCH), 3)), LARGEST_BATCH + 1]
        slope = 10 ** draw.uniform(0, 6)
        self.values = [draw.randrange(10**9)]
        for here, there in pairwise(places):
            bent = slope * draw.choice([0, 0.5, 1, 1, 2])
            self.values += [
                int(self.values[-1] + bent * step) for step in range(1, there - here + 1)
            ]
        self.asked = []

    def __call__(self, batch):
        self.asked.append(batch)
        return self.values[batch - 1]


def draw_limits(peak, seed):
    """Return limits around every size a peak has: just it, one less, and something between."""
    draw = random.Random(seed)  # noqa: S311 - made-up peaks
    sizes = [peak.values[0], peak.values[-2], *draw.sample(peak.values, 6)]
    return [size + change for size in sizes for change in (-1, 0, 1, 12345)]


@pytest.mark.parametrize("seed", range(20))
def test_the_largest_batch_is_what_looking_at_every_batch_finds(seed):
    """The batches that fit are as many as the sizes that are within the limit."""
    peak = Peak(seed)
    for limit in draw_limits(peak, seed):
        fitting = bisect_right(peak.values[:LARGEST_BATCH], limit)

        assert largest(peak, limit) == (fitting or None), limit


@pytest.mark.parametrize("seed", range(20))
def test_few_batches_are_looked_at(seed):
    """Each costs a pass in a process of its own."""
    peak = Peak(seed)
    for limit in draw_limits(peak, seed):
        peak.asked.clear()
        largest(peak, limit)

        assert len(set(peak.asked)) <= MOST_ASKED, limit
        assert max(peak.asked) <= LARGEST_BATCH


def test_a_straight_line_takes_four_batches():
    """1 and 2 give the line; where it meets the limit fits and one more does not.

    Batches are at most 16 times what is known to fit, so the guesses are 32 and 100.
    """
    asked = set()

    def peak(batch):
        asked.add(batch)
        return 1000 + 10 * batch

    assert largest(peak, 2005) == 100
    assert asked == {1, 2, 32, 100, 101}


@pytest.mark.parametrize(
    ("peak", "expected"),
    [
        (lambda _: 7, LARGEST_BATCH),
        (lambda batch: 7 if batch < 1000 else 1000, 999),
        (lambda batch: batch, 10),
        (lambda _: 11, None),
    ],
    ids=["flat", "a step", "steep", "nothing fits"],
)
def test_odd_peaks_end(peak, expected):
    assert largest(peak, 10) == expected


def test_what_bends_before_the_largest_batch_is_not_taken_for_straight():
    """Flat up to 50000, where it leaves the limit at once."""
    assert largest(lambda batch: 1 if batch <= 50_000 else 100, 99) == 50_000


@pytest.mark.parametrize(("batch", "micro"), [(1, 1), (2, 2), (10, 3)])
def test_the_micro_batch_is_kept_where_the_batch_is_as_large(batch, micro, make_spec):
    workload = with_batch(make_spec(micro_batch=3, batch=3), batch).workload

    assert (workload.batch, workload.micro_batch) == (batch, micro)


def test_for_a_gpu_the_allocator_s_predicted_peak_decides(make_spec):
    """It includes two workspaces of cuBLAS, of 32 MiB each, which no image needs less of."""
    here = predicted_search(make_spec("full"), 100 * MIB, load)
    there = predicted_search(make_spec("full", device="cuda"), 100 * MIB, load)
    cost = step_cost(with_batch(make_spec("full", device="cuda"), there.batch), load)

    assert there.smallest_bytes - here.smallest_bytes > 64 * MIB
    assert there.batch < here.batch
    assert there.predicted_bytes == cost.allocated_bytes <= 100 * MIB < there.next_bytes
