"""Settings and attention kernels: they affect a record's numbers but are not in its spec."""

from collections.abc import Callable, Iterable

from bsrbench.harness.records.attention_kernel import described
from bsrbench.harness.records.sidecar import Sidecar
from bsrbench.harness.records.trial_record import TrialRecord


def effective_settings(record: TrialRecord) -> dict[str, str]:
    """Return the settings under which a trial ran, including those that its method changed."""
    return {**(record.environment.settings or {}), **record.environment.set_by_method}


def attention_kernel(record: TrialRecord, details: Callable[[str], Sidecar]) -> str | None:
    """Return the operators that computed a trial's attention; ``None`` if they are not recorded.

    Up to schema 5, only the sidecars of profiles contain them.
    """
    stated = record.environment.attention_kernel
    if stated is not None or not record.spec.profile:
        return stated
    flops = details(record.key).flops
    ran = {*flops.by_operator, *flops.uncounted} if flops else set()
    return described(ran) if ran else None


def mixed_settings(records: Iterable[TrialRecord]) -> list[str]:
    """Return the settings that differ among the records that have settings, with their values.

    Settings that the method itself changes are left out: they are part of the method.
    """
    tables: dict[int, dict[str, str]] = {}  # many records share a few tables
    for record in records:
        if (table := record.environment.settings) is not None:
            tables.setdefault(id(table), table)
    names = dict.fromkeys(name for table in tables.values() for name in table)
    values = {name: {t.get(name, "not set") for t in tables.values()} for name in names}
    return [f"{name}: {', '.join(sorted(v))}" for name, v in values.items() if len(v) > 1]
