"""Compute how long a run took, from the times in its records."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from bsrbench.harness.records.trial_record import TrialRecord

HOUR, MINUTE = 3600, 60
GRAIN_SECONDS = 1.0  # allowed difference between the system clock and the monotonic clock
NEVER = "at an unknown time"
SET_BACK = "the system clock was set back during the run"


@dataclass(frozen=True)
class RunLength:
    """The time from the beginning of a machine's first trial to the end of its last one.

    Attributes:
        machine: id of the machine; times of different machines are not combined.
        trials: number of records.
        began_at: when the first trial began, UTC, ISO 8601; ``None`` if not known.
        finished_at: when the last trial ended.
        seconds: time between the two, including pauses between runs; ``None`` if not known.
        passes_seconds: total time of the passes, by a monotonic clock.
        why_unknown: why ``seconds`` is not known; empty if it is.
    """

    machine: str
    trials: int
    began_at: str | None
    finished_at: str
    seconds: float | None
    passes_seconds: float
    why_unknown: str = ""

    def in_words(self) -> str:
        """Return the times as one line of text."""
        if self.seconds is None:
            return (
                f"last trial finished {self.finished_at}; the total time is not known: "
                f"{self.why_unknown}"
            )
        return (
            f"first trial began {self.began_at}, last finished {self.finished_at}, "
            f"total time {_clock(self.seconds)}; the passes took {_clock(self.passes_seconds)}"
        )


def run_lengths(records: Iterable[TrialRecord]) -> list[RunLength]:
    """Return how long the trials of each machine took, in the order of the machines' ids."""
    of_machine: dict[str, list[TrialRecord]] = defaultdict(list)
    for record in records:
        of_machine[record.environment.machine_id].append(record)
    return [_length(machine, of_machine[machine]) for machine in sorted(of_machine)]


@dataclass(frozen=True)
class _Times:
    """When a trial began and ended, and how long its passes took by a monotonic clock."""

    began: datetime | None
    ended: datetime | None
    passes_seconds: float

    def backwards(self) -> bool:
        """Return whether the system clock shows less time than the passes took."""
        if self.began is None or self.ended is None:
            return False
        return (self.ended - self.began).total_seconds() + GRAIN_SECONDS < self.passes_seconds


def _length(machine: str, records: Sequence[TrialRecord]) -> RunLength:
    times = [_times(record) for record in records]
    ended = max((t.ended for t in times if t.ended), default=None)
    passes = sum(t.passes_seconds for t in times)
    finished_at = _as_text(ended) if ended else NEVER
    unknown_length = RunLength(machine, len(records), None, finished_at, None, passes)
    began = [t.began for t in times if t.began and t.ended]
    if ended is None or len(began) < len(times):
        unknown = len(times) - len(began)
        why = f"{unknown} of {len(times)} records do not state when their trial began"
        return replace(unknown_length, why_unknown=why)
    seconds = (ended - min(began)).total_seconds()
    least = passes / _at_a_time(records)
    if any(t.backwards() for t in times) or seconds + GRAIN_SECONDS < least:
        return replace(unknown_length, why_unknown=SET_BACK)
    return replace(unknown_length, began_at=_as_text(min(began)), seconds=seconds)


def _times(record: TrialRecord) -> _Times:
    seconds = record.circumstances.passes_seconds or 0.0
    return _Times(_read(record.began_at), _read(record.finished_at), seconds)


def _at_a_time(records: Iterable[TrialRecord]) -> int:
    """Return the largest number of trials that ran at the same time."""
    return max((record.circumstances.jobs or 1 for record in records), default=1)


def _read(at: str | None) -> datetime | None:
    """Return a time stored in a record; ``None`` if it is missing or cannot be read."""
    try:
        time = datetime.fromisoformat(at or "")
        return None if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):  # not a time, or its year is not 1 to 9999
        return None


def _as_text(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


def _clock(seconds: float) -> str:
    """Return a time as hours and minutes, ``1:02``; below one minute in seconds."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / MINUTE)
    return f"{minutes // (HOUR // MINUTE)}:{minutes % (HOUR // MINUTE):02}"
