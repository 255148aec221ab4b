"""State which devices passed the cross-checks of their meters, by the records themselves."""

from collections.abc import Iterable

from bsrbench.harness.records.device_examination import DeviceExamination, examination_in
from bsrbench.reports.compare.comparison_row import ComparisonRow

UNCHECKED = "meters not cross-checked by 'bsrbench doctor'"
CPU = "cpu"
Device = tuple[str, str]  # machine id, type of device


def cross_checks(rows: Iterable[ComparisonRow]) -> list[str]:
    """Return one line per machine and device: when the doctor examined it, with which result."""
    return [
        f"machine {machine}, device {kind}: {_in_words(examinations)}"
        for (machine, kind), examinations in _by_device(rows).items()
    ]


def unchecked(rows: Iterable[ComparisonRow]) -> list[str]:
    """Return what cannot be concluded, because the meters of a GPU were not cross-checked.

    The project's tests check the meters of CPUs on every machine that runs them.
    """
    lines = []
    for (_, kind), examinations in _by_device(rows).items():
        missing = examinations.count(None)
        wrong = sum(bool(done and done.failed) for done in examinations)
        if kind != CPU and (missing or wrong):
            total = len(examinations)
            parts = ((missing, "were not examined"), (wrong, "did not pass"))
            states = [f"{words} in {count} of {total} rows" for count, words in parts if count]
            lines.append(
                f"'bsrbench doctor' examines the meters of a device: those of {kind} "
                f"{' and '.join(states)}"
            )
    return lines


def _by_device(rows: Iterable[ComparisonRow]) -> dict[Device, list[DeviceExamination | None]]:
    """Return the examination in the newest record of each row, by device."""
    found: dict[Device, list[DeviceExamination | None]] = {}
    for row in rows:
        kind = row.spec.workload.device.partition(":")[0]
        environment = row.records[-1].environment
        device = environment.machine_id, kind
        found.setdefault(device, []).append(examination_in(environment.device))
    return found


def _in_words(examinations: list[DeviceExamination | None]) -> str:
    known = [done for done in examinations if done is not None]
    if not known:
        return UNCHECKED
    last = max(known, key=lambda done: done.finished_at)
    driver = f", driver {last.driver}" if last.driver else ""
    words = (
        f"meters cross-checked by doctor on {last.finished_at[:10]} (torch {last.torch}{driver}): "
        f"{len(last.passed)} checks passed"
    )
    if last.failed:
        words += f", wrong readings of {', '.join(last.failed)}"
    if len(known) < len(examinations):
        words += f"; not stated in {len(examinations) - len(known)} of {len(examinations)} rows"
    return words
