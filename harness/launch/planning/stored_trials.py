"""Which stored records stand for trials, so that these need not run: the one place that decides."""

from collections.abc import Callable, Collection, Iterable

from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.planning.current_conditions import CurrentConditions
from bsrbench.harness.records.record_key import ANY_MACHINE, RecordKey, read_key
from bsrbench.harness.records.trial_environment import RecordedLimits
from bsrbench.harness.records.trial_record import Status, TrialRecord

# Outcomes that may differ under other limits.
LIMITED = (Status.TIMEOUT, Status.OUT_OF_MEMORY)
STALE = "stale (a source or a setting has changed since), to be run again"


def standing(
    wanted: Collection[RecordKey], newest: Iterable[TrialRecord], limits: RecordedLimits
) -> dict[RecordKey, TrialRecord]:
    """Return by their keys the trials that a stored record stands for; all others are missing.

    Args:
        wanted: keys of trials; one whose machine is ``ANY_MACHINE`` takes the record of any.
        newest: the newest record of each trial and machine: an older one stands for nothing, even
            if its key is the one that the trial would have now.
        limits: what passes may take now.
    """
    found: dict[RecordKey, TrialRecord] = {}
    for record in newest:
        key = read_key(record.key)
        if key is None or not _stands(record, limits):
            continue
        found |= {asked: record for asked in (key, key.on(ANY_MACHINE)) if asked in wanted}
    return found


def _stands(record: TrialRecord, limits: RecordedLimits) -> bool:
    """Return whether a record with the right key need not be made again."""
    if record.circumstances.not_started:  # predicted only, from the memory that was free then
        return False
    before = record.circumstances.limits
    return record.outcome.status not in LIMITED or before in (None, limits)


def why_not_run(method: str, named: Collection[str]) -> str:
    """Return why a method may not be run for the sake of others; empty if it may.

    A file that a stored record names may be somebody else's, and so may a suite's.
    """
    if ".py" in method and method not in named:
        return "a file is run only where --methods or --trust names it"
    return ""


def why_not_timed_again(
    named: Collection[str], fingerprint: Callable[[str], str], present: CurrentConditions
) -> Callable[[TrialRecord], str]:
    """Return what tells why a stored trial is not timed again beside new ones; empty if it is.

    Args:
        named: methods that the command or its suite names.
        fingerprint: method name -> hash of its source.
        present: what else decides numbers here and now.
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
