"""Decide which stored records are valid for a trial, so that it does not run again."""

from collections.abc import Callable, Collection, Iterable

from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.planning.current_conditions import CurrentConditions
from bsrbench.harness.records.record_key import ANY_MACHINE, RecordKey, read_key
from bsrbench.harness.records.trial_environment import RecordedLimits
from bsrbench.harness.records.trial_record import Status, TrialRecord

# Outcomes that may change under other limits.
LIMITED = (Status.TIMEOUT, Status.OUT_OF_MEMORY)
STALE = "its record is stale (source code or a setting has changed since): run it again"


def standing(
    requested: Collection[RecordKey], newest: Iterable[TrialRecord], limits: RecordedLimits
) -> dict[RecordKey, TrialRecord]:
    """Return the valid stored records by key; a trial without one is missing.

    Args:
        requested: keys of trials; a key with ``ANY_MACHINE`` accepts a record of any machine.
        newest: the newest record of each trial and machine. An older record is never valid, even
            if its key matches.
        limits: the current limits of passes.
    """
    valid: dict[RecordKey, TrialRecord] = {}
    for record in newest:
        key = read_key(record.key)
        if key is None or not _stands(record, limits):
            continue
        valid |= {asked: record for asked in (key, key.on(ANY_MACHINE)) if asked in requested}
    return valid


def _stands(record: TrialRecord, limits: RecordedLimits) -> bool:
    """Return whether a record with a matching key is valid."""
    if record.circumstances.not_started:  # only predicted, from the memory that was free then
        return False
    before = record.circumstances.limits
    return record.outcome.status not in LIMITED or before in (None, limits)


def why_not_run(method: str, named: Collection[str]) -> str:
    """Return why a method must not run only for a comparison; empty if it may run.

    A file that a stored record or a suite names may come from somebody else.
    """
    if ".py" in method and method not in named:
        return "a method file runs only if --methods or --trust names it"
    return ""


def why_not_timed_again(
    named: Collection[str], fingerprint: Callable[[str], str], present: CurrentConditions
) -> Callable[[TrialRecord], str]:
    """Return a function: record -> why its trial cannot be timed again; empty if it can.

    Args:
        named: methods that the command or its suite names.
        fingerprint: method name -> hash of its source.
        present: the current conditions that affect numbers.
    """

    def why_not(record: TrialRecord) -> str:
        method = record.spec.method
        if why := why_not_run(method, named):
            return why
        try:
            source = fingerprint(method)
        except BadInput as error:
            return str(error)
        now, key = present.key(record.spec, source, ANY_MACHINE), read_key(record.key)
        return "" if key is not None and key.on(ANY_MACHINE) == now else STALE

    return why_not
