"""Energy of the processor, from the kernel's RAPL counters."""

from collections.abc import Callable
from pathlib import Path

from bsrbench.harness.errors import Unreadable

POWERCAP = Path("/sys/class/powercap")
MICROJOULES_PER_JOULE = 1e6


class ProcessorEnergy:
    """The joules one processor package has used since this was made.

    The counter turns over at ``max_energy_range_uj`` (after minutes at full power on large
    processors), so it must be read at least once a turn.

    Args:
        folder: the zone's folder in sysfs.

    Raises:
        Unreadable: the counter may not be read.
    """

    def __init__(self, folder: Path) -> None:
        self._counter = folder / "energy_uj"
        self._range = _number(folder / "max_energy_range_uj")
        self._last = _number(self._counter)
        self._total = 0

    def joules(self) -> float:
        """Return the joules so far."""
        now = _number(self._counter)
        turn = self._range if now < self._last else 0
        self._total += now - self._last + turn
        self._last = now
        return self._total / MICROJOULES_PER_JOULE


def joules_from_now() -> Callable[[], float]:
    """Return a reader of the joules that all packages use from now on.

    Raises:
        Unreadable: this machine shows no package, or this user may not read one.
    """
    packages = [ProcessorEnergy(folder) for folder in _package_folders()]
    if not packages:
        raise Unreadable(
            f"{POWERCAP} shows no processor package: virtual machines and containers hide the "
            "counter; run on the machine itself, with the kernel's module intel_rapl_msr loaded"
        )
    return lambda: sum(package.joules() for package in packages)


def _package_folders() -> list[Path]:
    """Return the zones that are packages.

    Sub-zones (``core``, ``dram``) are parts of a package or not shown by every processor;
    ``psys`` is the whole board, packages included.
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
