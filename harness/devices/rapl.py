"""Energy of the processor, from the kernel's RAPL counters."""

from collections.abc import Callable
from pathlib import Path

from bsrbench.harness.errors import Unreadable

POWERCAP = Path("/sys/class/powercap")
MICROJOULES_PER_JOULE = 1e6


class ProcessorEnergy:
    """The joules that one processor package has used since this object was created.

    The counter wraps around at ``max_energy_range_uj`` (on large processors after minutes at full
    power), so it must be read at least once in this time.

    Args:
        folder: the folder of the package's zone in sysfs.

    Raises:
        Unreadable: the counter cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._counter = folder / "energy_uj"
        self._range = _number(folder / "max_energy_range_uj")
        self._last = _number(self._counter)
        self._total = 0

    def joules(self) -> float:
        """Return the joules since the object was created."""
        now = _number(self._counter)
        wrapped = self._range if now < self._last else 0
        self._total += now - self._last + wrapped
        self._last = now
        return self._total / MICROJOULES_PER_JOULE


def joules_from_now() -> Callable[[], float]:
    """Return a reader of the joules that all packages use from now on.

    Raises:
        Unreadable: this system shows no package, or this user may not read its counter.
    """
    packages = [ProcessorEnergy(folder) for folder in _package_folders()]
    if not packages:
        raise Unreadable(
            f"{POWERCAP} shows no processor package: virtual machines and containers hide the "
            "counter; run on the machine itself, with the kernel's module intel_rapl_msr loaded"
        )
    return lambda: sum(package.joules() for package in packages)


def _package_folders() -> list[Path]:
    """Return the folders of the processor packages.

    Other zones are not used: ``core`` and ``dram`` are parts of a package or missing on some
    processors, and ``psys`` is the whole board including the packages.
    """
    zones = sorted(POWERCAP.glob("intel-rapl:*"))
    return [zone for zone in zones if _text(zone / "name").startswith("package")]


def _number(file: Path) -> int:
    return int(_text(file))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except PermissionError as error:
        raise Unreadable(
            f"{file} may not be read by this user; an administrator can allow it: chmod a+r {file}"
        ) from error
    except OSError as error:
        raise Unreadable(f"{file} cannot be read: {error.strerror}") from error
