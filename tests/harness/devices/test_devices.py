"""The CPU, other accelerators and free memory behind their verbs; fakes play what is not there."""

import pytest
import torch

from bsrbench.harness.devices import cpu, open_device, rapl
from bsrbench.harness.errors import BadInput, Unreadable

MIB = 2**20
WRITE_ONLY = "/sys/bus/platform/uevent"  # sysfs refuses to show it to every user, root too


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

    with pytest.raises(Unreadable, match=r"does not report memory use .* of xpu"):
        device.used_bytes()
    with pytest.raises(Unreadable, match="does not report energy of xpu"):
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
