"""Read the environment of a record from its text; what all records of a run share is read once."""

import functools
from typing import Any, NamedTuple

from bsrbench.harness.plain_data import fault_in
from bsrbench.harness.records.text_cutting import DoubtError, visible_value
from bsrbench.harness.records.trial_record import wrong_in

ENVIRONMENT_START, NEXT_KEY, ENVIRONMENT_END = b'{\n  "', b',\n  "', b"\n }"
AFTER_THE_RUN = b',\n  "command": '
MOST_RUNS = 64  # whose common text is kept


def environment_of(text: bytes) -> dict[str, Any]:
    """Return the environment.

    Raises:
        DoubtError: the text is not plainly an environment, or names no machine.
    """
    if not (text.startswith(ENVIRONMENT_START) and text.endswith(ENVIRONMENT_END)):
        raise DoubtError
    known = _of_runs()
    for run in known:
        if text.startswith(run.text):
            return run.values | _parts_of_environment(text[len(run.text) : -len(ENVIRONMENT_END)])
    whole = _parts_of_environment(text[len(ENVIRONMENT_START) : -len(ENVIRONMENT_END)])
    if "machine_id" not in whole:
        raise DoubtError
    own = text.find(AFTER_THE_RUN)
    start = _parts_of_environment(text[len(ENVIRONMENT_START) : own]) if own >= 0 else {}
    if "machine_id" in start:
        run = _Run(text[: own + len(NEXT_KEY)], start)
        known[:] = [run, *known[: MOST_RUNS - 1]]
    return whole


class _Run(NamedTuple):
    """What begins the environments of all records of one run: machine, versions, and so on."""

    text: bytes
    values: dict[str, Any]


@functools.cache
def _of_runs() -> list[_Run]:
    """Return where the latest of them are kept; to compare a text is faster than to cut it up."""
    return []


def _parts_of_environment(text: bytes) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for part in text.split(NEXT_KEY):
        whole.update(_of_environment(part))
    return whole


@functools.lru_cache(maxsize=8192)
def _of_environment(text: bytes) -> dict[str, Any]:
    """Return a key, whose opening quote was cut away, and its value."""
    found: dict[str, Any] = visible_value(b'{"' + text + b"}")
    if wrong_in(found) or fault_in(found):
        raise DoubtError
    return found
