"""The checks of one device; a fake GPU on the processor's memory stands for one that is absent."""

import pytest
import torch

from bsrbench.harness.devices.memory_use import MemoryUse
from bsrbench.harness.doctor import attention_check, clock_check, device_checks, energy_check
from bsrbench.harness.doctor.half_precision import fp16_speed
from bsrbench.harness.doctor.known_memory import MIB, TAKEN_BYTES, known_bytes, known_use
from bsrbench.harness.doctor.meter_check import MeterCheck
from bsrbench.harness.doctor.precision_check import precision, surviving_bits
from bsrbench.harness.errors import Unreadable
from bsrbench.harness.meters.live_bytes import CUDA_BLOCK_BYTES, LiveBytes

WORK_SECONDS = 0.5


class FakeGpu:
    """A device whose tensors are on the CPU; it counts them as CUDA's allocator does.

    Args:
        extra: bytes that the allocator reports too much.
        uses: the driver's answers, in order; an exception is raised.
    """

    torch_device = torch.device("cpu")

    def __init__(self, extra=0, uses=(), watts=300.0):
        self.extra, self.uses, self.watts, self.live = extra, list(uses), watts, None

    def synchronise(self):
        pass

    def reset_peak(self):
        self._stop()
        self.live = LiveBytes(grain=CUDA_BLOCK_BYTES)
        self.live.__enter__()

    def peak_bytes(self):
        return {"peak_allocated_bytes": self.live.peak + (self.extra if self.live.peak else 0)}

    def used_bytes(self):
        answer = self.uses.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def energy_counter(self):
        joules = iter([0.0, self.watts * WORK_SECONDS])
        return lambda: next(joules)

    def describe(self):
        return {"device": "H100", "driver": "580", "driver_device": "H100", "other_processes": 2}

    def _stop(self):
        if self.live is not None:
            self.live.__exit__(None, None, None)
            self.live = None


@pytest.fixture
def make_gpu():
    """Return a maker of fake GPUs, whose counting ends with the test."""
    made = []

    def make(**answers):
        made.append(FakeGpu(**answers))
        return made[-1]

    yield make
    for gpu in made:
        gpu._stop()


def results(checks):
    return {check.what: check.good for check in checks}


@pytest.mark.parametrize(("extra", "good"), [(0, True), (512, False)])
def test_known_bytes_are_expected_in_the_allocators_blocks(extra, good, make_gpu):
    """4 MiB + 1 and 8 MiB + 1 bytes take 12 MiB + 2 x 512 bytes."""
    checks = list(known_bytes("cuda", make_gpu(extra=extra)))

    assert results(checks) == {
        "counted bytes": True,
        "counted bytes in the allocator's blocks": True,
        "allocated bytes": good,
    }
    assert checks[-1].message == f"{12 * MIB + 1024 + extra}, expected {12 * MIB + 1024}"


def test_an_allocator_without_statistics_is_not_judged(make_gpu, monkeypatch):
    monkeypatch.setattr(FakeGpu, "peak_bytes", lambda _: {})

    assert results(known_bytes("mps", make_gpu()))["allocated bytes"] is None


def uses(*rises, of="process"):
    """Return the driver's answers before and after each tensor of known size."""
    return [MemoryUse(n * MIB, of) for rise in rises for n in (1000, 1000 + rise)]


@pytest.mark.parametrize(
    ("answers", "good"),
    [
        (uses(256, 256, 256), True),
        (uses(500, 256, -90), True),  # others came and went
        (uses(0, 0, 0), False),
        (uses(300, 300, 300), False),
        ([Unreadable("NVML does not report it")], None),
        ([MemoryUse(1, "process"), MemoryUse(1, "device")], None),
    ],
    ids=["right", "disturbed", "none", "too much", "unreadable", "another scope"],
)
def test_the_driver_must_see_a_tensor_of_known_size(answers, good, make_gpu):
    assert TAKEN_BYTES == 256 * MIB
    assert results(known_use("cuda", make_gpu(uses=answers))) == {
        "memory in use, by the driver": good
    }
    assert list(known_use("cpu", make_gpu())) == []


@pytest.mark.parametrize(
    ("watts", "good"), [(300.0, True), (300_000.0, False), (0.3, False), (0.0, None)]
)
def test_an_energy_counter_with_another_unit_is_off(watts, good, make_gpu, monkeypatch):
    """Joules as millijoules and the other way round; a counter that stands still is no reading."""
    monkeypatch.setattr(energy_check, "multiply_matrices", lambda *_: WORK_SECONDS)

    assert results(energy_check.energy("cuda", make_gpu(watts=watts))) == {"energy counter": good}


@pytest.mark.parametrize(("factor", "good"), [(1.0, True), (0.5, False)])
def test_a_clock_that_does_not_wait_for_the_device_is_off(factor, good, make_gpu, monkeypatch):
    """The device's events say how long the work took."""
    monkeypatch.setattr(clock_check, "multiply_matrices", lambda *_: None)
    now = iter([0.0, 1.0 * factor] * clock_check.TRIES)
    monkeypatch.setattr(clock_check.time, "perf_counter", lambda: next(now))
    monkeypatch.setattr(torch, "Event", FakeEvent)
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda _: "stream")

    assert results(clock_check.clock("cuda", make_gpu())) == {"clock": good}


def test_a_clock_is_not_judged_where_events_cannot_be_timed(make_gpu, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("Backend doesn't support events")

    monkeypatch.setattr(clock_check, "multiply_matrices", lambda *_: None)
    monkeypatch.setattr(torch, "Event", refuse)

    assert results(clock_check.clock("mps", make_gpu())) == {"clock": None}


class FakeEvent:
    def __init__(self, device, *, enable_timing):
        assert enable_timing

    def record(self, stream):
        assert stream == "stream"

    def elapsed_time(self, end):
        return 1000.0  # milliseconds


@pytest.mark.parametrize(
    ("kept_bits", "bits"), [(23, 23), (10, 10), (7, 7)], ids=["fp32", "tf32", "bf16"]
)
def test_bits_that_survive_are_those_of_the_format(kept_bits, bits):
    def rounded(number):
        return torch.tensor([round(number * 2**kept_bits) / 2**kept_bits], dtype=torch.float32)

    assert surviving_bits(rounded) == bits


@pytest.mark.parametrize(
    ("setting", "kept_bits", "good"),
    [("none", 23, True), ("none", 10, False), ("tf32", 10, True), ("tf32", 23, True)],
)
def test_a_product_less_precise_than_the_setting_is_off(
    setting, kept_bits, good, make_gpu, monkeypatch
):
    name = "bsrbench.harness.doctor.precision_check"
    monkeypatch.setattr(f"{name}.surviving_bits", lambda _: kept_bits)
    stated = {
        "torch.backends.fp32_precision": "none",
        "torch.backends.mkldnn.matmul.fp32_precision": setting,
        "torch.backends.mkldnn.conv.fp32_precision": setting,
    }
    monkeypatch.setattr(f"{name}.decided", lambda _: stated)

    assert set(results(precision("cuda", make_gpu())).values()) == {good}


def test_an_attention_with_wrong_results_is_off(make_gpu, monkeypatch):
    right = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        attention_check, "scaled_dot_product_attention", lambda *args: 1.1 * right(*args)
    )

    assert set(results(attention_check.attention("cuda", make_gpu())).values()) == {False}


def test_a_precision_that_does_not_run_is_not_judged(make_gpu, monkeypatch):
    def refuse(*_):
        raise RuntimeError('"attention" not implemented\nfor Half')

    monkeypatch.setattr(attention_check, "scaled_dot_product_attention", refuse)
    checks = list(attention_check.attention("cuda", make_gpu()))

    assert checks[0] == MeterCheck(
        "cuda", "attention in fp32", 'does not run here: "attention" not implemented'
    )


@pytest.mark.parametrize(
    ("answer", "good"),
    [
        ({"driver": None, "driver_missing": "Insufficient Permissions"}, None),
        ({"driver": "580", "driver_device": "H100"}, True),
        ({"driver": "580", "driver_device": "A100"}, False),
        ({"driver": "580", "driver_device": "H100 MIG 1g.10gb", "mig_slice": True}, True),
    ],
    ids=["no permission", "same", "another GPU", "a slice"],
)
def test_nvml_must_answer_about_the_gpu_that_torch_uses(answer, good, monkeypatch):
    class Described(FakeGpu):
        def describe(self):
            return {"device": "H100"} | answer

    monkeypatch.setattr(device_checks, "open_device", lambda _: Described())
    monkeypatch.setattr(device_checks, "CHECKS", {})

    assert results(device_checks.check_device("cuda").checks)["NVML"] is good


def test_a_check_that_fails_does_not_hide_the_others(make_gpu, monkeypatch):
    def fail(name, device):
        yield MeterCheck(name, "first", "", good=True)
        raise RuntimeError("broken")

    def last(name, device):
        yield MeterCheck(name, "last", "", good=True)

    monkeypatch.setattr(device_checks, "open_device", lambda _: make_gpu())
    monkeypatch.setattr(device_checks, "CHECKS", {"failing": fail, "other": last})
    examined = device_checks.check_device("cuda")

    assert examined.device["device"] == "H100"
    assert [(check.what, check.good) for check in examined.checks] == [
        ("description", None),
        ("NVML", True),
        ("other processes", None),
        ("first", True),
        ("failing", False),
        ("last", True),
    ]


@pytest.mark.parametrize(
    ("capability", "message"),
    [((6, 1), "slow: compute capability 6.1"), ((7, 0), "fast: compute capability 7.0")],
)
def test_fp16_is_fast_from_volta_on(capability, message):
    expected = MeterCheck("cuda", "fp16", f"{message}; fast from 7.0 on")

    assert fp16_speed("cuda", capability) == expected
