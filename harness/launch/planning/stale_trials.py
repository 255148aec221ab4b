"""List the trials that run again because their stored records are stale."""

from collections import defaultdict
from collections.abc import Iterable

from bsrbench.harness.launch.planning.current_conditions import CurrentConditions
from bsrbench.harness.records.record_key import ANY_MACHINE, RecordKey, read_key
from bsrbench.harness.records.trial_record import TrialRecord
from bsrbench.harness.spec.trial_spec import TrialSpec


def stale(
    missing: Iterable[tuple[RecordKey, TrialSpec]],
    records: Iterable[TrialRecord],
    present: CurrentConditions,
) -> list[str]:
    """Return one line for each reason why stored rows run again.

    Args:
        missing: keys and specs of the trials to run.
        records: all stored records, oldest first. Of each trial, the newest record on this
            machine is examined, because reports show it; without one, the newest of any machine.
        present: the current conditions that affect numbers.
    """
    return [
        f"stale, run again: {', '.join(labels)} ({why})"
        for why, labels in _by_reason(missing, records, present).items()
    ]


def _by_reason(
    missing: Iterable[tuple[RecordKey, TrialSpec]],
    records: Iterable[TrialRecord],
    present: CurrentConditions,
) -> dict[str, dict[str, None]]:
    """Return labels of rows by reason, each label once."""
    of_trial: dict[str, list[tuple[RecordKey, TrialRecord]]] = defaultdict(list)
    for record in records:
        if (old := read_key(record.key)) is not None:
            of_trial[old.trial].append((old, record))
    labels_by_reason: dict[str, dict[str, None]] = defaultdict(dict)
    for key, spec in missing:
        stored = of_trial.get(key.trial, [])
        here = [pair for pair in stored if key.machine in (ANY_MACHINE, pair[0].machine)]
        for old, record in (here or stored)[-1:]:
            if key not in (old, old.on(ANY_MACHINE)):
                labels_by_reason[present.why_again(spec, key, old, record)][spec.label()] = None
    return labels_by_reason
