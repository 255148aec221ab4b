"""The CUDA device behind its verbs; a fake with the real names plays the driver."""

import os
import sys
from types import SimpleNamespace

import pynvml
import pytest
import torch

from bsrbench.harness.devices import open_device
from bsrbench.harness.devices.memory_use import MemoryUse
from bsrbench.harness.errors import Unreadable

MIB = 2**20
UUID = "0b6b7a4c-1c3e-2f5d-9a8b-7c6d5e4f3a2b"
SLICE_UUID = "5b1c7f9e-1c3e-2f5d-9a8b-7c6d5e4f3a2b"
OTHER_UUID = "ffffffff-1c3e-2f5d-9a8b-7c6d5e4f3a2b"


class FakeNvml:
    """The part of ``pynvml`` that we call, over GPUs that the test describes.

    Each GPU is a dictionary: compute and graphics (process id -> bytes or None), used,
    millijoules, reasons; what it leaves out is not supported.
    """

    NVMLError = pynvml.NVMLError

    def __init__(self, gpus, start_error=None):
        self.gpus, self.start_error = gpus, start_error

    def nvmlInit(self):  # noqa: N802 - pynvml's names
        if self.start_error:
            raise pynvml.NVMLError(self.start_error)

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        if uuid not in self.gpus:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return self.gpus[uuid]

    def nvmlDeviceGetComputeRunningProcesses(self, handle):  # noqa: N802
        return [
            SimpleNamespace(pid=pid, usedGpuMemory=held)
            for pid, held in self._of(handle, "compute").items()
        ]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle):  # noqa: N802
        return [
            SimpleNamespace(pid=pid, usedGpuMemory=held)
            for pid, held in self._of(handle, "graphics").items()
        ]

    def nvmlDeviceGetMemoryInfo(self, handle):  # noqa: N802
        used = self._of(handle, "used")
        if used == pynvml.NVML_ERROR_NO_PERMISSION:
            raise pynvml.NVMLError(used)
        return SimpleNamespace(used=used)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        return self._of(handle, "millijoules")

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):  # noqa: N802
        return self._of(handle, "reasons")

    def nvmlSystemGetDriverVersion(self):  # noqa: N802
        return "580.95.05"

    def nvmlDeviceGetName(self, handle):  # noqa: N802
        return self._of(handle, "name")

    def _of(self, handle, key):
        if key not in handle:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return handle[key]


@pytest.fixture
def make_cuda(monkeypatch):
    """Return a maker of a CUDA device: torch's and NVML's part of one GPU, as described."""

    def make(*, reserved=0, start_error=None, uuid=UUID, **gpu):
        described = {"compute": {}, "graphics": {}} | gpu
        other = {"compute": {}, "graphics": {}, "used": 1, "millijoules": 1, "reasons": 0}
        mig = {"compute": {}, "graphics": {}, "used": 3 * MIB} | gpu
        gpus = {f"GPU-{OTHER_UUID}": other, f"GPU-{UUID}": described, f"MIG-{SLICE_UUID}": mig}
        fake = FakeNvml(gpus, start_error)
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        properties = SimpleNamespace(uuid=uuid)
        answers = {
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "get_device_properties": lambda _: properties,
            "get_device_name": lambda _: "NVIDIA A100",
            "memory_reserved": lambda _: reserved,
            "max_memory_allocated": lambda _: 3 * MIB,
            "max_memory_reserved": lambda _: 4 * MIB,
        }
        for name, answer in answers.items():
            monkeypatch.setattr(torch.cuda, name, answer)
        monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
        return open_device("cuda"), described

    return make


def test_the_fake_driver_has_no_name_that_the_real_one_lacks():
    ours = {name for name in vars(FakeNvml) if name.startswith(("nvml", "NVML"))}

    assert ours <= set(dir(pynvml))


def test_cuda_tells_allocated_from_reserved(make_cuda):
    device, _ = make_cuda()

    assert device.peak_bytes() == {
        "peak_allocated_bytes": 3 * MIB,
        "peak_reserved_bytes": 4 * MIB,
    }


def test_cuda_reads_the_gpu_that_torch_means_by_its_uuid(make_cuda):
    """The other GPU comes first in the driver's order, and has one byte in use."""
    device, _ = make_cuda(used=7 * MIB)

    assert device.used_bytes() == MemoryUse(7 * MIB, "device")


@pytest.mark.parametrize(
    ("compute", "graphics"), [(5, 5), (5, None), (None, 5)], ids=["both", "compute", "graphics"]
)
def test_cuda_gives_the_bytes_of_this_process_once(compute, graphics, make_cuda):
    """A process may be listed twice, with the same number or with one and none."""
    lists = {
        name: {1: 50 * MIB, os.getpid(): held and held * MIB}
        for name, held in (("compute", compute), ("graphics", graphics))
    }
    device, _ = make_cuda(used=99 * MIB, **lists)

    assert device.used_bytes() == MemoryUse(5 * MIB, "process")


@pytest.mark.parametrize(
    ("why", "processes"),
    [
        ("the container's process ids are not the host's", {1: 50 * MIB}),
        ("the driver lists the process without a number", {os.getpid(): None}),
        ("a foreign process of the same id holds less than torch reserved", {os.getpid(): MIB}),
    ],
)
def test_cuda_labels_the_device_where_the_process_is_unknown(why, processes, make_cuda):
    device, _ = make_cuda(used=99 * MIB, compute=processes, reserved=2 * MIB)

    assert device.used_bytes() == MemoryUse(99 * MIB, "device")


def test_cuda_counts_joules_from_millijoules_since_the_counter_was_made(make_cuda):
    device, gpu = make_cuda(millijoules=10_000)
    counter = device.energy_counter()
    first = counter()
    gpu["millijoules"] = 12_500

    assert first == 0.0
    assert counter() == 2.5


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        (0, []),
        (pynvml.nvmlClocksEventReasonGpuIdle, []),
        (pynvml.nvmlClocksEventReasonApplicationsClocksSetting, []),
        (pynvml.nvmlClocksEventReasonSwPowerCap, ["software power cap"]),
        (
            pynvml.nvmlClocksEventReasonHwSlowdown | pynvml.nvmlClocksEventReasonHwThermalSlowdown,
            ["hardware slowdown", "hardware thermal slowdown"],
        ),
        (pynvml.nvmlClocksEventReasonSwThermalSlowdown, ["software thermal slowdown"]),
        (pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown, ["hardware power brake"]),
    ],
)
def test_cuda_says_in_words_why_it_is_slowed_down(reasons, words, make_cuda):
    device, _ = make_cuda(reasons=reasons)

    assert device.slowdowns() == words


def test_cuda_describes_its_driver_and_the_others_on_it(make_cuda):
    device, _ = make_cuda(name="NVIDIA A100-SXM4", compute={os.getpid(): MIB, 1: MIB, 2: None})

    assert device.describe() == {
        "device": "NVIDIA A100",
        "cuda": torch.version.cuda,
        "cudnn": 91900,
        "driver": "580.95.05",
        "driver_device": "NVIDIA A100-SXM4",
        "other_processes": 2,
    }


def test_cuda_does_not_count_others_where_it_cannot_tell_itself(make_cuda):
    """In a container the one process that is listed may well be this one."""
    device, _ = make_cuda(name="NVIDIA A100", compute={1: MIB})

    assert device.describe()["other_processes"] is None


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"start_error": pynvml.NVML_ERROR_LIBRARY_NOT_FOUND}, "NVML Shared Library Not Found"),
        ({"start_error": pynvml.NVML_ERROR_DRIVER_NOT_LOADED}, "Driver Not Loaded"),
        ({"start_error": pynvml.NVML_ERROR_NO_PERMISSION}, "Insufficient Permissions; this user"),
        ({"uuid": "not-known"}, "GPU-not-known: Not Found"),
    ],
    ids=str,
)
def test_cuda_without_nvml_gives_reasons_and_no_numbers(settings, reason, make_cuda):
    device, _ = make_cuda(**settings)

    with pytest.raises(Unreadable, match=reason):
        device.used_bytes()
    with pytest.raises(Unreadable, match=reason):
        device.energy_counter()
    assert device.slowdowns() == []
    assert device.describe()["driver"] is None
    assert reason in device.describe()["driver_missing"]


def test_a_slice_of_a_gpu_is_found_and_has_no_energy_counter(make_cuda):
    """NVML knows a slice by a UUID that begins with MIG, and by no other."""
    device, _ = make_cuda(uuid=SLICE_UUID, name="NVIDIA H100 80GB HBM3 MIG 1g.10gb")

    assert device.used_bytes() == MemoryUse(3 * MIB, "device")
    assert device.describe()["mig_slice"] is True
    with pytest.raises(Unreadable, match=r"energy counter: Not Supported; .* slice of a GPU"):
        device.energy_counter()


def test_what_a_user_may_not_read_is_told_with_the_one_to_ask(make_cuda):
    device, _ = make_cuda(used=pynvml.NVML_ERROR_NO_PERMISSION)

    with pytest.raises(Unreadable, match=r"memory of the GPU: Insufficient Permissions; .*adminis"):
        device.used_bytes()


def test_cuda_without_an_energy_counter_says_so(make_cuda):
    device, _ = make_cuda()

    with pytest.raises(Unreadable, match="energy counter: Not Supported"):
        device.energy_counter()
