"""Describe a run's configuration, as printed before it begins."""

from collections.abc import Iterable, Mapping, Sequence

from bsrbench.harness.launch.planning.companions import Companions
from bsrbench.harness.spec.frozen_data import Frozen
from bsrbench.harness.spec.labels_apart import labels_apart
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.spec.workload_axes import AXIS_KEYS

SHOWN = 6  # values of one setting that are listed; the rest is counted
UNSHOWN = {"tries"}


def outline(specs: Sequence[TrialSpec]) -> list[str]:
    """Return the rows, the seeds, and every setting that is not the default.

    If the trials differ in a setting, all its values are listed.
    """
    rows = dict.fromkeys(labels_apart(specs))
    seeds = dict.fromkeys(str(spec.seed) for spec in specs)
    lines = [f"{_count(len(specs), 'trial')} to run: {', '.join(rows)}; seed {', '.join(seeds)}"]
    parts = (
        ("workload", [spec.workload for spec in specs]),
        ("training", [spec.training for spec in specs if spec.training]),
        ("profile", [spec.profile for spec in specs if spec.profile]),
    )
    return lines + [f"  {name}: {_settings(part)}" for name, part in parts if part]


def timed_again(groups: Iterable[tuple[Iterable[TrialSpec], Companions]]) -> list[str]:
    """Return lines that say which stored rows are timed again with new rows, and which cannot be.

    Equal lines are returned once.

    Args:
        groups: the new trials of each round group, and its stored trials.
    """
    lines = []
    for specs, beside in groups:
        new = _listed(spec.label() for spec in specs)
        if beside.records:
            again = {record.label() for record in beside.records}
            lines.append(
                f"  {_listed(again)} {'is' if len(again) == 1 else 'are'} stored and will be timed "
                f"again, in turns with {new}: only times measured in turns can be compared; the "
                "stored records do not change"
            )
        lines += [
            f"  no ratio of times between {new} and {_listed(labels)}: {why}"
            for why, labels in beside.left_out.items()
        ]
    return list(dict.fromkeys(lines))


def compiled_first(kernels: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return a line that says which kernels are compiled first; no line if there are none.

    Args:
        kernels: label -> kernels of the row that are not in the cache yet.
    """
    names = dict.fromkeys(name for of_row in kernels.values() for name in of_row)
    if not names:
        return []
    shown = f"{_count(len(names), 'kernel')} ({', '.join(names)}) of {_listed(kernels)}"
    return [f"  compiles first, once on this machine: {shown}; not part of any measured time"]


def _listed(labels: Iterable[str]) -> str:
    """Return the first few names in alphabetical order, and the number of the other names."""
    names = sorted(set(labels))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _settings(parts: Sequence[Frozen]) -> str:
    """Return the settings of trials as ``name value``, without settings that have the default."""
    items = []
    for name, about in type(parts[0]).model_fields.items():
        values = dict.fromkeys(_plain(getattr(part, name)) for part in parts)
        if name in AXIS_KEYS or name in UNSHOWN or list(values) == [_plain(about.default)]:
            continue  # the row labels contain the axes
        shown = " | ".join(list(values)[:SHOWN])
        more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
        items.append(f"{name} {shown}{more}")
    return ", ".join(items) or "all defaults"


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return (" + " if value and isinstance(value[0], str) else "-").join(map(_plain, value))
    if isinstance(value, Frozen):
        return f"({_settings([value])})"
    return str(value)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
