"""The state of one GPU from NVIDIA's driver, through its management library (NVML)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bsrbench.harness.errors import Unreadable

MILLIJOULES_PER_JOULE = 1000
NOT_SUPPORTED, NO_PERMISSION = 3, 4  # nvmlReturn_t of nvml.h

SLOWDOWNS = {  # bits of nvml.h for clocks below the requested ones; not idle or set clocks
    0x04: "software power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}


class Gpu:
    """One GPU; every method raises ``Unreadable`` if the driver does not report the value.

    Args:
        uuid: the UUID that torch reports. An index is not enough: CUDA_VISIBLE_DEVICES renumbers
            the devices of torch, but not those of NVML.

    Raises:
        Unreadable: there is no driver, it does not know the GPU, or this user may not ask.
    """

    def __init__(self, uuid: str) -> None:
        import pynvml  # noqa: PLC0415 - a process that only reads records must not need it

        self._library = pynvml
        self.is_slice = False
        with self._reading(f"GPU-{uuid}"):
            pynvml.nvmlInit()  # ends with the process, so with the pass
            self._handle = self._find(uuid)

    def _find(self, uuid: str) -> Any:
        """Return NVML's handle of a GPU, or of a slice of one (MIG)."""
        try:
            return self._library.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        except self._library.NVMLError as error:
            try:
                handle = self._library.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")
            except self._library.NVMLError:
                raise error from None  # the first error says more about a whole GPU
        self.is_slice = True
        return handle

    def process_bytes(self, process_id: int) -> int | None:
        """Return the memory of a process; ``None`` if the driver does not list the process."""
        with self._reading("the processes on the GPU"):
            listed = [
                *self._library.nvmlDeviceGetComputeRunningProcesses(self._handle),
                *self._library.nvmlDeviceGetGraphicsRunningProcesses(self._handle),
            ]
        # A process that computes and draws is in both lists with the same number.
        sizes = [int(entry.usedGpuMemory or 0) for entry in listed if entry.pid == process_id]
        return max(sizes, default=0) or None

    def device_bytes(self) -> int:
        """Return the memory of all processes and the driver."""
        with self._reading("the memory of the GPU"):
            return int(self._library.nvmlDeviceGetMemoryInfo(self._handle).used)

    def joules(self) -> float:
        """Return the energy used since the driver was loaded."""
        with self._reading("the energy counter"):
            millijoules = self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        return float(millijoules / MILLIJOULES_PER_JOULE)

    def slowdowns(self) -> list[str]:
        """Return in words why the clocks are lower than requested."""
        with self._reading("why the clocks are lowered"):
            reasons = self._library.nvmlDeviceGetCurrentClocksEventReasons(self._handle)
        return [words for bit, words in SLOWDOWNS.items() if reasons & bit]

    def others(self, process_id: int) -> int | None:
        """Return how many other processes compute on the GPU; ``None`` if it is not known.

        It is not known if the driver does not list this process. In a container this process may
        be listed under another id.
        """
        with self._reading("the processes on the GPU"):
            listed = self._library.nvmlDeviceGetComputeRunningProcesses(self._handle)
        ids = {entry.pid for entry in listed}
        return len(ids) - 1 if process_id in ids else None

    def describe(self, process_id: int) -> dict[str, object]:
        """Return the driver version, the GPU's name and the number of other processes."""
        with self._reading("the driver version and the name"):
            driver = self._library.nvmlSystemGetDriverVersion()
            name = self._library.nvmlDeviceGetName(self._handle)
        return {
            "driver": driver,
            "driver_device": name,
            "other_processes": self.others(process_id),
        } | ({"mig_slice": True} if self.is_slice else {})

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._library.NVMLError as error:
            raise Unreadable(
                f"NVML does not report {what}: {error}{self._advice(error)}"
            ) from error

    def _advice(self, error: Exception) -> str:
        """Return what the user can do; empty if nothing is known."""
        value = getattr(error, "value", None)
        if value == NO_PERMISSION:
            return "; this user or container may not read it, ask the machine's administrator"
        if value == NOT_SUPPORTED and self.is_slice:
            return "; the device is a slice of a GPU (MIG), which has no meter of its own"
        return ""
