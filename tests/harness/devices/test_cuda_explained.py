"""Every byte that a GPU's allocator has at its peak is explained, and was predicted."""

import pytest

from bsrbench.harness.records.trial_record import Status

pytestmark = pytest.mark.cuda
SHARE = 0.01  # of the allocated peak
ERROR = 0.005


@pytest.fixture
def read(launcher, make_spec):
    """Return a reader of the memory and the estimate pass, each in a process of its own."""

    def read(method, **changes):
        spec = make_spec(
            method,
            model="deit_small_patch16_224",
            image_size=224,
            batch=64,
            device="cuda",
            **changes,
        )
        passes = [launcher.perform(name, spec) for name in ("memory", "estimate")]
        assert [result.status for result in passes] == [Status.COMPLETED] * 2
        return [result.readings() for result in passes]

    return read


@pytest.mark.parametrize("method", ["full", "head", "bias", "lora", "checkpoint", "bsr"])
def test_tensors_and_workspaces_explain_the_peak_and_it_was_predicted(method, read):
    memory, estimate = read(method)
    allocated = memory.measurements["peak_allocated_bytes"]

    assert memory.notes == ()
    assert abs(memory.detail.allocated.unexplained_bytes) <= SHARE * allocated
    assert estimate.measurements["peak_estimated_allocated_bytes"] == pytest.approx(
        allocated, rel=ERROR
    )


@pytest.mark.parametrize("precision", ["bf16"])
def test_tensors_and_workspaces_explain_the_peak_in_other_precisions(precision, read):
    memory, _ = read("full", precision=precision)
    allocated = memory.measurements["peak_allocated_bytes"]

    assert abs(memory.detail.allocated.unexplained_bytes) <= SHARE * allocated
