"""Labels of several trials, in which different rows have different labels."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from bsrbench.harness.spec.row_name import RowName
from bsrbench.harness.spec.trial_spec import TrialSpec


def labels_apart(specs: Sequence[TrialSpec]) -> list[str]:
    """Return the label of each trial's row; rows that differ only in sgd and adamw state theirs.

    Alone, a label leaves out both of these optimizers.
    """
    names: dict[str, set[RowName]] = defaultdict(set)
    for spec in specs:
        names[spec.label()].add(spec.row_name())
    return [
        spec.label() if len(names[spec.label()]) == 1 else _with_optimizer(spec) for spec in specs
    ]


def _with_optimizer(spec: TrialSpec) -> str:
    label = spec.row_label()
    words = spec.workload.optimizer_in_words()
    return str(replace(label, axes={**label.axes, "optimizer": words}))
