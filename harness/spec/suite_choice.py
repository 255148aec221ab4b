"""Select the rows of a suite that the user names."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec.row_choice import ANYTHING, ListedRow, label_of, pick, unknown_row
from bsrbench.harness.spec.row_name import LEARNING_RATE, Apart, RowLabel
from bsrbench.harness.spec.suite import Suite
from bsrbench.harness.spec.suite_method import SuiteMethod
from bsrbench.harness.spec.trial_spec import TrialSpec, Workload
from bsrbench.harness.spec.workload_axes import AxisValue, stated

Axes = Mapping[str, AxisValue]


@dataclass(frozen=True)
class SuiteSelection:
    """The selected trials of a suite.

    Attributes:
        trials: the trials, in the order in which their rows were named.
        said: messages for the user, if a name was not exactly the label of a row.
    """

    trials: tuple[TrialSpec, ...]
    said: tuple[str, ...]


def choose(suite: Suite, names: Sequence[str]) -> SuiteSelection:
    """Return the trials of the named rows, which ``pick`` finds.

    A method that is not in the suite gets a row with its default options, the suite's workload and
    the suite's learning rate.

    Raises:
        BadInput: a name means no row, or could mean several.
    """
    rows = _rows(suite)
    listed = [row for row, _ in rows]
    chosen: list[tuple[ListedRow, SuiteMethod]] = []
    messages = []
    for name in names:
        picked = pick(name, listed)
        chosen += [rows[place] for place in picked.places]
        messages.append(picked.said)
        if not picked.places:
            made = _made(name, listed)
            added = _rows(suite.model_copy(update={"methods": (made,)}))
            if not added:
                raise BadInput(
                    f"{made.method!r} has no row in the suite, and every question names its rows: "
                    "add it to both in a copy of the file"
                )
            chosen += added
            messages.append(_not_in(suite, made.method))
    methods = tuple({id(method): method for _, method in chosen}.values())
    names_of_rows = {row.name for row, _ in chosen}
    trials = suite.model_copy(update={"methods": methods}).trials()
    return SuiteSelection(
        tuple(trial for trial in trials if trial.row_name() in names_of_rows),
        tuple(dict.fromkeys(filter(None, messages))),
    )


def _rows(suite: Suite) -> list[tuple[ListedRow, SuiteMethod]]:
    """Return every row of a suite; a row with several axis values is returned once for each."""
    beside = suite.workload.axis_values()
    workloads: dict[int, list[Workload]] = {}
    for question in suite.questions:
        of_question = suite.workloads(question)
        for row in suite.rows(question):
            workloads.setdefault(id(row), []).extend(of_question)
    listed_rows = [
        (ListedRow(_label(row, axes, beside), name, beside, _apart(suite, row)), row)
        for row in suite.methods
        for name, axes in {row.name(w): row.axes_on(w) for w in workloads.get(id(row), ())}.items()
    ]
    count = Counter(listed.name for listed, _ in listed_rows)
    return [
        (_told_apart(listed) if count[listed.name] > 1 else listed, row)
        for listed, row in listed_rows
    ]


def _label(row: SuiteMethod, axes: Axes, beside: Axes) -> RowLabel:
    return RowLabel(row.method, row.options, stated(axes, beside))


def _apart(suite: Suite, row: SuiteMethod) -> Apart:
    """Return the learning rate of a row, which distinguishes rows with the same name."""
    recipe = suite.training
    if recipe is None:
        return {}
    peak = recipe.learning_rate if row.learning_rate is None else row.learning_rate
    return {LEARNING_RATE: (peak, recipe.final_learning_rate)}


def _told_apart(row: ListedRow) -> ListedRow:
    return replace(row, label=replace(row.label, apart=row.apart))


def _made(name: str, listed: Sequence[ListedRow]) -> SuiteMethod:
    """Return a row for a method that is not in the suite."""
    label = label_of(name)
    if label is None or not label.is_plain() or label.apart or ANYTHING.search(name):
        raise unknown_row(name, listed, "in the suite")
    return SuiteMethod(method=label.method)


def _not_in(suite: Suite, method: str) -> str:
    rate = suite.training and suite.training.learning_rate
    untuned = f" and learning rate {rate:g}, which was not tuned for it" if rate else ""
    return f"{method!r} has no row in the suite: it runs with its default options{untuned}"
