"""The rows of a suite that a person asks for by name."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bsrbench.harness.spec.row_choice import ANYTHING, ListedRow, label_of, pick, unknown_row
from bsrbench.harness.spec.row_name import LEARNING_RATE, Apart, RowLabel
from bsrbench.harness.spec.suite import Suite
from bsrbench.harness.spec.suite_method import SuiteMethod
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.spec.workload_axes import AxisValue, stated

Axes = Mapping[str, AxisValue]


@dataclass(frozen=True)
class SuiteSelection:
    """The part of a suite that was asked for.

    Attributes:
        trials: in the order in which their rows were named.
        said: what a person must be told, where rows are not those the names print.
    """

    trials: tuple[TrialSpec, ...]
    said: tuple[str, ...]


def choose(suite: Suite, names: Sequence[str]) -> SuiteSelection:
    """Return the trials of the rows named, by the rule of ``pick``.

    A method that the suite lacks gets a row by its name alone: its defaults, on the suite's
    workload, with the suite's learning rate.

    Raises:
        BadInput: a name means none of the rows, or could mean several.
    """
    rows = _rows(suite)
    listed = [row for row, _ in rows]
    chosen: list[tuple[ListedRow, SuiteMethod]] = []
    said = []
    for name in names:
        found = pick(name, listed)
        chosen += [rows[place] for place in found.places]
        said.append(found.said)
        if not found.places:
            made = _made(name, listed)
            chosen += _rows(suite.model_copy(update={"methods": (made,)}))
            said.append(_not_in(suite, made.method))
    methods = tuple({id(method): method for _, method in chosen}.values())
    wanted = {row.name for row, _ in chosen}
    trials = suite.model_copy(update={"methods": methods}).trials()
    return SuiteSelection(
        tuple(trial for trial in trials if trial.row_name() in wanted),
        tuple(dict.fromkeys(filter(None, said))),
    )


def _rows(suite: Suite) -> list[tuple[ListedRow, SuiteMethod]]:
    """Return every row of a suite; one that goes through several axes is a row for each."""
    beside = suite.workload.axis_values()
    workloads = [w for question in suite.questions for w in suite.workloads(question)]
    found = [
        (ListedRow(_label(row, axes, beside), name, beside, _apart(suite, row)), row)
        for row in suite.methods
        for name, axes in {row.name(w): row.axes_on(w) for w in workloads}.items()
    ]
    count = Counter(listed.name for listed, _ in found)
    return [
        (_told_apart(listed) if count[listed.name] > 1 else listed, row) for listed, row in found
    ]


def _label(row: SuiteMethod, axes: Axes, beside: Axes) -> RowLabel:
    return RowLabel(row.method, row.options, stated(axes, beside))


def _apart(suite: Suite, row: SuiteMethod) -> Apart:
    """Return the learning rate of a row, by which two of one name can be told apart."""
    recipe = suite.training
    if recipe is None:
        return {}
    peak = recipe.learning_rate if row.learning_rate is None else row.learning_rate
    return {LEARNING_RATE: (peak, recipe.final_learning_rate)}


def _told_apart(row: ListedRow) -> ListedRow:
    return replace(row, label=replace(row.label, apart=row.apart))


def _made(name: str, listed: Sequence[ListedRow]) -> SuiteMethod:
    """Return the row of a method that the suite lacks."""
    label = label_of(name)
    if label is None or not label.is_plain() or label.apart or ANYTHING.search(name):
        raise unknown_row(name, listed, "in the suite")
    return SuiteMethod(method=label.method)


def _not_in(suite: Suite, method: str) -> str:
    rate = suite.training and suite.training.learning_rate
    untuned = f" and learning rate {rate:g}, which was not tuned for it" if rate else ""
    return f"{method!r} has no row in the suite: it runs with its defaults{untuned}"
