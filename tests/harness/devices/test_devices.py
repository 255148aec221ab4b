"""Devices behind their verbs; drivers that are not there are played by fakes with their names."""

import os
import sys
from types import SimpleNamespace

import pynvml
import pytest
import torch

from bsrbench.harness.devices import cpu, open_device, rapl
from bsrbench.harness.devices.memory_use import MemoryUse
from bsrbench.harness.errors import BadInput, Unreadable

MIB = 2**20
UUID = "0b6b7a4c-1c3e-2f5d-9a8b-7c6d5e4f3a2b"
OTHER_UUID = "ffffffff-1c3e-2f5d-9a8b-7c6d5e4f3a2b"
WRITE_ONLY = "/sys/bus/platform/uevent"  # sysfs refuses to show it to every user, root too


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
        return SimpleNamespace(used=self._of(handle, "used"))

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
        fake = FakeNvml({f"GPU-{OTHER_UUID}": other, f"GPU-{UUID}": described}, start_error)
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
        "verified": False,
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
        ({"uuid": "a-slice-of-a-gpu"}, "GPU-a-slice-of-a-gpu: Not Found"),
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


def test_cuda_without_an_energy_counter_says_so(make_cuda):
    device, _ = make_cuda()

    with pytest.raises(Unreadable, match="energy counter: Not Supported"):
        device.energy_counter()


@pytest.fixture
def make_zone(tmp_path, monkeypatch):
    """Return a maker of RAPL zones below a folder that stands for the kernel's."""
    monkeypatch.setattr(rapl, "POWERCAP", tmp_path)

    def make(folder, name, microjoules, turn=1_000_000):
        zone = tmp_path / folder
        zone.mkdir()
        (zone / "name").write_text(f"{name}\n")
        (zone / "energy_uj").write_text(f"{microjoules}\n")
        (zone / "max_energy_range_uj").write_text(f"{turn}\n")
        return zone

    return make


def test_the_cpu_adds_packages_and_nothing_twice(make_zone):
    zones = [
        make_zone("intel-rapl:0", "package-0", 100_000),
        make_zone("intel-rapl:1", "package-1", 500_000),
        make_zone("intel-rapl:0:0", "core", 50_000),
        make_zone("intel-rapl:2", "psys", 700_000),
        make_zone("intel-rapl-mmio:0", "package-0", 100_000),
    ]
    counter = open_device("cpu").energy_counter()
    for zone, microjoules in zip(zones, [350_000, 600_000, 90_000, 999_999, 350_000], strict=True):
        (zone / "energy_uj").write_text(str(microjoules))

    assert counter() == 0.25 + 0.1


def test_the_cpu_counter_goes_on_where_the_register_turns_over(make_zone):
    """0.9 J, then over the end at 1 J to 0.2 J, then to 0.3 J, then over the end to 0.1 J."""
    zone = make_zone("intel-rapl:0", "package-0", 900_000)
    counter = open_device("cpu").energy_counter()
    seen = []
    for microjoules in (200_000, 300_000, 100_000):
        (zone / "energy_uj").write_text(str(microjoules))
        seen.append(counter())

    assert seen == [0.3, 0.4, 1.2]


def test_the_cpu_without_a_counter_says_why_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(rapl, "POWERCAP", tmp_path / "gone")

    with pytest.raises(Unreadable, match=r"no processor package.*intel_rapl_msr"):
        open_device("cpu").energy_counter()


def test_the_cpu_counter_that_may_not_be_read_says_who_can_allow_it(make_zone):
    counter = make_zone("intel-rapl:0", "package-0", 0) / "energy_uj"
    counter.unlink()
    counter.symlink_to(WRITE_ONLY)

    with pytest.raises(Unreadable, match=r"may not be read by this user.*chmod"):
        open_device("cpu").energy_counter()


def test_the_cpu_leaves_memory_to_the_kernels_marks():
    device = open_device("cpu")

    with pytest.raises(Unreadable, match=r"harness\.meters\.process"):
        device.used_bytes()
    assert device.peak_bytes() == {}
    assert device.slowdowns() == []


@pytest.fixture
def make_accelerator(monkeypatch):
    """Return a maker of an xpu whose allocator answers as given; an exception is raised."""

    def make(allocated, reserved, reset=None):
        def answering(answer):
            def answer_or_raise(*_, **__):
                if isinstance(answer, Exception):
                    raise answer
                return answer

            return answer_or_raise

        answers = {
            "current_accelerator": torch.device("xpu"),
            "empty_cache": None,
            "reset_peak_memory_stats": reset,
            "max_memory_allocated": allocated,
            "max_memory_reserved": reserved,
        }
        for name, answer in answers.items():
            monkeypatch.setattr(torch.accelerator, name, answering(answer))
        return open_device("xpu")

    return make


def test_an_accelerator_with_statistics_gives_its_peaks_once_they_were_reset(make_accelerator):
    device = make_accelerator(allocated=3 * MIB, reserved=4 * MIB)
    before = device.peak_bytes()
    device.reset_peak()

    assert before == {}
    assert device.peak_bytes() == {
        "peak_allocated_bytes": 3 * MIB,
        "peak_reserved_bytes": 4 * MIB,
    }


@pytest.mark.parametrize(
    "answers",
    [
        {"allocated": 0, "reserved": 0},
        {"allocated": RuntimeError("not implemented"), "reserved": MIB},
        {"allocated": MIB, "reserved": MIB, "reset": RuntimeError("not a DeviceAllocator")},
    ],
    ids=["answers zero", "raises", "cannot reset"],
)
def test_an_accelerator_without_statistics_gives_no_peaks(answers, make_accelerator):
    device = make_accelerator(**answers)
    device.reset_peak()

    assert device.peak_bytes() == {}


def test_an_accelerator_does_not_know_memory_use_energy_or_slowdowns(make_accelerator):
    device = make_accelerator(allocated=0, reserved=0)

    with pytest.raises(Unreadable, match=r"does not tell memory use .* of xpu"):
        device.used_bytes()
    with pytest.raises(Unreadable, match="does not tell energy of xpu"):
        device.energy_counter()
    assert device.slowdowns() == []


def test_a_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: None)

    with pytest.raises(BadInput, match="no device 'xpu' here: torch's accelerator is none"):
        open_device("xpu")


def test_free_memory_is_the_kernel_s_word_within_the_container_s_bound(tmp_path, monkeypatch):
    memory = tmp_path / "meminfo"
    memory.write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\n")
    monkeypatch.setattr(cpu, "MEMORY", memory)
    monkeypatch.setattr(cpu, "CONTAINER", tmp_path)
    found = [cpu.Cpu(torch.device("cpu")).free_bytes()]
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    found.append(cpu.Cpu(torch.device("cpu")).free_bytes())
    (tmp_path / "memory.max").write_text("3000\n")
    found.append(cpu.Cpu(torch.device("cpu")).free_bytes())
    memory.unlink()
    (tmp_path / "memory.max").unlink()
    found.append(cpu.Cpu(torch.device("cpu")).free_bytes())

    assert found == [5000 * 1024, 5000 * 1024, 2000, None]
