"""What only an NVIDIA GPU can show; elsewhere counted aloud as not run."""

import gc

import pytest
import torch

from bsrbench.harness.devices import nvml, open_device
from bsrbench.harness.meters.energy import joules
from bsrbench.harness.profiler.memory_pass import memory_pass
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.training.training_step import optimizer_step, set_learning_rate
from bsrbench.methods import load

pytestmark = pytest.mark.cuda

MIB = 2**20
BLOCK_BYTES = 512  # CUDACachingAllocator rounds every block up to a multiple
# cuBLAS and cuBLASLt each keep a workspace that no operator returns: 32 MiB at most (Hopper and
# Blackwell; about 8 MiB before), taken from the same allocator.
WORKSPACE_BYTES = 2 * 32 * MIB
# Parameter, gradient, two AdamW states for each of deit_tiny's 152 parameter tensors, and at
# most 40 saved activations for each of its 12 blocks.
LIVE_TENSORS = 4 * 152 + 12 * 40
SPIN_CYCLES = 10**9  # half a second of a kernel that only waits


@pytest.fixture
def device():
    return open_device("cuda")


@pytest.fixture
def read_peaks(make_deep_spec):
    """Return a reader of counted and allocated peaks of a step, at some batch."""

    def read(method, batch, **changes):
        spec = make_deep_spec(
            method, optimizer="adamw", device="cuda", image_size=224, batch=batch, **changes
        )
        gc.collect()
        before = torch.cuda.memory_allocated()  # of earlier tests, and workspaces that stay
        read = memory_pass(spec, load).measurements
        return read["peak_counted_bytes"], read["peak_allocated_bytes"] - before

    return read


@pytest.mark.parametrize(
    "method", ["full", "head", "bias", "lora", "int8", "checkpoint", "bsr", "offload"]
)
@pytest.mark.parametrize(
    "changes", [{}, {"micro_batch": 8}, {"precision": "bf16"}, {"precision": "fp16"}], ids=str
)
def test_cuda_allocates_what_is_counted_and_workspaces_and_rounding(method, changes, read_peaks):
    """Tensors are never less than counted; what comes on top is known in kind and in size.

    The fused attention's backward holds gradients of q, k and v in float32 besides those it
    returns: 3 x 16 images x 197 tokens x 192 x 4 bytes.
    """
    counted, allocated = read_peaks(method, 16, **changes)
    attention = 3 * 16 * 197 * 192 * 4
    on_top = LIVE_TENSORS * BLOCK_BYTES + WORKSPACE_BYTES + attention

    assert counted <= allocated <= counted + on_top


@pytest.mark.parametrize("method", ["full", "bsr"])
def test_cuda_allocates_for_more_images_what_is_counted_for_them(method, read_peaks):
    """Constant workspaces drop out of the difference between two batches.

    Attention's own buffers (see above) and blocks that are split differently stay: 5 %.
    """
    (counted, allocated), (more_counted, more_allocated) = (
        read_peaks(method, batch) for batch in (16, 48)
    )

    assert more_allocated - allocated == pytest.approx(more_counted - counted, rel=0.05)


def test_cuda_reads_a_known_peak_back_to_the_byte(device):
    """Hold 4 MiB, then 4 + 8, then 4 + 2: all are multiples of the block."""
    device.reset_peak()
    before = torch.cuda.memory_allocated()
    kept = torch.empty(4 * MIB, dtype=torch.uint8, device="cuda")
    gone = torch.empty(8 * MIB, dtype=torch.uint8, device="cuda")
    del gone
    last = torch.empty(2 * MIB, dtype=torch.uint8, device="cuda")
    peaks = device.peak_bytes()
    del kept, last

    assert peaks["peak_allocated_bytes"] - before == 12 * MIB
    assert peaks["peak_reserved_bytes"] >= peaks["peak_allocated_bytes"]


def test_the_driver_sees_what_torch_takes(device):
    """512 MiB more; the driver gives memory in pages of 2 MiB, and others may come and go."""
    torch.ones(1, device="cuda")
    device.reset_peak()
    before = device.used_bytes()
    taken = torch.empty(512 * MIB, dtype=torch.uint8, device="cuda")
    after = device.used_bytes()
    del taken

    assert after.of == before.of
    assert after.bytes - before.bytes == pytest.approx(512 * MIB, abs=16 * MIB)
    assert after.bytes >= 512 * MIB


def test_the_energy_counter_rises_while_the_gpu_works(device):
    """No GPU draws less than 5 W or more than 2 kW; the action lasts at least 0.2 s."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def work():
        start.record()
        torch.cuda._sleep(4 * SPIN_CYCLES)
        end.record()
        device.synchronise()

    used = joules(work, device.energy_counter())
    seconds = start.elapsed_time(end) / 1000

    assert 5 * seconds < used < 2000 * (seconds + 0.2)  # the counter may lag by some 0.1 s


def test_synchronise_waits_for_what_was_queued(device):
    done = torch.cuda.Event()
    torch.cuda._sleep(SPIN_CYCLES)
    done.record()
    queued = done.query()
    device.synchronise()

    assert not queued
    assert done.query()


def test_the_gpu_describes_itself_and_its_driver(device):
    said = device.describe()

    assert said["driver"].split(".")[0].isdigit()
    assert said["driver_device"] == said["device"] == torch.cuda.get_device_name()
    assert said["other_processes"] is None or said["other_processes"] >= 0


def test_slowdowns_are_read_and_known_words(device):
    """Asked of the driver itself, which raises where the device's verb would keep silent."""
    uuid = str(torch.cuda.get_device_properties(device.torch_device).uuid)

    assert set(nvml.Gpu(uuid).slowdowns()) <= set(nvml.SLOWDOWNS.values())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_cuda_skips_an_fp16_step_that_overflows_without_reading_a_value(optimizer, make_deep_spec):
    spec = make_deep_spec(optimizer=optimizer, device="cuda", precision="fp16")
    job, batch = job_and_batch(spec, load, warmup_steps=3)
    set_learning_rate(job, 0.01)
    job.scaler.load_state_dict(job.scaler.state_dict() | {"scale": 2.0**60})
    skipped, before = job.skipped_steps(), [p.detach().clone() for p in job.trained()]
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer_step(job, *batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")

    assert (job.scaler.read(), job.skipped_steps()) == (1, skipped + 1)
    assert all(map(torch.equal, before, job.trained()))
