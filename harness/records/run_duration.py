"""How long a run took, from what its records say of when their trials began and ended."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from bsrbench.harness.records.trial_record import TrialRecord

HOUR, MINUTE = 3600, 60
GRAIN_SECONDS = 1.0  # how far a clock that is steered may lag behind one that nobody sets
NEVER = "at no time that can be read"
SET_BACK = "the clock was set back while they ran"


@dataclass(frozen=True)
class RunLength:
    """From the beginning of the first trial of a machine to the end of its last.

    Attributes:
        machine: id of the machine; clocks of two machines are never put together.
        trials: how many records there are.
        began_at: when the first trial began, UTC, ISO 8601; ``None`` where that is not known.
        finished_at: when the last one ended.
        seconds: from the one to the other, pauses between runs included; ``None`` where that is
            not known.
        passes_seconds: what the passes took together, by a clock that nobody sets.
        why_unknown: why there is no length; empty where there is one.
    """

    machine: str
    trials: int
    began_at: str | None
    finished_at: str
    seconds: float | None
    passes_seconds: float
    why_unknown: str = ""

    def in_words(self) -> str:
        """Return it as a line."""
        if self.seconds is None:
            return f"last trial finished {self.finished_at}; how long all took is not known: " + (
                self.why_unknown
            )
        return (
            f"first trial began {self.began_at}, last finished {self.finished_at}, "
            f"{_clock(self.seconds)} in all; the passes took {_clock(self.passes_seconds)}"
        )


def run_lengths(records: Iterable[TrialRecord]) -> list[RunLength]:
    """Return how long the trials of each machine took, in the order of the machines' ids."""
    of_machine: dict[str, list[TrialRecord]] = defaultdict(list)
    for record in records:
        of_machine[record.environment.machine_id].append(record)
    return [_length(machine, of_machine[machine]) for machine in sorted(of_machine)]


@dataclass(frozen=True)
class _Times:
    """When a trial began and ended, and how long its passes took by a clock that nobody sets."""

    began: datetime | None
    ended: datetime | None
    passes_seconds: float

    def backwards(self) -> bool:
        """Return whether the clock says less than the passes took, which follow each other."""
        if self.began is None or self.ended is None:
            return False
        return (self.ended - self.began).total_seconds() + GRAIN_SECONDS < self.passes_seconds


def _length(machine: str, records: Sequence[TrialRecord]) -> RunLength:
    times = [_times(record) for record in records]
    ended = max((t.ended for t in times if t.ended), default=None)
    passes = sum(t.passes_seconds for t in times)
    found = RunLength(machine, len(records), None, _said(ended) if ended else NEVER, None, passes)
    began = [t.began for t in times if t.began and t.ended]
    if ended is None or len(began) < len(times):
        unknown = len(times) - len(began)
        why = f"{unknown} of {len(times)} records do not say when their trial began"
        return replace(found, why_unknown=why)
    seconds = (ended - min(began)).total_seconds()
    least = passes / _at_a_time(records)
    if any(t.backwards() for t in times) or seconds + GRAIN_SECONDS < least:
        return replace(found, why_unknown=SET_BACK)
    return replace(found, began_at=_said(min(began)), seconds=seconds)


def _times(record: TrialRecord) -> _Times:
    seconds = record.circumstances.passes_seconds or 0.0
    return _Times(_read(record.began_at), _read(record.finished_at), seconds)


def _at_a_time(records: Iterable[TrialRecord]) -> int:
    """Return the most trials that ran at a time."""
    return max((record.circumstances.jobs or 1 for record in records), default=1)


def _read(at: str | None) -> datetime | None:
    """Return a time that a record keeps; nothing where it keeps none that can be read."""
    try:
        found = datetime.fromisoformat(at or "")
        return None if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):  # no time, or none of the years 1 to 9999
        return None


def _said(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


def _clock(seconds: float) -> str:
    """Return a time as hours and minutes, ``1:02``; what is below a minute as seconds."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / MINUTE)
    return f"{minutes // (HOUR // MINUTE)}:{minutes % (HOUR // MINUTE):02}"
