"""Passes that an interrupted run has kept: taken if they are what a pass answers."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from bsrbench.harness.errors import BadInput
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.store import Store
from bsrbench.harness.records.trial_record import Status, Value
from bsrbench.harness.spec.frozen_data import FromFile
from bsrbench.harness.trial.trial_passes import PassResult
from bsrbench.harness.visible_text import visible, visible_in

Tell = Callable[[str], object]


class _Reading(FromFile):
    measurements: dict[str, Value]
    missing: dict[str, str]
    notes: list[str]
    detail: dict[str, Any]
    facts: dict[str, Any] = {}
    attention_kernel: str | None = None


class _Pass(FromFile):
    """The fields of a ``PassResult``; an older program kept fewer."""

    status: Status = Field(strict=False)
    reason: str = ""
    bad_input: bool = False
    reading: dict[str, Any] = {}
    device: dict[str, Any] = {}
    method: dict[str, Any] = {}
    start_seconds: float | None = None
    set_by_method: dict[str, str] = {}
    began_at: str | None = None
    seconds: float | None = None


READING, PASS = TypeAdapter(_Reading), TypeAdapter(_Pass)


def read_pass(plain: Mapping[str, Any]) -> PassResult:
    """Return what a pass has answered from the fields it was kept as.

    Raises:
        BadInput: they are none of a pass; which, and why.
    """
    shown = visible_in(dict(plain))
    try:
        PASS.validate_python(shown)
        reading = shown.get("reading", {})
        if reading or shown["status"] == Status.COMPLETED:
            READING.validate_python(reading)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"no result of a pass ({place}: {first['msg']})") from error
    if strange := set(reading.get("measurements", {})) - set(METRICS):
        raise BadInput(f"no result of a pass (unknown metrics {sorted(strange)})")
    return PassResult(**shown)


def kept_pass(store: Store, key: str, name: str, tell: Tell) -> PassResult | None:
    """Return a pass that is kept; ``None`` where none is, or one that cannot be used.

    Args:
        store: the results folder.
        key: of the trial's record.
        name: of the pass.
        tell: is told why one is not used.
    """
    try:
        staged = store.staged(key, name)
        return None if staged is None else read_pass(staged)
    except BadInput as error:
        tell(unused(key, name, error))
        return None


def unused(key: str, name: str, error: BadInput) -> str:
    """Return in a line why something that is kept is not used."""
    return visible(f"what is kept of {key} ({name}) cannot be used and is measured again: {error}")
