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
    wanted: Collection[RecordKey], newest: Iterable[TrialRecord], limits: RecordedLimits
) -> dict[RecordKey, TrialRecord]:
    """Return, by key, the trials that have a valid stored record; all others are missing.

    Args:
        wanted: keys of trials; a key with ``ANY_MACHINE`` accepts a record of any machine.
        newest: the newest record of each trial and machine. An older record is never valid, even
            if its key matches.
        limits: the current limits of passes.
    """
    found: dict[RecordKey, TrialRecord] = {}
    for record in newest:
        key = read_key(record.key)
        if key is None or not _stands(record, limits):
            continue
        found |= {asked: record for asked in (key, key.on(ANY_MACHINE)) if asked in wanted}
    return found


def _stands(record: TrialRecord, limits: RecordedLimits) -> bool:
    """Return whether a record with a matching key is valid."""
    if record.circumstances.not_started:  # only predicted, from the memory that was free then
        return False
    before = record.circumstances.limits
    return record.outcome.status not in LIMITED or before in (None, limits)


def why_not_run(method: str, named: Collection[str]) -> str:
    """Return why a method must not run for the comparison with others; empty if it may.

    A file that a stored record or a suite names may come from somebody else.
    """
    if ".py" in method and method not in named:
        return "a method file runs only if --methods or --trust names it"
    return ""


def why_not_timed_again(
    named: Collection[str], fingerprint: Callable[[str], str], present: CurrentConditions
) -> Callable[[TrialRecord], str]:
    """Return a function that says why a stored trial is not timed again; empty if it is.

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
