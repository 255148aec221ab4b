"""Settings and attention kernels: they affect a record's numbers but are not in its spec."""

from collections.abc import Callable, Iterable

from bsrbench.harness.records.attention_kernel import described
from bsrbench.harness.records.sidecar import Sidecar
from bsrbench.harness.records.trial_record import TrialRecord

CHOOSE_KERNELS = ("torch.backends.", "TIMM_FUSED_ATTN")


def effective_settings(record: TrialRecord) -> dict[str, str]:
    """Return the settings under which a trial ran, including those that its method changed."""
    return {**(record.environment.settings or {}), **record.environment.set_by_method}


def unlike_kernels(ours: Iterable[TrialRecord], theirs: Iterable[TrialRecord]) -> list[str]:
    """Return the settings that choose kernels and differ between two rows, with both values.

    These are precision (TF32), cuDNN and attention kernels. Settings that a method itself changes
    are part of the method. A setting that only one of the rows states is not compared: its name
    may depend on the version of torch.
    """
    sides = [_kernel_choices(records) for records in (ours, theirs)]
    return [
        f"{name} {', '.join(sorted(sides[0][name]))} and {', '.join(sorted(sides[1][name]))}"
        for name in sides[0]
        if name in sides[1] and sides[0][name] != sides[1][name]
    ]


def _kernel_choices(records: Iterable[TrialRecord]) -> dict[str, set[str]]:
    """Return the values of each setting that chooses kernels, over some records."""
    values: dict[str, set[str]] = {}
    for record in records:
        for name, value in (record.environment.settings or {}).items():
            if name.startswith(CHOOSE_KERNELS):
                values.setdefault(name, set()).add(value)
    return values


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
