"""The largest batch of a method in a given memory, really run at the limit."""

import json

import pytest
from msgspec.structs import replace

from bsrbench.harness.fit import Fit, fit
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.predict.batch_search import search
from bsrbench.harness.records.pass_readings import PassReadings, absent
from bsrbench.harness.records.remarks import AbsenceKind
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import PassResult
from bsrbench.harness.trial.trial_passes import BatchSearchResult
from bsrbench.methods import load

MIB = 2**20
FIT = ("fit", "--model", "test_vit", "--image-size", 64)


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
        return BatchSearchResult(found=search(tensors, limit), free_bytes=self.free)

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
    """500 bytes are free; 10 images need 200, or 7 with 30 bytes of workspaces."""
    predicted = fit(make_spec(), 200, Made(lambda _: 30, free=500), check=False)
    checked = fit(make_spec(), 205, Made(lambda _: 30, free=500), check=True)
    unknown = fit(make_spec(), 200, Made(lambda _: 30), check=False)

    assert (predicted.device_bytes, predicted.left_on_device_bytes()) == (500, 300)
    assert (checked.allocated_bytes, checked.left_on_device_bytes()) == (200, 300)
    assert unknown.left_on_device_bytes() is None


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
            return BatchSearchResult(Status.UNSUPPORTED, "depends on data")

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
