"""What compiled kernels are made for: a device, its processor, and a version of torch."""

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")
# Lines that name a CPU and its instructions, on x86 and on ARM; others are clocks and counts.
NAMING = ("model name", "flags", "CPU implementer", "CPU variant", "CPU part", "Features")


@dataclass(frozen=True)
class KernelTarget:
    """What kernels were compiled for; on anything else they are compiled and checked again.

    Attributes:
        device: type of the device.
        processor: model of the CPU or GPU.
        capability: vector instructions of the CPU as torch names them, or the GPU's compute
            capability.
        instructions: hash of all instructions of the CPU, because ``-march=native`` uses all of
            them; empty for a GPU.
        torch: version of torch.
    """

    device: str
    processor: str
    capability: str
    instructions: str
    torch: str


def target_of(device: str) -> KernelTarget:
    """Return what kernels for a type of device are compiled for in this process."""
    version = str(torch.__version__)
    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        return KernelTarget(device, torch.cuda.get_device_name(), f"{major}.{minor}", "", version)
    facts = _cpu_facts()
    name = facts.get("model name", platform.machine())
    instructions = hashlib.sha256(repr(sorted(facts.items())).encode()).hexdigest()[:16]
    capability = torch.backends.cpu.get_cpu_capability()
    return KernelTarget(device, name, capability, instructions, version)


def _cpu_facts() -> dict[str, str]:
    """Return the name and instructions of the first CPU; empty if the system does not say."""
    try:
        first, _, _ = CPUINFO.read_text(encoding="utf-8", errors="replace").partition("\n\n")
    except OSError:
        return {}
    pairs = (line.partition(":")[::2] for line in first.splitlines())
    facts = {key.strip(): value.strip() for key, value in pairs}
    return {key: facts[key] for key in NAMING if key in facts}
