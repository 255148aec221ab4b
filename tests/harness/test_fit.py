"""The largest batch that fits, against looking at every batch, and really run at the limit."""

import json
import random
from bisect import bisect_right
from itertools import pairwise

import pytest
from msgspec.structs import replace

from bsrbench.harness.fit import Fit, fit
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.predict.batch_search import (
    LARGEST_BATCH,
    largest,
    predicted_search,
    search,
    with_batch,
)
from bsrbench.harness.predict.step_cost import step_cost
from bsrbench.harness.records.pass_readings import PassReadings, absent
from bsrbench.harness.records.remarks import AbsenceKind
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import PassResult
from bsrbench.harness.trial.trial_passes import SearchResult
from bsrbench.methods import load

MIB = 2**20
FIT = ("fit", "--model", "test_vit", "--image-size", 64)
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


@pytest.mark.parametrize(
    ("method", "options"),
    [("full", {}), ("bsr", {"trained_blocks": [1, 3, 5], "drop_at": [1, 3]})],
)
def test_a_step_really_fits_at_the_batch_found_and_one_image_more_would_not(
    method, options, make_spec, launcher
):
    """What the allocator needs beyond the prediction, workspaces, comes on top of the next too."""
    limit = 6 * MIB
    found = fit(make_spec(method, options=options), limit, launcher, check=True)

    assert found.reason == ""
    assert found.smallest_bytes <= found.predicted_bytes < found.next_bytes
    assert found.predicted_bytes <= found.allocated_bytes <= limit
    assert found.next_bytes + (found.allocated_bytes - found.predicted_bytes) > limit
    assert found.peak_bytes() == found.allocated_bytes


def test_a_memory_too_small_for_one_image_says_what_one_needs(make_spec):
    found = fit(make_spec("head"), MIB, InlineLauncher(load), check=True)

    assert found == Fit("head", found.smallest_bytes, reason=found.reason)
    assert found.reason == (
        f"one image needs {found.smallest_bytes} bytes, more than the available {MIB}"
    )


def test_a_method_that_cannot_be_applied_says_why(make_spec):
    """BSR's defaults name blocks that a model of six has not."""
    found = fit(make_spec("bsr"), 6 * MIB, InlineLauncher(load), check=True)

    assert (found.batch, found.smallest_bytes, found.peak_bytes()) == (None, None, None)
    assert found.reason.startswith("unsupported: ")


class Made:
    """A launcher with made-up passes: 100 bytes and 10 an image, and so many in workspaces."""

    def __init__(self, workspace, free=None):
        self.workspace, self.free, self.asked = workspace, free, []

    def search(self, spec, limit):
        return SearchResult(found=search(tensors, limit), free_bytes=self.free)

    def perform(self, name, spec):
        workload = spec.workload
        self.asked.append((name, workload.batch, workload.micro_batch))
        allocated = tensors(workload.batch) + self.workspace(workload.batch)
        return PassResult(reading=PassReadings({"peak_allocated_bytes": allocated}))


def tensors(batch):
    return 100 + 10 * batch


def test_what_workspaces_take_is_not_for_tensors(make_spec):
    """30 bytes of workspaces: 200 hold 10 images by prediction, and 7 with the workspaces."""
    found = fit(make_spec(), 200, Made(lambda _: 30), check=True)

    assert found == Fit("full", 110, 7, 170, 180, 200)


def test_workspaces_that_grow_in_a_smaller_batch_end_the_search(make_spec):
    launcher = Made(lambda batch: 300 - 10 * batch)
    found = fit(make_spec(), 300, launcher, check=True)

    assert found.batch is None
    assert "one image needs" in found.reason or "workspaces did not fit" in found.reason


def test_a_prediction_alone_runs_nothing(make_spec):
    launcher = Made(lambda _: 30)
    found = fit(make_spec(), 200, launcher, check=False)

    assert found == Fit("full", 110, 10, 200, 210, None)
    assert launcher.asked == []


def test_what_is_left_on_the_device_is_what_was_free_without_the_peak(make_spec):
    """500 bytes are free; 10 images need 200 by prediction, and 7 need 200 with 30 of workspaces."""
    predicted = fit(make_spec(), 200, Made(lambda _: 30, free=500), check=False)
    checked = fit(make_spec(), 205, Made(lambda _: 30, free=500), check=True)
    unknown = fit(make_spec(), 200, Made(lambda _: 30), check=False)

    assert (predicted.device_bytes, predicted.left_on_device_bytes()) == (500, 300)
    assert (checked.allocated_bytes, checked.left_on_device_bytes()) == (200, 300)
    assert unknown.left_on_device_bytes() is None


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


def test_a_pass_that_fails_or_reads_nothing_is_the_reason(make_spec):
    class Failing(Made):
        def perform(self, name, spec):
            result = super().perform(name, spec)
            return replace(result, status=Status.OUT_OF_MEMORY, reason="too large", reading=None)

    class Blind(Made):
        def perform(self, name, spec):
            reason = "no statistics"
            reading = absent(AbsenceKind.NOT_AVAILABLE, reason, "peak_allocated_bytes")
            return PassResult(reading=reading)

    class Unpredictable(Made):
        def search(self, spec, limit):
            return SearchResult(Status.UNSUPPORTED, "depends on data")

    failed = fit(make_spec(), 200, Failing(lambda _: 0), check=True)
    blind = fit(make_spec(), 200, Blind(lambda _: 0), check=True)

    unpredictable = fit(make_spec(), 200, Unpredictable(lambda _: 0), check=True)

    assert failed == Fit("full", 110, reason="out of memory: too large")
    assert blind == Fit("full", 110, reason="no statistics")
    assert unpredictable == Fit("full", reason="unsupported: depends on data")


def test_the_command_prints_a_row_a_method_as_json(typed):
    code, printed = typed(*FIT, "--methods", "head,bsr", "--memory", "4MiB", "--no-check", "--json")
    head, bsr = json.loads(printed)

    assert code == 0
    assert head["method"] == "head"
    assert head["predicted_bytes"] <= 4 * MIB < head["next_bytes"]
    assert bsr["batch"] is None
    assert bsr["reason"].startswith("unsupported: ")


def test_rows_are_named_by_their_labels(typed):
    """A label with options and axes is that row, a pattern the methods whose name begins so."""
    room = ("--memory", "4MiB", "--no-check", "--json")
    asked = 'full (micro-batch 1, bf16),lora (rank=1, targets=["qkv"]),hea*,head'
    code, printed = typed(*FIT, "--methods", asked, *room)
    lean, lora, head = json.loads(printed)
    _, printed = typed(*FIT, "--methods", "full", "--micro-batch", 1, "--precision", "bf16", *room)
    (same,) = json.loads(printed)

    assert code == 0
    assert lean == same | {"method": "full (micro-batch 1, bf16)"}
    assert (lora["method"], head["method"]) == ('lora (rank=1, targets=["qkv"])', "head")


def test_the_command_prints_a_table(typed):
    code, printed = typed(*FIT, "--methods", "head", "--memory", "0.5MiB", "--no-check")

    assert code == 0
    assert "largest batch" in printed
    assert "head" in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--memory", "2Gib/0/abc"), "--memory '2Gib/0/abc': expected a size like"),
        (("--memory", "0"), "--memory '0': expected a size like"),
        (("--memory", "abc"), "--memory 'abc': expected a size like"),
        (("--memory", "-1GiB"), "--memory '-1GiB': expected a size like"),
        (("--memory", "1.GiB.5"), "--memory '1.GiB.5': expected a size like"),
        (("--memory", "1GiB", "--methods", "ful"), "did you mean 'full'"),
        (("--memory", "1GiB", "--methods", "full,"), "'': expected METHOD"),
        (("--memory", "1GiB", "--methods", "xyz*"), "no row 'xyz*' among the methods"),
        (("--memory", "1GiB", "--methods", "bsr [not trained]"), "no row"),
        (("--memory", "1GiB", "--methods", "lora (rang=1)"), "did you mean 'rank'"),
        (("--memory", "1GiB", "--methods", "full (micro)"), "neither an option"),
        (("--memory", "1GiB", "--methods", "lora (rank=[1"), "is not closed"),
        (("--memory", "1GiB", "--methods", "head", "--classes", "1"), "classes = 1"),
        (("--memory", "1GiB", "--methods", "head", "--image-size", "65"), "not a multiple"),
        (("--memory", "1GiB", "--methods", "head", "--micro-batch", "0"), "micro_batch = 0"),
        (
            ("--memory", "1GiB", "--micro-batch", "2", "--optimizer-in-backward"),
            "--optimizer-in-backward needs the whole batch in one backward pass",
        ),
    ],
    ids=str,
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, said, typed):
    code, printed = typed(*FIT, *arguments)

    assert code == 2
    assert said in printed
    assert len(printed.strip().splitlines()) == 1


@pytest.mark.parametrize("text", ["4MiB", "4 mib", "4194304", "4194304B", "4096KiB"])
def test_sizes_may_be_written_in_several_units(text, typed):
    """A model of 1.2 MB fits 4 MiB and the answer is the same however the limit is written."""
    code, printed = typed(*FIT, "--methods", "bsr", "--memory", text, "--no-check", "--json")

    assert code == 0
    assert json.loads(printed)[0]["reason"].startswith("unsupported")
