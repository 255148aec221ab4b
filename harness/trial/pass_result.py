"""The results that a pass's process returns, and their JSON form."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from bsrbench.harness.errors import BadInput, fault_and_place
from bsrbench.harness.plain_data import fault_in
from bsrbench.harness.profiler.clock_visits import READY, Visited
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.pass_readings import NOTHING, PassReadings
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.visible_text import visible_in


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a process ended. Each kind of request has a subclass that adds its result.

    Attributes:
        status: how it ended.
        reason: why, if it did not complete.
        bad_input: the reason is a message about the user's input.
        start_seconds: time from the request to the first line of code in the process.
    """

    status: Status = Status.COMPLETED
    reason: str = ""
    bad_input: bool = False
    start_seconds: float | None = None


class PassResult(Answer, frozen=True, forbid_unknown_fields=True):
    """How one pass ended and what it measured.

    Attributes:
        reading: what it measured; always present if the pass completed.
        device: description of the device.
        method: facts that the method's numbers depend on (``Method.environment``).
        set_by_method: settings that affect numbers and that the method has changed, with their
            values at the end of the pass.
        began_at: when the pass was requested, UTC, ISO 8601; ``None`` if not recorded.
        seconds: time from the request to the result, by a monotonic clock.
    """

    reading: PassReadings | None = None
    device: Mapping[str, Any] = {}
    method: Mapping[str, Any] = {}
    set_by_method: Mapping[str, str] = {}
    began_at: str | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.reading is None and self.status is Status.COMPLETED:
            raise ValueError("it completed but has no reading")
        measured = {} if self.reading is None else self.reading.measurements
        if strange := measured.keys() - METRICS.keys():
            raise ValueError(f"unknown metric {min(strange)!r}")
        if fault := fault_in(measured):
            raise ValueError(fault)

    def readings(self) -> PassReadings:
        """Return what the pass measured; an empty reading if it did not complete."""
        return NOTHING if self.reading is None else self.reading


class CheckParts(NamedTuple):
    """What a check beforehand looks at, beside the method and the device.

    Attributes:
        model: make the model, with its weights.
        data: open the data sets.
    """

    model: bool = True
    data: bool = True


ALL_PARTS = CheckParts()


class VisitResult(Answer, frozen=True, forbid_unknown_fields=True):
    """How one visit of a clock pass ended, and what is known of it while the pass goes on."""

    visited: Visited = READY


class CheckResult(Answer, frozen=True, forbid_unknown_fields=True):
    """Whether a trial can be started, the images per split of its data, and kernels to compile.

    Attributes:
        images: number of images by split; empty if nothing is trained, or if the check has not
            opened the data.
        kernels_to_compile: names of the kernels that the method compiles before it can run.
    """

    images: Mapping[str, int] = {}
    kernels_to_compile: tuple[str, ...] = ()


class SettingsResult(Answer, frozen=True, forbid_unknown_fields=True):
    """The settings of a process that affect numbers, before any method is loaded."""

    settings: Mapping[str, str] = {}


Kind = TypeVar("Kind", bound=Answer)


def plain(answer: Answer) -> dict[str, Any]:
    """Return an answer as JSON data, with control characters escaped."""
    data: dict[str, Any] = visible_in(msgspec.to_builtins(answer))
    return data


def encoded(answer: Answer) -> bytes:
    """Return an answer as one line of JSON, with control characters escaped."""
    return msgspec.json.encode(plain(answer))


def decoded(kind: type[Kind], line: bytes) -> Kind:
    """Return the answer in a line of JSON.

    Raises:
        ValueError: it is not an answer of this kind; the message names the place and the fault.
        RecursionError: it is nested too deep.
    """
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.MsgspecError as error:
        raise ValueError(fault_and_place(error)) from error


def read_pass(kept: Mapping[str, Any]) -> PassResult:
    """Return the result of a pass from its stored JSON data.

    Raises:
        BadInput: the data are not the result of a pass; the message names the fault.
    """
    try:
        return msgspec.convert(visible_in(dict(kept)), PassResult)
    except msgspec.MsgspecError as error:
        raise BadInput(f"not the result of a pass ({fault_and_place(error)})") from error
