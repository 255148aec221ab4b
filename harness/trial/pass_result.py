"""What a process answers, and the plain values and JSON that carry it."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from bsrbench.harness.errors import BadInput, fault_and_place
from bsrbench.harness.plain_data import fault_in
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.pass_readings import NOTHING, PassReadings
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.visible_text import visible_in


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a process ended; each thing that one is asked for has an answer that adds what was found.

    Attributes:
        status: how.
        reason: why, if it did not complete.
        bad_input: the reason is a message for the person at the keyboard.
        start_seconds: from asking for the process to its first line running.
    """

    status: Status = Status.COMPLETED
    reason: str = ""
    bad_input: bool = False
    start_seconds: float | None = None


class PassResult(Answer, frozen=True, forbid_unknown_fields=True):
    """How one pass ended and what it read.

    Attributes:
        reading: what it read; there where it completed.
        device: what the device says of itself.
        method: what the method says its numbers depend on (``Method.environment``).
        set_by_method: settings that decide numbers and are not as they were before the method was
            loaded, as they are at the end of the pass.
        began_at: when it was asked for, UTC, ISO 8601; ``None`` where nobody looked at the clock.
        seconds: from then to its answer, by a clock that nobody sets.
    """

    reading: PassReadings | None = None
    device: Mapping[str, Any] = {}
    method: Mapping[str, Any] = {}
    set_by_method: Mapping[str, str] = {}
    began_at: str | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.reading is None and self.status is Status.COMPLETED:
            raise ValueError("it completed, and has no reading")
        measured = {} if self.reading is None else self.reading.measurements
        if strange := measured.keys() - METRICS.keys():
            raise ValueError(f"no metric is called {min(strange)!r}")
        if fault := fault_in(measured):
            raise ValueError(fault)

    def readings(self) -> PassReadings:
        """Return what the pass read: nothing where it did not complete."""
        return NOTHING if self.reading is None else self.reading


class CheckResult(Answer, frozen=True, forbid_unknown_fields=True):
    """Whether a trial can be started, and how many images each split of its data has."""

    images: Mapping[str, int] = {}


class SettingsResult(Answer, frozen=True, forbid_unknown_fields=True):
    """The settings that decide numbers in a process, before any method is loaded."""

    settings: Mapping[str, str] = {}


Kind = TypeVar("Kind", bound=Answer)


def plain(answer: Answer) -> dict[str, Any]:
    """Return an answer as values for JSON, its text visible."""
    found: dict[str, Any] = visible_in(msgspec.to_builtins(answer))
    return found


def encoded(answer: Answer) -> bytes:
    """Return an answer as one line of JSON, its text visible."""
    return msgspec.json.encode(plain(answer))


def decoded(kind: type[Kind], line: bytes) -> Kind:
    """Return the answer that a line of JSON holds.

    Raises:
        ValueError: it holds none of this kind; where, and why.
        RecursionError: it is nested too deep.
    """
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.MsgspecError as error:
        raise ValueError(fault_and_place(error)) from error


def read_pass(kept: Mapping[str, Any]) -> PassResult:
    """Return what a pass has answered from the values that it was kept as.

    Raises:
        BadInput: they are none of a pass; which, and why.
    """
    try:
        return msgspec.convert(visible_in(dict(kept)), PassResult)
    except msgspec.MsgspecError as error:
        raise BadInput(f"no result of a pass ({fault_and_place(error)})") from error
